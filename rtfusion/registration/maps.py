"""Warps: where each pixel of the grid comes from in a picture, and where there is nothing."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from rtfusion.registration.calibration import Calibration, CameraModel, Matrix, scale_px
from rtfusion.registration.doubt import Doubt, told
from rtfusion.types import Image, Image8

FEATHER_PX = 8
"""Width of the soft border of the valid area, so that the end of the thermal picture does not draw a line."""
LARGEST_SHRINK = 1.5
"""Source pixels per grid pixel above which the source is averaged first: bilinear sampling alone would alias and flicker."""

Maps = npt.NDArray[np.float32]
Weights = npt.NDArray[np.float32]
_ITERATIONS = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 40, 1e-6)


class Warp:
    """Brings one image onto a grid of another size and view; outside of the source its edge is repeated.

    ``source_from_grid`` are the (H, W, 2) float32 source coordinates of every grid pixel, pixel centers at integers; None
    for the identity, which then costs nothing.
    """

    def __init__(self, source_from_grid: Maps | None, *, source_size_px: tuple[int, int]) -> None:
        self.maps: tuple[Maps, Maps] | None = None
        """Columns x and rows y, each (H, W) float32, into what `reduced` gives; None for the identity."""
        self.magnification = 1.0
        """Grid pixels for each pixel of the source along a side, in the middle of the picture."""
        self.source_px = source_size_px
        """(width, height) of the picture that the maps lead into."""
        if source_from_grid is None:
            return
        shrink = _source_pixels_per_grid_pixel(source_from_grid)
        self.magnification = 1.0 / max(shrink, 1e-6)
        if shrink > LARGEST_SHRINK:
            width_px, height_px = (max(1, round(side / shrink)) for side in source_size_px)
            self.source_px = width_px, height_px
            small_from_source = scale_px(from_px=source_size_px, to_px=self.source_px)
            source_from_grid = cv2.transform(source_from_grid, small_from_source[:2]).astype(np.float32)
        x, y = (np.ascontiguousarray(source_from_grid[..., axis]) for axis in range(2))
        self.maps = x, y

    @property
    def is_identity(self) -> bool:
        """True when `__call__` returns its input."""
        return self.maps is None

    def reduced(self, image: Image) -> Image:
        """The image as the maps see it: averaged to a smaller one where bilinear sampling alone would alias."""
        if image.shape[1::-1] == self.source_px:
            return image
        return cast(Image, cv2.resize(image, self.source_px, interpolation=cv2.INTER_AREA))

    def __call__(self, image: Image, *, out: Image | None = None) -> Image:
        """(h, w) or (h, w, 3) in, the same on the grid out, written into ``out`` if one is given; the type is kept."""
        if self.maps is None:
            return image
        return cast(Image, cv2.remap(self.reduced(image), *self.maps, cv2.INTER_LINEAR, out, cv2.BORDER_REPLICATE))

    def from_resized(self, size_px: tuple[int, int]) -> Warp:
        """Give the same warp of the source after it was resized to this (width, height).

        It is the identity where resizing alone brings the source onto the grid.
        """
        if self.maps is None:
            return self
        scale = scale_px(from_px=self.source_px, to_px=size_px)
        maps = [
            cast(Maps, cv2.addWeighted(axis, scale[i, i], axis, 0.0, scale[i, 2])) for i, axis in enumerate(self.maps)
        ]
        result = copy.copy(self)
        result.source_px = size_px
        result.maps = None if _is_identity(maps, size_px) else (maps[0], maps[1])
        return result

    def moved(self, grid_from_grid: Matrix) -> Warp:
        """Give the warp after a small motion of the grid: pixel x of the result is what was at ``grid_from_grid`` x.

        At the cost of one pass over the maps: the motion is carried to the source by the affine part of the warp, so where a
        lens bends or the view is steep the result is off by a small share of the motion.
        """
        x, y = self.maps or np.meshgrid(*(np.arange(side, dtype=np.float32) for side in self.source_px))
        source_from_grid = _affine_part(x, y, self.source_px)
        motion = source_from_grid @ grid_from_grid @ np.linalg.inv(source_from_grid)
        result = copy.copy(self)
        result.maps = (
            cast(Maps, cv2.addWeighted(x, motion[0, 0], y, motion[0, 1], motion[0, 2])),
            cast(Maps, cv2.addWeighted(x, motion[1, 0], y, motion[1, 1], motion[1, 2])),
        )
        return result

    def valid(self) -> Image8 | None:
        """(H, W) uint8, 255 where the source has a pixel for the grid; None where it has one everywhere."""
        if self.maps is None:
            return None
        sides = zip(self.maps, self.source_px, strict=True)
        both = cast(
            Image8, cv2.bitwise_and(*(cv2.inRange(axis, -0.5 - 1e-3, side - 0.5 + 1e-3) for axis, side in sides))
        )
        return None if cv2.countNonZero(both) == both.size else both


@dataclass(kw_only=True, eq=False, repr=False)
class Registration:
    """Both bands onto one grid."""

    size_px: tuple[int, int]
    """(width, height) of the grid."""
    visible: Warp
    """One of the two warps is the identity."""
    thermal: Warp
    valid: Image8 | None
    """(H, W), 255 where the moved camera sees; None where both cameras see the whole grid."""
    calibration_id: str | None
    doubt_px: Doubt | None = None
    """(rows, columns) over the picture: by how many pixels of the grid the moved picture may lie elsewhere than it is put; (1, 1)
    where that is the same everywhere, None where nothing tells it."""
    weights: tuple[Weights, Weights] | None = field(init=False, default=None)
    """Inside and outside of `valid`, (H, W) float32 each, with a soft border; their sum is 1. None as `valid`."""

    def __post_init__(self) -> None:
        if self.valid is not None:
            depth_px = cv2.distanceTransform(self.valid, cv2.DIST_L2, 3)
            inside = np.clip(depth_px / FEATHER_PX, 0.0, 1.0).astype(np.float32)
            self.weights = inside, np.float32(1.0) - inside

    def moved(self, grid_from_grid: Matrix, *, grid: str, seen: Registration | None = None) -> Registration:
        """Give the registration after a small motion of the picture that is moved onto the ``grid``; see `Warp.moved`.

        ``seen`` lends its valid area, which is most of the cost, where the picture has hardly moved since.
        """
        warp = (self.thermal if grid == "visible" else self.visible).moved(grid_from_grid)
        visible, thermal = (self.visible, warp) if grid == "visible" else (warp, self.thermal)
        if seen is None:
            return replace(self, visible=visible, thermal=thermal, valid=warp.valid())
        result = copy.copy(seen)
        result.visible, result.thermal = visible, thermal
        return result


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
    sizes_px = visible_size_px, thermal_size_px
    cameras: tuple[CameraModel | None, CameraModel | None] = None, None
    source_from_grid = scale_px(from_px=thermal_size_px, to_px=visible_size_px)
    doubt_px = None
    if calibration is not None:
        doubt_px = told(calibration, width_px=visible_size_px[0])
        calibration = calibration.scaled(visible_size_px=visible_size_px, thermal_size_px=thermal_size_px)
        source_from_grid = calibration.homography_px
        cameras = calibration.visible, calibration.thermal
    if grid == "visible":
        source_from_grid = np.linalg.inv(source_from_grid).astype(np.float64)
    else:
        sizes_px, cameras = sizes_px[::-1], cameras[::-1]
    grid_px, source_px = sizes_px
    maps, valid = _maps(grid_px, source_px, source_from_grid, grid_camera=cameras[0], source_camera=cameras[1])
    still, moved = Warp(None, source_size_px=grid_px), Warp(maps, source_size_px=source_px)
    visible, thermal = (still, moved) if grid == "visible" else (moved, still)
    calibration_id = None if calibration is None else calibration.id
    if doubt_px is not None:
        doubt_px = doubt_px * np.float32(visible.magnification)
    return Registration(
        size_px=grid_px,
        visible=visible,
        thermal=thermal,
        valid=valid,
        calibration_id=calibration_id,
        doubt_px=doubt_px,
    )


def visible_from_thermal(calibration: Calibration, *, thermal_px: Matrix) -> Matrix:
    """(N, 2) pixels of the thermal camera to (N, 2) pixels of the visible one, lenses included, at the calibration's distance."""
    points = cv2.perspectiveTransform(_undistorted(thermal_px, calibration.thermal)[None], calibration.homography_px)[0]
    return _distorted(points.astype(np.float64), calibration.visible)


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
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    points = _undistorted(np.stack([columns.ravel(), rows.ravel()], axis=1), grid_camera)
    depth = points @ source_from_grid[2, :2] + source_from_grid[2, 2]
    points = _distorted(cv2.perspectiveTransform(points[None], source_from_grid)[0], source_camera)
    inside = (points > -0.5 - 1e-6) & (points < np.array(source_px) - 0.5 + 1e-6)
    seen = inside.all(axis=1) & (np.sign(depth) == np.sign(np.median(depth)))
    valid = None if seen.all() else np.where(seen, 255, 0).astype(np.uint8).reshape(height, width)
    # far outside, coordinates may overflow the fixed-point arithmetic inside remap: a clamp changes nothing there
    limits = np.array(source_px, dtype=np.float64)
    points = np.clip(np.nan_to_num(points, nan=-1.0), -limits, 2.0 * limits)
    return points.reshape(height, width, 2).astype(np.float32), valid


