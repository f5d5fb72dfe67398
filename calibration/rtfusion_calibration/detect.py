"""Finding a board in a picture, thermal or visible.

A board in a thermal picture is faint beside what is warm around it, may be brighter where the print is dark, and its contrast
changes from one end to the other. So it is looked for in several preparations of the picture: as it is, and with the local
contrast normalized at several scales, in both polarities. On the 16-bit views of a warmed paper board OpenCV's detector finds
none as they are, and all once they are normalized.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from rtfusion.registration import scale_px
from rtfusion.types import Band, Image, Image8
from rtfusion_calibration.board import Board, Indices, Kind, Points

SMALLEST_PX = 640
"""Smaller pictures are enlarged to this width, larger than `LARGEST_PX` ones reduced and refined at full size."""
LARGEST_PX = 1600
SCALES = (80, 160, 40)
"""Widths of the picture per sigma of the local mean: 8, 4 and 16 pixels at 640."""
CIRCLE_SCALES = (8, 16)
"""Widths of the picture per sigma for circles, whose inside has to stay filled."""
GAIN = 50.0
"""Gray levels per local standard deviation."""
LEAST_SPACING_PX = 4.0
MOST_BLOBS = 2.0
"""Per circle of the board."""
Preparation = tuple[int, bool]
"""Widths of the picture per sigma of the local mean, 0 for the picture as it is; and whether light and dark are exchanged."""
_CHESSBOARD = cv2.CALIB_CB_NORMALIZE_IMAGE | cv2.CALIB_CB_EXHAUSTIVE | cv2.CALIB_CB_ACCURACY
_QUADRANGLES = cv2.CALIB_CB_ADAPTIVE_THRESH | cv2.CALIB_CB_NORMALIZE_IMAGE | cv2.CALIB_CB_FAST_CHECK
_SUBPIXEL = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 60, 1e-4)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sighting:
    """A board seen in one picture."""

    board: Board
    ids: Indices
    """(N,): which of the board's points."""
    points_px: Points
    """(N, 2), pixel centers at integer coordinates."""
    preparation: Preparation
    """The preparation that made it visible."""
    sharpness: float
    """0 to 1: share of the board's contrast that its edges cross within one pixel; 0.2 is a blur of two pixels."""
    contrast: float
    """Difference between its light and dark parts in units of the picture's noise; below about 3 it is too cold."""

    @property
    def points_m(self) -> Points:
        """(N, 3) places of the points on the board."""
        return self.board.points_m[self.ids]

    def reordered(self, order: Indices) -> Sighting:
        """Renumber the points: point ``i`` becomes point ``order[i]``."""
        ids = order[self.ids]
        rank = np.argsort(ids)
        return replace(self, ids=ids[rank], points_px=self.points_px[rank])

    def only(self, chosen: npt.NDArray[np.bool_]) -> Sighting:
        """Some of the points."""
        return replace(self, ids=self.ids[chosen], points_px=self.points_px[chosen])


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class View:
    """One moment: what each camera saw of the board."""

    name: str
    visible: Sighting | None
    thermal: Sighting | None

    @property
    def sightings(self) -> dict[Band, Sighting]:
        """The sightings by band; a camera that did not see the board is missing."""
        found = {Band.VISIBLE: self.visible, Band.THERMAL: self.thermal}
        return {band: sighting for band, sighting in found.items() if sighting is not None}

    @property
    def both(self) -> bool:
        """True when both cameras saw the board."""
        return len(self.sightings) == len(Band)


