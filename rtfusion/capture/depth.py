"""How many bits the numbers of a deep visible picture have: 12-bit cameras store theirs in files of 16."""

from __future__ import annotations

from typing import Any, cast

import cv2

from rtfusion.types import Image, Image8

USUAL = 8, 10, 12
"""Depths that are believed of numbers which need no more: with more bits the picture would be next to black."""


def bits(text: str) -> int:
    """Read a number of bits; ValueError: it is none that a pixel has."""
    if not text.isdecimal() or not 8 <= int(text) <= 16:
        raise ValueError("expected 8 to 16 bits, such as 12")
    return int(text)


class Depth:
    """Scales deep pictures of one source to 8 bits, by the depth that the user said or that their largest number tells.

    A larger number than the depth can hold, later on, widens it for good.
    """

    def __init__(self, asked: int | None = None) -> None:
        self._asked = asked
        self._largest = 0
        self.bits: int | None = asked
        """The depth, once it is known."""
        self._stored = 16

    def learn(self, image: Image, *, stored: int = 16) -> None:
        """See the numbers of a picture whose format could hold ``stored`` bits."""
        self._stored = stored
        if self._asked is None:
            self._largest = max(self._largest, int(image.max()))
            holding = [depth for depth in USUAL if 0 < self._largest < 1 << depth]
            self.bits = min([*holding, stored])

    def __call__(self, image: Image, *, stored: int = 16) -> Image8:
        """The picture in 8 bits."""
        self.learn(image, stored=stored)
        eight: Any = cv2.convertScaleAbs(image, alpha=255 / (2 ** (self.bits or stored) - 1))
        return cast(Image8, eight)

    @property
    def note(self) -> str | None:
        """What was assumed; None where nothing was."""
        if self.bits is None or self._asked is not None or self.bits == self._stored:
            return None
        return (
            f"its largest number is {self._largest}, so its {self._stored}-bit visible pictures are taken for {self.bits} bits; "
            f"?bits={self._stored} takes them as stored"
        )
