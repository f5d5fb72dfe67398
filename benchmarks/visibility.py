"""Are people found in fused frames? What `rtfusion.evaluate.visibility` measures, of the fusers and the shipped models.

::

    python -m benchmarks.visibility --data DIR --detector yolox_nano.onnx [--fuser NAME ...] [--model FILE.onnx] [--json FILE]
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.suite import DATA, Measured, Result, Row, Suite, columns_table, grouped
from rtfusion.evaluate import visibility
from rtfusion.evaluate.detector import Detector
from rtfusion.evaluate.matching import MATCH_IOU
from rtfusion.evaluate.visibility import BLIND, FUSERS, LABELS, LEAST_SCORE
from rtfusion.focus.yolox import SUPPRESS_IOU

OVERALL = ("precision", "recall", "average_precision")
"""Figures that the table gives over all sets only."""


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
    parts = []
    for kind, rows in kinds.items():
        title = f"{kind}: F1 at score {data['settings']['least_score']} by set, and over all"
        parts += [f"{title} (boxes: {_of_sets(rows, '{set} {boxes}')})", _by_set(rows, "f1", overall=OVERALL)]
        parts += [f"{kind}: contrast to the surround, gray levels", _by_set(rows, "contrast", digits=1)]
    if blind:
        title = "share of the thermal detail kept where only the thermal camera sees some"
        parts += [f"{title} (of the picture: {_of_sets(blind, '{set} {blind:.0%}')})", _by_set(blind, "kept")]
    return "\n\n".join(parts)


def _of_sets(rows: Sequence[Row], text: str) -> str:
    """Read the first method's row of every set, which is alike for all methods."""
    return ", ".join(text.format_map(row) for row in rows if row["case"] == rows[0]["case"])


def _by_set(rows: Sequence[Row], figure: str, *, digits: int = 2, overall: Sequence[str] = ()) -> str:
    """One figure of every method by set, and other figures over all of the last set."""
    sets = list(grouped(rows, "set"))
    columns = [("method", "{case}"), *((name, f"{{{name}[{figure}]:.{digits}f}}") for name in sets)]
    columns += [(name.replace("_", " "), f"{{{sets[-1]}[{name}]:.2f}}") for name in overall]
    cases = grouped(rows, "case")
    return columns_table(columns, [{"case": case, **{row["set"]: row for row in cases[case]}} for case in cases])


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
