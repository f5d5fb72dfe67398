"""Blocks of strongly compressed pictures (JPEG, MPEG): seen by their steps, and smoothed before a fuser raises them to contours.

Codecs cut a picture into blocks of 8 pixels a side and code each one for itself, so that where few bits are left its neighbors
differ by a step. A step is spread over both blocks, as the strong filter of H.264 does (ITU-T H.264, 8.7): only where both sides
are flat, and where it is small enough to come from the codec.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple, cast

import cv2
import numpy as np

from rtfusion.fusion.buffers import Pool
from rtfusion.fusion.color import luminance
from rtfusion.fusion.passes import OPENCV, Passes
from rtfusion.smoothing import turn_at
from rtfusion.types import Frame, Image8

BLOCK_PX = 8
SEEN_STEP_LEVELS = 12
"""Steps count up to so many gray levels: an edge of the scene must not speak for a grid."""
SAMPLE_STEP = 3
"""Steps are measured on every third line, which meets every place of a block."""
GRID_RATIO = 1.25
"""How much larger the steps between blocks are than those within, from where on there is a grid."""
LEAST_STEP_LEVELS = 1.2
"""And how much larger at least, gray levels: less, as in good video, does not show."""
STEPS_TO_SMOOTH = 6.0
"""Largest step that is smoothed, over the mean excess of the steps between blocks."""
LARGEST_STEP_LEVELS = 30.0


LOOKS_PER_BEAT = 23
"""The grid is searched for once in .43 s of a stream: a codec keeps its own."""


class Grid(NamedTuple):
    """Where the blocks of a picture begin along one axis, and how far their borders stand out."""

    phase_px: int
    """The first pixel of a block, 0 to 7."""
    step_levels: float
    """Mean of the steps between blocks less that of the steps within, gray levels."""


class Grids(NamedTuple):
    """The borders of blocks in a picture; None along an axis where none stand out."""

    rows: Grid | None
    columns: Grid | None


def find_grids(image: Image8) -> Grids:
    """Find the blocks of an (H, W) uint8 image by their steps."""
    return Grids(rows=_grid(image[:, ::SAMPLE_STEP]), columns=_grid(image[::SAMPLE_STEP].T))


def smooth_blocks(image: Image8, grids: Grids, *, passes: Passes = OPENCV) -> Image8:
    """An (H, W) uint8 image without the steps between its blocks: of its own, or the same one where there are no grids."""
    if grids.rows is not None:
        image = image.copy()
        _smooth_rows(image, grids.rows, passes)
    if grids.columns is not None:
        turned = cast(Image8, cv2.transpose(image))
        _smooth_rows(turned, grids.columns, passes)
        image = cast(Image8, cv2.transpose(turned))
    return image


def _grid(lines: Image8) -> Grid | None:
    """The grid between the rows of ``lines``."""
    if len(lines) < 4 * BLOCK_PX or not lines.size:
        return None
    lines = np.ascontiguousarray(lines)
    steps = cv2.min(cv2.absdiff(lines[1:], lines[:-1]), cast(Any, (SEEN_STEP_LEVELS,)))
    means = cv2.reduce(steps, 1, cv2.REDUCE_SUM, dtype=cv2.CV_32S)[:, 0] / steps.shape[1]
    by_phase = means[: len(means) // BLOCK_PX * BLOCK_PX].reshape(-1, BLOCK_PX).mean(axis=0)
    between = int(by_phase.argmax())
    within = float(np.median(np.delete(by_phase, between)))
    excess = float(by_phase[between]) - within
    if excess < max((GRID_RATIO - 1) * within, LEAST_STEP_LEVELS):
        return None
    return Grid(phase_px=(between + 1) % BLOCK_PX, step_levels=excess)


def _smooth_rows(image: Image8, grid: Grid, passes: Passes) -> None:
    """Smooth the steps between rows of blocks, in place, where they are small enough to be those of the grid."""
    half = BLOCK_PX // 2
    first = grid.phase_px if grid.phase_px >= half else grid.phase_px + BLOCK_PX
    borders = (len(image) - half - first) // BLOCK_PX + 1
    if borders < 1:
        return
    largest = min(STEPS_TO_SMOOTH * grid.step_levels + 2.0, LARGEST_STEP_LEVELS)
    passes.smooth(image, first_px=first - half, borders=borders, largest_levels=largest)


class Deblocker:
    """Smooths the blocks of the frames of one band, in their order; frames without any, and raw counts, stay as they are.

    Args:
        still: for unrelated images, in each of which the blocks are searched anew.
        passes: what is done to pixels.
    """

    def __init__(self, *, still: bool, passes: Passes = OPENCV) -> None:
        self._still = still
        self._passes = passes
        self._turn: int | None = None
        self._grids = Grids(None, None)
        self._size: tuple[int, ...] = ()
        self._pool = Pool()
        self._last: tuple[Frame, Frame] | None = None
        """The last frame as it came and as it went: a thermal frame may serve several visible ones."""

    @property
    def works(self) -> bool:
        """True while there are blocks to smooth."""
        return self._grids != (None, None)

    def __call__(self, frame: Frame) -> Frame:
        """The frame without steps between blocks: itself, or one with an image of its own, whose chroma is the same."""
        if frame.image.dtype != np.uint8:
            return frame
        if self._last is None or self._last[0] is not frame:
            image = self._smoothed(cast(Image8, frame.image), timestamp_ns=frame.timestamp_ns)
            self._last = frame, frame if image is frame.image else replace(frame, image=image)
        return self._last[1]

    def _smoothed(self, image: Image8, *, timestamp_ns: int) -> Image8:
        turn = turn_at(timestamp_ns, per_beat=LOOKS_PER_BEAT)
        is_due = self._still or turn != self._turn or self._size != image.shape
        self._turn = turn
        if not (is_due or self.works):
            return image
        plane = luminance(image, take=self._pool.take)
        if is_due:
            self._grids, self._size = find_grids(plane), image.shape
        smooth = smooth_blocks(plane, self._grids, passes=self._passes)
        if smooth is plane or image.ndim == 2:
            return image if smooth is plane else smooth
        return self._passes.compose(visible=image, visible_y=plane, fused_y=smooth, take=self._pool.take)
