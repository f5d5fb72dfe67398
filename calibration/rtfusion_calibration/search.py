"""Search over all similarities for the place of the thermal picture in the visible one, when nothing is known.

At low resolution, for every scale and turn, the structure maps of both bands are correlated over all shifts at once. Several
pairs of one rig are searched together: what is a coincidence in one pair does not repeat in the others.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any, cast

import cv2
import numpy as np

from rtfusion.progress import steps
from rtfusion.registration import scale_px
from rtfusion.registration.calibration import Matrix
from rtfusion.registration.fitting import transformed
from rtfusion.registration.structure import GrayPair, Points, shrunk, size_px, structure_map
from rtfusion.types import Image8

__all__ = ["GrayPair", "apart", "corners_px", "search"]

SIDE_PX = 144
"""Longer side of the pictures here."""
SCALES = tuple(float(scale) for scale in np.exp(np.arange(-10, 11) * np.log(1.07)))
"""Scales of the thermal picture, where 1 is as wide as the visible one: half to double."""
TURNS_DEG = tuple(float(angle) for angle in np.arange(-12, 13, 3))
LEAST_OVERLAP = 0.4
"""Least part of the smaller picture that both cover: below it, a chance likeness of two corners would win."""
_FFT_PX = 320
"""More than a visible and a thermal picture side by side, so that no shift wraps round."""
_Spectrum = tuple[Any, ...]


def search(pairs: Sequence[GrayPair], *, keep: int) -> list[Matrix]:
    """Find the best places of the thermal picture, each one place for all pairs: visible from thermal, in pixels.

    The best comes first: by the normalized cross-correlation of the structure maps, times the root of the overlap, in the mean
    over the pairs. No two of them put the corners closer than a tenth of the picture.
    """
    visible_images = [_Visible(shrunk(pair.visible, SIDE_PX)) for pair in pairs]
    thermal_images = [shrunk(pair.thermal, SIDE_PX) for pair in pairs]
    thermal_px, small_px = size_px(pairs[0].thermal), size_px(thermal_images[0])
    small_visible_px = size_px(shrunk(pairs[0].visible, SIDE_PX))
    visible_from_small = scale_px(from_px=small_visible_px, to_px=size_px(pairs[0].visible))
    small_from_thermal = scale_px(from_px=thermal_px, to_px=small_px)
    found = []
    turnings = list(_turnings(small_px))
    for turned_from_small, canvas_px in steps(turnings, "looking for the place of the thermal picture"):
        shifts = [
            visible.correlate(thermal, turned_from_small, canvas_px)
            for visible, thermal in zip(visible_images, thermal_images, strict=True)
        ]
        likeness = np.mean(shifts, axis=0)
        y, x = (int(index) for index in np.unravel_index(int(likeness.argmax()), likeness.shape))
        shift = np.eye(3)
        shift[:2, 2] = [index - _FFT_PX if index > _FFT_PX // 2 else index for index in (x, y)]
        found.append((float(likeness[y, x]), visible_from_small @ shift @ turned_from_small @ small_from_thermal))
    corners = corners_px(thermal_px)
    kept: list[Matrix] = []
    for _, place in sorted(found, key=lambda one: -one[0]):
        if len(kept) < keep and all(apart(place, other, corners) > 0.1 for other in kept):
            kept.append(place)
    return kept


class _Visible:
    """A visible picture, ready to be correlated with many thermal ones."""

    def __init__(self, gray: Image8) -> None:
        structure = structure_map(gray)
        structure = structure - structure.mean(axis=(0, 1))
        self._area = float(gray.size)
        self._structure = _spectrum(structure)
        self._energy = _spectrum(np.square(structure).sum(axis=2))
        self._ones = _spectrum(np.ones(gray.shape, np.float32))

    def correlate(self, thermal: Image8, turned_from_thermal: Matrix, canvas_px: tuple[int, int]) -> Matrix:
        """Likeness by shift over the part that both cover; -1 where that is too small."""
        turned = cv2.warpAffine(thermal, turned_from_thermal[:2], canvas_px, borderMode=cv2.BORDER_REPLICATE)
        inside = cv2.warpAffine(np.full_like(thermal, 255), turned_from_thermal[:2], canvas_px)
        mask = (cv2.erode(inside, np.ones((5, 5), np.uint8)) > 127).astype(np.float32)
        structure = structure_map(cast(Image8, turned)) * mask[..., None]
        structure -= structure.sum(axis=(0, 1)) / mask.sum() * mask[..., None]
        where = _spectrum(mask)
        product = _by_shift(self._structure, _spectrum(structure))
        energy = _by_shift(self._energy, where) * _by_shift(self._ones, _spectrum(np.square(structure).sum(axis=2)))
        overlap = _by_shift(self._ones, where) / min(self._area, float(mask.sum()))
        likeness = product / np.sqrt(np.maximum(energy, 1e-6)) * np.sqrt(np.clip(overlap, 0.0, 1.0))
        return np.where(overlap > LEAST_OVERLAP, likeness, -1.0)


def _spectrum(image: Any) -> _Spectrum:
    """(H, W) or (H, W, C) to the transforms of its channels, in OpenCV's packed format."""
    height, width = image.shape[:2]
    padded = cv2.copyMakeBorder(image, 0, _FFT_PX - height, 0, _FFT_PX - width, cv2.BORDER_CONSTANT)
    return tuple(cv2.dft(plane) for plane in cv2.split(padded))


def _by_shift(first: _Spectrum, second: _Spectrum) -> Any:
    """(H, W) float32: the sum of the channels' correlations, by the shift of the second image."""
    products = [cv2.mulSpectrums(one, other, 0, conjB=True) for one, other in zip(first, second, strict=True)]
    return cv2.idft(functools.reduce(cv2.add, products), flags=cv2.DFT_REAL_OUTPUT | cv2.DFT_SCALE)


def _turnings(of_px: tuple[int, int]) -> Iterator[tuple[Matrix, tuple[int, int]]]:
    """Every scale and turn about the middle, with the size of the canvas that holds the result."""
    width, height = of_px
    limit_px = _FFT_PX - SIDE_PX
    for scale in SCALES:
        for turn_deg in TURNS_DEG:
            cos, sin = scale * np.cos(np.deg2rad(turn_deg)), scale * np.sin(np.deg2rad(turn_deg))
            canvas_px = (
                min(int(cos * width + abs(sin) * height) + 2, limit_px),
                min(int(abs(sin) * width + cos * height) + 2, limit_px),
            )
            turn = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
            turn[:2, 2] = (np.array(canvas_px) - 1) / 2 - turn[:2, :2] @ ((np.array(of_px) - 1) / 2)
            yield turn, canvas_px


def apart(first: Matrix, second: Matrix, corners: Points) -> float:
    """Mean distance between the corners that two transforms make, as a share of the picture that the first makes."""
    one, other = transformed(first, corners), transformed(second, corners)
    return float(np.linalg.norm(one - other, axis=1).mean() / max(float(np.ptp(one, axis=0).max()), 1.0))


def corners_px(of_px: tuple[int, int]) -> Points:
    """(4, 2) outermost pixel centers of a picture of (width, height)."""
    width, height = of_px
    return np.array([(0, 0), (width - 1, 0), (width - 1, height - 1), (0, height - 1)], dtype=np.float64)
