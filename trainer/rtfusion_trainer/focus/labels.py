"""Pictures with boxes: from a file of labels, and from a detector where there are none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from rtfusion.errors import ConfigError
from rtfusion.evaluate.detector import Detector
from rtfusion.focus import PEOPLE, VEHICLES
from rtfusion.focus.overlap import Floats, overlaps, suppress
from rtfusion.types import Image8
from rtfusion_trainer.labels import Drawn, Labels, read_labels
from rtfusion_trainer.pairs import image_sets, read_pair, what_is_there
from rtfusion_trainer.progress import tell

SURE, UNSURE = 0.45, 0.12
"""Scores from which on a detection is a target, and from which on it may be one: that place teaches nothing."""
SAME_IOU = 0.3
JOIN_IOU = 0.5


@dataclass(frozen=True)
class LabeledPair:
    """A pair at half of its resolution, and its boxes (n, 4), x0, y0, x1, y1 as fractions of the picture."""

    name: str
    visible: Image8
    thermal: Image8
    size_px: tuple[int, int]
    """(width, height) of the whole picture."""
    boxes: Mapping[str, Floats]
    """By target."""
    maybe: Mapping[str, Floats]
    """Places where a target may be."""
    checked: bool
    """A person labeled it, so that what has no box is empty."""


def load_labeled_pairs(
    folder: Path, *, labels: Path | None, detector: Path | None, targets: Sequence[str]
) -> list[LabeledPair]:
    """Every pair below ``folder`` (SET/vi and SET/ir) that has labels, or that the detector can say something of.

    Args:
        folder: holds SET/vi and SET/ir.
        labels: of `read_labels`; what is seen in one band alone may be a target.
        detector: YOLOX of COCO as ONNX, for the pairs without labels, run on both bands.
        targets: people, vehicles or both.

    Raises:
        ConfigError: neither is given, one cannot be read, or no pair is left.
    """
    if labels is None and detector is None:
        raise ConfigError("there is nothing to learn from; name --labels, --detector or both")
    if unknown := [target for target in targets if target not in (PEOPLE, VEHICLES)]:
        raise ConfigError(f"nothing here teaches {unknown[0]!r}; there are {PEOPLE} and {VEHICLES}")
    given = {} if labels is None else read_labels(labels, data=folder)
    detect = None if detector is None else Detector(detector)
    tell(what_is_there(folder))
    found = []
    for pairs in image_sets(folder).values():
        for visible_file, thermal_file in pairs:
            if visible_file.stem in given:
                found.append(_checked(visible_file, thermal_file, given[visible_file.stem], targets))
            elif detect is not None:
                found.append(_detected(visible_file, thermal_file, detect, targets))
    if not found:
        raise ConfigError(f"no pair of {folder} has labels in {labels}; name a detector too, with --detector")
    return found


def _checked(visible_file: Path, thermal_file: Path, labels: Labels, targets: Sequence[str]) -> LabeledPair:
    visible, thermal = read_pair(visible_file, thermal_file)
    size_px = visible.shape[1], visible.shape[0]
    boxes = {target: _of(labels.both, target, size_px) for target in targets}
    alone = {target: _of([*labels.thermal, *labels.visible], target, size_px) for target in targets}
    maybe = {target: _elsewhere(alone[target], boxes[target]) for target in targets}
    return LabeledPair(visible_file.stem, _halved(visible), _halved(thermal), size_px, boxes, maybe, checked=True)


def _of(drawn: Sequence[Drawn], target: str, size_px: tuple[int, int]) -> Floats:
    boxes = [one.corners_px for one in drawn if one.target == target]
    return np.clip(np.array(boxes, np.float64).reshape(-1, 4) / (size_px * 2), 0, 1)


def _elsewhere(boxes: Floats, others: Floats) -> Floats:
    return boxes[overlaps(boxes, others).max(axis=1, initial=0.0) < SAME_IOU]


def _detected(visible_file: Path, thermal_file: Path, detect: Detector, targets: Sequence[str]) -> LabeledPair:
    visible, thermal = read_pair(visible_file, thermal_file)
    size_px = visible.shape[1], visible.shape[0]
    color = cv2.imread(str(visible_file), cv2.IMREAD_COLOR)
    looks = [detect(np.asarray(image, np.uint8)) for image in (color, cv2.cvtColor(thermal, cv2.COLOR_GRAY2BGR))]
    boxes, maybe = {}, {}
    for target in targets:
        kind = "person" if target == PEOPLE else "vehicle"
        every, scores = (np.concatenate([look[kind][part] for look in looks]) for part in (0, 1))
        kept = suppress(every, scores, iou=JOIN_IOU)
        every, scores = every[kept] / (size_px * 2), scores[kept]
        boxes[target] = every[scores >= SURE]
        maybe[target] = _elsewhere(every[(scores < SURE) & (scores >= UNSURE)], boxes[target])
    return LabeledPair(visible_file.stem, _halved(visible), _halved(thermal), size_px, boxes, maybe, checked=False)


def _halved(image: Image8) -> Image8:
    return np.asarray(cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8)
