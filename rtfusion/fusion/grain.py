"""How noisy a stream is, measured from itself: temporal noise in still places, told from motion and from texture."""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from rtfusion.fusion.tone import ExponentialAverage
from rtfusion.types import Image

TIME_CONSTANT_S = 2.0
STRIP_PX = 16
"""Strips of this many rows are looked at, other ones in every frame, in blocks of as many columns."""
STRIPS = 2
QUIET_PERCENT = 45.0
"""The noise is that of the quieter blocks: in the others things move."""
CHANGE_PERCENT = 50.0
LEAST_BLOCKS = 4
_DARKEST, _BRIGHTEST = 2.0, 253.0
"""Gray levels beyond which, two standard deviations of noise aside, a block is clipped, and shows less noise than there is."""

Squares = npt.NDArray[np.float32]


class GrainMeter:
    """Measures the noise of a plane, (H, W) of uint8 or uint16, from frame to frame.

    With d1 and d2 the differences to the last frame and to the one before, noise that is new in each frame has the same mean
    square in both, and what moves a larger one in d2; so the variance of the noise is taken as (2 d1^2 - d2^2) / 2, in blocks
    whose rows were each brought to a mean of 0: neither steps of brightness nor offsets of rows count.
    """

    def __init__(self) -> None:
        self._last: list[Image] = []
        self._turn = 0
        self._forget()

    def _forget(self) -> None:
        self._pixels = ExponentialAverage(time_constant_s=TIME_CONSTANT_S)
        self._cells = ExponentialAverage(time_constant_s=TIME_CONSTANT_S)
        self._changes = ExponentialAverage(time_constant_s=TIME_CONSTANT_S)
        self.pixel = 0.0
        """Standard deviation of the temporal noise, in the unit of the plane; 0 until three frames came."""
        self.cell = 0.0
        """The same of the means of 2x2 pixels: half as much for noise that is new in each pixel."""
        self.change = 0.0
        """The same of whatever changes, motion too, in the middle one of the blocks: 0 where most of the picture stands still."""

    def reset(self) -> None:
        """Forget everything."""
        self._last.clear()
        self._forget()

    def look(self, image: Image, *, is_due: bool, timestamp_ns: int) -> None:
        """Take the next frame into account; measure where it is due. It is kept for two calls, and must not change meanwhile."""
        self._last = [*self._last[-2:], image]
        if len(self._last) < 3 or not is_due:
            return
        before, last, now = self._last
        squares = _squares(before, last, now, turn=self._turn)
        self._turn += 1
        if squares is None:  # the same frame again tells nothing
            return
        pixel, cell, change = squares
        self.pixel = math.sqrt(self._pixels.follow(pixel, timestamp_ns=timestamp_ns))
        self.cell = math.sqrt(self._cells.follow(cell, timestamp_ns=timestamp_ns))
        self.change = math.sqrt(self._changes.follow(change, timestamp_ns=timestamp_ns))


def _squares(before: Image, last: Image, now: Image, *, turn: int) -> tuple[float, float, float] | None:
    """The variance of the noise of pixels and of cells in some strips; None where nothing at all changed, or all is clipped."""
    strips = _strips(now.shape, turn)
    width = now.shape[1] // STRIP_PX * STRIP_PX
    cut = [np.concatenate([image[rows, :width] for rows in strips]).astype(np.float32) for image in (before, last, now)]
    step, longer = cut[2] - cut[1], cut[2] - cut[0]
    if not step.any():
        return None
    usable = np.ones((len(strips), width // STRIP_PX), bool)
    short = _spread(step, STRIP_PX)
    if now.dtype == np.uint8:
        mean, reach = _in_blocks(cut[2], STRIP_PX).mean(axis=(1, 3)), np.sqrt(2 * short)
        usable = (mean > _DARKEST + reach) & (mean < _BRIGHTEST - reach)
        if np.count_nonzero(usable) < LEAST_BLOCKS:
            return None
    size_px = width // 2, step.shape[0] // 2
    cells = [
        np.asarray(cv2.resize(plane, size_px, interpolation=cv2.INTER_AREA), np.float32) for plane in (step, longer)
    ]
    pixel = (2 * short - _spread(longer, STRIP_PX))[usable]
    cell = (2 * _spread(cells[0], STRIP_PX // 2) - _spread(cells[1], STRIP_PX // 2))[usable]
    return _half(pixel, QUIET_PERCENT), _half(cell, QUIET_PERCENT), _half(short[usable], CHANGE_PERCENT)


def _strips(shape: tuple[int, ...], turn: int) -> list[slice]:
    """The rows to look at in a frame of this shape."""
    count = max(1, min(STRIPS, shape[0] // STRIP_PX))
    pitch = shape[0] // count
    offset = turn * STRIP_PX % max(1, pitch - STRIP_PX + 1)
    return [slice(index * pitch + offset, index * pitch + offset + STRIP_PX) for index in range(count)]


def _in_blocks(plane: Squares, side_px: int) -> Squares:
    height, width = plane.shape
    return plane.reshape(height // side_px, side_px, width // side_px, side_px)


def _spread(plane: Squares, side_px: int) -> Squares:
    """The variance within each block, of rows that were each brought to a mean of 0."""
    blocks = _in_blocks(plane, side_px)
    squares = (blocks**2).mean(axis=(1, 3)) - (blocks.mean(axis=3) ** 2).mean(axis=1)
    return np.asarray(squares * (side_px / (side_px - 1)), np.float32)


def _half(twice: Squares, percent: float) -> float:
    return max(0.0, float(np.percentile(twice, percent)) / 2)
