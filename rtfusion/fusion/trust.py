"""What a band is worth here and now, and what is shown where it is worth nothing: the other band.

Two faults of a band are judged by its own pixels, without memory, so that nothing flickers and stills are judged too:

- a *blank* band shows nothing anywhere: a dead flat thermal picture, a wholly white or black visible one. The other band is
  shown untouched;
- where the visible band is *burnt out*, by headlights, lamps or the sun, it hides what is there. Thermal detail is shown
  instead, on a ground that stays as bright as the detail leaves room for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from rtfusion.fusion.buffers import fresh
from rtfusion.fusion.color import Take, luminance
from rtfusion.fusion.glare import (
    AROUND,
    BLOCK_PX,
    BURNT_LEVEL,
    GAINED,
    GROUND_LEVEL,
    OPENCV,
    RIM,
    WHOLE_LEVEL,
    Blocks,
    Glare,
)
from rtfusion.smoothing import ExponentialAverage
from rtfusion.types import Image8

BLANK_LEVELS, SHOWING_LEVELS = 4.0, 7.0
"""Span of the means of blocks up to which a band shows nothing, and from which on it is worth all."""
WORTH_TIME_CONSTANT_S = 1.0
AT_ONCE = 0.9
"""A band that shows so much more or less than before, as behind a lid, is taken as it is."""
SETTLED = 0.02
WORTH_ROWS = 8
"""Of so many rows of blocks one is looked at first, and if that does not show enough, the next one."""

SPECKS = 0.0003, 0.0006
"""Parts of the picture that are burnt out, up to which it is glints that hide nobody, and from which on it counts in full."""
SURROUNDINGS_BLOCKS = 4.0
"""Thermal detail is what differs from its surroundings, a Gaussian of this sigma in blocks, within what is burnt out. As gently
the ground is lowered: one that follows what is hot would be a dark seam around it."""
LARGEST_ROOM_LEVELS = 60.0
"""How far the ground is lowered at most."""

Plane = npt.NDArray[np.float32]
Window = tuple[slice, slice]
"""Rows and columns."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Trust:
    """What both bands of one pair are worth: made by `judged`, and obeyed by `shown`."""

    visible: float
    """0 where the visible band is blank, 1 where it shows something."""
    thermal: float
    """The same of the thermal band."""
    burnt: Image8 | None
    """(H, W) uint8, 0 where the visible band is trusted to 255 where it is burnt out; None where nothing is."""
    bright: Window | None
    """Where visible pixels are so bright that they may be burnt out, textured ones too; None where none are."""

    @property
    def faults(self) -> tuple[str, ...]:
        """What is wrong with a band, or with a part of it, in words; empty where all is trusted."""
        found = {
            "thermal blank": self.thermal == 0.0,
            "visible blank": self.visible == 0.0,
            "visible burnt out": self.burnt is not None,
        }
        return tuple(name for name, is_so in found.items() if is_so)

    def shown(
        self, *, fused_y: Image8, visible_y: Image8, thermal: Image8, take: Take = fresh, glare: Glare = OPENCV
    ) -> Image8:
        """The (H, W) fused luminance with what is worth nothing replaced by the other band; ``glare`` works on pixels.

        It is in an array that ``take`` gives, or ``fused_y`` itself where all is trusted.
        """
        if self.burnt is not None:
            fused_y = _relit(fused_y, thermal=thermal, burnt=self.burnt, take=take, glare=glare)
        if self.bright is not None:
            if self.burnt is None:
                as_fused, fused_y = fused_y, take(fused_y.shape)
                np.copyto(fused_y, as_fused)
            there = fused_y[self.bright]
            cv2.min(there, _brightest(visible_y[self.bright], out=take(visible_y.shape)[self.bright]), there)
        for worth, other in ((self.visible, thermal), (self.thermal, visible_y)):
            if worth < 1.0:
                fused_y = cast(Image8, cv2.addWeighted(fused_y, worth, other, 1.0 - worth, 0.0, take(fused_y.shape)))
        return fused_y


