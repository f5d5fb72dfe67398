"""What a band is worth here and now, and what is shown where it is worth nothing: the other band.

Two faults of a band are judged by its own pixels, without memory, so that nothing flickers and stills are judged too:

- a *blank* band shows nothing anywhere: a dead flat thermal picture, a wholly white or black visible one. The other band is
  shown untouched;
- where the visible band is *burnt out*, by headlights, lamps or the sun, it hides what is there. Thermal detail is shown
  instead, on a ground that stays as bright as the detail leaves room for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt

from rtfusion.fusion.buffers import fresh
from rtfusion.fusion.color import Take
from rtfusion.smoothing import ExponentialAverage
from rtfusion.types import Image8

BLANK_LEVELS, SHOWING_LEVELS = 4.0, 7.0
"""Span of the means of blocks up to which a band shows nothing, and from which on it is worth all."""
WORTH_TIME_CONSTANT_S = 1.0
AT_ONCE = 0.9
"""A band that shows so much more or less than before, as behind a lid, is taken as it is."""
SETTLED = 0.02
BLOCK_PX = 8
WORTH_ROWS = 8
"""Of so many rows of blocks one is looked at first, and if that does not show enough, the next one."""

WHOLE_LEVEL, BURNT_LEVEL = 238, 248
"""Luminance up to which a visible pixel is trusted, and from which on it is burnt out."""
SPECKS = 0.0003, 0.0006
"""Parts of the picture that are burnt out, up to which it is glints that hide nobody, and from which on it counts in full."""
SPANS_LEVELS = 20, 40
"""Span within 5 px, up to which such a pixel lies on flat ground, and from which on it has texture."""
SHOWING_LEVEL, HIDDEN_LEVEL = 180, 220
"""Fused luminance up to which burnt out ground shows thermal detail anyway, and from which on it hides it."""
SURROUNDINGS_BLOCKS = 4.0
"""Thermal detail is what differs from its surroundings, a Gaussian of this sigma in blocks, within what is burnt out. As gently
the ground is lowered: one that follows what is hot would be a dark seam around it."""
GROUND_LEVEL = 242.0
"""Burnt out ground without thermal detail: bright, but not burnt."""
DETAIL_GAIN, LARGE_DETAIL_GAIN, LARGE_LEVELS = 0.95, 0.7, 24
"""Gains of a detail up to and beyond so many gray levels: more than the plain mean's half, and room for what is hot."""
LARGEST_ROOM_LEVELS = 60.0
"""How far the ground is lowered at most."""

Plane = npt.NDArray[np.float32]
Window = tuple[slice, slice]
"""Rows and columns."""
Part = Callable[[], Image8]
"""Gives an array of the size of the rectangle about what is burnt out, with any pixels in it."""

_RIM, _AROUND, _NEAR = (np.ones((side, side), np.uint8) for side in (3, 5, BLOCK_PX + 1))

_LEVELS = np.arange(256)
_GAINED: Image8 = np.rint(
    LARGE_DETAIL_GAIN * _LEVELS + (DETAIL_GAIN - LARGE_DETAIL_GAIN) * np.minimum(_LEVELS, LARGE_LEVELS)
).astype(np.uint8)
"""The levels that a detail is shown with, by its own, of either sign."""


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

    def shown(self, *, fused_y: Image8, visible_y: Image8, thermal: Image8, take: Take = fresh) -> Image8:
        """The (H, W) fused luminance with what is worth nothing replaced by the other band.

        It is in an array that ``take`` gives, or ``fused_y`` itself where all is trusted.
        """
        if self.burnt is not None:
            fused_y = _relit(fused_y, thermal=thermal, burnt=self.burnt, take=take)
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


def judged(*, visible_y: Image8, thermal: Image8, take: Take = fresh) -> Trust:
    """Judge two registered (H, W) uint8 bands of one moment; ``take`` gives the array of `Trust.burnt`.

    Where both are blank the visible one is shown.
    """
    worth_thermal = _worth(thermal)
    worth_visible = _worth(visible_y) if worth_thermal > 0.0 else 1.0
    both = worth_visible > 0.0 and worth_thermal > 0.0
    bright = _bright(visible_y, take) if both else None
    burnt = None if bright is None else _burnt(visible_y, bright, take)
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


