"""The contract of a head, the small network that finds targets, stored inside its ONNX file (docs/focus.md).

The file takes both registered bands, ``visible_y`` and ``thermal``, float32 (1, 1, h, w) in [0, 1] at a quarter of the resolution
of the picture, h and w dynamic multiples of ``stride``, and gives ``maps``, float32 (1, targets, h, w) in [0, 1]. One entry of
its ``metadata_props``, ``rtfusion-focus``, holds the rest as JSON::

    {"schema": 1, "name": "small", "targets": ["people", "vehicles"], "stride": 4, "training_commit": "...",
     "data": ["MSRS, training part, with boxes"], "license": "Apache-2.0", "scores": {"people": 0.5}, "checksum": "..."}
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from rtfusion.models import ImageInput, Output
from rtfusion.models.contract import read_contract

KEY = "rtfusion-focus"
MAPS = "maps"
SHIPPED = Path(str(importlib.resources.files("rtfusion.models"))) / "focus-small.onnx"
"""The head that comes with rtfusion."""


class HeadSpec(BaseModel):
    """What a head finds, and where it comes from."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    schema_: Annotated[Literal[1], Field(alias="schema")] = 1
    name: Annotated[str, Field(min_length=1)]
    targets: Annotated[tuple[str, ...], Field(min_length=1, max_length=16)]
    """The maps that it gives, in their order."""
    stride: Annotated[int, Field(ge=1, le=64)]
    """Height and width of what goes in are multiples of this; the runtime pads by repeating the edge."""
    training_commit: str
    data: tuple[str, ...]
    """The sets it was trained on, each with its terms."""
    license: str
    scores: dict[str, float] = {}
    """Intersection over union with the filled boxes of pictures that it did not learn from, by target."""
    checksum: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """SHA-256 of the serialized graph: see `rtfusion.models.onnx_file.graph_checksum`."""

    @property
    def inputs(self) -> Mapping[str, ImageInput]:
        """Both bands, at a quarter of the resolution."""
        return {"visible_y": ImageInput(), "thermal": ImageInput()}

    @property
    def outputs(self) -> Mapping[str, Output]:
        """The maps, one channel a target."""
        return {MAPS: Output(kind="mask", channels=len(self.targets))}

    def metadata(self) -> dict[str, str]:
        """Key and value for the ``metadata_props`` of the ONNX file."""
        return {KEY: self.model_dump_json(by_alias=True)}


def read_head_spec(path: Path) -> HeadSpec:
    """The contract of the head in ``path``, checked against the graph that it is stored with.

    Raises:
        ModelError: there is no such file, it is no ONNX model, it is no head, or its graph is another one.
    """
    return read_contract(path, key=KEY, parse=HeadSpec.model_validate_json, what="head that finds targets")
