"""Pictures in rows and columns on one dark sheet, such as what each camera sees and what the two become."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path

import cv2
import numpy as np

from rtfusion.errors import SinkError
from rtfusion.files import write_whole
from rtfusion.fusion.color import as_bgr
from rtfusion.types import Image8

CELL_HEIGHT_PX = 300
GAP_PX = 10
MARGIN_PX = 28
HEADER_PX = 34
LABEL_PX = 62
BACKGROUND = (24, 22, 20)
TEXT = (235, 232, 228)
FAINT_TEXT = (150, 146, 140)

Rows = Mapping[str, Sequence[Image8]]
"""The pictures of every row by its label, (H, W) or (H, W, 3) BGR, of any size."""


def save_contact_sheet(path: Path, columns: Sequence[str], rows: Rows) -> None:
    """Write the sheet in the format that the ending of ``path`` names.

    Raises:
        SinkError: the file cannot be written.
    """
    encoded, data = cv2.imencode(path.suffix, draw_contact_sheet(columns, rows))
    if not encoded:
        raise SinkError(f"cannot encode the contact sheet {path}")
    try:
        write_whole(path, data.tobytes())
    except OSError as error:
        raise SinkError(f"cannot write the contact sheet {path}: {error.strerror}") from error


def draw_contact_sheet(columns: Sequence[str], rows: Rows) -> Image8:
    """(H, W, 3) BGR: all pictures of one height, below the names of the columns and to the right of the labels of the rows."""
    cells = [[_cell(picture) for picture in pictures] for pictures in rows.values()]
    widths_px = [max(cell.shape[1] for cell in column) for column in zip(*cells, strict=True)]
    lefts_px = list(accumulate((width_px + GAP_PX for width_px in widths_px), initial=MARGIN_PX + LABEL_PX))
    height_px = 2 * MARGIN_PX + HEADER_PX + len(rows) * (CELL_HEIGHT_PX + GAP_PX) - GAP_PX
    sheet = np.full((height_px, lefts_px[-1] - GAP_PX + MARGIN_PX, 3), BACKGROUND, dtype=np.uint8)
    for left_px, name in zip(lefts_px, columns, strict=False):
        _write(sheet, name, left_px=left_px, baseline_px=MARGIN_PX + HEADER_PX - 14, color=TEXT)
    for index, (label, row) in enumerate(zip(rows, cells, strict=True)):
        top_px = MARGIN_PX + HEADER_PX + index * (CELL_HEIGHT_PX + GAP_PX)
        _write(sheet, label, left_px=MARGIN_PX, baseline_px=top_px + 16, color=FAINT_TEXT)
        for left_px, cell in zip(lefts_px, row, strict=False):
            sheet[top_px : top_px + CELL_HEIGHT_PX, left_px : left_px + cell.shape[1]] = cell
    return sheet


def _cell(picture: Image8) -> Image8:
    """The picture in color, scaled to the height of a row."""
    height_px, width_px = picture.shape[:2]
    size_px = round(width_px * CELL_HEIGHT_PX / height_px), CELL_HEIGHT_PX
    interpolation = cv2.INTER_AREA if height_px > CELL_HEIGHT_PX else cv2.INTER_LINEAR
    return as_bgr(cv2.resize(picture, size_px, interpolation=interpolation).astype(np.uint8, copy=False))


def _write(sheet: Image8, text: str, *, left_px: int, baseline_px: int, color: tuple[int, int, int]) -> None:
    cv2.putText(sheet, text, (left_px, baseline_px), cv2.FONT_HERSHEY_DUPLEX, 0.5, color, 1, cv2.LINE_AA)
