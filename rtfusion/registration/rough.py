"""Where a thermal picture lies in a visible one, to a few pixels, by the learned matcher, when nothing is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import numpy.typing as npt

from rtfusion.capture.orientation import CLOCKWISE, FLIPS
from rtfusion.registration.calibration import Matrix, scale_px
from rtfusion.registration.descriptors import Describer
from rtfusion.registration.fitting import LEAST_VOTES, Model, Votes, fit, transformed
from rtfusion.registration.matches import match_anywhere
from rtfusion.registration.structure import GrayPair, resized, size_px
from rtfusion.types import Image8

SIDE_PX = 320
"""Longer side of the larger picture here."""
RATIOS = (1.0, 0.7, 1.4, 0.5, 2.0)
"""How much of the visible picture's side the thermal one takes, tried in this order until one is found."""
AGREED_PX = 8.0
"""At `SIDE_PX`: matches nearer to a place than this agree with it. Two cells: nearer by chance is one in four hundred."""
FINER_PX = 4.0
LEAST_AGREED, LEAST_SHARE = 40, 0.12
"""Matches that have to agree, and their share, for a place to be found."""
REGIONS = 3
LEAST_REGIONS = 4
"""Of a grid of 3 x 3 cells of the thermal picture, those in which at least `LEAST_IN_REGION` matches agree."""
LEAST_IN_REGION = 4
DISAGREE = 0.025
"""Share of the width by which a picture has to lie elsewhere to be said to: four times as far as a place is off."""
SURE_SHARE, VERY_SURE_SHARE = 0.25, 0.65
"""Of the matches, those that have to agree for that; up to the second share the kind of transform that says least decides."""
TURNS = {
    **{f"flip={sides}": FLIPS[sides] for sides in ("h", "v")},
    **{f"rotate={degrees}": turn for degrees, turn in CLOCKWISE.items()},
}
"""What a source may be told of a camera that is mounted otherwise, and what it does."""
UPRIGHT_SHARE, TURNED_SHARE, CLEARER = 0.5, 0.4, 1.5
"""Of the matches: more than the first share agree in no picture that is mounted otherwise. Where fewer do, one is said to be if
the second share and so many times as many agree after it is turned."""
LARGEST_SLANT = 0.35
"""Of the share by which the scale may differ between two corners: beyond it no rig sees a scene."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RoughPlace:
    """A place, and what speaks for it."""

    visible_from_thermal_px: Matrix
    agreed: int
    matches: int

    @property
    def share(self) -> float:
        """Of the matches, those that agree."""
        return self.agreed / max(1, self.matches)


def rough_places(describe: Describer, pairs: Sequence[GrayPair]) -> list[RoughPlace]:
    """The places that the matches of all pairs agree on, the one with most agreement first; empty where none is found.

    There is one for each kind of transform. All pairs are of one rig and have the same two sizes.

    Raises:
        EngineUnavailable, ModelError, EngineError: the matcher cannot be run.
    """
    for ratio in RATIOS:
        votes = _votes(describe, pairs, ratio)
        if len(votes) < LEAST_VOTES:
            continue
        scale = max(pairs[0].visible.shape) / (SIDE_PX / max(ratio, 1.0))
        found = [place for place in _places(votes, scale) if _is_found(place[0], votes, place[1], pairs[0])]
        if found:
            return sorted((place for place, _ in found), key=lambda place: -place.agreed)
    return []


def disagreement_px(places: Sequence[RoughPlace], pair: GrayPair) -> float | None:
    """By how many visible pixels pairs do not agree that are taken to have the same view; None where they may agree.

    ``places`` as `rough_places` gives them, ``pair`` one of those pairs.
    """
    if not places or places[0].share < SURE_SHARE:
        return None
    visible_px, thermal_px = (size_px(picture) for picture in (pair.visible, pair.thermal))
    off_px = [apart_px(place.visible_from_thermal_px, visible_px=visible_px, thermal_px=thermal_px) for place in places]
    told_px = off_px[0] if places[0].share > VERY_SURE_SHARE else min(off_px)
    return told_px if told_px > DISAGREE * visible_px[0] else None


def turned(describe: Describer, pairs: Sequence[GrayPair], places: Sequence[RoughPlace]) -> str | None:
    """What the thermal source has to be told (a key of `TURNS`) where its pictures are mirrored or turned; None else.

    ``places`` as `rough_places` gives them for these pairs.

    Raises:
        EngineUnavailable, ModelError, EngineError: the matcher cannot be run.
    """
    if places and places[0].share > UPRIGHT_SHARE:
        return None
    some = [pairs[index] for index in {0, len(pairs) // 2}]  # the first and the middle one say enough
    upright = _best_of(describe, some)
    found = {
        told: _best_of(describe, [replace(pair, thermal=cast(Image8, turn(pair.thermal))) for pair in some])
        for told, turn in TURNS.items()
    }
    told = max(found, key=lambda one: found[one].agreed)
    is_clear = found[told].share > TURNED_SHARE and found[told].agreed > CLEARER * max(upright.agreed, LEAST_AGREED)
    return told if is_clear else None


def _best_of(describe: Describer, pairs: Sequence[GrayPair]) -> RoughPlace:
    """The place that most matches agree on where both cameras see about as much, as a similarity."""
    votes = _votes(describe, pairs, 1.0)
    if len(votes) < LEAST_VOTES:
        return RoughPlace(visible_from_thermal_px=np.eye(3), agreed=0, matches=0)
    return _places(votes, max(pairs[0].visible.shape) / SIDE_PX)[0][0]


def apart_px(visible_from_thermal_px: Matrix, *, visible_px: tuple[int, int], thermal_px: tuple[int, int]) -> float:
    """How far a transform puts the thermal picture from the same view: the median over it, in visible pixels."""
    columns, rows = np.meshgrid(*(np.linspace(0, side - 1, 9) for side in thermal_px))
    points = np.stack([columns, rows], axis=2).reshape(-1, 2)
    same = transformed(scale_px(from_px=thermal_px, to_px=visible_px), points)
    return float(np.median(np.linalg.norm(transformed(visible_from_thermal_px, points) - same, axis=1)))


def _votes(describe: Describer, pairs: Sequence[GrayPair], ratio: float) -> Votes:
    """The matches of all pairs, with the thermal picture seen ``ratio`` times as large as the visible one.

    A smaller one is enlarged: the matcher knows coarse pictures, but not small ones.
    """
    tables = []
    for index, pair in enumerate(pairs):
        visible = resized(pair.visible, round(SIDE_PX / max(ratio, 1.0)))
        thermal = resized(pair.thermal, round(SIDE_PX * min(ratio, 1.0)))
        found = match_anywhere(describe(visible=visible, thermal=thermal))
        whole = [
            transformed(scale_px(from_px=size_px(small), to_px=size_px(image)), points)
            for small, image, points in (
                (visible, pair.visible, found.visible_px),
                (thermal, pair.thermal, found.thermal_px),
            )
        ]
        tables.append(np.column_stack([*whole, found.confidence + 1e-3, np.full(len(found), index)]))
    table = np.concatenate(tables)
    return Votes(
        visible_px=table[:, :2], thermal_px=table[:, 2:4], weights=table[:, 4], pair=table[:, 5].astype(np.int64)
    )


def _places(votes: Votes, scale: float) -> list[tuple[RoughPlace, npt.NDArray[np.bool_]]]:
    """What most matches agree on, as each kind of transform, and which of them do."""
    results = []
    start: Matrix | None = None
    for model in (Model.SIMILARITY, Model.AFFINE, Model.HOMOGRAPHY):
        rough = fit(votes, model=model, tolerance_px=AGREED_PX * scale, start=start)
        start = rough.visible_from_thermal_px
        finer = fit(votes, model=model, tolerance_px=FINER_PX * scale, start=start)
        agree = finer.residuals_px < AGREED_PX * scale
        place = RoughPlace(
            visible_from_thermal_px=finer.visible_from_thermal_px, agreed=int(agree.sum()), matches=len(votes)
        )
        results.append((place, agree))
    return results


def _is_found(place: RoughPlace, votes: Votes, agree: npt.NDArray[np.bool_], pair: GrayPair) -> bool:
    if place.agreed < LEAST_AGREED or place.share < LEAST_SHARE:
        return False
    width, height = size_px(pair.thermal)
    cells = np.clip(votes.thermal_px[agree] / (width, height) * REGIONS, 0, REGIONS - 1).astype(int)
    seen = np.bincount(cells[:, 1] * REGIONS + cells[:, 0], minlength=REGIONS**2)
    if (seen >= LEAST_IN_REGION).sum() < LEAST_REGIONS:
        return False
    corners = np.array([(0, 0, 1), (width - 1, 0, 1), (width - 1, height - 1, 1), (0, height - 1, 1)])
    depths = corners @ place.visible_from_thermal_px[2]
    is_upright = bool(np.linalg.det(place.visible_from_thermal_px[:2, :2]) > 0)
    return is_upright and bool(depths.min() > (1 - LARGEST_SLANT) * depths.max() > 0)
