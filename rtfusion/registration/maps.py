"""What a fuser needs of a calibration for given sizes: where each pixel of the grid comes from, and where there is nothing."""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from rtfusion.registration.calibration import Calibration, CameraModel, Matrix, scale_px
from rtfusion.types import Image, Image8

FEATHER_PX = 8
"""Width of the soft border of the valid area, so that the end of the thermal picture does not draw a line."""
LARGEST_SHRINK = 1.5
"""Above this many source pixels per grid pixel the source is averaged first: bilinear sampling alone would alias and flicker."""

Maps = npt.NDArray[np.float32]
Weights = npt.NDArray[np.float32]
_ITERATIONS = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 40, 1e-6)


class Warp:
    """Brings one image onto a grid of another size and view; outside of the source its edge is repeated.

    ``source_from_grid`` are the (H, W, 2) float32 source coordinates of every grid pixel, pixel centers at integers; None
    for the identity, which then costs nothing.
    """

    def __init__(self, source_from_grid: Maps | None, *, source_size_px: tuple[int, int]) -> None:
        self._small_px: tuple[int, int] | None = None
        self._maps: tuple[Maps, Maps] | None = None
        if source_from_grid is None:
            return
        shrink = _source_pixels_per_grid_pixel(source_from_grid)
        if shrink > LARGEST_SHRINK:
            self._small_px = tuple(max(1, round(side / shrink)) for side in source_size_px)  # type: ignore[assignment]
            assert self._small_px is not None  # noqa: S101
            small_from_source = scale_px(from_px=source_size_px, to_px=self._small_px)
            source_from_grid = cv2.transform(source_from_grid, small_from_source[:2]).astype(np.float32)
        x, y = (np.ascontiguousarray(source_from_grid[..., axis]) for axis in range(2))
        self._maps = x, y

    @property
    def is_identity(self) -> bool:
        """True when `__call__` returns its input."""
        return self._maps is None

    def __call__(self, image: Image) -> Image:
        """(h, w) or (h, w, 3) in, the same on the grid out; the type is kept."""
        if self._maps is None:
            return image
        if self._small_px is not None:
            image = cv2.resize(image, self._small_px, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        warped = cv2.remap(image, *self._maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return cast(Image, warped)


class Registration:
    """Both bands onto one grid.

    ``visible`` and ``thermal`` are the two warps (one of them the identity); ``valid`` is None where both cameras see the whole
    grid, else (H, W) uint8, 255 where the moved camera sees; ``weights`` are then (H, W) float32 for inside and outside, summing
    to 1, with a soft border.
    """

    def __init__(
        self,
        *,
        size_px: tuple[int, int],
        visible: Warp,
        thermal: Warp,
        valid: Image8 | None,
        calibration_id: str | None,
    ) -> None:
        self.size_px = size_px
        self.visible = visible
        self.thermal = thermal
        self.valid = valid
        self.calibration_id = calibration_id
        self.weights: tuple[Weights, Weights] | None = None
        if valid is not None:
            depth_px = cv2.distanceTransform(valid, cv2.DIST_L2, 3)
            inside = np.clip(depth_px / FEATHER_PX, 0.0, 1.0).astype(np.float32)
            self.weights = inside, np.float32(1.0) - inside


def register(
    *,
    visible_size_px: tuple[int, int],
    thermal_size_px: tuple[int, int],
    calibration: Calibration | None,
    grid: str = "visible",
) -> Registration:
    """The registration of two streams of these sizes.

    Without a calibration both cameras are taken to have the same view, and only the sizes are scaled (with the half-pixel
    term). ``grid`` says whose pixels the result has: ``visible`` or ``thermal``.

    Raises:
        CalibrationError: the calibration is for cameras of another aspect.
    """
    if calibration is None:
        visible_from_thermal = scale_px(from_px=thermal_size_px, to_px=visible_size_px)
        visible_camera = thermal_camera = None
    else:
        calibration = calibration.scaled(visible_size_px=visible_size_px, thermal_size_px=thermal_size_px)
        visible_from_thermal = calibration.homography_px
        visible_camera, thermal_camera = calibration.visible, calibration.thermal
    if grid == "visible":
        grid_px, source_px = visible_size_px, thermal_size_px
        source_from_grid = np.linalg.inv(visible_from_thermal).astype(np.float64)
        grid_camera, source_camera = visible_camera, thermal_camera
    else:
        grid_px, source_px, source_from_grid = thermal_size_px, visible_size_px, visible_from_thermal
        grid_camera, source_camera = thermal_camera, visible_camera
    maps, valid = _maps(grid_px, source_px, source_from_grid, grid_camera=grid_camera, source_camera=source_camera)
    moved = Warp(maps, source_size_px=source_px)
    still = Warp(None, source_size_px=grid_px)
    return Registration(
        size_px=grid_px,
        visible=still if grid == "visible" else moved,
        thermal=moved if grid == "visible" else still,
        valid=valid,
        calibration_id=None if calibration is None else calibration.id,
    )


def _maps(
    grid_px: tuple[int, int],
    source_px: tuple[int, int],
    source_from_grid: Matrix,
    *,
    grid_camera: CameraModel | None,
    source_camera: CameraModel | None,
) -> tuple[Maps | None, Image8 | None]:
    bent = any(camera is not None and camera.distortion is not None for camera in (grid_camera, source_camera))
    if not bent and grid_px == source_px and np.allclose(source_from_grid, np.eye(3), atol=1e-9):
        return None, None
    width, height = grid_px
    x, y = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64))
    points = np.stack([x.ravel(), y.ravel()], axis=1)
    points = _undistorted(points, grid_camera)
    depth = points @ source_from_grid[2, :2] + source_from_grid[2, 2]
    points = cv2.perspectiveTransform(points[None], source_from_grid)[0]
    points = _distorted(points, source_camera)
    inside = (points > -0.5 - 1e-6) & (points < np.array(source_px) - 0.5 + 1e-6)
    seen = inside.all(axis=1) & (np.sign(depth) == np.sign(np.median(depth)))
    valid = None if seen.all() else np.where(seen, 255, 0).astype(np.uint8).reshape(height, width)
    # far outside, coordinates may overflow the fixed-point arithmetic inside remap: a clamp changes nothing there
    limits = np.array(source_px, dtype=np.float64)
    points = np.clip(np.nan_to_num(points, nan=-1.0), -limits, 2.0 * limits)
    return points.reshape(height, width, 2).astype(np.float32), valid


