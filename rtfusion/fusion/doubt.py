"""Where it is not certain how the bands lie to one another, an edge is shown once, and not by each band beside the other.

An edge that both bands show, some pixels apart, is doubled in the fused picture. Where the registration is in doubt by more than
a pixel (`rtfusion.registration.Registration.doubt_px`), such an edge is taken from the visible band alone: the fine detail of the
thermal picture is put where the visible one has its own, by a linear function of it around every place (He et al., "Guided image
filtering", IEEE TPAMI 2013). What only the thermal camera shows has no edge of the visible picture beside it and stays as it is,
as stays everything that is coarser than the doubt: who is warm stays warm, if not always by as much. Without doubt nothing is
done.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import cv2
import numpy as np
import numpy.typing as npt

from rtfusion.fusion.buffers import fresh
from rtfusion.fusion.color import Take
from rtfusion.types import Image8

LEAST_PX, FULL_PX = 1.0, 2.5
"""Doubt up to which both bands are shown as they are, and from which on an edge that both show is the visible one's alone."""
COARSE_PX = 2.0, 6.0
"""Doubt up to which what is kept of the thermal picture is coarser than about a cell, and from which on than two."""
LEAST_LEVELS = 1.0
"""Gray levels a cell up to which the visible picture has no edge."""
UNTOLD = 0.25
"""Square of the gray levels a cell below which the thermal picture has none."""
STEADY = 16.0
"""Variance in square gray levels below which the visible picture tells nothing of the thermal one."""
TOGETHER = 2
"""Cells to either side whose edges are judged together: an edge has its weak parts."""
STEEPEST = 2.0
"""Thermal gray levels for a visible one, at most."""

IN_DOUBT = "registration in doubt"
"""What is wrong, in words, as `rtfusion.fusion.trust.Trust.faults`."""

Plane = npt.NDArray[np.float32]


class _Reach(NamedTuple):
    """How far, in cells of a 160th of the picture's longer side, a thing may lie elsewhere, and what follows from it."""

    depends: int
    """To either side, where both bands are taken to depend on one another."""
    beside: int
    """To either side, where an edge of the other band is the same one."""
    fine: float
    """Sigma of what is coarser than a small doubt, and is not changed."""
    stronger: float
    """An edge of the thermal band has to be so many times as strong as the visible one beside it to be its own, and to stay."""


_ACROSS = 160
_SMALL = _Reach(depends=1, beside=1, fine=0.6, stronger=1.0)
_LARGE = _Reach(depends=4, beside=2, fine=1.0, stronger=1.0)
_OF_A_MAP = _LARGE._replace(stronger=3.0)
"""About some places more is done than about all of the picture, from which the warmth of everybody would go."""
SMALL_PX = 4.0
"""Doubt, the same everywhere, up to which a small reach does."""
COARSE = 2.0


class Deghoster:
    """Takes doubled edges, ghosts, out of thermal pictures. Used by one thread; its buffers serve the next picture."""

    def __init__(self) -> None:
        self._whole: tuple[Plane, ...] | None = None

    def __call__(self, *, visible_y: Image8, thermal: Image8, doubt_px: Plane | None, take: Take = fresh) -> Image8:
        """The (H, W) uint8 thermal band with each edge where the visible one of the same size has it, as far as that is in doubt.

        ``doubt_px`` are (rows, columns) over the picture, in its pixels; None is no doubt. The result is in an array that
        ``take`` gives, or ``thermal`` itself where nothing is in doubt by more than `LEAST_PX`.
        """
        if doubt_px is None or doubt_px.max() <= LEAST_PX:
            return thermal
        if self._whole is None or self._whole[0].shape != thermal.shape:
            self._whole = tuple(np.empty(thermal.shape, np.float32) for _ in range(3))
        of_visible, of_thermal, level = (
            cv2.resize(plane, thermal.shape[::-1], whole, interpolation=cv2.INTER_LINEAR)
            for plane, whole in zip(_made_of(visible_y, thermal, doubt_px), self._whole, strict=True)
        )
        cv2.multiply(of_visible, visible_y, of_visible, dtype=cv2.CV_32F)
        cv2.multiply(of_thermal, thermal, of_thermal, dtype=cv2.CV_32F)
        cv2.add(of_visible, of_thermal, of_thermal)
        return cast(Image8, cv2.add(of_thermal, level, take(thermal.shape), dtype=cv2.CV_8U))


