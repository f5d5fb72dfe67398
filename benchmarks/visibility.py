"""Are people found in fused frames? A fixed detector on both bands and on every fuser's frames, against hand-checked boxes.

::

    python -m benchmarks.visibility --data DIR --detector yolox_nano.onnx [--fuser NAME ...] [--model FILE.onnx] [--json FILE]

The labels are `labels/people.json`; ``DIR`` holds the recordings that they name (``video/…``, ``eval/…``, each with its visible
part ``vi`` and its thermal part ``ir``). A video is fused whole and in order, so that a fuser with memory shows what it
would show live; stills are fused one by one. The detector is a YOLOX trained on COCO: (1, 3, S, S) BGR 0..255 in, raw boxes out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks import timing
from benchmarks.matching import (
    MATCH_IOU,
    Floats,
    Outcome,
    at_score,
    average_precision,
    contrast,
    match,
    pool,
    suppress,
)
from rtfusion.capture import open_pair
from rtfusion.errors import ConfigError, EndOfStream, FusionError
from rtfusion.fusion import Luminance, Overlay, open_method
from rtfusion.fusion.color import as_bgr, compose, luminance
from rtfusion.types import Image8

LABELS = Path(__file__).with_name("labels") / "people.json"
FUSERS = ("average", "maximum", "pyramid", "overlay")
COCO = {"person": (0,), "vehicle": (2, 5, 7)}
"""The detector's classes behind ours: a vehicle is a car, a bus or a truck."""
STRIDES = (8, 16, 32)
PAD_GRAY = 114
LEAST_SCORE = 0.4
"""At which precision, recall and F1 are taken."""
CANDIDATE_SCORE = 0.01
"""Below it a detection is dropped, for average precision too."""
SUPPRESS_IOU = 0.45
READ_TIMEOUT_S = 10.0
ALL = "all"
OVERALL = ("precision", "recall", "average_precision")
"""Figures that the table gives over all sets only."""

Render = Callable[[Image8, Image8, int], Image8]
"""Visible, thermal and timestamp to the (H, W) or (H, W, 3) picture that is looked at."""
Method = Callable[[bool, ExitStack], Render]
"""Opens a render, given whether the images are unrelated stills; what it opens is closed with the stack."""
Detections = Mapping[str, tuple[Floats, Floats]]
"""Boxes (n, 4) in pixels and scores (n,) of every class."""


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


