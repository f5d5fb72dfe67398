"""A calibration without a target: the transform between two cameras from ordinary pairs of an ordinary scene.

The learned matcher (`rtfusion.registration.rough`) and a search over the structure of both bands (`rtfusion_calibration.search`)
say where the thermal picture may lie, patches of all pairs (`rtfusion_calibration.matching`) judge these places and vote on the
details, and what they agree on is the estimate. It is refused, with the reason,
where the scene does not determine it: a wrong registration that looks like an answer is worse than none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rtfusion.errors import CalibrationError
from rtfusion.progress import part
from rtfusion.registration import Calibration, Quality
from rtfusion.registration.calibration import Matrix
from rtfusion.registration.descriptors import Describer
from rtfusion.registration.fitting import Weights
from rtfusion.registration.rough import rough_places, turned
from rtfusion.registration.structure import Points, gray_pair, size_px
from rtfusion_calibration import fitting
from rtfusion_calibration.aligning import Alignment, align
from rtfusion_calibration.fitting import (
    LEAST_VOTES,
    Average,
    Fit,
    Model,
    Votes,
    by_area,
    fit,
    fit_average,
    regions_at,
    regions_of,
    transformed,
)
from rtfusion_calibration.matching import (
    COARSE,
    FINE,
    INDEPENDENT,
    TOLERANCE_PX,
    Resolution,
    follow,
    learned_votes,
    vote,
)
from rtfusion_calibration.search import GrayPair, apart, corners_px, search

__all__ = ["GrayPair", "SceneEstimate", "estimate_scene", "gray_pair"]

SEARCHED_PAIRS = 6
CANDIDATES = 3
AGREED_PX = 2.0
"""At the finest level: votes nearer to the estimate than this agree with it."""
LEAST_AGREED = 20
LEAST_NEG_LOG10_P = 3.0
"""As many votes must agree as would by chance once in a thousand scenes."""
SURE_SHARE = 0.4
"""Of the matches of the learned matcher, those that have to agree for its place to speak against others. Of
displaced pairs 98 in 100 have as many; of pictures of two roads one in 60 (docs/experiments.md)."""
SAME = 0.1
"""Share of the picture by which the corners of such a place may differ from those of another that is no rival: its own error."""
CONFIRMED = 0.05
"""The same, where any place of the matcher speaks for the estimate."""
RIVAL = 0.6
"""Share of the votes of the best place that another place may have."""
LARGEST_UNCERTAINTY_PX = 12.0
LARGEST_UNCERTAINTY = 0.02
"""Share of the width of the visible picture, at the worst corner; the larger of the two counts."""
LARGEST_SLANT = 0.06
"""Share of the width by which perspective may move a corner: with each corner moved by up to 5 %, 3 in 1000 are moved by more."""
CERTAIN_PX = 2.0
CERTAIN = 0.003
"""Limits in pixels and in widths over the picture: an estimate that is less certain is given, but called rough."""
LARGEST_SHIFT = 0.02
"""Share of the width of the visible picture: pairs farther from the middle one are left out."""
LEAST_PAIRS_FOR_OUTLIERS = 3
"""Fewer name no outlier: of two that differ, neither is the odd one."""
APART = Resolution(side_px=320, radius_px=12)
"""The level at which a single pair is asked: 24 pixels of 640 to every side."""
BAND_PX = 0.8
"""At the finest level: the part of the uncertainty that more votes do not lower, since the bands see the edges of one thing
differently."""
MISFIT = 0.5
"""Share of the variance between the regions' own places: what is at another distance lies elsewhere, and no transform helps.
With both, the error against registrations by hand is told to within 2 standard deviations (docs/experiments.md)."""
LEAST_REGIONS, LEAST_IN_REGION, LEAST_LEARNED_IN_REGION = 5, 3, 12
"""Ninths of the picture that have to agree, and in each the votes of patches, or of a matcher that found the same place."""
PLAIN = 0.2
"""Share of the evidence from which on a similarity is what a rig may be: below it a homography alone is believed, the less the
similarity has, the more. Held to a similarity, a slanted picture is off by twice as much (docs/experiments.md)."""
ALIKE = 0.007, 0.009
"""Share of the width by which similarity and homography differ in the median: up to the first one the evidence is not asked, from
the second one on it is. Of pictures slanted by 1 % one in twelve reaches the first, by 5 % three in four: docs/experiments.md."""
TOLD = 0.99
"""Share of the evidence from which on a homography of the votes is told, and not held to what rigs are."""
LEARNED = 0.2
"""What all votes of the matcher weigh, where those of the patches are 1: they are right to 2.7 pixels, patches to 1.7."""
OPINION = 0.7
"""Part of what patches and matcher differ by, each by itself, that is told as uncertain."""
CORNER = 0.01
"""Share of the width by which a corner usually lies elsewhere (standard deviation): slant and lenses that a scene hides."""
SLANTED_CORNER, SLANTED_PX = 0.022, 1.0
"""The same where a homography is told, and how far such a picture usually lies elsewhere at the finest level: more that may be
wrong, and registrations by hand that are."""
KIND_PX = 1.5
"""A transform is of the least free kind that puts the corners as near as this to it, at the finest level."""
_DRAWS = 40
_GRID = 5
"""Points along each side of the thermal picture where the uncertainty is asked."""
_CORNERS = [0, _GRID - 1, -_GRID, -1]
"""The outermost of these."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SceneEstimate:
    """The transform that a scene tells, and its uncertainty."""

    visible_from_thermal_px: Matrix
    model: Model
    pairs: int
    """Pairs that it rests on."""
    given: int
    """Pairs that were given."""
    votes: int
    agreed: int
    """Votes within `AGREED_PX` of the estimate."""
    residual_px: float
    """Standard deviation of the votes that agree, along each axis: of single patches, parallax included."""
    uncertainty_px: float
    """Standard deviation of how far a thing is from where the estimate puts it, the median over the thermal picture."""
    corner_uncertainty_px: float
    """Standard deviation in the worst corner."""
    misfit_px: float
    """Root mean square of how far from the estimate parts of the picture would be put by themselves: depth, for the most."""
    is_rough: bool
    """The uncertainty is above `CERTAIN_PX`, or `CERTAIN` of the width."""
    disagreement_px: float
    """Standard deviation, between these pairs, of where a pair alone would put its picture; 0 for one pair."""
    outliers: tuple[int, ...]
    """Pairs, by their place in the sequence, that would put it somewhere else; they were left out."""

    def sentence(self) -> str:
        """The verdict for a person."""
        return (
            ("rough, look at it before use: " if self.is_rough else "")
            + f"{self.model.name.lower()} from {self.agreed} of {self.votes} patches in {self.pairs} of {self.given} "
            f"{'pair' if self.given == 1 else 'pairs'}: certain to {self.uncertainty_px:.1f} px, in the corners to "
            f"{self.corner_uncertainty_px:.1f} px; parts of the picture differ by {self.misfit_px:.1f} px, the pairs by "
            f"{self.disagreement_px:.1f} px"
            + (f", {len(self.outliers)} more by too much: left out" if self.outliers else "")
        )

    def calibration(
        self, *, visible_size_px: tuple[int, int], thermal_size_px: tuple[int, int], thermal_delay_ns: int = 0
    ) -> Calibration:
        """The calibration file that says so."""
        deviations_px = {"picture_px": self.uncertainty_px, "corner_px": self.corner_uncertainty_px}
        quality = Quality(rms_px=self.residual_px, views=self.pairs, standard_deviations=deviations_px)
        return Calibration.from_homography(
            visible_from_thermal_px=self.visible_from_thermal_px,
            visible_size_px=visible_size_px,
            thermal_size_px=thermal_size_px,
            thermal_delay_ns=thermal_delay_ns,
            provenance={"how": "calibrate scene", "estimate": self.sentence()},
        ).model_copy(update={"quality": quality})


