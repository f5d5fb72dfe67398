"""Do people and vehicles stand out where they are asked to, and nothing else? Both axes, by whoever says where targets are.

::

    python -m benchmarks.focus --data DIR --labels boxes.json --detector yolox_nano.onnx [--frames N] [--json FILE]

``DIR`` holds registered pairs, ``vi`` and ``ir``, whose stems end in D by day and in N by night; the labels are boxes by stem as
docs/focus.md says. Every pair is fused as a still by the shipped model with the axis at 0 and at 1, where the boxes themselves,
the head that ships, or the detector say where the targets are. The detector also judges what is found in the pictures, so that
its own row says less than the others.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np

import rtfusion
from benchmarks.suite import DATA, Measured, Result, Row, Suite, columns_table, grouped
from rtfusion.errors import ConfigError
from rtfusion.evaluate.detector import Detector
from rtfusion.evaluate.matching import Outcome, at_score, contrast, match, pool
from rtfusion.evaluate.metrics import SSIM_WINDOW_PX, ssim_map
from rtfusion.evaluate.visibility import LEAST_SCORE
from rtfusion.focus import Box, map_shape
from rtfusion.focus.boxes import painted
from rtfusion.focus.overlap import Floats
from rtfusion.fusion.color import luminance
from rtfusion.types import Image8

KINDS = {"people": ("person",), "vehicles": ("car",)}
"""Classes of the labels by target."""
JUDGED = {"people": "person", "vehicles": "vehicle"}
"""The detector's own name of them."""
LIGHTS = {"day": "D", "night": "N", "all": ""}
"""The end of the stems."""
COST_FRAMES, COST_ROUNDS = 60, 5
NS_PER_FRAME = 33_000_000


def measure(options: argparse.Namespace) -> Measured:
    """A row for every target, provider and light; and what the head costs."""
    pairs = list(_pairs(options.data, json.loads(options.labels.read_text(encoding="utf-8")), limit=options.frames))
    judge = Detector(options.detector)
    rows: list[Row] = []
    for target in KINDS:
        for provider in ("boxes", "head", "detector"):
            seen = list(_looks(target, provider, pairs, judge=judge, detector=options.detector))
            for light, end in LIGHTS.items():
                chosen = [look for look in seen if look["stem"].endswith(end)]
                if chosen:
                    rows.append({"case": provider, "target": target, "light": light, **_figures(chosen)})
    rows += _costs(pairs[0], detector=options.detector)
    return {"pairs": len(pairs), "least_score": LEAST_SCORE, "detector": options.detector.name}, rows


Pair = tuple[str, Image8, Image8, Mapping[str, Floats], list[tuple[int, ...]]]
"""Stem, both bands, the boxes of each target in pixels, and all boxes of the picture."""


def _pairs(folder: Path, labels: Mapping[str, Any], *, limit: int | None) -> Iterator[Pair]:
    stems = [stem for stem in sorted(labels) if list((folder / "vi").glob(f"{stem}.*"))][:limit]
    if not stems:
        raise ConfigError(f"{folder} holds none of the labeled pairs; expected {folder}/vi and {folder}/ir")
    for stem in stems:
        visible, thermal = (
            cv2.imread(str(next((folder / band).glob(f"{stem}.*"))), flag)
            for band, flag in (("vi", cv2.IMREAD_COLOR), ("ir", cv2.IMREAD_GRAYSCALE))
        )
        if visible is None or thermal is None:
            raise ConfigError(f"cannot read both bands of {stem} in {folder}")
        height, width = thermal.shape
        rows = [
            (kind, np.clip([x, y, x + w, y + h], 0, [width, height] * 2)) for kind, x, y, w, h in labels[stem]["both"]
        ]
        boxes = {
            target: np.array([box for kind, box in rows if kind in kinds], np.float64).reshape(-1, 4)
            for target, kinds in KINDS.items()
        }
        every = [tuple(map(int, box)) for _, box in rows]
        yield stem, cast(Image8, visible), cast(Image8, thermal), boxes, every


def _looks(
    target: str, provider: str, pairs: Sequence[Pair], *, judge: Detector, detector: Path
) -> Iterator[dict[str, Any]]:
    """Every pair with the axis of a target at 0 and at 1."""
    ways: Mapping[str, dict[str, Any]] = {
        "boxes": {"focus_head": False},
        "head": {},
        "detector": {"focus_head": False, "focus_detector": detector},
    }
    asked: Sequence[dict[str, Any]] = ({}, {"intent": f"{target}=1", **ways[provider]})
    with ExitStack() as stack:
        plain, wished = (
            stack.enter_context(rtfusion.Fuser(still=True, threads=1, precision="f32", **more)) for more in asked
        )
        for stem, visible, thermal, boxes, every in pairs:
            if provider == "boxes":
                wished.change(regions=_regions(target, boxes[target], shape=thermal.shape))
            before = plain.frame(visible=visible, thermal=thermal)
            after = wished.frame(visible=visible, thermal=thermal)
            yield {
                "stem": stem,
                **_judged(before.image, after.image, boxes=boxes[target], every=every),
                **{
                    f"outcome_{at}": _found(judge, frame.image, boxes[target], JUDGED[target])
                    for at, frame in ((0, before), (1, after))
                },
                **_overlap(target, after.targets.get(target), boxes[target], shape=thermal.shape),
            }


def _regions(target: str, boxes: Floats, *, shape: tuple[int, ...]) -> list[Box]:
    size_px = shape[1], shape[0]
    return [Box.of_px(target, box, size_px=size_px) for box in boxes.tolist()]


