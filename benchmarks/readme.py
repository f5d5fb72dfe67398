"""Puts the tables of the committed results into README.md and docs, between their markers. `python -m benchmarks.readme`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from benchmarks import fusers, speed, visibility

ROOT = Path(__file__).resolve().parents[1]
TABLES = {"speed": speed.table, "fusers": fusers.table, "visibility": visibility.table}
PAGES = {"README.md": ("fusers", "speed"), "docs/visibility.md": ("visibility",)}


def main() -> None:
    """Rewrite the pages."""
    for page, suites in PAGES.items():
        path = ROOT / page
        path.write_text(with_tables(path.read_text(encoding="utf-8"), suites), encoding="utf-8")


def with_tables(text: str, suites: Iterable[str]) -> str:
    """``text`` with every ``<!-- NAME table -->`` to ``<!-- end -->`` filled from ``benchmarks/results/NAME.json``."""
    for name in suites:
        data = json.loads((ROOT / f"benchmarks/results/{name}.json").read_text(encoding="utf-8"))
        start, end = f"<!-- {name} table -->\n", "<!-- end -->"
        before, found, rest = text.partition(start)
        if not found or end not in rest:
            raise SystemExit(f"there is no place for the {name} table: {start.strip()} ... {end}")
        text = f"{before}{start}{TABLES[name](data)}\n{end}{rest.partition(end)[2]}"
    return text


if __name__ == "__main__":
    main()
