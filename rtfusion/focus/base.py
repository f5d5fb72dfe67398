"""Where the targets of a wish are: maps over the picture, and the protocol of whoever makes them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from rtfusion.registration import RegisteredPair

Map: TypeAlias = npt.NDArray[np.float32]
"""(ceil(H / 4), ceil(W / 4)) over the picture, from 0 where the target is not to 1 on it, with a soft edge."""
Maps: TypeAlias = Mapping[str, Map]
"""A map by the name of its target."""

SCALE = 4
"""One value of a map stands for a square of this many pixels a side."""
PEOPLE, VEHICLES = "people", "vehicles"
"""The targets that have an axis among the intents."""


class FocusProvider(Protocol):
    """One way to know where targets are. Used by the thread that fuses."""

    name: str
    """For tables: ``head``, ``detector``, ``drawn``, ``subscriber``."""

    @property
    def targets(self) -> Collection[str]:
        """The targets that it can find, or that it knows of now."""
        ...

    @property
    def runs(self) -> int:
        """The number of pictures that it has looked at, or of reports that it was given."""
        ...

    def prepare(self, shape: tuple[int, ...]) -> None:
        """Make ready for pictures of this (H, W), so that no frame waits. Any thread may call it ahead of `maps`.

        Raises:
            EngineUnavailable, ModelError, EngineError: a network cannot be opened.
        """
        ...

    def maps(self, registered: RegisteredPair) -> Maps:
        """The maps of the targets that it knows of, for the picture of this pair; they may be those of an older one.

        A target without a map is nowhere. The arrays are valid until the next call.

        Raises:
            EngineError: its network failed.
        """
        ...

    @property
    def age_ns(self) -> int | None:
        """The age of the last maps: the stamp of the pair less that of the picture that they were made of; None without any."""
        ...

    def close(self) -> None:
        """Release what it holds, and end its threads. Idempotent."""
        ...


def map_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """The shape of a map over a picture of this (H, W) or (H, W, 3)."""
    return -(-shape[0] // SCALE), -(-shape[1] // SCALE)