def _judged(before: Image8, after: Image8, *, boxes: Floats, every: Sequence[tuple[int, ...]]) -> dict[str, Any]:
    """Contrasts of the boxes before and after, and what changed outside of them."""
    grays = luminance(before), luminance(after)
    outside = np.ones(grays[0].shape, bool)
    for left, top, right, bottom in boxes.astype(int).tolist():
        outside[top:bottom, left:right] = False
    rim = SSIM_WINDOW_PX // 2
    contrasts = [[contrast(gray, box=box, others=every) for gray in grays] for box in boxes.astype(int).tolist()]
    return {
        "contrasts": [both for both in contrasts if None not in both],
        "changed": float(np.abs(after.astype(int) - before)[outside].mean()),
        "similar": float(ssim_map(*grays)[outside[rim:-rim, rim:-rim]].mean()),
    }


def _found(judge: Detector, image: Image8, boxes: Floats, kind: str) -> Outcome:
    corners, scores = judge(image)[kind]
    return match(boxes=corners, scores=scores, wanted=boxes, ignored=np.empty((0, 4)))


def _overlap(target: str, found: Any, boxes: Floats, *, shape: tuple[int, ...]) -> dict[str, Any]:
    """How much of the map and of the boxes, filled, is both, and how much is either."""
    nothing = np.zeros(map_shape(shape), np.float32)
    there = painted(_regions(target, boxes, shape=shape), shape=shape).get(target, nothing) >= 0.5
    mapped = (nothing if found is None else found) >= 0.5
    return {"both": int((there & mapped).sum()), "either": int((there | mapped).sum())}


def _figures(looks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    before, after = np.array([both for look in looks for both in look["contrasts"]]).reshape(-1, 2).mean(axis=0)
    found = (at_score(pool([look[f"outcome_{at}"] for look in looks]), least_score=LEAST_SCORE)["f1"] for at in (0, 1))
    f1_before, f1_after = found
    either = sum(look["either"] for look in looks)
    return {
        "pairs": len(looks),
        "boxes": sum(len(look["contrasts"]) for look in looks),
        "contrast_before": float(before),
        "contrast_after": float(after),
        "contrast_gain": float(after / before - 1),
        "outside_levels": float(np.mean([look["changed"] for look in looks])),
        "outside_ssim": float(np.mean([look["similar"] for look in looks])),
        "f1_before": f1_before,
        "f1_after": f1_after,
        "overlap": sum(look["both"] for look in looks) / either if either else None,
    }


def _costs(pair: Pair, *, detector: Path) -> list[Row]:
    """CPU time of a frame with an axis at 1 over that without, in turns, the median of several."""
    _, visible, thermal, _, _ = pair
    asked: dict[str, dict[str, Any]] = {
        "head": {"intent": "people=1"},
        "detector": {"intent": "people=1,vehicles=1", "focus_head": False, "focus_detector": detector},
    }
    rows = []
    for name, more in asked.items():
        with ExitStack() as stack:
            fusers = [stack.enter_context(rtfusion.Fuser(threads=1, **options)) for options in ({}, more)]
            ratios, spent = [], [0.0, 0.0]
            for turn in range(COST_ROUNDS + 1):
                for index, fuser in enumerate(fusers):
                    began_s = time.process_time()
                    for step in range(COST_FRAMES):
                        fuser(visible=visible, thermal=thermal, timestamp_ns=(turn * COST_FRAMES + step) * NS_PER_FRAME)
                    spent[index] = (time.process_time() - began_s) / COST_FRAMES * 1e3
                ratios.append(spent[1] / spent[0])
        rows.append({"case": name, "target": "cost", "cpu_ratio": float(np.median(ratios[1:])), "cpu_ms": spent[1]})
    return rows


def table(data: Result) -> str:
    """Show the effect by target, then the cost; Markdown."""
    targets = grouped(data["rows"], "target")
    costs = targets.pop("cost", [])
    columns = [
        ("where from", "{case}"),
        ("light", "{light}"),
        ("boxes", "{boxes}"),
        ("contrast at 0", "{contrast_before:.1f}"),
        ("at 1", "{contrast_after:.1f}"),
        ("gain", "{contrast_gain:+.1%}"),
        ("outside, levels", "{outside_levels:.3f}"),
        ("SSIM outside", "{outside_ssim:.4f}"),
        ("F1 at 0", "{f1_before:.3f}"),
        ("at 1", "{f1_after:.3f}"),
        ("overlap of the map", "{overlap:.2f}"),
    ]
    parts = [f"{target}\n\n{columns_table(columns, rows)}" for target, rows in targets.items()]
    costly = [("where from", "{case}"), ("CPU time of a frame, to that without", "{cpu_ratio:.2f}")]
    return "\n\n".join([*parts, columns_table(costly, costs)])


SUITE = Suite(
    name="focus",
    help=__doc__,
    options={
        "--data": {**DATA, "help": "registered pairs, vi and ir"},
        "--labels": {"type": Path, "required": True, "metavar": "FILE", "help": "boxes by stem, JSON"},
        "--detector": {"type": Path, "required": True, "metavar": "FILE.onnx", "help": "YOLOX of COCO's classes"},
        "--frames": {"type": int, "metavar": "N", "help": "the first N pairs"},
    },
    measure=measure,
    table=table,
)

if __name__ == "__main__":
    sys.exit(SUITE.main())
