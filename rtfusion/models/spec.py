"""The contract of a model, stored inside its ONNX file.

A model fuses luminance: inputs ``visible_y`` and ``thermal``, output ``fused_y``, float32 (1, 1, H, W) in [0, 1], H and W
dynamic multiples of the stride. Further inputs are named scalars, float32 (1, 1, 1, 1), with a default; two of them,
``visible_mean`` and ``thermal_mean``, the runtime keeps itself (`rtfusion.fusion.learned`). The rest of the contract stands in
the file's ``metadata_props`` under keys ``rtfusion.*``, each value JSON::

    rtfusion.schema           1
    rtfusion.name             "small"
    rtfusion.inputs           ["visible_y", "thermal"]
    rtfusion.scalars          {"enhance": {"default": 0.5, "minimum": 0.0, "maximum": 1.0}}
    rtfusion.output           "fused_y"
    rtfusion.value_range      [0.0, 1.0]
    rtfusion.stride           4
    rtfusion.color_matrix     "bt601"
    rtfusion.training_commit  "..."
    rtfusion.data             ["RoadScene", "M3SVD (MIT)"]
    rtfusion.teachers         ["faithful-1a2b3c4d"]
    rtfusion.license          "Apache-2.0"
    rtfusion.scores           {"tno": {"Qabf": 0.54}}
    rtfusion.checksum         SHA-256 of the serialized graph, in hex

It is read here without the onnx package: only the top level of the protobuf is walked, and the graph is skipped by its
length. A file that says less, more or something else than this is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rtfusion.errors import ModelError

SCHEMA = 1
PREFIX = "rtfusion."
IMAGE_INPUTS = ("visible_y", "thermal")
OUTPUT = "fused_y"
ID_LENGTH = 16

# ModelProto of onnx.proto; the rest of its fields is skipped.
_IR_VERSION, _GRAPH, _METADATA = 1, 7, 14
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

_STRICT = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class ScalarInput(BaseModel):
    """A named number that conditions the model, such as ``enhance``."""

    model_config = _STRICT

    default: float
    minimum: float
    maximum: float

    @model_validator(mode="after")
    def _default_in_range(self) -> ScalarInput:
        if not self.minimum <= self.default <= self.maximum:
            raise ValueError(f"default {self.default} is outside [{self.minimum}, {self.maximum}]")
        return self


class ModelSpec(BaseModel):
    """What a model expects, gives, and where it comes from."""

    model_config = _STRICT

    id: str = ""
    """First 16 hex digits of the SHA-256 of the whole file; empty until read from one, and never stored in it."""
    name: Annotated[str, Field(min_length=1)]
    inputs: tuple[Literal["visible_y"], Literal["thermal"]] = ("visible_y", "thermal")
    """The images, float32 (1, 1, H, W)."""
    scalars: dict[str, ScalarInput] = {}
    """Further inputs, float32 (1, 1, 1, 1), by name."""
    output: Literal["fused_y"] = "fused_y"
    value_range: tuple[float, float] = (0.0, 1.0)
    """Of images in and out: [0, 1], nothing else in schema 1."""
    stride: Annotated[int, Field(ge=1, le=256)]
    """Height and width must be multiples of this many pixels; the runtime pads."""
    color_matrix: Literal["bt601"] = "bt601"
    """Luminance the model was trained on: full-range BT.601, as OpenCV's BGR2GRAY."""
    training_commit: str
    data: tuple[str, ...]
    """What it was trained on, with the terms."""
    teachers: tuple[str, ...] = ()
    """What it was distilled from."""
    license: str
    scores: dict[str, dict[str, float]] = {}
    """Set → metric → value, as measured when it was exported."""
    checksum: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """SHA-256 of the serialized graph: see `graph_checksum`."""

    @model_validator(mode="after")
    def _is_schema_1(self) -> ModelSpec:
        if self.value_range != (0.0, 1.0):
            raise ValueError(f"value_range is {list(self.value_range)}; expected [0, 1]")
        taken = set(self.scalars) & {*self.inputs, self.output, ""}
        if taken:
            raise ValueError(f"scalars may not be named {', '.join(map(repr, sorted(taken)))}")
        return self

    def metadata(self) -> dict[str, str]:
        """Keys and values for the ``metadata_props`` of the ONNX file."""
        fields = {"schema": SCHEMA, **self.model_dump(mode="json", exclude={"id"})}
        return {PREFIX + key: json.dumps(value, sort_keys=True) for key, value in fields.items()}


