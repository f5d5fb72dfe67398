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
from collections.abc import Sequence
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


def table(data: Result) -> str:
    """TNO, the set with published methods, by mean rank; of a model's dial not the ends, only its default. Markdown."""
    rows = [row for row in data["rows"] if not row["case"].endswith((", enhance 0", ", enhance 1"))]
    return set_table({**data, "rows": rows}, "tno", unranked=())


def set_tables(data: Result) -> str:
    """The table of every set that was measured."""
    return "\n\n".join(filter(None, (set_table(data, name) for name in SETS)))


def set_table(data: Result, name: str, *, unranked: Sequence[str] = UNRANKED) -> str:
    """Ours (bold) and, where there are some, the published ones, by mean rank over eleven metrics: Markdown.

    Empty where nothing of the set was measured.
    """
    ours = {f"**{case}**": row for case, row in rows_of_set(data, name).items()}
    if not ours:
        return ""
    names = published("tno").metrics
    rows = {case: [row[metric] for metric in names] for case, row in ours.items()}
    rows |= published(name).rows if name in PUBLISHED else {}
    ranks = mean_ranks(rows, metrics=names)
    body = []
    for method in sorted(rows, key=ranks.__getitem__):
        more = [ours.get(method, {}).get(metric) for metric in unranked]
        body.append([method, *map(_shown, rows[method]), f"{ranks[method]:.2f}", *map(_shown, more)])
    return markdown(["method", *names, "mean rank", *unranked], body)


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