def _undistorted(points: Matrix, camera: CameraModel | None) -> Matrix:
    if camera is None or camera.distortion is None or camera.intrinsics is None:
        return points
    intrinsics, lens = np.array(camera.intrinsics), np.array(camera.distortion)
    rays = cv2.undistortPoints(points[:, None], intrinsics, lens, criteria=_ITERATIONS)[:, 0]
    return cast(Matrix, rays @ intrinsics[:2, :2].T + intrinsics[:2, 2])


def _distorted(points: Matrix, camera: CameraModel | None) -> Matrix:
    if camera is None or camera.distortion is None or camera.intrinsics is None:
        return points
    intrinsics = np.array(camera.intrinsics)
    rays = np.linalg.inv(intrinsics) @ np.vstack([points.T, np.ones(len(points))])
    lens = np.array(camera.distortion)
    bent, _ = cv2.projectPoints(rays.T[:, None], np.zeros(3), np.zeros(3), intrinsics, lens)
    return cast(Matrix, bent[:, 0])


def _source_pixels_per_grid_pixel(source_from_grid: Maps) -> float:
    """Square root of the median area that one grid pixel covers in the source."""
    if min(source_from_grid.shape[:2]) < 2:
        return 1.0
    along_x = np.diff(source_from_grid, axis=1)[:-1]
    along_y = np.diff(source_from_grid, axis=0)[:, :-1]
    area = np.abs(along_x[..., 0] * along_y[..., 1] - along_x[..., 1] * along_y[..., 0])
    return float(np.sqrt(np.median(area)))
