"""The contract of a model, stored inside its ONNX file.

A model fuses luminance: images ``visible_y`` and ``thermal`` in, ``fused_y`` out, float32 (1, 1, H, W) in [0, 1], H and W
dynamic multiples of the stride. Everything else that it takes and gives is named, and has a kind; k is its scale, which divides
the stride:

- scalar, (1, 1, 1, 1): chosen by the user, such as ``enhance``, or the mean of an image, which the runtime follows with memory;
- map, (1, C, H / k, W / k): a plane over the picture, chosen by the user, of one value until then;
- state, (1, C, H / k, W / k): what the model remembers. The runtime feeds what a named output of the frame before gave. It
  starts anew from one value on the first frame, when time goes back, after a gap of more than ``reset_after_s``, when the
  size changes, and with every one of unrelated stills;
- outputs beside ``fused_y``, (1, C, H / k, W / k): a mask, a gain, a state, or something else, which the runtime may ignore.

The contract stands in the file's ``metadata_props`` under keys ``rtfusion.*``, each value JSON::

    rtfusion.schema           2
    rtfusion.name             "small"
    rtfusion.inputs           {"visible_y": {"kind": "image"}, "thermal": {"kind": "image"},
                               "enhance": {"kind": "scalar", "default": 0.5, "minimum": 0, "maximum": 1, "fed_by": "user"},
                               "thermal_mean": {"kind": "scalar", ..., "fed_by": "thermal_mean"},
                               "trust": {"kind": "map", "channels": 1, "scale": 8, "default": 1, "minimum": 0, "maximum": 1},
                               "memory": {"kind": "state", "channels": 8, "scale": 8, "initial": 0,
                                          "fed_from": "memory_next", "reset_after_s": 1.0}}
    rtfusion.outputs          {"fused_y": {"kind": "image"}, "memory_next": {"kind": "state", "channels": 8, "scale": 8},
                               "people": {"kind": "mask", "channels": 1, "scale": 4}}
    rtfusion.value_range      [0.0, 1.0]
    rtfusion.stride           8
    rtfusion.color_matrix     "bt601"
    rtfusion.training_commit  "..."
    rtfusion.data             ["RoadScene", "M3SVD (MIT)"]
    rtfusion.teachers         ["faithful-1a2b3c4d"]
    rtfusion.license          "Apache-2.0"
    rtfusion.scores           {"tno": {"Qabf": 0.54}}
    rtfusion.checksum         SHA-256 of the serialized graph, in hex

A model of images and scalars alone is stored in schema 1, which older versions read too. It differs in three keys::

    rtfusion.inputs           ["visible_y", "thermal"]
    rtfusion.scalars          {"enhance": {"default": 0.5, "minimum": 0.0, "maximum": 1.0}}
    rtfusion.output           "fused_y"

There, scalars named ``visible_mean`` and ``thermal_mean`` are the means, and the user chooses the others. A file that says less,
more or something else than this is refused. docs/model-contract.md describes the contract for authors of models.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rtfusion.errors import ModelError
from rtfusion.models import onnx_file
from rtfusion.models.contract import checked_contract

SCHEMAS = (1, 2)
PREFIX = "rtfusion."
IMAGE_INPUTS = ("visible_y", "thermal")
OUTPUT = "fused_y"
SCENE_MEANS = {"visible_mean": "visible_y", "thermal_mean": "thermal"}
"""Feeders of scalars that the runtime keeps: the mean of this image in [0, 1], with memory."""
ID_LENGTH = 16

Shape = tuple[int, ...]
Feeder = Literal["user", "visible_mean", "thermal_mean"]
_STRICT = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class _Ranged(BaseModel):
    """A value that can be chosen, and that has a default."""

    model_config = _STRICT

    default: float
    minimum: float
    maximum: float

    @model_validator(mode="after")
    def _default_in_range(self) -> _Ranged:
        if not self.minimum <= self.default <= self.maximum:
            raise ValueError(f"default {self.default} is outside [{self.minimum}, {self.maximum}]")
        return self


class _Plane(BaseModel):
    """A float32 tensor over the picture."""

    model_config = _STRICT

    channels: Annotated[int, Field(ge=1, le=1024)] = 1
    scale: Annotated[int, Field(ge=1, le=256)] = 1
    """One value stands for a square of this many pixels a side."""

    def shape(self, size_px: tuple[int, int]) -> Shape:
        """(1, C, H / k, W / k) for images of this (width, height), a multiple of the stride."""
        return 1, self.channels, size_px[1] // self.scale, size_px[0] // self.scale


class ImageInput(BaseModel):
    """The luminance of one of both cameras, in [0, 1]."""

    model_config = _STRICT

    kind: Literal["image"] = "image"

    def shape(self, size_px: tuple[int, int]) -> Shape:
        """(1, 1, H, W) for images of this (width, height)."""
        return 1, 1, size_px[1], size_px[0]


class ScalarInput(_Ranged):
    """A named number that conditions the model, such as ``enhance``."""

    kind: Literal["scalar"] = "scalar"
    fed_by: Feeder = "user"
    """The giver of the value: the user, or the runtime (`SCENE_MEANS`)."""

    def shape(self, size_px: tuple[int, int]) -> Shape:
        """(1, 1, 1, 1), whatever the size of the images."""
        return 1, 1, 1, 1


class MapInput(_Ranged, _Plane):
    """A named plane of numbers that conditions the model place by place, such as how far a band is to be trusted."""

    kind: Literal["map"] = "map"
    fed_by: Literal["user"] = "user"


class StateInput(_Plane):
    """A memory: the model gives it, and takes it with the next frame."""

    kind: Literal["state"] = "state"
    initial: float
    """Each of its values when it starts anew."""
    fed_from: str
    """The output that is fed in the next frame."""
    reset_after_s: Annotated[float, Field(gt=0)]
    """It starts anew after a gap of more than this between two frames."""


class Output(_Plane):
    """A named result. ``image`` is the fused luminance alone; the runtime feeds back each ``state``, and may ignore the rest."""

    kind: Literal["image", "mask", "gain", "state", "other"]


Input = Annotated[ImageInput | ScalarInput | MapInput | StateInput, Field(discriminator="kind")]
_IMAGES: dict[str, Input] = {name: ImageInput() for name in IMAGE_INPUTS}
_FUSED = {OUTPUT: Output(kind="image")}


class _About(BaseModel):
    """The part of a contract that both schemas have alike."""

    model_config = _STRICT

    name: Annotated[str, Field(min_length=1)]
    value_range: tuple[float, float] = (0.0, 1.0)
    """Range of the images in and out; always [0, 1]."""
    stride: Annotated[int, Field(ge=1, le=256)]
    """Height and width must be multiples of this many pixels; the runtime pads."""
    color_matrix: Literal["bt601"] = "bt601"
    """Luminance the model was trained on: full-range BT.601, as OpenCV's BGR2GRAY."""
    training_commit: str
    data: tuple[str, ...]
    """The sets it was trained on, each with its terms."""
    teachers: tuple[str, ...] = ()
    """The models it was distilled from."""
    license: str
    scores: dict[str, dict[str, float]] = {}
    """Set → metric → value, as measured when it was exported."""
    checksum: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """SHA-256 of the serialized graph: see `rtfusion.models.onnx_file.graph_checksum`."""

    @model_validator(mode="after")
    def _is_unit_range(self) -> _About:
        if self.value_range != (0.0, 1.0):
            raise ValueError(f"value_range is {list(self.value_range)}; expected [0, 1]")
        return self


