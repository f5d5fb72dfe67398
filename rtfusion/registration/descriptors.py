"""The learned matcher: a descriptor for every cell of a picture, the same in both bands where they see the same thing.

Its file takes ``visible_y`` and ``thermal``, float32 (1, 1, h, w) in [0, 1], the ranks of gray levels, h and w dynamic multiples
of `CELL_PX`, and gives ``visible_descriptors`` and ``thermal_descriptors``, float32 (1, channels, h / 4, w / 4). The product of
two of them is the logit of their being of one thing. One entry of its ``metadata_props``,
``rtfusion-matcher``, holds the rest as JSON::

    {"schema": 1, "name": "small", "channels": 32, "training_commit": "...", "data": ["M3SVD (MIT)"], "license": "Apache-2.0",
     "scores": {"found": 0.5}, "checksum": "..."}
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, cast

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from rtfusion.engines import Engine, Tensor, open_engine_for
from rtfusion.models import ImageInput, Output
from rtfusion.models.contract import read_contract
from rtfusion.registration.structure import Points
from rtfusion.types import Image8

CELL_PX = 4
"""Side of a cell: there is one descriptor for each."""
KEY = "rtfusion-matcher"
VISIBLE, THERMAL = "visible_descriptors", "thermal_descriptors"
SHIPPED = Path(str(importlib.resources.files("rtfusion.models"))) / "matcher-small.onnx"
"""The matcher that comes with rtfusion."""
Descriptors = npt.NDArray[np.float32]
"""(rows, columns, channels), one for each cell."""


class MatcherSpec(BaseModel):
    """What a matcher gives, and where it comes from."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    schema_: Annotated[Literal[1], Field(alias="schema")] = 1
    name: Annotated[str, Field(min_length=1)]
    channels: Annotated[int, Field(ge=1, le=256)]
    """Numbers of a descriptor."""
    training_commit: str
    data: tuple[str, ...]
    """The sets it was trained on, each with its terms."""
    license: str
    scores: dict[str, float] = {}
    """What was measured on pairs that it did not learn from."""
    checksum: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """SHA-256 of the serialized graph: see `rtfusion.models.onnx_file.graph_checksum`."""

    @property
    def inputs(self) -> Mapping[str, ImageInput]:
        """Both bands."""
        return {"visible_y": ImageInput(), "thermal": ImageInput()}

    @property
    def outputs(self) -> Mapping[str, Output]:
        """The descriptors of both bands."""
        port = Output(kind="other", channels=self.channels, scale=CELL_PX)
        return {VISIBLE: port, THERMAL: port}

    def metadata(self) -> dict[str, str]:
        """Key and value for the ``metadata_props`` of the ONNX file."""
        return {KEY: self.model_dump_json(by_alias=True)}


def read_matcher_spec(path: Path) -> MatcherSpec:
    """The contract of the matcher in ``path``, checked against the graph that it is stored with.

    Raises:
        ModelError: there is no such file, it is no ONNX model, it is no matcher, or its graph is another one.
    """
    return read_contract(path, key=KEY, parse=MatcherSpec.model_validate_json, what="matcher")


class Described(NamedTuple):
    """The descriptors of a pair of pictures."""

    visible: Descriptors
    thermal: Descriptors


class Describer:
    """Runs a matcher. One engine is open at a time, for the size of the latest pictures; used by one thread at a time.

    Args:
        engine: see `rtfusion.engines.open_engine_for`.
        threads: for the engine.
        model: ONNX file with the contract of this module.

    Raises:
        ModelError: the file is no such matcher.
    """

    def __init__(self, *, engine: str = "auto", threads: int | None = None, model: Path = SHIPPED) -> None:
        self._spec = read_matcher_spec(model)
        self._model, self._engine_name, self._threads = model, engine, threads
        self._engine: Engine | None = None
        self._fed: dict[str, Tensor] = {}
        self._size_px = 0, 0

    def __call__(self, *, visible: Image8, thermal: Image8) -> Described:
        """Describe both pictures, (H, W) ranks of gray levels (`rtfusion.registration.structure.equalized`), of any sizes.

        Cells that are not wholly within a picture are left out.

        Raises:
            EngineUnavailable, ModelError, EngineError: the engine cannot be opened, or failed.
        """
        pictures = {"visible_y": visible, "thermal": thermal}
        width, height = (max(image.shape[axis] for image in pictures.values()) for axis in (1, 0))
        engine = self._opened((width + -width % CELL_PX, height + -height % CELL_PX))
        for name, image in pictures.items():
            _fill(self._fed[name][0, 0], image)
        made = engine.run(inputs=self._fed)
        return Described(_cells(made[VISIBLE], visible), _cells(made[THERMAL], thermal))

    def close(self) -> None:
        """Release the network. Idempotent."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def _opened(self, size_px: tuple[int, int]) -> Engine:
        if self._engine is None or self._size_px != size_px:
            self.close()
            self._engine = open_engine_for(
                self._engine_name, model=self._model, contract=self._spec, size_px=size_px, threads=self._threads
            )
            self._size_px = size_px
            self._fed = {name: np.zeros((1, 1, *size_px[::-1]), np.float32) for name in self._spec.inputs}
        return self._engine


def cell_centers_px(size_px: tuple[int, int]) -> Points:
    """(cells, 2) the middle of every whole cell of a picture of (width, height), row by row, in pixels."""
    sides = [np.arange(side // CELL_PX) * CELL_PX + (CELL_PX - 1) / 2 for side in size_px]
    return np.stack(np.meshgrid(*sides), axis=2).reshape(-1, 2)


def _fill(plane: npt.NDArray[np.float32], image: Image8) -> None:
    """The picture in [0, 1]; to the right and below of it its edge, repeated."""
    height, width = image.shape
    bottom, right = plane.shape[0] - height, plane.shape[1] - width
    whole = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_REPLICATE) if bottom or right else image
    np.multiply(whole, np.float32(1 / 255), out=plane)


def _cells(made: Tensor, image: Image8) -> Descriptors:
    """A copy, since the buffer is the engine's."""
    height, width = (side // CELL_PX for side in image.shape)
    return cast(Descriptors, np.ascontiguousarray(made[0, :, :height, :width].transpose(1, 2, 0)))