class _OwnPlaces(NamedTuple):
    """The shift of each pair by itself."""

    pairs: tuple[int, ...]
    """Pairs that are used, by their place in the sequence."""
    shifts_px: Points
    """(pairs, 2), in the mean 0; all 0 where the cameras are one rigid rig."""
    outliers: tuple[int, ...]


class _Found(NamedTuple):
    """What is found before it is judged."""

    places: list[Matrix]
    """Of the matcher."""
    sure: list[Matrix]
    """Those that it is sure of."""
    own: _OwnPlaces
    transform: Matrix
    votes: Votes
    """Of the patches."""
    learned: Votes
    """Of the matcher."""


class _Chosen(NamedTuple):
    """The transform that is told, and what it follows from."""

    best: Average
    """Moved to that transform."""
    plain: float
    """See `_plainness`."""
    alignment: Alignment | None
    """Of all patches together; None where the votes tell a homography, or too few patches are there."""

    @property
    def is_slanted(self) -> bool:
        """The homography counts, in part or alone."""
        return self.plain < 1.0


def estimate_scene(pairs: Sequence[GrayPair]) -> SceneEstimate:
    """The transform that all pairs of one rig agree on; all of them have the same two sizes.

    Raises:
        CalibrationError: the pictures do not determine it; the message says why and what to do.
    """
    if not pairs:
        raise CalibrationError("no pair of pictures came; check that both sources play and overlap in time")
    given, found = len(pairs), _found(pairs)
    own, votes = found.own, found.votes
    pairs = [pairs[index] for index in own.pairs]
    scale, thermal_px = FINE[-1].scale(pairs[0]), size_px(pairs[0].thermal)
    if len(votes) < max(LEAST_AGREED, LEAST_VOTES):
        raise _refusal(f"only {len(votes)} patches have structure that both bands show")
    # how much agrees is asked of the patches, whose chance is known
    both = by_area(votes, thermal_px).and_others(by_area(found.learned, thermal_px), weighing=LEARNED)
    chosen = _chosen(pairs, found, both)
    best, residuals_px = chosen.best, chosen.best.residuals_px[: len(votes)]
    regions = regions_of(votes, thermal_px)
    agree = residuals_px < AGREED_PX * scale
    _refuse_chance(found, agree, regions, best=best.visible_from_thermal_px, thermal_px=thermal_px, scale=scale)
    disagreement_px = _disagreement(votes, best, residuals_px, own, tolerance_px=AGREED_PX * scale)
    misfit_px = _misfit(votes, best, regions, tolerance_px=AGREED_PX * scale)
    common_px = math.hypot(BAND_PX * scale, math.sqrt(MISFIT) * misfit_px, disagreement_px / math.sqrt(len(pairs)))
    width_px = size_px(pairs[0].visible)[0]
    kind = _kind(best.visible_from_thermal_px, thermal_px, width_px)
    picture_px, corner_px = _uncertainty(
        found, chosen, both, kind=kind, common_px=common_px, thermal_px=thermal_px, width_px=width_px, scale=scale
    )
    return SceneEstimate(
        visible_from_thermal_px=best.visible_from_thermal_px,
        model=kind,
        pairs=len(pairs),
        given=given,
        votes=len(votes),
        agreed=int(agree.sum()),
        residual_px=best.best.spread_px,
        uncertainty_px=picture_px,
        corner_uncertainty_px=corner_px,
        misfit_px=misfit_px,
        is_rough=picture_px > max(CERTAIN_PX, CERTAIN * width_px),
        disagreement_px=disagreement_px,
        outliers=own.outliers,
    )


