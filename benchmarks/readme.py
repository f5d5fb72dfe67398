"""Puts the tables of the committed results into README.md, between their markers. `python -m benchmarks.readme`."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks import fusers, speed

ROOT = Path(__file__).resolve().parents[1]
SUITES = {"speed": speed.table, "fusers": fusers.table}


def main() -> None:
    """Rewrite README.md."""
    readme = ROOT / "README.md"
    readme.write_text(with_tables(readme.read_text(encoding="utf-8")), encoding="utf-8")


def with_tables(text: str) -> str:
    """``text`` with every ``<!-- NAME table -->`` to ``<!-- end -->`` filled from ``benchmarks/results/NAME.json``."""
    for name, table in SUITES.items():
        data = json.loads((ROOT / f"benchmarks/results/{name}.json").read_text(encoding="utf-8"))
        start, end = f"<!-- {name} table -->\n", "<!-- end -->"
        before, found, rest = text.partition(start)
        if not found or end not in rest:
            raise SystemExit(f"README.md has no place for the {name} table: {start.strip()} ... {end}")
        text = f"{before}{start}{table(data)}\n{end}{rest.partition(end)[2]}"
    return text


if __name__ == "__main__":
    main()
