"""Does the picture follow what was asked for, and nothing else?

::

    python -m benchmarks.intents --shared DIR [--case NAME ...] [--every N] [--model NAME] [--json FILE]

``DIR`` holds the recordings (``data/eval``, ``data/labels``, ``data/video``). Every figure stands beside its bar, if any.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence
from pathlib import Path

from benchmarks.suite import (
    Measured,
    Result,
    Row,
    Suite,
    bar_of,
    barred,
    chosen,
    columns_table,
    grouped,
    is_met,
    markdown,
)
from rtfusion.intents import AXES

CASES = ("axes", "live", "cost", "language")
"""Modules of this package, each with its `measure`, which gives rows of figures."""
COLUMNS = (
    ("of", "{subject}"),
    ("figure", "{figure}"),
    ("value", "{value:.3g}"),
    ("over", "{count}"),
    ("bar", "{limit}"),
    ("", "{met}"),
)
OF_AXIS = (
    *(f"measure at {value:+g}" for value in (-1.0, -0.5, 0.0, 0.5, 1.0)),
    *("right sign at 1", "right sign at -1", "monotone"),
)
"""Figures that every axis has."""
GUARD = ", ratio to neutral"


def measure(options: argparse.Namespace) -> Measured:
    """A row for every figure."""
    rows: list[Row] = []
    for case in options.case:
        module = importlib.import_module(f"benchmarks.intents.{case}")
        found = module.measure(shared=options.shared, model=options.model, every=options.every)
        rows += [{"case": case, **row} for row in found]
    return chosen(options, "case", "model", "every"), rows


def figure(
    subject: str, name: str, value: float, *, count: int, better: str = "higher", bar: float | None = None
) -> Row:
    """A row: a figure of an axis, a preset or a run, over how many pictures or frames, and its bar, if any."""
    return {"subject": subject, "figure": name, "value": value, "count": count, "better": better, "bar": bar}


def table(data: Result) -> str:
    """Axes and presets as tables, the cross-talk as a matrix, and every other figure beside its bar; Markdown."""
    parts = []
    for case, rows in grouped(data["rows"], "case").items():
        crossed = [row for row in rows if "measure" in row]
        tabled = [row for row in rows if row["figure"] in OF_AXIS or row["figure"].endswith(GUARD)]
        plain = [row for row in rows if row not in crossed and row not in tabled]
        if case == "axes":
            parts += ["Each axis by its own measure, over so many pictures", _by_subject(tabled, OF_AXIS)]
            parts += ["The change of each measure (column) by each axis (row), in parts of its own", _matrix(crossed)]
            guards = [name for name in dict.fromkeys(row["figure"] for row in tabled) if name.endswith(GUARD)]
            parts += ["Quality against both bands at 1, as a ratio to the neutral picture", _by_subject(tabled, guards)]
        parts += [columns_table(COLUMNS, barred(plain))]
    return "\n\n".join(parts)


def _by_subject(rows: Sequence[Row], figures: Sequence[str]) -> str:
    """A line for every axis or preset."""
    found = {subject: {row["figure"]: row for row in some} for subject, some in grouped(rows, "subject").items()}
    known = {subject: of for subject, of in found.items() if any(name in of for name in figures)}
    body = [
        [
            subject,
            str(next(of[name]["count"] for name in figures if name in of)),
            *(f"{of[name]['value']:.3g}{_mark(of[name])}" if name in of else "-" for name in figures),
        ]
        for subject, of in known.items()
    ]
    return markdown(["", "over", *(name.removesuffix(GUARD) for name in figures)], body)


def _matrix(rows: Sequence[Row]) -> str:
    cells = {(row["subject"], row["measure"]): f"{row['value']:.2f}{_mark(row)}" for row in rows}
    names = [name for name in AXES if (name, name) in cells]
    body = [[axis, *(cells[axis, name] for name in names)] for axis in AXES if (axis, names[0]) in cells]
    return markdown(["", *names], body)


def _mark(row: Row) -> str:
    return "" if is_met(row) else " *missed*"


def failures(data: Result) -> list[str]:
    """The figures that miss their bars."""
    missed = [row for row in data["rows"] if not is_met(row)]
    return [f"{row['subject']}, {row['figure']}: {row['value']:.3g}, {bar_of(row)} expected" for row in missed]


SUITE = Suite(
    name="intents",
    help=__doc__,
    options={
        "--shared": {"type": Path, "required": True, "metavar": "DIR", "help": "folder of the recordings"},
        "--case": {"nargs": "+", "choices": CASES, "default": list(CASES), "help": "default: all"},
        "--every": {
            "type": int,
            "default": 1,
            "metavar": "N",
            "help": "take every n-th picture of a set; default: all",
        },
        "--model": {"default": "small", "metavar": "NAME", "help": "default: small"},
    },
    measure=measure,
    table=table,
    failures=failures,
)
