"""What stands still in a thermal recording while the scene moves: marks that the camera draws, and borders around the picture."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from rtfusion.capture.base import Source
from rtfusion.capture.wrapped import WrappedSource
from rtfusion.types import Frame, Image, PixelFormat

LEAST_FRAMES, MOST_FRAMES = 30, 120
"""So many frames must agree; after so many nothing is looked for any more."""
LOOK_EVERY = 15
WHITE, EDGE = 245, 60
"""Marks are drawn in white, and end in steps of so many levels."""
LARGEST_SHARE = 0.1
"""What covers more of the picture is no mark."""
LEAST_PX = 12
MOVED, MOVED_SHARE = 6, 0.1
"""A scene has moved where this share of its pixels has changed by so many levels since the beginning."""
DARK, FLAT, BORDER_SHARE = 24, 3, 0.03
"""A border is as dark in all frames, plain but for so many levels, and at least this share of the width or the height."""


class MarkedSource(WrappedSource):
    """A thermal recording, passed on as it is, with a note on what is drawn over it."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self._watch: StillMarks | None = StillMarks()
        self._found: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the user about the source."""
        return (*self._source.notes, *self._found)

    def changed(self, frame: Frame) -> Frame:
        """The frame itself; it is only looked at."""
        if self._watch is not None and frame.pixel_format is PixelFormat.GRAY8 and not frame.shutter:
            self._watch.push(frame.image)
            if self._watch.frames % LOOK_EVERY:
                return frame
            notes = self._watch.notes()
            self._found = tuple(f"{self.info.uri}: {note}" for note in notes)
            if notes or self._watch.frames >= MOST_FRAMES:
                self._watch = None
        return frame


class StillMarks:
    """Looks for bright marks and dark borders that are the same in many frames of a scene that moves."""

    def __init__(self) -> None:
        self.frames = 0
        self._least: Any = None
        self._most: Any = None

    def push(self, image: Image) -> None:
        """Look at one more (H, W) picture of 8 bits."""
        if self._least is None or self._least.shape != image.shape:
            self.frames, self._least, self._most = 0, image.copy(), image.copy()
        self.frames += 1
        cv2.min(self._least, image, dst=self._least)
        cv2.max(self._most, image, dst=self._most)

    def notes(self) -> list[str]:
        """What stands still, once enough frames of a moving scene were seen."""
        if self.frames < LEAST_FRAMES:
            return []
        spread = cv2.subtract(self._most, self._least)
        if np.count_nonzero(spread > MOVED) < MOVED_SHARE * spread.size:
            return []
        found = [self._border(spread)]
        found += [None] if found[0] else [self._mark(spread)]
        return [note for note in found if note is not None]

    def _mark(self, spread: npt.NDArray[Any]) -> str | None:
        still = ((self._least >= WHITE) & (spread <= 255 - WHITE)).astype(np.uint8)
        if np.count_nonzero(still) < LEAST_PX:
            return None
        steps = cv2.morphologyEx(self._least, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
        # of what is bright by itself the brightness falls off; what is drawn ends at once
        count, _, parts, _ = cv2.connectedComponentsWithStats(cv2.dilate(still, np.ones((5, 9), np.uint8)))
        drawn = []
        for x, y, width, height, _ in parts[1:count]:
            inside = still[y : y + height, x : x + width] > 0
            rim = inside & (cv2.erode(inside.astype(np.uint8), np.ones((3, 3), np.uint8)) == 0)
            sharp = np.count_nonzero(steps[y : y + height, x : x + width][rim] >= EDGE)
            if np.count_nonzero(inside) >= LEAST_PX and sharp >= 0.8 * np.count_nonzero(rim):
                drawn.append((int(x), int(y), int(width), int(height)))
        if not drawn or sum(width * height for _, _, width, height in drawn) > LARGEST_SHARE * still.size:
            return None
        masks = ";".join(",".join(map(str, part)) for part in drawn[:4])
        return (
            f"something white stands still in it, as what a camera draws over its picture; ?mask={masks} takes it out"
        )

    def _border(self, spread: npt.NDArray[Any]) -> str | None:
        plain = (self._most <= DARK) & (spread <= FLAT)
        if not plain.any() or self._most[plain].max() - int(self._least[plain].min()) > 2 * FLAT:
            return None
        columns, rows = np.flatnonzero(~plain.all(axis=0)), np.flatnonzero(~plain.all(axis=1))
        height, width = plain.shape
        if not columns.size:
            return None
        x, y = int(columns[0]), int(rows[0])
        wide, high = int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y
        if wide > (1 - BORDER_SHARE) * width and high > (1 - BORDER_SHARE) * height:
            return None
        return f"it has a dark border around a picture of {wide}x{high}; ?crop={x},{y},{wide},{high} leaves it out"
