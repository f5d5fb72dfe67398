"""Workers of this machine: one process for each recording, so many at a time.

A process for each: what kills one (memory, a codec, a person) costs that recording's attempt and nothing else, and the second it
takes to start is little beside a recording. Measured against threads in one process by `benchmarks.scale`.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field, replace
from queue import Queue

from rtfusion.batch.run import ATTEMPTS, Outcome
from rtfusion.batch.work import Job
from rtfusion.errors import SinkError
from rtfusion.portable import usable_cores

POLL_S = 0.2
END_S = 5.0
KILLED_BY_SHELL = 128 + 9


@dataclass(slots=True)
class Processes:
    """``count`` processes side by side, each on its share of the cores."""

    count: int
    _shares: Queue[tuple[int, ...] | None] = field(default_factory=Queue, init=False)

    def __call__(self, jobs: Sequence[Job], *, stop: threading.Event) -> Iterator[Outcome]:
        """Every job's outcome as it comes; see `rtfusion.batch.run.Workers`."""
        for share in shares_of(usable_cores(), count=self.count):
            self._shares.put(share)
        with ThreadPoolExecutor(self.count) as pool:
            waiting: set[Future[Outcome | None]] = {pool.submit(self._attempts, job, stop) for job in jobs}
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    if (outcome := future.result()) is not None:
                        yield outcome

    def _attempts(self, job: Job, stop: threading.Event) -> Outcome | None:
        """Do a job, and begin again when its process was killed; None when it was not finished because of ``stop``."""
        share = self._shares.get()
        try:
            for attempt in range(1, ATTEMPTS + 1):
                outcome = _attempt(replace(job, cores=share), stop)
                if outcome is not None:
                    return replace(outcome, job=job, attempts=attempt)
                if stop.is_set():
                    return None
            message = f"its process was killed {ATTEMPTS} times; is there enough memory for so many at a time (--jobs)?"
            return Outcome(job=job, error=message, exit_code=SinkError.exit_code, attempts=ATTEMPTS)
        finally:
            self._shares.put(share)


def shares_of(cores: Sequence[int], *, count: int) -> list[tuple[int, ...] | None]:
    """Give each worker an equal part of the cores, or None, which is all of them, where there are more workers than cores."""
    if count > len(cores):
        return [None] * count
    return [tuple(cores[index::count]) for index in range(count)]


def _attempt(job: Job, stop: threading.Event) -> Outcome | None:
    """One process; None when it was killed, or stopped."""
    if stop.is_set():
        return None
    with subprocess.Popen(  # noqa: S603 - of this program
        [sys.executable, "-m", "rtfusion.batch.work", str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for the batch, which ends its workers itself
    ) as process:
        said = _talk(process, json.dumps(asdict(job)), stop)
    if said is None or process.returncode < 0 or process.returncode == KILLED_BY_SHELL:
        return None
    out, errors = said
    if process.returncode:
        message = errors.strip().splitlines()[-1] if errors.strip() else f"it ended with {process.returncode}"
        return Outcome(job=job, error=message, exit_code=process.returncode)
    return Outcome(job=job, record=json.loads(out.splitlines()[-1]))


def _talk(process: subprocess.Popen[str], text: str, stop: threading.Event) -> tuple[str, str] | None:
    """Read what the process says until it ends; None when it had to be stopped."""
    given: str | None = text
    while not stop.is_set():
        try:
            return process.communicate(given, timeout=POLL_S)
        except subprocess.TimeoutExpired:
            given = None
    for end in (process.terminate, process.kill):
        end()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=END_S)
            break
    return None
