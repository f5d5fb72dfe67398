"""Both lenses, the pose between the cameras and every place of the board, adjusted together to all that was seen.

Two lenses fitted one by one err independently, and the registration shows the difference of their errors. Fitted together,
what one camera saw of a board holds the other one: on projected views of known truth the registration is several times as exact.
The board's places are eliminated (Schur complement), so that a step costs little however many views there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np

from rtfusion.registration import Calibration, CameraModel, Pose
from rtfusion.registration.calibration import rows_3x3
from rtfusion.types import Band
from rtfusion_calibration.board import Board, Points
from rtfusion_calibration.camera import Lens
from rtfusion_calibration.detect import Sighting
from rtfusion_calibration.rig import Motion, Optics, composed

CENTER_DEVIATION = 0.025
"""Standard deviation of the optical center from the middle of the picture, in widths of the picture: few views leave it open."""
ASPECT_DEVIATION = 0.003
"""Standard deviation of the logarithm of a pixel's aspect from that of a square."""
STEPS = 40
ENOUGH = 1e-9
"""Relative gain of a step below which the rest is not worth it."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Place:
    """One place of the board, and who saw it there."""

    name: str
    seen: Mapping[Band, Sighting]
    motion: Motion
    """Thermal camera from board."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Bundle:
    """All that is unknown of a rig and the views of it."""

    board: Board
    sizes_px: Mapping[Band, tuple[int, int]]
    noise_px: Mapping[Band, float]
    """Weighs the two cameras against each other."""
    lenses: Mapping[Band, Lens]
    intrinsics: Mapping[Band, Points]
    """By band, (4 + n,): fx, fy, cx, cy and the distortion, in pixels."""
    pose: Motion
    """Visible from thermal."""
    places: Sequence[Place]

    def optics(self, band: Band) -> Optics:
        """Camera matrix (3, 3) and distortion (n,)."""
        f_x, f_y, c_x, c_y, *distortion = self.intrinsics[band]
        return np.array([[f_x, 0.0, c_x], [0.0, f_y, c_y], [0.0, 0.0, 1.0]]), np.array(distortion)

    def free(self, band: Band) -> Points:
        """(4 + n, free parameters): how the free parameters of the lens model move the intrinsics."""
        chosen = [*range(4), *(4 + index for index in self.lenses[band].free)]
        return np.eye(len(self.intrinsics[band]))[:, chosen]

    def calibration(self, distance_m: float) -> Calibration:
        """The calibration file that says so, set for a plane at ``distance_m``."""
        models = {}
        for band, (width_px, height_px) in self.sizes_px.items():
            matrix, distortion = self.optics(band)
            lens = tuple(distortion.tolist()) if self.lenses[band].coefficients else None
            models[band] = CameraModel(
                width_px=width_px, height_px=height_px, intrinsics=rows_3x3(matrix), distortion=lens
            )
        return Calibration.from_pose(
            visible=models[Band.VISIBLE],
            thermal=models[Band.THERMAL],
            pose=Pose.nearest(cv2.Rodrigues(self.pose[0])[0], self.pose[1]),
            distance_m=distance_m,
            provenance={"method": str(self.board), "tool": "rtfusion calibrate board"},
        )


def adjust(start: Bundle) -> Bundle:
    """Levenberg and Marquardt from ``start``."""
    bundle, damping = start, 1e-3
    cost, blocks = _linearize(bundle)
    for _ in range(STEPS):
        candidate = _stepped(bundle, blocks, damping)
        new_cost, new_blocks = _linearize(candidate)
        if not new_cost < cost:
            damping *= 10
            if damping > 1e6:
                break
            continue
        gain = (cost - new_cost) / cost
        bundle, cost, blocks, damping = candidate, new_cost, new_blocks, max(damping / 10, 1e-9)
        if gain < ENOUGH:
            break
    return bundle


class _Block(NamedTuple):
    """The linearized residuals of one place: (M,), their slopes by what all places share and by the place's own motion."""

    residuals: Points
    common: Points
    own: Points


def _linearize(bundle: Bundle) -> tuple[float, list[_Block]]:
    blocks = []
    for place in bundle.places:
        parts = [_camera_block(bundle, place, band) for band in place.seen]
        blocks.append(_Block(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True))))
    blocks.append(_expected(bundle))
    return float(sum(block.residuals @ block.residuals for block in blocks)), blocks


