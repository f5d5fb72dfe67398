"""Targets that are told and not looked for: rectangles that a person drew, and boxes that a subscriber found in the picture."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from rtfusion.clock import NS_PER_MS
from rtfusion.errors import ConfigError
from rtfusion.focus.base import Map, Maps
from rtfusion.focus.boxes import MAX_BOXES, Box, painted
from rtfusion.registration import RegisteredPair

FRESH_NS, GONE_NS = 300 * NS_PER_MS, 1000 * NS_PER_MS
"""Found boxes count in full up to the first age, and not at all from the second one on."""


class Drawn:
    """Rectangles of a person: they stay where they were drawn until they are drawn anew. Any thread may draw."""

    name = "drawn"

    def __init__(self) -> None:
        self.boxes: tuple[Box, ...] = ()
        self.runs = 0
        self._painted: tuple[tuple[Box, ...], tuple[int, ...], dict[str, Map]] = (), (), {}

    @property
    def targets(self) -> Collection[str]:
        """The targets that were named."""
        return {box.target for box in self.boxes}

    @property
    def age_ns(self) -> int | None:
        """They are never old."""
        return 0 if self.boxes else None

    def draw(self, boxes: Sequence[Box]) -> None:
        """Take these instead of those from before.

        Raises:
            ConfigError: there are too many.
        """
        self.boxes = checked(boxes)
        self.runs += 1

    def prepare(self, shape: tuple[int, ...]) -> None:
        """Have nothing to make ready."""

    def maps(self, registered: RegisteredPair) -> Maps:
        """See `rtfusion.focus.base.FocusProvider`."""
        boxes, shape = self.boxes, registered.thermal.shape
        if self._painted[:2] != (boxes, shape):
            self._painted = boxes, shape, painted(boxes, shape=shape)
        return self._painted[2]

    def close(self) -> None:
        """Hold nothing."""


class Found(NamedTuple):
    """What was found in a picture."""

    boxes: tuple[Box, ...]
    timestamp_ns: int
    """Of the picture."""


class Fading:
    """Maps of what was found: painted once, and fainter as it gets old. Used by the thread that fuses."""

    def __init__(self) -> None:
        self.age_ns: int | None = None
        """The age of the last maps; None without any."""
        self._painted: tuple[Found, tuple[int, ...], dict[str, Map]] | None = None

    def maps(self, found: Found | None, registered: RegisteredPair, *, fresh_ns: int = 0) -> Maps:
        """The maps for the picture of this pair, whole as `still_there` says; none where nothing was found, or too long ago."""
        self.age_ns = None
        if found is None:
            return {}
        age_ns, shape = registered.pair.timestamp_ns - found.timestamp_ns, registered.thermal.shape
        share = still_there(age_ns, fresh_ns=fresh_ns)
        if not share:
            return {}
        self.age_ns = age_ns
        if self._painted is None or self._painted[0] is not found or self._painted[1] != shape:
            self._painted = found, shape, painted(found.boxes, shape=shape)
        whole = self._painted[2]
        return whole if share == 1 else {name: one * share for name, one in whole.items()}


class Reported:
    """Boxes found in a picture of this run, by a subscriber for example. The last report counts, and what is old fades.

    Any thread may report. Boxes that are reported do not follow what moves: they count in full for `FRESH_NS`, and fade until
    `GONE_NS`.
    """

    def __init__(self, *, name: str = "subscriber") -> None:
        self.name = name
        self.runs = 0
        self._found = Found((), 0)
        self._fading = Fading()

    @property
    def targets(self) -> Collection[str]:
        """The targets of the last report."""
        return {box.target for box in self._found.boxes}

    @property
    def age_ns(self) -> int | None:
        """See `rtfusion.focus.base.FocusProvider`."""
        return self._fading.age_ns

    def report(self, boxes: Sequence[Box], *, timestamp_ns: int) -> None:
        """Take these, found in the picture of this stamp, instead of those from before.

        Raises:
            ConfigError: there are too many.
        """
        taken = checked(boxes)
        self.runs += 1
        self._found = Found(taken, timestamp_ns)

    def prepare(self, shape: tuple[int, ...]) -> None:
        """Have nothing to make ready."""

    def maps(self, registered: RegisteredPair) -> Maps:
        """See `rtfusion.focus.base.FocusProvider`."""
        found = self._found
        return self._fading.maps(found if found.boxes else None, registered)

    def close(self) -> None:
        """Hold nothing."""


def checked(boxes: Sequence[Box]) -> tuple[Box, ...]:
    """The boxes, if they are not too many.

    Raises:
        ConfigError: more than `MAX_BOXES`.
    """
    if len(boxes) > MAX_BOXES:
        raise ConfigError(f"{len(boxes)} boxes at a time; expected {MAX_BOXES} at most")
    return tuple(boxes)


def still_there(age_ns: int, *, fresh_ns: int = 0) -> float:
    """How much a box of this age counts, 0 to 1: all of it up to `FRESH_NS`, or ``fresh_ns``; nothing, where time went back."""
    if age_ns < 0:
        return 0.0
    late_ns = age_ns - max(FRESH_NS, fresh_ns)
    return min(max(1 - late_ns / (GONE_NS - FRESH_NS), 0.0), 1.0)
