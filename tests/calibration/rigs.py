"""A rig whose truth is known, and views of a board made by projection."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from rtfusion_calibration.board import Board
from rtfusion_calibration.detect import Sighting, View

from rtfusion.registration import Calibration, CameraModel, Pose
from rtfusion.registration.calibration import Matrix
from rtfusion.types import Band

BOARD = Board.parse("chessboard:9x6", spacing_mm=40)
IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


@dataclass(frozen=True)
class Placement:
    """Where the board is, in the thermal camera's coordinates."""

    turn_deg: tuple[float, float, float]
    center_m: tuple[float, float, float]


def camera(width: int, height: int, focal_px: float, *, off_px=(0.0, 0.0), distortion=None) -> CameraModel:
    center = (width - 1) / 2 + off_px[0], (height - 1) / 2 + off_px[1]
    return CameraModel(
        width_px=width,
        height_px=height,
        intrinsics=((focal_px, 0.0, center[0]), (0.0, focal_px, center[1]), (0.0, 0.0, 1.0)),
        distortion=distortion,
    )


def make_rig(
    *,
    turn_deg=(0.8, -1.5, 1.2),
    translation_m=(0.06, 0.01, -0.005),
    visible_distortion=(-0.12, 0.05, 0.0, 0.0),
    thermal_distortion=(-0.25, 0.08, 0.0, 0.0),
    distance_m: float = 8.0,
) -> Calibration:
    rotation = cv2.Rodrigues(np.radians(np.array(turn_deg)))[0]
    return Calibration(
        visible=camera(1280, 960, 1150.0, off_px=(6.0, -4.0), distortion=visible_distortion),
        thermal=camera(640, 512, 620.0, off_px=(-5.0, 3.0), distortion=thermal_distortion),
        visible_from_thermal_px=IDENTITY,
        visible_from_thermal=Pose(
            rotation=tuple(tuple(float(v) for v in row) for row in rotation), translation_m=translation_m
        ),
    ).at_distance(distance_m)


def project(rig: Calibration, placement: Placement, board: Board = BOARD) -> dict[Band, Matrix]:
    """Where both cameras see the board's points."""
    pose = rig.visible_from_thermal
    turn = cv2.Rodrigues(np.radians(np.array(placement.turn_deg)))[0]
    middle = board.points_m.mean(axis=0)
    points = (board.points_m - middle) @ turn.T + np.array(placement.center_m)
    seen = {Band.THERMAL: points, Band.VISIBLE: points @ np.array(pose.rotation).T + np.array(pose.translation_m)}
    pixels = {}
    for band, where in seen.items():
        model = getattr(rig, band.value)
        lens = np.array(model.distortion or (0.0, 0.0, 0.0, 0.0))
        pixels[band] = cv2.projectPoints(where, np.zeros(3), np.zeros(3), np.array(model.intrinsics), lens)[0][:, 0]
    return pixels


def placements(count: int, *, seed: int = 0, tilt_deg: float = 35.0) -> list[Placement]:
    """The board near and far, tilted, all over the thermal picture."""
    rng = np.random.default_rng(seed)
    chosen = []
    for index in range(count):
        distance = rng.uniform(0.7, 1.4)
        across = (index % 3 - 1) * 0.27 + rng.uniform(-0.05, 0.05)
        down = (index // 3 % 3 - 1) * 0.2 + rng.uniform(-0.04, 0.04)
        tilt = rng.uniform(-tilt_deg, tilt_deg, 2)
        chosen.append(
            Placement((tilt[0], tilt[1], rng.uniform(-15, 15)), (across * distance, down * distance, distance))
        )
    return chosen


def sighting(points_px: Matrix, size_px: tuple[int, int]) -> Sighting | None:
    """What a detector says, None when a point is outside of the picture."""
    inside = (points_px >= 0).all() and (points_px <= np.array(size_px) - 1).all()
    if not inside:
        return None
    ids = np.arange(len(points_px))
    return Sighting(board=BOARD, ids=ids, points_px=points_px, preparation=(0, False), sharpness=0.5, contrast=20.0)


def make_views(rig: Calibration, where: list[Placement], *, noise_px: float = 0.1, seed: int = 1) -> list[View]:
    rng = np.random.default_rng(seed)
    views = []
    for index, placement in enumerate(where):
        seen = {
            band: sighting(points + rng.normal(0, noise_px, points.shape), getattr(rig, band.value).size_px)
            for band, points in project(rig, placement).items()
        }
        views.append(View(name=f"{index:03d}", visible=seen[Band.VISIBLE], thermal=seen[Band.THERMAL]))
    return views


SQUARE_PX = 48


def render(
    rig: Calibration,
    placement: Placement,
    band: Band,
    board: Board = BOARD,
    *,
    thermal_like: bool = False,
    seed: int = 0,
) -> np.ndarray:
    """The board on a gray ground, as a camera of the rig (lenses are left out) sees it: (H, W) uint8.

    ``thermal_like``: 16 bits, light and dark exchanged and of little contrast, warm in the middle, noisy, blurred.
    """
    margin_px = 2 * SQUARE_PX
    picture = board.draw(square_px=SQUARE_PX, margin_px=margin_px)
    straight = rig.model_copy(
        update={b.value: getattr(rig, b.value).model_copy(update={"distortion": None}) for b in Band}
    )
    image_px = project(straight, placement, board)[band]
    board_px = board.points_m[:, :2] / board.spacing_m * SQUARE_PX + margin_px - 0.5
    homography, _ = cv2.findHomography(board_px, image_px, 0)
    size_px = getattr(rig, band.value).size_px
    fine = cv2.warpPerspective(
        picture, np.array([[4, 0, 1.5], [0, 4, 1.5], [0, 0, 1]]) @ homography,
        (4 * size_px[0], 4 * size_px[1]), flags=cv2.INTER_LINEAR, borderValue=(150,),
    )  # fmt: skip
    image = cv2.resize(fine, size_px, interpolation=cv2.INTER_AREA)
    rng = np.random.default_rng(seed)
    if not thermal_like:
        noisy = cv2.GaussianBlur(image, (0, 0), 0.7) * 0.8 + 20 + rng.normal(0, 2, image.shape)
        return np.clip(noisy, 0, 255).astype(np.uint8)
    width_px, height_px = size_px
    y, x = np.mgrid[0:height_px, 0:width_px]
    warmth = 12000 * np.exp(-(((x - width_px / 2) / width_px) ** 2 + ((y - height_px / 2) / height_px) ** 2) * 3)
    pattern = cv2.GaussianBlur(255.0 - image, (0, 0), 1.0) * 6
    return (20000 + warmth + pattern + rng.normal(0, 60, image.shape)).astype(np.uint16)
