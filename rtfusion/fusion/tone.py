"""Tone mapping of thermal counts: gain control with memory, never a stretch of the present frame alone; and temperatures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt

from rtfusion.errors import ConfigError
from rtfusion.fusion.curve import SceneCurve
from rtfusion.smoothing import SmoothingWeight
from rtfusion.types import Image, Image8

MODES = ("scene", "percentile", "plateau", "fixed")
UNITS = ("celsius", "fahrenheit", "kelvin", "counts")
LOW_PERCENT, HIGH_PERCENT = 1.0, 99.5
TIME_CONSTANT_S = 2.0
"""A hot object that enters the view re-tones the picture over seconds, not at once."""
LEAST_SPAN_COUNTS = 64.0
"""A scene of one temperature is shown flat instead of as amplified noise."""
SAMPLE_STEP = 4
"""Percentiles are taken on every fourth row and column: the same to well under one grey level, at a sixteenth of the cost."""
CURVE_BINS = 256
PLATEAU = 4.0
"""Plateau equalization gives no range of counts more than about this many times the contrast that a linear map would."""
LINEAR_SHARE = 0.25
"""Part of the linear map in plateau equalization: counts that nothing in the scene has keep some contrast."""

Curve = npt.NDArray[np.float64]


class GainControl:
    """Maps GRAY16 counts onto 0..255 between two end points; GRAY8 passes with its levels as they are.

    ``scene``: a curve that gives contrast to what the scene consists of, and no more of it than the noise allows, so that neither
    something hot takes it from the rest nor a scene of one temperature turns to snow (`rtfusion.fusion.curve`).
    ``percentile``: linear; the end points follow the 1st and 99.5th percentile of the counts with a time constant.
    ``plateau``: the same end points, and between them a curve that gives contrast where the scene has many counts: the
    cumulative histogram, clipped at a plateau, blended with the linear map, and with the same memory.
    ``fixed``: linear; the end points are given.

    Scenes whose range lies wholly outside of the present one (the camera switched its gain) are followed at once.
    ``black_hot`` turns the result round, GRAY8 included: hot is dark.
    """

    def __init__(
        self,
        *,
        mode: str = "scene",
        low_counts: float | None = None,
        high_counts: float | None = None,
        black_hot: bool = False,
        time_constant_s: float = TIME_CONSTANT_S,
    ) -> None:
        if mode not in MODES:
            raise ConfigError(f"gain is {mode!r}; expected one of {', '.join(MODES)}")
        if mode == "fixed" and (low_counts is None or high_counts is None or low_counts >= high_counts):
            raise ConfigError(
                f"fixed gain needs gain_low < gain_high in counts; got gain_low={low_counts}, gain_high={high_counts}"
            )
        self._mode = mode
        self._black_hot = black_hot
        self._weight = SmoothingWeight(time_constant_s=time_constant_s)
        self._curve: Curve = np.linspace(0.0, 1.0, CURVE_BINS + 1)
        self._table: Image8 | None = None
        self._scene = SceneCurve(time_constant_s=time_constant_s) if mode == "scene" else None
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

    def __call__(self, counts: Image, *, timestamp_ns: int, hold: bool = False) -> Image8:
        """(H, W) uint16 counts to (H, W) uint8; an (H, W) uint8 image is returned as it is, unless black-hot.

        ``hold`` keeps the end points and the curve: the image is not of the scene as it is now.
        """
        self.follow(counts, timestamp_ns=timestamp_ns, hold=hold)
        return self.toned(counts)

    def follow(self, counts: Image, *, timestamp_ns: int, hold: bool = False) -> None:
        """Move the end points and the curve towards what an image asks for, as `__call__` does, and tone nothing."""
        if counts.dtype == np.uint8 or (self._mode == "fixed" and self._ends_counts is not None):
            return
        if hold and self._ends_counts is not None:
            self._pause(timestamp_ns)
        elif self._scene is not None:
            self._scene.follow(counts, timestamp_ns=timestamp_ns)
            self._ends_counts = self._scene.ends_counts
        else:
            self._ends_counts = self._follow(counts[::SAMPLE_STEP, ::SAMPLE_STEP], timestamp_ns)

    def toned(self, counts: Image) -> Image8:
        """(H, W) uint16 counts to (H, W) uint8 as the curve is now; uint8 as `__call__`.

        Raises:
            ValueError: no image of counts came yet.
        """
        if counts.dtype == np.uint8:
            return self._polarized(cast(Image8, counts))
        if self._ends_counts is None:
            raise ValueError("there is no curve before the first image of counts")
        if self._scene is not None:
            return self._polarized(self._scene(counts))
        low, high = self._ends_counts
        # subtract saturates at 0, so counts below the low end are black; convertScaleAbs saturates at 255
        above = cv2.subtract(counts, cast(Any, (math.floor(low),)))
        if self._table is not None:
            return self._polarized(self._table.take(np.minimum(above, len(self._table) - 1)))
        return self._polarized(cast(Image8, cv2.convertScaleAbs(above, alpha=255.0 / (high - low))))

    def _pause(self, timestamp_ns: int) -> None:
        """Let time go by: that of a pause must not be made up for at its end."""
        if self._scene is not None:
            self._scene.pause(timestamp_ns)
        else:
            self._weight.advance(timestamp_ns)

    def _polarized(self, toned: Image8) -> Image8:
        return cast(Image8, cv2.bitwise_not(toned)) if self._black_hot else toned

    def _follow(self, sample: Image, timestamp_ns: int) -> tuple[float, float]:
        """Move the curve of ``plateau`` towards what the sample asks for, and return the end points, moved likewise."""
        low, high = _span(sample)
        if self._ends_counts is not None and (high <= self._ends_counts[0] or low >= self._ends_counts[1]):
            self._weight.reset()
        weight = self._weight.advance(timestamp_ns)
        if weight < 1.0 and self._ends_counts is not None:
            was_low, was_high = self._ends_counts
            low, high = was_low + weight * (low - was_low), was_high + weight * (high - was_high)
        if self._mode == "plateau":
            self._curve = self._curve + weight * (_plateau_curve(sample, low, high) - self._curve)
            levels = np.arange(math.floor(low), math.ceil(high) + 1)
            curve = np.interp(levels, np.linspace(low, high, CURVE_BINS + 1), self._curve)
            self._table = np.rint(255.0 * curve).astype(np.uint8)
        return low, high


def _span(sample: Image) -> tuple[float, float]:
    low, high = np.percentile(sample, (LOW_PERCENT, HIGH_PERCENT))
    missing = LEAST_SPAN_COUNTS - (high - low)
    if missing > 0:
        low, high = low - missing / 2, high + missing / 2
    return max(float(low), 0.0), float(high)


def _plateau_curve(sample: Image, low: float, high: float) -> Curve:
    """The clipped cumulative histogram of the counts between the end points: CURVE_BINS + 1 levels from 0 to 1, rising."""
    shares = np.histogram(sample, bins=CURVE_BINS, range=(low, high))[0] / sample.size
    clipped = np.minimum(shares, PLATEAU / CURVE_BINS)
    total = float(clipped.sum())
    linear = np.full(CURVE_BINS, 1.0 / CURVE_BINS)
    blended = linear if total == 0.0 else LINEAR_SHARE * linear + (1.0 - LINEAR_SHARE) * clipped / total
    return np.concatenate([[0.0], np.cumsum(blended)])


def in_units(counts: float, *, units: str, kelvin_per_count: float | None) -> float | None:
    """A count as a temperature, or as it is; None for a temperature where the camera gives none."""
    if units == "counts":
        return float(counts)
    if kelvin_per_count is None:
        return None
    kelvin = counts * kelvin_per_count
    return {"kelvin": kelvin, "celsius": kelvin - 273.15, "fahrenheit": (kelvin - 273.15) * 1.8 + 32.0}[units]
