"""Thermal cameras close a shutter every few minutes to calibrate themselves. Meanwhile the last image from before is shown."""

from __future__ import annotations

import numpy as np

from rtfusion.clock import NS_PER_S
from rtfusion.types import Image

LONGEST_NS = 3 * NS_PER_S
"""A closure that lasts longer is not taken for a shutter: the image is shown as it comes."""
FLAT = 0.2
"""A picture whose spread falls to this part of what it was, from one frame to the next, is of a shutter."""
OPEN_AGAIN = 0.5
LEAST_SPREAD = 40.0
"""Counts, or a tenth as many gray levels: a scene with less of its own cannot be told from a shutter."""
_STEP = 4


class ShutterHold:
    """Replaces images of the shutter by the last one of the scene.

    The camera's own word is taken where it has one. ``by_picture`` also looks for pictures that suddenly have next to no
    contrast.
    """

    def __init__(self, *, by_picture: bool) -> None:
        self._by_picture = by_picture
        self._before: Image | None = None
        self._spread: float | None = None
        self._since_ns: int | None = None

    def __call__(self, image: Image, *, closed: bool, timestamp_ns: int) -> tuple[Image, bool]:
        """The image to show, and whether it is one that is held."""
        closed = closed or (self._by_picture and self._looks_closed(image))
        if not closed:
            self._since_ns, self._before = None, image
            return image, False
        if self._since_ns is None:
            self._since_ns = timestamp_ns
        if timestamp_ns - self._since_ns > LONGEST_NS:
            self._spread = None
            self._before = image
            return image, False
        return (image if self._before is None else self._before), True

    def _looks_closed(self, image: Image) -> bool:
        low, high = np.percentile(image[::_STEP, ::_STEP], (1, 99))
        spread = float(high - low)
        least = LEAST_SPREAD if image.dtype == np.uint16 else LEAST_SPREAD / 10
        if self._since_ns is not None and self._spread is not None:
            return spread < OPEN_AGAIN * self._spread
        if self._spread is not None and self._spread >= least and spread < FLAT * self._spread:
            return True
        self._spread = spread
        return False
