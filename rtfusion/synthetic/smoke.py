"""Smoke before the visible camera: two veils that drift at their own speeds."""

from __future__ import annotations

import cv2
import numpy as np

from rtfusion.synthetic.canvas import Array, clouds
from rtfusion.types import Image

_THICK_BGR, _THIN_BGR = (214.0, 211.0, 207.0), (176.0, 170.0, 163.0)


class Smoke:
    """Hides what stands on the ground and leaves the upper part in a haze; a thermal camera sees through it."""

    def __init__(self, *, size_px: tuple[int, int], seed: int, period_s: int) -> None:
        self._width, height = size_px
        rng = np.random.default_rng((seed, 31))
        # How thick, how coarse and how uneven each veil is, and its laps per second.
        self._veils = [
            (
                *_veil(rng, width=2 * self._width, height=height, thickness=thickness, slope=slope, contrast=contrast),
                # Whole laps in a period, so that the smoke repeats with the scene.
                2 * self._width * round(laps_hz * period_s) / period_s,
            )
            for thickness, slope, contrast, laps_hz in ((1.6, 2.1, 0.45, 0.011), (1.5, 1.85, 0.55, 0.023))
        ]

    def cover(self, image: Image, time_s: float) -> None:
        """Draw the smoke of a moment over a picture, in place."""
        for clear, color, px_per_s in self._veils:
            left = int(-px_per_s * time_s) % (2 * self._width)
            cv2.multiply(image, clear[:, left : left + self._width], dst=image, scale=1.0 / 255.0)
            cv2.add(image, color[:, left : left + self._width], dst=image)


def _veil(
    rng: np.random.Generator, *, width: int, height: int, thickness: float, slope: float, contrast: float
) -> tuple[Array, Array]:
    """Return what one layer of smoke lets through and what it adds, 8 bit, wide enough to be cropped at any offset."""
    billows = clouds(rng, width=width, height=height, slope=slope)
    # Light comes from the upper left: a billow is bright where its thickness falls toward the light.
    relief = cv2.GaussianBlur(np.roll(billows, (7, 7), (0, 1)) - billows, (0, 0), 4.0)
    # Thin in the sky, full where people walk.
    share = (np.arange(height) + 0.5) / height
    profile = np.asarray(0.24 + 0.86 / (1.0 + np.exp(-(share - 0.49) / 0.07)), np.float32)
    through = np.exp(-thickness * profile[:, None] * np.exp(contrast * billows - 0.5 * contrast**2))
    body = np.clip(0.62 + 0.26 * billows - 0.8 * relief, 0.0, 1.0)[..., None]
    color = body * np.asarray(_THICK_BGR, np.float32) + (1.0 - body) * np.asarray(_THIN_BGR, np.float32)
    return _wrapped(np.repeat(255.0 * through[..., None], 3, axis=2)), _wrapped((1.0 - through)[..., None] * color)


def _wrapped(tile: Array) -> Array:
    """The tile with its first half repeated behind it."""
    levels = np.clip(np.round(tile), 0, 255).astype(np.uint8)
    return np.concatenate([levels, levels[:, : levels.shape[1] // 2]], axis=1)
