"""All providers of a run as one: whoever knows a target is asked, and what they say is put together."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from rtfusion.clock import NS_PER_MS
from rtfusion.focus.base import PEOPLE, VEHICLES, FocusProvider, Map, Maps, map_shape
from rtfusion.focus.boxes import Box
from rtfusion.focus.given import Drawn, Reported
from rtfusion.registration import RegisteredPair
from rtfusion.smoothing import SmoothingWeight
from rtfusion.telemetry import Telemetry

EASE_S = 0.1
"""Time constant with which maps follow what providers say: nothing appears or goes in one frame."""
FAINT = 0.01
"""A map that is nowhere above this is let go."""
FORGET_NS = 1000 * NS_PER_MS
"""After a gap of more than this maps start anew."""


class Focus:
    """The maps of a run. `maps` is for the thread that fuses; any thread may `draw` and `report`.

    Args:
        providers: beside the rectangles of a person and the reports of subscribers, which are always there; closed with this.
        always: targets that are wanted whatever the viewer wishes, to publish them or because they were asked for by name.
        still: for unrelated pictures, of which none is remembered for the next.
    """

    def __init__(
        self,
        *,
        telemetry: Telemetry,
        providers: Sequence[FocusProvider] = (),
        always: Collection[str] = (),
        still: bool = False,
    ) -> None:
        self._drawn, self._reported = Drawn(), Reported()
        self._providers: tuple[FocusProvider, ...] = (*providers, self._drawn, self._reported)
        self._telemetry = telemetry
        self._always = frozenset(always)
        self._weight = SmoothingWeight(time_constant_s=0.0 if still else EASE_S)
        self._maps: dict[str, Map] = {}
        self._runs: dict[str, int] = {}
        """What each had done when it was asked last: who is told does so between two frames."""
        self._shape: tuple[int, ...] = ()
        self._timestamp_ns = 0

    @property
    def regions(self) -> tuple[Box, ...]:
        """The rectangles that a person drew."""
        return self._drawn.boxes

    def draw(self, boxes: Sequence[Box]) -> None:
        """Take these rectangles of a person instead of those from before; none takes them away.

        Raises:
            ConfigError: there are too many.
        """
        self._drawn.draw(boxes)

    def report(self, boxes: Sequence[Box], *, timestamp_ns: int) -> None:
        """Take what somebody found in the fused picture with this stamp.

        Raises:
            ConfigError: there are too many.
        """
        self._reported.report(boxes, timestamp_ns=timestamp_ns)

    def prepare(self, shape: tuple[int, ...], *, wanted: Collection[str] = ()) -> None:
        """Make those ready that know of a wanted target, for pictures of this (H, W), so that no frame waits. Any thread may.

        Raises:
            EngineUnavailable, ModelError, EngineError: a network cannot be opened.
        """
        sought = self._always.union(wanted)
        for provider in self._providers:
            if not sought.isdisjoint(provider.targets):
                provider.prepare(shape)

    def maps(self, registered: RegisteredPair, *, wanted: Collection[str] = ()) -> Maps:
        """The maps of the wanted targets, and of those that somebody named, for this pair; a target without one is nowhere.

        The arrays are the caller's until the next call.

        Raises:
            EngineError: a network failed.
        """
        told = {target for provider in (self._drawn, self._reported) for target in provider.targets}
        sought = self._always.union(told - {PEOPLE, VEHICLES}, wanted)
        if not sought:
            self._maps.clear()
            return {}
        self._say_what_nobody_seeks(sought)
        found = self._found(registered, sought)
        return self._eased(found, registered)

    def close(self) -> None:
        """Close the providers. Idempotent."""
        for provider in self._providers:
            provider.close()

    def _say_what_nobody_seeks(self, sought: Collection[str]) -> None:
        sought_by_one = {target for provider in self._providers for target in provider.targets}
        for target in sorted({*sought} - sought_by_one):
            self._telemetry.note(
                f"nothing here looks for {target}, so nothing of it is brought out: name a detector with --focus-detector, "
                "draw a rectangle, or send boxes"
            )

    def _found(self, registered: RegisteredPair, sought: frozenset[str]) -> dict[str, Map]:
        """What all providers say, put together by the maximum."""
        found: dict[str, Map] = {}
        for provider in self._providers:
            if sought.isdisjoint(provider.targets):
                continue
            for name, one in provider.maps(registered).items():
                if name in sought:
                    found[name] = np.maximum(found[name], one) if name in found else one
            runs = provider.runs
            new = runs - self._runs.get(provider.name, 0)
            self._runs[provider.name] = runs
            self._telemetry.focused(provider.name, runs=new, age_ns=provider.age_ns)
        return found

    def _eased(self, found: Mapping[str, Map], registered: RegisteredPair) -> Maps:
        """The maps on their way to what was found: a copy of it at first, then a step nearer with every frame."""
        timestamp_ns, shape = registered.pair.timestamp_ns, registered.thermal.shape
        if shape != self._shape or not 0 <= timestamp_ns - self._timestamp_ns <= FORGET_NS:
            self._maps.clear()
            self._weight.reset()
        self._shape, self._timestamp_ns = shape, timestamp_ns
        weight = np.float32(self._weight.advance(timestamp_ns))
        nowhere = np.zeros(map_shape(shape), np.float32)
        eased = {
            name: (1 - weight) * self._maps.get(name, nowhere) + weight * found.get(name, nowhere)
            for name in {**self._maps, **found}
        }
        self._maps = {name: one for name, one in eased.items() if name in found or float(one.max()) > FAINT}
        return self._maps
