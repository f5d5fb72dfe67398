"""The picture for the person with the board: both cameras, the points found, the parts covered, and one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import cv2
import numpy as np

from rtfusion.types import Band, FramePair, Image, Image8
from rtfusion_calibration.board import Points
from rtfusion_calibration.detect import Sighting, View, as_detected

PANEL_HEIGHT_PX = 480
BAR_PX = 44
COLUMNS, ROWS = 4, 3
"""Parts of the picture that the coverage is told by."""
FOUND = (90, 220, 120)
TAKEN = (90, 200, 255)
TEXT = (235, 232, 228)
BACKGROUND = (24, 22, 20)
_WHERE = (
    ("top left", "top", "top", "top right"),
    ("left", "middle", "middle", "right"),
    ("bottom left", "bottom", "bottom", "bottom right"),
)


class Coverage:
    """A map of where the board has been seen in a picture: the number of its outlines that lie over one another."""

    def __init__(self) -> None:
        self._counts = np.zeros((ROWS * 40, COLUMNS * 40), dtype=np.uint16)

    @property
    def mask(self) -> Image8:
        """Small, 255 where the board was."""
        return np.where(self._counts > 0, 255, 0).astype(np.uint8)

    @property
    def heat(self) -> Image8:
        """Small, 255 where the board was most often."""
        return (self._counts * (255.0 / max(1, int(self._counts.max())))).astype(np.uint8)

    @property
    def share(self) -> float:
        """The covered share of the picture."""
        return float(np.mean(self._counts > 0))

    def add(self, points_px: Points, size_px: tuple[int, int]) -> None:
        """One more view."""
        height, width = self._counts.shape
        scaled = (points_px + 0.5) / np.array(size_px) * (width, height)
        outline = np.zeros((height, width), dtype=np.uint8)
        cv2.fillConvexPoly(outline, cv2.convexHull(scaled.round().astype(np.int32)), (1,))
        self._counts += outline

    def wish(self, count: int) -> str:
        """A wish for the next view; tilt and distance take turns with the least covered part of the picture."""
        cells = (self._counts > 0).reshape(ROWS, 40, COLUMNS, 40).mean(axis=(1, 3))
        row, column = np.unravel_index(int(np.argmin(cells)), cells.shape)
        if cells[row, column] > 0.5:
            return ("tilt it more", "nearer", "farther away", "turn it")[count % 4]
        move = f"move it to the {_WHERE[row][column]}"
        wishes = (move, "tilt it to the side", move, "tilt it up or down", "nearer or farther away")
        return wishes[count % len(wishes)]


def draw(pair: FramePair, view: View | None, coverage: Mapping[Band, Coverage], *, hint: str, takes: bool) -> Image8:
    """(H, W, 3) BGR: visible and thermal beside each other, and the ``hint`` below, in color when the view is taken."""
    seen = view.sightings if view else {}
    frames = (pair.visible, pair.thermal)
    pictures = np.hstack([_panel(one.image, seen.get(one.band), coverage[one.band]) for one in frames])
    bar = np.full((BAR_PX, pictures.shape[1], 3), BACKGROUND, dtype=np.uint8)
    cv2.putText(bar, hint, (16, 29), cv2.FONT_HERSHEY_DUPLEX, 0.7, FOUND if takes else TEXT, 1, cv2.LINE_AA)
    return np.vstack([pictures, bar])


def _panel(image: Image, sighting: Sighting | None, coverage: Coverage) -> Image8:
    height_px, width_px = image.shape[:2]
    factor = PANEL_HEIGHT_PX / height_px
    size_px = round(width_px * factor), PANEL_HEIGHT_PX
    small = cv2.resize(image, size_px, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    if small.ndim == 2:
        # as the detector sees it: what cannot be seen here cannot be found either
        small = cv2.cvtColor(as_detected(cast(Image, small)), cv2.COLOR_GRAY2BGR)
    panel = cast(Image8, small)
    covered = cv2.resize(coverage.mask, size_px, interpolation=cv2.INTER_NEAREST) > 0
    panel[covered] = (0.75 * panel[covered] + 0.25 * np.array(TAKEN)).astype(np.uint8)
    if sighting is not None:
        for x, y in (sighting.points_px + 0.5) * factor - 0.5:
            center = round(float(x) * 16), round(float(y) * 16)
            cv2.circle(panel, center, 4 * 16, FOUND, 2, cv2.LINE_AA, shift=4)
    return panel
