"""Motion-gated recursive averaging: where nothing moves each pixel is averaged over time, where something moves it is as it came.

    s <- s + k (x - s),    k = max(gate, 1 / (frames since the gate was open), 1 - exp(-dt / tau))

The gate is found at a quarter of the resolution from figures of the difference x - s, each against the noise that was measured:
the largest mean of 2x2 pixels (small things), the mean size of pixels and of these means over about 12x12 (texture that moves,
fine and coarse), and the size of their mean there (surfaces). It opens softly, so that no block jumps between the two.
"""

from __future__ import annotations

import functools
import math
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt

from rtfusion.clock import NS_PER_S
from rtfusion.types import Image8

TIME_CONSTANT_S = 0.5
"""Still pixels are averaged over about this time: at 30 frames a second a fifth of the noise is left."""
FINE_BITS, STATE_BITS = 3, 7
"""Pixels come in steps of 1/8 gray level or count, averages are kept in steps of 1/128. For 8 bits an average, and a difference
times a weight, fit into int16."""
FULL = 1 << (STATE_BITS - FINE_BITS)
"""The weight k in whole numbers: this is 1."""

_UNIT = 16
"""Steps of the gate's figures per standard deviation of the noise of a cell, the mean of 2x2 pixels."""
_CELL, _SIZE, _MEAN = (4.2, 1.5), (1.15, 1.5), (0.65, 1.7)
"""The figures, in standard deviations, at which the gate begins to open, and the ratio by which it is open. Of noise alone they
are below 4 in all but a few cells, 0.8 with a deviation of 0.1, and within 0.17."""
_LEAST_CELL_LEVELS, _LEAST_BOX_LEVELS = 5.0, 1.75
"""However little noise there is, changes of single cells and of surfaces below these are averaged: a codec makes as many."""
_HELD = 58
"""0.45 of a step of the pixels. Less than half, so that what moves is shown to the bit."""
_SIDE_PX = 4
"""Of the blocks of the gate."""
_CUT_SHARE, _STILL_SHARE = 0.7, 0.4
_AROUND = np.ones((3, 3), np.uint8)
_OLDEST = 255
_BY_AGE = np.array([FULL, *(round(FULL / frames) for frames in range(1, _OLDEST + 1))])
"""The weight of a frame that is the n-th since the gate was open: 1 / n."""
_FIRMNESS = np.rint(255 / np.sqrt(1.0 + 1.0 / np.maximum(1, np.arange(_OLDEST + 1)))).astype(np.uint8)
"""The share of the new frame in the noise of its difference to the mean of n frames: 1 / sqrt(1 + 1 / n), in 255ths."""

Plane = npt.NDArray[np.signedinteger[Any]]