class ModelSpec(_About):
    """The contract of a model: what it takes and gives, and where it comes from."""

    id: str = ""
    """First 16 hex digits of the SHA-256 of the whole file; empty until read from one, and never stored in it."""
    inputs: dict[str, Input] = _IMAGES
    outputs: dict[str, Output] = _FUSED

    @property
    def scalars(self) -> dict[str, ScalarInput]:
        """The numbers among the inputs."""
        return {name: port for name, port in self.inputs.items() if isinstance(port, ScalarInput)}

    @property
    def maps(self) -> dict[str, MapInput]:
        """The maps among the inputs."""
        return {name: port for name, port in self.inputs.items() if isinstance(port, MapInput)}

    @property
    def choices(self) -> dict[str, ScalarInput | MapInput]:
        """The inputs that can be given a value: scalars and maps."""
        return {**self.scalars, **self.maps}

    @property
    def states(self) -> dict[str, StateInput]:
        """The states among the inputs."""
        return {name: port for name, port in self.inputs.items() if isinstance(port, StateInput)}

    def padded_px(self, size_px: tuple[int, int]) -> tuple[int, int]:
        """The smallest (width, height) that the model takes and that holds images of this one."""
        width, height = size_px
        return width + -width % self.stride, height + -height % self.stride

    def contract(self) -> dict[str, Any]:
        """Give the plain values that are stored, by key: in schema 1 where that says all of it."""
        fields = self.model_dump(mode="json", exclude={"id"})
        name, inputs, outputs = (fields.pop(key) for key in ("name", "inputs", "outputs"))
        if not _fits_schema_1(self):
            return {"schema": 2, "name": name, "inputs": inputs, "outputs": outputs, **fields}
        scalars = {key: {number: inputs[key][number] for number in _Ranged.model_fields} for key in self.scalars}
        return {"schema": 1, "name": name, "inputs": [*IMAGE_INPUTS], "scalars": scalars, "output": OUTPUT, **fields}

    def metadata(self) -> dict[str, str]:
        """Keys and values for the ``metadata_props`` of the ONNX file."""
        return {PREFIX + key: json.dumps(value, sort_keys=True) for key, value in self.contract().items()}

    @model_validator(mode="after")
    def _ports_hold_together(self) -> ModelSpec:
        if problem := next(_problems(self), None):
            raise ValueError(problem)
        return self


