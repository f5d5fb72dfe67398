"""Fusion without learning: average, maximum, pyramid."""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from rtfusion.smoothing import ExponentialAverage
from rtfusion.types import Image8

LEVELS = 4
DETAIL_GAIN = 1.1
BASE_CONTRAST = 1.25
SALIENCY_FLOOR = 8.0
"""Grey levels added to both saliencies: where both bands are near their mean, they count the same."""
MEAN_TIME_CONSTANT_S = 1.0
FRACTION_BITS = 5
"""The pyramids are 16-bit fixed point, in steps of 1/32 grey level: half the time of float32, and no rounding that shows."""

Plane16 = npt.NDArray[np.int16]


class Average:
    """(visible + thermal) / 2."""

    def __call__(self, *, visible_y: Image8, thermal: Image8, timestamp_ns: int) -> Image8:
        """(H, W) uint8 twice in, (H, W) uint8 out."""
        # a quarter on top rounds halves up; to even, as OpenCV does, would favor even levels and comb the histogram
        return cast(Image8, cv2.addWeighted(visible_y, 0.5, thermal, 0.5, 0.25))

    def close(self) -> None:
        """Holds nothing."""


class Maximum:
    """max(visible, thermal), pixel by pixel."""

    def __call__(self, *, visible_y: Image8, thermal: Image8, timestamp_ns: int) -> Image8:
        """(H, W) uint8 twice in, (H, W) uint8 out."""
        return cast(Image8, cv2.max(visible_y, thermal))

    def close(self) -> None:
        """Holds nothing."""


class Pyramid:
    """Details by largest magnitude over a Laplacian pyramid; the base weighted by saliency, its contrast raised.

    With V, T the coarsest levels of the two Gaussian pyramids and mV, mT their means::

        w    = (|V - mV| + 8) / (|V - mV| + |T - mT| + 16)
        B    = w V + (1 - w) T
        base = mB + 1.25 (B - mB)

    and each Laplacian detail is the one of larger magnitude, times 1.1. The three means have a memory of one second
    (``still=True``: none), so that one hot object that enters does not re-tone the picture at once.
    """

    def __init__(self, *, still: bool = False) -> None:
        tau_s = 0.0 if still else MEAN_TIME_CONSTANT_S
        self._visible_mean = ExponentialAverage(time_constant_s=tau_s)
        self._thermal_mean = ExponentialAverage(time_constant_s=tau_s)
        self._base_mean = ExponentialAverage(time_constant_s=tau_s)

    def __call__(self, *, visible_y: Image8, thermal: Image8, timestamp_ns: int) -> Image8:
        """(H, W) uint8 twice in, (H, W) uint8 out."""
        visible_levels = _gaussian_pyramid(visible_y)
        thermal_levels = _gaussian_pyramid(thermal)
        fused = self._base(visible_levels[-1], thermal_levels[-1], timestamp_ns)
        for level in range(len(visible_levels) - 2, -1, -1):
            size_px = visible_levels[level].shape[1], visible_levels[level].shape[0]
            detail = _larger(
                _detail(visible_levels[level], visible_levels[level + 1]),
                _detail(thermal_levels[level], thermal_levels[level + 1]),
            )
            fused = cast(Plane16, cv2.scaleAdd(detail, DETAIL_GAIN, cv2.pyrUp(fused, dstsize=size_px)))
        np.maximum(fused, 0, out=fused)  # convertScaleAbs saturates at 255 but mirrors at 0
        return cast(Image8, cv2.convertScaleAbs(fused, alpha=2.0**-FRACTION_BITS))

    def close(self) -> None:
        """Holds nothing."""

    def _base(self, visible: Plane16, thermal: Plane16, timestamp_ns: int) -> Plane16:
        v, t = (np.ldexp(plane.astype(np.float32), -FRACTION_BITS) for plane in (visible, thermal))
        from_mean_v = np.abs(v - self._visible_mean.follow(float(v.mean()), timestamp_ns=timestamp_ns)) + SALIENCY_FLOOR
        from_mean_t = np.abs(t - self._thermal_mean.follow(float(t.mean()), timestamp_ns=timestamp_ns)) + SALIENCY_FLOOR
        base = t + from_mean_v / (from_mean_v + from_mean_t) * (v - t)
        mean = self._base_mean.follow(float(base.mean()), timestamp_ns=timestamp_ns)
        return np.rint(np.ldexp(mean + BASE_CONTRAST * (base - mean), FRACTION_BITS)).astype(np.int16)


def _gaussian_pyramid(image: Image8) -> list[Plane16]:
    levels: list[Plane16] = [np.left_shift(image, FRACTION_BITS, dtype=np.int16)]
    while len(levels) <= LEVELS and min(levels[-1].shape) >= 2:
        levels.append(cast(Plane16, cv2.pyrDown(levels[-1])))
    return levels


def _detail(fine: Plane16, coarse: Plane16) -> Plane16:
    return cast(Plane16, cv2.subtract(fine, cv2.pyrUp(coarse, dstsize=(fine.shape[1], fine.shape[0]))))


def _larger(visible: Plane16, thermal: Plane16) -> Plane16:
    """The value of larger magnitude, written into ``visible``; on a tie the visible one."""
    mask = cv2.compare(np.abs(thermal), np.abs(visible), cv2.CMP_GT)
    return cast(Plane16, cv2.copyTo(thermal, mask, visible))
