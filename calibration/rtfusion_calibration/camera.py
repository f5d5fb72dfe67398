"""The intrinsics of one camera from sightings of a board: the lens model chosen by evidence, bad views and points named.

The candidates go from few to many parameters. Each is judged on views that it was not fitted to, and the simplest one within a
standard error of the best wins: with few views that keeps a model from bending itself around their noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import cv2
import numpy as np

from rtfusion.errors import CalibrationError
from rtfusion_calibration.board import Points
from rtfusion_calibration.detect import Sighting
from rtfusion_calibration.rig import Motion, Optics, errors_px, homography_errors_px, rms

LEAST_VIEWS = 4
FOLDS = 5
IMMATERIAL = 0.01
"""A model is not chosen for less than this share of the error."""
TORN_PX = 3.0
"""A point farther than this, and several times the median, from where its neighbors on a plane put it was misread."""
OUTLIER_FACTOR = 4.0
"""Times the median error above which a view or a point is left out ..."""
OUTLIER_PX = 0.8
"""... where it is also above this."""
LARGEST_POINT_LOSS = 0.3
"""A view that loses more of its points than this goes as a whole."""
FIT_PX = 2.0
"""Error of all views together above which single views are tried for being the cause."""

_PINHOLE = cv2.CALIB_ZERO_TANGENT_DIST | cv2.CALIB_FIX_K1 | cv2.CALIB_FIX_K2 | cv2.CALIB_FIX_K3
CENTERED = cv2.CALIB_FIX_PRINCIPAL_POINT | cv2.CALIB_FIX_ASPECT_RATIO
_ITERATIONS = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 40, 1e-6)


@dataclass(frozen=True, kw_only=True, slots=True)
class Lens:
    """A camera model: which of its parameters are free."""

    name: str
    flags: int
    coefficients: int
    """Length of OpenCV's distortion vector: 0, 4, 5 or 8."""
    free: tuple[int, ...]
    """Those coefficients that are free."""


LENSES = (
    Lens(name="centered, no distortion", flags=CENTERED | _PINHOLE, coefficients=0, free=()),
    Lens(name="centered, k1", flags=(CENTERED | _PINHOLE) & ~cv2.CALIB_FIX_K1, coefficients=4, free=(0,)),
    Lens(name="no distortion", flags=_PINHOLE, coefficients=0, free=()),
    Lens(name="k1", flags=_PINHOLE & ~cv2.CALIB_FIX_K1, coefficients=4, free=(0,)),
    Lens(name="k1 k2", flags=cv2.CALIB_ZERO_TANGENT_DIST | cv2.CALIB_FIX_K3, coefficients=4, free=(0, 1)),
    Lens(name="k1 k2 p1 p2", flags=cv2.CALIB_FIX_K3, coefficients=4, free=(0, 1, 2, 3)),
    Lens(name="k1 k2 p1 p2 k3", flags=0, coefficients=5, free=(0, 1, 2, 3, 4)),
    Lens(name="rational", flags=cv2.CALIB_RATIONAL_MODEL, coefficients=8, free=(0, 1, 2, 3, 4, 5, 6, 7)),
)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Lensed:
    """One fit of one lens model."""

    lens: Lens
    optics: Optics
    board_poses: Mapping[str, Motion]
    """Camera from board, by view."""
    errors_px: Mapping[str, Points]
    """(N,) distance of every point from where the model puts it, by view."""

    @property
    def rms_px(self) -> float:
        """Root mean square over all points."""
        return rms(np.concatenate(list(self.errors_px.values())))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CameraFit:
    """The intrinsics of one camera, and how they came about."""

    fit: Lensed
    sightings: Mapping[str, Sighting]
    """The sightings that were used, without outliers."""
    held_out_px: Mapping[str, float]
    """Error on views that were not fitted, by lens model."""
    outliers: Mapping[str, str] = field(default_factory=dict)
    """Why a view, or a part of it, was left out, by view."""


def fit_camera(sightings: Mapping[str, Sighting], *, size_px: tuple[int, int], name: str = "") -> CameraFit:
    """Intrinsics from sightings by view.

    Raises:
        CalibrationError: fewer than `LEAST_VIEWS` usable views.
    """
    _require(sightings, name=name)
    whole = {view: _without_torn_points(sighting) for view, sighting in sightings.items()}
    kept, outliers = _without_outliers(whole, size_px=size_px)
    _require(kept, name=name)
    lens, held_out_px = choose_lens(kept, size_px=size_px)
    kept, late = _without_bad_points(kept, fit_lens(kept, size_px=size_px, lens=lens))
    _require(kept, name=name)
    losses = {
        view: f"{len(sightings[view].ids) - len(sighting.ids)} of {len(sightings[view].ids)} points left out"
        for view, sighting in kept.items()
        if len(sighting.ids) < len(sightings[view].ids)
    }
    fit = fit_lens(kept, size_px=size_px, lens=lens)
    return CameraFit(fit=fit, sightings=kept, held_out_px=held_out_px, outliers={**outliers, **late, **losses})


def fit_lens(sightings: Mapping[str, Sighting], *, size_px: tuple[int, int], lens: Lens) -> Lensed:
    """Fit one lens model to all sightings."""
    points_m = [sighting.points_m.astype(np.float32) for sighting in sightings.values()]
    points_px = [sighting.points_px.astype(np.float32) for sighting in sightings.values()]
    _, matrix, padded, turns, shifts = cv2.calibrateCamera(
        points_m,
        points_px,
        size_px,
        _first_matrix(points_m, points_px, size_px),
        np.zeros(lens.coefficients or 4),
        flags=lens.flags | cv2.CALIB_USE_INTRINSIC_GUESS | cv2.CALIB_USE_LU,
        criteria=_ITERATIONS,
    )
    optics = cast(Points, matrix), padded.ravel()[: lens.coefficients or 4].astype(np.float64)
    poses, errors = {}, {}
    for view, turn, shift, where_m, where_px in zip(sightings, turns, shifts, points_m, points_px, strict=True):
        poses[view] = turn.ravel().astype(np.float64), shift.ravel().astype(np.float64)
        errors[view] = errors_px(where_m, where_px, (turn, shift), optics)
    return Lensed(lens=lens, optics=optics, board_poses=poses, errors_px=errors)


