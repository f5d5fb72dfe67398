"""Tiny ONNX models with known arithmetic, and how a contract gets into a file. Needs the onnx package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from rtfusion.models import ImageInput, MapInput, ModelSpec, Output, ScalarInput, StateInput
from rtfusion.models.onnx_file import graph_checksum
from rtfusion.models.spec import IMAGE_INPUTS, implied_feeder

IMAGE = (1, 1, "H", "W")
SCALAR = (1, 1, 1, 1)
ENHANCE = ScalarInput(default=0.25, minimum=0.0, maximum=1.0)
BOX = np.full((1, 1, 3, 3), 1 / 9, np.float32)


def build(
    nodes: Sequence[tuple[str, list[str], str, dict[str, Any]]],
    *,
    constants: Mapping[str, np.ndarray] | None = None,
    inputs: Mapping[str, Sequence[int | str]] | None = None,
    outputs: Mapping[str, Sequence[int | str | None]] | None = None,
    indices: Mapping[str, Sequence[int]] | None = None,
    domain: str = "",
) -> onnx.ModelProto:
    """A float32 model of nodes given as (operator, inputs, output, attributes)."""
    inputs = inputs or {"visible_y": IMAGE, "thermal": IMAGE}
    outputs = outputs or {"fused_y": (1, 1, None, None)}
    graph = helper.make_graph(
        [helper.make_node(kind, sources, [sink], domain=domain, **kw) for kind, sources, sink, kw in nodes],
        "tiny",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name, shape in outputs.items()],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in (constants or {}).items()]
        + [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in (indices or {}).items()],
    )
    opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def average() -> onnx.ModelProto:
    """0.5 visible + 0.5 thermal."""
    return affine(visible=0.5, thermal=0.5)


def affine(*, visible: float, thermal: float, offset: float = 0.0) -> onnx.ModelProto:
    """Visible times a plus thermal times b plus c."""
    return build(
        [
            ("Mul", ["visible_y", "a"], "va", {}),
            ("Mul", ["thermal", "b"], "tb", {}),
            ("Add", ["va", "tb"], "sum", {}),
            ("Add", ["sum", "c"], "fused_y", {}),
        ],
        constants={"a": np.array(visible), "b": np.array(thermal), "c": np.array(offset)},
    )


def dial() -> onnx.ModelProto:
    """Visible at enhance 0, thermal at enhance 1, linear between."""
    return build(
        [
            ("Sub", ["thermal", "visible_y"], "difference", {}),
            ("Mul", ["difference", "enhance"], "part", {}),
            ("Add", ["visible_y", "part"], "fused_y", {}),
        ],
        inputs={"visible_y": IMAGE, "thermal": IMAGE, "enhance": SCALAR},
    )


def stride_4() -> onnx.ModelProto:
    """The mean of both, blurred 3 x 3 with zeros outside, through pixel-unshuffle and -shuffle by 4."""
    return build(
        [
            ("Add", ["visible_y", "thermal"], "sum", {}),
            ("Conv", ["sum", "box"], "blurred", {"pads": [1, 1, 1, 1]}),
            ("SpaceToDepth", ["blurred"], "phases", {"blocksize": 4}),
            ("Mul", ["phases", "half"], "halved", {}),
            ("DepthToSpace", ["halved"], "fused_y", {"blocksize": 4, "mode": "DCR"}),
        ],
        constants={"box": BOX, "half": np.array(0.5)},
    )


def blurred_mean(visible_y: np.ndarray, thermal: np.ndarray) -> np.ndarray:
    """What `stride_4` computes, (H, W) in float64."""
    mean = np.pad((visible_y.astype(np.float64) + thermal) / 2, 1)
    height, width = visible_y.shape
    return sum(mean[y : y + height, x : x + width] for y in range(3) for x in range(3)) / 9


CELL_PX = 4
REMEMBERING: dict[str, Any] = {
    "stride": 8,
    "inputs": {
        **{name: ImageInput() for name in IMAGE_INPUTS},
        "enhance": ENHANCE,
        "thermal_mean": ScalarInput(default=0.4, minimum=0, maximum=1, fed_by="thermal_mean"),
        "trust": MapInput(channels=1, scale=CELL_PX, default=1.0, minimum=0.0, maximum=1.0),
        "memory": StateInput(channels=2, scale=CELL_PX, initial=0.5, fed_from="memory_next", reset_after_s=0.5),
    },
    "outputs": {
        "fused_y": Output(kind="image"),
        "memory_next": Output(kind="state", channels=2, scale=CELL_PX),
        "warm": Output(kind="mask", channels=1, scale=CELL_PX),
    },
}
"""The contract of `remembering`."""


def remembering() -> onnx.ModelProto:
    """A model with every kind of port; its arithmetic is that of `remembered`.

    Per cell of 4 x 4 pixels: ``memory_next`` is half of ``memory`` and half of the cell's means (visible, thermal); ``warm`` is
    how far its thermal part is above ``thermal_mean``, times ``trust``. The picture is visible plus ``enhance`` times ``warm``.
    """
    pool = {"strides": [CELL_PX] * 2}
    return build(
        [
            ("Conv", ["visible_y", "cell"], "v", pool),
            ("Conv", ["thermal", "cell"], "t", pool),
            ("Concat", ["v", "t"], "now", {"axis": 1}),
            ("Add", ["memory", "now"], "sum", {}),
            ("Mul", ["sum", "half"], "memory_next", {}),
            ("Slice", ["memory_next", "one", "two", "one"], "slow", {}),
            ("Sub", ["slow", "thermal_mean"], "excess", {}),
            ("Mul", ["excess", "trust"], "warm", {}),
            ("Mul", ["warm", "enhance"], "shown", {}),
            ("Concat", ["shown"] * CELL_PX**2, "spread", {"axis": 1}),
            ("DepthToSpace", ["spread"], "large", {"blocksize": CELL_PX}),
            ("Add", ["visible_y", "large"], "fused_y", {}),
        ],
        constants={"cell": np.full((1, 1, CELL_PX, CELL_PX), CELL_PX**-2, np.float32), "half": np.array(0.5)},
        indices={"one": [1], "two": [2]},
        inputs={
            "visible_y": IMAGE,
            "thermal": IMAGE,
            "enhance": SCALAR,
            "thermal_mean": SCALAR,
            "trust": (1, 1, "h", "w"),
            "memory": (1, 2, "h", "w"),
        },
        outputs={"fused_y": (1, 1, None, None), "memory_next": (1, 2, None, None), "warm": (1, 1, None, None)},
    )


def remembered(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What `remembering` computes, in float64."""
    height, width = (length // CELL_PX for length in inputs["thermal"].shape[2:])
    cells = [
        inputs[name].astype(np.float64).reshape(height, CELL_PX, width, CELL_PX).mean((1, 3)) for name in IMAGE_INPUTS
    ]
    memory = (inputs["memory"] + np.stack(cells)[None]) / 2
    warm = (memory[:, 1:] - inputs["thermal_mean"]) * inputs["trust"]
    large = np.kron(inputs["enhance"] * warm, np.ones((CELL_PX, CELL_PX)))
    return {"fused_y": inputs["visible_y"] + large, "memory_next": memory, "warm": warm}


def contract(*, scalars: Mapping[str, ScalarInput] | None = None, **changes: Any) -> ModelSpec:
    """A contract that holds, but for the checksum; ``scalars`` come beside the images, fed as schema 1 has it."""
    fed = {name: scalar.model_copy(update={"fed_by": implied_feeder(name)}) for name, scalar in (scalars or {}).items()}
    if scalars is not None:
        changes["inputs"] = {**{name: ImageInput() for name in IMAGE_INPUTS}, **fed}
    fields: dict[str, Any] = {
        "name": "tiny",
        "stride": 1,
        "training_commit": "0123abc",
        "data": ("synthetic scene",),
        "license": "Apache-2.0",
        "scores": {"tno": {"Qabf": 0.5}},
        "checksum": "0" * 64,
    }
    return ModelSpec(**{**fields, **changes})


def write(path: Path, model: onnx.ModelProto, **changes: Any) -> Path:
    """Save ``model`` with a contract of the right checksum."""
    return write_metadata(path, model, metadata=contract(checksum=checksum(model), **changes).metadata())


def write_metadata(path: Path, model: onnx.ModelProto, *, metadata: Mapping[str, str]) -> Path:
    """Save ``model`` with these entries beside those it has."""
    stored = onnx.ModelProto()
    stored.CopyFrom(model)
    for key, value in metadata.items():
        stored.metadata_props.add(key=key, value=value)
    path.write_bytes(stored.SerializeToString())
    return path


def checksum(model: onnx.ModelProto) -> str:
    return graph_checksum(model.SerializeToString())
