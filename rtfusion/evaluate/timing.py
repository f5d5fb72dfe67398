"""The measuring contract of every suite.

Warm-up before measuring; comparisons are interleaved (A B A B …) and reported as ratios to a baseline in the same round, since
a shared machine drifts; distributions by p50, p90, p95, p99 and max; every result carries what it was measured on and under.
Results are JSON files of one schema (`rtfusion.evaluate.schema`).
"""

from __future__ import annotations

import contextlib
import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from rtfusion import __version__
from rtfusion.clock import NS_PER_MS
from rtfusion.evaluate import conditions, schema
from rtfusion.files import write_whole
from rtfusion.progress import steps

PACKAGES = ("rtfusion", "numpy", "opencv-python", "av", "openvino", "onnxruntime", "pyzmq", "torch", "tensorrt")
"""Packages that decide speed or results; those not installed are left out of a result."""
PERCENTILES = (50, 90, 95, 99)

Figures = Mapping[str, Any]
K = TypeVar("K")
T = TypeVar("T")


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """The version of every package that is installed; rtfusion may be used from a checkout, without an installation."""
    found = {"rtfusion": __version__} if "rtfusion" in packages else {}
    for package in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def commit() -> str:
    """The commit that was measured, with ``+changes`` where the tree had some; ``unknown`` outside of a checkout."""
    describe = ["git", "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty=+changes"]
    with contextlib.suppress(OSError):  # no git
        done = subprocess.run(describe, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)  # noqa: S603
        return done.stdout.strip() or "unknown"
    return "unknown"


def duration_ms(run: Callable[[], object]) -> float:
    """Call it, and give the milliseconds that it took."""
    started_ns = time.perf_counter_ns()
    run()
    return (time.perf_counter_ns() - started_ns) / NS_PER_MS


def distribution(values: Sequence[float]) -> dict[str, float]:
    """``count``, ``mean``, ``p50``, ``p90``, ``p95``, ``p99`` and ``max`` of durations, one for each frame."""
    array = np.asarray(values, np.float64)
    found = {f"p{percent}": float(np.percentile(array, percent)) for percent in PERCENTILES}
    return {"count": len(array), "mean": float(array.mean()), **found, "max": float(array.max())}


def run_interleaved(cases: Mapping[K, Callable[[], T]], *, rounds: int, warm_up: int = 0) -> dict[K, list[T]]:
    """Run A B C, A B C …; gives what every case gave in every round, after ``warm_up`` rounds that do not count."""
    measured: dict[K, list[T]] = {name: [] for name in cases}
    turns = [(index, name) for index in range(warm_up + rounds) for name in cases]
    for index, name in steps(turns, "measuring"):
        figures = cases[name]()
        if index >= warm_up:
            measured[name].append(figures)
    return measured


def ratios(values: Sequence[float], baseline: Sequence[float]) -> dict[str, Any]:
    """Pair by pair of the same round, and their median."""
    pairs = [value / base for value, base in zip(values, baseline, strict=True)]
    return {"ratio": statistics.median(pairs), "ratios": pairs}


def interleaved_rows(
    cases: Mapping[str, Callable[[], Figures]], *, rounds: int, baseline: str, figure: str, warm_up: int = 0
) -> list[dict[str, Any]]:
    """Run every case once per round, round after round, and summarize.

    Each case returns its figures. A row holds the median and the extremes over the rounds of every figure, ``ratios``: this
    case's ``figure`` divided by the baseline's in the same round, round by round, and ``ratio``, their median.
    """
    measured = run_interleaved(cases, rounds=rounds, warm_up=warm_up)
    base = [run[figure] for run in measured[baseline]]
    return [
        {"case": name, "rounds": rounds, **spreads(runs), **ratios([run[figure] for run in runs], base)}
        for name, runs in measured.items()
    ]


def spreads(runs: Sequence[Figures], names: Iterable[str] | None = None) -> dict[str, dict[str, float]]:
    """The `spread` over the rounds of every figure, or of those that are named."""
    return {name: spread([run[name] for run in runs]) for name in names or runs[0]}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and extremes of one figure over the rounds."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def result(
    suite: str,
    *,
    settings: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    start: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The result file of a suite; ``start`` is the snapshot of the conditions from before it was measured."""
    return {
        "schema": schema.SCHEMA,
        "suite": suite,
        "commit": commit(),
        "measured_utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": conditions.machine(),
        "versions": {"python": platform.python_version(), **versions()},
        "conditions": conditions.report(conditions.snapshot() if start is None else start),
        "settings": dict(settings),
        "rows": [dict(row) for row in rows],
    }


def save(data: Mapping[str, Any], path: Path) -> None:
    """Write a result file after checking it.

    Raises:
        ConfigError: it is not of the schema.
    """
    schema.check(data, name=str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(data, indent=1, allow_nan=False) + "\n")
