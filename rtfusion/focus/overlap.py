"""How far boxes overlap. Boxes are (n, 4) arrays of x0, y0, x1, y1 in pixels, x1 and y1 exclusive."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def intersections(boxes: Floats, others: Floats) -> Floats:
    """(n, m) areas that each of ``boxes`` shares with each of ``others``."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return np.clip(high - low, 0.0, None).prod(axis=2)


def areas(boxes: Floats) -> Floats:
    """(n,) areas."""
    return (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)


def overlaps(boxes: Floats, others: Floats) -> Floats:
    """(n, m) intersection over union."""
    shared = intersections(boxes, others)
    union = areas(boxes)[:, None] + areas(others)[None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def suppress(boxes: Floats, scores: Floats, *, iou: float) -> list[int]:
    """Indices of the boxes to keep, best first: none overlaps a better one by more than ``iou``."""
    overlap = overlaps(boxes, boxes)
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable").tolist():
        if not np.any(overlap[index, kept] > iou):
            kept.append(index)
    return kept
