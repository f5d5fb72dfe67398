"""Are people found in fused frames? A fixed detector on both bands and on every fuser's frames, against hand-checked boxes.

The labels are `labels/people.json`; ``DIR`` holds the recordings that they name (``video/…``, ``eval/…``, each with its visible
part ``vi`` and its thermal part ``ir``). A video is fused whole and in order, so that a fuser with memory shows what it
would show live; stills are fused one by one. The shipped models are measured without being asked for.

Beside what is found, and the contrast of targets to their surround, stands what is kept of the thermal detail where the visible
camera is blind (`rtfusion.evaluate.blind`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from rtfusion.config import PLAIN
from rtfusion.errors import ConfigError
from rtfusion.evaluate.blind import Kept, kept_where_blind
from rtfusion.evaluate.detector import COCO, Detections
from rtfusion.evaluate.matching import Outcome, at_score, average_precision, contrast, match, pool
from rtfusion.evaluate.methods import CLASSICAL, select
from rtfusion.evaluate.methods import Method as Fusing
from rtfusion.focus.overlap import Floats
from rtfusion.fusion import Painter
from rtfusion.fusion.color import as_bgr, color_kept, compose, luminance, rebase_on_mean
from rtfusion.pairs import open_pairs
from rtfusion.types import FramePair, Image8

LABELS = Path(__file__).with_name("labels") / "people.json"
FUSERS = ("average", "maximum", "pyramid", "overlay")
LEAST_SCORE = 0.4
"""The score at which precision, recall and F1 are taken."""
ALL = "all"
BLIND = "visible-blind areas"

Render = Callable[..., Image8]
"""Visible, thermal and timestamp to the (H, W) or (H, W, 3) picture that is looked at."""
Method = Callable[[bool, ExitStack], Render]
"""Opens a render, given whether the images are unrelated stills; what it opens is closed with the stack."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Label:
    """An object that is there."""

    kind: str
    box: tuple[int, int, int, int]
    ignore: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelSet:
    """Labeled frames of one recording, by index in a video, by stem in a folder of stills."""

    name: str
    source: str
    size_px: tuple[int, int]
    kinds: tuple[str, ...]
    frames: Mapping[int | str, tuple[Label, ...]]


def read_labels(path: Path) -> list[LabelSet]:
    """The sets of a label file."""
    data = json.loads(path.read_text(encoding="utf-8"))
    return [
        LabelSet(
            name=entry["name"],
            source=entry["source"],
            size_px=(entry["size"][0], entry["size"][1]),
            kinds=tuple(entry["classes"]),
            frames={
                frame.get("stem", frame.get("index")): tuple(
                    Label(kind=label["class"], box=tuple(label["box"]), ignore=label["ignore"])
                    for label in frame["boxes"]
                )
                for frame in entry["frames"]
            },
        )
        for entry in data["sets"]
    ]


def methods(
    *, fusers: Sequence[str], models: Mapping[str, Path] | None = None, enhance: Sequence[float] | None = None
) -> dict[str, Method]:
    """Both bands as they are, the fusers, and the models (default: the shipped ones) at values of their dial.

    And the fusers and models once more, the latter as they are by default, with the look for detectors.
    """
    named: dict[str, Method] = {
        "visible": lambda still, stack: lambda *, visible, thermal, timestamp_ns: visible,
        "thermal": lambda still, stack: lambda *, visible, thermal, timestamp_ns: thermal,
    }
    named |= {method.name: _opened(method) for method in select(fusers=fusers, models=models, enhance=enhance)}
    plain = [name for name in fusers if name in CLASSICAL]
    looked_at = select(fusers=plain, models=models, enhance=())
    return named | {f"{method.name}, look detector": _opened(method, look="detector") for method in looked_at}


def measure(
    *, data: Path, detector: Callable[[Image8], Detections], methods: Mapping[str, Method], sets: Sequence[LabelSet]
) -> list[dict[str, Any]]:
    """A row for every method, class and set, and for every class over all sets; and what is kept, for every method and set."""
    seen = {labels.name: _look(labels, data=data, detector=detector, methods=methods) for labels in sets}
    rows: list[dict[str, Any]] = []
    for case in methods:
        for kind in COCO:
            names = [labels.name for labels in sets if kind in labels.kinds]
            groups = [(name, [name]) for name in names] + ([(ALL, names)] if len(names) > 1 else [])
            for name, members in groups:
                looks = [look for member in members for look in seen[member][case, kind]]
                rows.append({"case": case, "class": kind, "set": name, **_figures(looks)})
    for case in methods:
        for labels in sets:
            kept = Kept.over(look.kept for look in seen[labels.name][case, labels.kinds[0]])
            rows.append({"case": case, "class": BLIND, "set": labels.name, "kept": kept.ratio, "blind": kept.blind})
    return rows


