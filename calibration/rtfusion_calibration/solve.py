"""From views of a board to a calibration: both lenses, the pose between the cameras, and how well all of it is known.

Where the views do not determine lenses and pose (too few of them, no tilt), one homography is fitted to what both cameras saw
of the board: right at the board's distance, and said so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import cv2
import numpy as np

from rtfusion.errors import CalibrationError
from rtfusion.registration import Calibration, Quality
from rtfusion.registration.calibration import Matrix
from rtfusion.registration.maps import visible_from_thermal
from rtfusion.types import Band
from rtfusion_calibration.board import Board, Points
from rtfusion_calibration.bundle import Bundle, Place, adjust
from rtfusion_calibration.camera import LEAST_VIEWS, OUTLIER_FACTOR, OUTLIER_PX, CameraFit, fit_camera
from rtfusion_calibration.detect import Sighting, View
from rtfusion_calibration.rig import (
    Motion,
    composed,
    epipolar_px,
    focal_px,
    homography_errors_px,
    inverse,
    joint_errors,
    matched_px,
    parameters,
    rms,
    view_errors,
)

DISTANCE_M = 8.0
LARGEST_FOCAL_SPREAD = 0.05
"""Relative standard deviation of a focal length above which the pose means nothing."""
JACKKNIFE_GROUPS = 10
JUDGED_M = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 1000.0)
"""Distances at which the uncertainty of the registration is told."""
CANDIDATE_POSES = 8
LARGEST_DISAGREEMENT_PX = 10.0


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Solution:
    """A calibration, and everything that tells whether to trust it."""

    calibration: Calibration
    views: Sequence[View]
    """All that were given, the points of the two bands in one order."""
    used: Sequence[str]
    """Names of the views that the registration rests on."""
    cameras: Mapping[Band, CameraFit] = field(default_factory=dict)
    """Empty where only a homography was fitted."""
    outliers: Mapping[str, str] = field(default_factory=dict)
    """Why a view was left out, by view or by band and view."""
    notes: Sequence[str] = ()

    @property
    def used_views(self) -> list[View]:
        """The views that the registration rests on, without the points that were left out."""
        views = [view for view in self.views if view.name in set(self.used)]
        if not self.cameras:
            return views
        visible, thermal = (self.cameras[band].sightings for band in Band)
        return [View(name=view.name, visible=visible[view.name], thermal=thermal[view.name]) for view in views]


def solve(
    views: Sequence[View],
    *,
    board: Board,
    visible_size_px: tuple[int, int],
    thermal_size_px: tuple[int, int],
    distance_m: float = DISTANCE_M,
) -> Solution:
    """Both lenses and the pose where the views determine them, else a homography.

    ``distance_m`` is the plane for which the homography of the file is made from the pose.

    Raises:
        CalibrationError: no view shows the board to both cameras.
    """
    views = [same_order(view) for view in views]
    if not any(view.both for view in views):
        visible, thermal = (sum(band in view.sightings for view in views) for band in Band)
        raise CalibrationError(
            f"no view shows the board to both cameras (visible {visible}, thermal {thermal} of {len(views)}); is it {board}, "
            "warm enough, and seen whole by both?"
        )
    sizes_px = {Band.VISIBLE: visible_size_px, Band.THERMAL: thermal_size_px}
    try:
        return _solve_pose(views, board=board, sizes_px=sizes_px, distance_m=distance_m)
    except CalibrationError as error:
        return _solve_homography(views, board=board, sizes_px=sizes_px, reason=str(error))


# -- lenses and pose ----------------------------------------------------------------------------------------------------


def _solve_pose(
    views: Sequence[View], *, board: Board, sizes_px: Mapping[Band, tuple[int, int]], distance_m: float
) -> Solution:
    cameras = {}
    for band, size_px in sizes_px.items():
        sightings = {view.name: view.sightings[band] for view in views if band in view.sightings}
        cameras[band] = fit_camera(sightings, size_px=size_px, name=band.value)
    shared, pose, outliers = _consistent(cameras)
    bundle = adjust(_bundle(cameras, shared, pose, board=board, sizes_px=sizes_px))
    calibration = bundle.calibration(distance_m)
    spread, uncertainty_px = _jackknife(bundle, shared)
    _check_focal(calibration, spread)
    pairs = [_pair(cameras, name) for name in shared]
    quality = Quality(
        rms_px=rms(np.concatenate([errors for pair in pairs for errors in view_errors(calibration, pair).values()])),
        views=len(shared),
        epipolar_px=rms(np.concatenate([epipolar_px(calibration, pair) for pair in pairs])),
        uncertainty_px=uncertainty_px,
        standard_deviations=spread,
    )
    named = {f"{view}, {band.value}": why for band, camera in cameras.items() for view, why in camera.outliers.items()}
    return Solution(
        calibration=calibration.model_copy(update={"quality": quality}),
        views=views,
        used=shared,
        cameras=cameras,
        outliers={**named, **outliers},
    )


def _check_focal(calibration: Calibration, spread: Mapping[str, float]) -> None:
    for band in Band:
        relative = spread[f"{band.value}.focal_px"] / focal_px(getattr(calibration, band.value))
        if relative > LARGEST_FOCAL_SPREAD:
            raise CalibrationError(
                f"the focal length of the {band.value} camera is known to {100 * relative:.0f} % only: "
                "the views show the board too much alike; tilt it by 30 degrees, also near and far"
            )


def _consistent(cameras: Mapping[Band, CameraFit]) -> tuple[list[str], Motion, dict[str, str]]:
    """Give the views on which the cameras agree, the pose they agree on, and the outliers with the reason.

    Every view alone gives a pose between the cameras. The one that suits most views is taken, and judges all of them.
    """
    shared = [name for name in cameras[Band.VISIBLE].sightings if name in cameras[Band.THERMAL].sightings]
    if len(shared) < LEAST_VIEWS:
        raise CalibrationError(
            f"both cameras saw the board in {len(shared)} usable views; the pose between them needs {LEAST_VIEWS} or more"
        )
    visible, thermal = (cameras[band].fit for band in Band)
    optics = {Band.VISIBLE: visible.optics, Band.THERMAL: thermal.optics}
    poses, off_px = {}, {}
    for name in shared[:: max(1, len(shared) // CANDIDATE_POSES)]:
        poses[name] = pose = composed(inverse(thermal.board_poses[name]), visible.board_poses[name])
        errors = {other: joint_errors(_pair(cameras, other), optics, pose) for other in shared}
        off_px[name] = {other: rms(np.concatenate(list(both.values()))) for other, both in errors.items()}
    center = min(off_px, key=lambda name: float(np.median(list(off_px[name].values()))))
    typical_px = float(np.median(list(off_px[center].values())))
    limit_px = max(2 * OUTLIER_PX, OUTLIER_FACTOR * typical_px)
    outliers = {
        name: f"the cameras disagree by {error:.1f} px where {typical_px:.1f} px are usual; did the board move?"
        for name, error in off_px[center].items()
        if error > limit_px
    }
    agreeing = [name for name in shared if name not in outliers]
    if len(agreeing) < LEAST_VIEWS or typical_px > LARGEST_DISAGREEMENT_PX:
        raise CalibrationError(
            f"{len(agreeing)} of {len(shared)} views agree on where the cameras are, to {typical_px:.1f} px; hold the board "
            "still, and check that both cameras are the same way up (?rotate=180 turns one)"
        )
    return agreeing, poses[center], outliers


def _pair(cameras: Mapping[Band, CameraFit], name: str) -> dict[Band, Sighting]:
    return {band: camera.sightings[name] for band, camera in cameras.items()}


def _bundle(
    cameras: Mapping[Band, CameraFit],
    shared: Sequence[str],
    pose: Motion,
    *,
    board: Board,
    sizes_px: Mapping[Band, tuple[int, int]],
) -> Bundle:
    """Begin the adjustment. A view that only one camera saw, or on which they disagree, counts for each lens alone."""
    thermal_from_visible = inverse(pose)
    places, intrinsics = [], {}
    for band, camera in cameras.items():
        matrix, distortion = camera.fit.optics
        intrinsics[band] = np.concatenate([matrix[[0, 1, 0, 1], [0, 1, 2, 2]], distortion])
        for name, board_pose in camera.fit.board_poses.items():
            if band is Band.VISIBLE and name in shared:
                continue
            motion = board_pose if band is Band.THERMAL else composed(board_pose, thermal_from_visible)
            seen = _pair(cameras, name) if name in shared else {band: camera.sightings[name]}
            places.append(Place(name=name, seen=seen, motion=motion))
    return Bundle(
        board=board,
        sizes_px=sizes_px,
        noise_px={band: max(camera.fit.rms_px, 1e-6) for band, camera in cameras.items()},
        lenses={band: camera.fit.lens for band, camera in cameras.items()},
        intrinsics=intrinsics,
        pose=pose,
        places=places,
    )


def _jackknife(bundle: Bundle, shared: Sequence[str]) -> tuple[dict[str, float], tuple[tuple[float, float], ...]]:
    """Standard deviations by leaving out a part of the views at a time and calibrating anew.

    Unlike those of the normal equations they see what the views have in common: a bent board, an error of the detector.
    Second, by distance, that of the place of a thermal pixel in the visible picture, over the whole thermal picture.
    """
    count = min(JACKKNIFE_GROUPS, len(shared))
    names = [*shared, *sorted({place.name for place in bundle.places} - set(shared))]
    width_px, height_px = bundle.sizes_px[Band.THERMAL]
    x, y = np.meshgrid(np.linspace(0, width_px - 1, 7), np.linspace(0, height_px - 1, 5))
    grid = np.stack([x.ravel(), y.ravel()], axis=1)
    refitted = []
    for group in range(count):
        left_out = set(names[group::count])
        rest = replace(bundle, places=[place for place in bundle.places if place.name not in left_out])
        refitted.append(adjust(rest).calibration(DISTANCE_M))
    factor = np.sqrt(count - 1)
    found = [parameters(one) for one in refitted]
    spread = {name: float(factor * np.std([one[name] for one in found])) for name in found[0]}
    registration_px = []
    for distance_m in JUDGED_M:
        placed = [visible_from_thermal(one.at_distance(distance_m), thermal_px=grid) for one in refitted]
        registration_px.append((distance_m, float(factor * np.sqrt(np.mean(np.sum(np.var(placed, axis=0), axis=1))))))
    return spread, tuple(registration_px)


# -- homography alone ---------------------------------------------------------------------------------------------------


def _solve_homography(
    views: Sequence[View], *, board: Board, sizes_px: Mapping[Band, tuple[int, int]], reason: str
) -> Solution:
    pairs = {view.name: matched_px(view.sightings) for view in views if view.both}
    _, off_px = _homography(pairs)
    limit_px = max(4 * OUTLIER_PX, OUTLIER_FACTOR * float(np.median(list(off_px.values()))))
    outliers = {
        name: f"{error:.1f} px off the homography of the other views"
        for name, error in off_px.items()
        if error > limit_px
    }
    used = [name for name in pairs if name not in outliers]
    homography, off_px = _homography({name: pairs[name] for name in used})
    note = f"no lens and no pose: {reason}. The registration holds at the distance of the board alone"
    calibration = Calibration.from_homography(
        visible_from_thermal_px=homography,
        visible_size_px=sizes_px[Band.VISIBLE],
        thermal_size_px=sizes_px[Band.THERMAL],
        provenance={"method": f"{board}, homography", "tool": "rtfusion calibrate board", "note": note},
    )
    quality = Quality(rms_px=rms(np.array(list(off_px.values()))), views=len(used))
    calibration = calibration.model_copy(update={"quality": quality})
    return Solution(calibration=calibration, views=views, used=used, outliers=outliers, notes=[note])


def _homography(pairs: Mapping[str, tuple[Points, Points]]) -> tuple[Matrix, dict[str, float]]:
    """The homography of all views, the median of the points deciding; and how far off it is, rms, by view."""
    visible, thermal = (np.concatenate([pair[side] for pair in pairs.values()]) for side in (0, 1))
    homography, _ = cv2.findHomography(thermal, visible, cv2.LMEDS if len(pairs) > 1 else 0)
    if homography is None:
        raise CalibrationError("no homography fits the board as both cameras saw it; take more views")
    off_px = {name: rms(homography_errors_px(homography, where, there)) for name, (there, where) in pairs.items()}
    return cast(Matrix, homography.astype(np.float64)), off_px


def same_order(view: View) -> View:
    """The thermal points numbered as the visible ones: of the orders that look alike, the one that turns the least.

    A chessboard read upside down looks the same, and between the bands its colors do not tell. The cameras of a rig are the
    same way up.
    """
    if view.visible is None or view.thermal is None:
        return view
    candidates = [view.thermal.reordered(order) for order in view.thermal.board.symmetries]
    turned = [abs(_turn_rad({Band.VISIBLE: view.visible, Band.THERMAL: candidate})) for candidate in candidates]
    return replace(view, thermal=candidates[int(np.argmin(turned))])


def _turn_rad(sightings: Mapping[Band, Sighting]) -> float:
    """The angle of the best similarity from the thermal points to the visible ones."""
    visible, thermal = (points - points.mean(axis=0) for points in matched_px(sightings))
    product = np.vdot(thermal[:, 0] + 1j * thermal[:, 1], visible[:, 0] + 1j * visible[:, 1])
    return float(np.angle(product))
