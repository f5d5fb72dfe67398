"""A float32 graph as one that a GPU computes in half precision, or with its wide convolutions in INT8.

TensorRT 10 and 11 compute as the types of the graph say, and so do PyTorch and ONNX Runtime on CUDA. So the files for GPUs are
typed: weights, activations and arithmetic are float16, inputs and outputs float32, with casts at the borders. What divides by
a sum of exponentials stays float32, as exponentials leave the range of float16. INT8 is symmetric and signed with a zero point
of 0, for weights by output channel, as TensorRT demands; OpenVINO runs other files best, which `rtfusion_trainer.export` makes.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from rtfusion.engines.onnx_module import OnnxModule
from rtfusion.errors import ModelError

OPSET, IR_VERSION = 19, 9
"""Quantizing float16 began with this version of the operators."""
WIDEST = 65504.0 / 4
"""The largest value that a float16 tensor may reach on the pictures it is checked with: a quarter of what it can hold."""
SMALLEST_SCALE = 2.0**-14
"""A smaller number loses digits in float16."""
LEVELS = 127
COVERED = 0.9999
"""This share of the values of an activation lies within the range of its 255 levels; the rest is cut off."""
_KINDS: dict[int, type[np.floating[Any]]] = {TensorProto.FLOAT16: np.float16, TensorProto.FLOAT: np.float32}

Array = npt.NDArray[np.float32]
Inputs = Mapping[str, Array]


@dataclass(frozen=True, kw_only=True, slots=True)
class Range:
    """How far the values of a tensor go, over all pictures it was measured with."""

    largest: float
    """The largest magnitude."""
    covering: float
    """The largest magnitude, picture by picture, of the share `COVERED`."""


def simplified(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with everything worked out that depends on constants alone, and clipping written as maximum and minimum."""
    constants = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if all(name in constants for name in node.input):
            results: Any = ReferenceEvaluator(node).run(None, {name: constants[name] for name in node.input})
            constants.update(zip(node.output, results, strict=True))
        elif node.op_type == "Clip":
            nodes += _as_limits(node)
        else:
            nodes.append(node)
    used = {name for node in nodes for name in node.input}
    kept = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items() if name in used]
    return _with_graph(model, nodes=nodes, constants=kept)


def in_half(model: onnx.ModelProto, *, ranges: Mapping[str, Range]) -> onnx.ModelProto:
    """A `simplified` graph in float16.

    Raises:
        ModelError: a tensor of these ``ranges`` leaves that of float16.
    """
    wide = _needs_range(model.graph.node)
    for node in model.graph.node:
        for name in node.output:
            if node.output[0] not in wide and name in ranges and ranges[name].largest > WIDEST:
                raise ModelError(
                    f"{name} reaches {ranges[name].largest:.0f}; a float16 tensor may reach {WIDEST:.0f}: keep it in float32"
                )
    return _Typed(source=model, wide=wide).model()


def in_int8(model: onnx.ModelProto, *, ranges: Mapping[str, Range], parts: Sequence[str]) -> onnx.ModelProto:
    """A `simplified` graph in float16 whose convolutions with one of ``parts`` in their names are INT8.

    Raises:
        ModelError: no convolution has such a name, or a tensor leaves the range of float16.
    """
    chosen = {node.name for node in model.graph.node if node.op_type == "Conv" and any(p in node.name for p in parts)}
    if not chosen:
        raise ModelError(f"the model has no convolution named {' or '.join(parts)}, and that is what INT8 is for")
    return _quantized(in_half(model, ranges=ranges), chosen=chosen, ranges=ranges)


