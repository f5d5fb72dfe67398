"""The last step of the estimate: all patches together, each with every place that it may have.

A patch that votes says only where it is most alike. Here it says how alike it is everywhere near, and the transform is sought
that all of them together are most alike with (expectation and maximization: a patch lies where the transform and its likeness
say). The transform is a homography, held to a similarity as far as rigs are: a little stretch, shear and slant costs little,
much has to be shown. Beside it the lenses of both cameras may bend their pictures differently.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from rtfusion.registration import scale_px
from rtfusion.registration.calibration import Matrix
from rtfusion.registration.fitting import Weights, all_over, bent, transformed
from rtfusion.registration.structure import GrayPair, Points, patch_centers, shrunk, size_px, structure_map
from rtfusion_calibration.fitting import area_weights
from rtfusion_calibration.matching import INDEPENDENT, STEPS_PER_PATCH, patch_px_of, warped_onto

SIDE_PX, RADIUS_PX = 640, 8
SHARPNESS = 16.0
"""Of likeness: a patch that is by 0.1 more alike somewhere is there five times as likely."""
ROUNDS_PX = (4.0, 3.0, 2.0, 1.5, 1.5), (2.0, 1.5, 1.5, 1.2, 1.2)
"""Deviations of a patch from the transform, falling; after the first ones the likeness is computed anew."""
REDRAWN_PX = (1.5, 1.2)
STRETCH, SLANT = 0.006, 0.008
"""Standard deviations of stretch and shear, and of the change of scale over the picture, of rigs."""
OBSERVATIONS, TOGETHER = 10.0, 2.0
"""As so many observations all patches together count against that, each with so many times the deviation of single patches:
what is near one another errs together, by depth for the most."""
LEAST_PATCHES = 20
LEAST_CONTRAST = 0.03
OVER = 1.5
"""Each round goes so much farther than it says, which converges sooner."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Alignment:
    """A transform, and what it rests on."""

    visible_from_thermal_px: Matrix
    support: float
    """How much more alike all patches are with it than by chance, as a logarithm, less what it costs to be unusual."""
    surfaces: _Surfaces
    place: _Place

    def drawn(self, counts_of_patches: Weights) -> Matrix:
        """The transform where each patch counts so many times."""
        weights = self.surfaces.weights * counts_of_patches
        found, _ = _climb(self.surfaces, self.place, REDRAWN_PX, weights=weights)
        return self.surfaces.visible_from_thermal(found)


