"""How free a transform may be, weighed by the evidence.

What is near and what is far in a scene looks like stretch, shear and perspective between the cameras, and only what holds all
over the picture is believed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from rtfusion.registration.calibration import Matrix
from rtfusion.registration.fitting import LEAST_VOTES, Fit, Model, Votes, Weights, fit, transformed
from rtfusion.registration.structure import Points

__all__ = [
    "LEAST_VOTES",
    "Average",
    "Fit",
    "Model",
    "Votes",
    "area_weights",
    "by_area",
    "fit",
    "fit_average",
    "regions_at",
    "regions_of",
    "transformed",
]

REGIONS = 3
"""A 3 x 3 grid: what lies in one cell is at similar distances, and errs together, in all pairs of one scene."""
OBSERVED = 4
"""The grid whose cells count as observations when kinds of transforms are weighed."""
AREAS, LEAST_IN_AREA = 6, 3
"""The grid whose cells weigh alike in a fit, and the votes in a cell from which on it has its full weight."""
PERSPECTIVE = 8.0
"""What a homography costs beyond its parameters: where all ninths of a picture agree, half of what an affine transform leaves
has to go."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Average:
    """The mean of several fits to the same votes."""

    visible_from_thermal_px: Matrix
    fits: tuple[Fit, ...]
    shares: Weights
    """(fits,) of the mean, in sum 1."""
    residuals_px: Weights
    """(N,) distance of every vote from the mean, in visible pixels."""

    @property
    def best(self) -> Fit:
        """The one with the largest share."""
        return self.fits[int(self.shares.argmax())]

    def moved_to(self, visible_from_thermal_px: Matrix, votes: Votes) -> Average:
        """The same evidence for another transform, to which the votes are as far as they are."""
        residuals_px = np.linalg.norm(transformed(visible_from_thermal_px, votes.thermal_px) - votes.visible_px, axis=1)
        return replace(self, visible_from_thermal_px=visible_from_thermal_px, residuals_px=residuals_px)


def fit_average(
    votes: Votes,
    *,
    tolerance_px: float,
    regions: npt.NDArray[np.int64],
    start: Matrix | None = None,
    picture_px: tuple[int, int] | None = None,
) -> Average:
    """Similarity, affine transform and homography, each by Akaike's weight.

    ``regions``, (N,), says which part of the picture a vote is from. What errs together counts once: a region is one
    observation of two numbers, however many votes it holds. Depth looks like perspective, which has to explain more than
    anything else to be believed (`PERSPECTIVE`). ``start`` is near the truth: the most free transform begins there, the others
    with what most votes agree on. ``picture_px`` as in `fit`.
    """
    precise = partial(fit, votes, tolerance_px=tolerance_px, picture_px=picture_px)
    affine = precise(model=Model.AFFINE)
    near = affine.visible_from_thermal_px
    fits = [
        precise(model=Model.SIMILARITY, start=near),
        affine,
        precise(model=Model.HOMOGRAPHY, start=near if start is None else start),
    ]
    agree = fits[-1].residuals_px < tolerance_px
    observations = 2 * len(np.unique(regions[agree]))
    weights = votes.weights * agree
    total = max(float(weights.sum()), 1e-12)  # none may agree: then all kinds explain the votes alike
    squares = [weights @ np.square(np.minimum(one.residuals_px, tolerance_px)) / total for one in fits]
    penalties = 2.0 * np.array([one.model for one in fits]) + np.array([0.0, 0.0, PERSPECTIVE])
    costs = observations * np.log(np.array(squares) + 1e-6) + penalties
    shares = np.exp((costs.min() - costs) / 2)
    shares /= shares.sum()
    mean: Matrix = np.einsum("i,ijk->jk", shares, [one.visible_from_thermal_px for one in fits])
    return Average(
        visible_from_thermal_px=mean,
        fits=tuple(fits),
        shares=shares,
        residuals_px=np.linalg.norm(transformed(mean, votes.thermal_px) - votes.visible_px, axis=1),
    )


def by_area(votes: Votes, thermal_px: tuple[int, int]) -> Votes:
    """The same votes, weighed so that every part of the thermal picture, of (width, height), counts alike.

    Structure crowds where things are far away, along the horizon for the most. Where no transform fits all of a picture, votes
    that weigh alike would put that part in its place, and everything around it elsewhere.
    """
    return replace(votes, weights=votes.weights * area_weights(votes.thermal_px, thermal_px))


def area_weights(points: Points, thermal_px: tuple[int, int]) -> Weights:
    """(N,) one over how many of the points, (N, 2) of the thermal picture, are in the same part of it; 1 in the mean."""
    cells = regions_at(points, thermal_px, side=AREAS)
    weights = 1.0 / np.maximum(np.bincount(cells)[cells], LEAST_IN_AREA)
    return np.asarray(weights / weights.mean())


def regions_of(votes: Votes, thermal_px: tuple[int, int], *, side: int = REGIONS) -> npt.NDArray[np.int64]:
    """(N,) which cell of a grid of ``side`` x ``side`` over the thermal picture, of (width, height), each vote is from."""
    return regions_at(votes.thermal_px, thermal_px, side=side)


def regions_at(points: Points, thermal_px: tuple[int, int], *, side: int = REGIONS) -> npt.NDArray[np.int64]:
    """(N,) the same of points of the thermal picture."""
    cells = np.clip(points / np.array(thermal_px) * side, 0, side - 1).astype(np.int64)
    return np.asarray(cells[:, 1] * side + cells[:, 0])