def _chosen(pairs: Sequence[GrayPair], found: _Found, both: Votes) -> _Chosen:
    """Weigh what the votes of patches and matcher say, all patches together, and the homography."""
    (width_px, _), thermal_px = size_px(pairs[0].visible), size_px(pairs[0].thermal)
    best = fit_average(
        both,
        tolerance_px=TOLERANCE_PX * FINE[-1].scale(pairs[0]),
        regions=regions_of(both, thermal_px, side=fitting.OBSERVED),
        start=found.transform,
        picture_px=thermal_px,
    )
    # a slant that the votes show is theirs to tell; else all patches together say as much, and the mean of both errs least
    plain = _plainness(best, thermal_px=thermal_px, width_px=width_px)
    is_told = plain == 0.0 or best.shares[-1] > TOLD
    alignment = None if is_told else _aligned(pairs, best, found.transform, found.own.shifts_px)
    held = best.visible_from_thermal_px
    if alignment is not None:
        held = (held + alignment.visible_from_thermal_px) / 2
    transform: Matrix = plain * held + (1 - plain) * best.fits[-1].visible_from_thermal_px
    return _Chosen(best.moved_to(transform, both), plain, alignment)


def _refuse_chance(
    found: _Found,
    agree: npt.NDArray[np.bool_],
    regions: npt.NDArray[np.int64],
    *,
    best: Matrix,
    thermal_px: tuple[int, int],
    scale: float,
) -> None:
    """Refuse where as few patches agree as chance would make agree, or only those of a part of the picture."""
    level, counts = FINE[-1], _counted_once(found.votes)
    agreed, votes = round(float(counts[agree].sum())), round(float(counts.sum()))
    # where the matcher found the same place, which chance does not, the patches need not exclude chance once more
    is_confirmed = _is_near(found.transform, found.places, thermal_px, within=CONFIRMED)
    if agreed < LEAST_AGREED or (not is_confirmed and _neg_log10_p(agreed, votes, level) < LEAST_NEG_LOG10_P):
        raise _refusal(
            f"{agreed} of {votes} patches agree, and chance alone would give {votes * level.chance(AGREED_PX):.0f}"
        )
    seen = np.bincount(regions[agree], counts[agree], minlength=fitting.REGIONS**2)
    is_seen = np.rint(seen) >= LEAST_IN_REGION
    if _is_near(best, found.sure, thermal_px, within=CONFIRMED):
        off_px = np.linalg.norm(transformed(best, found.learned.thermal_px) - found.learned.visible_px, axis=1)
        theirs = regions_of(found.learned, thermal_px)[off_px < AGREED_PX * scale]
        is_seen |= np.bincount(theirs, minlength=fitting.REGIONS**2) >= LEAST_LEARNED_IN_REGION
    if is_seen.sum() < LEAST_REGIONS:
        raise _refusal(f"the patches that agree lie in {is_seen.sum()} ninths of the picture only")


