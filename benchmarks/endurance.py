"""Does a run hold its rate for minutes? Frames missed, their age at the sink, and the memory, minute by minute.

    python -m benchmarks.endurance --json benchmarks/results/endurance.json

Two live synthetic cameras and the null sink, in a process of its own, as ``rtfusion run`` starts it. The cameras play the same
frames over and over, which are made before: what is measured is the run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rtfusion.evaluate import timing
from rtfusion.evaluate.bench import CAMERA_FRAMES
from rtfusion.evaluate.conditions import Conditions

SAMPLES_A_MINUTE = 12


def measure(settings: Mapping[str, Any], *, size: str, rate_hz: int, minutes: float) -> dict[str, Any]:
    """One run; its counts, the ages of its frames in milliseconds, and the mean memory of every minute.

    Raises:
        RuntimeError: it failed.
    """
    frames = round(minutes * 60 * rate_hz)
    camera = f"synthetic:?live=true&size={size}&fps={rate_hz}&prerender={CAMERA_FRAMES}&frames={frames}"
    with tempfile.TemporaryDirectory(prefix="rtfusion-endurance-") as folder:
        told = Path(folder) / "run.json"
        options = {**settings, "vis": camera, "ir": camera, "sink": "null:", "stats-json": told}
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        command = [sys.executable, "-m", "rtfusion", "run", *words]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603
            try:
                memory_mb = _watch(process)
                _, said = process.communicate()
            finally:
                process.kill()
        if process.returncode:
            raise RuntimeError(said.strip().splitlines()[-1] if said.strip() else "it said nothing")
        run = json.loads(told.read_text(encoding="utf-8"))
    age_ms = run["age_ms"]["null:"]
    return {
        "wanted": frames,
        "fused": run["fused"],
        "missed": frames - run["fused"],
        "drops": run["drops"],
        "engine": run["engine"],
        "fps": run["fps"],
        "age_ms": {name: age_ms[name] for name in ("p50", "p95", "p99", "max")},
        "memory_mb": memory_mb,
    }


def _watch(process: subprocess.Popen[str]) -> list[float]:
    """The resident size in MB of every minute that the process lives, the mean of `SAMPLES_A_MINUTE`."""
    sizes_mb: list[float] = []
    while True:
        try:
            process.wait(timeout=60 / SAMPLES_A_MINUTE)
        except subprocess.TimeoutExpired:
            sizes_mb.append(_resident_mb(process.pid))
        else:
            minutes = range(0, len(sizes_mb), SAMPLES_A_MINUTE)
            return [_mean(sizes_mb[start : start + SAMPLES_A_MINUTE]) for start in minutes]


def _resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS:")), 0.0)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def table(data: dict[str, Any]) -> str:
    """The result as Markdown."""
    settings, machine = data["settings"], data["machine"]
    lines = [
        f"{settings['size']} at {settings['rate_hz']} Hz for {settings['minutes']:g} minutes, {machine['cores']} cores of "
        f"{machine['processor']}",
        "",
        "| run | fused | missed | age p50 ms | p99 ms | largest ms | memory MB, second minute to last |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in data["rows"]:
        age, memory = row["age_ms"], [*row["memory_mb"][1:2], *row["memory_mb"][-1:]]
        lines.append(
            f"| {row['case']} | {row['fused']} | {row['missed']} | {age['p50']:.1f} | {age['p99']:.1f} | {age['max']:.1f} "
            f"| {' to '.join(f'{value:.0f}' for value in memory)} |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The named command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.endurance", description=str(__doc__).splitlines()[0])
    parser.add_argument("--fuser", default="learned")
    parser.add_argument("--size", default="640x480")
    parser.add_argument("--rate-hz", type=int, default=60)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--json", type=Path, help="result file to write")
    asked = parser.parse_args(arguments)
    conditions = Conditions()
    started_s = time.monotonic()
    try:
        row = measure({"fuser": asked.fuser}, size=asked.size, rate_hz=asked.rate_hz, minutes=asked.minutes)
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    settings = {"size": asked.size, "rate_hz": asked.rate_hz, "minutes": asked.minutes}
    rows = [{"case": asked.fuser, **row, "elapsed_s": time.monotonic() - started_s}]
    data = timing.result("endurance", settings=settings, rows=rows, conditions=conditions)
    print(table(data))
    if asked.json is not None:
        timing.save(data, asked.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