class Detector:
    """A YOLOX of COCO's classes in an ONNX file, run by ONNX Runtime on the CPU."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        if not path.is_file():
            raise ConfigError(f"--detector {path}: there is no such file; expected a YOLOX model of COCO as ONNX")
        self._session: Any = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        (port,) = self._session.get_inputs()
        self._input, self._side_px = port.name, int(port.shape[-1])

    def __call__(self, image: Image8) -> Detections:
        """What is seen in (H, W, 3) BGR."""
        tensor, scale = letterbox(image, side_px=self._side_px)
        raw = self._session.run(None, {self._input: tensor})[0][0]
        height, width = image.shape[:2]
        return decode(raw, side_px=self._side_px, scale=scale, size_px=(width, height))


def letterbox(image: Image8, *, side_px: int) -> tuple[npt.NDArray[np.float32], float]:
    """(H, W, 3) scaled into the upper left of a gray square: (1, 3, side, side) of 0..255, and the scale."""
    height, width = image.shape[:2]
    scale = min(side_px / height, side_px / width)
    size_px = (round(width * scale), round(height * scale))
    square = np.full((side_px, side_px, 3), PAD_GRAY, np.uint8)
    square[: size_px[1], : size_px[0]] = cv2.resize(image, size_px, interpolation=cv2.INTER_LINEAR)
    return square.transpose(2, 0, 1)[None].astype(np.float32), scale


def decode(raw: npt.NDArray[np.float32], *, side_px: int, scale: float, size_px: tuple[int, int]) -> Detections:
    """The network's (anchors, 5 + classes) to boxes in pixels of the image, overlapping ones suppressed class by class.

    An anchor is a cell of a grid of one of the strides: center (cell + xy) · stride, size exp(wh) · stride, then the
    objectness and the class scores; a detection's score is their product.
    """
    cells, strides = _anchors(side_px)
    centers, sizes = (raw[:, :2] + cells) * strides, np.exp(raw[:, 2:4]) * strides
    boxes = np.concatenate([centers - sizes / 2, centers + sizes / 2], axis=1).astype(np.float64) / scale
    boxes = np.clip(boxes, 0.0, np.array(size_px * 2, np.float64))
    found = {}
    for kind, classes in COCO.items():
        scores = (raw[:, 4] * raw[:, [5 + index for index in classes]].max(axis=1)).astype(np.float64)
        likely = np.flatnonzero(scores >= CANDIDATE_SCORE)
        kept = likely[suppress(boxes[likely], scores[likely], iou=SUPPRESS_IOU)]
        found[kind] = (boxes[kept], scores[kept])
    return found


def read_labels(path: Path) -> list[LabelSet]:
    """The sets of a label file."""
    data = json.loads(path.read_text(encoding="utf-8"))
    return [
        LabelSet(
            name=entry["name"],
            source=entry["source"],
            size_px=(entry["size"][0], entry["size"][1]),
            kinds=tuple(entry["classes"]),
            frames={frame.get("stem", frame.get("index")): _labels(frame["boxes"]) for frame in entry["frames"]},
        )
        for entry in data["sets"]
    ]


def methods(*, fusers: Sequence[str], model: Path | None, enhance: Sequence[float]) -> dict[str, Method]:
    """Both bands as they are, the fusers, and the learned one of ``model`` at its default or at every value of its dial."""
    named: dict[str, Method] = {
        "visible": lambda still, stack: lambda visible, thermal, timestamp_ns: visible,
        "thermal": lambda still, stack: lambda visible, thermal, timestamp_ns: thermal,
    }
    for name in fusers:
        named[name] = _fuser(name)
    if model is not None:
        for value in enhance or (None,):
            named["learned" if value is None else f"learned, enhance {value:g}"] = _learned(model, enhance=value)
    return named


def measure(
    *, data: Path, detector: Callable[[Image8], Detections], methods: Mapping[str, Method], sets: Sequence[LabelSet]
) -> list[dict[str, Any]]:
    """A row for every method, class and set, and for every class over all sets."""
    seen = {labels.name: _look(labels, data=data, detector=detector, methods=methods) for labels in sets}
    rows = []
    for case in methods:
        for kind in COCO:
            names = [labels.name for labels in sets if kind in labels.kinds]
            groups = [(name, [name]) for name in names] + ([(ALL, names)] if len(names) > 1 else [])
            for name, members in groups:
                looks = [look for member in members for look in seen[member][case, kind]]
                rows.append({"case": case, "class": kind, "set": name, **_figures(looks)})
    return rows


def table(data: dict[str, Any]) -> str:
    """The result as Markdown: for each class what is found by set, and the contrast."""
    score = data["settings"]["least_score"]
    parts = []
    for kind in dict.fromkeys(row["class"] for row in data["rows"]):
        rows = {(row["case"], row["set"]): row for row in data["rows"] if row["class"] == kind}
        cases, sets = (list(dict.fromkeys(key[place] for key in rows)) for place in (0, 1))
        counts = ", ".join(f"{name} {rows[cases[0], name]['boxes']}" for name in sets)
        parts += [f"{kind}: F1 at score {score} by set, and over all (boxes: {counts})", ""]
        parts += _lines(
            ["method", *sets, *(name.replace("_", " ") for name in OVERALL)],
            [_found(case, sets, rows) for case in cases],
        )
        parts += ["", f"{kind}: contrast to the surround, gray levels", ""]
        contrasts = [[case, *(_number(rows[case, name]["contrast"], digits=1) for name in sets)] for case in cases]
        parts += [*_lines(["method", *sets], contrasts), ""]
    return "\n".join(parts).rstrip()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and write the result file where one is asked for; gives the exit code."""
    options = _arguments(arguments)
    try:
        rows = measure(
            data=options.data,
            detector=Detector(options.detector),
            methods=methods(fusers=options.fuser, model=options.model, enhance=options.enhance),
            sets=read_labels(LABELS),
        )
    except FusionError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    settings = {
        "labels": _identity(LABELS),
        "detector": _identity(options.detector),
        "model": _identity(options.model) if options.model else None,
        "least_score": LEAST_SCORE,
        "match_iou": MATCH_IOU,
        "suppress_iou": SUPPRESS_IOU,
        "onnxruntime": metadata.version("onnxruntime"),
    }
    result = timing.result("visibility", settings=settings, rows=rows)
    print(table(result))
    if options.json is not None:
        timing.save(result, options.json)
    return 0


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.visibility", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of the labeled recordings")
    parser.add_argument("--detector", type=Path, required=True, metavar="FILE.onnx", help="YOLOX of COCO's classes")
    parser.add_argument("--fuser", nargs="*", default=list(FUSERS), metavar="NAME", help="beside both bands")
    parser.add_argument("--model", type=Path, metavar="FILE.onnx", help="adds the learned fuser with this file")
    parser.add_argument("--enhance", nargs="+", type=float, default=[], metavar="X", help="dial values for --model")
    parser.add_argument("--json", type=Path, metavar="FILE", help="result file to write")
    options = parser.parse_args(arguments)
    if options.enhance and options.model is None:
        parser.error("--enhance is the dial of a learned fuser: add --model FILE.onnx")
    return options


def _anchors(side_px: int) -> tuple[Floats, Floats]:
    """Cell (n, 2) and stride (n, 1) of every anchor, finest grid first, row by row."""
    cells, strides = [], []
    for stride in STRIDES:
        count = side_px // stride
        rows, columns = np.mgrid[:count, :count]
        cells.append(np.stack([columns, rows], axis=2).reshape(-1, 2))
        strides.append(np.full((count * count, 1), stride))
    return np.concatenate(cells).astype(np.float64), np.concatenate(strides).astype(np.float64)