def _counted_once(votes: Votes) -> Weights:
    """(N,) one over the votes of one visible patch: several pairs of a scene that stands are one observation of it."""
    cells = np.round(votes.visible_px).astype(np.int64)
    places, counts = np.unique(cells, axis=0, return_inverse=True, return_counts=True)[1:]
    return np.asarray(1.0 / counts[places.ravel()])


def _is_near(place: Matrix, others: Sequence[Matrix], thermal_px: tuple[int, int], *, within: float) -> bool:
    corners = corners_px(thermal_px)
    return any(apart(place, other, corners) < within for other in others)


def _uncertainty(
    found: _Found,
    chosen: _Chosen,
    both: Votes,
    *,
    kind: Model,
    common_px: float,
    thermal_px: tuple[int, int],
    width_px: int,
    scale: float,
) -> tuple[float, float]:
    """(over the picture, in the worst corner): the standard deviation of how far a thing is from where it is put.

    ``common_px`` is what no other votes would change. Refuses where the votes leave the corners too uncertain.
    """
    best, alignment = chosen.best, chosen.alignment
    likely = best.fits[-1] if chosen.is_slanted else best.best
    spreads_px = [_spread_of(both, likely, thermal_px=thermal_px, scale=scale)]
    if alignment is not None and not chosen.is_slanted:
        there, of_px = alignment.visible_from_thermal_px, alignment.surfaces.thermal_px
        spreads_px.append(_spread(alignment.drawn, there, of_px, thermal_px))
    picture_px, corner_px = (math.hypot(max(ones_px), common_px) for ones_px in zip(*spreads_px, strict=True))
    limit_px = max(LARGEST_UNCERTAINTY_PX, LARGEST_UNCERTAINTY * width_px)
    if corner_px > limit_px:
        raise _refusal(
            f"the patches that agree leave the corners uncertain by {corner_px:.1f} px (at most {limit_px:.1f} px are "
            "accepted): they cover too little of the picture, or lie at too many distances"
        )
    opinion_px = _opinion(found.learned, best, found.transform, thermal_px=thermal_px, scale=scale)
    slant = 1 - chosen.plain
    corner_share = SLANTED_CORNER if kind is Model.HOMOGRAPHY else CORNER + slant * (SLANTED_CORNER - CORNER)
    return (
        math.hypot(picture_px, OPINION * opinion_px[0], slant * SLANTED_PX * scale),
        math.hypot(corner_px, corner_share * width_px, OPINION * opinion_px[1]),
    )


