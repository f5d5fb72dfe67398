"""What docs/comparison.md says in words and numbers, from the committed results: who is ahead, and where ours loses."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.fusers import SETS
from rtfusion.evaluate.quality import PUBLISHED
from rtfusion.evaluate.ranking import mean_ranks

REFERENCE = "pyramid"
"""The classical fuser that a model has to beat."""
OWN_CLASSICAL = ("average", "maximum", "pyramid")


def ranks_table(data: Mapping[str, Any]) -> str:
    """Mean rank of every method of ours in every set, among all rows of that set; Markdown."""
    ranks = {name: _ranks(data, name) for name in SETS if _ours(data, name)}
    cases = list(dict.fromkeys(case for name in ranks for case in _ours(data, name)))
    head = ["method", *(f"{SETS[name]} (of {len(ranks[name])})" for name in ranks)]
    body = [[case, *(f"{ranks[name][case]:.2f}" if case in ranks[name] else "-" for name in ranks)] for case in cases]
    return _markdown(head, body)


def losses(data: Mapping[str, Any]) -> str:
    """In which metrics each model is behind the pyramid fuser, set by set, and behind whom it is by mean rank; Markdown."""
    models = [case for case in dict.fromkeys(row["case"] for row in data["rows"]) if case not in OWN_CLASSICAL]
    if not models:
        return "No trained model is in these results."
    body = []
    for case in models:
        for name in SETS:
            ours = _ours(data, name)
            if case not in ours or REFERENCE not in ours:
                continue
            behind = _behind(ours[case], ours[REFERENCE])
            ranks = _ranks(data, name)
            ahead = [other for other, rank in sorted(ranks.items(), key=lambda item: item[1]) if rank < ranks[case]]
            others = [other for other in ahead if not other.startswith(case.partition(",")[0])]
            body.append([case, SETS[name], ", ".join(behind) or "-", ", ".join(others) or "-"])
    return _markdown(["method", "set", f"behind {REFERENCE} in", "methods with a better mean rank"], body)


def printed_table(data: Mapping[str, Any]) -> str:
    """What authors print, each source by itself: definitions differ, so they are not to be ranked together; Markdown."""
    parts = []
    for source in data["sources"]:
        head = ["method", *source["metrics"]]
        body = [
            [method, *("-" if value is None else f"{value:g}" for value in values)]
            for method, values in source["rows"].items()
        ]
        parts += [f"{source['set']}, by {source['source']}", "", _markdown(head, body), ""]
    return "\n".join(parts).rstrip()


def _ours(data: Mapping[str, Any], name: str) -> dict[str, Mapping[str, Any]]:
    return {row["case"]: row for row in data["rows"] if row.get("set", "tno") == name}


def _ranks(data: Mapping[str, Any], name: str) -> dict[str, float]:
    metrics = _metrics()
    rows = {case: [row[metric] for metric in metrics] for case, row in _ours(data, name).items()}
    if name in PUBLISHED:
        rows |= json.loads(PUBLISHED[name].read_text(encoding="utf-8"))["rows"]
    return mean_ranks(rows, metrics=metrics)


def _behind(row: Mapping[str, Any], reference: Mapping[str, Any]) -> list[str]:
    """Metrics in which it is worse, with both values."""
    return [
        f"{metric} {_short(row[metric])} ({_short(reference[metric])})"
        for metric in _metrics()
        if row[metric] < reference[metric]
    ]


def _metrics() -> list[str]:
    names: list[str] = json.loads(PUBLISHED["tno"].read_text(encoding="utf-8"))["metrics"]
    return names


def _short(value: float) -> str:
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _markdown(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *body))
