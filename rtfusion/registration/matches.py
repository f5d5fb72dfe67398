"""Cells of one band that are found in the other by their descriptors: wherever they lie, or near their own place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from rtfusion.registration.descriptors import CELL_PX, Described
from rtfusion.registration.structure import Points

Floats = npt.NDArray[np.float32]
NOWHERE = -1e4
"""In place of the logit of a cell beyond the picture."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Matches:
    """Places found in both pictures."""

    visible_px: Points
    """(N, 2) the middles of cells of the visible picture."""
    thermal_px: Points
    """(N, 2) their places in the thermal picture, to a fraction of a pixel."""
    confidence: npt.NDArray[np.float64]
    """(N,) the probability, to within a cell, that both are of one thing."""

    def __len__(self) -> int:
        return len(self.confidence)


def match_anywhere(described: Described) -> Matches:
    """The cells that choose one another among all cells of both pictures.

    The confidence is the product of the shares that each has of the other's choice: what looks like many things is sure of none.
    """
    (rows, columns), channels = described.thermal.shape[:2], described.visible.shape[2]
    logits = described.visible.reshape(-1, channels) @ described.thermal.reshape(-1, channels).T
    of_visible, of_thermal = logits.argmax(axis=1), logits.argmax(axis=0)
    index = np.arange(len(logits))
    mutual = of_thermal[of_visible] == index
    at, to = index[mutual], of_visible[mutual]
    sure = np.exp(2 * logits[at, to] - _log_sum(logits, axis=1)[at] - _log_sum(logits, axis=0)[to])
    padded = np.full((len(at), 3, 3), NOWHERE, np.float32)
    for y in (-1, 0, 1):
        for x in (-1, 0, 1):
            row, column = to // columns + y, to % columns + x
            inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
            padded[inside, y + 1, x + 1] = logits[at[inside], (row * columns + column)[inside]]
    cells = np.column_stack([to % columns, to // columns]) + _middle(padded)
    width = described.visible.shape[1]
    return Matches(
        visible_px=_pixels(np.column_stack([at % width, at // width])),
        thermal_px=_pixels(cells),
        confidence=sure.astype(np.float64),
    )


def match_nearby(described: Described, *, radius: int) -> Matches:
    """Where every cell of the visible picture lies in the thermal one, less than ``radius`` cells from its own place.

    Both pictures are of one size. The confidence is as that of `match_anywhere`, among the cells that are near.
    """
    side = 2 * radius + 1
    shifts = [(y, x) for y in range(-radius, radius + 1) for x in range(-radius, radius + 1)]
    logits = np.stack([_logits_at(described, y, x) for y, x in shifts])
    rows, columns = logits.shape[1:]
    # the same as the thermal cells see it
    theirs = np.stack([_shifted(plane, -y, -x) for plane, (y, x) in zip(logits, shifts, strict=True)])
    flat = logits.reshape(side * side, -1)
    best, index = flat.argmax(axis=0), np.arange(rows * columns)
    dy, dx = best // side - radius, best % side - radius
    inside = (np.abs(dy) < radius) & (np.abs(dx) < radius)
    at, best, dy, dx = index[inside], best[inside], dy[inside], dx[inside]
    there = at + dy * columns + dx
    ours, other = _log_sum(flat, axis=0)[at], _log_sum(theirs.reshape(side * side, -1), axis=0)[there]
    around = np.stack([flat[best + y * side + x, at] for y in (-1, 0, 1) for x in (-1, 0, 1)], axis=1).reshape(-1, 3, 3)
    cells = np.column_stack([at % columns, at // columns])
    return Matches(
        visible_px=_pixels(cells),
        thermal_px=_pixels(cells + np.column_stack([dx, dy]) + _middle(around)),
        confidence=np.exp(2 * flat[best, at] - ours - other).astype(np.float64),
    )


def _logits_at(described: Described, y: int, x: int) -> Floats:
    """Every visible cell with the thermal cell (y, x) farther; far below any logit beyond the picture."""
    here, there = _overlap(described.visible.shape[:2], y, x)
    result = np.full(described.visible.shape[:2], NOWHERE, np.float32)
    result[here] = np.einsum("ijk,ijk->ij", described.visible[here], described.thermal[there])
    return result


def _shifted(plane: Floats, y: int, x: int) -> Floats:
    """What is at (row + y, column + x)."""
    here, there = _overlap(plane.shape, y, x)
    result = np.full_like(plane, NOWHERE)
    result[here] = plane[there]
    return result


def _overlap(shape: tuple[int, ...], y: int, x: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The cells that have one (y, x) farther, and those."""
    rows, columns = shape
    here = slice(max(0, -y), rows - max(0, y)), slice(max(0, -x), columns - max(0, x))
    there = slice(max(0, y), rows - max(0, -y)), slice(max(0, x), columns - max(0, -x))
    return here, there


def _middle(logits: Floats) -> Points:
    """(N, 2): the mean (x, y) of the places of (N, 3, 3) logits, as their probabilities weigh them, from the middle one."""
    mass = np.exp(logits - logits.max(axis=(1, 2), keepdims=True))
    mass /= mass.sum(axis=(1, 2), keepdims=True)
    steps = np.array([-1.0, 0.0, 1.0])
    return np.column_stack([mass.sum(axis=1) @ steps, mass.sum(axis=2) @ steps])


def _log_sum(logits: Floats, *, axis: int) -> Floats:
    peak = logits.max(axis=axis, keepdims=True)
    return cast(Floats, np.log(np.exp(logits - peak).sum(axis=axis)) + peak.squeeze(axis))


def _pixels(cells: Points) -> Points:
    return np.asarray(cells, np.float64) * CELL_PX + (CELL_PX - 1) / 2