def _found(pairs: Sequence[GrayPair]) -> _Found:
    """Find the place, then who differs from it, then the votes of the rest."""
    placing = _placing(len(pairs))
    with closing(Describer()) as describe:
        with part(0.0, placing):
            places = rough_places(describe, _some(pairs))
            if told := turned(describe, _some(pairs), places):
                raise CalibrationError(
                    f"the thermal picture is mirrored or turned: what it shows agrees with the visible one after ?{told}. "
                    f"Put ?{told} behind the name of the thermal source, here and in runs; if flip or rotate is there already, "
                    "take that out"
                )
            sure = [place.visible_from_thermal_px for place in places if place.share >= SURE_SHARE]
            learned_places = [place.visible_from_thermal_px for place in places]
            transform = _place(pairs, learned_places, sure)
        with part(placing, 1.0):
            with part(0.0, 0.25):
                own = _own_places(pairs, transform)
            kept = [pairs[index] for index in own.pairs]
            with part(0.25, 1.0):
                transform, votes = follow(kept, transform, FINE, shifts_px=own.shifts_px)
                learned = learned_votes(describe, _some(kept), transform)
    return _Found(places=learned_places, sure=sure, own=own, transform=transform, votes=votes, learned=learned)


def _placing(pairs: int) -> float:
    """About the share of all work that finding the place is: of at most `SEARCHED_PAIRS`, while all others look at every pair."""
    searched = 3.0 * min(pairs, SEARCHED_PAIRS)
    return searched / (searched + pairs)


def _place(pairs: Sequence[GrayPair], learned: Sequence[Matrix], sure: Sequence[Matrix]) -> Matrix:
    """The best place that the matcher and the search name, where it has no rival; the patches judge, at low resolution.

    Where the matcher is sure of a place, no other one is a rival, and it need not be seen at low resolution.
    """
    chosen = _some(pairs)
    level, thermal_px = COARSE[-1], size_px(pairs[0].thermal)
    corners = corners_px(thermal_px)
    judged = []
    with part(0.0, 0.7):
        candidates = [*learned, *search(chosen, keep=CANDIDATES)]
    for number, candidate in enumerate(candidates):
        with part(0.7 + 0.3 * number / len(candidates), 0.7 + 0.3 * (number + 1) / len(candidates)):
            transform, votes = follow(chosen, candidate, COARSE)
        judged.append((_agreement(chosen, transform, votes, level), transform))
    if sure:
        judged = [item for item in judged if _is_near(item[1], sure, thermal_px, within=SAME)] or [(0.0, sure[0])]
    judged.sort(key=lambda item: -item[0])
    support, transform = judged[0]
    if sure:
        return transform
    rivals = [other for other, place in judged[1:] if apart(transform, place, corners) > 0.05]
    if support < LEAST_AGREED / 4:
        raise _refusal("nothing in one picture looks like something in the other")
    if rivals and max(rivals) > RIVAL * support:
        raise _refusal("two places of the thermal picture fit almost equally well: the scene repeats itself")
    return transform


def _some(pairs: Sequence[GrayPair]) -> list[GrayPair]:
    """At most `SEARCHED_PAIRS` of them, from the first to the last."""
    return [pairs[index] for index in _indexes(len(pairs))]


def _indexes(count: int) -> npt.NDArray[np.int64]:
    return np.unique(np.linspace(0, count - 1, SEARCHED_PAIRS).astype(np.int64))


def _agreement(pairs: Sequence[GrayPair], transform: Matrix, votes: Votes, level: Resolution) -> float:
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


def _neg_log10_p(agreed: int, votes: int, level: Resolution) -> float:
    """Negative decimal logarithm of the probability that so many votes agree by chance; overlapping votes count once."""
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


def _aligned(pairs: Sequence[GrayPair], best: Average, followed: Matrix, shifts_px: Points) -> Alignment | None:
    chosen = _indexes(len(pairs))
    similarity, affine = (one.visible_from_thermal_px for one in best.fits[:2])
    return align(
        [pairs[index] for index in chosen],
        similarity=similarity,
        starts=[similarity, affine, followed],
        shifts_px=shifts_px[chosen],
    )


