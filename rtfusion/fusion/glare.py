"""What is done to pixels where the visible band is burnt out, with OpenCV; compiled loops give the same bits in less time."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, cast

import cv2
import numpy as np

from rtfusion.types import Image8

WHOLE_LEVEL, BURNT_LEVEL = 238, 248
"""Luminance up to which a visible pixel is trusted, and from which on it is burnt out."""
SPANS_LEVELS = 20, 40
"""Span within 5 px, up to which such a pixel lies on flat ground, and from which on it has texture."""
SHOWING_LEVEL, HIDDEN_LEVEL = 180, 220
"""Fused luminance up to which burnt out ground shows thermal detail anyway, and from which on it hides it."""
GROUND_LEVEL = 242.0
"""Burnt out ground without thermal detail: bright, but not burnt."""
DETAIL_GAIN, LARGE_DETAIL_GAIN, LARGE_LEVELS = 0.95, 0.7, 24
"""Gains of a detail up to and beyond so many gray levels: more than the plain mean's half, and room for what is hot."""

BURNT_GAIN = 255 / (BURNT_LEVEL - WHOLE_LEVEL)
FLAT_GAIN = 255 / (SPANS_LEVELS[1] - SPANS_LEVELS[0])
HIDDEN_GAIN = 255 / (HIDDEN_LEVEL - SHOWING_LEVEL)

BLOCK_PX = 8
RIM, AROUND, NEAR = (np.ones((side, side), np.uint8) for side in (3, 5, BLOCK_PX + 1))

_LEVELS = np.arange(256)
GAINED: Image8 = np.rint(
    LARGE_DETAIL_GAIN * _LEVELS + (DETAIL_GAIN - LARGE_DETAIL_GAIN) * np.minimum(_LEVELS, LARGE_LEVELS)
).astype(np.uint8)
"""The levels that a detail is shown with, by its own, of either sign."""


class Blocks(NamedTuple):
    """Of each block, (rows, columns) uint8."""

    shares: Image8
    """The mean of the share."""
    levels: Image8
    """The mean of the thermal band times the share."""
    peaks: Image8
    """The largest of that within half a block of the upper left pixel."""


class Glare(Protocol):
    """What is done to pixels. All images of a call are (H, W) uint8, parts of larger ones too; ``out`` takes what is made."""

    def find(self, visible_y: Image8, *, out: Image8) -> int:
        """How far pixels are burnt out, to 255: bright and flat. Gives the number of those that are at all."""

    def rim(self, burnt: Image8, *, out: Image8) -> None:
        """As much as the texture beside it has taken off, and a rim: the mean over 3x3 pixels of the largest among 5x5."""

    def hide(self, burnt: Image8, *, fused_y: Image8, out: Image8) -> None:
        """What is burnt out, as far as the fused luminance is as bright; elsewhere it shows the thermal band already."""

    def relight(
        self, fused_y: Image8, *, thermal: Image8, share: Image8, expected: Image8, ground: Image8, out: Image8
    ) -> None:
        """The fused luminance with a ``share`` of thermal detail: what differs from ``expected``, with a gain, on ``ground``."""

    def blocks(self, share: Image8, *, thermal: Image8) -> Blocks:
        """What blocks of `BLOCK_PX` pixels a side show; at the lower and right end they may be smaller."""


class OpenCvGlare:
    """With OpenCV; see `Glare`."""

    def find(self, visible_y: Image8, *, out: Image8) -> int:
        """How far pixels are burnt out."""
        cv2.subtract(visible_y, cast(Any, (WHOLE_LEVEL,)), out)
        cv2.convertScaleAbs(out, out, alpha=BURNT_GAIN)
        span = cv2.subtract(cv2.dilate(visible_y, AROUND), cv2.erode(visible_y, AROUND))
        flat = cv2.subtract(cast(Any, (SPANS_LEVELS[1],)), span, span)
        cv2.min(out, cv2.convertScaleAbs(flat, flat, alpha=FLAT_GAIN), out)
        return cv2.countNonZero(out)

    def rim(self, burnt: Image8, *, out: Image8) -> None:
        """What is burnt out with its rim."""
        cv2.blur(cv2.dilate(burnt, AROUND), RIM.shape, out)

    def hide(self, burnt: Image8, *, fused_y: Image8, out: Image8) -> None:
        """What is burnt out and hides the thermal band."""
        hidden = cv2.subtract(fused_y, cast(Any, (SHOWING_LEVEL,)))
        cv2.convertScaleAbs(hidden, hidden, alpha=HIDDEN_GAIN)
        hidden = cv2.blur(cv2.dilate(hidden, AROUND), AROUND.shape)
        cv2.multiply(burnt, hidden, out, scale=1 / 255)

    def relight(
        self, fused_y: Image8, *, thermal: Image8, share: Image8, expected: Image8, ground: Image8, out: Image8
    ) -> None:
        """The fused luminance with thermal detail."""
        above, below = cv2.subtract(thermal, expected), cv2.subtract(expected, thermal)
        shown = cv2.subtract(cv2.add(ground, cv2.LUT(above, GAINED)), cv2.LUT(below, GAINED))
        detail = cv2.multiply(cv2.min(shown, cast(Any, (GROUND_LEVEL,))), share, scale=1 / 255)
        cv2.add(cv2.multiply(fused_y, cv2.bitwise_not(share), scale=1 / 255), detail, out)

    def blocks(self, share: Image8, *, thermal: Image8) -> Blocks:
        """What blocks show."""
        size_px = -(-share.shape[1] // BLOCK_PX), -(-share.shape[0] // BLOCK_PX)
        seen = cv2.multiply(thermal, share, scale=1 / 255)
        shares, levels = (cv2.resize(plane, size_px, interpolation=cv2.INTER_AREA) for plane in (share, seen))
        peaks = cv2.resize(cv2.dilate(seen, NEAR), size_px, interpolation=cv2.INTER_NEAREST)
        return Blocks(*(cast(Image8, plane) for plane in (shares, levels, peaks)))


OPENCV = OpenCvGlare()
