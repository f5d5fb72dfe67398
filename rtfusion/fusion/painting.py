"""Fusers that paint: the thermal image in a palette, over the visible one where it is warm, or under its edges."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from rtfusion.errors import ConfigError
from rtfusion.fusion.buffers import Pool
from rtfusion.fusion.color import PALETTES, REVERSED, as_bgr, colorize, is_palette, luminance, palette_bgr
from rtfusion.fusion.scene import SceneMemory
from rtfusion.types import Image8

SOFT_RANGE = 0.15
"""Fraction of the thermal range over which the overlay fades in above the threshold."""

EDGE_SIGMA_PX = 1.5
"""Edges are what is left of the visible image above this scale."""
FAINT_EDGES = 2.5
"""Edges up to so many times the median of all detail are texture and noise, and are not drawn."""
STRONG_PERCENT = 99.0
"""This percentile of all detail is drawn at `STRONG_LEVELS`."""
STRONG_LEVELS = 48.0
LARGEST_EDGE_GAIN = 6.0
LARGEST_EDGE_LEVELS = 96.0
EDGE_TIME_CONSTANT_S = 1.0
SAMPLE_STEP = 4
_GRAY = 128
_DETAIL = np.arange(256) - _GRAY


class Painter(ABC):
    """A fuser that paints the thermal image in a palette."""

    def __init__(self, *, palette: str) -> None:
        self.set_palette(palette)

    @property
    def palette(self) -> str:
        """The palette in use."""
        return self._palette

    def set_palette(self, palette: str) -> None:
        """Use this palette from the next image on; any thread may ask.

        Raises:
            ConfigError: there is none of that name.
        """
        if not is_palette(palette):
            names = ", ".join(PALETTES)
            raise ConfigError(f"no palette {palette!r}; there are {names}, each also with {REVERSED} at its end")
        self._palette, self._table_bgr = palette, palette_bgr(palette)

    @abstractmethod
    def __call__(self, *, visible: Image8, thermal: Image8, timestamp_ns: int) -> Image8:
        """(H, W, 3) or (H, W) visible and (H, W) thermal in, (H, W, 3) BGR out, a fresh array."""


class Overlay(Painter):
    """visible + a (palette(thermal) - visible), with a rising from 0 at the threshold to ``opacity``.

    ``threshold`` is a fraction of the thermal range: 0 shows the palette everywhere, 1 nowhere but on the hottest pixels.
    """

    def __init__(self, *, palette: str, threshold: float, opacity: float) -> None:
        super().__init__(palette=palette)
        warmth = (np.arange(256) / 255.0 - threshold) / SOFT_RANGE
        rise = np.clip(warmth, 0.0, 1.0) if threshold > 0.0 else np.ones(256)
        self._opacity = (opacity * rise * rise * (3.0 - 2.0 * rise)).astype(np.float32)[None]

    def __call__(self, *, visible: Image8, thermal: Image8, timestamp_ns: int) -> Image8:
        """See `Painter`."""
        above = cv2.LUT(thermal, self._opacity)
        below = np.float32(1.0) - above
        return cast(Image8, cv2.blendLinear(colorize(thermal, self._table_bgr), as_bgr(visible), above, below))


class Edges(Painter):
    """palette(thermal) + g(E), as thermographers know it: E is the visible luminance less its blur.

    g draws nothing up to `FAINT_EDGES` times the median of abs(E), and the strongest hundredth at `STRONG_LEVELS`. Both follow
    with the memory of the scene: the drawing adapts to the light and does not flicker. Where the visible image shows
    nothing, none is drawn.
    """

    def __init__(self, *, palette: str, still: bool) -> None:
        super().__init__(palette=palette)
        self._scene = SceneMemory(time_constant_s=0.0 if still else EDGE_TIME_CONSTANT_S)
        self._detail_levels = np.zeros(2)
        """Median and `STRONG_PERCENT` percentile of abs(E)."""
        self._pool = Pool()

    def __call__(self, *, visible: Image8, thermal: Image8, timestamp_ns: int) -> Image8:
        """See `Painter`."""
        take = self._pool.take
        visible_y = luminance(visible, take=take)
        detail = cv2.GaussianBlur(visible_y, (0, 0), EDGE_SIGMA_PX, take(visible_y.shape))
        cv2.addWeighted(visible_y, 1.0, detail, -1.0, _GRAY, detail)
        painted = colorize(thermal, self._table_bgr)
        drawn = take(painted.shape)
        lighter, darker = self._tables(visible_y, cast(Image8, detail), timestamp_ns=timestamp_ns)
        for table, put in ((lighter, cv2.add), (darker, cv2.subtract)):
            put(painted, cv2.cvtColor(cv2.LUT(detail, table), cv2.COLOR_GRAY2BGR, drawn), painted)
        return painted

    def _tables(self, visible_y: Image8, detail: Image8, *, timestamp_ns: int) -> tuple[Image8, Image8]:
        """The levels that are added and taken off, by the level of ``detail``."""
        levels = np.abs(detail[::SAMPLE_STEP, ::SAMPLE_STEP].astype(np.int16) - _GRAY)
        weight = self._scene.weight(visible_y, timestamp_ns=timestamp_ns)
        self._detail_levels += weight * (np.percentile(levels, (50.0, STRONG_PERCENT)) - self._detail_levels)
        faint, strong = FAINT_EDGES * max(self._detail_levels[0], 0.5), self._detail_levels[1]
        gain = min(STRONG_LEVELS / max(strong - faint, 1.0), LARGEST_EDGE_GAIN)
        drawn: npt.NDArray[np.float64] = np.clip(gain * (np.abs(_DETAIL) - faint), 0, LARGEST_EDGE_LEVELS)
        lighter, darker = (np.rint(drawn * side).astype(np.uint8) for side in (_DETAIL > 0, _DETAIL < 0))
        return lighter, darker