class _Schema1(_About):
    """A contract as schema 1 stores it."""

    inputs: tuple[Literal["visible_y"], Literal["thermal"]] = ("visible_y", "thermal")
    scalars: dict[str, _Ranged] = {}
    output: Literal["fused_y"] = "fused_y"

    @model_validator(mode="after")
    def _names_are_free(self) -> _Schema1:
        if taken := set(self.scalars) & {*self.inputs, self.output, ""}:
            raise ValueError(f"scalars may not be named {', '.join(map(repr, sorted(taken)))}")
        return self

    def spec(self) -> ModelSpec:
        """Add all that schema 1 leaves unsaid."""
        scalars = {
            name: ScalarInput(**value.model_dump(), fed_by=implied_feeder(name)) for name, value in self.scalars.items()
        }
        about = self.model_dump(exclude={"inputs", "scalars", "output"})
        return ModelSpec(inputs={**_IMAGES, **scalars}, **about)


def implied_feeder(name: str) -> Feeder:
    """Say who feeds a scalar of this name in schema 1, which leaves that unsaid."""
    return cast(Feeder, name) if name in SCENE_MEANS else "user"


def read_spec(path: Path) -> ModelSpec:
    """The contract of the model in ``path``, checked against the graph that it is stored with.

    Raises:
        ModelError: there is no such file, it is no ONNX model, it carries no contract or one that this version cannot
            read, or its graph is not the one the contract was written for.
    """
    spec = find_spec(path)
    if spec is None:
        raise ModelError(f"{path} carries no contract (no {PREFIX}* metadata); export it with rtfusion's trainer")
    return spec


