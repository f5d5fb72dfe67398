"""One camera of the synthetic scene: what it makes of paint, and how cut-outs come onto its pixels."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt

from rtfusion.synthetic.canvas import Array, Box, Canvas, Look
from rtfusion.types import Image

Matrix = npt.NDArray[np.float64]
Painter = Callable[[Canvas], None]
LightAt = Callable[[Array, Array], Array]

_WORLD: Box = (-1300.0, -420.0, 1300.0, 1000.0)


@dataclass(frozen=True, slots=True)
class Cutout:
    """A painted thing in the numbers of one camera; its last plane is the share of the background it keeps, full scale."""

    pixels: Array
    scene_from_px: Matrix
    """For a thing that stands on the origin of the scene."""
    corners: Matrix
    """(3, 4): its corners and a pixel more, homogeneous."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A cut-out on the pixels of its camera."""

    rows: slice
    cols: slice
    color: Array
    keep: Array
    """Share of the background that shows, full scale, as many planes as the color."""

    def blend(self, image: Image) -> None:
        """Draw it over a picture, in place."""
        window = image[self.rows, self.cols]
        cv2.multiply(window, self.keep, dst=window, scale=1.0 / np.iinfo(image.dtype).max)
        cv2.add(window, self.color, dst=window)


@dataclass(frozen=True, kw_only=True, slots=True)
class Response:
    """The way from paint to the numbers of a camera."""

    look: Look
    dtype: np.dtype[Any]
    gain: float = 1.0
    offset: float = 0.0
    blur_px: float = 0.0
    glowing: bool = False
    """Lamps and windows add their own light to what is seen."""


