"""Small thermal sensors in smoke: are people found when the thermal camera has 160x120 or 80x60 pixels, clean or noisy?

The clip is `m3svd_0117_1605` (dense smoke), fused whole and in order, as it would be live; its thermal band is averaged down to
what a small sensor would see. The frames that are looked at are none of the labeled ones, which settings were chosen by: those in
the middle between two labeled frames, with boxes in the middle between theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np

import rtfusion
from rtfusion.evaluate.detector import Detector
from rtfusion.evaluate.matching import Outcome, at_score, match, pool
from rtfusion.evaluate.visibility import LABELS, LEAST_SCORE, Label, read_labels
from rtfusion.focus.overlap import Floats, overlaps
from rtfusion.types import Image8

SET, KIND = "smoke", "person"
LARGEST_GAP = 4
"""Frames between two labeled ones at most: people walk by less than half their width meanwhile."""
SAME_IOU = 0.5
SEED = 71
CASES = {
    "160x120": ((160, 120), 0.0, 0.85),
    "160x120, noise 6": ((160, 120), 6.0, 0.80),
    "80x60": ((80, 60), 0.0, 0.60),
}
"""Sensor, standard deviation of its noise in gray levels, and the least F1."""

Boxes = tuple[Floats, Floats]
"""(n, 4) boxes of the people that count, and of those that do not."""


def measure(*, shared: Path, work: Path, model: str) -> list[dict[str, Any]]:
    """A row for every sensor: F1 of people with the default look, and of the plain mean."""
    data = shared / "data"
    (labels,) = (labels for labels in read_labels(LABELS) if labels.name == SET)
    wanted = between(cast(Mapping[int, Sequence[Label]], labels.frames))
    detector = Detector(shared / "weights" / "yolox_nano" / "yolox_nano.onnx")
    rows = []
    for case, (sensor_px, noise_levels, bar) in CASES.items():
        found = _found(
            data / labels.source, wanted, detector, sensor_px=sensor_px, noise_levels=noise_levels, model=model
        )
        row = {"case": f"people in smoke, thermal {case}", "figure": "F1", "bar": bar, "better": "higher"}
        rows.append({**row, "value": found["default"], "mean": found["average"]})
    return rows


def between(frames: Mapping[int, Sequence[Label]]) -> dict[int, Boxes]:
    """The boxes in the middle between labeled frames that are near one another, by frame.

    Whoever is not in both of them, or does not count in one, does not count.
    """
    found = {}
    for before, after in zip(sorted(frames), sorted(frames)[1:], strict=False):
        if 2 <= after - before <= LARGEST_GAP:
            found[(before + after) // 2] = _middle(
                *([label for label in frames[index] if label.kind == KIND] for index in (before, after))
            )
    return found


def _middle(before: Sequence[Label], after: Sequence[Label]) -> Boxes:
    sides = [_array([label.box for label in labels]) for labels in (before, after)]
    same = overlaps(*sides)
    counted: list[Floats] = []
    ignored: list[Floats] = []
    taken: set[int] = set()
    for index, box in enumerate(sides[0]):
        other = int(same[index].argmax()) if len(sides[1]) else -1
        if other < 0 or same[index, other] < SAME_IOU or other in taken:
            ignored.append(box)
            continue
        taken.add(other)
        is_ignored = before[index].ignore or after[other].ignore
        (ignored if is_ignored else counted).append((box + sides[1][other]) / 2)
    ignored += [box for index, box in enumerate(sides[1]) if index not in taken]
    return _array(counted), _array(ignored)


def _array(boxes: Sequence[Any]) -> Floats:
    return np.array(boxes, np.float64).reshape(-1, 4)


def _found(
    clip: Path,
    wanted: Mapping[int, Boxes],
    detector: Detector,
    *,
    sensor_px: tuple[int, int],
    noise_levels: float,
    model: str,
) -> dict[str, float]:
    """F1 of people in the wanted frames of a clip, by way of fusing."""
    rng = np.random.default_rng(SEED)
    outcomes: dict[str, list[Outcome]] = {"default": [], "average": []}
    with ExitStack() as stack:
        fusers = {
            "default": stack.enter_context(rtfusion.Fuser(model=model)),
            "average": stack.enter_context(rtfusion.Fuser(fuser="average")),
        }
        for pair in stack.enter_context(rtfusion.open_pairs(ir=f"{clip}/ir.mp4", vis=f"{clip}/vi.mp4")):
            thermal = small_sensor(cast(Image8, pair.thermal.image), sensor_px, noise_levels=noise_levels, rng=rng)
            for name, fuse in fusers.items():
                visible = cast(Image8, pair.visible.image)
                fused = fuse(visible=visible, thermal=thermal, timestamp_ns=pair.timestamp_ns)
                if pair.visible.sequence in wanted:
                    boxes, scores = detector(fused)[KIND]
                    counted, ignored = wanted[pair.visible.sequence]
                    outcomes[name].append(match(boxes=boxes, scores=scores, wanted=counted, ignored=ignored))
    figures = {name: at_score(pool(found), least_score=LEAST_SCORE)["f1"] for name, found in outcomes.items()}
    return {name: f1 or 0.0 for name, f1 in figures.items()}


def small_sensor(
    thermal: Image8, sensor_px: tuple[int, int], *, noise_levels: float, rng: np.random.Generator
) -> Image8:
    """What a sensor of so many square pixels, (width, height), sees of an (H, W) picture, with white noise."""
    small = cv2.resize(thermal.astype(np.float32), sensor_px, interpolation=cv2.INTER_AREA)
    return np.clip(np.rint(small + rng.normal(0, noise_levels, small.shape)), 0, 255).astype(np.uint8)