def measured_ranges(model: onnx.ModelProto, pictures: Iterable[Inputs]) -> dict[str, Range]:
    """Run a float32 graph over inputs, and measure every float tensor that it makes."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    made = [name for node in model.graph.node for name in node.output]
    watched.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in made)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "watched.onnx"
        path.write_bytes(watched.SerializeToString())
        module = OnnxModule(path)
    found: dict[str, Range] = {}
    for inputs in pictures:
        with torch.inference_mode():
            values = module(**{name: torch.from_numpy(value) for name, value in inputs.items()})
        for name, value in values.items():
            before = found.get(name, Range(largest=0.0, covering=0.0))
            found[name] = _joined(before, value.abs().flatten().float())
    return found


def _joined(before: Range, magnitudes: torch.Tensor) -> Range:
    rank = max(1, round(COVERED * magnitudes.numel()))
    return Range(
        largest=max(before.largest, float(magnitudes.max())),
        covering=max(before.covering, float(magnitudes.kthvalue(rank).values)),
    )


def _as_limits(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """``Clip`` as ``Max`` and ``Min``, with the limits that it has."""
    value, limits = node.input[0], [*node.input[1:], "", ""][:2]
    steps = [(kind, limit) for kind, limit in zip(("Max", "Min"), limits, strict=True) if limit]
    for index, (kind, limit) in enumerate(steps):
        result = node.output[0] if index == len(steps) - 1 else f"{node.output[0]}/{kind}"
        yield helper.make_node(kind, [value, limit], [result], name=f"{node.name}/{kind}")
        value = result


def _needs_range(nodes: Iterable[onnx.NodeProto]) -> set[str]:
    """The nodes from an exponential up to the division that it leads to, by their first outputs."""
    nodes = list(nodes)
    behind: set[str] = set()
    for node in nodes:
        if node.op_type == "Exp" or (node.op_type != "Div" and behind.intersection(node.input)):
            behind.update(node.output)
    leads: set[str] = set()
    for node in reversed(nodes):
        if (node.op_type == "Div" and behind.intersection(node.input)) or leads.intersection(node.output):
            leads.update(behind.intersection(node.input))
    return {
        node.output[0]
        for node in nodes
        if leads.intersection(node.output) or (node.op_type == "Div" and leads.intersection(node.input))
    }


@dataclass(slots=True)
class _Typed:
    """A graph while it gets types: the tensors that were cast so far, and the nodes and constants of the new one."""

    source: onnx.ModelProto
    wide: set[str]
    types: dict[str, int] = field(default_factory=dict)
    """The float type of each tensor that was made so far."""
    cast: dict[tuple[str, int], str] = field(default_factory=dict)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def model(self) -> onnx.ModelProto:
        """The typed graph."""
        self.types = {port.name: TensorProto.FLOAT for port in self.source.graph.input}
        values = {one.name: numpy_helper.to_array(one) for one in self.source.graph.initializer}
        outputs = {port.name for port in self.source.graph.output}
        for node in self.source.graph.node:
            wanted = TensorProto.FLOAT if node.output[0] in self.wide else TensorProto.FLOAT16
            made = onnx.NodeProto()
            made.CopyFrom(node)
            del made.input[:], made.output[:]
            made.input.extend(self._input(name, wanted, values.get(name)) for name in node.input)
            made.output.extend(f"{name}/f16" if name in outputs else name for name in node.output)
            self.types.update(dict.fromkeys(made.output, wanted))
            self.nodes.append(made)
        for name in outputs:
            self.nodes.append(helper.make_node("Cast", [f"{name}/f16"], [name], to=TensorProto.FLOAT))
        return _with_graph(self.source, nodes=self.nodes, constants=self.constants.values())

    def _input(self, name: str, wanted: int, value: npt.NDArray[np.generic] | None) -> str:
        """The name of an input in the wanted type, cast where it has another one."""
        if not name or (value is None and self.types[name] == wanted):
            return name
        if value is not None:
            is_float = value.dtype == np.float32
            typed = f"{name}/{'f16' if wanted == TensorProto.FLOAT16 else 'f32'}" if is_float else name
            self.constants[typed] = numpy_helper.from_array(value.astype(_KINDS[wanted]) if is_float else value, typed)
            return typed
        if (name, wanted) not in self.cast:
            self.cast[name, wanted] = f"{name}/{'f16' if wanted == TensorProto.FLOAT16 else 'f32'}"
            self.nodes.append(helper.make_node("Cast", [name], [self.cast[name, wanted]], to=wanted))
        return self.cast[name, wanted]


def _quantized(model: onnx.ModelProto, *, chosen: set[str], ranges: Mapping[str, Range]) -> onnx.ModelProto:
    values = {one.name: one for one in model.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    quantized: dict[str, str] = {}
    zero = numpy_helper.from_array(np.zeros((), np.int8), "int8_zero")
    constants = [zero]
    for node in model.graph.node:
        if node.name in chosen:
            source, weight = node.input[:2]
            if source not in quantized:
                quantized[source] = f"{source}/int8"
                scale = np.float16(max(ranges[source].covering / LEVELS, SMALLEST_SCALE))
                constants.append(numpy_helper.from_array(np.asarray(scale), f"{source}/scale"))
                nodes += _round_trip(source, quantized[source])
            constants += _weight(numpy_helper.to_array(values.pop(weight)), weight)
            node.input[0], node.input[1] = quantized[source], f"{weight}/int8"
            names = [f"{weight}/levels", f"{weight}/scale", f"{weight}/zero"]
            nodes.append(helper.make_node("DequantizeLinear", names, [f"{weight}/int8"], axis=0))
        nodes.append(node)
    return _with_graph(model, nodes=nodes, constants=[*values.values(), *constants])


def _round_trip(source: str, result: str) -> list[onnx.NodeProto]:
    """An activation to its levels and back, which an engine joins with the convolution behind it."""
    scale, zero, levels = f"{source}/scale", "int8_zero", f"{source}/levels"
    return [
        helper.make_node("QuantizeLinear", [source, scale, zero], [levels]),
        helper.make_node("DequantizeLinear", [levels, scale, zero], [result]),
    ]


def _weight(weight: npt.NDArray[np.generic], name: str) -> list[onnx.TensorProto]:
    """The levels, scales and zero points of a weight, by output channel."""
    by_channel = weight.astype(np.float64).reshape(len(weight), -1)
    scale = np.maximum(np.abs(by_channel).max(axis=1) / LEVELS, SMALLEST_SCALE).astype(np.float16)
    levels = np.clip(np.rint(by_channel / scale.astype(np.float64)[:, None]), -LEVELS, LEVELS)
    return [
        numpy_helper.from_array(levels.astype(np.int8).reshape(weight.shape), f"{name}/levels"),
        numpy_helper.from_array(scale, f"{name}/scale"),
        numpy_helper.from_array(np.zeros(len(scale), np.int8), f"{name}/zero"),
    ]


def _with_graph(
    model: onnx.ModelProto, *, nodes: Iterable[onnx.NodeProto], constants: Iterable[onnx.TensorProto]
) -> onnx.ModelProto:
    """The model with other nodes and constants between its inputs and outputs; only what it needs to be run."""
    graph = helper.make_graph(
        list(nodes), model.graph.name, list(model.graph.input), list(model.graph.output), list(constants)
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(made, full_check=True)
    return made


def arithmetic(model: onnx.ModelProto) -> Counter[str]:
    """How many convolutions compute in each type: ``int8``, ``f16`` or ``f32``."""
    levels = {one.name: one.data_type for one in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    found: Counter[str] = Counter()
    for node in model.graph.node:
        if node.op_type == "Conv":
            maker = makers.get(node.input[1])
            kind = levels.get(node.input[1])
            is_int8 = maker is not None and maker.op_type == "DequantizeLinear"
            found["int8" if is_int8 else "f16" if kind == TensorProto.FLOAT16 else "f32"] += 1
    return found
