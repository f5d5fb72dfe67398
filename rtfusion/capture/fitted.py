"""A recording whose pictures change their size keeps to the size of its start, as cameras do (`rtfusion.capture.watchdog`)."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import cv2

from rtfusion.capture.base import Source
from rtfusion.capture.wrapped import WrappedSource
from rtfusion.types import Frame

SAME_ASPECT = 0.02


class FittedSource(WrappedSource):
    """A recording in one size: frames of another one are scaled; of another aspect they are another view, and left out."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self._own_notes: dict[tuple[int, int], str] = {}
        self._left_out: Counter[str] = Counter()

    @property
    def drops(self) -> dict[str, int]:
        """Frames lost inside the source, by cause; ``size``: of another view."""
        return {**self._source.drops, **self._left_out}

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the user about the source."""
        return (*self._own_notes.values(), *self._source.notes)

    def read(self, *, timeout_s: float) -> Frame:
        """The next frame that shows the view of the first one, in its size; raises as the source."""
        while True:
            frame = self._source.read(timeout_s=timeout_s)
            if frame.size_px == self.info.size_px:
                return frame
            fitted = self._fitted(frame)
            if fitted is not None:
                return fitted
            self._left_out["size"] += 1

    def _fitted(self, frame: Frame) -> Frame | None:
        (width, height), (old_width, old_height) = frame.size_px, self.info.size_px
        same_view = abs(width * old_height / (height * old_width) - 1) <= SAME_ASPECT
        if frame.size_px not in self._own_notes:
            became = "they are scaled" if same_view else "that is another view, and they are left out"
            self._own_notes[frame.size_px] = (
                f"{self.info.uri}: from frame {frame.sequence} on, {frame.timestamp_ns / 1e9:.1f} s, frames are {width}x{height} "
                f"instead of {old_width}x{old_height}; {became}"
            )
        if not same_view:
            return None
        way = cv2.INTER_AREA if width > old_width else cv2.INTER_LINEAR
        image: Any = cv2.resize(frame.image, self.info.size_px, interpolation=way)
        return replace(frame, image=image)
