"""Image quality of the classical fusers on TNO, beside published methods scored by the same definitions.

::

    python -m benchmarks.fusers --ir DIR --vis DIR [--json FILE]

The mean rank is taken over eleven metrics among all rows (1 is best; every metric counts the same, higher is better in all).
No single metric tells which picture a person would choose; a mean rank over many at least cannot be bought with one.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks import timing
from rtfusion.fusion import Overlay, open_method
from rtfusion.metrics import image_metrics
from rtfusion.types import Image8

FUSERS = ("pyramid", "average", "maximum")
PUBLISHED = Path(__file__).with_name("published_tno.json")


def main() -> None:
    """Measure, print the table, and write the result file where one is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fusers", description=__doc__.splitlines()[0])
    parser.add_argument("--ir", type=Path, required=True, help="folder of the 42 thermal images")
    parser.add_argument("--vis", type=Path, required=True, help="folder of the 42 visible images")
    parser.add_argument("--json", type=Path, help="result file to write")
    arguments = parser.parse_args()
    data = timing.result(
        "fusers", settings={"set": _published()["set"]}, rows=measure(ir=arguments.ir, vis=arguments.vis)
    )
    print(table(data))
    if arguments.json is not None:
        timing.save(data, arguments.json)


def measure(*, ir: Path, vis: Path) -> list[dict[str, Any]]:
    """Mean of every metric over all pairs, for every fuser."""
    values: dict[str, list[list[float]]] = {name: [] for name in FUSERS}
    names = _published()["metrics"]
    for path in sorted(vis.iterdir()):
        visible, thermal = _gray(path), _gray(ir / path.name)
        for name in FUSERS:
            method = open_method(name, still=True)
            if isinstance(method, Overlay):
                raise SystemExit(f"{name} paints; only luminance fusers are measured")
            fused = method(visible_y=visible, thermal=thermal, timestamp_ns=0)
            metrics = image_metrics(fused=fused, visible=visible, thermal=thermal)
            values[name].append([metrics[metric] for metric in names])
    return [
        {"case": name, "pairs": len(rows), **dict(zip(names, np.mean(rows, axis=0).tolist(), strict=True))}
        for name, rows in values.items()
    ]


def table(data: dict[str, Any]) -> str:
    """All rows, ours and the published ones, by mean rank: a Markdown table."""
    published = _published()
    names = published["metrics"]
    rows = {f"**{row['case']}**": [row[name] for name in names] for row in data["rows"]} | published["rows"]
    ranks = mean_ranks(rows)
    lines = ["| " + " | ".join(["method", *names, "mean rank"]) + " |", "|" + "---|" * (len(names) + 2)]
    for method in sorted(rows, key=ranks.__getitem__):
        cells = [f"{value:.1f}" if value >= 10 else f"{value:.3f}" for value in rows[method]]
        lines.append(f"| {method} | {' | '.join(cells)} | {ranks[method]:.2f} |")
    return "\n".join(lines)


def mean_ranks(rows: dict[str, list[float]]) -> dict[str, float]:
    """Mean rank of every row over its columns; equal values share the mean of their places."""
    values = np.array(list(rows.values()))
    better = (values[None] > values[:, None]).sum(axis=1)
    equal = (values[None] == values[:, None]).sum(axis=1)
    places = 1 + better + (equal - 1) / 2
    return dict(zip(rows, places.mean(axis=1).tolist(), strict=True))


def _gray(path: Path) -> Image8:
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise SystemExit(f"{path}: not an image that can be read")
    return image.astype(np.uint8, copy=False)


def _published() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    return data


if __name__ == "__main__":
    main()