class Camera:
    """Geometry and response of one camera; paints, cuts out and places."""

    def __init__(self, response: Response, *, grid_from_scene: Matrix, size_px: tuple[int, int]) -> None:
        self.response = response
        self.size_px = size_px
        width, height = size_px
        scene_from_grid: Matrix = np.asarray(np.linalg.inv(grid_from_scene), np.float64)
        # A homography has no sign; this one makes what is before the camera positive.
        self._grid_from_scene: Matrix = (
            grid_from_scene * (scene_from_grid @ ((width - 1) / 2, (height - 1) / 2, 1.0))[2]
        )
        edges = [(-0.5, -0.5), (width - 0.5, -0.5), (width - 0.5, height - 0.5), (-0.5, height - 0.5)]
        corners = _transform(scene_from_grid, edges)
        (left, top), (right, bottom) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
        self.box: Box = (left, top, right, bottom)
        """The part of the scene that it sees, as an upright box."""
        ((x, y),) = _transform(scene_from_grid, [((width - 1) / 2, (height - 1) / 2)])
        around = _transform(self._grid_from_scene, [(x, y), (x + 1, y), (x, y + 1)])
        (ax, ay), (bx, by) = around[1] - around[0], around[2] - around[0]
        self._px_per_scene = float(np.sqrt(abs(ax * by - ay * bx)))  # at the middle of its picture
        self._oversampling = 2 if self._px_per_scene < 1.6 else 1

    def cut_out(self, painter: Painter, *, box: Box, scene_per_unit: float, light: LightAt | None) -> Cutout:
        """Paint a thing that stands on the origin.

        ``light`` gets positions in scene units relative to that origin; None: in plain light, and giving none of its own.
        """
        pixels, scene_from_px = self._paint(painter, box, scene_per_unit, light)
        full = np.iinfo(self.response.dtype).max
        pixels[..., -1] = full * (1.0 - pixels[..., -1])
        levels = np.clip(np.round(pixels), 0, full).astype(self.response.dtype)
        used = (levels[..., -1] < full) | (levels[..., :-1] > 0).any(axis=2)
        rows, cols = np.flatnonzero(used.any(axis=1)), np.flatnonzero(used.any(axis=0))
        if not rows.size:
            return _cutout(levels[:1, :1], scene_from_px)
        cropped = np.ascontiguousarray(levels[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1])
        return _cutout(cropped, scene_from_px @ similarity(1.0, float(cols[0]), float(rows[0])))

    def background(self, painter: Painter, *, light: LightAt | None) -> Image:
        """Paint the picture behind everything, as far as this camera looks; beyond the painted world it is mirrored."""
        margin = 6.0 / self._px_per_scene
        left, top = (max(self.box[side] - margin, _WORLD[side]) for side in (0, 1))
        right, bottom = (min(self.box[side] + margin, _WORLD[side]) for side in (2, 3))
        pixels, scene_from_px = self._paint(painter, (left, top, right, bottom), 1.0, light)
        matrix = self._grid_from_scene @ scene_from_px
        image = cv2.warpPerspective(pixels[..., :-1], matrix, self.size_px, borderMode=cv2.BORDER_REFLECT_101)
        return np.clip(np.round(image), 0, np.iinfo(self.response.dtype).max).astype(self.response.dtype)

    def sheared(self, image: Image, shift: Callable[[float], float]) -> Image:
        """A picture whose rows are moved to the left by as much as ``shift`` says of their place in the scene, in its units."""
        width, height = self.size_px
        grid = np.stack(np.meshgrid(np.arange(width, dtype=float), np.arange(height, dtype=float)), axis=2).reshape(
            -1, 2
        )
        scene = _transform(np.asarray(np.linalg.inv(self._grid_from_scene), np.float64), grid)
        rows, which = np.unique(np.round(scene[:, 1], 3), return_inverse=True)
        scene[:, 0] += np.array([shift(float(y)) for y in rows])[which.ravel()]
        maps = _transform(self._grid_from_scene, scene).astype(np.float32).reshape(height, width, 2)
        x, y = (np.ascontiguousarray(maps[..., axis]) for axis in range(2))
        return cast(Image, cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101))

    def rows_in_scene(self) -> Matrix:
        """(height,) the scene's y of the middle of every row."""
        width, height = self.size_px
        middles = [((width - 1) / 2, float(row)) for row in range(height)]
        return _transform(np.asarray(np.linalg.inv(self._grid_from_scene), np.float64), middles)[:, 1]

    def place(self, cutout: Cutout, x: float, y: float, *, clipped: bool = True) -> Placed | None:
        """Warp a cut-out to a place in the scene; None when it is out of the picture (or, not clipped, never)."""
        matrix = self._grid_from_scene @ similarity(1.0, x, y) @ cutout.scene_from_px
        xs, ys, depths = (matrix @ cutout.corners).tolist()
        if min(depths) <= 0:
            return None  # behind a camera that looks at the scene at a slant
        xs, ys = [x / w for x, w in zip(xs, depths, strict=True)], [y / w for y, w in zip(ys, depths, strict=True)]
        x0, y0, x1, y1 = math.floor(min(xs)), math.floor(min(ys)), math.ceil(max(xs)) + 1, math.ceil(max(ys)) + 1
        if clipped:
            x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, self.size_px[0]), min(y1, self.size_px[1])
        if x1 <= x0 or y1 <= y0:
            return None
        border = (0,) * (cutout.pixels.shape[2] - 1) + (int(np.iinfo(self.response.dtype).max),)
        warped = _warp(cutout.pixels, similarity(1.0, -x0, -y0) @ matrix, (x1 - x0, y1 - y0), border)
        rows, cols = slice(y0, y1), slice(x0, x1)
        if warped.shape[2] == 2:
            return Placed(rows, cols, cv2.extractChannel(warped, 0), cv2.extractChannel(warped, 1))
        keep = cv2.cvtColor(cv2.extractChannel(warped, 3), cv2.COLOR_GRAY2BGR)
        return Placed(rows, cols, cv2.cvtColor(warped, cv2.COLOR_BGRA2BGR), keep)

    def _paint(self, painter: Painter, box: Box, scene_per_unit: float, light: LightAt | None) -> tuple[Array, Matrix]:
        """Premultiplied float pixels in the numbers of this camera, coverage last, and where they are in the scene."""
        response = self.response
        density = scene_per_unit * self._px_per_scene
        left, top, right, bottom = box
        # Whole pixels once the oversampling is averaged away, or the picture would shift by a fraction.
        width, height = (int(np.ceil(side * density - 1e-6)) for side in (right - left, bottom - top))
        box = (left, top, left + width / density, top + height / density)
        canvas = Canvas(response.look, box=box, px_per_unit=self._oversampling * density)
        painter(canvas)
        pixels = canvas.pixels
        if self._oversampling > 1:
            pixels = np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA))
        if response.look is Look.THERMAL:
            pixels[..., 0] = response.gain * pixels[..., 0] + response.offset * pixels[..., 1]
        elif light is not None:
            xs, ys = ((np.arange(count, dtype=np.float32) + 0.5) / density for count in (width, height))
            pixels[..., :-1] *= light(scene_per_unit * (xs[None, :] + left), scene_per_unit * (ys[:, None] + top))
        if response.glowing and light is not None:
            glow = Canvas(Look.GLOW, box=box, px_per_unit=density)
            painter(glow)
            pixels[..., :-1] += glow.pixels[..., :-1]
        if response.blur_px > 0:
            pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), response.blur_px, borderType=cv2.BORDER_REPLICATE))
        scale = 1.0 / self._px_per_scene
        return pixels, similarity(scale, scene_per_unit * left + scale / 2, scene_per_unit * top + scale / 2)


def _cutout(pixels: Array, scene_from_px: Matrix) -> Cutout:
    height, width = pixels.shape[:2]
    corners = np.array([[-1.0, width, width, -1.0], [-1.0, -1.0, height, height], [1.0, 1.0, 1.0, 1.0]])
    return Cutout(pixels, scene_from_px, corners)


def _warp(image: Array, matrix: Matrix, size_px: tuple[int, int], border: tuple[int, ...]) -> Array:
    """Bilinear; an affine matrix takes the shorter way."""
    if not matrix[2, :2].any():
        return np.asarray(cv2.warpAffine(image, matrix[:2] / matrix[2, 2], size_px, borderValue=border))
    return np.asarray(cv2.warpPerspective(image, matrix, size_px, borderValue=border))


def similarity(scale: float, x: float, y: float) -> Matrix:
    """Scaling, then a shift."""
    return np.array([[scale, 0.0, x], [0.0, scale, y], [0.0, 0.0, 1.0]])


def _transform(matrix: Matrix, points: list[tuple[float, float]] | Matrix) -> Matrix:
    """Points through a homography, (N, 2)."""
    mapped = np.column_stack([points, np.ones(len(points))]) @ matrix.T
    return np.asarray(mapped[:, :2] / mapped[:, 2:])
