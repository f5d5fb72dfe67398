"""What a calibration says of a board that both cameras see, against what they saw."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from rtfusion.errors import CalibrationError
from rtfusion.registration import Calibration, CameraModel, Pose
from rtfusion.types import Band
from rtfusion_calibration.board import Board, Points
from rtfusion_calibration.camera import Lensed
from rtfusion_calibration.detect import Sighting

Motion = tuple[Points, Points]
"""Rotation vector and translation."""
Lens = tuple[Points, Points]
"""Camera matrix and distortion vector."""
_STEPS = 20
_NUDGE = 1e-6


def relative_pose(fits: Mapping[Band, Lensed], name: str) -> Motion:
    """Rotation vector and translation, visible from thermal, that one view alone gives."""
    return composed(inverse(fits[Band.THERMAL].board_poses[name]), fits[Band.VISIBLE].board_poses[name])


def composed(first: Motion, second: Motion) -> Motion:
    """One motion, then the other."""
    turn, shift = cv2.composeRT(*first, *second)[:2]
    return np.asarray(turn, dtype=np.float64).ravel(), np.asarray(shift, dtype=np.float64).ravel()


def inverse(motion: Motion) -> Motion:
    """The way back."""
    turn, shift = -motion[0], motion[1]
    return turn, np.asarray(-(cv2.Rodrigues(turn)[0] @ shift), dtype=np.float64)


def joint_errors(
    sightings: Mapping[Band, Sighting], lenses: Mapping[Band, Lens], pose: Motion, *, board: Board
) -> dict[Band, Points]:
    """By band, (N,): reprojection errors in pixels with the board where it suits both cameras best.

    ``pose`` is visible from thermal.
    """
    bands = (Band.THERMAL, Band.VISIBLE)
    points_m = {band: board.points_m[sightings[band].ids] for band in bands}

    def off(place: Points) -> Points:
        motions = (place[:3], place[3:]), composed((place[:3], place[3:]), pose)
        parts = []
        for band, motion in zip(bands, motions, strict=True):
            expected, _ = cv2.projectPoints(points_m[band], *motion, *lenses[band])
            parts.append((expected.reshape(-1, 2) - sightings[band].points_px).ravel())
        return np.concatenate(parts)

    seen = sightings[Band.THERMAL]
    _, turn, shift = cv2.solvePnP(points_m[Band.THERMAL], seen.points_px, *lenses[Band.THERMAL])
    best = off(_least_squares(off, np.concatenate([turn.ravel(), shift.ravel()]))).reshape(-1, 2)
    distance = np.linalg.norm(best, axis=1)
    return {Band.THERMAL: distance[: len(seen.ids)], Band.VISIBLE: distance[len(seen.ids) :]}


def view_errors(calibration: Calibration, sightings: Mapping[Band, Sighting], *, board: Board) -> dict[Band, Points]:
    """`joint_errors` of a calibration that holds a pose and both intrinsics."""
    lenses = {band: lens_of(getattr(calibration, band.value)) for band in Band}
    pose = pose_of(calibration)
    turn = np.asarray(cv2.Rodrigues(np.array(pose.rotation))[0], dtype=np.float64).ravel()
    motion = turn, np.array(pose.translation_m)
    return joint_errors(sightings, lenses, motion, board=board)


def epipolar_px(calibration: Calibration, sightings: Mapping[Band, Sighting]) -> Points:
    """(2 N,): distances of undistorted points from the epipolar lines of their partners, in pixels, in both pictures."""
    pose = pose_of(calibration)
    x, y, z = pose.translation_m
    essential = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ np.array(pose.rotation)
    cameras = (calibration.visible, calibration.thermal)
    rays = [_rays(points, camera) for points, camera in zip(matched_px(sightings), cameras, strict=True)]
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


def lens_of(camera: CameraModel) -> Lens:
    """Return camera matrix and distortion vector for OpenCV.

    Raises:
        CalibrationError: the calibration says nothing of the lens.
    """
    if camera.intrinsics is None:
        raise CalibrationError(
            f"the calibration has no camera matrix of {camera.name or 'the camera'}; calibrate with a board"
        )
    distortion = camera.distortion if camera.distortion is not None else (0.0, 0.0, 0.0, 0.0)
    return np.array(camera.intrinsics), np.array(distortion)


def focal_px(camera: CameraModel) -> float:
    """The mean of both focal lengths."""
    matrix, _ = lens_of(camera)
    return float(matrix[0, 0] + matrix[1, 1]) / 2


def _rays(points_px: Points, camera: CameraModel) -> Points:
    """(N, 3) directions with z = 1."""
    flat = cv2.undistortPoints(points_px[:, None], *lens_of(camera))[:, 0]
    return np.hstack([flat, np.ones((len(flat), 1))]).astype(np.float64)


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
