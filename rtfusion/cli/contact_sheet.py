"""The picture of a demo: moments in rows, and in columns what each camera sees and what the two become."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from rtfusion.errors import SinkError
from rtfusion.files import write_whole
from rtfusion.types import Image, Image8

COLUMNS = ("visible", "thermal, as its camera sees it", "fused")
CELL_HEIGHT_PX = 300
GAP_PX = 10
MARGIN_PX = 28
HEADER_PX = 34
TIME_PX = 62
BACKGROUND = (24, 22, 20)
TEXT = (235, 232, 228)
FAINT_TEXT = (150, 146, 140)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Moment:
    """Three pictures of one moment, 8 bit, (H, W) or (H, W, 3) BGR, of any size."""

    time_s: float
    visible: Image
    thermal: Image
    fused: Image


def save_contact_sheet(path: Path, moments: Sequence[Moment]) -> None:
    """Write the sheet as a PNG.

    Raises:
        SinkError: the file cannot be written.
    """
    encoded, data = cv2.imencode(".png", draw_contact_sheet(moments))
    if not encoded:
        raise SinkError(f"cannot encode the contact sheet {path} as PNG")
    try:
        write_whole(path, data.tobytes())
    except OSError as error:
        raise SinkError(f"cannot write the contact sheet {path}: {error.strerror}") from error


def draw_contact_sheet(moments: Sequence[Moment]) -> Image8:
    """(H, W, 3) BGR: one row per moment, all pictures of one height, on a dark ground."""
    rows = [[_cell(picture) for picture in (moment.visible, moment.thermal, moment.fused)] for moment in moments]
    widths_px = [max(row[column].shape[1] for row in rows) for column in range(len(COLUMNS))]
    lefts_px = [MARGIN_PX + TIME_PX + sum(widths_px[:column]) + column * GAP_PX for column in range(len(COLUMNS))]
    height_px = 2 * MARGIN_PX + HEADER_PX + len(rows) * (CELL_HEIGHT_PX + GAP_PX) - GAP_PX
    sheet = np.full((height_px, lefts_px[-1] + widths_px[-1] + MARGIN_PX, 3), BACKGROUND, dtype=np.uint8)
    for left_px, label in zip(lefts_px, COLUMNS, strict=True):
        _write(sheet, label, left_px=left_px, baseline_px=MARGIN_PX + HEADER_PX - 14, color=TEXT)
    for index, (moment, row) in enumerate(zip(moments, rows, strict=True)):
        top_px = MARGIN_PX + HEADER_PX + index * (CELL_HEIGHT_PX + GAP_PX)
        _write(sheet, f"{moment.time_s:.1f} s", left_px=MARGIN_PX, baseline_px=top_px + 16, color=FAINT_TEXT)
        for left_px, cell in zip(lefts_px, row, strict=True):
            sheet[top_px : top_px + CELL_HEIGHT_PX, left_px : left_px + cell.shape[1]] = cell
    return sheet


def _cell(picture: Image) -> Image8:
    """The picture in color, scaled to the height of a row."""
    height_px, width_px = picture.shape[:2]
    size_px = round(width_px * CELL_HEIGHT_PX / height_px), CELL_HEIGHT_PX
    shrinks = height_px > CELL_HEIGHT_PX
    scaled = cv2.resize(picture, size_px, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return scaled if scaled.ndim == 3 else cv2.cvtColor(scaled, cv2.COLOR_GRAY2BGR)  # type: ignore[return-value]


def _write(sheet: Image8, text: str, *, left_px: int, baseline_px: int, color: tuple[int, int, int]) -> None:
    cv2.putText(sheet, text, (left_px, baseline_px), cv2.FONT_HERSHEY_DUPLEX, 0.5, color, 1, cv2.LINE_AA)
