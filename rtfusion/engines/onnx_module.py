"""The graph of a model file as a PyTorch module, run node by node. What depends on constants alone is done once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor as TorchTensor
from torch.nn import functional

from rtfusion.engines.base import FLOAT, Port
from rtfusion.errors import ModelError

Attributes = Mapping[str, Any]
Source = str | int | list[int]
"""The name of a value, or a settled one."""


class OnnxModule(torch.nn.Module):
    """The graph of an ONNX file as a module: inputs and outputs by the names of the file.

    A ``typed`` one computes in the types that the file says. Another one is brought to one floating-point type as a whole, by
    ``Module.to``, and leaves out casts between such types.

    Raises:
        ModelError: it has an operator that is not known here.
    """

    def __init__(self, model: Path, *, typed: bool = False) -> None:
        super().__init__()
        self._typed = typed
        graph = onnx.load(str(model)).graph
        self._constants = [_key(tensor.name) for tensor in graph.initializer]
        for tensor in graph.initializer:
            self.register_buffer(_key(tensor.name), _tensor(tensor))
        self.inputs = {port.name: _port(port) for port in graph.input if _key(port.name) not in self._constants}
        self.outputs = {port.name: _port(port) for port in graph.output}
        self._steps: list[tuple[Operator, Attributes, list[Source], list[str]]] = []
        for node in graph.node:
            self._add(node, model=model)

    def forward(self, **inputs: TorchTensor) -> dict[str, TorchTensor]:
        """Every input by name to every output by name."""
        values: dict[str, Any] = {_key(name): value for name, value in inputs.items()}
        for operator, attributes, sources, results in self._steps:
            made = operator(attributes, *(self._value(values, source) for source in sources))
            for name, value in zip(results, made if isinstance(made, tuple) else (made,), strict=True):
                values[name] = value
        return {name: self._value(values, _key(name)) for name in self.outputs}

    def _add(self, node: Any, *, model: Path) -> None:
        operator = OPERATORS.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        if operator is None:
            raise ModelError(f"{model} has the operator {node.op_type}, which the engine pytorch does not know")
        attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        if node.op_type == "Split":
            attributes["parts"] = len(node.output)
        if node.op_type == "Cast":
            attributes["typed"] = self._typed
        sources, results = [_key(name) for name in node.input], [_key(name) for name in node.output]
        if all(name in self._constants or name == _key("") for name in sources):
            made = operator(attributes, *(self._value({}, name) for name in sources))
            for name, value in zip(results, made if isinstance(made, tuple) else (made,), strict=True):
                self.register_buffer(name, value)
                self._constants.append(name)
        else:
            self._steps.append((operator, attributes, [self._settled(name) for name in sources], results))

    @property
    def precision(self) -> str:
        """``f16`` where convolutions compute in it, else ``f32``."""
        weights = [sources[1] for operator, _, sources, _ in self._steps if operator is _convolution]
        is_half = any(getattr(self, str(weight)).dtype == torch.float16 for weight in weights)
        return "f16" if is_half else "f32"

    def _settled(self, name: str) -> Source:
        """A constant shape, margin or axis as plain numbers, which an exported program can be made with."""
        value = getattr(self, name) if name in self._constants else None
        return value.tolist() if value is not None and value.dtype == torch.int64 else name

    def _value(self, values: Mapping[str, Any], source: Source) -> Any:
        if not isinstance(source, str):
            return source
        if source == _key(""):
            return None
        return values[source] if source in values else getattr(self, source)


def _key(name: str) -> str:
    """A name of the graph as an attribute of a module, which may have no dots."""
    return "value_" + name.replace(".", "_dot_")


def _port(port: Any) -> Port:
    kind = port.type.tensor_type
    dims = tuple(dim.dim_value or dim.dim_param for dim in kind.shape.dim)
    is_float = kind.elem_type == onnx.TensorProto.FLOAT
    return Port(dims, FLOAT if is_float else onnx.TensorProto.DataType.Name(kind.elem_type))


def _tensor(tensor: Any) -> TorchTensor:
    return torch.from_numpy(numpy_helper.to_array(tensor).copy())


# --- the operators: attributes and tensors in, one tensor or several out ---

Operator = Callable[..., Any]
Numbers: TypeAlias = TorchTensor | list[int]


def _ints(numbers: Numbers) -> list[int]:
    return numbers if isinstance(numbers, list) else numbers.tolist()


def _convolution(
    attributes: Attributes, image: TorchTensor, weight: TorchTensor, bias: TorchTensor | None = None
) -> Any:
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    if (top, left) != (bottom, right):
        image, top, left = functional.pad(image, (left, right, top, bottom)), 0, 0
    return functional.conv2d(
        image,
        weight,
        bias,
        stride=tuple(attributes.get("strides", (1, 1))),
        padding=(top, left),
        dilation=tuple(attributes.get("dilations", (1, 1))),
        groups=attributes.get("group", 1),
    )


def _max_pool(attributes: Attributes, image: TorchTensor) -> TorchTensor:
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    if (
        (top, left) != (bottom, right)
        or attributes.get("ceil_mode", 0)
        or attributes.get("auto_pad", b"NOTSET") != b"NOTSET"
    ):
        raise ModelError("MaxPool: only equal margins on both sides, rounded down, are known here")
    kernel, strides = tuple(attributes["kernel_shape"]), tuple(attributes.get("strides", (1, 1)))
    return functional.max_pool2d(image, kernel, strides, padding=(top, left))


def _resize(
    attributes: Attributes, image: TorchTensor, _region: Any = None, scales: Any = None, sizes: Any = None
) -> TorchTensor:
    """Repeat pixels, a whole number of times along each axis: the one way that networks enlarge without interpolation."""
    how = tuple(attributes.get(name) for name in ("mode", "coordinate_transformation_mode", "nearest_mode"))
    factors = [float(scale) for scale in (() if scales is None else scales)]
    is_known = how == (b"nearest", b"asymmetric", b"floor") and sizes is None and len(factors) == 4
    if not is_known or factors[:2] != [1.0, 1.0] or any(factor != int(factor) for factor in factors):
        raise ModelError("Resize: only repeating pixels a whole number of times is known here")
    return image.repeat_interleave(int(factors[2]), dim=2).repeat_interleave(int(factors[3]), dim=3)


def _pad(attributes: Attributes, image: TorchTensor, pads: Numbers, value: TorchTensor | None = None) -> Any:
    begins, ends = _ints(pads)[: image.ndim], _ints(pads)[image.ndim :]
    mode = {"edge": "replicate"}.get(attributes.get("mode", b"constant").decode(), attributes.get("mode", b"").decode())
    flat = [side for begin, end in zip(reversed(begins), reversed(ends), strict=True) for side in (begin, end)]
    if mode in ("replicate", "reflect"):
        return functional.pad(image, flat[:4], mode=mode)
    return functional.pad(image, flat, value=0.0 if value is None else float(value))


def _space_to_depth(attributes: Attributes, image: TorchTensor) -> TorchTensor:
    size = attributes["blocksize"]
    count, channels, height, width = image.shape
    blocks = image.reshape(count, channels, height // size, size, width // size, size)
    return blocks.permute(0, 3, 5, 1, 2, 4).reshape(count, -1, height // size, width // size)


def _depth_to_space(attributes: Attributes, image: TorchTensor) -> TorchTensor:
    size = attributes["blocksize"]
    if attributes.get("mode", b"DCR") == b"CRD":
        return functional.pixel_shuffle(image, size)
    count, channels, height, width = image.shape
    blocks = image.reshape(count, size, size, channels // size**2, height, width)
    return blocks.permute(0, 3, 4, 1, 5, 2).reshape(count, -1, height * size, width * size)


def _slice(  # noqa: PLR0917 - the order of the operator's inputs
    attributes: Attributes,
    data: TorchTensor,
    starts: Numbers,
    ends: Numbers,
    axes: Numbers | None = None,
    steps: Numbers | None = None,
) -> TorchTensor:
    axes_list = list(range(len(starts))) if axes is None else _ints(axes)
    steps_list = [1] * len(starts) if steps is None else _ints(steps)
    for start, end, axis, step in zip(_ints(starts), _ints(ends), axes_list, steps_list, strict=True):
        if step > 0:
            data = data[(*[slice(None)] * axis, slice(start, end, step))]
        else:
            chosen = range(data.shape[axis])[slice(start, None if end < -data.shape[axis] else end, step)]
            data = data.index_select(axis, torch.tensor(list(chosen), device=data.device))
    return data


def _quantize(
    attributes: Attributes, data: TorchTensor, scale: TorchTensor, zero: TorchTensor | None = None
) -> TorchTensor:
    axis = attributes.get("axis", 1)
    low, high = (0, 255) if zero is None or zero.dtype == torch.uint8 else (-128, 127)
    origin = torch.zeros_like(scale) if zero is None else zero
    levels = torch.round(data / _along(scale, data, axis)) + _along(origin, data, axis)
    return levels.clamp(low, high).to(torch.uint8 if low == 0 else torch.int8)


def _dequantize(
    attributes: Attributes, data: TorchTensor, scale: TorchTensor, zero: TorchTensor | None = None
) -> TorchTensor:
    axis = attributes.get("axis", 1)
    origin = torch.zeros_like(scale) if zero is None else zero
    return (data.to(scale.dtype) - _along(origin, data, axis).to(scale.dtype)) * _along(scale, data, axis)


def _along(values: TorchTensor, data: TorchTensor, axis: int) -> TorchTensor:
    """Values per channel, in a shape that goes with the data."""
    return values if values.ndim == 0 else values.reshape([-1 if dim == axis else 1 for dim in range(data.ndim)])


def _cast(attributes: Attributes, data: TorchTensor) -> TorchTensor:
    kinds = {1: torch.float32, 6: torch.int32, 7: torch.int64, 9: torch.bool, 10: torch.float16, 11: torch.float64}
    kind = kinds[attributes["to"]]
    # the weights were brought to the precision that was asked for, and a cast between floats would undo it
    is_undone = not attributes["typed"] and data.is_floating_point() and kind.is_floating_point
    return data if is_undone else data.to(kind)


OPERATORS: dict[str, Operator] = {
    "Abs": lambda _, x: x.abs(),
    "Add": lambda _, a, b: a + b,
    "Cast": _cast,
    "Clip": lambda _, x, low=None, high=None: torch.clamp(x, low, high),
    "Concat": lambda attributes, *parts: torch.cat(parts, dim=attributes["axis"]),
    "Constant": lambda attributes: _tensor(attributes["value"]),
    "ConstantOfShape": lambda attributes, shape: (
        (_tensor(attributes["value"]) if "value" in attributes else torch.zeros(1)).expand(_ints(shape)).clone()
    ),
    "Conv": _convolution,
    "DepthToSpace": _depth_to_space,
    "DequantizeLinear": _dequantize,
    "Div": lambda _, a, b: a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc"),
    "Exp": lambda _, x: x.exp(),
    "Identity": lambda _, x: x,
    "LeakyRelu": lambda attributes, x: functional.leaky_relu(x, attributes.get("alpha", 0.01)),
    "Log": lambda _, x: x.log(),
    "Max": lambda _, a, b: torch.maximum(a, b),
    "MaxPool": _max_pool,
    "Min": lambda _, a, b: torch.minimum(a, b),
    "Mul": lambda _, a, b: a * b,
    "Neg": lambda _, x: -x,
    "Pad": _pad,
    "QuantizeLinear": _quantize,
    "ReduceSum": lambda attributes, x, axes: x.sum(tuple(_ints(axes)), keepdim=bool(attributes.get("keepdims", 1))),
    "Relu": lambda _, x: functional.relu(x),
    "Resize": _resize,
    "Reshape": lambda _, x, shape: x.reshape([x.shape[i] if n == 0 else n for i, n in enumerate(_ints(shape))]),
    "Sigmoid": lambda _, x: x.sigmoid(),
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": lambda attributes, x, sizes=None: x.split(
        x.shape[attributes.get("axis", 0)] // attributes["parts"] if sizes is None else _ints(sizes),
        dim=attributes.get("axis", 0),
    ),
    "Sqrt": lambda _, x: x.sqrt(),
    "Squeeze": lambda _, x, axes: x.squeeze(tuple(_ints(axes))),
    "Sub": lambda _, a, b: a - b,
    "Tanh": lambda _, x: x.tanh(),
    "Transpose": lambda attributes, x: x.permute(attributes["perm"]),
}
