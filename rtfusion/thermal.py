"""Thermal counts to grey levels: gain control with memory, never a stretch of the present frame alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

import cv2
import numpy as np

from rtfusion.clock import NS_PER_S
from rtfusion.errors import ConfigError
from rtfusion.types import Image, Image8

LOW_PERCENT, HIGH_PERCENT = 1.0, 99.5
TIME_CONSTANT_S = 2.0
"""A hot object that enters the view re-tones the picture over seconds, not at once."""
LEAST_SPAN_COUNTS = 64.0
"""A scene of one temperature is shown flat instead of as amplified noise."""
SAMPLE_STEP = 4
"""Percentiles are taken on every fourth row and column: the same to well under one grey level, at a sixteenth of the cost."""


class SlowValue:
    """A number that follows its input with a time constant: v += (1 - exp(-dt / tau)) (x - v).

    The first value is taken as it is, and so is every value when ``time_constant_s`` is 0 (unrelated stills).
    """

    def __init__(self, *, time_constant_s: float) -> None:
        self._tau_ns = time_constant_s * NS_PER_S
        self._value: float | None = None
        self._timestamp_ns = 0

    def follow(self, value: float, *, timestamp_ns: int) -> float:
        """Move towards ``value`` and return where it is now."""
        step_ns = timestamp_ns - self._timestamp_ns
        if self._value is None or self._tau_ns <= 0 or step_ns < 0:
            self._value = value
        else:
            self._value += (1.0 - math.exp(-step_ns / self._tau_ns)) * (value - self._value)
        self._timestamp_ns = timestamp_ns
        return self._value


class GainControl:
    """Maps GRAY16 counts linearly onto 0..255 between two end points; GRAY8 passes unchanged.

    ``percentile``: the end points follow the 1st and 99.5th percentile of the counts with a time constant.
    ``fixed``: the end points are given.
    """

    def __init__(
        self,
        *,
        mode: str = "percentile",
        low_counts: float | None = None,
        high_counts: float | None = None,
        time_constant_s: float = TIME_CONSTANT_S,
    ) -> None:
        if mode not in {"percentile", "fixed"}:
            raise ConfigError(f"gain is {mode!r}; expected percentile or fixed")
        if mode == "fixed" and (low_counts is None or high_counts is None or low_counts >= high_counts):
            raise ConfigError(
                f"fixed gain needs gain_low < gain_high in counts; got gain_low={low_counts}, gain_high={high_counts}"
            )
        self._mode = mode
        self._low = SlowValue(time_constant_s=time_constant_s)
        self._high = SlowValue(time_constant_s=time_constant_s)
        self._ends_counts: tuple[float, float] | None = None
        if low_counts is not None and high_counts is not None and mode == "fixed":
            self._ends_counts = (low_counts, high_counts)

    @property
    def state(self) -> Mapping[str, float | str]:
        """Mode and end points in counts, for the frames that are published; empty while only GRAY8 came."""
        if self._ends_counts is None:
            return {}
        low, high = self._ends_counts
        return {"gain": self._mode, "low_counts": low, "high_counts": high}

    def __call__(self, counts: Image, *, timestamp_ns: int) -> Image8:
        """(H, W) uint16 counts to (H, W) uint8; an (H, W) uint8 image is returned as it is."""
        if counts.dtype == np.uint8:
            return cast(Image8, counts)
        if self._mode == "percentile":
            self._ends_counts = self._follow(counts, timestamp_ns)
        assert self._ends_counts is not None  # noqa: S101 - set above, or by the constructor for fixed
        low, high = self._ends_counts
        # subtract saturates at 0, so counts below the low end are black; convertScaleAbs saturates at 255
        above = cv2.subtract(counts, cast(Any, (math.floor(low),)))
        return cast(Image8, cv2.convertScaleAbs(above, alpha=255.0 / (high - low)))

    def _follow(self, counts: Image, timestamp_ns: int) -> tuple[float, float]:
        low, high = np.percentile(counts[::SAMPLE_STEP, ::SAMPLE_STEP], (LOW_PERCENT, HIGH_PERCENT))
        missing = LEAST_SPAN_COUNTS - (high - low)
        if missing > 0:
            low, high = low - missing / 2, high + missing / 2
        return (
            self._low.follow(max(float(low), 0.0), timestamp_ns=timestamp_ns),
            self._high.follow(float(high), timestamp_ns=timestamp_ns),
        )
