"""The head that comes with rtfusion: a small network that sees both bands at a quarter of the resolution, every few frames."""

from __future__ import annotations

import math
import threading
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from rtfusion.clock import NS_PER_MS
from rtfusion.engines import Engine, Tensor, open_engine_for
from rtfusion.errors import EngineError
from rtfusion.focus.base import Map, Maps, map_shape
from rtfusion.focus.spec import MAPS, SHIPPED, read_head_spec
from rtfusion.registration import RegisteredPair
from rtfusion.types import Image8

EVERY = 6
"""It looks at every so-many-th frame; in between its last maps hold."""
OLDEST_NS = 200 * NS_PER_MS
"""Of slow streams it looks at more: unless told otherwise, its maps get no older than this."""


class Head:
    """A network that finds people and vehicles. It is opened when it is first needed, or by `prepare`.

    Args:
        engine: see `rtfusion.engines.open_engine_for`.
        threads: for the engine.
        every: frames from one look to the next; None for `EVERY`, or fewer, as `OLDEST_NS` says.
        but: targets that somebody else finds.
        model: ONNX file with the contract of `rtfusion.focus.spec`.

    Raises:
        ModelError: the file is no such head.
    """

    name = "head"

    def __init__(
        self,
        *,
        engine: str = "auto",
        threads: int | None = None,
        every: int | None = None,
        model: Path = SHIPPED,
        but: Collection[str] = (),
    ) -> None:
        self._spec = read_head_spec(model)
        self._model, self._engine_name, self._threads = model, engine, threads
        self._every = EVERY if every is None else every
        self._oldest_ns = OLDEST_NS if every is None else math.inf
        self.targets: Collection[str] = tuple(target for target in self._spec.targets if target not in but)
        self.runs = 0
        self.age_ns: int | None = None
        self._opening = threading.Lock()
        self._opened: _Opened | None = None
        self._closed = False
        self._waited = 0
        self._timestamp_ns = 0
        self._shape = 0, 0
        self._maps: dict[str, Map] = {}

    def prepare(self, shape: tuple[int, ...]) -> None:
        """Open the engine for pictures of this (H, W), ahead of the first one.

        Raises:
            EngineUnavailable, ModelError, EngineError: it cannot be opened.
        """
        self._open(map_shape(shape))

    def _open(self, size: tuple[int, int]) -> _Opened:
        with self._opening:
            if self._closed:
                raise EngineError("the head that finds targets is closed; open another one")
            if self._opened is not None and self._opened.shape == size:
                return self._opened
            height, width = (side + -side % self._spec.stride for side in size)
            engine = open_engine_for(
                self._engine_name,
                model=self._model,
                contract=self._spec,
                size_px=(width, height),
                threads=self._threads,
            )
            fed = {name: np.zeros((1, 1, height, width), np.float32) for name in self._spec.inputs}
            self._opened = _Opened(engine, fed, size)
            return self._opened

    def maps(self, registered: RegisteredPair) -> Maps:
        """See `rtfusion.focus.base.FocusProvider`."""
        shape, timestamp_ns = map_shape(registered.thermal.shape), registered.pair.timestamp_ns
        self._waited += 1
        is_new = not self._maps or shape != self._shape or timestamp_ns < self._timestamp_ns
        if is_new or self._waited >= self._every or timestamp_ns - self._timestamp_ns >= self._oldest_ns:
            self._maps = self._look(registered)
            self._shape, self._timestamp_ns, self._waited = shape, timestamp_ns, 0
            self.runs += 1
        self.age_ns = timestamp_ns - self._timestamp_ns
        return self._maps

    def close(self) -> None:
        """Release the network. Idempotent."""
        with self._opening:
            self._closed = True
            if self._opened is not None:
                self._opened.engine.close()

    def _look(self, registered: RegisteredPair) -> dict[str, Map]:
        opened = self._open(map_shape(registered.thermal.shape))
        _fill(opened.fed["visible_y"], registered.visible, size=opened.shape)
        _fill(opened.fed["thermal"], registered.thermal, size=opened.shape)
        made = opened.engine.run(inputs=opened.fed)[MAPS][0]
        height, width = opened.shape
        # the buffers are the engine's, and the maps from before are still held by whoever asked
        channels = {name: made[index] for index, name in enumerate(self._spec.targets) if name in self.targets}
        return {name: channel[:height, :width].copy() for name, channel in channels.items()}


class _Opened(NamedTuple):
    """An engine for maps of one (h, w), and the arrays that it is fed with."""

    engine: Engine
    fed: dict[str, Tensor]
    shape: tuple[int, int]


def _fill(tensor: Tensor, image: Image8, *, size: tuple[int, int]) -> None:
    """The luminance of a picture in [0, 1] at a quarter of its resolution, the rest by repeating the edge."""
    smaller = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
    gray = cv2.cvtColor(smaller, cv2.COLOR_BGR2GRAY) if smaller.ndim == 3 else smaller
    plane = tensor[0, 0]
    height, width = size
    np.multiply(gray, np.float32(1 / 255), out=plane[:height, :width])
    plane[:height, width:] = plane[:height, width - 1 : width]
    plane[height:] = plane[height - 1]
