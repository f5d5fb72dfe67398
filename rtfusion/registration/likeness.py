"""How alike both bands are with every displacement along the line of a rig, around each cell of the visible picture.

"Around" ends at the edges of the visible picture (He et al., "Guided image filtering", and Hosni et al., "Fast cost-volume
filtering for visual correspondence and beyond", both IEEE TPAMI 2013).
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, cast

import cv2
import numpy as np
import numpy.typing as npt

from rtfusion.registration.structure import StructureMap, structure_map
from rtfusion.types import Image8

STRIDE = 2
"""Cells are so many pixels of the pictures that are compared wide."""
WINDOW, REACH = 5, 6
"""In cells: a square whose structure is compared, and the reach of the window that ends at edges."""
EDGE = 1e-3
"""Variance of the visible picture, of full scale, from which on an edge is one."""

Floats = npt.NDArray[np.float32]


class Tried(NamedTuple):
    """Displacements along one line, in equal steps; 0 is among them.

    The first and the last one are beyond the ends, so that the best one has neighbors.
    """

    px: Floats
    """(n,) in pixels of the grid."""
    layer_px: float
    """From one to the next."""
    direction: tuple[float, float]
    """Unit vector."""
    scale: float
    """Pixels of the grid for one of the pictures that are compared."""

    @property
    def shifts_px(self) -> Floats:
        """(n, 2) columns and rows, in pixels of the pictures that are compared."""
        return np.outer(self.px, np.array(self.direction) / self.scale).astype(np.float32)


class Found(NamedTuple):
    """The best displacement of every cell, (rows, columns) each."""

    px: Floats
    """In pixels of the grid."""
    lead: Floats
    """How much more alike than in the mean over all displacements both bands are with it; 0 where not all of them are known."""


class Search(Protocol):
    """Finds the displacement of every cell, for one rig and one size of picture; used by one thread at a time."""

    def __call__(self, *, visible: Image8, thermal: Image8, gray: Image8) -> Found:
        """Both pictures (H, W) as ranks on the grid of the search, and the visible one (H / STRIDE, W / STRIDE) as it is."""
        ...


def tried_between(
    least_px: float, most_px: float, *, direction: tuple[float, float], layer_px: float, scale: float
) -> Tried:
    """What is tried between the displacements of what is farthest and what is nearest."""
    first, last = int(np.floor(least_px / layer_px)) - 1, int(np.ceil(most_px / layer_px)) + 1
    px = np.arange(first, last + 1, dtype=np.float32) * np.float32(layer_px)
    return Tried(px, layer_px, direction, scale)


class OpenCvSearch:
    """With OpenCV: slower than `rtfusion.kernels.parallax.CompiledSearch`, and all of it can be looked at.

    Args:
        tried: what is tried.
        seen: (H, W), 1 where the thermal camera sees, else 0.
        dense: what lies between two of them is found, too.
    """

    def __init__(self, tried: Tried, *, seen: Floats, dense: bool) -> None:
        self._tried, self._seen, self._dense = tried, seen, dense

    def __call__(self, *, visible: Image8, thermal: Image8, gray: Image8) -> Found:
        """See `Search`."""
        return self.best(*self.likeness(visible=visible, thermal=thermal, gray=gray))

    def likeness(self, *, visible: Image8, thermal: Image8, gray: Image8) -> tuple[Floats, Floats]:
        """(n, rows, columns) each: with every displacement, how alike both bands are around each cell, and how far that is known.

        What would lie outside of the thermal picture is as alike as the rest of what is tried there: it tells nothing.
        """
        still = np.ascontiguousarray(structure_map(visible)[::STRIDE, ::STRIDE])
        there = cast(StructureMap, cv2.multiply(structure_map(thermal), cv2.merge([self._seen] * 4)))
        energy = _dot(still, still)
        rows, columns = still.shape[:2]
        likeness, known = (np.empty((len(self._tried.px), rows, columns), np.float32) for _ in range(2))
        for index, (x, y) in enumerate(self._tried.shifts_px):
            # what is displaced by (x, y) is brought back, and every second pixel of it is looked at
            back = np.array([[1 / STRIDE, 0, -x / STRIDE], [0, 1 / STRIDE, -y / STRIDE]])
            moved, seen = (
                cast(
                    Floats,
                    cv2.warpAffine(
                        plane, back, (columns, rows), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT
                    ),
                )
                for plane in (there, self._seen)
            )
            # the moved map's own square: what lies between pixels is fainter, and as faint in both
            planes = [_dot(still, moved), cv2.multiply(energy, seen), _dot(moved, moved), seen]
            both = cv2.blur(cv2.merge(planes), (WINDOW, WINDOW))
            product, own, other, known[index] = cv2.split(both)
            likeness[index] = cv2.divide(product, cv2.sqrt(cv2.multiply(own, other) + np.float32(1e-4)))
        mean = (likeness * known).sum(axis=0) / np.maximum(known.sum(axis=0), np.float32(1e-6))
        likeness = mean + known * (likeness - mean)
        guide = Guide(gray)
        for plane in likeness:
            plane[:] = guide(plane)
        return likeness, known

    def best(self, likeness: Floats, known: Floats) -> Found:
        """The best of what `likeness` gives."""
        best = likeness.argmax(axis=0)
        lead = np.maximum(likeness.max(axis=0) - likeness.mean(axis=0), np.float32(0)) * known.min(axis=0)
        found_px = self._tried.px[best]
        if self._dense:
            found_px = found_px + np.float32(self._tried.layer_px) * _vertices(likeness, best)
        return Found(found_px, lead)


def _dot(one: StructureMap, other: StructureMap) -> Floats:
    products = cv2.multiply(one, other)
    return cast(Floats, (products[..., 0] + products[..., 1]) + (products[..., 2] + products[..., 3]))


class Guide:
    """Smooths planes within the edges of a gray picture, (rows, columns): a linear function of it around every cell.

    The functions are made at half of the resolution, since they are smooth.
    """

    def __init__(self, gray: Image8, weight: Floats | None = None) -> None:
        self._whole = gray.astype(np.float32) / np.float32(255)
        self._gray = _halved(self._whole)
        self._weight = np.ones_like(self._gray) if weight is None else _halved(weight)
        self._total = _mean(self._weight)
        self._weighted = self._weight * self._gray
        self._middle = _mean(self._weighted) / self._total
        self._spread = _mean(self._weighted * self._gray) / self._total - np.square(self._middle) + np.float32(EDGE)

    def __call__(self, plane: Floats) -> Floats:
        """The plane (rows, columns), smoothed."""
        small = _halved(plane)
        middle = _mean(self._weight * small) / self._total
        slope = (_mean(self._weighted * small) / self._total - self._middle * middle) / self._spread
        function = cv2.blur(cv2.merge([slope, middle - slope * self._middle]), (REACH + 1, REACH + 1))
        slope, offset = cv2.split(cv2.resize(function, plane.shape[::-1], interpolation=cv2.INTER_LINEAR))
        return cast(Floats, cv2.add(cv2.multiply(slope, self._whole), offset))


def _halved(plane: Floats) -> Floats:
    return cast(Floats, cv2.resize(plane, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))


def _mean(plane: Any) -> Any:
    return cv2.blur(plane, (REACH + 1, REACH + 1))


def _vertices(likeness: Floats, best: npt.NDArray[np.int64]) -> Floats:
    """Where between its neighbors the top of the parabola through each best one lies, in steps."""
    index = np.clip(best, 1, len(likeness) - 2)[None]
    before, at, after = (np.take_along_axis(likeness, index + step, axis=0)[0] for step in (-1, 0, 1))
    bend = np.minimum(before - 2 * at + after, np.float32(-1e-6))
    return cast(Floats, np.clip(np.float32(0.5) * (before - after) / bend, -1, 1))
