"""The tables of docs/comparison.md, made from the committed results: who is ahead, and where ours loses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.fusers import SETS, ranks_of, rows_of_set, short
from benchmarks.suite import Result, markdown
from rtfusion.evaluate.methods import CLASSICAL
from rtfusion.evaluate.ranking import published

REFERENCE = "pyramid"
"""The classical fuser that a model has to beat."""


def ranks_table(data: Result) -> str:
    """Mean rank of every method of ours in every set, among all rows of that set; Markdown."""
    ours = {name: rows for name in SETS if (rows := rows_of_set(data, name))}
    ranks = {name: ranks_of(name, rows) for name, rows in ours.items()}
    cases = dict.fromkeys(case for rows in ours.values() for case in rows)
    head = ["method", *(f"{SETS[name]} (of {len(ranks[name])})" for name in ranks)]
    body = [
        [short(case), *(f"{ranks[name][case]:.2f}" if case in ranks[name] else "-" for name in ranks)] for case in cases
    ]
    return markdown(head, body)


def losses(data: Result) -> str:
    """List the metrics in which each model is behind the pyramid fuser, set by set, and who has a better mean rank; a list."""
    models = [case for case in dict.fromkeys(row["case"] for row in data["rows"]) if case not in CLASSICAL]
    if not models:
        return "No trained model is in these results."
    lines = []
    for case in models:
        lines += [f"**{short(case)}**", ""]
        for name in SETS:
            ours = rows_of_set(data, name)
            if case in ours and REFERENCE in ours:
                behind = ", ".join(_behind(ours[case], ours[REFERENCE])) or "in none"
                ahead = ", ".join(map(short, _ahead(case, ranks_of(name, ours)))) or "none"
                lines.append(f"- {SETS[name]}: {behind}. Better ranks: {ahead}.")
        lines.append("")
    return "\n".join(lines).rstrip()


def printed_table(data: Result) -> str:
    """Show the values that authors print, each source by itself, since their definitions differ; Markdown."""
    parts = []
    for source in data["sources"]:
        rows = source["rows"].items()
        body = [[method, *("-" if value is None else f"{value:g}" for value in values)] for method, values in rows]
        parts += [f"{source['set']}, by {source['source']}", markdown(["method", *source["metrics"]], body)]
    return "\n\n".join(parts)


def _ahead(case: str, ranks: Mapping[str, float]) -> list[str]:
    """List the methods of a better mean rank, best first; the same model at another place of its dial does not count."""
    model = case.partition(",")[0]
    ordered = sorted(ranks, key=ranks.__getitem__)
    return [other for other in ordered if ranks[other] < ranks[case] and not other.startswith(model)]


def _behind(row: Mapping[str, Any], reference: Mapping[str, Any]) -> list[str]:
    """Metrics in which it is worse, with both values."""
    return [
        f"{metric} {_short(row[metric])} ({_short(reference[metric])})"
        for metric in published("tno").metrics
        if row[metric] < reference[metric]
    ]


def _short(value: float) -> str:
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
