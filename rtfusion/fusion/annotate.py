"""Annotation of a fused frame: a camera that is lost, a closed shutter, and the temperatures of the scene."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from rtfusion.fusion.color import as_bgr
from rtfusion.fusion.tone import in_units
from rtfusion.registration import RegisteredPair
from rtfusion.types import Band, Frame, FramePair, Image8, PixelFormat

SYMBOLS = {"celsius": "C", "fahrenheit": "F", "kelvin": "K", "counts": ""}
_WHITE, _BLACK, _RED, _BLUE = (255, 255, 255), (0, 0, 0), (60, 60, 255), (255, 160, 60)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def annotate(registered: RegisteredPair, image: Image8, *, units: str | None) -> tuple[Image8, dict[str, Any]]:
    """Mark a fused image: the image to show, and what a header says of the thermal camera.

    While a camera is lost and its last frame is not to be shown, the image is that of the other camera alone. With ``units``
    the middle, the coldest and the warmest point are measured and drawn; temperatures need a camera that gives them, counts
    any camera that gives counts. The shutter's own picture is never measured.
    """
    pair = registered.pair
    marks: dict[str, Any] = {"shutter": True} if pair.thermal.shutter else {}
    if pair.degraded is not None and not pair.degraded.held:
        image = as_bgr(registered.visible if pair.degraded.lost is Band.THERMAL else registered.thermal)
    if units is not None and pair.thermal.pixel_format is PixelFormat.GRAY16 and _sees_heat(pair):
        image = image.copy() if image is registered.visible else image
        marks |= _measure(registered, image, units)
    return image, marks


def unmeasured(thermal: Frame, *, units: str | None) -> str | None:
    """Why nothing of a thermal frame can be measured in these units, as a sentence; None where it can, or nothing is asked."""
    if units is None:
        return None
    if thermal.pixel_format is not PixelFormat.GRAY16:
        return f"nothing is measured in {units}: the thermal source gives gray levels, and no counts"
    if units != "counts" and thermal.kelvin_per_count is None:
        return f"nothing is measured in {units}: the thermal source gives counts, and no temperatures; use units counts"
    return None


def _measure(registered: RegisteredPair, image: Image8, units: str) -> dict[str, Any]:
    """The readings for the header; draws them into ``image``."""
    thermal, counts = registered.pair.thermal, registered.counts
    # where the thermal image was not moved, it has a pixel everywhere
    valid = None if registered.registration.thermal.is_identity else registered.valid
    low, high, low_at, high_at = cv2.minMaxLoc(counts, mask=valid)
    middle = counts.shape[1] // 2, counts.shape[0] // 2
    points = (("spot", middle, float(counts[middle[1], middle[0]])), ("min", low_at, low), ("max", high_at, high))
    readings: dict[str, Any] = {}
    for (name, at, value), color in zip(points, (_WHITE, _BLUE, _RED), strict=True):
        reading = in_units(value, units=units, kelvin_per_count=thermal.kelvin_per_count)
        if reading is None or (valid is not None and not valid[at[1], at[0]]):
            continue
        readings[name] = round(reading, 2)
        _draw(image, at, f"{reading:.{0 if units == 'counts' else 1}f} {SYMBOLS[units]}".rstrip(), color)
    return readings | ({"units": units} if readings else {})


def _sees_heat(pair: FramePair) -> bool:
    """Tell whether the thermal picture is there, and of the scene as it was a moment ago at most."""
    return pair.degraded is None or pair.degraded.lost is Band.VISIBLE


def _draw(image: Image8, at: tuple[int, int] | Any, text: str, color: tuple[int, int, int]) -> None:
    """Draw a cross and a number beside it, legible on any ground and always inside the picture."""
    height, width = image.shape[:2]
    scale = max(0.35, min(width, height) / 1000)
    (text_width, text_height), _ = cv2.getTextSize(text, _FONT, scale, 1)
    arm = round(12 * scale)
    left = int(np.clip(at[0] + arm, 0, max(0, width - text_width - 1)))
    base = int(np.clip(at[1] - arm, text_height + 1, height - 1))
    for ink, thickness in ((_BLACK, 3), (color, 1)):
        cv2.drawMarker(image, (int(at[0]), int(at[1])), ink, cv2.MARKER_CROSS, 2 * arm, thickness)
        cv2.putText(image, text, (left, base), _FONT, scale, ink, thickness, cv2.LINE_AA)