def _worth(image: Image8) -> float:
    """0 for a picture of one level, whatever its noise, to 1 for one that shows something."""
    height, columns = image.shape[0], -(-image.shape[1] // BLOCK_PX)
    low, high = 255.0, 0.0
    # a picture that shows something does so in a few rows of blocks: most of it is not looked at
    for first in range(WORTH_ROWS):
        for top_px in range(first * BLOCK_PX, max(height - BLOCK_PX, 0) + 1, WORTH_ROWS * BLOCK_PX):
            blocks = cv2.resize(image[top_px : top_px + BLOCK_PX], (columns, 1), interpolation=cv2.INTER_AREA)
            low, high = min(low, float(blocks.min())), max(high, float(blocks.max()))
            if high - low >= SHOWING_LEVELS:
                return 1.0
    return max((high - low - BLANK_LEVELS) / (SHOWING_LEVELS - BLANK_LEVELS), 0.0)


def _bright(visible_y: Image8, take: Take) -> Window | None:
    """The rectangle about all pixels above `WHOLE_LEVEL`; None where none are."""
    above = cv2.threshold(visible_y, WHOLE_LEVEL, 255, cv2.THRESH_BINARY, take(visible_y.shape))[1]
    left, top, width, height = cv2.boundingRect(above)
    return (slice(top, top + height), slice(left, left + width)) if width else None


def _burnt(visible_y: Image8, bright: Window, take: Take) -> Image8 | None:
    """(H, W): 0 to 255 where pixels are from `WHOLE_LEVEL` to `BURNT_LEVEL` and flat; None where none are.

    What is bright and yet has texture, as a white wall in the sun, is seen well.
    """
    reach_px = len(_AROUND) // 2 + len(_RIM) // 2 + 1  # of what is done to a pixel, and one that is not touched
    there = tuple(slice(max(side.start - reach_px, 0), side.stop + reach_px) for side in bright)
    visible_y = (whole := visible_y)[there]
    burnt, lowest, textured = (take(whole.shape)[there] for _ in range(3))
    cv2.subtract(visible_y, cast(Any, (WHOLE_LEVEL,)), burnt)
    cv2.convertScaleAbs(burnt, burnt, alpha=255 / (BURNT_LEVEL - WHOLE_LEVEL))
    cv2.subtract(cv2.dilate(visible_y, _AROUND, textured), cv2.erode(visible_y, _AROUND, lowest), textured)
    cv2.subtract(cast(Any, (SPANS_LEVELS[1],)), textured, textured)
    cv2.convertScaleAbs(textured, textured, alpha=255 / (SPANS_LEVELS[1] - SPANS_LEVELS[0]))
    cv2.min(burnt, textured, burnt)
    worth = min((cv2.countNonZero(burnt) / whole.size - SPECKS[0]) / (SPECKS[1] - SPECKS[0]), 1.0)
    if worth <= 0.0:
        return None
    if worth < 1.0:
        cv2.convertScaleAbs(burnt, burnt, alpha=worth)
    cv2.dilate(burnt, _AROUND, textured)  # as much as the texture beside it has taken off, and a rim
    everywhere = take(whole.shape)
    everywhere.fill(0)
    cv2.blur(textured, _RIM.shape, everywhere[there])
    return everywhere


def _brightest(visible_y: Image8, *, out: Image8) -> Image8:
    """The brightest that a pixel is shown: what is nearly burnt out with texture is not burnt out any more."""
    cv2.threshold(visible_y, BURNT_LEVEL - 5, 255 - GROUND_LEVEL, cv2.THRESH_BINARY, out)
    return cast(Image8, cv2.bitwise_not(out, out))


def _relit(fused_y: Image8, *, thermal: Image8, burnt: Image8, take: Take) -> Image8:
    """The fused luminance with thermal detail where the visible band is burnt out; the rest is not worked on."""
    blocks = _blocks_of(cv2.boundingRect(burnt), shape=burnt.shape)
    there = tuple(slice(side.start * BLOCK_PX, side.stop * BLOCK_PX) for side in blocks)

    def part() -> Image8:
        return take(burnt.shape)[there]

    share = cast(Image8, cv2.multiply(burnt[there], _hidden(fused_y[there], part), part(), scale=1 / 255))
    seen = cast(Image8, cv2.multiply(thermal[there], share, part(), scale=1 / 255))
    surroundings, ground = _planes(seen, share=share, blocks=blocks, shape=burnt.shape, wider=part())
    detail = _on_ground(thermal[there], surroundings=surroundings, ground=ground, part=part)
    relit = take(fused_y.shape)
    np.copyto(relit, fused_y)
    cv2.multiply(detail, share, detail, scale=1 / 255)
    kept = cv2.multiply(fused_y[there], cv2.bitwise_not(share, share), seen, scale=1 / 255)
    cv2.add(kept, detail, relit[there])
    return relit


def _hidden(fused_y: Image8, part: Part) -> Image8:
    """0 to 255: how far the fused luminance is as bright as what is burnt out; elsewhere it shows the thermal band already."""
    hidden, wider = part(), part()
    cv2.subtract(fused_y, cast(Any, (SHOWING_LEVEL,)), hidden)
    cv2.convertScaleAbs(hidden, hidden, alpha=255 / (HIDDEN_LEVEL - SHOWING_LEVEL))
    cv2.dilate(hidden, _AROUND, wider)
    return cast(Image8, cv2.blur(wider, _AROUND.shape, hidden))


def _blocks_of(box_px: Sequence[int], *, shape: Sequence[int]) -> tuple[slice, slice]:
    """The rows and columns of blocks that a rectangle (x, y, width, height) touches, and one more on each side."""
    sides = zip(box_px[1::-1], box_px[3:1:-1], shape, strict=True)
    rows, columns = (
        slice(max(0, start // BLOCK_PX - 1), min(-(-(start + length) // BLOCK_PX) + 1, -(-side // BLOCK_PX)))
        for start, length, side in sides
    )
    return rows, columns


def _planes(
    seen: Image8, *, share: Image8, blocks: tuple[slice, slice], shape: Sequence[int], wider: Image8
) -> tuple[Plane, Plane]:
    """For each block, the thermal level that is expected there, and the level of the ground that leaves the detail room.

    ``seen`` is the thermal band times ``share``, and ``wider`` is overwritten.
    """
    shares, levels, peaks = (np.zeros([-(-side // BLOCK_PX) for side in shape], np.float32) for _ in range(3))
    size_px = shares[blocks].shape[::-1]
    shares[blocks] = cv2.resize(share, size_px, interpolation=cv2.INTER_AREA)
    levels[blocks] = cv2.resize(seen, size_px, interpolation=cv2.INTER_AREA)
    peaks[blocks] = cv2.resize(cv2.dilate(seen, _NEAR, wider), size_px, interpolation=cv2.INTER_NEAREST)
    none = 1e-4  # keeps blocks far from anything burnt out from dividing by 0; they are not shown
    shares = shares / np.float32(255) + np.float32(none)
    about = _smooth(shares, sigma=SURROUNDINGS_BLOCKS)
    surroundings = _smooth(levels + none, sigma=SURROUNDINGS_BLOCKS) / about
    above = np.clip(np.rint(cv2.dilate(peaks - surroundings, _RIM)), 0, 255).astype(np.uint8)
    room = np.minimum(_GAINED[above], LARGEST_ROOM_LEVELS).astype(np.float32)
    ground = GROUND_LEVEL - _smooth(room * shares, sigma=SURROUNDINGS_BLOCKS) / about
    return surroundings[blocks], ground[blocks]


def _on_ground(thermal: Image8, *, surroundings: Plane, ground: Plane, part: Part) -> Image8:
    """Thermal detail on the ground: what differs from the surroundings, with its gain."""
    height, width = thermal.shape
    expected, shown = (
        cv2.resize(np.rint(plane).astype(np.uint8), (width, height), part(), interpolation=cv2.INTER_LINEAR)
        for plane in (surroundings, ground)
    )
    step = cv2.subtract(thermal, expected, part())
    cv2.add(shown, cv2.LUT(step, _GAINED, step), shown)
    cv2.subtract(expected, thermal, step)
    cv2.subtract(shown, cv2.LUT(step, _GAINED, step), shown)
    return cast(Image8, cv2.min(shown, cast(Any, (GROUND_LEVEL,)), shown))


def _smooth(plane: Plane, *, sigma: float) -> Plane:
    return cast(Plane, cv2.GaussianBlur(plane, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE))
