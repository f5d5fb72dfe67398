"""Parameters that every source takes: the part of the picture, how it is turned, what is drawn over it, how late it is.

=============================== =====================================================================================
``crop=X,Y,WIDTH,HEIGHT``       this part of the picture; ``WIDTHxHEIGHT+X+Y`` as well
``half=left``                   one half of a split screen: ``left``, ``right``, ``top`` or ``bottom``
``mask=X,Y,WIDTH,HEIGHT``       what is drawn there is filled from around it; several regions are joined by ``;``
``rotate=90``                   turned clockwise by 90, 180 or 270 degrees
``flip=h``                      mirrored left to right; ``v``: top to bottom; ``hv``: both
``shift_ms=40``                 its stamps are made later by so many milliseconds; below 0, earlier
=============================== =====================================================================================

They are applied in this order, but for the mask, which comes first: its places are those of the whole picture.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

HALVES = ("left", "right", "top", "bottom")

_REGION = "expected X,Y,WIDTH,HEIGHT in pixels, such as 320,0,320,240"


class Region(NamedTuple):
    """A part of a picture, in pixels."""

    x: int
    y: int
    width: int
    height: int

    def fits(self, size_px: tuple[int, int]) -> bool:
        """True for a part of a picture of this size."""
        return self.x + self.width <= size_px[0] and self.y + self.height <= size_px[1]

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns, to index an image by."""
        return slice(self.y, self.y + self.height), slice(self.x, self.x + self.width)


def region(text: str) -> Region:
    """Read ``X,Y,WIDTH,HEIGHT`` or ``WIDTHxHEIGHT+X+Y``; ValueError: it is neither, or empty."""
    if match := re.fullmatch(r"(\d+),(\d+),(\d+),(\d+)", text):
        found = Region(*map(int, match.groups()))
    elif match := re.fullmatch(r"(\d+)x(\d+)\+(\d+)\+(\d+)", text):
        width, height, x, y = map(int, match.groups())
        found = Region(x, y, width, height)
    else:
        raise ValueError(_REGION)
    if not (found.width and found.height):
        raise ValueError(f"the part is empty; {_REGION}")
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Corrections:
    """What is to be done with every frame of a source."""

    crop: Region | None = None
    half: str | None = None
    mask: tuple[Region, ...] = ()
    rotate: int = 0
    flip: str | None = None
    shift_ms: float = 0.0

    @property
    def change_something(self) -> bool:
        """False when every frame passes as it came."""
        return self != Corrections()


def one_of(*choices: str) -> Callable[[str], str]:
    """Make a converter that takes one of these words."""

    def convert(text: str) -> str:
        if text not in choices:
            raise ValueError(f"expected {', '.join(choices[:-1])} or {choices[-1]}")
        return text

    return convert


def _rotation_deg(text: str) -> int:
    if text not in ("0", "90", "180", "270"):
        raise ValueError("expected 90, 180 or 270 degrees clockwise")
    return int(text)


def seconds(text: str) -> float:
    """Read seconds, or minutes and hours too: ``90``, ``1:30``, ``0:01:30.5``; ValueError: neither, or below 0."""
    if not re.fullmatch(r"(\d+:){0,2}\d+(\.\d+)?", text):
        raise ValueError("expected seconds, such as 2.5, or 1:30")
    return sum(float(part) * 60**power for power, part in enumerate(reversed(text.split(":"))))


def _milliseconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) < 1e9:
        raise ValueError("expected milliseconds, such as 40 or -12.5")
    return value


CONVERTERS: Mapping[str, Callable[[str], Any]] = {
    "crop": region,
    "half": one_of(*HALVES),
    "mask": lambda text: tuple(map(region, text.split(";"))),
    "rotate": _rotation_deg,
    "flip": one_of("h", "v", "hv"),
    "shift_ms": _milliseconds,
}
"""The parameters that every source takes, and how their values are read."""
