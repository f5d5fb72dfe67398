"""Latency from the capture stamp to a subscriber: how old a frame is once another process has its pixels.

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
from functools import partial

from benchmarks.suite import Measured, Result, Suite, chosen, columns_table
from rtfusion import CaptureTimeout, subscribe
from rtfusion.clock import NS_PER_MS
from rtfusion.errors import ConfigError
from rtfusion.evaluate import timing
from rtfusion.evaluate.bench import live_camera
from rtfusion.evaluate.speed_case import command

ENCODINGS = ("raw", "jpeg", "shm")
WARM_UP_FRAMES = 60
TIMEOUT_S = 60.0
"""Longest wait for the first frame: a model is compiled meanwhile."""
BAR_MS = 50.0
COLUMNS = (
    ("fuser, encoding", "{case}"),
    ("p50 ms", "{p50[median]:.1f}"),
    ("p95 ms", "{p95[median]:.1f}"),
    ("p99 ms (least to most)", "{p99[median]:.1f} ({p99[min]:.1f} to {p99[max]:.1f})"),
    ("frames a round", "{count[median]:.0f}"),
    ("missed", "{missed[max]:.0f}"),
)


def measure(options: argparse.Namespace) -> Measured:
    """A row for every encoding."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    cases = {f"{options.fuser}, {encoding}": partial(ages_ms, options, encoding) for encoding in options.encoding}
    baseline = next(iter(cases))
    rows = timing.interleaved_rows(cases, rounds=options.rounds, baseline=baseline, figure="p99")
    settings = chosen(options, "size", "rate_hz", "seconds", "cores")
    return {**settings, "bar_ms": BAR_MS, "baseline": baseline}, rows


def ages_ms(options: argparse.Namespace, encoding: str) -> dict[str, float]:
    """One run and its subscriber: the distribution of the ages of its frames in milliseconds, and how many it missed.

    Raises:
        ConfigError: the run failed, or nothing came.
    """
    camera = live_camera(size=options.size, rate_hz=options.rate_hz, frames=0)
    url = f"tcp://127.0.0.1:{_free_port()}"
    run = command({"ir": camera, "vis": camera, "fuser": options.fuser, "sink": [f"zmq:{url}?encoding={encoding}"]})
    with subprocess.Popen(run, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as publisher:  # noqa: S603
        try:
            return _received(url, frames=WARM_UP_FRAMES + round(options.seconds * options.rate_hz))
        except CaptureTimeout as error:
            publisher.kill()
            raise ConfigError(f"{error}; the run said: {publisher.communicate()[1]}") from error
        finally:
            publisher.kill()


def _received(url: str, *, frames: int) -> dict[str, float]:
    found_ms: list[float] = []
    missed = 0
    with subscribe(url, timeout_s=TIMEOUT_S) as subscription:
        for count, frame in enumerate(subscription, start=1):
            if count > WARM_UP_FRAMES:
                found_ms.append((time.monotonic_ns() - frame.timestamp_ns) / NS_PER_MS)
                missed += frame.missed
            if count >= frames:
                break
    return {**timing.distribution(found_ms), "missed": missed}


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def table(data: Result) -> str:
    """The ages by encoding, as Markdown."""
    title = "{size} at {rate_hz} Hz, {cores} cores of ".format_map(data["settings"]) + data["machine"]["processor"]
    return f"{title}\n\n{columns_table(COLUMNS, data['rows'])}"


SUITE = Suite(
    name="latency",
    help=__doc__,
    options={
        "--fuser": {"default": "learned"},
        "--encoding": {"nargs": "+", "default": list(ENCODINGS), "choices": ENCODINGS},
        "--size": {"default": "640x480"},
        "--rate-hz": {"type": int, "default": 30},
        "--seconds": {"type": float, "default": 20.0, "help": "of one round, after two seconds of warm-up"},
        "--rounds": {"type": int, "default": 3},
        "--cores": {"type": int, "default": 2},
    },
    measure=measure,
    table=table,
)

if __name__ == "__main__":
    sys.exit(SUITE.main())
