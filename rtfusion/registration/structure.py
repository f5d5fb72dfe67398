"""Structure that a visible and a thermal picture have in common: edges, whatever their polarity and contrast.

A structure map holds, for every pixel, how much of the gradient nearby runs in each of four directions, as a share of the
whole (channel features of oriented gradients: Ye et al., "Fast and robust matching for multimodal remote sensing image
registration", IEEE TGRS 2019). Maps of both bands can be compared by normalized cross-correlation where gray levels cannot:
an edge that is dark to bright in one band and bright to dark in the other looks the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt

from rtfusion.types import FramePair, Image, Image8

StructureMap = npt.NDArray[np.float32]
"""(H, W, 4), no pixel longer than 1: how much of the gradient runs across, along and on the two diagonals."""
Points = npt.NDArray[np.float64]

NOISE_SIGMA_PX = 1.0
POOL_SIGMA_PX = 1.5
FLOOR = 0.4
"""Share of the mean gradient of the picture below which the map fades to zero instead of showing noise."""
LEAST_GRADIENT = 0.5
"""In gray levels per pixel: the floor of a picture that has nothing but noise."""
_LEAST_CONTRAST = 0.08
"""Standard deviation within a patch of a map, below which it looks like any other."""
_LEAST_LIKENESS = 0.2


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Match:
    """A patch of one map, found in another."""

    center_px: tuple[int, int]
    offset_px: tuple[float, float]
    """Its distance (x, y) from the same place, to a fraction of a pixel."""
    likeness: float
    """Normalized cross-correlation there, at most 1."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class GrayPair:
    """One pair as ranks of gray levels (`equalized`): (H, W) uint8 each, of any two sizes."""

    visible: Image8
    thermal: Image8


def gray_pair(pair: FramePair) -> GrayPair:
    """Take from a pair what places are found by."""
    return GrayPair(visible=equalized(pair.visible.image), thermal=equalized(pair.thermal.image))


def equalized(image: Image) -> Image8:
    """(H, W) or (H, W, 3) BGR, 8 or 16 bits, to the (H, W) rank of every gray level: no tone curve is left to differ in."""
    gray: Any = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    if gray.dtype == np.uint8:
        return cast(Image8, cv2.equalizeHist(gray))
    ranks = np.cumsum(np.bincount(gray.ravel(), minlength=1 << 16), dtype=np.float64)
    return cast(Image8, (ranks * (255.0 / ranks[-1])).astype(np.uint8)[gray])


def structure_map(gray: Image8) -> StructureMap:
    """(H, W) gray levels to the structure map of the same size."""
    smooth = cv2.GaussianBlur(gray.astype(np.float32), (0, 0), NOISE_SIGMA_PX)
    x = cv2.Scharr(smooth, cv2.CV_32F, 1, 0, scale=1 / 32)
    y = cv2.Scharr(smooth, cv2.CV_32F, 0, 1, scale=1 / 32)
    half = np.float32(np.sqrt(0.5))
    edges = cv2.merge([np.abs(x), half * cv2.absdiff(x, -y), np.abs(y), half * cv2.absdiff(x, y)])
    pooled: Any = cv2.GaussianBlur(edges, (0, 0), POOL_SIGMA_PX)
    length = np.sqrt(np.einsum("ijk,ijk->ij", pooled, pooled))
    floor = np.float32(max(FLOOR * float(length.mean()), LEAST_GRADIENT))
    pooled /= (length + floor)[..., None]
    return cast(StructureMap, pooled)


def size_px(image: Image | StructureMap) -> tuple[int, int]:
    """(width, height)."""
    return int(image.shape[1]), int(image.shape[0])


def shrunk(gray: Image8, side_px: int) -> Image8:
    """The picture with a longer side of at most ``side_px``."""
    factor = side_px / max(gray.shape[:2])
    if factor >= 1.0:
        return gray
    width, height = (max(8, round(side * factor)) for side in size_px(gray))
    return cast(Image8, cv2.resize(gray, (width, height), interpolation=cv2.INTER_AREA))


def resized(gray: Image8, side_px: int) -> Image8:
    """The picture with a longer side of ``side_px``."""
    if side_px <= max(gray.shape[:2]):
        return shrunk(gray, side_px)
    factor = side_px / max(gray.shape[:2])
    width, height = (round(side * factor) for side in size_px(gray))
    return cast(Image8, cv2.resize(gray, (width, height), interpolation=cv2.INTER_CUBIC))


def patch_centers(
    of_px: tuple[int, int], *, patch_px: int, radius_px: int, step_px: int, valid: Image8 | None = None
) -> list[tuple[int, int]]:
    """(x, y) centers of the patches whose whole neighborhood lies in the picture and, given ``valid``, where that is set."""
    reach = patch_px // 2 + radius_px
    width, height = of_px
    return [
        (x, y)
        for y in range(reach, height - reach, step_px)
        for x in range(reach, width - reach, step_px)
        if valid is None or valid[y - reach : y + reach + 1 : 4, x - reach : x + reach + 1 : 4].all()
    ]


def match_patch(
    center_px: tuple[int, int], *, reference: StructureMap, moved: StructureMap, patch_px: int, radius_px: int
) -> Match | None:
    """Look for a patch of ``reference`` in ``moved``, up to ``radius_px`` from its own place.

    None where there is too little structure, or nothing alike within the radius.
    """
    (x, y), half, reach = center_px, patch_px // 2, patch_px // 2 + radius_px
    patch = reference[y - half : y + half + 1, x - half : x + half + 1]
    window = moved[y - reach : y + reach + 1, x - reach : x + reach + 1]
    if _contrast(patch) < _LEAST_CONTRAST or _contrast(window) < _LEAST_CONTRAST / 2:
        return None
    scores = cv2.matchTemplate(window, patch, cv2.TM_CCOEFF_NORMED)
    _, best, _, (column, row) = cv2.minMaxLoc(scores)
    if best < _LEAST_LIKENESS or not (0 < column < 2 * radius_px and 0 < row < 2 * radius_px):
        return None
    dx, dy = _vertex(scores[row, column - 1 : column + 2]), _vertex(scores[row - 1 : row + 2, column])
    return Match(center_px=center_px, offset_px=(column - radius_px + dx, row - radius_px + dy), likeness=best)


def _contrast(part: StructureMap) -> float:
    means, deviations = cv2.meanStdDev(part)
    return float(np.sqrt(np.square(deviations).mean() + means.var()))


def _vertex(values: Any) -> float:
    """The top of the parabola through three values, the middle one the highest."""
    before, at, after = (float(value) for value in values)
    bend = before - 2.0 * at + after
    return 0.5 * (before - after) / bend if bend < 0 else 0.0
