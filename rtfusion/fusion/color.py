"""Luminance, and putting a fused luminance back under the colors of the visible image.

Convention: full-range BT.601, as OpenCV: Y = 0.299 R + 0.587 G + 0.114 B.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import cv2
import numpy as np

from rtfusion.fusion.buffers import fresh
from rtfusion.types import Image8

Take = Callable[[tuple[int, ...]], Image8]
"""Gives an array of a shape, with any pixels in it: `rtfusion.fusion.buffers.fresh`, or a pool's."""

PALETTES = ("inferno", "ironbow", "white-hot", "black-hot", "rainbow")

MEAN_SIGMA_PX = 3.0
"""Structure smaller than this is detail."""

_IRONBOW_BGR = np.array(
    [
        (0, 0, 0),
        (110, 0, 32),
        (140, 0, 110),
        (120, 0, 175),
        (60, 40, 215),
        (0, 100, 240),
        (0, 160, 253),
        (40, 220, 255),
        (245, 250, 255),
    ],
    dtype=np.float64,
)


def luminance(visible: Image8, *, take: Take = fresh) -> Image8:
    """(H, W, 3) BGR or (H, W) gray to (H, W) luminance, in an array that ``take`` gives; gray is returned as it is."""
    if visible.ndim == 2:
        return visible
    return cast(Image8, cv2.cvtColor(visible, cv2.COLOR_BGR2GRAY, take(visible.shape[:2])))


def as_bgr(image: Image8) -> Image8:
    """(H, W) gray to (H, W, 3); a BGR image is returned as it is."""
    return image if image.ndim == 3 else cast(Image8, cv2.cvtColor(image, cv2.COLOR_GRAY2BGR))


def compose(*, visible: Image8, visible_y: Image8, fused_y: Image8, take: Take = fresh) -> Image8:
    """Fused luminance with the chroma of the visible image: (H, W, 3) BGR, in arrays that ``take`` gives.

    In Y'CbCr, changing Y with Cb and Cr kept adds the same step to R, G and B; so that step is added to the visible image
    directly, which skips two conversions and their rounding of the chroma. A gray visible image gives a gray result.
    """
    plane, color = fused_y.shape, (*fused_y.shape, 3)
    if visible.ndim == 2:
        return cast(Image8, cv2.cvtColor(fused_y, cv2.COLOR_GRAY2BGR, take(color)))
    # Up and down are 8-bit steps that saturate, one of them 0 at every pixel: exact, and half the time of one 16-bit step.
    up = cv2.cvtColor(cv2.subtract(fused_y, visible_y, take(plane)), cv2.COLOR_GRAY2BGR, take(color))
    down = cv2.cvtColor(cv2.subtract(visible_y, fused_y, take(plane)), cv2.COLOR_GRAY2BGR, take(color))
    return cast(Image8, cv2.subtract(cv2.add(visible, up, up), down, up))


def rebase_on_mean(*, fused_y: Image8, visible_y: Image8, thermal: Image8, take: Take = fresh) -> Image8:
    """Detail of the fused luminance over the base of the plain mean of both bands, all (H, W).

    fused + G (mean - fused), with G a Gaussian blur of `MEAN_SIGMA_PX`: what a detector finds most in (docs/visibility.md).
    """
    mean = cv2.addWeighted(visible_y, 0.5, thermal, 0.5, 0.0, take(fused_y.shape))
    step = cv2.GaussianBlur(cv2.subtract(mean, fused_y, dtype=cv2.CV_16S), (0, 0), MEAN_SIGMA_PX)
    return cast(Image8, cv2.add(fused_y, step, mean, dtype=cv2.CV_8U))


def palette_bgr(name: str) -> Image8:
    """The (256, 1, 3) BGR table of a palette, cold first."""
    ramp = np.arange(256, dtype=np.uint8)[:, None]
    if name == "white-hot":
        return as_bgr(ramp)
    if name == "black-hot":
        return as_bgr(255 - ramp)
    if name == "ironbow":
        stops = np.linspace(0.0, 255.0, len(_IRONBOW_BGR))
        channels = [np.interp(np.arange(256), stops, _IRONBOW_BGR[:, channel]) for channel in range(3)]
        return np.round(np.stack(channels, axis=1)[:, None]).astype(np.uint8)
    code = {"inferno": cv2.COLORMAP_INFERNO, "rainbow": cv2.COLORMAP_RAINBOW}[name]
    table = cv2.applyColorMap(ramp, code)
    # OpenCV's rainbow runs from red to violet: turned round, so that hot is red
    return cast(Image8, np.ascontiguousarray(table[::-1]) if name == "rainbow" else table)


def colorize(gray: Image8, table_bgr: Image8) -> Image8:
    """(H, W) uint8 to (H, W, 3) BGR by a palette table."""
    return cast(Image8, cv2.applyColorMap(gray, table_bgr))
