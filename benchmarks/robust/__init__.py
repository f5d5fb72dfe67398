"""Does the picture hold where a band is not what clean pairs are?

::

    python -m benchmarks.robust --shared DIR [--case NAME ...] [--model NAME ...] [--json FILE]

``DIR`` holds the recordings (``data/eval``, ``data/video`` …) and the detector (``weights``). Every figure stands beside its bar,
and, where that says something, beside the one of the plain mean of both bands.
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
from pathlib import Path

from benchmarks.suite import Measured, Result, Row, Suite, barred, chosen, columns_table

CASES = ("glare", "counts", "sensors", "noise", "cuts", "shutter", "bands", "smoke")
"""Modules of this package, each with its `measure`."""
COLUMNS = (
    ("model", "{model}"),
    ("case", "{case}"),
    ("figure", "{figure}"),
    ("value", "{value:.3g}"),
    ("plain mean", "{mean:.3g}"),
    ("bar", "{limit}"),
    ("", "{met}"),
)


def measure(options: argparse.Namespace) -> Measured:
    """A row for every model and figure."""
    rows: list[Row] = []
    for case in options.case:
        module = importlib.import_module(f"benchmarks.robust.{case}")
        for model in options.model:
            with tempfile.TemporaryDirectory(prefix="rtfusion-robust-") as work:
                found = module.measure(shared=options.shared, work=Path(work), model=model)
            rows += [{"model": model, **row} for row in found]
    return chosen(options, "case", "model"), rows


def table(data: Result) -> str:
    """A line for every figure; Markdown."""
    return columns_table(COLUMNS, barred(data["rows"]))


SUITE = Suite(
    name="robust",
    help=__doc__,
    options={
        "--shared": {"type": Path, "required": True, "metavar": "DIR", "help": "folder of the recordings and weights"},
        "--case": {"nargs": "+", "choices": CASES, "default": list(CASES), "help": "default: all"},
        "--model": {"nargs": "+", "default": ["small", "large"], "metavar": "NAME", "help": "default: small large"},
    },
    measure=measure,
    table=table,
)
