"""Motion-gated recursive averaging: where nothing moves each pixel is averaged over time, where something moves it is as it came.

    s <- s + k (x - s),    k = max(gate, 1 / (frames since the gate was open), 1 - exp(-dt / tau))

The gate is found at a quarter of the resolution from figures of the difference x - s, each against the noise that was measured:
the largest mean of 2x2 pixels (small things), the mean size of pixels and of these means over about 12x12 (texture that moves,
fine and coarse), and the size of their mean there (surfaces). It opens softly, so that no block jumps between the two.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rtfusion.clock import NS_PER_S
from rtfusion.fusion.passes import BLOCK_PX, FINE_BITS, FULL, RAMP_BITS, MeanPasses, Ramp, SteppedImage, Tables
from rtfusion.types import Image, Image8

TIME_CONSTANT_S = 0.5
"""Still pixels are averaged over about this time: at 30 frames a second a fifth of the noise is left."""

_UNIT = 16
"""Steps of the gate's figures per standard deviation of the noise of a cell, the mean of 2x2 pixels."""
_CELL, _SIZE, _MEAN = (4.2, 1.5), (1.15, 1.5), (0.65, 1.7)
"""The figures, in standard deviations, at which the gate begins to open, and the ratio by which it is open. Of noise alone they
are below 4 in all but a few cells, 0.8 with a deviation of 0.1, and within 0.17."""
_LEAST_CELL_LEVELS, _LEAST_BOX_LEVELS = 5.0, 1.75
"""However little noise there is, changes of single cells and of surfaces below these are averaged: a codec makes as many."""
_CUT_SHARE, _STILL_SHARE = 0.7, 0.4
_OLDEST = 2 * FULL - 1
"""As many frames as one by the least weight, 1, has as little noise as the mean of. An average knows of none that are older."""
_AGES = np.maximum(1, np.arange(256))
_BY_AGE = np.rint(FULL / _AGES)
"""The weight of a frame that is the n-th since the gate was open: 1 / n."""
_FIRMNESS = np.rint(255 / np.sqrt(1.0 + 1.0 / _AGES)).astype(np.uint8)
"""The share of the new frame in the noise of its difference to the mean of n frames: 1 / sqrt(1 + 1 / n), in 255ths."""


class RecursiveMean:
    """The motion-gated average of one plane of uint8 or uint16, (H, W), both sides at least 8 pixels.

    At every pixel it stays in the range of what was given there, and what moves comes without lag.

    Args:
        passes: what is done to its pixels.
    """

    def __init__(self, passes: MeanPasses) -> None:
        self._passes = passes
        self._frames_since: Image8 | None = None
        """Frames since the gate of a block was open; None before the first frame."""
        self._moving = 1.0
        self.is_cut = False
        """The last frame was of another scene: at once almost all of the picture changed, much of which had stood still."""

    def follow(
        self,
        image: SteppedImage,
        *,
        dt_ns: int,
        pixel_noise: float,
        cell_noise: float,
        out: Image,
        level: float = 1.0,
        let_go: Sequence[slice] = (),
    ) -> None:
        """Average the next frame in, and show it.

        Args:
            image: (H, W), as it came or fine (`rtfusion.fusion.passes`), within the range of the type of the plane.
            dt_ns: time since the last frame.
            pixel_noise: standard deviation of the noise, in the unit of the pixels.
            cell_noise: that of the noise of cells, the means of 2x2 pixels.
            out: (H, W), of the type of the plane; takes what is shown.
            level: the size of a gray level in that unit, for counts.
            let_go: rows that are shown as their average is, whatever was shown before; not of counts that are each more than a
                gray level, since all of these rows would be seen to move.
        """
        if self._frames_since is None:
            height, width = image.shape
            self._frames_since = np.ones((height // BLOCK_PX, width // BLOCK_PX), np.uint8)
            self._passes.begin(image)
            weight = np.zeros_like(self._frames_since)
        else:
            weight = self._weight(
                image, self._frames_since, dt_ns=dt_ns, pixel_noise=pixel_noise, cell_noise=cell_noise, level=level
            )
        for rows in let_go if level >= 1.0 else ():
            self._passes.let_go(rows)
        self._passes.average(image, weights=weight, out=out)

    def _weight(
        self,
        image: SteppedImage,
        frames_since: Image8,
        *,
        dt_ns: int,
        pixel_noise: float,
        cell_noise: float,
        level: float,
    ) -> Image8:
        """The weight of a frame in every block, by its motion and its age, which is brought up to this frame."""
        gate = _gate(pixel_noise, cell_noise, level)
        motion = self._passes.compare(image, largest_pixel=gate.largest_pixel, largest_cell=gate.largest_cell)
        tables = Tables(firmness=_FIRMNESS, weights=_weights(dt_ns), oldest=_OLDEST)
        weight, open_blocks = self._passes.weigh(motion, ages=frames_since, tables=tables, ramps=gate.ramps)
        moving = open_blocks / weight.size
        self.is_cut = moving > _CUT_SHARE and self._moving < _STILL_SHARE
        self._moving = moving
        return weight


class _Gate(NamedTuple):
    """How motion is told from noise."""

    largest_pixel: int
    largest_cell: int
    """The sizes of pixels and of cells count up to these, in fine steps."""
    ramps: tuple[Ramp, ...]


@functools.lru_cache(maxsize=8)
def _gate(pixel_noise: float, cell_noise: float, level: float) -> _Gate:
    """The gate for noise of these standard deviations, which stay from one measure to the next."""
    pixel, cell = (max(noise, 0.5 * level) for noise in (pixel_noise, cell_noise))
    pixel_scale, cell_scale = (_UNIT / (noise * (1 << FINE_BITS)) for noise in (pixel, cell))
    box = _LEAST_BOX_LEVELS * level
    ramps = (
        _ramp(cell_scale, *_CELL, _LEAST_CELL_LEVELS * level / cell),
        _ramp(pixel_scale, *_SIZE, box / pixel + 0.3),
        _ramp(cell_scale, *_SIZE, 0.8 * box / cell + 0.3),
        _ramp(cell_scale, *_MEAN, box / cell),
    )
    return _Gate(round(255 / pixel_scale), round(255 / cell_scale), ramps)


def _ramp(scale: float, least: float, ratio: float, floor: float) -> Ramp:
    """A gate that opens from ``least`` standard deviations, or from ``floor`` where that is more, to ``ratio`` times as many."""
    whole = FULL << RAMP_BITS
    slope = whole / ((ratio - 1.0) * max(least, floor) * _UNIT)
    return Ramp(scale=scale, slope=round(slope), offset=round(whole / (ratio - 1.0)) - (1 << (RAMP_BITS - 1)))


def _weights(dt_ns: int) -> Image8:
    """The table of the weight of a frame by the age of its block, this long after the one before."""
    return _weights_from(max(1, round(FULL * (1.0 - math.exp(-dt_ns / (TIME_CONSTANT_S * NS_PER_S))))))


@functools.cache
def _weights_from(least: int) -> Image8:
    """The table of weights of at least this, up to FULL."""
    return np.maximum(_BY_AGE, least).astype(np.uint8)
