"""From the capture stamp to the subscriber: how old a frame is once its pixels are in another process's hands.

    python -m benchmarks.latency --json benchmarks/results/latency.json

Two synthetic cameras give frames at a camera's rate, a run fuses them and publishes over ZeroMQ on the loopback interface, and a
subscriber in another process takes each frame, decoded. Both processes share the cores that are allowed. Encodings take turns.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rtfusion import CaptureTimeout, subscribe
from rtfusion.clock import NS_PER_MS
from rtfusion.evaluate import timing
from rtfusion.evaluate.bench import CAMERA_FRAMES
from rtfusion.evaluate.conditions import Conditions
from rtfusion.evaluate.speed_case import command

ENCODINGS = ("raw", "jpeg", "shm")
WARM_UP_FRAMES = 60
TIMEOUT_S = 60.0
"""Longest wait for the first frame: a model is compiled meanwhile."""
BAR_MS = 50.0


def measure(*, encoding: str, fuser: str, size: str, rate_hz: int, seconds: float) -> dict[str, float]:
    """One run and its subscriber; the ages of its frames in milliseconds, and how many there were.

    Raises:
        RuntimeError: the run failed, or nothing came.
    """
    frames = WARM_UP_FRAMES + round(seconds * rate_hz)
    camera = f"synthetic:?live=true&size={size}&fps={rate_hz}&prerender={CAMERA_FRAMES}&frames=0"
    url = f"tcp://127.0.0.1:{_free_port()}"
    settings = {"ir": camera, "vis": camera, "fuser": fuser, "sink": [f"zmq:{url}?encoding={encoding}"]}
    with subprocess.Popen(command(settings), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as publisher:  # noqa: S603
        try:
            return _ages_ms(url, frames=frames)
        except CaptureTimeout as error:
            publisher.kill()
            raise RuntimeError(f"{error}; the run said: {publisher.communicate()[1]}") from error
        finally:
            publisher.kill()


def _ages_ms(url: str, *, frames: int) -> dict[str, float]:
    ages_ms: list[float] = []
    missed = 0
    with subscribe(url, timeout_s=TIMEOUT_S) as subscription:
        for number, frame in enumerate(subscription):
            if number >= WARM_UP_FRAMES:
                ages_ms.append((time.monotonic_ns() - frame.timestamp_ns) / NS_PER_MS)
                missed += frame.missed
            if number + 1 >= frames:
                break
    return {**timing.distribution(ages_ms), "missed": missed}


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def run(
    *, fuser: str, encodings: Sequence[str], size: str, rate_hz: int, seconds: float, rounds: int, cores: int
) -> dict[str, Any]:
    """A result with a row for every encoding."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    conditions = Conditions()
    cases = {
        f"{fuser}, {encoding}": partial(
            measure, encoding=encoding, fuser=fuser, size=size, rate_hz=rate_hz, seconds=seconds
        )
        for encoding in encodings
    }
    baseline = next(iter(cases))
    rows = timing.interleaved(cases, rounds=rounds, baseline=baseline, figure="p99")
    settings = {
        "size": size,
        "rate_hz": rate_hz,
        "seconds": seconds,
        "cores": cores,
        "bar_ms": BAR_MS,
        "baseline": baseline,
    }
    return timing.result("latency", settings=settings, rows=rows, conditions=conditions)


def table(data: dict[str, Any]) -> str:
    """The result as Markdown."""
    settings, machine = data["settings"], data["machine"]
    lines = [
        f"{settings['size']} at {settings['rate_hz']} Hz, {settings['cores']} cores of {machine['processor']}",
        "",
        "| fuser, encoding | p50 ms | p95 ms | p99 ms (least to most) | frames a round | missed |",
        "|---|---|---|---|---|---|",
    ]
    for row in data["rows"]:
        p99 = row["p99"]
        lines.append(
            f"| {row['case']} | {row['p50']['median']:.1f} | {row['p95']['median']:.1f} | {p99['median']:.1f} "
            f"({p99['min']:.1f} to {p99['max']:.1f}) | {row['count']['median']:.0f} | {row['missed']['max']:.0f} |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The named command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=str(__doc__).splitlines()[0])
    parser.add_argument("--fuser", default="learned")
    parser.add_argument("--encoding", nargs="+", default=list(ENCODINGS), choices=ENCODINGS)
    parser.add_argument("--size", default="640x480")
    parser.add_argument("--rate-hz", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=20.0, help="of one round, after two seconds of warm-up")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--json", type=Path, help="result file to write")
    asked = parser.parse_args(arguments)
    data = run(
        fuser=asked.fuser, encodings=asked.encoding, size=asked.size, rate_hz=asked.rate_hz, seconds=asked.seconds,
        rounds=asked.rounds, cores=asked.cores,
    )  # fmt: skip
    print(table(data))
    if asked.json is not None:
        timing.save(data, asked.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
