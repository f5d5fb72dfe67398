"""The measuring contract of every suite.

Warm-up before measuring; comparisons are interleaved (A B A B …) and reported as ratios to a baseline in the same round, since
a shared machine drifts; every result carries what it was measured on. Results are JSON files of one schema.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

SCHEMA = 1
REQUIRED = ("schema", "suite", "commit", "measured_utc", "machine", "versions", "settings", "rows")
PACKAGES = ("rtfusion", "numpy", "opencv-python", "av", "openvino", "pyzmq")


def machine() -> dict[str, Any]:
    """Processor, cores that may be used, memory, load at the start."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    pages, page_bytes = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(pages * page_bytes / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "load_1min": round(os.getloadavg()[0], 2),
    }


def versions() -> dict[str, str]:
    """Python and the packages that decide the speed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "absent"
    return found


def commit() -> str:
    """The commit that was measured, marked when the tree had changes; ``unknown`` outside of a checkout."""
    here = Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=False)  # noqa: S603, S607
        return done.stdout.strip()

    head = git("rev-parse", "--short=12", "HEAD")
    return (head + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")) or "unknown"


def interleaved(
    cases: Mapping[str, Callable[[], dict[str, float]]], *, rounds: int, baseline: str, figure: str
) -> list[dict[str, Any]]:
    """Run every case once per round, round after round, and summarize.

    Each case returns its figures. A row holds the median and the extremes over the rounds of every figure, and ``ratio``: the
    median over the rounds of this case's ``figure`` divided by the baseline's in the same round.
    """
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, case in cases.items():
            measured[name].append(case())
    rows = []
    for name, runs in measured.items():
        row: dict[str, Any] = {"case": name, "rounds": rounds}
        for key in runs[0]:
            row[key] = _summary([run[key] for run in runs])
        pairs = zip(runs, measured[baseline], strict=True)
        row["ratio"] = statistics.median(run[figure] / base[figure] for run, base in pairs)
        rows.append(row)
    return rows


def _summary(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def result(suite: str, *, settings: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The result file of a suite."""
    return {
        "schema": SCHEMA,
        "suite": suite,
        "commit": commit(),
        "measured_utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "settings": dict(settings),
        "rows": [dict(row) for row in rows],
    }


def save(data: Mapping[str, Any], path: Path) -> None:
    """Write a result file after checking it."""
    missing = [key for key in REQUIRED if key not in data]
    if missing:
        raise ValueError(f"a result lacks {', '.join(missing)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
