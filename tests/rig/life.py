"""One life of the run that is put to the test: faults are played, and everything is told, line by line, as it happens.

Lines of JSON in a file, since a life may end with a kill: ``started``, ``fault`` (an outcome), ``state`` (counters and memory,
every 15 s, before a kill and at the end), ``killed`` and ``ended``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rtfusion.memory import use_few_pools
from tests.rig.rig import LEAST_RECORDED, RECORDED_IN_S, Fault, Rig, wait

SETTLED_FRAMES = 100
"""A fault is unusual only once the usual is known."""
RECOVERED_S = 25.0
"""The longest pause between two attempts, the time to open, and some frames."""
GIVEN_UP = 4
"""After so many times its limit, a fault counts as never noticed, or never got over."""
SAMPLE_S = 15.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """The outcome of a fault; None where it was never noticed, or never got over."""

    name: str
    limit_s: float
    noticed_s: float | None
    recovered_s: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The plan of one life."""

    minutes: float
    seed: int = 0
    least: int = 0
    """Faults, at least."""
    without: tuple[str, ...] = ()
    """Ends of names of faults that are not played."""
    pause_s: float = 1.0
    killed: bool = False
    """The life kills itself at the end, while it records a session."""


class Log:
    """The lines of a life."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def tell(self, kind: str, **values: object) -> None:
        """Add one line, with the time."""
        with self._path.open("a") as file:
            file.write(json.dumps({"kind": kind, "at_s": time.monotonic(), **values}) + "\n")


def read_log(path: Path) -> list[dict[str, Any]]:
    """All whole lines so far."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


class Director:
    """Puts in one fault after the other until the time is up, each kind as often as any other."""

    def __init__(self, rig: Rig, plan: Plan, log: Log) -> None:
        self._rig = rig
        self._plan = plan
        self._log = log
        self._random = random.Random(plan.seed)

    def run(self, *, end_s: float, stop: threading.Event) -> None:
        """Play faults from a thread beside the run's; sets ``stop`` once the time is up and enough of them were played."""
        try:
            wait(lambda: self._rig.checker.whole > SETTLED_FRAMES, limit_s=60.0, stop=stop)
            self._log.tell("started")
            for played, make in enumerate(self._kinds()):
                if (time.monotonic() >= end_s and played >= self._plan.least) or stop.wait(self._plan.pause_s):
                    break
                self._log.tell("fault", **asdict(self._play(make(), stop)))
            if self._plan.killed and not stop.is_set():
                self._die()
        finally:
            stop.set()

    def _kinds(self) -> Iterator[Callable[[], Fault]]:
        """The full disk comes once, after the first two."""
        first = True
        while True:
            kinds = [make for name, make in self._rig.faults().items() if not name.endswith(self._plan.without)]
            self._random.shuffle(kinds)
            if first and self._rig.disk is not None:
                kinds.insert(2, self._rig.disk_full)
            first = False
            yield from kinds

    def _play(self, fault: Fault, stop: threading.Event) -> Outcome:
        fault.start()
        noticed_s = wait(fault.noticed, limit_s=GIVEN_UP * fault.limit_s, stop=stop)
        stop.wait(fault.hold_s * self._random.uniform(0.5, 1.5))
        fault.stop()
        whole = self._rig.checker.whole
        recovered_s = wait(
            lambda: self._rig.is_whole() and self._rig.checker.whole > whole + 5 and fault.recovered(),
            limit_s=GIVEN_UP * RECOVERED_S,
            stop=stop,
        )
        fault.end()
        return Outcome(name=fault.name, limit_s=fault.limit_s, noticed_s=noticed_s, recovered_s=recovered_s)

    def _die(self) -> None:
        recording = self._rig.recording
        recording.begin(self._rig.video.parent / "killed")
        wait(lambda: recording.lines > LEAST_RECORDED, limit_s=RECORDED_IN_S)
        self._log.tell("state", **state(self._rig))
        self._log.tell("killed")
        os.kill(os.getpid(), signal.SIGKILL)


def state(rig: Rig) -> dict[str, Any]:
    """Memory and counters of now."""
    telemetry = rig.pipeline.telemetry
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "memory_mb": round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1),
        "threads": threading.active_count(),
        "files": len(list(Path("/proc/self/fd").iterdir())),
        "swapped": rig.checker.swapped,
        "frames": {"whole": rig.checker.whole, "held": rig.checker.held, **rig.checker.degraded},
        "counted": {band.value: dict(source.faults) for band, source in rig.sources.items()},
        "written": telemetry.written[str(rig.video)],
        "notes": list(telemetry.notes),
    }


def live(plan: Plan, *, folder: Path, log: Log, disk: Path | None = None) -> None:
    """One life, in this process."""
    use_few_pools()
    rig = Rig(folder=folder, disk=disk)
    stop = threading.Event()
    sampled_s = [0.0]

    def sample() -> None:
        if time.monotonic() - sampled_s[0] >= SAMPLE_S:
            sampled_s[0] = time.monotonic()
            log.tell("state", **state(rig))

    end_s = time.monotonic() + 60 * plan.minutes
    director = Director(rig, plan, log)
    directing = threading.Thread(target=director.run, kwargs={"end_s": end_s, "stop": stop}, name="director")
    try:
        directing.start()
        rig.pipeline.run(stop=stop, on_tick=sample)
    finally:
        stop.set()
        directing.join()
        rig.close()
    log.tell("state", **state(rig))
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith(("capture", "sink"))]
    snapshot = rig.pipeline.telemetry.snapshot()
    log.tell("ended", threads_left=left, drops=snapshot["drops"], age_ms=snapshot["age_ms"])


def main() -> None:
    """One life, as `benchmarks.faults` starts it."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", maxsplit=1)[0])
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--disk", type=Path, default=None)
    parser.add_argument("--killed", action="store_true")
    arguments = parser.parse_args()
    plan = Plan(minutes=arguments.minutes, seed=arguments.seed, killed=arguments.killed)
    live(plan, folder=arguments.folder, log=Log(arguments.log), disk=arguments.disk)


if __name__ == "__main__":
    main()
