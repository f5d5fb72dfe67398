"""A calibration without a target: the transform between two cameras from ordinary pairs of an ordinary scene.

The search (`calibration.search`) finds where the thermal picture lies, patches of all pairs (`calibration.matching`) vote on the
details, and what they agree on is the estimate. It is refused, with the reason, where the scene does not determine it: a
wrong registration that looks like an answer is worse than none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from calibration.fitting import LEAST_VOTES, Fit, Model, Votes, fit, fit_best, transformed
from calibration.matching import COARSE, FINE, INDEPENDENT, TOLERANCE_PX, Level, follow, vote
from calibration.search import GrayPair, apart, corners_px, search, size_px
from rtfusion.errors import CalibrationError
from rtfusion.registration import Calibration, Quality
from rtfusion.registration.calibration import Matrix
from rtfusion.registration.structure import equalized
from rtfusion.types import FramePair

SEARCHED_PAIRS = 6
CANDIDATES = 3
AGREED_PX = 2.0
"""At the finest level: votes nearer to the estimate than this agree with it."""
LEAST_AGREED = 20
LEAST_SURPRISE = 3.0
"""Decimal digits: as many votes must agree as would by chance once in a thousand scenes."""
RIVAL = 0.6
"""Share of the votes of the best place that another place may have."""
LARGEST_UNCERTAINTY_PX = 3.0
LARGEST_UNCERTAINTY = 0.005
"""Of the width of the visible picture, at the worst corner; the larger of the two counts."""
LARGEST_DISAGREEMENT = 0.02
"""Of the width of the visible picture, between pairs: beyond, the cameras moved, or the frames are not of one moment."""
APART = Level(side_px=320, radius_px=12)
"""Where a single pair is asked: 24 pixels of 640 to every side."""
_DRAWS = 40
_CELLS = 4
"""Votes are drawn again by cells of a 4 x 4 grid: neighbors err together."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SceneEstimate:
    """What the scene says, and how sure it is."""

    visible_from_thermal_px: Matrix
    model: Model
    pairs: int
    votes: int
    agreed: int
    """Votes within `AGREED_PX` of the estimate."""
    residual_px: float
    """Standard deviation of the votes that agree, along each axis: of single patches, parallax included."""
    uncertainty_px: float
    """Standard deviation of where the estimate puts the worst corner of the thermal picture."""
    center_uncertainty_px: float
    """The same in the middle."""
    disagreement_px: float
    """Standard deviation, between pairs, of where a pair alone would put its picture; 0 for one pair."""

    def sentence(self) -> str:
        """The verdict for a person."""
        return (
            f"{self.model.name.lower()} from {self.agreed} of {self.votes} patches in {self.pairs} "
            f"{'pair' if self.pairs == 1 else 'pairs'}: certain to {self.center_uncertainty_px:.1f} px in the middle and "
            f"{self.uncertainty_px:.1f} px in the corners; the pairs differ by {self.disagreement_px:.1f} px"
        )

    def calibration(
        self, *, visible_size_px: tuple[int, int], thermal_size_px: tuple[int, int], thermal_delay_ns: int = 0
    ) -> Calibration:
        """The file that says so."""
        return Calibration.from_homography(
            visible_from_thermal_px=self.visible_from_thermal_px,
            visible_size_px=visible_size_px,
            thermal_size_px=thermal_size_px,
            thermal_delay_ns=thermal_delay_ns,
            provenance={"how": "calibrate scene", "estimate": self.sentence()},
        ).model_copy(update={"quality": Quality(rms_px=self.residual_px, views=self.pairs)})


def gray_pair(pair: FramePair) -> GrayPair:
    """What the estimate needs of a pair."""
    return GrayPair(visible=equalized(pair.visible.image), thermal=equalized(pair.thermal.image))


def estimate_scene(pairs: Sequence[GrayPair]) -> SceneEstimate:
    """The transform that all pairs of one rig agree on; all of them have the same two sizes.

    Raises:
        CalibrationError: the pictures do not determine it; the message says why and what to do.
    """
    if not pairs:
        raise CalibrationError("no pair of pictures came; check that both sources play and overlap in time")
    transform = _place(pairs)
    _, votes = follow(pairs, transform, FINE)
    level = FINE[-1]
    scale = level.scale(pairs[0])
    if len(votes) < max(LEAST_AGREED, LEAST_VOTES):
        raise _refusal(f"only {len(votes)} patches have structure that both bands show")
    best = fit_best(votes, tolerance_px=TOLERANCE_PX * scale, independent=INDEPENDENT)
    agreed = int((best.residuals_px < AGREED_PX * scale).sum())
    surprise = _surprise(agreed, len(votes), level)
    if agreed < LEAST_AGREED or surprise < LEAST_SURPRISE:
        raise _refusal(
            f"{agreed} of {len(votes)} patches agree, and chance alone would give {len(votes) * level.chance(AGREED_PX):.0f}"
        )
    center_px, corner_px = _uncertainty(pairs, votes, best, tolerance_px=TOLERANCE_PX * scale)
    width = size_px(pairs[0].visible)[0]
    limit_px = max(LARGEST_UNCERTAINTY_PX, LARGEST_UNCERTAINTY * width)
    if corner_px > limit_px:
        raise _refusal(
            f"the patches that agree leave the corners uncertain by {corner_px:.1f} px (at most "
            f"{limit_px:.1f} px are accepted): they cover too little of the picture"
        )
    disagreement_px = _disagreement(pairs, best.visible_from_thermal_px)
    if disagreement_px > LARGEST_DISAGREEMENT * width:
        raise _refusal(
            f"the pairs differ from one another by {disagreement_px:.1f} px: the cameras moved, or the frames are not of "
            "one moment (rtfusion calibrate delay)"
        )
    return SceneEstimate(
        visible_from_thermal_px=best.visible_from_thermal_px,
        model=best.model,
        pairs=len(pairs),
        votes=len(votes),
        agreed=agreed,
        residual_px=best.spread_px,
        uncertainty_px=corner_px,
        center_uncertainty_px=center_px,
        disagreement_px=disagreement_px,
    )


