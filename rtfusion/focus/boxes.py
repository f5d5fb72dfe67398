"""Boxes around targets, and the soft maps that are made of them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from rtfusion.errors import ConfigError
from rtfusion.focus.base import SCALE, Map, map_shape
from rtfusion.focus.overlap import Floats

MAX_BOXES = 64
"""The most boxes that count at a time."""
MARKED = "marked"
"""The target of a rectangle whose contents have no name."""
EDGE, LEAST_EDGE_CELLS = 0.15, 0.75
"""Half the width of the soft edge about a box: a fraction of half its length, and at least so many values of the map."""
ROUNDNESS = 3.0
"""Exponent of the superellipse that fills a box: 2 is an ellipse, infinity the box."""
_TARGET = re.compile(r"[a-z][a-z0-9 _-]{0,31}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Box:
    """A target, and where it is. Left, top, right and bottom are fractions of the width and height of the fused picture.

    Raises:
        ConfigError: a value is no number, the box is empty or reaches beyond the picture, or the target is no name.
    """

    target: str
    """Lower-case letters, digits, spaces, ``_`` and ``-``, 32 at most, a letter first."""
    left: float
    top: float
    right: float
    bottom: float
    weight: float = 1.0
    """From 0 to 1: how sure it is, or how much it counts."""

    @classmethod
    def of_px(cls, target: str, corners_px: Sequence[float], *, size_px: tuple[int, int], weight: float = 1.0) -> Box:
        """The box of a target in a picture of this (width, height), from left, top, right and bottom in its pixels.

        What reaches beyond the picture is cut off.

        Raises:
            ConfigError: as `Box`.
        """
        fractions = (px / side for px, side in zip(corners_px, size_px * 2, strict=True))
        left, top, right, bottom = (min(max(one, 0.0), 1.0) for one in fractions)
        return cls(target=target, left=left, top=top, right=right, bottom=bottom, weight=weight)

    def __post_init__(self) -> None:
        if not isinstance(self.target, str) or not _TARGET.fullmatch(self.target):
            raise ConfigError(f"{self.target!r} is no name of a target; expected lower-case words such as people")
        for name in ("left", "top", "right", "bottom", "weight"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                raise ConfigError(f"{name} of a box of {self.target} is {value!r}; expected a number from 0 to 1")
        if self.left >= self.right or self.top >= self.bottom:
            raise ConfigError(
                f"a box of {self.target} from {self.left:g}, {self.top:g} to {self.right:g}, {self.bottom:g} is empty; "
                "expected left < right and top < bottom, fractions of the picture"
            )


def painted(boxes: Iterable[Box], *, shape: tuple[int, ...]) -> dict[str, Map]:
    """Maps for a picture of this (H, W) or (H, W, 3): each box filled by a rounded shape with a soft edge."""
    maps: dict[str, Map] = {}
    size = map_shape(shape)
    for box in boxes:
        if box.target not in maps:
            maps[box.target] = np.zeros(size, np.float32)
        _paint(box, maps[box.target], shape=shape)
    return maps


def _paint(box: Box, onto: Map, *, shape: tuple[int, ...]) -> None:
    rows, down, rows_edge = _distances(box.top, box.bottom, count=onto.shape[0], length_px=shape[0])
    columns, across, columns_edge = _distances(box.left, box.right, count=onto.shape[1], length_px=shape[1])
    edge = max(rows_edge, columns_edge)
    away = (down[:, None] ** ROUNDNESS + across[None] ** ROUNDNESS) ** (1 / ROUNDNESS)
    inside = np.clip((1 + edge - away) / (2 * edge), 0, 1)
    smooth = (inside * inside * (3 - 2 * inside)).astype(np.float32)
    np.maximum(onto[rows, columns], np.float32(box.weight) * smooth, out=onto[rows, columns])


def _distances(start: float, end: float, *, count: int, length_px: int) -> tuple[slice, Floats, float]:
    """The cells along one side that a box can reach, their distance from its middle in halves of its length, and its edge."""
    # what is cut off by the border of the picture goes on beyond it
    beyond = (end - start) / 2
    start, end = start - beyond * (start <= 0), end + beyond * (end >= 1)
    cell = SCALE / length_px
    middle, half = (start + end) / 2, max((end - start) / 2, cell)
    edge = max(EDGE, LEAST_EDGE_CELLS * cell / half)
    reach = (1 + edge) * half
    cells = slice(max(math.floor((middle - reach) / cell), 0), min(math.ceil((middle + reach) / cell), count))
    return cells, np.abs((np.arange(cells.start, cells.stop) + 0.5) * cell - middle) / half, edge
