"""Image quality of the classical fusers and of the shipped models, beside published methods scored by the same definitions.

::

    python -m benchmarks.fusers --data DIR [--set NAME ...] [--json FILE]

``DIR`` holds the sets (``eval/tno/vi``, ``eval/tno/ir`` …). Published values exist for TNO. The mean rank is taken over eleven
metrics among all rows of a set; beside it stand Nabf and the halo around hot targets, in which less is better and which
are not ranked, since nobody publishes them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import cv2
import numpy as np

from benchmarks.suite import DATA, Measured, Result, Row, Suite, markdown
from rtfusion.capture.images import list_images
from rtfusion.errors import ConfigError
from rtfusion.evaluate.methods import Method, select
from rtfusion.evaluate.metrics import halo, image_metrics
from rtfusion.evaluate.quality import summary
from rtfusion.evaluate.ranking import PUBLISHED, mean_ranks, published
from rtfusion.types import Image8

SETS = {"tno": "TNO", "roadscene": "RoadScene", "msrs": "MSRS", "vifb": "VIFB"}
UNRANKED = ("Nabf", "halo")
FIRST = 6
"""Metrics of the first of the two tables of a set."""


def measure(options: argparse.Namespace) -> Measured:
    """A row for every set and method."""
    rows = [row for name in options.set for row in measure_set(options.data, name, methods=select())]
    return {"sets": options.set}, rows


def measure_set(data: Path, name: str, *, methods: Sequence[Method]) -> list[Row]:
    """Mean and standard error of every metric over all pairs of a set, for every method.

    Raises:
        CaptureError: the set is not there.
        ConfigError: an image cannot be read.
    """
    values: dict[str, list[dict[str, float]]] = {method.name: [] for method in methods}
    with ExitStack() as stack:
        fuses = {method.name: stack.enter_context(closing(method.open_luminance(still=True))) for method in methods}
        folder = data / "eval" / name
        for path in list_images(folder / "vi", uri=str(folder / "vi")).values():
            visible, thermal = read_gray(path), read_gray(folder / "ir" / path.name)
            for case, fuse in fuses.items():
                fused = fuse(visible_y=visible, thermal=thermal, timestamp_ns=0)
                metrics = image_metrics(fused=fused, visible=visible, thermal=thermal)
                values[case].append({**metrics, "halo": halo(fused=fused, visible=visible, thermal=thermal)})
    return [
        {"case": case, "set": name, "pairs": len(rows), **found["mean"], "standard_error": found["standard_error"]}
        for case, rows in values.items()
        for found in [summary(rows)]
    ]


def read_gray(path: Path) -> Image8:
    """The luminance of an image file, (H, W).

    Raises:
        ConfigError: it cannot be read as an image.
    """
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise ConfigError(f"cannot read {path} as an image")
    return image.astype(np.uint8, copy=False)


# -- tables -------------------------------------------------------------------------------------------------------------


def rows_of_set(data: Result, name: str) -> dict[str, Row]:
    """The rows of one set by case; results of before there were several sets are of TNO."""
    return {row["case"]: row for row in data["rows"] if row.get("set", "tno") == name}


def headline(data: Result) -> str:
    """One sentence of TNO, the set with published methods, for README.md: a model counts at its default alone."""
    rows = [row for row in data["rows"] if not row["case"].endswith((", enhance 0", ", enhance 1"))]
    ranks = ranks_of("tno", rows_of_set({**data, "rows": rows}, "tno"))
    models = [case for case in ranks if ", enhance " in case]
    if not models:
        return "Not measured with a model yet."
    best = min(models, key=ranks.__getitem__)
    ahead = sum(rank < ranks[best] for rank in ranks.values())
    place = "the best" if not ahead else f"place {ahead + 1}"
    return (
        f"Picture quality: mean rank **{ranks[best]:.2f}** over eleven metrics on the 42 TNO pairs, "
        f"{place} of {len(ranks)} methods ({best.replace(', ', ' at ')}; the plain average has {ranks['average']:.2f})."
    )


def set_tables(data: Result) -> str:
    """The table of every set that was measured."""
    return "\n\n".join(filter(None, (set_table(data, name) for name in SETS)))


def set_table(data: Result, name: str) -> str:
    """Ours (bold) and, where there are some, the published ones, by mean rank over eleven metrics: Markdown.

    Two tables, so that neither is wider than a page. Empty where nothing of the set was measured.
    """
    ours = rows_of_set(data, name)
    if not ours:
        return ""
    metrics = published("tno").metrics
    ranks = ranks_of(name, ours)
    others = published(name).rows if name in PUBLISHED else {}
    values = {f"**{short(case)}**": row for case, row in ours.items()}
    values |= {method: dict(zip(metrics, row, strict=True)) for method, row in others.items()}
    places = dict(zip(values, [*(ranks[case] for case in ours), *(ranks[method] for method in others)], strict=True))
    order = sorted(values, key=places.__getitem__)

    def part(names: Sequence[str], *, ranked: bool) -> str:
        head = ["method", *([f"rank of {len(ranks)}"] if ranked else []), *names]
        body = []
        for method in order:
            rank = [f"{places[method]:.2f}"] if ranked else []
            body.append([method, *rank, *(_shown(values[method].get(metric)) for metric in names)])
        return markdown(head, body)

    return "\n\n".join([part(metrics[:FIRST], ranked=True), part([*metrics[FIRST:], *UNRANKED], ranked=False)])


def short(case: str) -> str:
    """A model at a place of its dial as a table shows it: ``small at 0.62``."""
    return case.replace(", enhance ", " at ")


def ranks_of(name: str, ours: Mapping[str, Row]) -> dict[str, float]:
    """Mean rank of every row of a set, published ones among them."""
    metrics = published("tno").metrics
    rows = {case: [row[metric] for metric in metrics] for case, row in ours.items()}
    return mean_ranks(rows | (published(name).rows if name in PUBLISHED else {}), metrics=metrics)


def _shown(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if value >= 10 else f"{value:.3f}"


SUITE = Suite(
    name="fusers",
    help=__doc__,
    options={
        "--data": {**DATA, "help": "folder of the sets: eval/NAME/vi, ir"},
        "--set": {"nargs": "+", "default": list(SETS), "choices": SETS, "metavar": "NAME", "help": "default: all"},
    },
    measure=measure,
    table=set_tables,
)

if __name__ == "__main__":
    sys.exit(SUITE.main())
