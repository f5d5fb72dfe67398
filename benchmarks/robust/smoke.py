"""Color of nothing: the cast on what thermal shows where the visible camera is blind, and who is found with what color is left.

The cast is the chroma over the lightness (CIELAB) of the fused picture where the visible picture has no structure and the
thermal one has some, over frames of `m3svd_0117_1605`. Found are people and vehicles of all labeled sets, at full resolution.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np

import rtfusion
from rtfusion.evaluate import visibility
from rtfusion.evaluate.blind import BLIND_SD, DETAIL_SD, WINDOW_PX, deviation
from rtfusion.evaluate.detector import Detector
from rtfusion.evaluate.methods import select
from rtfusion.evaluate.visibility import ALL, LABELS, read_labels
from rtfusion.fusion.color import luminance
from rtfusion.types import Image8

CLIP = "video/m3svd_0117_1605"
STEP = 13
"""Every so manieth frame of the clip is looked at."""
CAST_BAR = 0.08
FOUND_BARS = {("person", "msrs-night"): 0.74, ("person", ALL): 0.88, ("vehicle", ALL): 0.87}


def measure(*, shared: Path, work: Path, model: str) -> list[dict[str, Any]]:
    """The cast in smoke, and F1 of people at night and of both classes over all sets, beside the plain mean."""
    data = shared / "data"
    ours, mean = (_cast(data, **options) for options in ({"model": model}, {"fuser": "average"}))
    cast_row = {"case": "cast in smoke", "figure": "chroma over lightness", "value": ours, "mean": mean}
    return [{**cast_row, "bar": CAST_BAR, "better": "lower"}, *_found(shared, model=model)]


def _cast(data: Path, **options: str) -> float:
    with rtfusion.Fuser(**cast(Any, options)) as fuse:
        shares = [
            _share(fuse(visible=visible, thermal=thermal, timestamp_ns=stamp_ns), visible=visible, thermal=thermal)
            for stamp_ns, visible, thermal in _frames(data)
        ]
    return float(np.concatenate(shares).mean())


def _frames(data: Path) -> Iterator[tuple[int, Image8, Image8]]:
    with rtfusion.open_pairs(ir=f"{data / CLIP}/ir.mp4", vis=f"{data / CLIP}/vi.mp4") as pairs:
        for pair in pairs:
            if pair.visible.sequence % STEP == 0:
                yield pair.timestamp_ns, cast(Image8, pair.visible.image), cast(Image8, pair.thermal.image)


def _share(fused: Image8, *, visible: Image8, thermal: Image8) -> Any:
    """Chroma over lightness of every pixel where the visible camera is blind and the thermal one sees."""
    blind = deviation(luminance(visible), window_px=WINDOW_PX) < BLIND_SD
    blind &= deviation(thermal, window_px=WINDOW_PX) > DETAIL_SD
    lab = cv2.cvtColor(fused.astype(np.float32) / 255, cv2.COLOR_BGR2Lab)[blind]
    return np.hypot(lab[:, 1], lab[:, 2]) / np.maximum(lab[:, 0], 1)


def _found(shared: Path, *, model: str) -> Iterator[dict[str, Any]]:
    methods = visibility.methods(fusers=["average"], models={"model": Path(model)}, enhance=())
    ours = next(method.name for method in select(fusers=(), models={"model": Path(model)}, enhance=()))
    rows = visibility.measure(
        data=shared / "data",
        detector=Detector(shared / "weights" / "yolox_nano" / "yolox_nano.onnx"),
        methods={name: methods[name] for name in (ours, "average")},
        sets=read_labels(LABELS),
    )
    found = {(row["case"], row["class"], row["set"]): row.get("f1") for row in rows}
    for (kind, labels), bar in FOUND_BARS.items():
        yield {
            "case": f"{kind}s found, {labels}",
            "figure": "F1",
            "value": found[ours, kind, labels],
            "mean": found["average", kind, labels],
            "bar": bar,
            "better": "higher",
        }
