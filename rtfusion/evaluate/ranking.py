"""Mean ranks over many metrics: no single one tells which picture a person would choose, and a mean cannot be bought with one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

LOWER_IS_BETTER = frozenset({"Nabf", "halo", "warp"})
PUBLISHED = {"tno": Path(__file__).with_name("published_tno.json")}
"""Values of published methods by the same definitions, by set."""


class Published(NamedTuple):
    """The values of published methods on one set."""

    metrics: list[str]
    rows: dict[str, list[float]]
    """The values of every method, one for each metric."""
    pictures: dict[str, float]
    """What the set is known by: the number of ``pairs``, and the mean entropy of the ``visible`` and ``thermal`` pictures."""


def published(name: str) -> Published:
    """The published values of a set of `PUBLISHED`."""
    data = json.loads(PUBLISHED[name].read_text(encoding="utf-8"))
    return Published(metrics=data["metrics"], rows=data["rows"], pictures=data["pictures"])


def mean_ranks(rows: Mapping[str, Sequence[float]], *, metrics: Sequence[str] = ()) -> dict[str, float]:
    """Mean rank of every row over its columns, 1 is best; equal values share the mean of their places.

    ``metrics`` names the columns; those of `LOWER_IS_BETTER` are ranked the other way. Without names higher is better.
    """
    values = np.array([list(row) for row in rows.values()], np.float64)
    values[:, [column for column, name in enumerate(metrics) if name in LOWER_IS_BETTER]] *= -1
    better = (values[None] > values[:, None]).sum(axis=1)
    equal = (values[None] == values[:, None]).sum(axis=1)
    places = 1 + better + (equal - 1) / 2
    return dict(zip(rows, places.mean(axis=1).tolist(), strict=True))