class RecursiveMean:
    """The motion-gated average of one plane of uint8 or uint16, (H, W), both sides at least 8 pixels.

    At every pixel it stays in the range of what was given there, and what moves comes without lag.
    """

    def __init__(self, *, shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
        height, width = shape
        self._kind = np.dtype(np.int16 if dtype == np.uint8 else np.int32)
        self._mean, self._shown, self._step, self._weight = (np.empty(shape, self._kind) for _ in range(4))
        self._gray: Image8 = np.empty(shape, np.uint8)
        self._blocks = height // _SIDE_PX, width // _SIDE_PX
        """Whole blocks; the last rows and columns use the weight of their neighbors."""
        self._frames_since: Image8 | None = None
        """Frames since the gate of a block was open; None before the first frame."""
        self._moving = 1.0
        self.is_cut = False
        """The last frame was of another scene: at once almost all of the picture changed, much of which had stood still."""

    def follow(self, fine: Plane, *, dt_ns: int, pixel_noise: float, cell_noise: float, level: float = 1.0) -> Plane:
        """Average the next frame in: ``fine`` comes in steps of 1 / 2**FINE_BITS, the result in steps of 1 / 2**STATE_BITS.

        The result is valid until the next call.

        Args:
            fine: (H, W), within the range of the type of the plane.
            dt_ns: time since the last frame.
            pixel_noise: standard deviation of the noise, in the unit of the pixels.
            cell_noise: that of the noise of cells, the means of 2x2 pixels.
            level: the size of a gray level in that unit, for counts.
        """
        if self._frames_since is None:
            self._frames_since = np.ones(self._blocks, np.uint8)
            np.left_shift(fine, STATE_BITS - FINE_BITS, out=self._mean)
            np.copyto(self._shown, self._mean)
            return self._shown
        np.right_shift(self._mean, STATE_BITS - FINE_BITS, out=self._step)
        np.subtract(fine, self._step, out=self._step)
        gate = self._gate(self._frames_since, pixel_noise=pixel_noise, cell_noise=cell_noise, level=level)
        moving = float(np.count_nonzero(gate > FULL // 2)) / gate.size
        self.is_cut = moving > _CUT_SHARE and self._moving < _STILL_SHARE
        self._moving = moving
        kept = self._frames_since.astype(np.uint16) * (FULL - gate) // FULL
        self._frames_since = np.minimum(kept + 1, _OLDEST).astype(np.uint8)
        self._spread(cast(Image8, cv2.max(gate, cv2.LUT(self._frames_since, _weights(dt_ns)))))
        np.multiply(self._step, self._weight, out=self._step)
        np.add(self._mean, self._step, out=self._mean)
        return self._settled()

    def _gate(self, frames_since: Image8, *, pixel_noise: float, cell_noise: float, level: float) -> Image8:
        """The weight by motion alone, for every block, 0 to FULL."""
        rows, columns = self._blocks
        step = self._step[: rows * _SIDE_PX, : columns * _SIDE_PX]
        if self._kind != np.int16:  # which OpenCV cannot resize
            step = step.astype(np.float32)
        cells = _halved(step)
        pixel, cell = (max(noise, 0.5 * level) for noise in (pixel_noise, cell_noise))
        pixel_scale, cell_scale = (_UNIT / (noise * (1 << FINE_BITS)) for noise in (pixel, cell))
        sizes = cv2.convertScaleAbs(cells, alpha=cell_scale)
        gray = self._gray[: rows * _SIDE_PX, : columns * _SIDE_PX]
        pixel_sizes = cv2.convertScaleAbs(step, gray, alpha=pixel_scale)
        box = _LEAST_BOX_LEVELS * level
        firm = cv2.LUT(frames_since, _FIRMNESS)
        gate = np.zeros_like(frames_since)
        for figure, (least, ratio), floor in (
            (np.ascontiguousarray(cv2.dilate(sizes, _AROUND)[::2, ::2]), _CELL, _LEAST_CELL_LEVELS * level / cell),
            (_around(_halved(_halved(np.asarray(pixel_sizes)))), _SIZE, box / pixel + 0.3),
            (_around(_halved(sizes)), _SIZE, 0.8 * box / cell + 0.3),
            (cv2.convertScaleAbs(_around(_halved(cells)), alpha=cell_scale), _MEAN, box / cell),
        ):
            weight = cv2.LUT(cv2.multiply(figure, firm, scale=1.0 / 255), _ramp(round(max(least, floor), 1), ratio))
            gate = cast(Image8, cv2.max(gate, weight))
        return gate

    def _spread(self, weight: Image8) -> None:
        """Bring the weight of the blocks to every pixel."""
        rows, columns = (blocks * _SIDE_PX for blocks in self._blocks)
        # 16 bits, since OpenCV takes twice the time for 8
        small, size_px = weight.astype(np.int16), (columns, rows)
        if self._weight.dtype == small.dtype and self._weight.shape == (rows, columns):
            cv2.resize(small, size_px, dst=self._weight, interpolation=cv2.INTER_LINEAR)
            return
        self._weight[:rows, :columns] = cv2.resize(small, size_px, interpolation=cv2.INTER_LINEAR)
        self._weight[rows:] = self._weight[rows - 1]
        self._weight[:, columns:] = self._weight[:, columns - 1 : columns]

    def _settled(self) -> Plane:
        """The average as it was when it last had changed by almost half a step: no pixel flickers between two values."""
        np.subtract(self._mean, self._shown, out=self._step)
        held = cv2.inRange(self._step, -_HELD, _HELD, self._gray)
        cv2.copyTo(self._mean, cv2.bitwise_not(held, held), self._shown)
        return self._shown


def _halved(plane: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The means of 2x2 pixels."""
    size_px = plane.shape[1] // 2, plane.shape[0] // 2
    return cast(npt.NDArray[Any], cv2.resize(plane, size_px, interpolation=cv2.INTER_AREA))


def _around(blocks: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The means of 3x3 blocks."""
    return cast(npt.NDArray[Any], cv2.blur(blocks, (3, 3)))


@functools.lru_cache(maxsize=64)
def _ramp(least: float, ratio: float) -> Image8:
    """The table of a gate that opens from ``least`` standard deviations to ``ratio`` times as many."""
    figures = np.arange(256) / _UNIT
    return np.rint(FULL * np.clip((figures - least) / (least * (ratio - 1.0)), 0.0, 1.0)).astype(np.uint8)


def _weights(dt_ns: int) -> Image8:
    """The table of the weight of a frame by the age of its block, this long after the one before."""
    least = round(FULL * (1.0 - math.exp(-dt_ns / (TIME_CONSTANT_S * NS_PER_S))))
    return np.maximum(_BY_AGE, max(1, least)).astype(np.uint8)
