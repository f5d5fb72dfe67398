"""The share of the thermal detail that is kept where the visible camera sees nothing: in smoke, in the dark, in glare."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from rtfusion.types import Image8

WINDOW_PX = 15
BLIND_SD = 3.0
"""Visible gray levels: less structure than this in a window, and the camera is blind there."""
DETAIL_SD = 6.0
"""Thermal gray levels: more than this, and there is something to see."""
BLUR_PX = 1.0
"""Both pictures are blurred before their gradients are compared: noise is no detail."""

Map = npt.NDArray[np.float32]


class Kept(NamedTuple):
    """Thermal gradient energy that was there, and that was kept; in how many of all pixels."""

    there: float
    kept: float
    blind_px: int
    pixels: int

    @classmethod
    def over(cls, frames: Iterable[Kept]) -> Kept:
        """All frames as one."""
        return cls(*map(sum, zip(cls(0.0, 0.0, 0, 0), *frames, strict=True)))

    @property
    def ratio(self) -> float | None:
        """0: nothing of the detail, 1: all of it; None where the visible camera is blind nowhere."""
        return self.kept / self.there if self.there else None

    @property
    def blind(self) -> float:
        """Share of the picture, 0 to 1."""
        return self.blind_px / self.pixels if self.pixels else 0.0


def kept_where_blind(*, fused: Image8, visible: Image8, thermal: Image8) -> Kept:
    """Compare gradients where only the thermal picture has structure; three (H, W) uint8 of one size.

    Kept is the part of the fused gradient along the thermal one, up to its length: an edge of the other sign, or of another
    direction, is not kept, and making it stronger than it was earns nothing.
    """
    seen_visible, seen_thermal = (deviation(image, window_px=WINDOW_PX) for image in (visible, thermal))
    mask = (seen_visible < BLIND_SD) & (seen_thermal > DETAIL_SD)
    fused_x, fused_y = _gradient(fused)
    thermal_x, thermal_y = _gradient(thermal)
    there = thermal_x * thermal_x + thermal_y * thermal_y
    kept = np.clip(fused_x * thermal_x + fused_y * thermal_y, 0, there)
    return Kept(
        there=float(there[mask].sum(dtype=np.float64)),
        kept=float(kept[mask].sum(dtype=np.float64)),
        blind_px=int(mask.sum()),
        pixels=mask.size,
    )


def deviation(image: Image8, *, window_px: int) -> Map:
    """Standard deviation in the square window around every pixel; (H, W) uint8 in, (H, W) float32 gray levels out."""
    values, window = image.astype(np.float32), (window_px, window_px)
    mean, square = cv2.blur(values, window), cv2.blur(values * values, window)
    return np.sqrt(np.maximum(square - mean * mean, 0)).astype(np.float32, copy=False)


def _gradient(image: Image8) -> tuple[Map, Map]:
    smooth = cv2.GaussianBlur(image.astype(np.float32), (0, 0), BLUR_PX)
    x, y = (cv2.Sobel(smooth, cv2.CV_32F, *order, ksize=3) for order in ((1, 0), (0, 1)))
    return x.astype(np.float32, copy=False), y.astype(np.float32, copy=False)