def _opened(named: Fusing, *, look: str = "eye") -> Method:
    def opened(still: bool, stack: ExitStack) -> Render:
        method = named.open(still=still)
        if isinstance(method, Painter):
            return method
        stack.callback(method.close)

        def fuse(*, visible: Image8, thermal: Image8, timestamp_ns: int) -> Image8:
            visible_y = luminance(visible)
            fused_y = method(visible_y=visible_y, thermal=thermal, timestamp_ns=timestamp_ns)
            if look == "detector":
                return rebase_on_mean(fused_y=fused_y, visible_y=visible_y, thermal=thermal)
            is_judged = visible.ndim == 3 and named.fuser not in PLAIN
            kept = color_kept(visible=visible, thermal=thermal) if is_judged else None
            return compose(visible=visible, visible_y=visible_y, fused_y=fused_y, kept=kept)

        return fuse

    return opened


@dataclass(frozen=True, kw_only=True, slots=True)
class _Look:
    """One class in one frame of one method."""

    outcome: Outcome
    contrasts: list[float]
    kept: Kept
    """The detail kept in the whole frame, whatever the class."""


def _look(
    labels: LabelSet, *, data: Path, detector: Callable[[Image8], Detections], methods: Mapping[str, Method]
) -> dict[tuple[str, str], list[_Look]]:
    """Every labeled frame of a set as every method shows it, by method and class."""
    looks: dict[tuple[str, str], list[_Look]] = {(case, kind): [] for case in methods for kind in labels.kinds}
    missing = set(labels.frames)
    with ExitStack() as stack:
        still = any(isinstance(key, str) for key in labels.frames)
        renders = {case: method(still, stack) for case, method in methods.items()}
        for key, pair in _pairs(labels, data=data, still=still):
            visible, thermal = cast(Image8, pair.visible.image), cast(Image8, pair.thermal.image)
            for case, render in renders.items():
                picture = render(visible=visible, thermal=thermal, timestamp_ns=pair.timestamp_ns)
                if key in missing:
                    found, bands = (
                        detector(as_bgr(picture)),
                        {"visible": luminance(visible), "thermal": luminance(thermal)},
                    )
                    kept = kept_where_blind(fused=luminance(picture), **bands)
                    for kind in labels.kinds:
                        look = _judge(picture, found[kind], labels.frames[key], kind=kind, kept=kept)
                        looks[case, kind].append(look)
            missing.discard(key)
            if not missing:
                return looks
    raise ConfigError(f"{data / labels.source} lacks the labeled frames {sorted(missing, key=str)}")


def _pairs(labels: LabelSet, *, data: Path, still: bool) -> Iterator[tuple[int | str, FramePair]]:
    """Key and pair: every one of a video by the number of its visible frame, of stills the labeled ones by name."""
    folder = data / labels.source
    ending = "" if still else ".mp4"
    with open_pairs(ir=f"{folder}/ir{ending}", vis=f"{folder}/vi{ending}") as pairs:
        for pair in pairs:
            key = pair.visible.name if still and pair.visible.name is not None else pair.visible.sequence
            if still and key not in labels.frames:
                continue
            if not pair.visible.size_px == pair.thermal.size_px == labels.size_px:
                raise ConfigError(
                    f"{folder}: frame {key} is not {labels.size_px}, the size of its labels, in both bands"
                )
            yield key, pair


def _judge(picture: Image8, found: tuple[Floats, Floats], labels: Sequence[Label], *, kind: str, kept: Kept) -> _Look:
    wanted, ignored = (
        np.array([label.box for label in labels if label.kind == kind and label.ignore == ignore], float).reshape(-1, 4)
        for ignore in (False, True)
    )
    gray, others = luminance(picture), [label.box for label in labels]
    contrasts = [contrast(gray, box=box, others=others) for box in wanted.astype(int).tolist()]
    boxes, scores = found
    return _Look(
        outcome=match(boxes=boxes, scores=scores, wanted=wanted, ignored=ignored),
        contrasts=[value for value in contrasts if value is not None],
        kept=kept,
    )


def _figures(looks: Sequence[_Look]) -> dict[str, Any]:
    outcome = pool([look.outcome for look in looks])
    contrasts = [value for look in looks for value in look.contrasts]
    return {
        "frames": len(looks),
        "boxes": outcome.wanted,
        **at_score(outcome, least_score=LEAST_SCORE),
        "average_precision": average_precision(outcome),
        "contrast": float(np.mean(contrasts)) if contrasts else None,
    }
