"""Geometry of two cameras that see one board, and the errors of a calibration against what they saw."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import cv2
import numpy as np

from rtfusion.errors import CalibrationError
from rtfusion.registration import Calibration, CameraModel, Pose
from rtfusion.types import Band
from rtfusion_calibration.board import Points
from rtfusion_calibration.detect import Sighting

Motion = tuple[Points, Points]
"""Rotation vector and translation in meters."""
Optics = tuple[Points, Points]
"""Camera matrix and distortion vector, as OpenCV takes them."""
_STEPS = 20
_NUDGE = 1e-6


def composed(first: Motion, second: Motion) -> Motion:
    """One motion, then the other."""
    turn, shift = cv2.composeRT(*first, *second)[:2]
    return np.asarray(turn, dtype=np.float64).ravel(), np.asarray(shift, dtype=np.float64).ravel()


def inverse(motion: Motion) -> Motion:
    """The way back."""
    turn, shift = -motion[0], motion[1]
    return turn, np.asarray(-(cv2.Rodrigues(turn)[0] @ shift), dtype=np.float64)


def rms(errors: Points) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(errors))))


def errors_px(where_m: Any, where_px: Any, motion: tuple[Any, Any], optics: Optics) -> Points:
    """(N,) distances in pixels between where points are and where a camera model puts them."""
    expected, _ = cv2.projectPoints(where_m, *motion, *optics)
    return cast(Points, np.linalg.norm(expected.reshape(-1, 2) - where_px.reshape(-1, 2), axis=1))


def homography_errors_px(homography: Any, points: Points, expected_px: Points) -> Points:
    """(N,) distances in pixels between where points are and where a homography puts them."""
    return cast(Points, np.linalg.norm(cv2.perspectiveTransform(points[None], homography)[0] - expected_px, axis=1))


def joint_errors(sightings: Mapping[Band, Sighting], optics: Mapping[Band, Optics], pose: Motion) -> dict[Band, Points]:
    """Reprojection errors in pixels by band, (N,) each, with the board where it suits both cameras best.

    ``pose`` is visible from thermal.
    """

    def off(place: Points) -> Points:
        motion = place[:3], place[3:]
        motions = {Band.THERMAL: motion, Band.VISIBLE: composed(motion, pose)}
        parts = []
        for band, moved in motions.items():
            expected, _ = cv2.projectPoints(sightings[band].points_m, *moved, *optics[band])
            parts.append((expected.reshape(-1, 2) - sightings[band].points_px).ravel())
        return np.concatenate(parts)

    seen = sightings[Band.THERMAL]
    _, turn, shift = cv2.solvePnP(seen.points_m, seen.points_px, *optics[Band.THERMAL])
    best = off(_least_squares(off, np.concatenate([turn.ravel(), shift.ravel()]))).reshape(-1, 2)
    distance = np.linalg.norm(best, axis=1)
    return {Band.THERMAL: distance[: len(seen.ids)], Band.VISIBLE: distance[len(seen.ids) :]}


def _least_squares(off: Any, start: Points) -> Points:
    """Gauss-Newton on a few parameters, from close by."""
    value = start
    for _ in range(_STEPS):
        here = off(value)
        slope = np.stack([(off(value + step) - here) / _NUDGE for step in _NUDGE * np.eye(len(value))], axis=1)
        step = np.linalg.lstsq(slope, -here, rcond=None)[0]
        value = value + step
        if np.linalg.norm(step) < 1e-9:
            break
    return value


def view_errors(calibration: Calibration, sightings: Mapping[Band, Sighting]) -> dict[Band, Points]:
    """`joint_errors` of a calibration that holds a pose and both intrinsics."""
    optics = {band: getattr(calibration, band.value).optics for band in Band}
    pose = pose_of(calibration)
    turn = np.asarray(cv2.Rodrigues(np.array(pose.rotation))[0], dtype=np.float64).ravel()
    return joint_errors(sightings, optics, (turn, np.array(pose.translation_m)))


def epipolar_px(calibration: Calibration, sightings: Mapping[Band, Sighting]) -> Points:
    """(2 N,): distances of undistorted points from the epipolar lines of their partners, in pixels, in both pictures."""
    pose = pose_of(calibration)
    x, y, z = pose.translation_m
    essential = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ np.array(pose.rotation)
    cameras = (calibration.visible, calibration.thermal)
    rays = []
    for points_px, camera in zip(matched_px(sightings), cameras, strict=True):
        flat = cv2.undistortPoints(points_px[:, None], *camera.optics)[:, 0]
        rays.append(np.hstack([flat, np.ones((len(flat), 1))]).astype(np.float64))
    lines = rays[1] @ essential.T, rays[0] @ essential
    return np.concatenate(
        [
            np.abs(np.sum(ray * line, axis=1)) / np.hypot(line[:, 0], line[:, 1]) * focal_px(camera)
            for ray, line, camera in zip(rays, lines, cameras, strict=True)
        ]
    )


def matched_px(sightings: Mapping[Band, Sighting]) -> tuple[Points, Points]:
    """Return where the visible and the thermal camera saw the points that both saw, each (N, 2) in its own pixels."""
    visible, thermal = sightings[Band.VISIBLE], sightings[Band.THERMAL]
    _, of_visible, of_thermal = np.intersect1d(visible.ids, thermal.ids, return_indices=True)
    return visible.points_px[of_visible], thermal.points_px[of_thermal]


def pose_of(calibration: Calibration) -> Pose:
    """Return the pose between the cameras.

    Raises:
        CalibrationError: the calibration holds only a homography.
    """
    if calibration.visible_from_thermal is None:
        raise CalibrationError("the calibration holds no pose, only one homography; calibrate with a board")
    return calibration.visible_from_thermal


def focal_px(camera: CameraModel) -> float:
    """The mean of both focal lengths."""
    matrix, _ = camera.optics
    return float(matrix[0, 0] + matrix[1, 1]) / 2


def parameters(calibration: Calibration) -> dict[str, float]:
    """Lenses and pose, where they are known, by name; a name ends with its unit."""
    values: dict[str, float] = {}
    for band in Band:
        camera: CameraModel = getattr(calibration, band.value)
        if camera.intrinsics is not None:
            values[f"{band.value}.focal_px"] = camera.intrinsics[0][0]
            values[f"{band.value}.center_x_px"] = camera.intrinsics[0][2]
            values[f"{band.value}.center_y_px"] = camera.intrinsics[1][2]
    pose = calibration.visible_from_thermal
    if pose is not None:
        turn_deg = np.degrees(cv2.Rodrigues(np.array(pose.rotation))[0].ravel())
        for axis, degrees, meters in zip("xyz", turn_deg, pose.translation_m, strict=True):
            values[f"rotation_{axis}_deg"] = float(degrees)
            values[f"translation_{axis}_mm"] = 1000 * meters
    return values
