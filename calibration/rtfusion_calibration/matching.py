"""Patches that vote: where each patch of a visible picture lies in the thermal one, looked for around a first guess."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np

from rtfusion.progress import part, steps
from rtfusion.registration import scale_px
from rtfusion.registration.calibration import Matrix
from rtfusion.registration.descriptors import Describer
from rtfusion.registration.matches import match_nearby
from rtfusion.registration.structure import Points, match_patch, patch_centers, shrunk, size_px, structure_map
from rtfusion.types import Image8
from rtfusion_calibration import fitting
from rtfusion_calibration.fitting import LEAST_VOTES, Votes, fit_average, regions_of, transformed
from rtfusion_calibration.search import GrayPair

TOLERANCE_PX = 3.0
"""At the resolution of a level: votes farther off than this do not agree."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolution:
    """One resolution: the longer side of the visible picture there, and how far patches look."""

    side_px: int
    radius_px: int

    def scale(self, pair: GrayPair) -> float:
        """Visible pixels per pixel of this level."""
        return max(1.0, max(pair.visible.shape) / self.side_px)

    def chance(self, tolerance_px: float) -> float:
        """Probability that a patch found at random is within ``tolerance_px``, in pixels of this level, of a given place."""
        return float(min(1.0, np.pi * tolerance_px**2 / (2 * self.radius_px - 1) ** 2))


SMALLEST_PATCH_PX, LARGEST_PATCH_PX = 28, 48
STEPS_PER_PATCH = 3
INDEPENDENT = 1.0 / STEPS_PER_PATCH**2
"""Share of the votes that do not overlap one another."""
LEARNED_SIDE_PX, LEARNED_RADIUS, LEARNED_VOTES = 640, 4, 1500
"""The learned matcher: the longer side of the visible picture, how many cells it looks to each side, and its votes of a pair."""
COARSE = (Resolution(side_px=200, radius_px=12), Resolution(side_px=320, radius_px=8))
FINE = (Resolution(side_px=640, radius_px=8), Resolution(side_px=640, radius_px=5))


def follow(
    pairs: Sequence[GrayPair], start: Matrix, levels: Sequence[Resolution], *, shifts_px: Points | None = None
) -> tuple[Matrix, Votes]:
    """Vote at each level, starting from the transform of the level before; the last transform and the last votes.

    Stops early where fewer than `LEAST_VOTES` patches are found. ``shifts_px`` as in `vote`.
    """
    transform = start
    for number, level in enumerate(levels):
        with part(number / len(levels), (number + 1) / len(levels)):
            votes = vote(pairs, transform, level, shifts_px=shifts_px)
        if len(votes) < LEAST_VOTES:
            break
        regions = regions_of(votes, size_px(pairs[0].thermal), side=fitting.OBSERVED)
        tolerance_px = TOLERANCE_PX * level.scale(pairs[0])
        best = fit_average(votes, tolerance_px=tolerance_px, regions=regions, start=transform)
        transform = best.visible_from_thermal_px
    return transform, votes


def vote(pairs: Sequence[GrayPair], start: Matrix, level: Resolution, *, shifts_px: Points | None = None) -> Votes:
    """The votes of all patches of all pairs.

    ``shifts_px``, (pairs, 2), is by how much each pair is known to be off by itself: it is looked for there, and its votes
    are as they would be without.
    """
    if shifts_px is None:
        shifts_px = np.zeros((len(pairs), 2))
    tables = []
    for pair, (x, y) in steps(list(zip(pairs, shifts_px, strict=True)), "matching patches of pairs"):
        moved = np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])
        table = _vote(pair, moved @ start, level)
        table[:, :2] -= x, y
        tables.append(table)
    table = np.concatenate(tables)
    return Votes(
        visible_px=table[:, :2],
        thermal_px=table[:, 2:4],
        weights=table[:, 4],
        pair=np.repeat(np.arange(len(pairs)), [len(votes) for votes in tables]),
    )


