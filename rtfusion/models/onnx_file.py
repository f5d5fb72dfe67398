"""The parts of an ONNX file, read without the onnx package.

Of the protobuf only what is asked for is walked; the pixels of a model, its weights, are passed over by their length.

A model file is somebody's program, and runs in this process. So one that may not end (loops) is refused, and one of which a part
is not in the graph, which the checksum of a contract covers: weights in other files, and functions beside the graph.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from rtfusion.errors import ModelError

# ModelProto of onnx.proto; the rest of its fields is skipped.
_IR_VERSION, _GRAPH, _METADATA = 1, 7, 14
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
# GraphProto, TensorProto, ValueInfoProto, TypeProto, TensorShapeProto
_CONSTANT, _DATA_TYPE, _FLOAT16, _CONSTANT_NAME = 5, 2, 10, 8
_INPUT, _OUTPUT, _PORT_NAME, _PORT_TYPE, _TENSOR, _SHAPE, _DIM, _DIM_VALUE = 11, 12, 1, 2, 1, 2, 1, 1
_FUNCTIONS, _TRAINING = 25, 20
# GraphProto, NodeProto, AttributeProto, SparseTensorProto, TensorProto
_NODE, _SPARSE, _OPERATOR, _ATTRIBUTE = 1, 15, 4, 5
_ONE_TENSOR, _ONE_GRAPH, _TENSORS, _GRAPHS, _ONE_SPARSE, _SPARSES = 5, 6, 10, 11, 22, 23
_SPARSE_VALUES, _SPARSE_INDICES, _EXTERNAL, _LOCATION = 1, 2, 13, 14
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

MAX_BYTES = 1 << 30
MAX_NODES = 100_000
"""Hundreds of times what the networks of the field have."""
MAX_DEPTH = 16
"""Of graphs within graphs."""
LOOPS = frozenset({"Loop", "Scan", "SequenceMap"})
"""Operators that run a graph as often as they like."""


class OnnxFile(NamedTuple):
    """A whole ONNX file, the serialized graph inside it, and its ``metadata_props``."""

    data: bytes
    graph: memoryview
    metadata: dict[str, str]


def load(path: Path) -> OnnxFile:
    """Read the file and find its parts.

    Raises:
        ModelError: there is no such file, it is not a whole ONNX model, or one that is not run: see the top.
    """
    # A device or a pipe would never end.
    if os.path.exists(path) and not path.is_file():  # noqa: PTH110 - False for a name that no file can have
        raise ModelError(f"{path} is not a regular file; expected an ONNX model")
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise ModelError(f"{path} has {size >> 20} MB; a model has {MAX_BYTES >> 20} at most")
        data = path.read_bytes()
    except MemoryError:
        raise ModelError(f"there is no memory to read the model {path}, of {size >> 20} MB") from None
    except OSError as error:
        raise ModelError(f"cannot read the model {path}: {error.strerror}") from error
    except ValueError as error:
        raise ModelError(f"cannot read the model {str(path)!r}: {error}") from error
    try:
        file = OnnxFile(data, *_parse_model(data))
        refusal = _refusal(memoryview(data), file.graph)
    except _MalformedError as error:
        raise ModelError(f"{path} is not a whole ONNX model: {error}; export or download it again") from error
    if refusal is not None:
        raise ModelError(f"{path} {refusal}")
    return file


def _refusal(model: memoryview, graph: memoryview) -> str | None:
    """Why a model is not run; None for one that may be."""
    beside = {number for number, value in _fields(model) if number in (_FUNCTIONS, _TRAINING)}
    if beside:
        return "has functions beside its graph, which no checksum covers; export it with them put in (inlined)"
    return _refusal_of_graph(graph, budget=[MAX_NODES], depth=0)


def _refusal_of_graph(graph: memoryview, *, budget: list[int], depth: int) -> str | None:
    if depth > MAX_DEPTH:
        return f"has graphs within graphs, more than {MAX_DEPTH} deep"
    for number, value in _fields(graph):
        if isinstance(value, int):
            continue
        refusal = None
        if number == _CONSTANT:
            refusal = _refusal_of_tensor(value)
        elif number == _SPARSE:
            refusal = _refusal_of_sparse(value)
        elif number == _NODE:
            budget[0] -= 1
            if budget[0] < 0:
                return f"has more than {MAX_NODES} operations"
            refusal = _refusal_of_node(value, budget=budget, depth=depth)
        if refusal is not None:
            return refusal
    return None


def _refusal_of_node(node: memoryview, *, budget: list[int], depth: int) -> str | None:
    if (operator := _text(node, _OPERATOR)) in LOOPS:
        return f"has the operation {operator}, which may never end; export it without loops"
    for attribute in _parts(node, _ATTRIBUTE):
        for number, value in _fields(attribute):
            if isinstance(value, int):
                continue
            refusal = None
            if number in (_ONE_TENSOR, _TENSORS):
                refusal = _refusal_of_tensor(value)
            elif number in (_ONE_SPARSE, _SPARSES):
                refusal = _refusal_of_sparse(value)
            elif number in (_ONE_GRAPH, _GRAPHS):
                refusal = _refusal_of_graph(value, budget=budget, depth=depth + 1)
            if refusal is not None:
                return refusal
    return None


def _refusal_of_sparse(sparse: memoryview) -> str | None:
    tensors = [value for number, value in _fields(sparse) if number in (_SPARSE_VALUES, _SPARSE_INDICES)]
    return next((why for one in tensors if not isinstance(one, int) and (why := _refusal_of_tensor(one))), None)


def _refusal_of_tensor(tensor: memoryview) -> str | None:
    if any(number == _EXTERNAL or (number == _LOCATION and value) for number, value in _fields(tensor)):
        return "keeps weights in other files, which no checksum covers; export it as one file"
    return None


def graph_checksum(onnx_model: bytes) -> str:
    """SHA-256 of the graph inside a serialized ModelProto, in hex: the checksum to store beside it.

    Raises:
        ModelError: the bytes are not a whole ONNX model.
    """
    try:
        return hashlib.sha256(_parse_model(onnx_model)[0]).hexdigest()
    except _MalformedError as error:
        raise ModelError(f"not a whole ONNX model: {error}") from error


def has_half(path: Path) -> bool:
    """Tell a file with constants in float16, in which an engine may compute.

    Raises:
        ModelError: as `load`.
    """
    constants = [value for number, value in _fields(load(path).graph) if number == _CONSTANT]
    return any((_DATA_TYPE, _FLOAT16) in _fields(one) for one in constants if not isinstance(one, int))


def is_quantized(path: Path) -> bool:
    """Tell a file whose layers compute in int8, from its bytes alone."""
    return b"QuantizeLinear" in path.read_bytes()


Dims = tuple[int | None, ...]
"""The dimensions of a tensor; one that is free is None."""


def declared_ports(path: Path) -> tuple[dict[str, Dims], dict[str, Dims]]:
    """The dimensions of every input and of every output that the graph of a file declares, by name.

    Raises:
        ModelError: as `load`.
    """
    graph = load(path).graph
    try:
        fields = list(_fields(graph))
        constants = {_text(one, _CONSTANT_NAME) for number, one in fields if number == _CONSTANT}
        inputs, outputs = (dict(_port(one) for number, one in fields if number == kind) for kind in (_INPUT, _OUTPUT))
    except _MalformedError as error:
        raise ModelError(f"{path} is not a whole ONNX model: {error}; export or download it again") from error
    return {name: dims for name, dims in inputs.items() if name not in constants}, outputs


def _port(value: int | memoryview) -> tuple[str, Dims]:
    """Name and dimensions of a ValueInfoProto; those of what is no tensor are none."""
    dims: list[int | None] = []
    for kind in _parts(value, _PORT_TYPE):
        for tensor in _parts(kind, _TENSOR):
            for shape in _parts(tensor, _SHAPE):
                for dim in _parts(shape, _DIM):
                    lengths = [one for number, one in _fields(dim) if number == _DIM_VALUE and isinstance(one, int)]
                    dims.append(lengths[0] if lengths else None)
    return _text(value, _PORT_NAME), tuple(dims)


def _parts(message: int | memoryview, wanted: int) -> list[memoryview]:
    """The messages in a field of a message."""
    if isinstance(message, int):
        raise _MalformedError("a number stands where a message should be")
    return [value for number, value in _fields(message) if number == wanted and not isinstance(value, int)]


def _text(message: int | memoryview, wanted: int) -> str:
    try:
        return next((str(part, "utf-8") for part in _parts(message, wanted)), "")
    except UnicodeDecodeError:
        raise _MalformedError("a name is not UTF-8") from None


class _MalformedError(Exception):
    """The bytes are not the protobuf they should be."""


def _parse_model(data: bytes) -> tuple[memoryview, dict[str, str]]:
    """The serialized graph and the metadata of a ModelProto."""
    graph: memoryview | None = None
    metadata: dict[str, str] = {}
    has_version = False
    for number, value in _fields(memoryview(data)):
        if number == _IR_VERSION:
            has_version = isinstance(value, int)
        elif number == _GRAPH:
            if graph is not None or isinstance(value, int):
                raise _MalformedError("expected one graph")
            graph = value
        elif number == _METADATA:
            key, text = _parse_entry(value)
            if key in metadata:
                raise _MalformedError(f"the metadata key {key!r} comes twice")
            metadata[key] = text
    if graph is None or not has_version:
        raise _MalformedError("it has no graph or no version")
    return graph, metadata


def _parse_entry(value: int | memoryview) -> tuple[str, str]:
    """Key and value of a StringStringEntryProto."""
    if isinstance(value, int):
        raise _MalformedError("a metadata entry is a number")
    strings = {_ENTRY_KEY: "", _ENTRY_VALUE: ""}
    for number, text in _fields(value):
        if number not in strings or isinstance(text, int):
            raise _MalformedError("a metadata entry is not a pair of strings")
        try:
            strings[number] = str(text, "utf-8")
        except UnicodeDecodeError as error:
            raise _MalformedError("a metadata entry is not UTF-8") from error
    return strings[_ENTRY_KEY], strings[_ENTRY_VALUE]


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Field numbers and values of a protobuf message: numbers as int, everything with a length as bytes."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, wire_type = tag >> 3, tag & 7
        if number == 0:
            raise _MalformedError("a field has the number 0")
        if wire_type == _VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if wire_type == _BYTES:
            length, at = _varint(message, at)
        elif wire_type in (_FIXED32, _FIXED64):
            length = 4 if wire_type == _FIXED32 else 8
        else:
            raise _MalformedError(f"a field has the wire type {wire_type}")
        if length > len(message) - at:
            raise _MalformedError("it ends in the middle of a field")
        yield number, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number of 7 bits a byte, least significant first, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise _MalformedError("it ends in the middle of a number")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80 and value < 1 << 64:
            return value, at
    raise _MalformedError("a number has more than 64 bits")