class _Place(NamedTuple):
    """Where the patches are said to lie."""

    frame_from_visible: Matrix
    bend: float
    """How many times what lenses may differ by (`rtfusion.registration.fitting.bent`) comes to that."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Surfaces:
    """Where each patch may lie. The *frame* is the thermal picture as the similarity puts it."""

    visible_px: Points
    """(N, 2) middles of the patches in the small visible picture."""
    thermal_px: Points
    """(N, 2) the same in the thermal picture, as they began."""
    likely: npt.NDArray[np.float64]
    """(N, side, side) share of each place."""
    weights: Weights
    """(N,) how much each counts: every part of the picture alike."""
    small_from_thermal: Matrix
    """What the patches began with."""
    frame_from_thermal: Matrix
    visible_from_small: Matrix
    thermal_size_px: tuple[int, int]

    @property
    def lens_px(self) -> Points:
        """(N, 2) of the frame: by how much lenses may move the patches."""
        return self._moved_by_lens(self.thermal_px)

    def visible_from_thermal(self, place: _Place) -> Matrix:
        """The transform without a lens that is nearest to the place, all over the thermal picture."""
        points = all_over(self.thermal_size_px)
        small_px = transformed(self.small_from_thermal, points)
        frame_px = transformed(place.frame_from_visible, small_px) + place.bend * self._moved_by_lens(points)
        nearest = cv2.findHomography(small_px, frame_px, 0)[0]
        whole = self.visible_from_small @ np.linalg.inv(nearest) @ self.frame_from_thermal
        return np.asarray(whole / whole[2, 2])

    def _moved_by_lens(self, thermal_px: Points) -> Points:
        moved, still = (
            transformed(self.frame_from_thermal, one) for one in (bent(thermal_px, self.thermal_size_px), thermal_px)
        )
        return moved - still


def align(
    pairs: Sequence[GrayPair], *, similarity: Matrix, starts: Sequence[Matrix], shifts_px: Points
) -> Alignment | None:
    """The transform that all patches are most alike with, from the best of some starts; None where there are too few.

    Args:
        pairs: of one rig.
        similarity: near the truth; what is no similarity is held against it.
        starts: transforms within `RADIUS_PX` of the truth at `SIDE_PX`.
        shifts_px: (pairs, 2) by how much each pair is off by itself.
    """
    found = [one for start in starts if (one := _aligned(pairs, similarity, start, shifts_px)) is not None]
    return max(found, key=lambda one: one.support, default=None)


def _aligned(pairs: Sequence[GrayPair], similarity: Matrix, start: Matrix, shifts_px: Points) -> Alignment | None:
    result = None
    for rounds_px in ROUNDS_PX:
        surfaces = _surfaces(pairs, similarity, start, shifts_px)
        if len(surfaces.visible_px) < LEAST_PATCHES:
            return None
        began: Matrix = surfaces.frame_from_thermal @ np.linalg.inv(surfaces.small_from_thermal)
        found, support = _climb(surfaces, _Place(began, 0.0), rounds_px, weights=surfaces.weights)
        start = surfaces.visible_from_thermal(found)
        result = Alignment(visible_from_thermal_px=start, support=support, surfaces=surfaces, place=found)
    return result


def _surfaces(pairs: Sequence[GrayPair], similarity: Matrix, start: Matrix, shifts_px: Points) -> _Surfaces:
    small_px = size_px(shrunk(pairs[0].visible, SIDE_PX))
    visible_from_small = scale_px(from_px=small_px, to_px=size_px(pairs[0].visible))
    small_from_visible = np.linalg.inv(visible_from_small)
    small_from_thermal: Matrix = small_from_visible @ start
    centers, likely = [], []
    for pair, shift in zip(pairs, shifts_px, strict=True):
        small = shrunk(pair.visible, SIDE_PX)
        moved = np.array([[1.0, 0.0, shift[0]], [0.0, 1.0, shift[1]], [0.0, 0.0, 1.0]])
        warped, valid = warped_onto(pair.thermal, small_from_visible @ moved @ start, small_px)
        reference, other = structure_map(small), structure_map(warped)
        patch_px = patch_px_of(small)
        half, reach = patch_px // 2, patch_px // 2 + RADIUS_PX
        sizes = {"patch_px": patch_px, "radius_px": RADIUS_PX}
        for x, y in patch_centers(small_px, step_px=patch_px // STEPS_PER_PATCH, valid=valid, **sizes):
            patch = reference[y - half : y + half + 1, x - half : x + half + 1]
            if patch.std() < LEAST_CONTRAST:
                continue
            window = other[y - reach : y + reach + 1, x - reach : x + reach + 1]
            scores = cv2.matchTemplate(window, patch, cv2.TM_CCOEFF_NORMED)
            if np.isfinite(scores).all():
                centers.append((x, y) - shift / np.diag(visible_from_small)[:2])
                likely.append(np.exp(SHARPNESS * scores))
    mass = np.array(likely, dtype=np.float64).reshape(-1, 2 * RADIUS_PX + 1, 2 * RADIUS_PX + 1)
    visible_px = np.array(centers, dtype=np.float64).reshape(-1, 2)
    thermal_px = transformed(np.asarray(np.linalg.inv(small_from_thermal), np.float64), visible_px)
    return _Surfaces(
        visible_px=visible_px,
        thermal_px=thermal_px,
        likely=mass / mass.sum(axis=(1, 2), keepdims=True),
        weights=area_weights(thermal_px, size_px(pairs[0].thermal)),
        small_from_thermal=small_from_thermal,
        frame_from_thermal=small_from_visible @ similarity,
        visible_from_small=visible_from_small,
        thermal_size_px=size_px(pairs[0].thermal),
    )


def _climb(surfaces: _Surfaces, began: _Place, rounds_px: Sequence[float], *, weights: Weights) -> tuple[_Place, float]:
    """The place that the patches agree on, and its support."""
    lens_px = surfaces.lens_px
    points, chance = surfaces.visible_px, 1.0 / surfaces.likely[0].size
    frame_from_small: Matrix = surfaces.frame_from_thermal @ np.linalg.inv(surfaces.small_from_thermal)
    steps = np.arange(-RADIUS_PX, RADIUS_PX + 1.0)
    small_from_frame: Matrix = np.linalg.inv(frame_from_small).astype(np.float64)
    found, expected = began, np.zeros(len(points))
    for deviation_px in rounds_px:
        there = transformed(found.frame_from_visible, points) + found.bend * lens_px
        offsets = transformed(small_from_frame, there) - points
        across, down = (np.exp(-np.square(steps - offsets[:, axis, None]) / (2 * deviation_px**2)) for axis in range(2))
        both = surfaces.likely * down[:, :, None] * across[:, None, :]
        total = both.sum(axis=(1, 2))
        mean = np.column_stack([both.sum(axis=1) @ steps, both.sum(axis=2) @ steps]) / np.maximum(total, 1e-12)[:, None]
        # a patch that is no more alike here than anywhere says nothing
        expected = 2 * np.pi * deviation_px**2 * chance
        counting = np.square(total / (total + expected)) * weights
        aims = transformed(frame_from_small, points + offsets + OVER * (mean - offsets))
        off_px = np.square(mean - offsets).sum(axis=1) / 2
        deviation = TOGETHER * float(np.sqrt((counting @ off_px + 1e-3) / (counting.sum() + 1e-3)))
        found = _held(points, aims, counting + 1e-9, deviation_px=deviation, lens_px=lens_px)
    return found, INDEPENDENT * float(np.log1p(total / expected).sum()) - _unusual(found, points)


def _unusual(place: _Place, points: Points) -> float:
    """What a place that rigs seldom have costs: half the squares of its stretch, shear, slant and bend over their deviations."""
    middle, spread = points.mean(axis=0), max(float(points.std()), 1e-9)
    small = np.array([[spread, 0, middle[0]], [0, spread, middle[1]], [0, 0, 1.0]])
    unit = np.linalg.inv(small) @ place.frame_from_visible @ small
    unit = unit / unit[2, 2]
    off = np.array([unit[0, 0] - unit[1, 1], unit[0, 1] + unit[1, 0], unit[2, 0], unit[2, 1]])
    return float(np.square(off / (STRETCH, STRETCH, SLANT, SLANT)).sum() + place.bend**2) / 2


def _held(source: Points, target: Points, weights: Weights, *, deviation_px: float, lens_px: Points) -> _Place:
    """The homography and the bend by least squares, held to a similarity as `STRETCH`, `SLANT` and `BEND` say."""
    middle, spread = source.mean(axis=0), max(float(source.std()), 1e-9)
    (x, y), (u, v) = ((source - middle) / spread).T, ((target - middle) / spread).T
    zero, one = np.zeros_like(x), np.ones_like(x)
    bend_x, bend_y = (lens_px / spread).T
    rows = (
        [x, y, one, zero, zero, zero, -u * x, -u * y, bend_x],
        [zero, zero, zero, x, y, one, -v * x, -v * y, bend_y],
    )
    root = np.sqrt(np.concatenate([weights, weights]))
    system = np.concatenate([np.column_stack(row) for row in rows]) * root[:, None]
    strength = deviation_px / spread * np.sqrt(weights.sum() / OBSERVATIONS)
    holds = np.zeros((5, 9))
    holds[0, [0, 4]] = strength / STRETCH, -strength / STRETCH
    holds[1, [1, 3]] = strength / STRETCH
    holds[2, 6] = holds[3, 7] = strength / SLANT
    holds[4, 8] = strength
    right = np.concatenate([np.concatenate([u, v]) * root, np.zeros(5)])
    found = np.linalg.lstsq(np.concatenate([system, holds]), right, rcond=None)[0]
    unit = np.array([[1 / spread, 0, -middle[0] / spread], [0, 1 / spread, -middle[1] / spread], [0, 0, 1]])
    whole = np.linalg.inv(unit) @ np.array([found[:3], found[3:6], [*found[6:8], 1.0]]) @ unit
    return _Place(np.asarray(whole / whole[2, 2]), float(found[8]))
