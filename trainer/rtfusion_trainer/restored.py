"""The student of a model file: a float32 file that `rtfusion_trainer.export` wrote, as something to train on.

`rtfusion_trainer.inference` says what such a file holds instead of a student's own parameters: activities in the order of the
planes, the context's pixels one after the other, one convolution for all heads of a block, and slopes as constants.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from rtfusion.engines.onnx_module import OnnxModule
from rtfusion.errors import ConfigError
from rtfusion.models import find_model
from rtfusion.models.spec import OUTPUT
from rtfusion_trainer.config import Network
from rtfusion_trainer.student import BLOCK_PX, Student

SAME = 1e-3
"""Largest mean difference between the file and what was made of it: a selection may be rounded the other way."""
_SEEN = 2 * BLOCK_PX**2
_CHECKED_PX = 64


def student_of_model(model: Path, network: Network) -> Student:
    """The student that a float32 file, or a shipped model by its name, was exported from.

    Its sizes are those of the file; how far it sees and its coring are those of ``network``.

    Raises:
        ConfigError: it is no float32 student, or not one of this version with that coring.
        ModelError: it cannot be read.
    """
    path = find_model(model)
    module = OnnxModule(path)
    weights = _weights(path)
    try:
        width, context = len(weights["trunk.merge.bias"]), len(weights["trunk.down.bias"])
        depth = sum(name.startswith("trunk.body.") and name.endswith(".bias") for name in weights)
        student = Student(replace(network, width=width, depth=depth, context=context))
        student.load_state_dict({**_as_trained(weights), "slope": torch.stack(list(_slopes(path))).log()})
    except (KeyError, RuntimeError) as error:
        raise ConfigError(f"{model} is no float32 student of this version; begin with a checkpoint") from error
    if (difference := _difference(student.eval(), module)) > SAME:
        raise ConfigError(
            f"{model} computes otherwise than a student with coring {network.coring} ({difference:.4f} apart)"
        )
    return student


def _weights(path: Path) -> dict[str, Tensor]:
    return {one.name: _tensor(one) for one in onnx.load(path).graph.initializer}


def _tensor(values: onnx.TensorProto) -> Tensor:
    return torch.from_numpy(numpy_helper.to_array(values).copy())


def _as_trained(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The parameters of a `Student` from those of an `rtfusion_trainer.inference.Inference`."""
    found = {name: value for name, value in weights.items() if not name.startswith(("trunk.up.", "heads."))}
    enter = weights["trunk.enter.weight"]
    found["trunk.enter.weight"] = torch.cat((enter[:, :_SEEN], enter[:, -2:], enter[:, _SEEN:-2]), dim=1)
    for part in ("weight", "bias"):
        up, heads = weights[f"trunk.up.{part}"], weights[f"heads.{part}"]
        found[f"trunk.up.{part}"] = up.reshape(4, -1, *up.shape[1:]).transpose(0, 1).flatten(0, 1)
        found[f"coarse.{part}"], found[f"side.{part}"], found[f"offset.{part}"] = heads[:4], heads[5:6], -2 * heads[6:7]
    return found


def _slopes(path: Path) -> Iterator[Tensor]:
    """The slopes of d0, d1 and d2: a factor, and entries of the kernel that compares planes."""
    nodes = onnx.load(path).graph.node
    values = {node.output[0]: _tensor(node.attribute[0].t) for node in nodes if node.op_type == "Constant"}
    makers = {name: node for node in nodes for name in node.output}
    (sigmoid,) = (node for node in nodes if node.op_type == "Sigmoid")
    (factor,) = (values[name] for name in makers[sigmoid.input[0]].input if name in values)
    (compare,) = (value for value in values.values() if value.shape == (8, 8, 1, 1))
    yield from (factor.reshape(()), compare[0, 1, 0, 0], compare[2, 3, 0, 0])


def _difference(student: Student, module: OnnxModule) -> float:
    images = torch.rand(2, 1, 1, _CHECKED_PX, _CHECKED_PX, generator=torch.Generator().manual_seed(0))
    inputs = {"visible_y": images[0], "thermal": images[1], "enhance": torch.full((1, 1, 1, 1), 0.8)}
    inputs |= {"visible_mean": torch.full((1, 1, 1, 1), 0.5), "thermal_mean": torch.full((1, 1, 1, 1), 0.3)}
    with torch.inference_mode():
        return float((student(**inputs).clamp(0, 1) - module(**inputs)[OUTPUT]).abs().mean())