def choose_lens(sightings: Mapping[str, Sighting], *, size_px: tuple[int, int]) -> tuple[Lens, dict[str, float]]:
    """The simplest model whose error on held-out views is within a standard error of the best; and all these errors."""
    views = list(sightings)
    folds = [views[start :: min(FOLDS, len(views))] for start in range(min(FOLDS, len(views)))]
    by_lens = []
    for lens in LENSES:
        errors: dict[str, float] = {}
        for fold in folds:
            rest = {view: sightings[view] for view in views if view not in fold}
            fit = fit_lens(rest, size_px=size_px, lens=lens)
            errors |= {view: _held_out_px(sightings[view], fit) for view in fold}
        by_lens.append(np.array([errors[view] for view in views]))
    means = [float(np.mean(errors)) for errors in by_lens]
    best = int(np.argmin(means))
    losses = [errors - by_lens[best] for errors in by_lens]  # of the same views: their own difficulty cancels
    limits = [max(float(np.std(loss, ddof=1)) / len(loss) ** 0.5, IMMATERIAL * means[best]) for loss in losses]
    chosen = next(index for index, loss in enumerate(losses) if np.mean(loss) <= limits[index])
    return LENSES[chosen], {lens.name: mean for lens, mean in zip(LENSES, means, strict=True)}


def _require(sightings: Mapping[str, Sighting], *, name: str) -> None:
    if len(sightings) < LEAST_VIEWS:
        raise CalibrationError(
            f"the board was found in {len(sightings)} {'view' if len(sightings) == 1 else 'views'} of "
            f"the {name} camera; its lens needs {LEAST_VIEWS} or more, "
            "better 15: tilted, near and far, and in the corners of the picture"
        )


def _first_matrix(points_m: Sequence[Any], points_px: Sequence[Any], size_px: tuple[int, int]) -> Points:
    """Focal length by OpenCV's closed form, where the views are tilted enough for it to make sense."""
    matrix = cast(Points, cv2.initCameraMatrix2D(points_m, points_px, size_px, 1.0))
    focal_px = float(matrix[0, 0])
    if not np.isfinite(focal_px) or not 0.2 <= focal_px / max(size_px) <= 20:
        focal_px = 1.2 * max(size_px)
    center = (size_px[0] - 1) / 2, (size_px[1] - 1) / 2
    return np.array([[focal_px, 0.0, center[0]], [0.0, focal_px, center[1]], [0.0, 0.0, 1.0]])


def _held_out_px(sighting: Sighting, fit: Lensed) -> float:
    _, turn, shift = cv2.solvePnP(sighting.points_m, sighting.points_px, *fit.optics)
    error = rms(errors_px(sighting.points_m, sighting.points_px, (turn, shift), fit.optics))
    return error if np.isfinite(error) else 1e3


def _without_torn_points(sighting: Sighting) -> Sighting:
    """Leave out points far from where a homography through most of the others puts them; a lens bends less than that."""
    plane = sighting.points_m[:, :2]
    homography, _ = cv2.findHomography(plane, sighting.points_px, cv2.LMEDS)
    if homography is None:
        return sighting
    off_px = homography_errors_px(homography, plane, sighting.points_px)
    return sighting.only(off_px <= max(TORN_PX, 3 * OUTLIER_FACTOR * float(np.median(off_px))))


def _without_outliers(
    sightings: Mapping[str, Sighting], *, size_px: tuple[int, int]
) -> tuple[dict[str, Sighting], dict[str, str]]:
    """Leave out, one after the other, the views without which the others fit far better."""
    lens = LENSES[3]
    kept, outliers = dict(sightings), {}
    fit = fit_lens(kept, size_px=size_px, lens=lens)
    while len(kept) > LEAST_VIEWS and fit.rms_px > FIT_PX:
        without = {
            view: fit_lens({v: s for v, s in kept.items() if v != view}, size_px=size_px, lens=lens) for view in kept
        }
        worst = min(without, key=lambda view: without[view].rms_px)
        if without[worst].rms_px > 0.7 * fit.rms_px:
            break
        error_px = _held_out_px(kept.pop(worst), without[worst])
        outliers[worst] = f"{error_px:.1f} px off where the other views fit to {without[worst].rms_px:.1f} px"
        fit = without[worst]
    kept, late = _without_bad_points(kept, fit)
    return kept, {**outliers, **late}


def _without_bad_points(sightings: Mapping[str, Sighting], fit: Lensed) -> tuple[dict[str, Sighting], dict[str, str]]:
    """Leave out points, or whole views, far above the median error."""
    limit_px = max(OUTLIER_PX, OUTLIER_FACTOR * float(np.median(np.concatenate(list(fit.errors_px.values())))))
    kept, outliers = {}, {}
    for view, sighting in sightings.items():
        good = fit.errors_px[view] <= limit_px
        if np.mean(good) < 1 - LARGEST_POINT_LOSS:
            outliers[view] = f"{rms(fit.errors_px[view]):.1f} px off, {OUTLIER_FACTOR:g} times the median of all points"
            continue
        kept[view] = sighting.only(good)
    return kept, outliers