class Finder:
    """Looks for one board in the pictures of one camera; begins with what worked the last time."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._recent: list[Preparation] = []
        self._turn = 0

    def find(self, image: Image, *, attempts: int | None = None) -> Sighting | None:
        """The board in a picture of (H, W) or (H, W, 3), 8 or 16 bits; None where there is none to be seen.

        ``attempts`` bounds how many preparations are tried, for a live camera: the next call goes on with the others.
        """
        gray = _gray(image)
        work, work_from_image = _sized(gray)
        ways = self._ways()
        if attempts is not None and attempts < len(ways):
            start = self._turn % (len(ways) - 1)
            ways = ways[:1] + (ways[1:] + ways[1:])[start : start + attempts - 1]
            self._turn += attempts - 1
        for way in ways:
            found = _locate(_prepared(work, way), self._board)
            if found is None:
                continue
            ids, points = found
            points = _refined(gray, points, work_from_image, board=self._board, preparation=way)
            if _is_plausible(points, self._board.points_m[ids, :2]):
                self._recent = [way]
                clarity = _clarity(gray, points, self._board.points_m[ids, :2] / self._board.spacing_m)
                return Sighting(board=self._board, ids=ids, points_px=points, preparation=way, **clarity)
        return None

    def _ways(self) -> list[Preparation]:
        """The likeliest first."""
        scales = CIRCLE_SCALES if self._board.kind is Kind.CIRCLES else SCALES
        # the corners of a chessboard look the same in both polarities
        polarities = (False,) if self._board.kind is Kind.CHESSBOARD else (False, True)
        ways = [(scale, inverted) for inverted in polarities for scale in (0, *scales)]
        return self._recent + [way for way in ways if way not in self._recent]


def equalize(gray: npt.NDArray[np.float32], *, sigma_px: float) -> Image8:
    """Local contrast normalization: (x - local mean) / local standard deviation, as gray levels around 128."""
    detail = gray - _smooth(gray, sigma_px=sigma_px)
    deviation = np.sqrt(_smooth(detail * detail, sigma_px=1.5 * sigma_px))
    deviation += 0.05 * float(np.median(deviation)) + 1e-6  # where there is nothing, nothing is amplified to the full
    return np.clip(128 + GAIN * detail / deviation, 0, 255).astype(np.uint8)


def _smooth(gray: npt.NDArray[np.float32], *, sigma_px: float) -> npt.NDArray[np.float32]:
    """Gaussian blur; a wide one at a reduced size, where it costs little and looks the same."""
    factor = max(1.0, sigma_px / 4)
    height_px, width_px = gray.shape
    small_px = max(1, round(width_px / factor)), max(1, round(height_px / factor))
    small = gray if factor == 1.0 else cv2.resize(gray, small_px, interpolation=cv2.INTER_AREA)
    blurred = cv2.GaussianBlur(small, (0, 0), sigma_px / factor)
    if factor > 1.0:
        blurred = cv2.resize(blurred, (width_px, height_px), interpolation=cv2.INTER_LINEAR)
    return cast(npt.NDArray[np.float32], blurred)


def as_detected(image: Image) -> Image8:
    """(H, W) or (H, W, 3), 8 or 16 bits, as (H, W) gray levels in which a faint board shows."""
    return equalize(_gray(image), sigma_px=image.shape[1] / 40)


def _gray(image: Image) -> npt.NDArray[np.float32]:
    """Float gray; 16-bit counts by their logarithm, because a warm board spans a small part of them."""
    if image.ndim == 3:
        return cast(Image8, cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)).astype(np.float32)
    gray = image.astype(np.float32)
    if image.dtype == np.uint16:
        gray = np.log1p(gray - gray.min())
    return gray


def _sized(gray: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], Points]:
    height_px, width_px = gray.shape
    longest_px = max(width_px, height_px)
    factor = max(1.0, SMALLEST_PX / longest_px) if longest_px < LARGEST_PX else LARGEST_PX / longest_px
    if factor == 1.0:
        return gray, np.eye(3)
    size_px = round(width_px * factor), round(height_px * factor)
    how = cv2.INTER_CUBIC if factor > 1 else cv2.INTER_AREA
    work = cast(npt.NDArray[np.float32], cv2.resize(gray, size_px, interpolation=how))
    return work, scale_px(from_px=(width_px, height_px), to_px=size_px)


def _prepared(gray: npt.NDArray[np.float32], preparation: Preparation) -> Image8:
    scale, inverted = preparation
    if scale:
        prepared = equalize(gray, sigma_px=max(gray.shape) / scale)
    else:
        low, high = np.percentile(gray[::2, ::2], (1.0, 99.5))
        prepared = np.clip((gray - low) * (255.0 / max(float(high - low), 1e-6)), 0, 255).astype(np.uint8)
    return cast(Image8, cv2.bitwise_not(prepared)) if inverted else prepared


def _locate(prepared: Image8, board: Board) -> tuple[Indices, Points] | None:
    """The ids and places of the board's points in a prepared picture."""
    if board.kind is Kind.CHARUCO:
        detector = cv2.aruco.CharucoDetector(board.charuco)
        corners, ids, _, _ = detector.detectBoard(prepared)
        if ids is None or len(ids) < 6:
            return None
        return ids.ravel().astype(np.intp), corners.reshape(-1, 2).astype(np.float64)
    points = (_find_circles if board.kind is Kind.CIRCLES else _find_corners)(prepared, board)
    return None if points is None else (np.arange(len(points)), points)


def _find_corners(prepared: Image8, board: Board) -> Points | None:
    """Find corners by sectors, which stands blur and noise; else by quadrangles, which stands squares cut off at the edge."""
    found, corners = cv2.findChessboardCornersSB(prepared, board.grid, flags=_CHESSBOARD)
    if not found:
        found, corners = cv2.findChessboardCorners(prepared, board.grid, flags=_QUADRANGLES)
        if found:
            corners = _sharpened(prepared, corners.reshape(-1, 2).astype(np.float64))
    return corners.reshape(-1, 2).astype(np.float64) if found else None


def _sharpened(prepared: Image8, points: Points) -> Points:
    """Corners to a fraction of a pixel, each looked for within a third of the spacing."""
    half_px = max(2, round(0.3 * _least_spacing_px(points)))
    corners = cv2.cornerSubPix(prepared, points.astype(np.float32), (half_px, half_px), (-1, -1), _SUBPIXEL)
    return corners.astype(np.float64)


