"""A small thermal sensor on a fine grid: its noise smoothed and its blur undone at its own resolution, then cubic interpolation.

A sensor of 160x120 pixels on a grid of 640x480 is magnified four times. Bilinear interpolation leaves it blurred, and a network
takes what is blurred for what is not worth showing; so what a pixel averaged is given back before the picture is enlarged.
One of 80x60 is magnified eight times: it is doubled first, and its edges are made steeper once more.
"""

from __future__ import annotations

import math
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt

from rtfusion.fusion.color import Take
from rtfusion.registration import PairShape, Warp
from rtfusion.smoothing import ExponentialAverage
from rtfusion.types import Band, Image8

LEAST_MAGNIFICATION = 1.5
"""Grid pixels per pixel of the sensor above which bilinear interpolation blurs visibly."""
LARGEST_PICTURE = 2.0
"""Pixels of the enlarged picture per grid pixel, at most: a grid that sees a part of the thermal picture needs no more."""
NOISE_TIME_CONSTANT_S = 1.0
LEAST_NOISE_LEVELS = 0.5
"""Less noise than rounding makes is left alone."""
_NOISE_BLOCK_PX = 8
_QUIET_PERCENT, _QUIET_BIAS = 10.0, 1.25
"""The noise is that of the quietest tenth of the blocks, which show four fifths of it by chance."""
_SMOOTHED = (2.0, 1.0)
"""Two passes of the guided filter; texture weaker than this many times the noise goes."""
_SMOOTHING_BOX = (5, 5)
_BLUR_SIGMA_PX, _SHARPENING = 0.8, 0.6
"""x + .6 (x - G x) lifts the finest detail 1.6 times: what the square aperture of a pixel took of it, pi / 2."""
DOUBLED_FROM = 6.0
"""Magnification from which on a picture is doubled before, ..."""
_STEEP_SIGMA_PX, _STEEPENING = 1.0, 1.5
"""... and its edges steepened, which are soft over four pixels of the grid or more."""
BASE_PX = 2
"""Structure wider than so many pixels of the grid is base, ..."""
MEANED_PER_MAGNIFICATION, MOST_MEANED = 0.16, 0.9
"""... which goes a part of the way to that of the plain mean: more for each time that a pixel is magnified, this far at most."""
FAR_LEVELS = 25.0
"""What is further from the mean than this, as a bright sky is, goes as far as if it were so far away."""
_NEIGHBORS = np.ones((3, 3), np.uint8)
_NOISE_KERNEL = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32) / 6
"""Answers neither to steps nor to slopes, and to white noise with its own deviation (Immerkaer 1996)."""
_SHARPENED, _OR_NOT = "denoised and sharpened at its own resolution, then cubic", "(--upsample off: bilinear)"
SHARP, SHARP_AND_CALM = f"{_SHARPENED} {_OR_NOT}", f"{_SHARPENED}, and fused nearer to the mean {_OR_NOT}"
BILINEAR = "bilinear"

Plane = npt.NDArray[np.float32]


class Upsampler:
    """Brings the thermal picture onto the grid where the registration magnifies it by more than `LEAST_MAGNIFICATION`.

    Used by one thread. ``still`` is for unrelated images, of each of which the noise is measured anew.
    """

    def __init__(self, *, still: bool) -> None:
        self._noise = ExponentialAverage(time_constant_s=0.0 if still else NOISE_TIME_CONSTANT_S)
        self._fitted: tuple[Warp, tuple[int, int], Warp] | None = None
        self.noise_levels = 0.0
        """Standard deviation of the noise, in gray levels of the sensor, as measured up to now."""

    def __call__(
        self,
        thermal: Image8,
        *,
        warp: Warp,
        size_px: tuple[int, int],
        timestamp_ns: int,
        take: Take,
        camera_noise_levels: float = 0.0,
    ) -> Image8:
        """Enlarge the (h, w) picture of the sensor and warp it onto the grid of (width, height) ``size_px``: (H, W)."""
        measured = self._noise.follow(measured_noise(thermal), timestamp_ns=timestamp_ns)
        self.noise_levels = max(measured, camera_noise_levels)
        (width, height), from_large = self._fit(warp, thermal=thermal, size_px=size_px)
        fine = restored(thermal, noise_levels=self.noise_levels, magnification=warp.magnification)
        large = cv2.resize(fine, (width, height), dst=take((height, width)), interpolation=cv2.INTER_CUBIC)
        if from_large.is_identity:
            return cast(Image8, large)
        return cast(Image8, from_large(cast(Image8, large), out=take(size_px[::-1])))

    def _fit(self, warp: Warp, *, thermal: Image8, size_px: tuple[int, int]) -> tuple[tuple[int, int], Warp]:
        """(width, height) of the enlarged picture, and the warp from there; made anew when the registration moves."""
        if self._fitted is None or self._fitted[0] is not warp:
            large_px, from_large = size_px, warp.from_resized(size_px)
            if (
                not from_large.is_identity
            ):  # more than a change of size: about as fine as the grid, and warped from there
                most = math.sqrt(LARGEST_PICTURE * size_px[0] * size_px[1] / thermal.size)
                scale = min(warp.magnification, most)
                large_px = round(thermal.shape[1] * scale), round(thermal.shape[0] * scale)
                from_large = warp.from_resized(large_px)
            self._fitted = warp, large_px, from_large
        return self._fitted[1:]


