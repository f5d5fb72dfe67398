"""The parts of an ONNX file, read without the onnx package.

Only the top level of the protobuf is walked: the graph is skipped by its length, and the metadata are read.
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
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class OnnxFile(NamedTuple):
    """A whole ONNX file, the serialized graph inside it, and its ``metadata_props``."""

    data: bytes
    graph: memoryview
    metadata: dict[str, str]


def load(path: Path) -> OnnxFile:
    """Read the file and find its parts.

    Raises:
        ModelError: there is no such file, or it is not a whole ONNX model.
    """
    # A device or a pipe would never end.
    if os.path.exists(path) and not path.is_file():  # noqa: PTH110 - False for a name that no file can have
        raise ModelError(f"{path} is not a regular file; expected an ONNX model")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read the model {path}: {error.strerror}") from error
    except ValueError as error:
        raise ModelError(f"cannot read the model {str(path)!r}: {error}") from error
    try:
        return OnnxFile(data, *_parse_model(data))
    except _MalformedError as error:
        raise ModelError(f"{path} is not a whole ONNX model: {error}; export or download it again") from error


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
