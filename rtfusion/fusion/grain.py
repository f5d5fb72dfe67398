"""How noisy a stream is, measured from itself: temporal noise in still places, told from motion and from texture."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from rtfusion.fusion.color import luminance
from rtfusion.smoothing import ExponentialAverage
from rtfusion.types import Image

TIME_CONSTANT_S = 1.0
STRIPS, SIDE_PX = 2, 16
"""Of each frame that is measured, so many strips are looked at, others every time, of so many rows, in square blocks."""
QUIET_PERCENT = 45.0
"""The noise is that of the quieter blocks: in the others things move."""
CHANGE_PERCENT = 50.0
SMOOTH_PERCENT = 20.0
MOVING_SHARE, MOVED = 0.09, 0.7
"""The camera moves where in more than this share of the blocks the mean changes by more than so many standard deviations of the
change within. Of noise, even of noise that was scaled up fourfold, fewer do."""
LEAST_MOVE = 0.5
LEAST_BLOCKS = 4
_DARKEST, _BRIGHTEST = 2.0, 253.0
"""Gray levels beyond which, two standard deviations of noise aside, a block is clipped, and shows less noise than there is."""
_FINEST = np.outer((1, -2, 1), (1, -2, 1)).astype(np.float32) / 6
"""Of white noise this keeps the variance, of the structure of pictures little (Immerkaer, Fast noise variance estimation)."""

Plane = npt.NDArray[np.float32]


class _Look(NamedTuple):
    """Variances of the noise that three frames show."""

    pixel: float
    cell: float
    change: float


class GrainMeter:
    """Measures the noise of a stream from frame to frame: of gray levels, of counts, or of the luminance of colors.

    With d1 and d2 the differences to the last frame and to the one before, noise that is new in each frame has the same mean
    square in both, and what moves slowly two to four times as much in d2; so the variance of the noise is taken as
    (3 d1^2 - d2^2) / 4, in blocks whose rows were each brought to a mean of 0: neither steps of brightness nor offsets of rows
    count. Of what moves fast all differences are alike; so while the camera moves, the noise is no more than what is finest in a
    single frame.
    """

    def __init__(self) -> None:
        self._last: list[Image] = []
        self._turn = 0
        self._variances = [ExponentialAverage(time_constant_s=TIME_CONSTANT_S) for _ in _Look._fields]
        self.pixel = 0.0
        """Standard deviation of the temporal noise, in the unit of the pixels; 0 until three frames came."""
        self.cell = 0.0
        """The same of the means of 2x2 pixels: half as much for noise that is new in each pixel."""
        self.change = 0.0
        """The same of whatever changes, motion too, in the middle one of the blocks: 0 where most of the picture stands still."""

    def look(self, image: Image, *, is_due: bool, timestamp_ns: int) -> None:
        """Take the next frame into account; measure where it is due. It is kept for two calls, and must not change meanwhile."""
        self._last = [*self._last[-2:], image]
        if len(self._last) < 3 or not is_due:
            return
        self._turn += 1
        look = _measured(*self._last, turn=self._turn)
        if look is None:
            return
        self.pixel, self.cell, self.change = (
            math.sqrt(kept.follow(variance, timestamp_ns=timestamp_ns))
            for kept, variance in zip(self._variances, look, strict=True)
        )


def _measured(before: Image, last: Image, now: Image, *, turn: int) -> _Look | None:
    """What some strips show; None where nothing at all changed, which is the same frame again, or where all is clipped."""
    first, second, third = (_strips(image, turn) for image in (before, last, now))
    step, longer = third - second, third - first
    if not step.any():
        return None
    short = _variance(step, SIDE_PX)
    usable = np.ones(short.shape, bool)
    if now.dtype == np.uint8:
        mean, reach = _blocks(third, SIDE_PX).mean(axis=(1, 3)), np.sqrt(2 * short)
        usable = (mean > _DARKEST + reach) & (mean < _BRIGHTEST - reach)
        if np.count_nonzero(usable) < LEAST_BLOCKS:
            return None
    pixel = _lower((3 * short - _variance(longer, SIDE_PX)) / 2, usable, QUIET_PERCENT)
    short_cells, longer_cells = (_variance(_cells(plane), SIDE_PX // 2) for plane in (step, longer))
    cell = _lower((3 * short_cells - longer_cells) / 2, usable, QUIET_PERCENT)
    if _moves(longer, usable):
        fine = np.asarray(cv2.filter2D(third, -1, _FINEST), np.float32)
        most = 2 * _lower((_blocks(fine, SIDE_PX) ** 2).mean(axis=(1, 3)), usable, SMOOTH_PERCENT)
        pixel, cell = min(pixel, most), min(cell, most / 4)
    # each is of a difference of two frames
    return _Look(pixel / 2, cell / 2, _lower(short, usable, CHANGE_PERCENT) / 2)


def _strips(image: Image, turn: int) -> Plane:
    """The strips to look at, one below the other, of whole blocks."""
    height, width = image.shape[:2]
    count = max(1, min(STRIPS, height // SIDE_PX))
    pitch = height // count
    offset = turn * SIDE_PX % max(1, pitch - SIDE_PX + 1)
    tops = [index * pitch + offset for index in range(count)]
    strips = np.concatenate([image[top : top + SIDE_PX, : width // SIDE_PX * SIDE_PX] for top in tops])
    return luminance(strips).astype(np.float32) if image.ndim == 3 else strips.astype(np.float32)


def _moves(longer: Plane, usable: npt.NDArray[np.bool_]) -> bool:
    blocks = _blocks(longer, SIDE_PX)
    mean = blocks.mean(axis=(1, 3))
    within = np.sqrt(np.maximum(0.0, (blocks**2).mean(axis=(1, 3)) - mean**2))
    return bool((np.abs(mean) > np.maximum(MOVED * within, LEAST_MOVE))[usable].mean() > MOVING_SHARE)


def _cells(plane: Plane) -> Plane:
    """The means of 2x2 pixels."""
    size_px = plane.shape[1] // 2, plane.shape[0] // 2
    return np.asarray(cv2.resize(plane, size_px, interpolation=cv2.INTER_AREA), np.float32)


def _blocks(plane: Plane, side_px: int) -> Plane:
    height, width = plane.shape
    return plane.reshape(height // side_px, side_px, width // side_px, side_px)


def _variance(plane: Plane, side_px: int) -> Plane:
    """The variance within each block, of rows that were each brought to a mean of 0."""
    blocks = _blocks(plane, side_px)
    variance = (blocks**2).mean(axis=(1, 3)) - (blocks.mean(axis=3) ** 2).mean(axis=1)
    return np.asarray(variance * (side_px / (side_px - 1)), np.float32)


def _lower(variance: npt.NDArray[np.floating[Any]], usable: npt.NDArray[np.bool_], percent: float) -> float:
    return max(0.0, float(np.percentile(variance[usable], percent)))
