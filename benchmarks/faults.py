"""A run of hours in minutes: two cameras that go wrong again and again, and what became of each fault.

    python -m benchmarks.faults --minutes 30 --json faults.json

The visible camera is a network camera (MJPEG over HTTP on the loopback interface), the thermal one a Lepton behind a V4L2
driver in memory; pipeline, watchdog and sinks are the real ones. One fault after the other is put in: unplugged, silent,
frozen, corrupt, another rate, another size, repeated images, the shutter, a subscriber that hangs or is killed. Each has to
be noticed in time, counted under its cause, and got over; the pictures must never change places.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2

from benchmarks.fault_rig import Fault, Rig

SETTLED_FRAMES = 100
"""What is usual has to be known before anything can be unusual."""
POLL_S = 0.02
RECOVERED_S = 25.0
"""The longest pause between two attempts, the time to open, and some frames."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of a fault; None where it did not come to that in time."""

    name: str
    noticed_s: float | None
    recovered_s: float | None


class Director:
    """Puts in one fault after the other until the time is up, each kind as often as any other."""

    def __init__(self, rig: Rig, *, seed: int, pause_s: float, patience: float, without: tuple[str, ...]) -> None:
        self._rig = rig
        self._without = without
        self._patience = patience
        self._random = random.Random(seed)
        self._pause_s = pause_s
        self.outcomes: list[Outcome] = []

    def run(self, *, end_s: float, least: int, stop: threading.Event) -> None:
        """From another thread than the run's; sets ``stop`` when the time is up and at least so many faults were played."""
        try:
            _wait(lambda: self._rig.checker.whole > SETTLED_FRAMES, limit_s=60.0, stop=stop)
            for make in self._kinds():
                if (time.monotonic() >= end_s and len(self.outcomes) >= least) or stop.wait(self._pause_s):
                    return
                self.outcomes.append(self._play(make(), stop))
        finally:
            stop.set()

    def _kinds(self) -> Iterator[Callable[[], Fault]]:
        while True:
            kinds = [make for name, make in self._rig.faults().items() if not name.endswith(self._without)]
            self._random.shuffle(kinds)
            yield from kinds

    def _play(self, fault: Fault, stop: threading.Event) -> Outcome:
        fault.start()
        noticed_s = _wait(fault.noticed, limit_s=self._patience * fault.limit_s, stop=stop)
        stop.wait(fault.hold_s * self._random.uniform(0.5, 1.5))
        fault.stop()
        whole = self._rig.checker.whole
        recovered_s = _wait(
            lambda: self._rig.is_whole() and self._rig.checker.whole > whole + 5,
            limit_s=self._patience * RECOVERED_S,
            stop=stop,
        )
        return Outcome(name=fault.name, noticed_s=noticed_s, recovered_s=recovered_s)


def _wait(condition: Callable[[], bool], *, limit_s: float, stop: threading.Event) -> float | None:
    """Seconds until something is so; None when it was not in time."""
    started_s = time.monotonic()
    while not stop.is_set():
        passed_s = time.monotonic() - started_s
        if condition():
            return round(passed_s, 3)
        if passed_s > limit_s:
            return None
        stop.wait(POLL_S)
    return None


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def run(
    *,
    minutes: float,
    seed: int,
    folder: Path,
    least: int = 0,
    without: tuple[str, ...] = (),
    pause_s: float = 1.0,
    patience: float = 1.0,
) -> dict[str, Any]:
    """The whole run; figures as JSON-able values.

    It plays at least ``least`` faults, none whose name ends with one of ``without``. ``patience`` stretches the limits, for
    a machine that is busy.
    """
    rig = Rig(folder=folder)
    director = Director(rig, seed=seed, pause_s=pause_s, patience=patience, without=without)
    stop = threading.Event()
    started_s = time.monotonic()
    memory_mb: list[float] = []
    sampled_s = [started_s]

    def sample() -> None:
        if time.monotonic() - sampled_s[0] >= 15.0:
            sampled_s[0] = time.monotonic()
            memory_mb.append(round(_resident_mb(), 1))

    directing = threading.Thread(
        target=director.run,
        kwargs={"end_s": started_s + 60 * minutes, "least": least, "stop": stop},
        name="director",
    )
    try:
        directing.start()
        rig.pipeline.run(stop=stop, on_tick=sample)
    finally:
        stop.set()
        directing.join()
        rig.close()
    stopped_s = time.monotonic()
    threads = [thread.name for thread in threading.enumerate() if thread.name.startswith(("capture", "sink"))]
    snapshot = rig.pipeline.telemetry.snapshot()
    return {
        "minutes": round((stopped_s - started_s) / 60, 2),
        "seed": seed,
        "faults": len(director.outcomes),
        "by_kind": _by_kind(director.outcomes),
        "missed": [
            asdict(outcome) for outcome in director.outcomes if None in (outcome.noticed_s, outcome.recovered_s)
        ],
        "swapped": rig.checker.swapped,
        "frames": {"whole": rig.checker.whole, "held": rig.checker.held, **rig.checker.degraded},
        "memory_mb_by_minute": memory_mb[::4],
        "threads_left": threads,
        "counted": {band: source["faults"] for band, source in snapshot["sources"].items()},
        "drops": snapshot["drops"],
        "age_ms": snapshot["age_ms"],
        "recording": _recorded(folder / "fused.mkv"),
    }


def _by_kind(outcomes: list[Outcome]) -> dict[str, dict[str, Any]]:
    kinds: dict[str, dict[str, Any]] = {}
    for name in sorted({outcome.name for outcome in outcomes}):
        mine = [outcome for outcome in outcomes if outcome.name == name]
        noticed = [outcome.noticed_s for outcome in mine if outcome.noticed_s is not None]
        recovered = [outcome.recovered_s for outcome in mine if outcome.recovered_s is not None]
        kinds[name] = {
            "count": len(mine),
            "noticed": len(noticed),
            "noticed_s_max": max(noticed, default=None),
            "recovered": len(recovered),
            "recovered_s_max": max(recovered, default=None),
        }
    return kinds


def _recorded(path: Path) -> dict[str, int]:
    """What a player finds in the recording."""
    capture = cv2.VideoCapture(str(path))
    frames = 0
    while capture.grab():
        frames += 1
    return {"frames": frames, "bytes": path.stat().st_size}


def main() -> None:
    """The named command."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", maxsplit=1)[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--folder", type=Path, default=None, help="where the recording goes (default: a temporary folder)"
    )
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = arguments.folder
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        figures = run(minutes=arguments.minutes, seed=arguments.seed, folder=folder)
    text = json.dumps(figures, indent=2)
    print(text)
    if arguments.json is not None:
        arguments.json.write_text(text + "\n")
    if figures["missed"] or figures["swapped"] or figures["threads_left"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
