"""How noisy a stream is, measured from itself: temporal noise, told from motion by what motion needs: structure."""

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
SIDE_PX, LEAST_STRIPS, BLOCKS = 16, 2, 80
"""Of each frame that is measured some strips of square blocks are looked at, others every time: about so many blocks."""
LEAST_BLOCKS = 8
CHANGE_PERCENT = 75.0
"""A codec brings its noise to some blocks now and to others later; what moves in a clean picture is a smaller part of it."""
LEAST_VARIANCE = 0.05
"""Fainter noise is not told from none: squared gray levels or counts."""
_DARKEST, _BRIGHTEST = 2.0, 253.0
"""Gray levels beyond which, two standard deviations of noise aside, a block is clipped, and shows less noise than there is."""

Plane = npt.NDArray[np.float32]
Figures = npt.NDArray[np.floating[Any]]
"""One for each block, or for each pixel."""
Blocks = npt.NDArray[np.intp]
"""Indices of some blocks."""


class _Look(NamedTuple):
    """Variances that three frames show."""

    pixel: float
    cell: float
    change: float


class GrainMeter:
    """Measures the noise of a stream from frame to frame: of gray levels, of counts, or of the luminance of colors.

    What moves changes pixels as much as there is structure, noise changes them everywhere alike. So with v the variance of the
    step from one frame to the next in a block, and g the mean square of its gradient, the noise is what is left of v where g is
    0: v = noise + slope x g through the medians of the smoothest quarter of the blocks and of the rougher half. And what moves
    slowly is further off after two steps, noise is not: half of what v has grown by then is taken off too. The rows of a block
    are each brought to a mean of 0 first: neither steps of brightness nor offsets of rows count.
    """

    def __init__(self) -> None:
        self._last: list[Image] = []
        self._pixels, self._cells, self._changes = (
            ExponentialAverage(time_constant_s=TIME_CONSTANT_S) for _ in _Look._fields
        )
        self.pixel = 0.0
        """Standard deviation of the temporal noise, in the unit of the pixels; 0 until three frames came."""
        self.cell = 0.0
        """The same of the means of 2x2 pixels: half as much for noise that is new in each pixel."""
        self.change = 0.0
        """The same of whatever changes, motion too, in the calmer blocks (CHANGE_PERCENT): 0 where all of these stand still."""

    def look(self, image: Image, *, is_due: bool, timestamp_ns: int, strips: int) -> None:
        """Take the next frame into account; measure where it is due, in the strips of this number.

        It is kept for two calls, and must not change meanwhile.
        """
        self._last = [*self._last[-2:], image]
        if len(self._last) < 3 or not is_due:
            return
        look = _measured(*self._last, turn=strips)
        if look is None:
            return
        # noise is there in every frame, what moves in some: on average by logarithm, these count little
        pixel, cell = (math.log(max(variance, LEAST_VARIANCE)) for variance in (look.pixel, look.cell))
        self.pixel, self.cell = (
            math.exp(kept.follow(logarithm, timestamp_ns=timestamp_ns) / 2)
            for kept, logarithm in ((self._pixels, pixel), (self._cells, cell))
        )
        self.change = math.sqrt(self._changes.follow(look.change, timestamp_ns=timestamp_ns))


def _measured(before: Image, last: Image, now: Image, *, turn: int) -> _Look | None:
    """What some strips show; None where nothing at all changed, which is the same frame again, or where all is clipped."""
    first, second, third = (_strips(image, turn) for image in (before, last, now))
    step = third - second
    if not step.any():
        return None
    pixel, cell, longer = (
        _variances(step, SIDE_PX),
        _variances(_cells(step), SIDE_PX // 2),
        _variances(np.subtract(third, first), SIDE_PX),
    )
    structure = _structure((first + second + third) / 3)
    if now.dtype == np.uint8:
        mean, reach = _blocks(third, SIDE_PX).mean(axis=(1, 3)), np.sqrt(2 * pixel)
        usable = (mean > _DARKEST + reach) & (mean < _BRIGHTEST - reach)
    else:
        usable = np.ones(pixel.shape, bool)
    pixel, cell, longer, structure = (figures[usable] for figures in (pixel, cell, longer, structure))
    if pixel.size < LEAST_BLOCKS:
        return None
    by_structure = np.argsort(structure)
    smooth, rough = by_structure[: pixel.size // 4], by_structure[pixel.size // 2 :]
    seen, moved = float(np.median(pixel[smooth])), _moved(pixel, structure, smooth=smooth, rough=rough)
    drifted = max(0.0, float(np.median(longer[smooth])) - seen) / 2
    share = max(0.0, 1.0 - (moved + drifted) / max(seen, 1e-6))
    # a step has twice the variance of a frame
    return _Look(
        share * seen / 2, share * float(np.median(cell[smooth])) / 2, float(np.percentile(pixel, CHANGE_PERCENT)) / 2
    )


def _moved(variance: Figures, structure: Figures, *, smooth: Blocks, rough: Blocks) -> float:
    """How much of the variance of smooth blocks their structure explains, as it does from there to the rough ones."""
    less, more = (float(np.median(variance[some])) for some in (smooth, rough))
    least, most = (float(np.median(structure[some])) for some in (smooth, rough))
    return max(0.0, more - less) * least / max(most - least, 1e-6)


def _strips(image: Image, turn: int) -> Plane:
    """The strips to look at, one below the other, of whole blocks."""
    height, width = image.shape[:2]
    columns = width // SIDE_PX
    count = max(1, min(height // SIDE_PX, max(LEAST_STRIPS, -(-BLOCKS // columns))))
    pitch = height // count
    offset = turn * SIDE_PX % max(1, pitch - SIDE_PX + 1)
    tops = [index * pitch + offset for index in range(count)]
    strips = np.concatenate([image[top : top + SIDE_PX, : columns * SIDE_PX] for top in tops])
    return luminance(strips).astype(np.float32) if image.ndim == 3 else strips.astype(np.float32)


def _structure(mean: Figures) -> Figures:
    """The mean square of the gradient of every block, differences between blocks left out."""
    blocks = _blocks(mean, SIDE_PX)
    across, down = np.diff(blocks, axis=3), np.diff(blocks, axis=1)
    return np.asarray((across**2).mean(axis=(1, 3)) + (down**2).mean(axis=(1, 3)))


def _cells(plane: Plane) -> Plane:
    """The means of 2x2 pixels."""
    size_px = plane.shape[1] // 2, plane.shape[0] // 2
    return np.asarray(cv2.resize(plane, size_px, interpolation=cv2.INTER_AREA), np.float32)


def _blocks(plane: Figures, side_px: int) -> Figures:
    height, width = plane.shape
    return plane.reshape(height // side_px, side_px, width // side_px, side_px)


def _variances(plane: Plane, side_px: int) -> Figures:
    """The variance within each block, of rows that were each brought to a mean of 0."""
    blocks = _blocks(plane, side_px)
    variance = (blocks**2).mean(axis=(1, 3)) - (blocks.mean(axis=3) ** 2).mean(axis=1)
    return np.asarray(variance * (side_px / (side_px - 1)))
