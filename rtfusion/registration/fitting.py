"""A transform from votes of which many are wrong: consensus first, then least squares with falling weights.

How free the transform may be is a question of its own (`rtfusion_calibration.fitting`).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from rtfusion.registration.calibration import Matrix
from rtfusion.registration.structure import Points

Weights = npt.NDArray[np.float64]

SAMPLES = 1000
ROUNDS = 12
LEAST_VOTES = 12
BEND = 0.01
"""Share of its distance from the middle by which lenses usually put a point at half the width elsewhere: the standard deviation
that it is held to none by (docs/experiments.md)."""
OBSERVATIONS = 20.0
"""As so many observations all votes count against that."""
_LEAST_SPREAD_PX = 0.15
_RAYLEIGH_MEDIAN = 1.18
"""Median distance of points that scatter with a standard deviation of 1 along each axis."""


class Model(enum.IntEnum):
    """The kind of a transform; the value is its number of parameters."""

    SIMILARITY = 4
    AFFINE = 6
    HOMOGRAPHY = 8


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Votes:
    """Points found in both pictures."""

    thermal_px: Points
    """(N, 2)."""
    visible_px: Points
    """(N, 2)."""
    weights: Weights
    """(N,) how much each counts, above 0."""
    pair: npt.NDArray[np.int64]
    """(N,) index of the pair it is from."""

    def __len__(self) -> int:
        return len(self.weights)

    def and_others(self, others: Votes, *, weighing: float = 1.0) -> Votes:
        """These, then the others, who together weigh ``weighing`` times as much as these."""
        names = [name.name for name in fields(self)]
        joined = {name: np.concatenate([getattr(self, name), getattr(others, name)]) for name in names}
        total = float(self.weights.sum())
        theirs = others.weights * (weighing * total / float(others.weights.sum())) if len(others) else others.weights
        return Votes(**{**joined, "weights": np.concatenate([self.weights, theirs])})

    def only(self, chosen: npt.NDArray[np.bool_]) -> Votes:
        """Some of the votes."""
        return Votes(**{name.name: getattr(self, name.name)[chosen] for name in fields(self)})


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Fit:
    """A transform and how well the votes agree with it."""

    visible_from_thermal_px: Matrix
    model: Model
    residuals_px: Weights
    """(N,) distance of every vote, in visible pixels, beyond what the lenses explain where they are asked."""
    spread_px: float
    """Robust standard deviation along each axis of the votes that count."""


def fit(
    votes: Votes,
    *,
    model: Model,
    tolerance_px: float,
    start: Matrix | None = None,
    picture_px: tuple[int, int] | None = None,
) -> Fit:
    """The transform that most votes agree on to ``tolerance_px``, made precise by iterated reweighting (Tukey's biweight).

    ``start`` replaces the search for a consensus. At least `LEAST_VOTES` votes are needed. With ``picture_px``, (width, height)
    of the thermal picture, the two lenses may bend it differently (`bent`), and the transform is the one that is nearest to what
    is found all over the picture: the middle, where the votes are, would stretch or shrink the edges.
    """
    unit_from_thermal = _unit_from(votes.thermal_px)
    source = transformed(unit_from_thermal, votes.thermal_px)
    bent_source = None if picture_px is None else transformed(unit_from_thermal, bent(votes.thermal_px, picture_px))
    if start is None:
        transform = _consensus(source, votes.visible_px, votes.weights, tolerance_px)
    else:
        transform = start @ np.linalg.inv(unit_from_thermal)
    spread_px, bend = tolerance_px / 2, 0.0
    there_px = transformed(transform, source)
    for _ in range(ROUNDS):
        residuals_px = np.linalg.norm(there_px - votes.visible_px, axis=1)
        near = residuals_px[residuals_px < 3.0 * tolerance_px]
        if near.size:
            spread_px = float(np.clip(np.median(near) / _RAYLEIGH_MEDIAN, _LEAST_SPREAD_PX, tolerance_px / 2))
        falling = votes.weights * np.square(np.clip(1.0 - np.square(residuals_px / (4.5 * spread_px)), 0.0, None))
        if np.count_nonzero(falling) < LEAST_VOTES / 2:
            break
        if bent_source is None:
            transform = _least_squares(source, votes.visible_px, falling, model)
            there_px = transformed(transform, source)
        else:
            lens_px = transformed(transform, bent_source) - transformed(transform, source)
            hold = spread_px * float(np.sqrt(falling.sum() / OBSERVATIONS))
            transform, bend = _bent_least_squares(source, votes.visible_px, falling, model, lens_px=lens_px, hold=hold)
            there_px = transformed(transform, source) + bend * lens_px
    if picture_px is not None:
        transform = _nearest(transform, bend, model, unit_from_thermal, picture_px)
    whole = transform @ unit_from_thermal
    return Fit(
        visible_from_thermal_px=whole / whole[2, 2],
        model=model,
        residuals_px=np.linalg.norm(there_px - votes.visible_px, axis=1),
        spread_px=spread_px,
    )


def bent(points: Points, picture_px: tuple[int, int]) -> Points:
    """(N, 2) points of a picture of (width, height), away from its middle as a lens may put them: with the cube of the distance.

    At half the width that is `BEND` of the distance.
    """
    middle = (np.array(picture_px) - 1) / 2
    from_middle = points - middle
    cubed = from_middle * np.square(from_middle / (picture_px[0] / 2)).sum(axis=1, keepdims=True)
    return np.asarray(points + BEND * cubed)


def all_over(picture_px: tuple[int, int]) -> Points:
    """(N, 2) points everywhere in a picture of (width, height), its corners among them."""
    sides = np.meshgrid(*(np.linspace(0, side - 1, 9) for side in picture_px))
    return np.stack(sides, axis=2).reshape(-1, 2).astype(np.float64)


def transformed(transform: Matrix, points: Points) -> Points:
    """(N, 2) points through a homography."""
    mapped = np.column_stack([points, np.ones(len(points))]) @ transform.T
    return np.asarray(mapped[:, :2] / mapped[:, 2:], dtype=np.float64)


def _unit_from(points: Points) -> Matrix:
    """Shift and scale points to the middle and to a spread of 1, for the sake of the arithmetic."""
    (x, y), scale = points.mean(axis=0), max(float(points.std()), 1e-9)
    return np.array([[1.0 / scale, 0.0, -x / scale], [0.0, 1.0 / scale, -y / scale], [0.0, 0.0, 1.0]])


def _consensus(source: Points, target: Points, weights: Weights, tolerance_px: float) -> Matrix:
    """Draw many similarities, each through two votes, and give the one with the largest weight of votes near it.

    As complex numbers a similarity is z -> a z + b. The draw is always the same.
    """
    rng = np.random.default_rng(0)
    z, w = source[:, 0] + 1j * source[:, 1], target[:, 0] + 1j * target[:, 1]
    first, second = rng.integers(0, len(z), (2, SAMPLES))
    apart = np.abs(z[first] - z[second]) > 0.3
    first, second = first[apart], second[apart]
    if not first.size:  # all votes in one place: nothing to turn or scale by
        return np.array([[0.0, 0.0, target[0, 0]], [0.0, 0.0, target[0, 1]], [0.0, 0.0, 1.0]])
    a = (w[first] - w[second]) / (z[first] - z[second])
    b = w[first] - a * z[first]
    agreement = [float(weights[np.abs(a[i] * z + b[i] - w) < tolerance_px].sum()) for i in range(len(a))]
    best = int(np.argmax(agreement))
    turn, shift = complex(a[best]), complex(b[best])
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag], [0.0, 0.0, 1.0]])


def _nearest(
    transform: Matrix, bend: float, model: Model, unit_from_thermal: Matrix, picture_px: tuple[int, int]
) -> Matrix:
    """The transform without a lens that is nearest to one with it, all over the picture."""
    points = all_over(picture_px)
    source = transformed(unit_from_thermal, points)
    there_px = transformed(transform, source)
    lens_px = transformed(transform, transformed(unit_from_thermal, bent(points, picture_px))) - there_px
    return _least_squares(source, there_px + bend * lens_px, np.ones(len(points)), model)


def _least_squares(source: Points, target: Points, weights: Weights, model: Model) -> Matrix:
    system, right = _system(source, target, weights, model)
    return _matrix(np.asarray(np.linalg.lstsq(system, right, rcond=None)[0], np.float64), model)


def _bent_least_squares(
    source: Points, target: Points, weights: Weights, model: Model, *, lens_px: Points, hold: float
) -> tuple[Matrix, float]:
    """The same where ``lens_px``, (N, 2), may be added so many times: the transform, and how many, held to none by ``hold``."""
    system, right = _system(source, target, weights, model)
    root = np.sqrt(np.concatenate([weights, weights]))
    whole = np.column_stack([system, lens_px.T.ravel() * root])
    holds = np.zeros((1, whole.shape[1]))
    holds[0, -1] = hold
    found = np.linalg.lstsq(np.concatenate([whole, holds]), np.append(right, 0.0), rcond=None)[0]
    return _matrix(found[:-1], model), float(found[-1])


def _system(source: Points, target: Points, weights: Weights, model: Model) -> tuple[Matrix, Weights]:
    """The equations of the entries of a transform, and their right side."""
    (x, y), (u, v) = source.T, target.T
    zero, one = np.zeros_like(x), np.ones_like(x)
    if model is Model.SIMILARITY:
        rows = [x, -y, one, zero], [y, x, zero, one]
    else:
        rows = [x, y, one, zero, zero, zero], [zero, zero, zero, x, y, one]
    if model is Model.HOMOGRAPHY:
        rows = [*rows[0], -u * x, -u * y], [*rows[1], -v * x, -v * y]
    root = np.sqrt(np.concatenate([weights, weights]))
    system = np.concatenate([np.column_stack(row) for row in rows]) * root[:, None]
    return system, np.concatenate([u, v]) * root


def _matrix(found: Weights, model: Model) -> Matrix:
    if model is Model.SIMILARITY:
        cos, sin, right, down = found
        return np.array([[cos, -sin, right], [sin, cos, down], [0.0, 0.0, 1.0]])
    bottom = found[6:] if model is Model.HOMOGRAPHY else (0.0, 0.0)
    return np.array([found[:3], found[3:6], [*bottom, 1.0]])