def learned_votes(describe: Describer, pairs: Sequence[GrayPair], start: Matrix) -> Votes:
    """What the learned matcher votes near a transform; of every pair, the votes that it is most sure of."""
    tables = []
    for index, pair in enumerate(pairs):
        small = shrunk(pair.visible, LEARNED_SIDE_PX)
        visible_from_small = scale_px(from_px=size_px(small), to_px=size_px(pair.visible))
        small_from_thermal: Matrix = np.linalg.inv(visible_from_small) @ start
        warped, valid = warped_onto(pair.thermal, small_from_thermal, size_px(small))
        found = match_nearby(describe(visible=small, thermal=warped), radius=LEARNED_RADIUS)
        columns, rows = found.visible_px.astype(int).T
        seen = np.flatnonzero(valid[rows, columns])
        surest = seen[np.argsort(-found.confidence[seen])[:LEARNED_VOTES]]
        visible_px = transformed(visible_from_small, found.visible_px[surest])
        thermal_px = transformed(np.asarray(np.linalg.inv(small_from_thermal), np.float64), found.thermal_px[surest])
        tables.append(np.column_stack([visible_px, thermal_px, found.confidence[surest], np.full(len(surest), index)]))
    table = np.concatenate(tables)
    return Votes(
        visible_px=table[:, :2],
        thermal_px=table[:, 2:4],
        weights=table[:, 4] + 1e-4,
        pair=table[:, 5].astype(np.int64),
    )


def _vote(pair: GrayPair, start: Matrix, level: Resolution) -> Matrix:
    """(N, 5): visible point, thermal point, likeness."""
    small = shrunk(pair.visible, level.side_px)
    visible_from_small = scale_px(from_px=size_px(small), to_px=size_px(pair.visible))
    small_from_thermal: Matrix = np.linalg.inv(visible_from_small) @ start
    warped, valid = warped_onto(pair.thermal, small_from_thermal, size_px(small))
    reference, moved = structure_map(small), structure_map(warped)
    patch_px = patch_px_of(small)
    sizes = {"patch_px": patch_px, "radius_px": level.radius_px}
    centers = patch_centers(size_px(small), step_px=patch_px // STEPS_PER_PATCH, valid=valid, **sizes)
    found = [match_patch(center_px, reference=reference, moved=moved, **sizes) for center_px in centers]
    matches = [match for match in found if match is not None]
    if not matches:
        return np.zeros((0, 5))
    points = np.array([match.center_px for match in matches], dtype=np.float64)
    offsets = np.array([match.offset_px for match in matches])
    visible = transformed(visible_from_small, points)
    thermal = transformed(np.linalg.inv(start) @ visible_from_small, points + offsets)
    return np.column_stack([visible, thermal, [match.likeness for match in matches]])


def patch_px_of(small: Image8) -> int:
    """Side of the patches of a picture."""
    return min(max(max(small.shape) // 10, SMALLEST_PATCH_PX), LARGEST_PATCH_PX)


def warped_onto(thermal: Image8, grid_from_thermal: Matrix, grid_px: tuple[int, int]) -> tuple[Image8, Image8]:
    """The thermal picture on a grid, averaged first where that is much coarser, and where it is seen there."""
    width, height = size_px(thermal)
    depth = abs(float(grid_from_thermal[2] @ (width / 2, height / 2, 1)))
    area = abs(float(np.linalg.det(grid_from_thermal))) / depth**3
    shrink = 1.0 / float(np.sqrt(max(area, 1e-6)))
    if shrink > 1.5:
        small_px = max(8, round(width / shrink)), max(8, round(height / shrink))
        grid_from_thermal = grid_from_thermal @ scale_px(from_px=small_px, to_px=(width, height))
        thermal = cast(Image8, cv2.resize(thermal, small_px, interpolation=cv2.INTER_AREA))
    warped = cv2.warpPerspective(thermal, grid_from_thermal, grid_px, borderMode=cv2.BORDER_REPLICATE)
    valid = cv2.warpPerspective(np.full_like(thermal, 255), grid_from_thermal, grid_px)
    return cast(Image8, warped), cast(Image8, cv2.erode(valid, np.ones((5, 5), np.uint8)))
