"""What a wish does to every pixel of a fused luminance, by smooth shares: `Retouch`, and the way of OpenCV to do it.

    p = f + fine (d - [d]) - core [d]                          d: f less its near surroundings; [d] its faint part
    q = own p + thermal t + visible v + plus
    r = q + lift q / (1 + (q / dark)^2)
    out = r - press (r - bright)^2                             beyond bright

Every share is a map over cells of `CELL_PX` pixels a side and is interpolated between them, so no pass makes an edge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, cast

import cv2
import numpy as np
import numpy.typing as npt

from rtfusion.fusion.buffers import fresh
from rtfusion.fusion.color import Take
from rtfusion.types import Image8

CELL_PX = 8
"""Side of a cell in pixels."""
CORE_LEVELS = 7.0
"""Differences up to this are faint: cored where noise is to go."""
KEPT_LEVELS = 2.0
"""Differences up to this are not lifted with the detail."""

DARK_LEVEL = 30.0
"""The level that is lifted most."""
BRIGHT_LEVEL = 150.0
"""The level beyond which is pressed."""

Shares = npt.NDArray[np.float32]
"""(rows, columns) of cells, float32."""
_NEAR = np.array([1, 2, 1], np.float32) / 4


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Retouch:
    """The shares of a picture of (H, W), each (ceil(H / 8), ceil(W / 8)); None for one that is 0."""

    own: Shares
    """Share of the fused luminance itself, 1 to leave it."""
    plus: Shares
    """Levels that are added."""
    thermal: Shares | None = None
    """Share of the thermal band that is added."""
    visible: Shares | None = None
    """Share of the visible luminance that is added."""
    fine: Shares | None = None
    """How far fine detail is lifted, or taken away."""
    core: Shares | None = None
    """How far faint fine detail, up to `CORE_LEVELS`, is taken away, or lifted. Given if and only if ``fine`` is."""
    lift: float = 0.0
    """How far the dark is lifted: its slope at black, less 1, -1 or more."""
    press: float = 0.0
    """How far the bright is pressed together: 255 is shown so much darker, in parts of its distance to `BRIGHT_LEVEL`."""


class Retoucher(Protocol):
    """A way to retouch."""

    def __call__(self, how: Retouch, *, fused_y: Image8, thermal: Image8, visible_y: Image8, take: Take) -> Image8:
        """The (H, W) uint8 picture as ``how`` says, of three of that shape, in an array that ``take`` gives."""
        ...


def cells_of(shape: tuple[int, ...]) -> tuple[int, int]:
    """(rows, columns) of the cells of a picture of this shape."""
    return -(-shape[0] // CELL_PX), -(-shape[1] // CELL_PX)


def retouched(how: Retouch, *, fused_y: Image8, thermal: Image8, visible_y: Image8, take: Take = fresh) -> Image8:
    """With OpenCV; see `Retoucher`."""
    values = fused_y.astype(np.float32)
    if how.fine is not None and how.core is not None:
        step = values - cv2.sepFilter2D(values, cv2.CV_32F, _NEAR, _NEAR, borderType=cv2.BORDER_REPLICATE)
        values += _spread(how.fine, fused_y.shape) * (step - np.clip(step, -KEPT_LEVELS, KEPT_LEVELS))
        values -= _spread(how.core, fused_y.shape) * np.clip(step, -CORE_LEVELS, CORE_LEVELS)
    values *= _spread(how.own, fused_y.shape)
    values += _spread(how.plus, fused_y.shape)
    for band, share in ((thermal, how.thermal), (visible_y, how.visible)):
        if share is not None:
            values += cv2.multiply(band, _spread(share, fused_y.shape), dtype=cv2.CV_32F)
    values = np.maximum(values, 0, out=values)
    if how.lift:
        values += how.lift * values / (1 + (values / DARK_LEVEL) ** 2)
    if how.press:
        values -= press_of(how) * np.maximum(values - BRIGHT_LEVEL, 0) ** 2
    return cast(Image8, cv2.convertScaleAbs(np.maximum(values, 0, out=values), take(fused_y.shape)))


def press_of(how: Retouch) -> float:
    """The factor of the square of what is beyond `BRIGHT_LEVEL`."""
    return how.press / (255 - BRIGHT_LEVEL)


def _spread(share: Shares, shape: tuple[int, ...]) -> Shares:
    """A share for every pixel."""
    rows, columns = share.shape
    whole = cv2.resize(share, (columns * CELL_PX, rows * CELL_PX), interpolation=cv2.INTER_LINEAR)
    return cast(Shares, whole[: shape[0], : shape[1]])
