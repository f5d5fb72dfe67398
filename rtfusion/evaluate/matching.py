"""Detections against hand-checked boxes: what is found, what is missed, and what is found where nothing is.

Boxes are (n, 4) arrays of x0, y0, x1, y1 in pixels, x1 and y1 exclusive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rtfusion.focus.overlap import Floats, areas, intersections, overlaps
from rtfusion.types import Image8

MATCH_IOU = 0.5
"""A detection is of an object when they share half of their union."""
RING = 0.25
"""Width of the surround of a box, as a fraction of the box's own width and height."""
RING_LEAST_PX = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """The detections that count, whether each is a hit, and how many objects there were to find."""

    scores: Floats
    """(n,) of every detection, those of ignored objects left out."""
    hits: npt.NDArray[np.bool_]
    """(n,) whether it found an object that no detection with a higher score had found."""
    wanted: int


def match(*, boxes: Floats, scores: Floats, wanted: Floats, ignored: Floats) -> Outcome:
    """Give every object to the best detection that overlaps it enough, greedily by falling score.

    A detection that finds no object is false, unless half of it lies on an ignored object (or they overlap as a match
    would): then it does not count at all.
    """
    overlap = overlaps(boxes, wanted)
    on_ignored = intersections(boxes, ignored) >= MATCH_IOU * areas(boxes)[:, None]
    neutral = np.any(on_ignored | (overlaps(boxes, ignored) >= MATCH_IOU), axis=1)
    free = np.ones(len(wanted), bool)
    counted = np.argsort(-scores, kind="stable")
    hits = np.zeros(len(scores), bool)
    for index in counted:
        candidates = np.where(free, overlap[index], 0.0)
        hits[index] = candidates.max(initial=0.0) >= MATCH_IOU
        if hits[index]:
            free[candidates.argmax()] = False
    counted = counted[(hits | ~neutral)[counted]]
    return Outcome(scores=scores[counted].astype(np.float64), hits=hits[counted], wanted=len(wanted))


def pool(outcomes: Sequence[Outcome]) -> Outcome:
    """One outcome over many frames."""
    return Outcome(
        scores=np.concatenate([np.empty(0), *(outcome.scores for outcome in outcomes)]),
        hits=np.concatenate([np.empty(0, np.bool_), *(outcome.hits for outcome in outcomes)]),
        wanted=sum(outcome.wanted for outcome in outcomes),
    )


def at_score(outcome: Outcome, *, least_score: float) -> dict[str, float | None]:
    """Precision, recall and F1 of the detections of at least ``least_score``; None where there is nothing to divide by."""
    taken = outcome.scores >= least_score
    found, detected = int(outcome.hits[taken].sum()), int(taken.sum())
    return {
        "precision": found / detected if detected else None,
        "recall": found / outcome.wanted if outcome.wanted else None,
        "f1": 2 * found / (detected + outcome.wanted) if detected + outcome.wanted else None,
    }


def average_precision(outcome: Outcome) -> float | None:
    """Area under precision over recall, precision made falling (the best at this recall or beyond); None without objects."""
    if not outcome.wanted:
        return None
    hits = outcome.hits[np.argsort(-outcome.scores, kind="stable")]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    return float(falling[hits].sum() / outcome.wanted)


def contrast(gray: Image8, *, box: Sequence[int], others: Sequence[Sequence[int]]) -> float | None:
    """Measure by how many gray levels a box differs from the ring around it; None where ``others`` cover the ring.

    ``gray`` is (H, W). The boxes in ``others`` are no part of the surround.
    """
    brighter = brighter_by(gray, box=box, others=others)
    return None if brighter is None else abs(brighter)


def brighter_by(gray: Image8, *, box: Sequence[int], others: Sequence[Sequence[int]]) -> float | None:
    """Measure by how many gray levels a box is brighter than the ring around it; see `contrast`."""
    x0, y0, x1, y1 = box
    wide = max(RING_LEAST_PX, round(RING * (x1 - x0)))
    high = max(RING_LEAST_PX, round(RING * (y1 - y0)))
    ring = np.zeros(gray.shape, bool)
    ring[max(0, y0 - high) : y1 + high, max(0, x0 - wide) : x1 + wide] = True
    for left, top, right, bottom in (box, *others):
        ring[top:bottom, left:right] = False
    if not ring.any():
        return None
    return float(gray[y0:y1, x0:x1].mean()) - float(gray[ring].mean())
