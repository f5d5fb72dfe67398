"""The map of parallax that goes with a frame (docs/wire-format.md): bytes in, checked values out, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from rtfusion.publish.targets import decode_mask, is_mask
from rtfusion.types import Displacement

MAX_MAP_BYTES = 24_576
"""Beside a map of people of the largest size, and all else that is in a header."""
SURE_PX = 1.0
"""Doubt up to which a displacement is told."""
_STEPS = 254
_NUMBERS = ("px_at_level_1", "px_per_level")
_KEYS = {"map", "direction", *_NUMBERS}


def encode_displacement(displacement: Displacement) -> dict[str, Any]:
    """The value of the header: the map as a PNG file of gray levels, smaller by halves where it is too long."""
    px_per_level = (displacement.nearest_px - displacement.farthest_px) / _STEPS
    levels = 1 + np.rint((displacement.cells_px - displacement.farthest_px) / px_per_level)
    levels = np.clip(levels, 1, 1 + _STEPS).astype(np.uint8)
    if displacement.doubt_px is not None:
        levels[displacement.doubt_px > SURE_PX] = 0
    while len(packed := cv2.imencode(".png", levels)[1].tobytes()) > MAX_MAP_BYTES:
        levels = levels[::2, ::2]
    return {
        "map": packed,
        "px_at_level_1": float(displacement.farthest_px),
        "px_per_level": float(px_per_level),
        "direction": [float(share) for share in displacement.direction],
    }


def is_displacement(value: object) -> bool:
    """Tell what may be a map of parallax, before a decoder makes room for it. Keys that are not known are let through."""
    if not isinstance(value, Mapping) or not value.keys() >= _KEYS or not is_mask(value["map"]):
        return False
    direction = value["direction"]
    numbers = [value[name] for name in _NUMBERS]
    if not isinstance(direction, list) or len(direction) != 2:
        return False
    return all(type(one) in (int, float) and math.isfinite(one) for one in [*numbers, *direction])


def decode_displacement(value: Mapping[str, Any]) -> Displacement:
    """The map that a header holds: ``doubt_px`` is infinite where the publisher is not sure, and 0 elsewhere.

    Raises:
        WireError: it is no PNG file of gray levels.
    """
    levels = decode_mask(value["map"])
    farthest_px, px_per_level = (float(value[name]) for name in _NUMBERS)
    sure = levels > 0
    cells_px = np.where(sure, farthest_px + px_per_level * (levels.astype(np.float32) - 1), 0)
    return Displacement(
        cells_px=cells_px.astype(np.float32),
        farthest_px=farthest_px,
        nearest_px=farthest_px + _STEPS * px_per_level,
        direction=(float(value["direction"][0]), float(value["direction"][1])),
        doubt_px=np.where(sure, 0, np.inf).astype(np.float32),
    )
