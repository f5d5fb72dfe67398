"""The newest frame, as JPEG in any view: encoded only when somebody asks, and once however many do."""

from __future__ import annotations

import enum
import threading
import time
from typing import cast

import cv2
import numpy as np

from rtfusion.fusion.color import as_bgr, colorize, displacement_bgr, laid_over, palette_bgr
from rtfusion.types import FusedFrame, Image8

INTERVAL_S = 1 / 50
"""Frames that follow faster than this are passed over, so that a recording read at 300 frames/s is not encoded at 300."""
LARGEST_PX = 1920
"""Longer sides are scaled down to this."""
_AS_REGISTERED = np.full((1, 1, 3), 128, np.uint8)


class View(str, enum.Enum):
    """Choice of images in a picture."""

    FUSED = "fused"
    SIDE_BY_SIDE = "side-by-side"
    """visible, thermal, fused from left to right."""
    STACKED = "stacked"
    """visible, thermal, fused from top to bottom, for a screen that is held upright."""
    THERMAL = "thermal"
    VISIBLE = "visible"
    PARALLAX = "parallax"
    """The visible image in the colors of what is nearer and what is farther; gray where nothing is known."""

    def of(self, frame: FusedFrame, *, table_bgr: Image8) -> Image8:
        """(H, W, 3) BGR; the thermal image in the colors of a (256, 1, 3) palette table."""
        if self is View.FUSED:
            return frame.image
        if self is View.VISIBLE:
            return as_bgr(frame.visible)
        if self is View.PARALLAX:
            known = frame.displacement
            return laid_over(frame.visible, _AS_REGISTERED if known is None else displacement_bgr(known))
        thermal = colorize(frame.thermal, table_bgr)
        if self is View.THERMAL:
            return thermal
        join = cv2.hconcat if self is View.SIDE_BY_SIDE else cv2.vconcat
        return cast(Image8, join([as_bgr(frame.visible), thermal, frame.image]))


class LatestFrameEncoder:
    """One thread puts frames, any number of threads look. Holds two frames at most, whatever the lookers do."""

    def __init__(self, *, palette: str, quality: int) -> None:
        self._quality = quality
        self._changed = threading.Condition()
        self._newest: FusedFrame | None = None
        self._shown: FusedFrame | None = None
        self._shown_s = 0.0
        self.closed = False
        """True when the run is over."""
        self._encoding = {view: threading.Lock() for view in View}
        self._encoded: dict[View, tuple[int, str, bytes]] = {}
        self.palette = palette
        """Colors of the thermal image."""

    def put(self, frame: FusedFrame) -> None:
        """Show this frame from now on."""
        with self._changed:
            self._newest = frame
            self._changed.notify_all()

    def close(self) -> None:
        """Wake whoever waits; nothing more will come."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()

    def frame(self, *, after: int | None = None, timeout_s: float = 0.0) -> FusedFrame | None:
        """The newest frame, or the first one that is another than number ``after``; None when none came in time."""
        end_s = time.monotonic() + timeout_s
        with self._changed:
            while not self.closed:
                now_s = time.monotonic()
                due_s = self._shown_s + INTERVAL_S
                if self._newest is not self._shown and now_s >= due_s:
                    self._shown, self._shown_s = self._newest, now_s
                if self._shown is not None and self._shown.sequence != after:
                    return self._shown
                if now_s >= end_s:
                    return None
                self._changed.wait(min(end_s, due_s) - now_s if self._newest is not self._shown else end_s - now_s)
        return None

    def jpeg(self, frame: FusedFrame, view: View) -> bytes:
        """The picture of a frame that `frame` gave."""
        with self._encoding[view]:
            palette = self.palette
            encoded = self._encoded.get(view)
            if encoded is None or encoded[:2] != (frame.sequence, palette):
                picture = _fitted(view.of(frame, table_bgr=palette_bgr(palette)))
                data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, self._quality])[1].tobytes()
                encoded = self._encoded[view] = frame.sequence, palette, data
            return encoded[2]

    def png(self, frame: FusedFrame, view: View) -> bytes:
        """Encode a frame without loss and in full size, to keep."""
        picture = view.of(frame, table_bgr=palette_bgr(self.palette))
        return cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


def _fitted(picture: Image8) -> Image8:
    height, width = picture.shape[:2]
    scale = LARGEST_PX / max(height, width)
    if scale >= 1.0:
        return picture
    size_px = max(1, round(width * scale)), max(1, round(height * scale))
    return cast(Image8, cv2.resize(picture, size_px, interpolation=cv2.INTER_AREA))
