"""Tiny networks that find targets, with known answers. Needs the onnx package."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rtfusion.focus.spec import MAPS, HeadSpec
from rtfusion.focus.yolox import STRIDES
from tests import onnx_models

SIDE_PX = 64
CELLS = sum((SIDE_PX // stride) ** 2 for stride in STRIDES)


def head(path: Path, *, targets: Sequence[str] = ("people", "vehicles"), stride: int = 4) -> Path:
    """A head whose people are where the thermal band is bright, and whose vehicles are where the visible one is."""
    model = onnx_models.build(
        [("Concat", ["thermal", "visible_y"], MAPS, {"axis": 1})], outputs={MAPS: (1, 2, None, None)}
    )
    spec = HeadSpec(
        name="tiny",
        targets=tuple(targets),
        stride=stride,
        training_commit="0123abc",
        data=("synthetic",),
        license="Apache-2.0",
        checksum=onnx_models.checksum(model),
    )
    return onnx_models.write_metadata(path, model, metadata=spec.metadata())


def detector(
    path: Path,
    *,
    found: Sequence[tuple[int, Sequence[float], float]] = ((0, (16, 16, 48, 40), 0.9),),
    classes: int = 80,
    names: str | None = None,
) -> Path:
    """A YOLOX that finds the same boxes, of class, corners in its square and score, in every picture."""
    raw = np.zeros((1, CELLS, 5 + classes), np.float32)
    for index, (kind, (left, top, right, bottom), score) in enumerate(found):
        # the first cells are of the finest grid, in its first row
        raw[0, index, :2] = (left + right) / 2 / 8 - index, (top + bottom) / 2 / 8
        raw[0, index, 2:4] = np.log([(right - left) / 8, (bottom - top) / 8])
        raw[0, index, 4], raw[0, index, 5 + kind] = 1, score
    nodes = [
        ("Slice", ["images", "none", "one", "axes"], "corner", {}),
        ("Reshape", ["corner", "shape"], "level", {}),
        ("Mul", ["level", "zero"], "nothing", {}),
        ("Add", ["raw", "nothing"], "output", {}),
    ]
    model = onnx_models.build(
        nodes,
        inputs={"images": (1, 3, SIDE_PX, SIDE_PX)},
        outputs={"output": (1, CELLS, 5 + classes)},
        constants={"raw": raw, "zero": np.array(0.0)},
        indices={"none": [0, 0, 0], "one": [1, 1, 1], "axes": [1, 2, 3], "shape": [1, 1, 1]},
    )
    return onnx_models.write_metadata(path, model, metadata={} if names is None else {"names": names})
