"""Puts the tables and plots of the committed results into README.md and docs/. `python -m benchmarks.readme`."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

from benchmarks import comparison, fusers, scale, speed
from benchmarks.intents import language
from benchmarks.suite import Result, hardware, markdown, write_plots
from rtfusion.evaluate import bench

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks/results"
IMAGES = ROOT / "docs/images"
PRINTED = ROOT / "benchmarks/published_printed.json"


def bench_table(data: Result) -> str:
    """Rates and stages of ``rtfusion bench``, as Markdown."""
    tables = ((bench.RATES, bench.rates(data)), (bench.STAGES, bench.stages(data)))
    return "\n\n".join(
        [f"{data['settings']['source']}, {hardware(data)}", *(markdown(head, body) for head, body in tables)]
    )


_SUITES = (
    "endurance",
    "enhanced",
    "faults",
    "focus",
    "intents",
    "latency",
    "networks",
    "robust",
    "scale",
    "speed",
    "stability",
    "visibility",
)
_FUSERS = RESULTS / "fusers.json"
_SETS = {f"fusers-{name}": (_FUSERS, partial(fusers.set_table, name=name)) for name in fusers.SETS}
TABLES: Mapping[str, tuple[Path, Callable[[Result], str]]] = {
    **{name: (RESULTS / f"{name}.json", importlib.import_module(f"benchmarks.{name}").table) for name in _SUITES},
    "bench": (RESULTS / "bench.json", bench_table),
    "language": (RESULTS / "language.json", language.table),
    "fusers-headline": (_FUSERS, fusers.headline),
    "speed-headline": (RESULTS / "speed.json", speed.headline),
    **_SETS,
    "ranks": (_FUSERS, comparison.ranks_table),
    "losses": (_FUSERS, comparison.losses),
    "printed": (PRINTED, comparison.printed_table),
}
"""Marker to the file it is made from and how."""
PAGES = {
    "README.md": ("fusers-headline", "speed-headline"),
    "docs/focus.md": ("focus",),
    "docs/intents.md": ("intents",),
    "docs/language.md": ("language",),
    "docs/visibility.md": ("visibility",),
    "docs/trust.md": ("robust",),
    "docs/comparison.md": ("ranks", "losses", *_SETS, "stability", "enhanced", "networks", "printed"),
    "docs/benchmarks.md": ("speed", "bench", "scale"),
    "docs/service.md": ("latency", "endurance", "faults"),
}
PLOTS: Mapping[str, Callable[[Result], Mapping[str, str]]] = {
    "bench": lambda data: {"bench-stages": bench.draw(data)},
    "scale": scale.plots,
}
"""Result to the plots made of it, by the stem of their file."""


def main() -> None:
    """Rewrite the pages and the plots."""
    for name, draw in PLOTS.items():
        path, _ = TABLES[name]
        if path.exists():
            write_plots(draw(json.loads(path.read_text(encoding="utf-8"))), IMAGES)
    for page, names in PAGES.items():
        path = ROOT / page
        path.write_text(with_tables(path.read_text(encoding="utf-8"), names), encoding="utf-8")


def with_tables(text: str, names: Iterable[str]) -> str:
    """``text`` with every ``<!-- NAME table -->`` to ``<!-- end -->`` filled from the result that `TABLES` names."""
    for name in names:
        start, end = f"<!-- {name} table -->\n", "<!-- end -->"
        before, found, rest = text.partition(start)
        if not found or end not in rest:
            raise SystemExit(f"there is no place for the {name} table: {start.strip()} ... {end}")
        text = f"{before}{start}{_made(name)}\n{end}{rest.partition(end)[2]}"
    return text


def _made(name: str) -> str:
    path, table = TABLES[name]
    if not path.exists():
        return f"*Not measured yet: there is no {path.relative_to(ROOT)}.*"
    data = json.loads(path.read_text(encoding="utf-8"))
    plots = PLOTS[name](data) if name in PLOTS else {}
    images = [f"![{stem.replace('-', ' ')}](images/{stem}.svg)" for stem in plots]
    return "\n\n".join([table(data) or "*This result holds nothing of it.*", *images])


if __name__ == "__main__":
    main()
