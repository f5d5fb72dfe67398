"""The targets that both cameras can see: what is on them, in meters, and how they are named on the command line."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from rtfusion.errors import ConfigError
from rtfusion.types import Image8

Points = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

MARKER_SHARE = 0.75
"""Side of a ChArUco marker in sides of its square, where it is not given."""
DICTIONARIES = tuple(sorted(name for name in dir(cv2.aruco) if re.fullmatch(r"DICT_\dX\d_\d+", name)))
_EXAMPLES = "chessboard:9x6, circles:4x11 or charuco:7x5"


class Kind(str, enum.Enum):
    """The pattern that is printed, cut out or glued on."""

    CHESSBOARD = "chessboard"
    CIRCLES = "circles"
    """OpenCV's asymmetric grid: every second row is shifted by half a step."""
    CHARUCO = "charuco"


@dataclass(frozen=True, kw_only=True, slots=True)
class Board:
    """A flat target; its points lie in the plane z = 0, in rows from the top left."""

    kind: Kind
    columns: int
    """Chessboard: inner corners in a row. Circles: circles in a row. ChArUco: squares in a row."""
    rows: int
    spacing_m: float
    """Side of a square; for circles the distance from one row to the next, which is half of that within a row."""
    marker_m: float | None = None
    """ChArUco: side of a marker."""
    dictionary: str = "DICT_4X4_50"

    @classmethod
    def parse(
        cls, text: str, *, spacing_mm: float, marker_mm: float | None = None, dictionary: str = "DICT_4X4_50"
    ) -> Board:
        """A board from a text as ``chessboard:9x6``.

        Raises:
            ConfigError: it is not of this form, or a size is impossible.
        """
        match = re.fullmatch(r"(\w+):(\d{1,2})x(\d{1,2})", text.strip().lower())
        if match is None or match[1] not in {kind.value for kind in Kind}:
            raise ConfigError(f"the board is {text!r}; expected for example {_EXAMPLES}")
        kind, columns, rows = Kind(match[1]), int(match[2]), int(match[3])
        if min(columns, rows) < 3:
            raise ConfigError(f"the board is {text!r}; a side needs 3 or more to be told from the background")
        if not 0.5 <= spacing_mm <= 1000:
            raise ConfigError(f"the spacing of the board is {spacing_mm:g} mm; expected 0.5 to 1000")
        marker_m = None
        if kind is Kind.CHARUCO:
            marker_m = (MARKER_SHARE * spacing_mm if marker_mm is None else marker_mm) / 1000
            if not 0 < marker_m < spacing_mm / 1000:
                raise ConfigError(f"the marker is {marker_mm:g} mm; it has to be smaller than its square")
            if dictionary not in DICTIONARIES:
                raise ConfigError(f"the dictionary is {dictionary!r}; expected one of {', '.join(DICTIONARIES)}")
            markers = columns * rows // 2
            if markers > int(dictionary.rsplit("_", 1)[1]):
                raise ConfigError(
                    f"a board of {columns}x{rows} squares has {markers} markers, more than {dictionary} holds"
                )
        elif marker_mm is not None:
            raise ConfigError(f"a {kind.value} has no markers; leave the size of the marker out")
        size = {"columns": columns, "rows": rows}
        return cls(kind=kind, **size, spacing_m=spacing_mm / 1000, marker_m=marker_m, dictionary=dictionary)

    def __str__(self) -> str:
        return f"{self.kind.value}:{self.columns}x{self.rows}, {1000 * self.spacing_m:g} mm"

    @property
    def points_m(self) -> Points:
        """(N, 3), in the order in which OpenCV finds them."""
        columns, rows = self.grid
        y, x = np.mgrid[0:rows, 0:columns].astype(np.float64)
        if self.kind is Kind.CIRCLES:
            x = 2 * x + y % 2
        return np.stack([x.ravel(), y.ravel(), np.zeros(x.size)], axis=1) * self.spacing_m

    @property
    def grid(self) -> tuple[int, int]:
        """Points in a row, and rows of points."""
        if self.kind is Kind.CHARUCO:
            return self.columns - 1, self.rows - 1
        return self.columns, self.rows

    @property
    def symmetries(self) -> list[Indices]:
        """The orders in which the points can be read without a difference in their places; the first is as it stands.

        A chessboard looks the same upside down once its colors say nothing, as they do between two bands.
        """
        points = self.points_m[:, :2]
        if self.kind is Kind.CHARUCO:
            return [np.arange(len(points))]
        center = (points.min(axis=0) + points.max(axis=0)) / 2
        orders = []
        for turn in ([[1, 0], [0, 1]], [[0, -1], [1, 0]], [[-1, 0], [0, -1]], [[0, 1], [-1, 0]]):
            turned = (points - center) @ np.array(turn, dtype=np.float64) + center
            distance = np.linalg.norm(turned[:, None] - points[None], axis=2)
            if distance.min(axis=1).max() < 1e-6 * self.spacing_m:
                orders.append(cast(Indices, distance.argmin(axis=1)))
        return orders

    @property
    def charuco(self) -> cv2.aruco.CharucoBoard:
        """OpenCV's description of a ChArUco board.

        Raises:
            ConfigError: the board is of another kind.
        """
        if self.marker_m is None:
            raise ConfigError(f"{self} has no markers; expected a charuco board")
        dictionary = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, self.dictionary))
        return cv2.aruco.CharucoBoard((self.columns, self.rows), self.spacing_m, self.marker_m, dictionary)

    def draw(self, *, square_px: int, margin_px: int) -> Image8:
        """A picture of the board, black on white, to print or to render.

        A point at (x, y) meters is at margin + (x, y) / spacing_m * square_px - 0.5 pixels, counted from the first point;
        the margin lies around the points, and is at least one square of a chessboard.
        """
        columns, rows = self.grid
        extent = self.points_m[:, :2].max(axis=0) / self.spacing_m
        width_px, height_px = (round(float(side) * square_px) + 2 * margin_px for side in extent)
        picture = np.full((height_px, width_px), 255, dtype=np.uint8)
        if self.kind is Kind.CIRCLES:
            for x, y in self.points_m[:, :2] / self.spacing_m * square_px + margin_px - 0.5:
                center = round(float(x) * 16), round(float(y) * 16)
                cv2.circle(picture, center, round(0.5 * square_px * 16), 0, -1, cv2.LINE_AA, shift=4)
            return picture
        board = margin_px - square_px
        if self.kind is Kind.CHARUCO:
            squares = cast(Image8, self.charuco.generateImage((self.columns * square_px, self.rows * square_px)))
        else:
            y, x = np.mgrid[0 : rows + 1, 0 : columns + 1]
            dark = np.where((x + y) % 2 == 0, 0, 255).astype(np.uint8)
            squares = np.kron(dark, np.ones((square_px, square_px), dtype=np.uint8))
        picture[board : board + squares.shape[0], board : board + squares.shape[1]] = squares
        return picture