def _labels(entries: Sequence[Mapping[str, Any]]) -> tuple[Label, ...]:
    return tuple(
        Label(kind=entry["class"], box=cast(tuple[int, int, int, int], tuple(entry["box"])), ignore=entry["ignore"])
        for entry in entries
    )


def _fuser(name: str) -> Method:
    return lambda still, stack: _render(open_method(name, still=still), stack)


def _learned(model: Path, *, enhance: float | None) -> Method:
    from rtfusion.fusion.learned import LearnedLuminance

    scalars = {} if enhance is None else {"enhance": enhance}
    return lambda still, stack: _render(
        LearnedLuminance(model=model, engine="auto", threads=None, scalars=scalars), stack
    )


def _render(method: Luminance | Overlay, stack: ExitStack) -> Render:
    if isinstance(method, Overlay):
        return lambda visible, thermal, timestamp_ns: method(visible=visible, thermal=thermal)
    stack.callback(method.close)

    def fuse(visible: Image8, thermal: Image8, timestamp_ns: int) -> Image8:
        visible_y = luminance(visible)
        fused_y = method(visible_y=visible_y, thermal=thermal, timestamp_ns=timestamp_ns)
        return compose(visible=visible, visible_y=visible_y, fused_y=fused_y)

    return fuse


@dataclass(frozen=True, kw_only=True, slots=True)
class _Look:
    """One class in one frame of one method."""

    outcome: Outcome
    contrasts: list[float]


def _look(
    labels: LabelSet, *, data: Path, detector: Callable[[Image8], Detections], methods: Mapping[str, Method]
) -> dict[tuple[str, str], list[_Look]]:
    """Every labeled frame of a set as every method shows it, by method and class."""
    looks: dict[tuple[str, str], list[_Look]] = {(case, kind): [] for case in methods for kind in labels.kinds}
    missing = set(labels.frames)
    with ExitStack() as stack:
        still = any(isinstance(key, str) for key in labels.frames)
        renders = {case: method(still, stack) for case, method in methods.items()}
        for key, visible, thermal, timestamp_ns in _frames(labels, data=data, still=still):
            for case, render in renders.items():
                picture = render(visible, thermal, timestamp_ns)
                if key in missing:
                    found = detector(as_bgr(picture))
                    for kind in labels.kinds:
                        looks[case, kind].append(_judge(picture, found[kind], labels.frames[key], kind=kind))
            missing.discard(key)
            if not missing:
                return looks
    raise ConfigError(f"{data / labels.source} lacks the labeled frames {sorted(missing, key=str)}")


def _frames(labels: LabelSet, *, data: Path, still: bool) -> Iterator[tuple[int | str, Image8, Image8, int]]:
    """Key, visible, thermal and timestamp: of every frame of a video, of the labeled ones among stills."""
    folder = data / labels.source
    ending = "" if still else ".mp4"
    visible_source, thermal_source = open_pair(visible=f"{folder}/vi{ending}", thermal=f"{folder}/ir{ending}")
    count = 0
    try:
        while True:
            visible, thermal = (source.read(timeout_s=READ_TIMEOUT_S) for source in (visible_source, thermal_source))
            key = visible.name if still and visible.name is not None else count
            count += 1
            if still and key not in labels.frames:
                continue
            if visible.size_px != labels.size_px or thermal.size_px != labels.size_px:
                raise ConfigError(
                    f"{folder}: frame {key} is not {labels.size_px}, the size of its labels, in both bands"
                )
            yield key, cast(Image8, visible.image), cast(Image8, thermal.image), visible.timestamp_ns
    except EndOfStream:
        return
    finally:
        visible_source.close()
        thermal_source.close()


def _judge(picture: Image8, found: tuple[Floats, Floats], labels: Sequence[Label], *, kind: str) -> _Look:
    mine = [label for label in labels if label.kind == kind]
    wanted = [label.box for label in mine if not label.ignore]
    ignored = [label.box for label in mine if label.ignore]
    boxes, scores = found
    gray = luminance(picture)
    contrasts = [contrast(gray, box=box, others=[label.box for label in labels]) for box in wanted]
    return _Look(
        outcome=match(boxes=boxes, scores=scores, wanted=_array(wanted), ignored=_array(ignored)),
        contrasts=[value for value in contrasts if value is not None],
    )


def _array(boxes: Sequence[tuple[int, int, int, int]]) -> Floats:
    return np.array(boxes, np.float64).reshape(-1, 4)


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


def _identity(path: Path) -> dict[str, str]:
    return {"name": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def _found(case: str, sets: Sequence[str], rows: Mapping[tuple[str, str], Mapping[str, Any]]) -> list[str]:
    over_all = rows[case, sets[-1]]
    figures = [rows[case, name]["f1"] for name in sets]
    figures += [over_all[figure] for figure in OVERALL]
    return [case, *(_number(figure, digits=2) for figure in figures)]


def _lines(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *body)]


def _number(value: float | None, *, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


if __name__ == "__main__":
    sys.exit(main())
