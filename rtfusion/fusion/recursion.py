"""Motion-gated recursive averaging: where nothing moves, each pixel is averaged over time; where something moves, it is as it came.

    s <- s + k (x - s),    k = max(gate, 1 / (frames since the gate was open), 1 - exp(-dt / tau))

The gate is found at a quarter of the resolution from three figures of the difference x - s, each against the noise that was
measured: its largest value over 2x2 pixels (small things), its mean size (texture that moves) and its mean (surfaces) over about
12x12. It opens softly, so that no pixel flips between the two.
"""

from __future__ import annotations

import math
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt

from rtfusion.clock import NS_PER_S
from rtfusion.types import Image, Image8

TIME_CONSTANT_S = 0.3
"""Still pixels are averaged over about this time: at 30 frames a second the noise is a quarter."""
FINE_BITS, STATE_BITS = 3, 7
"""Pixels come in steps of 1/8 gray level or count, averages are kept in steps of 1/128. Their product fits: int16 for 8 bits."""
FULL = 1 << (STATE_BITS - FINE_BITS)
"""The weight k in whole numbers: this is 1."""
_LEAST_BOX_LEVELS = 1.5
_LEAST_CELL_LEVELS = 4.0
"""However little noise there is, changes of surfaces and of single cells below these are averaged: a codec makes as many."""
_SCALE = 16
"""Steps of the gate's figures per unit: one standard deviation of the noise of a cell, the mean of 2x2 pixels."""
_THREE = np.ones((3, 3), np.uint8)
_ONE = (1.0,)
_BY_AGE = np.array([FULL, *(round(FULL / frames) for frames in range(1, 256))])
"""The weight of a frame that is the n-th since the gate was open: 1 / n."""
_FIRMNESS = np.rint(255 / np.sqrt(1.0 + 1.0 / np.maximum(1, np.arange(256)))).astype(np.uint8)
"""How much of a difference to the mean of n frames is due to the new one: 1 / sqrt(1 + 1 / n), in 255ths."""

Plane = npt.NDArray[np.integer[Any]]


class RecursiveMean:
    """The motion-gated average of one plane, (H, W) of uint8 or uint16, both sides at least 8 pixels.

    It never leaves the range of what it was given at a pixel, and follows what moves without lag.
    """

    def __init__(self, *, shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
        height, width = shape
        self._kind = np.dtype(np.int16 if dtype == np.uint8 else np.int32)
        self._state = np.zeros(shape, self._kind)
        self._step = np.empty(shape, self._kind)
        self._weight = np.empty(shape, self._kind)
        self._gated = height // 4 * 4, width // 4 * 4
        """The gate is made of whole blocks; the last rows and columns use that of their neighbors."""
        self._age = np.zeros((height // 4, width // 4), np.uint8)
        self._is_empty = True
        self.moving = 0.0
        """Share of the picture, 0 to 1, whose gate was open in the last frame."""

    def reset(self) -> None:
        """Take the next frame as it is."""
        self._is_empty = True

    def follow(self, fine: Plane, *, dt_ns: int, noise_levels: float) -> Plane:
        """Average the next frame in: ``fine`` is (H, W) in steps of 1 / 2**FINE_BITS; so is the result, in 1 / 2**STATE_BITS.

        ``noise_levels`` is the standard deviation of the noise of cells of 2x2 pixels in ``fine``, in gray levels or counts. The
        result is valid until the next call.
        """
        if self._is_empty:
            np.left_shift(fine, STATE_BITS - FINE_BITS, out=self._state)
            self._age.fill(1)
            self._is_empty, self.moving = False, 1.0
            return self._state
        np.right_shift(self._state, STATE_BITS - FINE_BITS, out=self._step)
        np.subtract(fine, self._step, out=self._step)
        gate = self._gate(noise_levels)
        self.moving = float(np.count_nonzero(gate > FULL // 2)) / gate.size
        self._spread(cv2.max(gate, self._aged(gate, dt_ns=dt_ns)))
        np.multiply(self._step, self._weight, out=self._step)
        np.add(self._state, self._step, out=self._state)
        return self._state

    def _gate(self, noise_levels: float) -> Image8:
        """The weight by motion alone, (H // 4, W // 4), 0 to FULL."""
        height, width = self._gated
        step = self._step[:height, :width]
        if self._kind != np.int16:
            step = step.astype(np.float32)
        cells = cv2.resize(step, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        unit_levels = max(noise_levels, 0.5)
        scale = _SCALE / (unit_levels * (1 << FINE_BITS))
        sizes = cv2.convertScaleAbs(cells, alpha=scale)
        quarter_px = width // 4, height // 4
        largest = np.ascontiguousarray(cv2.dilate(sizes, _THREE)[::2, ::2])
        mean_size = cv2.blur(cv2.resize(sizes, quarter_px, interpolation=cv2.INTER_AREA), (3, 3))
        mean = cv2.blur(cv2.resize(cells, quarter_px, interpolation=cv2.INTER_AREA), (3, 3))
        box, cell = (least / unit_levels for least in (_LEAST_BOX_LEVELS, _LEAST_CELL_LEVELS))
        young = cv2.LUT(self._age, _FIRMNESS)
        open_gate = np.zeros_like(young)
        for figure, least, ratio in (
            (largest, max(4.5, cell), 1.5),
            (mean_size, max(1.2, 0.8 * box + 0.3), 1.5),
            (cv2.convertScaleAbs(mean, alpha=scale), max(0.8, box), 1.7),
        ):
            firm = cv2.multiply(figure, young, scale=1.0 / 255)
            open_gate = cv2.max(open_gate, cv2.LUT(firm, _ramp(least, ratio)))
        return cast(Image8, open_gate)

    def _aged(self, gate: Image8, *, dt_ns: int) -> Image8:
        """The weight by the time since the gate was open, in which averages begin anew."""
        least = round(FULL * (1.0 - math.exp(-dt_ns / (TIME_CONSTANT_S * NS_PER_S))))
        table = np.maximum(_BY_AGE, max(1, min(FULL, least))).astype(np.uint8)
        kept = self._age.astype(np.uint16) * (FULL - gate) // FULL
        self._age = cv2.add(kept.astype(np.uint8), _ONE)
        return cast(Image8, cv2.LUT(self._age, table))

    def _spread(self, weight: Image8) -> None:
        """Bring the weight of the blocks to every pixel."""
        height, width = self._gated
        self._weight[:height, :width] = cv2.resize(weight, (width, height), interpolation=cv2.INTER_LINEAR)
        self._weight[height:] = self._weight[height - 1]
        self._weight[:, width:] = self._weight[:, width - 1 : width]


def _ramp(least: float, ratio: float) -> Image8:
    """The table of a gate that opens from ``least`` units to ``ratio`` times as many."""
    units = np.arange(256) / _SCALE
    return np.rint(FULL * np.clip((units - least) / (least * (ratio - 1.0)), 0.0, 1.0)).astype(np.uint8)
