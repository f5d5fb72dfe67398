"""One runner for every suite: what a suite declares, and the one main that measures, prints the table and writes the result.

A suite is run as ``python -m benchmarks.NAME``; ``--json FILE`` writes its result file, and ``--help`` lists its options.
"""

from __future__ import annotations

import argparse
import string
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtfusion.errors import FusionError
from rtfusion.evaluate import timing
from rtfusion.evaluate.conditions import snapshot

Result = Mapping[str, Any]
"""A result file (`rtfusion.evaluate.schema`)."""
Row = dict[str, Any]
Measured = tuple[Mapping[str, Any], Sequence[Row]]
"""The settings that a result file states, and its rows."""
Columns = Sequence[tuple[str, str]]
"""Headings, each with a format string over a row, such as ``{fps[median]:.0f}``."""

DATA: Mapping[str, Any] = {"type": Path, "required": True, "metavar": "DIR"}
"""The option of a folder of recordings."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Suite:
    """One suite: its options, how it measures, and how its result is shown."""

    name: str
    help: str
    """The docstring of its module; its first line stands in ``--help``."""
    options: Mapping[str, Mapping[str, Any]]
    """Flag to the keyword arguments of argparse's ``add_argument``."""
    measure: Callable[[argparse.Namespace], Measured]
    table: Callable[[Result], str]
    """Markdown, for the terminal and for the pages that `benchmarks.readme` fills."""
    plots: Callable[[Result], Mapping[str, str]] | None = None
    """SVG by the stem of its file; such a suite has the option ``--plots DIR`` as well."""
    failures: Callable[[Result], Sequence[str]] = lambda data: ()
    """Sentences that say what is not as it has to be; any of them makes the exit code 1."""

    def main(self, arguments: Sequence[str] | None = None) -> int:
        """Measure, print the table, and write the files that were asked for; gives the exit code."""
        options = self._parse(arguments)
        start = snapshot()
        try:
            settings, rows = self.measure(options)
            data = timing.result(self.name, settings=settings, rows=rows, start=start)
            print(self.table(data))
            if options.json is not None:
                timing.save(data, options.json)
            if self.plots is not None and options.plots is not None:
                write_plots(self.plots(data), options.plots)
        except FusionError as error:
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code
        failures = self.failures(data)
        for failure in failures:
            print(f"FAILED: {failure}")
        return 1 if failures else 0

    def _parse(self, arguments: Sequence[str] | None) -> argparse.Namespace:
        parser = argparse.ArgumentParser(
            prog=f"python -m benchmarks.{self.name}", description=self.help.splitlines()[0]
        )
        for flag, details in self.options.items():
            parser.add_argument(flag, **details)
        parser.add_argument("--json", type=Path, metavar="FILE", help="result file to write")
        if self.plots is not None:
            parser.add_argument("--plots", type=Path, metavar="DIR", help="folder for the plots")
        return parser.parse_args(arguments)


def chosen(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Options by name, for the settings that a result file states."""
    return {name: getattr(options, name) for name in names}


def write_plots(plots: Mapping[str, str], folder: Path) -> None:
    """Write every SVG into ``folder``, which is made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for stem, svg in plots.items():
        (folder / f"{stem}.svg").write_text(svg, encoding="utf-8")


class _Cells(string.Formatter):
    """`str.format` for rows of results: a figure that is missing or None is a dash."""

    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        try:
            return super().get_field(field_name, args, kwargs)
        except (KeyError, TypeError):
            return None, field_name

    def format_field(self, value: Any, format_spec: str) -> str:
        return "-" if value is None else str(super().format_field(value, format_spec))


def columns_table(columns: Columns, rows: Iterable[Result]) -> str:
    """A Markdown table of declared columns, a line for every row."""
    cells = _Cells()
    body = [[cells.vformat(text, (), row) for _, text in columns] for row in rows]
    return markdown([heading for heading, _ in columns], body)


def markdown(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    first, *lines = (f"| {' | '.join(cells)} |" for cells in (head, *body))
    return "\n".join([first, f"|{'---|' * len(head)}", *lines])


def is_met(row: Row) -> bool:
    """Tell whether a figure reaches its ``bar``, from the side that ``better`` says; one without a bar does."""
    if row["bar"] is None:
        return True
    return bool(row["value"] >= row["bar"] if row["better"] == "higher" else row["value"] <= row["bar"])


def bar_of(row: Row) -> str:
    """The bar of a figure in words; empty for one without."""
    words = {"higher": "at least", "lower": "at most"}
    return "" if row["bar"] is None else f"{words[row['better']]} {row['bar']:.3g}"


def barred(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows with what a table says of their bars: ``limit``, and ``met``, empty or *missed*."""
    return ({**row, "limit": bar_of(row), "met": "" if is_met(row) else "missed"} for row in rows)


def hardware(data: Result) -> str:
    """The cores and the processor that a result was measured on, for the title of its table."""
    return f"{data['machine']['cores']} cores of {data['machine']['processor']}"


def grouped(rows: Iterable[Row], key: str) -> dict[Any, list[Row]]:
    """The rows by one of their figures, in the order in which its values come."""
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(row[key], []).append(row)
    return groups