def is_magnified(warp: Warp) -> bool:
    """True where a picture is magnified by more than `LEAST_MAGNIFICATION`."""
    return warp.magnification > LEAST_MAGNIFICATION


def meaned_share(warp: Warp) -> float:
    """How far the base of the fused picture goes to that of the plain mean (`calmed`) under this thermal warp, 0 to 1."""
    if not is_magnified(warp):
        return 0.0
    return min(MEANED_PER_MAGNIFICATION * (warp.magnification - 1.0), MOST_MEANED)


def calmed(*, fused_y: Image8, visible_y: Image8, thermal: Image8, share: float, take: Take) -> Image8:
    """The (H, W) fused picture, its base a ``share`` of the way to the base of the plain mean of both bands.

    A network raises what is a few pixels wide. In a magnified picture that is blur, not detail, and people made of raised blur
    are overlooked (docs/experiments.md). A bright sky stays bright (`FAR_LEVELS`).
    """
    height, width = fused_y.shape
    small = -(-width // BASE_PX), -(-height // BASE_PX)
    fused, visible, heat = (
        cv2.resize(one, small, interpolation=cv2.INTER_AREA) for one in (fused_y, visible_y, thermal)
    )
    mean = cv2.addWeighted(visible, 0.5, heat, 0.5, 0.0)
    step = cv2.subtract(mean, fused, dtype=cv2.CV_32F)
    step = np.clip(step, -FAR_LEVELS, FAR_LEVELS, out=step)
    np.multiply(step, np.float32(share), out=step)  # OpenCV takes one number for a picture of one pixel
    return cast(Image8, cv2.add(fused_y, cv2.resize(step, (width, height)), take(fused_y.shape), dtype=cv2.CV_8U))


def measured_noise(thermal: Image8) -> float:
    """The standard deviation of the white noise of an (H, W) picture, in its levels: that of its quietest blocks.

    Blocks that are wholly black, white or otherwise of one level tell nothing and do not count.
    """
    answer = cv2.filter2D(thermal, cv2.CV_32F, _NOISE_KERNEL)[1:-1, 1:-1]
    rows, columns = (side // _NOISE_BLOCK_PX for side in answer.shape)
    if rows == 0 or columns == 0:
        return 0.0
    whole = answer[: rows * _NOISE_BLOCK_PX, : columns * _NOISE_BLOCK_PX]
    squares = cv2.resize(whole * whole, (columns, rows), interpolation=cv2.INTER_AREA)
    telling = squares[squares > 0]
    return _QUIET_BIAS * math.sqrt(np.percentile(telling, _QUIET_PERCENT)) if telling.size else 0.0


def smoothed(plane: Plane, *, noise_levels: float) -> Plane:
    """An (H, W) plane without its noise, its edges kept: guided by itself (He, Sun and Tang 2013), in two passes."""
    if noise_levels < LEAST_NOISE_LEVELS:
        return plane
    for strength in _SMOOTHED:
        mean = cv2.blur(plane, _SMOOTHING_BOX)
        variance = np.maximum(cv2.blur(plane * plane, _SMOOTHING_BOX) - mean * mean, 0.0)
        share = variance / (variance + (strength * noise_levels) ** 2)
        offset = cv2.blur(mean - share * mean, _SMOOTHING_BOX)
        plane = cast(Plane, cv2.blur(share, _SMOOTHING_BOX) * plane + offset)
    return plane


def restored(thermal: Image8, *, noise_levels: float, magnification: float) -> Image8:
    """The (h, w) picture of a sensor as it is before cubic interpolation, twice as large if it is to be magnified a lot."""
    fine = sharpened(smoothed(thermal.astype(np.float32), noise_levels=noise_levels))
    if magnification < DOUBLED_FROM:
        return fine
    twice = cv2.resize(fine.astype(np.float32), None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    return _steeper(cast(Plane, twice), sigma_px=_STEEP_SIGMA_PX, strength=_STEEPENING)


def sharpened(plane: Plane) -> Image8:
    """The (H, W) plane with the blur of the sensor's pixels undone, in gray levels.

    No pixel leaves the range of its neighbors: edges become steeper without a halo, and noise is not lifted above what it was.
    """
    return _steeper(plane, sigma_px=_BLUR_SIGMA_PX, strength=_SHARPENING)


def _steeper(plane: Plane, *, sigma_px: float, strength: float) -> Image8:
    blurred = cv2.GaussianBlur(plane, (0, 0), sigma_px)
    lifted = cv2.addWeighted(plane, 1.0 + strength, blurred, -strength, 0.0)
    bounded = cv2.min(cv2.max(lifted, cv2.erode(plane, _NEIGHBORS)), cv2.dilate(plane, _NEIGHBORS))
    return cast(Image8, cv2.add(bounded, cast(Any, (0.0,)), dtype=cv2.CV_8U))


def told(warp: Warp, *, shape: PairShape, size_px: tuple[int, int], how: str) -> str:
    """Say in a sentence that the registration magnifies the thermal picture, and ``how`` that is done."""
    width, height = shape.size_px(Band.THERMAL)
    return f"thermal {width}x{height} on {size_px[0]}x{size_px[1]}: magnified {warp.magnification:.1f} times, {how}"
