"""A fuser whose frames say in what state the cameras were: one lost, the shutter closed, and how warm the scene is."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from rtfusion.fusion.base import Fuser
from rtfusion.fusion.color import as_bgr
from rtfusion.fusion.tone import in_units
from rtfusion.registration import Calibration, Registration, register
from rtfusion.types import Band, Frame, FramePair, FusedFrame, Image8, PixelFormat

SYMBOLS = {"celsius": "C", "fahrenheit": "F", "kelvin": "K", "counts": ""}
_WHITE, _BLACK, _RED, _BLUE = (255, 255, 255), (0, 0, 0), (60, 60, 255), (255, 160, 60)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


class MarkedFuser:
    """Passes pairs on to another fuser and marks what comes back.

    While a camera is lost and its last frame is not to be shown, the picture is that of the other camera alone. With
    ``units``, the spot in the middle, the coldest and the warmest point are measured, drawn and published; temperatures
    need a camera that gives them, counts any that gives counts. The shutter's own picture is never measured.
    """

    def __init__(self, fuser: Fuser, *, units: str | None = None, grid: str = "visible") -> None:
        self._fuser = fuser
        self._units = units
        self._grid = grid
        self._register = functools.lru_cache(maxsize=1)(_registration)

    @property
    def name(self) -> str:
        """For tables and headers."""
        return self._fuser.name

    @property
    def engine(self) -> str | None:
        """What runs the network, where there is one."""
        return self._fuser.engine

    @property
    def calibration(self) -> Calibration | None:
        """The one in use, or about to be."""
        return self._fuser.calibration

    @property
    def scalars(self) -> Mapping[str, float]:
        """The dials of the model and where they stand."""
        return self._fuser.scalars

    @property
    def palette(self) -> str | None:
        """The colors of the fused picture, where there are any."""
        return self._fuser.palette

    def change(
        self,
        *,
        calibration: Calibration | None = None,
        model: Path | None = None,
        palette: str | None = None,
        **scalars: float,
    ) -> None:
        """Use these from the next frame on; see `rtfusion.fusion.base.Control`."""
        self._fuser.change(calibration=calibration, model=model, palette=palette, **scalars)

    def close(self) -> None:
        """Release the device."""
        self._fuser.close()

    def __call__(self, pair: FramePair) -> FusedFrame:
        """Fuse one pair, and mark the frame."""
        fused = self._fuser(pair)
        marks: dict[str, Any] = {"shutter": True} if pair.thermal.shutter else {}
        image = fused.image
        if pair.degraded is not None and not pair.degraded.held:
            image = as_bgr(fused.visible if pair.degraded.lost is Band.THERMAL else fused.thermal)
        if self._units is not None and pair.thermal.pixel_format is PixelFormat.GRAY16 and _sees_heat(pair):
            image = image.copy() if image is fused.visible else image
            marks |= self._measure(pair.thermal, pair, image)
        if not marks and pair.degraded is None:
            return fused
        return replace(fused, image=image, degraded=pair.degraded, thermal_state={**fused.thermal_state, **marks})

    def _measure(self, thermal: Frame, pair: FramePair, image: Image8) -> dict[str, Any]:
        """The readings for the header; draws them into ``image``."""
        registration = self._register(
            visible_size_px=pair.visible.size_px,
            thermal_size_px=thermal.size_px,
            calibration=self._fuser.calibration,
            grid=self._grid,
        )
        counts: Any = registration.thermal(thermal.image)
        valid = registration.valid if self._grid == "visible" else None
        low, high, low_at, high_at = cv2.minMaxLoc(counts, mask=valid)
        middle = counts.shape[1] // 2, counts.shape[0] // 2
        assert self._units is not None  # noqa: S101 - the caller asked
        convert = functools.partial(in_units, units=self._units, kelvin_per_count=thermal.kelvin_per_count)
        points = (("spot", middle, float(counts[middle[1], middle[0]])), ("min", low_at, low), ("max", high_at, high))
        readings: dict[str, Any] = {}
        for (name, at, value), color in zip(points, (_WHITE, _BLUE, _RED), strict=True):
            reading = convert(value)
            if reading is None or (valid is not None and not valid[at[1], at[0]]):
                continue
            readings[name] = round(reading, 2)
            _draw(
                image, at, f"{reading:.{0 if self._units == 'counts' else 1}f} {SYMBOLS[self._units]}".rstrip(), color
            )
        return readings | ({"units": self._units} if readings else {})


def _sees_heat(pair: FramePair) -> bool:
    """Whether the thermal picture is there, and of the scene as it was a moment ago at most."""
    return pair.degraded is None or pair.degraded.lost is Band.VISIBLE


def _registration(
    *,
    visible_size_px: tuple[int, int],
    thermal_size_px: tuple[int, int],
    calibration: Calibration | None,
    grid: str,
) -> Registration:
    return register(
        visible_size_px=visible_size_px, thermal_size_px=thermal_size_px, calibration=calibration, grid=grid
    )


def _draw(image: Image8, at: tuple[int, int] | Any, text: str, color: tuple[int, int, int]) -> None:
    """A cross and a number beside it, legible on any ground and always inside of the picture."""
    height, width = image.shape[:2]
    scale = max(0.35, min(width, height) / 1000)
    (text_width, text_height), _ = cv2.getTextSize(text, _FONT, scale, 1)
    arm = round(12 * scale)
    left = int(np.clip(at[0] + arm, 0, max(0, width - text_width - 1)))
    base = int(np.clip(at[1] - arm, text_height + 1, height - 1))
    for ink, thickness in ((_BLACK, 3), (color, 1)):
        cv2.drawMarker(image, (int(at[0]), int(at[1])), ink, cv2.MARKER_CROSS, 2 * arm, thickness)
        cv2.putText(image, text, (left, base), _FONT, scale, ink, thickness, cv2.LINE_AA)
