"""Image quality of the classical fusers and of the shipped models, beside published methods scored by the same definitions.

::

    python -m benchmarks.fusers --data DIR [--set NAME ...] [--json FILE]

``DIR`` holds the sets (``eval/tno/vi``, ``eval/tno/ir`` …). Published values exist for TNO. The mean rank is taken over eleven
metrics among all rows of a set; beside it stand Nabf and the halo around hot targets, in which less is better and which
are not ranked, since nobody publishes them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rtfusion.errors import ConfigError, FusionError
from rtfusion.evaluate import timing
from rtfusion.evaluate.conditions import Conditions
from rtfusion.evaluate.images import read_gray
from rtfusion.evaluate.methods import Method, select
from rtfusion.evaluate.metrics import halo, image_metrics
from rtfusion.evaluate.quality import PUBLISHED, SUFFIXES
from rtfusion.evaluate.ranking import mean_ranks
from rtfusion.types import Image8

SETS = {"tno": "TNO", "roadscene": "RoadScene", "msrs": "MSRS", "vifb": "VIFB"}
UNRANKED = ("Nabf", "halo")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables, and write the result file where one is asked for; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fusers", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of the sets: eval/NAME/vi, ir")
    parser.add_argument("--set", nargs="+", default=list(SETS), choices=SETS, metavar="NAME", help="default: all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="result file to write")
    options = parser.parse_args(arguments)
    conditions = Conditions()
    try:
        rows = [row for name in options.set for row in measure(options.data, name, methods=select())]
    except FusionError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    data = timing.result("fusers", settings={"sets": options.set}, rows=rows, conditions=conditions)
    print("\n\n".join(set_table(data, name) for name in options.set))
    if options.json is not None:
        timing.save(data, options.json)
    return 0


def measure(data: Path, name: str, *, methods: Sequence[Method]) -> list[dict[str, Any]]:
    """Mean and standard error of every metric over all pairs of a set, for every method.

    Raises:
        ConfigError: the set is not there.
    """
    values: dict[str, list[dict[str, float]]] = {method.name: [] for method in methods}
    opened = {method.name: method.open_luminance(still=True) for method in methods}
    for visible, thermal in _pairs(data / "eval" / name):
        for case, fuse in opened.items():
            fused = fuse(visible_y=visible, thermal=thermal, timestamp_ns=0)
            metrics = image_metrics(fused=fused, visible=visible, thermal=thermal)
            values[case].append({**metrics, "halo": halo(fused=fused, visible=visible, thermal=thermal)})
    for fuse in opened.values():
        fuse.close()
    return [{"case": case, "set": name, "pairs": len(rows), **_means(rows)} for case, rows in values.items()]


def _means(rows: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Means by metric, and ``standard_error``; pairs where a metric has no value (halo without a target) are left out."""
    table = np.array([list(row.values()) for row in rows])
    known = np.isfinite(table)
    counts = known.sum(axis=0)
    mean = np.where(known, table, 0).sum(axis=0) / np.maximum(counts, 1)
    spread = np.sqrt(np.where(known, (table - mean) ** 2, 0).sum(axis=0) / np.maximum(counts - 1, 1))
    error = spread / np.sqrt(np.maximum(counts, 1))
    names = list(rows[0])
    return {
        **{name: float(mean[i]) if counts[i] else None for i, name in enumerate(names)},
        "standard_error": {name: float(error[i]) if counts[i] > 1 else None for i, name in enumerate(names)},
    }


def table(data: Mapping[str, Any]) -> str:
    """TNO, the set with published methods, by mean rank; of a model's dial not the ends, only its default. Markdown."""
    rows = [row for row in data["rows"] if not row["case"].endswith((", enhance 0", ", enhance 1"))]
    return set_table({**data, "rows": rows}, "tno", unranked=())


def set_table(data: Mapping[str, Any], name: str, *, unranked: Sequence[str] = UNRANKED) -> str:
    """Ours (bold) and, where there are some, the published ones, by mean rank over eleven metrics: Markdown.

    Empty where nothing of the set was measured.
    """
    published: dict[str, Any] = {"rows": {}}
    if name in PUBLISHED:
        published = json.loads(PUBLISHED[name].read_text(encoding="utf-8"))
    names: list[str] = json.loads(PUBLISHED["tno"].read_text(encoding="utf-8"))["metrics"]
    ours = {row["case"]: row for row in data["rows"] if row.get("set", "tno") == name}
    if not ours:
        return ""
    rows = {f"**{case}**": [row[metric] for metric in names] for case, row in ours.items()} | published["rows"]
    more = {f"**{case}**": [row.get(metric) for metric in unranked] for case, row in ours.items()}
    ranks = mean_ranks(rows, metrics=names)
    head = ["method", *names, "mean rank", *unranked]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for method in sorted(rows, key=ranks.__getitem__):
        cells = [*map(_number, rows[method]), f"{ranks[method]:.2f}"]
        cells += [_number(value) for value in more.get(method, [None] * len(unranked))]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if value >= 10 else f"{value:.3f}"


def _pairs(folder: Path) -> Iterator[tuple[Image8, Image8]]:
    """Visible and thermal luminance of every pair of a set."""
    visible = sorted(path for path in (folder / "vi").glob("*") if path.suffix.lower() in SUFFIXES)
    if not visible:
        raise ConfigError(f"{folder / 'vi'} holds no images; expected the visible images of the set")
    for path in visible:
        yield read_gray(path), read_gray(folder / "ir" / path.name)


if __name__ == "__main__":
    sys.exit(main())
