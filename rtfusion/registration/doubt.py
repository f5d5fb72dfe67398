"""How far the thermal picture may lie from where a registration puts it: as a calibration tells it, or by a map of parallax.

Doubt is (rows, columns) over the picture, in pixels of the grid; (1, 1) where it is the same everywhere.
"""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from rtfusion.registration.calibration import Calibration

BESIDE_CELLS = 5
"""Side of the square in which a map of parallax is looked at: where it changes, one of two displacements is the wrong one."""
OF_CHANGE = 1.2
"""Pixels of doubt for a pixel by which the map changes there: of the places about people of a street, whose depth is known,
five in six are off by less."""
NEW_PX, KNOWN_FRAMES = 3.0, 12
"""Doubt about what has just appeared, and frames after which nothing is left of it."""

Doubt = npt.NDArray[np.float32]


def everywhere(doubt_px: float) -> Doubt:
    """The same doubt at every place."""
    return np.full((1, 1), doubt_px, np.float32)


def told(calibration: Calibration, *, width_px: int) -> Doubt | None:
    """What the calibration says of its own uncertainty, for a visible picture of this width; None where it says nothing."""
    quality = calibration.quality
    if quality is None:
        return None
    doubt_px = quality.uncertainty_at_px(calibration.distance_m)
    if doubt_px is None:  # of a scene there is one number for the picture
        doubt_px = quality.standard_deviations.get("picture_px")
    return None if doubt_px is None else everywhere(doubt_px * width_px / calibration.visible.width_px)


def of_displacement(now_px: Doubt, *, goal_px: Doubt, age_frames: Doubt | None) -> Doubt:
    """The doubt about every cell of a map of displacements, (rows, columns) each.

    It is the most of three things: by how much the map changes about a cell, how far the cell still has to go to what was
    measured, and how new its thing is. ``age_frames`` say for how long that has been seen; None where nothing is older than the
    picture.
    """
    square = np.ones((BESIDE_CELLS, BESIDE_CELLS), np.uint8)
    changes_px = cv2.subtract(cv2.dilate(now_px, square), cv2.erode(now_px, square))
    doubt_px = np.maximum(np.float32(OF_CHANGE) * changes_px, np.abs(goal_px - now_px))
    if age_frames is not None:
        doubt_px = np.maximum(doubt_px, np.float32(NEW_PX) * (1 - age_frames / np.float32(KNOWN_FRAMES)))
    return cast(Doubt, doubt_px)
