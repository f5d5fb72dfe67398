"""Does a run hold its rate for minutes? Frames missed, their age at the sink, and the memory, minute by minute.

    python -m benchmarks.endurance --json benchmarks/results/endurance.json

Two live synthetic cameras and the null sink, in a process of its own, as ``rtfusion run`` starts it. The cameras play the same
frames over and over, which are made before: what is measured is the run.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from benchmarks.suite import Measured, Result, Suite, chosen, columns_table, hardware
from rtfusion.errors import ConfigError
from rtfusion.evaluate.bench import live_camera

SAMPLES_A_MINUTE = 12
COLUMNS = (
    ("run", "{case}"),
    ("fused", "{fused}"),
    ("missed", "{missed}"),
    ("age p50 ms", "{age_ms[p50]:.1f}"),
    ("p99 ms", "{age_ms[p99]:.1f}"),
    ("largest ms", "{age_ms[max]:.1f}"),
    ("memory MB, second minute to last", "{memory}"),
)


def measure(options: argparse.Namespace) -> Measured:
    """One run: its counts, the ages of its frames, and the mean memory of every minute.

    Raises:
        ConfigError: the run failed.
    """
    frames = round(options.minutes * 60 * options.rate_hz)
    camera = live_camera(size=options.size, rate_hz=options.rate_hz, frames=frames)
    started_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="rtfusion-endurance-") as folder:
        stats = Path(folder) / "run.json"
        given = {
            "--fuser": options.fuser,
            "--vis": camera,
            "--ir": camera,
            "--sink": "null:",
            "--stats-json": str(stats),
        }
        memory_mb = _run([sys.executable, "-m", "rtfusion", "run", *itertools.chain.from_iterable(given.items())])
        run = json.loads(stats.read_text(encoding="utf-8"))
    row = {
        "case": options.fuser,
        "wanted": frames,
        "fused": run["fused"],
        "missed": frames - run["fused"],
        "drops": run["drops"],
        "engine": run["engine"],
        "fps": run["fps"],
        "age_ms": {name: run["age_ms"]["null:"][name] for name in ("p50", "p95", "p99", "max")},
        "memory_mb": memory_mb,
        "elapsed_s": time.monotonic() - started_s,
    }
    return chosen(options, "size", "rate_hz", "minutes"), [row]


def _run(words: Sequence[str]) -> list[float]:
    """The mean resident size in MB of every minute that the run lives."""
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603
        try:
            sizes_mb: list[float] = []
            while process.poll() is None:
                sizes_mb.append(_resident_mb(process.pid))
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=60 / SAMPLES_A_MINUTE)
            said = process.communicate()[1].strip()
        finally:
            process.kill()
    if process.returncode:
        raise ConfigError(said.splitlines()[-1] if said else "the run failed, and said nothing")
    starts = range(0, len(sizes_mb), SAMPLES_A_MINUTE)
    return [fmean(sizes_mb[start : start + SAMPLES_A_MINUTE]) for start in starts]


def _resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS:")), 0.0)


def table(data: Result) -> str:
    """The counts, ages and memory as Markdown."""
    title = "{size} at {rate_hz} Hz for {minutes:g} minutes, ".format_map(data["settings"]) + hardware(data)
    rows = [
        {**row, "memory": " to ".join(f"{size_mb:.0f}" for size_mb in [*sizes_mb[1:2], *sizes_mb[-1:]])}
        for row in data["rows"]
        for sizes_mb in [row["memory_mb"]]
    ]
    return f"{title}\n\n{columns_table(COLUMNS, rows)}"


SUITE = Suite(
    name="endurance",
    help=__doc__,
    options={
        "--fuser": {"default": "learned"},
        "--size": {"default": "640x480"},
        "--rate-hz": {"type": int, "default": 60},
        "--minutes": {"type": float, "default": 10.0},
    },
    measure=measure,
    table=table,
)

if __name__ == "__main__":
    sys.exit(SUITE.main())