def _find_circles(prepared: Image8, board: Board) -> Points | None:
    """Find blobs of about one size. The search among them grows without bound with their number, so that is bounded."""
    count = board.columns * board.rows
    parameters = cv2.SimpleBlobDetector.Params()
    parameters.minArea = 12
    parameters.maxArea = prepared.size / (2 * count)
    parameters.minDistBetweenBlobs = 4
    parameters.minConvexity = 0.85
    blobs = cv2.SimpleBlobDetector.create(parameters).detect(prepared)
    if len(blobs) < count:
        return None
    sizes = np.array([blob.size for blob in blobs])
    alike = np.abs(np.log(sizes / np.median(sizes))) < np.log(2.5)
    centers = np.array([blob.pt for blob, keep in zip(blobs, alike, strict=True) if keep])
    if not count <= len(centers) <= MOST_BLOBS * count:
        return None
    # OpenCV takes no list of centers from Python: a picture of dots at these places says the same
    radius_px = max(2, round(0.25 * _least_spacing_px(centers)))
    dots = np.full(prepared.shape, 255, dtype=np.uint8)
    for x, y in centers:
        cv2.circle(dots, (round(float(x)), round(float(y))), radius_px, (0,), -1)
    parameters.minArea = 2.0 * radius_px**2
    flags = cv2.CALIB_CB_ASYMMETRIC_GRID | (cv2.CALIB_CB_CLUSTERING if len(centers) > count else 0)
    detector = cv2.SimpleBlobDetector.create(parameters)
    found, grid = cv2.findCirclesGrid(dots, board.grid, flags=flags, blobDetector=detector)
    if not found:
        return None
    distance = np.linalg.norm(grid.reshape(-1, 1, 2) - centers[None], axis=2)
    return np.asarray(centers[distance.argmin(axis=1)], dtype=np.float64)


def _refined(
    gray: npt.NDArray[np.float32], points: Points, work_from_image: Points, *, board: Board, preparation: Preparation
) -> Points:
    """The points in pixels of the picture itself; refined there when they were found in a reduced one."""
    factor = work_from_image[0, 0]
    points = (points - work_from_image[:2, 2]) / np.diag(work_from_image)[:2]
    if factor >= 1 or board.kind is Kind.CIRCLES:
        return points
    return _sharpened(cast(Image8, cv2.GaussianBlur(_prepared(gray, preparation), (0, 0), 1.0)), points)


def _least_spacing_px(points: Points) -> float:
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    return float(distance.min())


def _is_plausible(points: Points, plane: Points) -> bool:
    """True when a flat board can look like this: one homography explains the points to a fraction of their spacing."""
    spacing_px = _least_spacing_px(points)
    homography, _ = cv2.findHomography(plane, points, 0)
    if homography is None or spacing_px < LEAST_SPACING_PX:
        return False
    expected = cv2.perspectiveTransform(plane[None], homography)[0]
    return float(np.sqrt(np.mean(np.sum((expected - points) ** 2, axis=1)))) < 0.15 * spacing_px


def _clarity(gray: npt.NDArray[np.float32], points: Points, grid: Points) -> dict[str, float]:
    """Sharpness and contrast, from samples on the board's own ``grid`` with the slow gradient of its warmth taken off."""
    image_from_grid, _ = cv2.findHomography(grid, points, 0)
    (left, top), (right, bottom) = grid.min(axis=0), grid.max(axis=0)
    steps = min(max(round(_least_spacing_px(points)), 6), 48)  # about one per pixel
    x, y = np.meshgrid(np.arange(left, right, 1 / steps), np.arange(top, bottom, 1 / steps))
    places = cv2.perspectiveTransform(np.stack([x, y], axis=-1).reshape(1, -1, 2), image_from_grid)
    maps = places.reshape(*x.shape, 2).astype(np.float32)
    flat = cv2.remap(gray, maps[..., 0], maps[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    pattern = flat - cv2.GaussianBlur(flat, (0, 0), 1.5 * steps)
    span = max(float(np.percentile(pattern, 90) - np.percentile(pattern, 10)), 1e-6)
    slope = np.hypot(*(cv2.Sobel(pattern, cv2.CV_32F, dx, 1 - dx, scale=1 / 8) for dx in (1, 0)))
    # (H - 1, W - 1, 2, 2): how far one step on the board goes in the picture
    steps_px = np.stack([np.diff(maps, axis=1)[:-1], np.diff(maps, axis=0)[:, :-1]], axis=-1).astype(np.float64)
    step_px = float(np.sqrt(np.median(np.abs(np.linalg.det(steps_px)))))
    per_pixel = float(np.percentile(slope, 99)) / max(step_px, 1e-6)
    low, high = np.floor(points.min(axis=0)).astype(int).clip(0), np.ceil(points.max(axis=0)).astype(int) + 1
    patch = gray[low[1] : high[1], low[0] : high[0]]
    noise = 1.4826 / np.sqrt(20.0) * float(np.median(np.abs(cv2.Laplacian(patch, cv2.CV_32F))))
    return {"sharpness": min(1.0, per_pixel / span), "contrast": span / max(noise, 1e-6)}