def _made_of(visible_y: Image8, thermal: Image8, doubt_px: Plane) -> tuple[Plane, Plane, Plane]:
    """For each cell, how many times the visible band, the thermal one and 1 are in what is to be shown of the thermal one."""
    of_all = _SMALL if doubt_px.max() <= SMALL_PX else _LARGE
    reach = of_all if doubt_px.size == 1 else _OF_A_MAP
    longer = max(thermal.shape)
    sides = tuple(max(2, round(side * min(_ACROSS, longer) / longer)) for side in thermal.shape[::-1])
    visible, warm = (
        cv2.resize(band, sides, interpolation=cv2.INTER_AREA).astype(np.float32) for band in (visible_y, thermal)
    )
    at_px = cast(Plane, cv2.resize(doubt_px, sides, interpolation=cv2.INTER_LINEAR))
    slope, offset = _depends(visible, warm, reach.depends)
    offset = offset - _coarse(slope * visible + offset - warm, at_px, reach.fine)
    share = np.clip((at_px - LEAST_PX) / (FULL_PX - LEAST_PX), 0, 1) * _beside(visible, warm, reach)
    return share * slope, np.float32(1) - share, share * offset


def _depends(visible: Plane, warm: Plane, reach: int) -> tuple[Plane, Plane]:
    """Slope and offset of the linear function of the visible cells that the thermal ones around are nearest to."""
    side = 2 * reach + 1
    planes = visible, warm, cv2.multiply(visible, visible), cv2.multiply(visible, warm)
    middle, warm_middle, square, product = (cast(Plane, cv2.blur(plane, (side, side))) for plane in planes)
    spread = square - middle * middle + np.float32(STEADY)
    slope = np.clip((product - middle * warm_middle) / spread, -STEEPEST, STEEPEST)
    slopes, offsets = (cast(Plane, cv2.blur(plane, (side, side))) for plane in (slope, warm_middle - slope * middle))
    return slopes, offsets


def _coarse(change: Plane, doubt_px: Plane, sigma: float) -> Plane:
    """Of a change of the thermal cells, what is coarser than the doubt, and is not to be changed."""
    fine, coarse = (cv2.GaussianBlur(change, (0, 0), one) for one in (sigma, COARSE))
    share = np.clip((doubt_px - COARSE_PX[0]) / (COARSE_PX[1] - COARSE_PX[0]), 0, 1)
    return cast(Plane, fine + share * (coarse - fine))


def _beside(visible: Plane, warm: Plane, reach: _Reach) -> Plane:
    """From 0 to 1: how much of the edges of the thermal cells is an edge of the visible ones, too, in place or beside it."""
    near = np.ones((2 * reach.beside + 1, 2 * reach.beside + 1), np.uint8)
    shared, all_of_it = np.zeros_like(warm), np.full_like(warm, UNTOLD)
    for along in ((1, 0), (0, 1)):
        edge = _steps(warm, along)
        other = np.maximum(cv2.dilate(np.abs(_steps(visible, along)), near) - LEAST_LEVELS, 0)
        edge *= edge
        all_of_it += edge
        shared += np.minimum(edge, np.square(np.float32(reach.stronger) * other))
    side = 2 * TOGETHER + 1
    return cast(Plane, cv2.divide(cv2.blur(shared, (side, side)), cv2.blur(all_of_it, (side, side))))


def _steps(plane: Plane, along: tuple[int, int]) -> Plane:
    """Gray levels from one cell to the next, along the columns (1, 0) or the rows (0, 1)."""
    return cast(Plane, cv2.Sobel(plane, cv2.CV_32F, *along, ksize=3, scale=1 / 8))