def read_spec(path: Path) -> ModelSpec:
    """The contract of the model in ``path``, checked against the graph that it is stored with.

    Raises:
        ModelError: there is no such file, it is no ONNX model, it carries no contract or one that this version cannot
            read, or its graph is not the one the contract was written for.
    """
    data, graph, metadata = _load(path)
    try:
        spec = ModelSpec.model_validate_json(_contract(metadata, path=path))
    except ValidationError as error:
        problems = "; ".join(f"{PREFIX}{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors())
        raise ModelError(f"{path} has a contract that does not hold: {problems}") from error
    if hashlib.sha256(graph).hexdigest() != spec.checksum:
        raise ModelError(
            f"{path} is damaged or was edited: its graph has not the checksum of its contract; get it again"
        )
    return spec.model_copy(update={"id": hashlib.sha256(data).hexdigest()[:ID_LENGTH]})


def check_onnx(path: Path) -> None:
    """See that ``path`` is a whole ONNX model, with or without a contract, before an engine is asked to load it.

    Raises:
        ModelError: it is not.
    """
    _load(path)


def graph_checksum(onnx_model: bytes) -> str:
    """SHA-256 of the graph inside a serialized ModelProto, in hex: the checksum to store beside it.

    Raises:
        ModelError: the bytes are not a whole ONNX model.
    """
    try:
        return hashlib.sha256(_parse_model(onnx_model)[0]).hexdigest()
    except _MalformedError as error:
        raise ModelError(f"not a whole ONNX model: {error}") from error


class _MalformedError(Exception):
    """The bytes are not the protobuf they should be."""


def _load(path: Path) -> tuple[bytes, memoryview, dict[str, str]]:
    """The whole file, the graph in it, and its metadata."""
    # A device or a pipe would never end.
    if path.exists() and not path.is_file():
        raise ModelError(f"{path} is not a regular file; expected an ONNX model")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read the model {path}: {error.strerror}") from error
    try:
        return data, *_parse_model(data)
    except _MalformedError as error:
        raise ModelError(f"{path} is not a whole ONNX model: {error}; export or download it again") from error


def _contract(metadata: dict[str, str], *, path: Path) -> str:
    """One JSON object of the ``rtfusion.*`` values, without the prefix and the schema."""
    texts = {key.removeprefix(PREFIX): text for key, text in metadata.items() if key.startswith(PREFIX)}
    if not texts:
        raise ModelError(f"{path} carries no contract (no {PREFIX}* metadata); export it with rtfusion's trainer")
    values: dict[str, Any] = {}
    for key, text in texts.items():
        try:
            values[key] = json.loads(text, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise ModelError(f"{path}: the value of {PREFIX}{key} is not JSON: {error}") from error
    schema = values.get("schema")
    if schema != SCHEMA or isinstance(schema, bool):
        raise ModelError(
            f"{path} has contract schema {schema}, this version reads {SCHEMA}: install a matching rtfusion"
        )
    if "id" in texts:
        raise ModelError(f"{path} stores {PREFIX}id, but the id is made from the file; export it again")
    # Joined as text: each one is whole JSON, and numbers stay as they were written.
    return "{" + ", ".join(f"{json.dumps(key)}: {text}" for key, text in texts.items() if key != "schema") + "}"


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number of JSON")


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