def judged(*, visible_y: Image8, thermal: Image8, take: Take = fresh, glare: Glare = OPENCV) -> Trust:
    """Judge two registered (H, W) uint8 bands of one moment; ``take`` gives the array of `Trust.burnt`.

    Where both are blank the visible one is shown.
    """
    worth_thermal = worth_of(thermal)
    worth_visible = worth_of(visible_y) if worth_thermal > 0.0 else 1.0
    both = worth_visible > 0.0 and worth_thermal > 0.0
    bright = _bright(visible_y, take) if both else None
    burnt = None if bright is None else _burnt(visible_y, bright, take, glare)
    return Trust(visible=worth_visible, thermal=worth_thermal, burnt=burnt, bright=bright)


class Worths:
    """What the bands of a run are worth, followed in time.

    A scene of one temperature, in whole gray levels, is blank in one frame and not in the next: the picture would flicker between
    both bands and one. ``still`` is for unrelated images, each of which is worth what it is.
    """

    def __init__(self, *, still: bool) -> None:
        tau_s = 0.0 if still else WORTH_TIME_CONSTANT_S
        self._averages = {band: ExponentialAverage(time_constant_s=tau_s) for band in ("visible", "thermal")}
        self._last = dict.fromkeys(self._averages, 1.0)

    def follow(self, trust: Trust, *, timestamp_ns: int) -> Trust:
        """The trust in a pair with the worth of its bands as followed up to its time."""
        now = {"visible": trust.visible, "thermal": trust.thermal}
        for band, average in self._averages.items():
            if abs(now[band] - self._last[band]) >= AT_ONCE:
                average.reset()
            followed = average.follow(now[band], timestamp_ns=timestamp_ns)
            now[band] = self._last[band] = now[band] if abs(followed - now[band]) < SETTLED else followed
        return replace(trust, visible=now["visible"], thermal=now["thermal"])


