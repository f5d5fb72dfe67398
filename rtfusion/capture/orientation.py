"""Images that are stored turned or mirrored, and how to put them upright; cameras that are mounted so."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from rtfusion.types import Image

# (mirror left and right, mirror top and bottom) -> flip code of OpenCV
_FLIPS = {(False, False): None, (True, False): 1, (False, True): 0, (True, True): -1}


class Orientation:
    """The turn that makes a stored image upright: transposed first, then flipped."""

    def __init__(self, *, transposed: bool = False, flip: int | None = None) -> None:
        self._transposed = transposed
        self._flip = flip

    @classmethod
    def from_display_matrix(cls, matrix: bytes) -> Orientation | None:
        """From the nine 32-bit numbers (a, b, u, c, d, v, ...) that containers store; None for an oblique angle.

        They mean x' = a x + c y and y' = b x + d y, in 16.16 fixed point and with y downwards.
        """
        a, b, _, c, d = np.frombuffer(matrix, np.int32, count=5) / 65536
        if max(abs(b), abs(c)) < 1e-3 < min(abs(a), abs(d)):
            return cls(flip=_FLIPS[bool(a < 0), bool(d < 0)])
        if max(abs(a), abs(d)) < 1e-3 < min(abs(b), abs(c)):
            return cls(transposed=True, flip=_FLIPS[bool(c < 0), bool(b < 0)])
        return None

    def __call__(self, image: Image) -> Image:
        """The upright image."""
        turned: Any = cv2.transpose(image) if self._transposed else image
        return turned if self._flip is None else cv2.flip(turned, self._flip)


CLOCKWISE = {
    90: Orientation(transposed=True, flip=1),
    180: Orientation(flip=-1),
    270: Orientation(transposed=True, flip=0),
}
"""Give the turn by so many degrees clockwise."""

FLIPS = {"h": Orientation(flip=1), "v": Orientation(flip=0), "hv": Orientation(flip=-1)}
"""Mirror left and right (``h``), top and bottom (``v``), or both."""