def _undistorted(points: Matrix, camera: CameraModel | None) -> Matrix:
    if camera is None or camera.distortion is None:
        return points
    intrinsics, lens = camera.optics
    rays = cv2.undistortPoints(points[:, None], intrinsics, lens, criteria=_ITERATIONS)[:, 0]
    return rays @ intrinsics[:2, :2].T + intrinsics[:2, 2]


def _distorted(points: Matrix, camera: CameraModel | None) -> Matrix:
    if camera is None or camera.distortion is None:
        return points
    intrinsics, lens = camera.optics
    rays = np.linalg.inv(intrinsics) @ np.vstack([points.T, np.ones(len(points))])
    bent, _ = cv2.projectPoints(rays.T[:, None], np.zeros(3), np.zeros(3), intrinsics, lens)
    return cast(Matrix, bent[:, 0])


def _affine_part(x: Maps, y: Maps, source_px: tuple[int, int]) -> Matrix:
    """(3, 3) affine map nearest to the maps where they lie in the source; the identity where they hardly do."""
    rows, columns = (np.linspace(0, side - 1, 9).astype(int) for side in x.shape)
    grid = np.array([(column, row, 1.0) for row in rows for column in columns])
    source = np.array([(x[row, column], y[row, column], 1.0) for row in rows for column in columns], dtype=np.float64)
    inside = (source[:, :2] > -1).all(axis=1) & (source[:, :2] < source_px).all(axis=1)
    if inside.sum() < 9:
        return np.eye(3)
    return cast(Matrix, np.linalg.lstsq(grid[inside], source[inside], rcond=None)[0].T)


def _is_identity(maps: Sequence[Maps], size_px: tuple[int, int]) -> bool:
    """True where a picture of this size is on the grid as it is, to a hundredth of a pixel."""
    if maps[0].shape != size_px[::-1]:
        return False
    columns, rows = (np.arange(side, dtype=np.float32) for side in size_px)
    return bool(np.allclose(maps[0], columns, atol=0.01) and np.allclose(maps[1], rows[:, None], atol=0.01))


def _source_pixels_per_grid_pixel(source_from_grid: Maps) -> float:
    """Square root of the median area that one grid pixel covers in the source."""
    if min(source_from_grid.shape[:2]) < 2:
        return 1.0
    along_x = np.diff(source_from_grid, axis=1)[:-1]
    along_y = np.diff(source_from_grid, axis=0)[:, :-1]
    area = np.abs(along_x[..., 0] * along_y[..., 1] - along_x[..., 1] * along_y[..., 0])
    return float(np.sqrt(np.median(area)))