def worth_of(image: Image8) -> float:
    """0 for an (H, W) or (H, W, 3) picture of one level, whatever its noise, to 1 for one that shows something."""
    height, columns = image.shape[0], -(-image.shape[1] // BLOCK_PX)
    low, high = 255.0, 0.0
    # a picture that shows something does so in a few rows of blocks: most of it is not looked at
    for first in range(WORTH_ROWS):
        for top_px in range(first * BLOCK_PX, max(height - BLOCK_PX, 0) + 1, WORTH_ROWS * BLOCK_PX):
            rows = image[top_px : top_px + BLOCK_PX]
            blocks = luminance(cast(Image8, cv2.resize(rows, (columns, 1), interpolation=cv2.INTER_AREA)))
            lowest, highest, *_ = cv2.minMaxLoc(blocks)
            low, high = min(low, lowest), max(high, highest)
            if high - low >= SHOWING_LEVELS:
                return 1.0
    return max((high - low - BLANK_LEVELS) / (SHOWING_LEVELS - BLANK_LEVELS), 0.0)


def _bright(visible_y: Image8, take: Take) -> Window | None:
    """The rectangle about all pixels above `WHOLE_LEVEL`; None where none are."""
    above = cv2.threshold(visible_y, WHOLE_LEVEL, 255, cv2.THRESH_BINARY, take(visible_y.shape))[1]
    left, top, width, height = cv2.boundingRect(above)
    return (slice(top, top + height), slice(left, left + width)) if width else None


def _burnt(visible_y: Image8, bright: Window, take: Take, glare: Glare = OPENCV) -> Image8 | None:
    """(H, W): 0 to 255 where pixels are from `WHOLE_LEVEL` to `BURNT_LEVEL` and flat; None where none are.

    What is bright and yet has texture, as a white wall in the sun, is seen well.
    """
    reach_px = len(AROUND) // 2 + len(RIM) // 2 + 1  # of what is done to a pixel, and one that is not touched
    there = tuple(slice(max(side.start - reach_px, 0), side.stop + reach_px) for side in bright)
    burnt = take(visible_y.shape)[there]
    found = glare.find(visible_y[there], out=burnt)
    worth = min((found / visible_y.size - SPECKS[0]) / (SPECKS[1] - SPECKS[0]), 1.0)
    if worth <= 0.0:
        return None
    if worth < 1.0:
        cv2.convertScaleAbs(burnt, burnt, alpha=worth)
    everywhere = take(visible_y.shape)
    everywhere.fill(0)
    glare.rim(burnt, out=everywhere[there])
    return everywhere


def _brightest(visible_y: Image8, *, out: Image8) -> Image8:
    """The brightest that a pixel is shown: what is nearly burnt out with texture is not burnt out any more."""
    cv2.threshold(visible_y, BURNT_LEVEL - 5, 255 - GROUND_LEVEL, cv2.THRESH_BINARY, out)
    return cast(Image8, cv2.bitwise_not(out, out))


def _relit(fused_y: Image8, *, thermal: Image8, burnt: Image8, take: Take, glare: Glare) -> Image8:
    """The fused luminance with thermal detail where the visible band is burnt out; the rest is not worked on."""
    blocks = _blocks_of(cv2.boundingRect(burnt), shape=burnt.shape)
    there = tuple(slice(side.start * BLOCK_PX, side.stop * BLOCK_PX) for side in blocks)

    def part() -> Image8:
        return take(burnt.shape)[there]

    share = part()
    glare.hide(burnt[there], fused_y=fused_y[there], out=share)
    planes = _planes(glare.blocks(share, thermal=thermal[there]), there=blocks, shape=burnt.shape)
    expected, ground = (_spread(plane, out=part()) for plane in planes)
    relit = take(fused_y.shape)
    np.copyto(relit, fused_y)
    glare.relight(
        fused_y[there], thermal=thermal[there], share=share, expected=expected, ground=ground, out=relit[there]
    )
    return relit


def _blocks_of(box_px: Sequence[int], *, shape: Sequence[int]) -> tuple[slice, slice]:
    """The rows and columns of blocks that a rectangle (x, y, width, height) touches, and one more on each side."""
    sides = zip(box_px[1::-1], box_px[3:1:-1], shape, strict=True)
    rows, columns = (
        slice(max(0, start // BLOCK_PX - 1), min(-(-(start + length) // BLOCK_PX) + 1, -(-side // BLOCK_PX)))
        for start, length, side in sides
    )
    return rows, columns


def _planes(seen: Blocks, *, there: tuple[slice, slice], shape: Sequence[int]) -> tuple[Plane, Plane]:
    """For each block, the thermal level that is expected there, and the level of the ground that leaves the detail room."""
    shares, levels, peaks = (np.zeros([-(-side // BLOCK_PX) for side in shape], np.float32) for _ in Blocks._fields)
    shares[there], levels[there], peaks[there] = seen
    none = 1e-4  # keeps blocks far from anything burnt out from dividing by 0; they are not shown
    shares = shares / np.float32(255) + np.float32(none)
    about = _smooth(shares, sigma=SURROUNDINGS_BLOCKS)
    surroundings = _smooth(levels + none, sigma=SURROUNDINGS_BLOCKS) / about
    above = np.clip(np.rint(cv2.dilate(peaks - surroundings, RIM)), 0, 255).astype(np.uint8)
    room = np.minimum(GAINED[above], LARGEST_ROOM_LEVELS).astype(np.float32)
    ground = GROUND_LEVEL - _smooth(room * shares, sigma=SURROUNDINGS_BLOCKS) / about
    return surroundings[there], ground[there]


def _spread(plane: Plane, *, out: Image8) -> Image8:
    """The levels of blocks, rounded, for every pixel."""
    levels = np.rint(plane).astype(np.uint8)
    return cast(Image8, cv2.resize(levels, out.shape[::-1], out, interpolation=cv2.INTER_LINEAR))


def _smooth(plane: Plane, *, sigma: float) -> Plane:
    return cast(Plane, cv2.GaussianBlur(plane, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE))
