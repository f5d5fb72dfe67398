"""The thermal image in a palette over the visible one, where it is warm."""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np

from rtfusion.errors import ConfigError
from rtfusion.fusion.color import PALETTES, as_bgr, colorize, palette_bgr
from rtfusion.types import Image8

SOFT_RANGE = 0.15
"""Fraction of the thermal range over which the overlay fades in above the threshold."""


class Overlay:
    """visible + a (palette(thermal) - visible), with a rising from 0 at the threshold to ``opacity``.

    ``threshold`` is a fraction of the thermal range: 0 shows the palette everywhere, 1 nowhere but on the hottest pixels.
    """

    def __init__(self, *, palette: str, threshold: float, opacity: float) -> None:
        self.set_palette(palette)
        warmth = (np.arange(256) / 255.0 - threshold) / SOFT_RANGE
        rise = np.clip(warmth, 0.0, 1.0) if threshold > 0.0 else np.ones(256)
        self._opacity = (opacity * rise * rise * (3.0 - 2.0 * rise)).astype(np.float32)[None]

    @property
    def palette(self) -> str:
        """The palette in use."""
        return self._palette

    def set_palette(self, palette: str) -> None:
        """Use this palette from the next image on; any thread may ask.

        Raises:
            ConfigError: there is none of that name.
        """
        if palette not in PALETTES:
            raise ConfigError(f"no palette {palette!r}; there are {', '.join(PALETTES)}")
        self._palette, self._table_bgr = palette, palette_bgr(palette)

    def __call__(self, *, visible: Image8, thermal: Image8) -> Image8:
        """(H, W, 3) or (H, W) visible and (H, W) thermal in, (H, W, 3) BGR out, a fresh array."""
        above = cv2.LUT(thermal, self._opacity)
        below = np.float32(1.0) - above
        return cast(Image8, cv2.blendLinear(colorize(thermal, self._table_bgr), as_bgr(visible), above, below))