def _place(pairs: Sequence[GrayPair]) -> Matrix:
    """The best place of the search, where it has no rival; the patches judge, at low resolution."""
    chosen = [pairs[i] for i in np.unique(np.linspace(0, len(pairs) - 1, SEARCHED_PAIRS).astype(int))]
    level, corners = COARSE[-1], corners_px(size_px(pairs[0].thermal))
    judged = []
    for candidate in search(chosen, keep=CANDIDATES):
        transform, votes = follow(chosen, candidate.visible_from_thermal_px, COARSE)
        judged.append((_agreement(chosen, transform, votes, level), transform))
    judged.sort(key=lambda item: -item[0])
    support, transform = judged[0]
    rivals = [other for other, place in judged[1:] if apart(transform, place, corners) > 0.05]
    if support < LEAST_AGREED / 4:
        raise _refusal("nothing in one picture looks like something in the other")
    if rivals and max(rivals) > RIVAL * support:
        raise _refusal("two places of the thermal picture fit almost equally well: the scene repeats itself")
    return transform


def _agreement(pairs: Sequence[GrayPair], transform: Matrix, votes: Votes, level: Level) -> float:
    """Votes near a transform beyond those that chance puts there."""
    if len(votes) < LEAST_VOTES:
        return 0.0
    distances_px = np.linalg.norm(transformed(transform, votes.thermal_px) - votes.visible_px, axis=1)
    agreed = int((distances_px < AGREED_PX * level.scale(pairs[0])).sum())
    return max(0.0, agreed - len(votes) * level.chance(AGREED_PX))


def _refusal(reason: str) -> CalibrationError:
    return CalibrationError(
        f"the scene does not determine the registration: {reason}. Show both cameras the same things with many edges, "
        "near and far apart in the picture, in more pairs; or calibrate with a board"
    )


def _surprise(agreed: int, votes: int, level: Level) -> float:
    """Decimal digits of the probability that so many votes agree by chance; those that overlap count once."""
    trials, least = round(votes * INDEPENDENT), round(agreed * INDEPENDENT)
    chance = level.chance(AGREED_PX)
    log_terms = [
        math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1)
        + k * math.log(chance) + (trials - k) * math.log1p(-chance)
        for k in range(least, trials + 1)
    ]  # fmt: skip
    largest = max(log_terms, default=-math.inf)
    if largest == -math.inf:
        return 0.0 if trials == 0 else math.inf
    return -(largest + math.log(sum(math.exp(term - largest) for term in log_terms))) / math.log(10)


def _uncertainty(pairs: Sequence[GrayPair], votes: Votes, best: Fit, *, tolerance_px: float) -> tuple[float, float]:
    """(middle, worst corner) of the thermal picture: how far they move when other votes had been drawn."""
    thermal_px = size_px(pairs[0].thermal)
    points = np.vstack([corners_px(thermal_px), (np.array([thermal_px]) - 1) / 2])
    cells = np.minimum(votes.thermal_px / np.array(thermal_px) * _CELLS, _CELLS - 1).astype(int)
    groups = np.unique(votes.pair * _CELLS**2 + cells[:, 1] * _CELLS + cells[:, 0], return_inverse=True)[1]
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(_DRAWS):
        counts = np.bincount(rng.integers(0, groups.max() + 1, groups.max() + 1), minlength=groups.max() + 1)[groups]
        kept = counts > 0
        if kept.sum() < LEAST_VOTES:
            continue
        drawn = Votes(
            thermal_px=votes.thermal_px[kept],
            visible_px=votes.visible_px[kept],
            weights=votes.weights[kept] * counts[kept],
            pair=votes.pair[kept],
        )
        again = fit(drawn, model=best.model, tolerance_px=tolerance_px, start=best.visible_from_thermal_px)
        draws.append(transformed(again.visible_from_thermal_px, points))
    if len(draws) < _DRAWS / 2:
        return math.inf, math.inf
    spread = np.sqrt(np.square(np.std(draws, axis=0)).sum(axis=1))
    return float(spread[-1]), float(spread[:-1].max())


def _disagreement(pairs: Sequence[GrayPair], transform: Matrix) -> float:
    """Standard deviation, between the pairs that tell, of the shift that a pair alone would add."""
    votes = vote(pairs, transform, APART)
    offsets_px = votes.visible_px - transformed(transform, votes.thermal_px)
    tolerance_px = AGREED_PX * APART.scale(pairs[0])
    shifts = []
    for index in range(len(pairs)):
        own = offsets_px[votes.pair == index]
        if len(own) < LEAST_VOTES:
            continue
        near = np.linalg.norm(own[:, None] - own, axis=2) < tolerance_px
        agreeing = near[int(near.sum(axis=1).argmax())]
        if _surprise(int(agreeing.sum()), len(own), APART) > LEAST_SURPRISE:
            shifts.append(own[agreeing].mean(axis=0))
    return float(np.sqrt(np.square(np.std(shifts, axis=0)).sum())) if len(shifts) > 1 else 0.0