def _kind(found: Matrix, thermal_px: tuple[int, int], width_px: int) -> Model:
    """The least free kind of transform that puts the corners within `KIND_PX` of where this one does.

    Refuses a homography that no rig has: where a part of the picture agrees by chance, it is bent to fit.
    """
    points = _grid(thermal_px)
    there = transformed(found, points)
    exact = Votes(
        thermal_px=points, visible_px=there, weights=np.ones(len(points)), pair=np.zeros(len(points), np.int64)
    )
    for model in (Model.SIMILARITY, Model.AFFINE):
        held = fit(exact, model=model, tolerance_px=1e3, start=found).residuals_px
        if held[_CORNERS].max() < KIND_PX * max(1.0, width_px / FINE[-1].side_px):
            return model
    moved_px, limit_px = held[_CORNERS].max(), LARGEST_SLANT * width_px
    if moved_px > limit_px:
        raise _refusal(
            f"what agrees would move a corner by {moved_px:.0f} px of perspective, more than two cameras side by side differ by "
            f"(at most {limit_px:.0f} px are accepted)"
        )
    return Model.HOMOGRAPHY


def _grid(thermal_px: tuple[int, int]) -> Points:
    """(25, 2) points all over the thermal picture."""
    sides = np.meshgrid(*(np.linspace(0, side - 1, _GRID) for side in thermal_px))
    return np.stack(sides, axis=2).reshape(-1, 2).astype(np.float64)


def _spread_of(votes: Votes, likely: Fit, *, thermal_px: tuple[int, int], scale: float) -> tuple[float, float]:
    """`_spread` of what the votes tell by the kind of transform that is the most likely."""
    start = likely.visible_from_thermal_px

    def draw(counts: Weights) -> Matrix:
        kept = counts > 0
        if kept.sum() < LEAST_VOTES:
            return start
        drawn = replace(votes, weights=votes.weights * counts).only(kept)
        redrawn = fit(drawn, model=likely.model, tolerance_px=TOLERANCE_PX * scale, start=start, picture_px=thermal_px)
        return redrawn.visible_from_thermal_px

    return _spread(draw, start, votes.thermal_px, thermal_px)


def _plainness(best: Average, *, thermal_px: tuple[int, int], width_px: int) -> float:
    """From 1, where the rig may be a similarity, to 0, where the picture is slanted."""
    points = _grid(thermal_px)
    similar, slanted = (transformed(one.visible_from_thermal_px, points) for one in (best.fits[0], best.fits[-1]))
    apart_share = float(np.median(np.linalg.norm(similar - slanted, axis=1))) / width_px
    alike = float(np.interp(apart_share, ALIKE, (1.0, 0.0)))
    return max(alike, min(1.0, float(best.shares[0]) / PLAIN))


def _opinion(
    learned: Votes, best: Average, near: Matrix, *, thermal_px: tuple[int, int], scale: float
) -> tuple[float, float]:
    """(median, worst corner): how far the matcher alone would put the picture, by the kind of transform that is nearest.

    What the votes of one way of looking agree on may be wrong together, and no drawing of them shows it.
    """
    if len(learned) < LEAST_VOTES:
        return 0.0, 0.0
    regions = regions_of(learned, thermal_px, side=fitting.OBSERVED)
    alone = fit_average(learned, tolerance_px=TOLERANCE_PX * scale, regions=regions, start=near)
    points = _grid(thermal_px)
    there = transformed(best.visible_from_thermal_px, points)
    gaps_px = [np.linalg.norm(transformed(one.visible_from_thermal_px, points) - there, axis=1) for one in alone.fits]
    nearest_px = min(gaps_px, key=lambda gap_px: float(np.median(gap_px)))
    return float(np.median(nearest_px)), float(nearest_px[_CORNERS].max())


def _spread(
    draw: Callable[[Weights], Matrix], found: Matrix, of_px: Points, thermal_px: tuple[int, int]
) -> tuple[float, float]:
    """(median, worst corner) over the thermal picture: how far it moves when other regions of it are drawn.

    ``draw`` gives the transform where what is at each of ``of_px`` counts so many times.
    """
    points = _grid(thermal_px)
    groups = np.unique(regions_at(of_px, thermal_px), return_inverse=True)[1]
    count = int(groups.max()) + 1
    if count < 2:
        return math.inf, math.inf
    rng = np.random.default_rng(0)
    there, gaps = transformed(found, points), []
    for _ in range(_DRAWS):
        counts = np.bincount(rng.integers(0, count, count), minlength=count)[groups]
        gaps.append(transformed(draw(counts.astype(np.float64)), points) - there)
    spread_px = np.sqrt(np.square(gaps).sum(axis=2).mean(axis=0) * count / (count - 1))
    return float(np.median(spread_px)), float(spread_px[_CORNERS].max())