def _camera_block(bundle: Bundle, place: Place, band: Band) -> _Block:
    sighting, scale = place.seen[band], 1.0 / bundle.noise_px[band]
    turn, shift = place.motion
    own, rig = np.eye(6), np.zeros((6, 6))
    if band is Band.VISIBLE:
        dr_dr1, dr_dt1, dr_dr2, dr_dt2, dt_dr1, dt_dt1, dt_dr2, dt_dt2 = cv2.composeRT(turn, shift, *bundle.pose)[2:10]
        turn, shift = composed(place.motion, bundle.pose)
        own = np.block([[dr_dr1, dr_dt1], [dt_dr1, dt_dt1]])
        rig = np.block([[dr_dr2, dr_dt2], [dt_dr2, dt_dt2]])
    expected, slopes = cv2.projectPoints(sighting.points_m, turn, shift, *bundle.optics(band))
    by_motion, by_intrinsics = slopes[:, :6] * scale, slopes[:, 6 : 6 + len(bundle.intrinsics[band])] * scale
    columns = {other: np.zeros((len(slopes), 4 + len(bundle.lenses[other].free))) for other in Band}
    columns[band] = by_intrinsics @ bundle.free(band)
    return _Block(
        residuals=(expected.reshape(-1, 2) - sighting.points_px).ravel() * scale,
        common=np.hstack([*columns.values(), by_motion @ rig]),
        own=by_motion @ own,
    )


def _expected(bundle: Bundle) -> _Block:
    """Residuals of what is known before any view: the pixels are square, the lens sits before the middle."""
    residuals, rows = [], []
    free = {band: 4 + len(bundle.lenses[band].free) for band in Band}
    offset, size = 0, sum(free.values()) + 6
    for band in Band:
        f_x, f_y, *center = bundle.intrinsics[band][:4]
        middle = [(side_px - 1) / 2 for side_px in bundle.sizes_px[band]]
        deviation_px = CENTER_DEVIATION * 2 * max(middle)
        row = np.zeros((3, size))
        row[0, offset : offset + 2] = 1 / f_x / ASPECT_DEVIATION, -1 / f_y / ASPECT_DEVIATION
        row[1, offset + 2] = row[2, offset + 3] = 1 / deviation_px
        rows.append(row)
        residuals += [np.log(f_x / f_y) / ASPECT_DEVIATION]
        residuals += [(value - expected) / deviation_px for value, expected in zip(center, middle, strict=True)]
        offset += free[band]
    return _Block(residuals=np.array(residuals), common=np.concatenate(rows), own=np.zeros((len(residuals), 0)))


def _stepped(bundle: Bundle, blocks: Sequence[_Block], damping: float) -> Bundle:
    """One damped step: the shared parameters first, with the places eliminated, then every place for itself."""
    size = blocks[0].common.shape[1]
    normal, right = np.zeros((size, size)), np.zeros(size)
    parts = []
    for block in blocks:
        here = block.own.T @ block.own
        here += damping * np.diag(np.diag(here))
        coupling = block.common.T @ block.own
        folded = np.linalg.solve(here, np.column_stack([coupling.T, block.own.T @ block.residuals]))
        own_common = block.common.T @ block.common
        normal += own_common + damping * np.diag(np.diag(own_common)) - coupling @ folded[:, :-1]
        right += block.common.T @ block.residuals - coupling @ folded[:, -1]
        parts.append(folded)
    step: Points = -np.linalg.lstsq(normal, right, rcond=None)[0].astype(np.float64)
    places = [
        replace(place, motion=_moved(place.motion, (-folded[:, -1] - folded[:, :-1] @ step).astype(np.float64)))
        for place, folded in zip(bundle.places, parts, strict=False)  # the last block has no place
    ]
    intrinsics, first = {}, 0
    for band in Band:
        free = bundle.free(band)
        intrinsics[band] = bundle.intrinsics[band] + free @ step[first : first + free.shape[1]]
        first += free.shape[1]
    return replace(bundle, intrinsics=intrinsics, pose=_moved(bundle.pose, step[first:]), places=places)


def _moved(motion: Motion, step: Points) -> Motion:
    return motion[0] + step[:3], motion[1] + step[3:]