def find_spec(path: Path) -> ModelSpec | None:
    """Read the contract of any whole ONNX model; None for one without.

    Raises:
        ModelError: as `read_spec`, but for a missing contract.
    """
    file = onnx_file.load(path)
    texts = {key.removeprefix(PREFIX): text for key, text in file.metadata.items() if key.startswith(PREFIX)}
    if not texts:
        return None
    schema, contract = _contract(texts, path=path)
    spec = checked_contract(contract, parse=_parser(schema), file=file, path=path, prefix=PREFIX)
    return spec.model_copy(update={"id": hashlib.sha256(file.data).hexdigest()[:ID_LENGTH]})


def _parser(schema: int) -> Callable[[str], ModelSpec]:
    return ModelSpec.model_validate_json if schema != 1 else lambda text: _Schema1.model_validate_json(text).spec()


def _contract(texts: Mapping[str, str], *, path: Path) -> tuple[int, str]:
    """The schema, and one JSON object of all other values."""
    values: dict[str, Any] = {}
    for key, text in texts.items():
        try:
            values[key] = json.loads(text, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise ModelError(f"{path}: the value of {PREFIX}{key} is not JSON: {error}") from error
    schema = values.get("schema")
    if schema not in SCHEMAS or not isinstance(schema, int) or isinstance(schema, bool):
        raise ModelError(
            f"{path} has contract schema {schema}, this version reads {' and '.join(map(str, SCHEMAS))}: "
            "install a matching rtfusion"
        )
    if "id" in texts:
        raise ModelError(f"{path} stores {PREFIX}id, but the id is made from the file; export it again")
    # Joined as text: each one is whole JSON, and numbers stay as they were written.
    joined = ", ".join(f"{json.dumps(key)}: {text}" for key, text in texts.items() if key != "schema")
    return schema, f"{{{joined}}}"


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number of JSON")


def _fits_schema_1(spec: ModelSpec) -> bool:
    is_plain = not spec.maps and not spec.states and spec.outputs == _FUSED
    return is_plain and all(scalar.fed_by == implied_feeder(name) for name, scalar in spec.scalars.items())


def _problems(spec: ModelSpec) -> Iterator[str]:
    """Say what does not hold between the inputs, the outputs and the stride."""
    images = [name for name, port in spec.inputs.items() if isinstance(port, ImageInput)]
    if {*images} != {*IMAGE_INPUTS}:
        yield f"the images among the inputs are {', '.join(images) or 'none'}; expected {' and '.join(IMAGE_INPUTS)}"
    images = [name for name, port in spec.outputs.items() if port.kind == "image"]
    if images != [OUTPUT] or spec.outputs[OUTPUT] != _FUSED[OUTPUT]:
        yield f"the images among the outputs are {', '.join(images) or 'none'}; expected {OUTPUT}, of 1 channel and scale 1"
    if taken := ({*spec.inputs} & {*spec.outputs}) | ({*spec.inputs, *spec.outputs} & {""}):
        yield f"the name {min(taken)!r} is empty, or that of an input and of an output; expected names of their own"
    for name, port in {**spec.inputs, **spec.outputs}.items():
        if isinstance(port, _Plane) and spec.stride % port.scale:
            yield f"{name} has the scale {port.scale}, which does not divide the stride {spec.stride}"
    yield from _problems_of_states(spec)


def _problems_of_states(spec: ModelSpec) -> Iterator[str]:
    """Say what does not hold between the states that go in and those that come out."""
    given = {name: port for name, port in spec.outputs.items() if port.kind == "state"}
    for name, state in spec.states.items():
        source = given.get(state.fed_from)
        if source is None:
            names = ", ".join(given) or "none"
            yield f"{name} is fed from {state.fed_from!r}, which is no output of kind state; there are {names}"
        elif (source.channels, source.scale) != (state.channels, state.scale):
            yield (
                f"{name} has {state.channels} channels at scale {state.scale}, but {state.fed_from}, which feeds it, "
                f"has {source.channels} at scale {source.scale}"
            )
    fed = [state.fed_from for state in spec.states.values()]
    for name in given:
        if fed.count(name) != 1:
            yield f"the output {name} of kind state feeds {fed.count(name)} states; expected one"
