"""Are people found in fused frames? What `rtfusion.evaluate.visibility` measures, of the fusers and the shipped models.

::

    python -m benchmarks.visibility --data DIR --detector yolox_nano.onnx [--fuser NAME ...] [--model FILE.onnx] [--json FILE]
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.suite import DATA, Measured, Result, Row, Suite, grouped, markdown, number
from rtfusion.evaluate import visibility
from rtfusion.evaluate.detector import SUPPRESS_IOU, Detector
from rtfusion.evaluate.matching import MATCH_IOU
from rtfusion.evaluate.visibility import BLIND, FUSERS, LABELS, LEAST_SCORE

OVERALL = ("precision", "recall", "average_precision")
"""Figures that the table gives over all sets only."""
Cells = Mapping[tuple[str, str], Row]
"""Method and set to their row."""


def measure(options: argparse.Namespace) -> Measured:
    """A row for every method, class and set."""
    models = None if options.model is None else {options.model.stem: options.model}
    rows = visibility.measure(
        data=options.data,
        detector=Detector(options.detector),
        methods=visibility.methods(fusers=options.fuser, models=models, enhance=options.enhance),
        sets=visibility.read_labels(LABELS),
    )
    settings = {
        "labels": _identity(LABELS),
        "detector": _identity(options.detector),
        "model": _identity(options.model) if options.model else None,
        "least_score": LEAST_SCORE,
        "match_iou": MATCH_IOU,
        "suppress_iou": SUPPRESS_IOU,
    }
    return settings, rows


def _identity(path: Path) -> dict[str, str]:
    return {"name": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def table(data: Result) -> str:
    """Show by class what is found in each set and the contrast; then what is kept where only the thermal band sees; Markdown."""
    kinds = grouped(data["rows"], "class")
    blind = kinds.pop(BLIND, [])
    parts = [_found(kind, rows, score=data["settings"]["least_score"]) for kind, rows in kinds.items()]
    return "\n\n".join([*parts, _kept(blind)] if blind else parts)


def _found(kind: str, rows: Sequence[Row], *, score: float) -> str:
    cells, cases, sets = _by_place(rows)
    counts = ", ".join(f"{name} {cells[cases[0], name]['boxes']}" for name in sets)
    columns = [*((name, "f1") for name in sets), *((sets[-1], figure) for figure in OVERALL)]
    found = [[case, *(number(cells[case, name][figure]) for name, figure in columns)] for case in cases]
    head = ["method", *sets, *(name.replace("_", " ") for name in OVERALL)]
    return "\n\n".join(
        [
            f"{kind}: F1 at score {score} by set, and over all (boxes: {counts})",
            markdown(head, found, rule=" --- "),
            f"{kind}: contrast to the surround, gray levels",
            _by_set(cells, cases, sets, figure="contrast", digits=1),
        ]
    )


def _kept(rows: Sequence[Row]) -> str:
    cells, cases, sets = _by_place(rows)
    shares = ", ".join(f"{name} {cells[cases[0], name]['blind']:.0%}" for name in sets)
    title = f"share of the thermal detail kept where only the thermal camera sees some (of the picture: {shares})"
    return f"{title}\n\n{_by_set(cells, cases, sets, figure='kept', digits=2)}"


def _by_place(rows: Sequence[Row]) -> tuple[Cells, list[str], list[str]]:
    """The rows by method and set, and the names of both in their order."""
    return {(row["case"], row["set"]): row for row in rows}, list(grouped(rows, "case")), list(grouped(rows, "set"))


def _by_set(cells: Cells, cases: Sequence[str], sets: Sequence[str], *, figure: str, digits: int) -> str:
    body = [[case, *(number(cells[case, name][figure], digits=digits) for name in sets)] for case in cases]
    return markdown(["method", *sets], body, rule=" --- ")


SUITE = Suite(
    name="visibility",
    help=__doc__,
    options={
        "--data": {**DATA, "help": "folder of the labeled recordings"},
        "--detector": {"type": Path, "required": True, "metavar": "FILE.onnx", "help": "YOLOX of COCO's classes"},
        "--fuser": {"nargs": "*", "default": list(FUSERS), "metavar": "NAME", "help": "beside both bands"},
        "--model": {"type": Path, "metavar": "FILE.onnx", "help": "model; default: the shipped ones"},
        "--enhance": {"nargs": "+", "type": float, "metavar": "X", "help": "values of the models' dial"},
    },
    measure=measure,
    table=table,
)

if __name__ == "__main__":
    sys.exit(SUITE.main())