def _misfit(votes: Votes, best: Average, regions: npt.NDArray[np.int64], *, tolerance_px: float) -> float:
    """Root mean square, over the regions, of where each alone would put its part of the picture, from where the estimate does."""
    offsets_px = votes.visible_px - transformed(best.visible_from_thermal_px, votes.thermal_px)
    agreeing = [_agreeing(offsets_px[regions == region], tolerance_px) for region in np.unique(regions)]
    places_px = [offsets.mean(axis=0) for offsets in agreeing if len(offsets) >= LEAST_IN_REGION]
    return float(np.sqrt(np.square(places_px).sum(axis=1).mean()))


def _agreeing(offsets_px: Points, tolerance_px: float) -> Points:
    """Give the offsets that are near to the one that has most near it."""
    near = np.linalg.norm(offsets_px[:, None] - offsets_px, axis=2) < tolerance_px
    return offsets_px[near[int(near.sum(axis=1).argmax())]]


def _shifts(pairs: Sequence[GrayPair], transform: Matrix) -> dict[int, Points]:
    """The (x, y) shift that a pair alone would add, of the pairs that tell."""
    votes = vote(pairs, transform, APART)
    offsets_px = votes.visible_px - transformed(transform, votes.thermal_px)
    tolerance_px = AGREED_PX * APART.scale(pairs[0])
    shifts = {}
    for index in range(len(pairs)):
        own = offsets_px[votes.pair == index]
        if len(own) < LEAST_VOTES:
            continue
        agreeing = _agreeing(own, tolerance_px)
        if _neg_log10_p(len(agreeing), len(own), APART) > LEAST_NEG_LOG10_P:
            shifts[index] = agreeing.mean(axis=0)
    return shifts


def _own_places(pairs: Sequence[GrayPair], transform: Matrix) -> _OwnPlaces:
    """Ask every pair alone: cameras that move, and do not expose at one moment, see each pair at another place."""
    shifts = _shifts(pairs, transform)
    if len(shifts) < LEAST_PAIRS_FOR_OUTLIERS:
        return _OwnPlaces(pairs=tuple(range(len(pairs))), shifts_px=np.zeros((len(pairs), 2)), outliers=())
    values = np.array(list(shifts.values()))
    width = size_px(pairs[0].visible)[0]
    far = np.linalg.norm(values - np.median(values, axis=0), axis=1) > LARGEST_SHIFT * width
    if 2 * int(far.sum()) >= len(shifts):
        raise _refusal(
            f"the pairs differ from one another by {_spread_px(values):.1f} px: the cameras moved, or the frames are not of "
            "one moment (rtfusion calibrate delay)"
        )
    indexes, kept = np.array(list(shifts)), values[~far]
    is_rigid = _spread_px(kept) < AGREED_PX * FINE[-1].scale(pairs[0])
    return _OwnPlaces(
        pairs=tuple(indexes[~far].tolist()),
        shifts_px=np.zeros_like(kept) if is_rigid else kept - kept.mean(axis=0),
        outliers=tuple(indexes[far].tolist()),
    )


def _disagreement(votes: Votes, best: Average, residuals_px: Weights, own: _OwnPlaces, *, tolerance_px: float) -> float:
    """Standard deviation between the pairs of where each alone would put its picture."""
    offsets_px = votes.visible_px - transformed(best.visible_from_thermal_px, votes.thermal_px)
    shifts = [
        own.shifts_px[index] + np.median(agreeing, axis=0)
        for index in range(len(own.pairs))
        if len(agreeing := offsets_px[(votes.pair == index) & (residuals_px < tolerance_px)]) >= LEAST_VOTES
    ]
    return _spread_px(np.array(shifts)) if len(shifts) > 1 else 0.0


def _spread_px(points: Points) -> float:
    return float(np.sqrt(np.square(np.std(points, axis=0)).sum()))
