"""Workers of this machine: one process for each recording, so many at a time.

A process for each: what kills one (memory, a codec, a person) costs that recording's attempt and nothing else, and the second it
takes to start is little beside a recording. Measured against threads in one process by `benchmarks.scale`.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from queue import Empty, Queue
from types import TracebackType
from typing import IO, Any

from rtfusion.batch.pieces import Piece
from rtfusion.batch.run import Ended
from rtfusion.batch.work import Finished, Job, Split
from rtfusion.errors import EXIT_BUG
from rtfusion.portable import usable_cores

END_S = 5.0
KILLED_BY_SHELL = 128 + 9
TAIL = 4000
"""Characters of what a process says on stderr that are kept."""


class Processes:
    """``count`` processes side by side, each on its share of the cores."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._shares = deque(shares_of(usable_cores(), count=count))
        self._ended: Queue[tuple[Ended, tuple[int, ...] | None]] = Queue()
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._threads: list[threading.Thread] = []
        self._progress: dict[str, tuple[int, int | None]] = {}

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End what runs."""
        for end in (subprocess.Popen.terminate, subprocess.Popen.kill):
            for process in self._processes.values():
                end(process)
            for process in self._processes.values():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(END_S)
        for thread in self._threads:
            thread.join(END_S)
        self._processes.clear()

    def start(self, job: Job) -> None:
        """See `rtfusion.batch.run.Workers`."""
        share = self._shares.popleft()
        threads = len(share) if share is not None else 1
        process = subprocess.Popen(  # noqa: S603 - of this program
            [sys.executable, "-m", "rtfusion.batch.work", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(errors := tempfile.TemporaryFile("w+")),  # noqa: SIM115 - closed by the thread that reads it
            text=True,
            start_new_session=True,  # Ctrl-C is for the batch, which ends its workers itself
        )
        self._processes[job.place] = process
        given = replace(job, cores=share, threads=threads)
        thread = threading.Thread(target=self._follow, args=(process, errors, given, job, share), daemon=True)
        self._threads = [one for one in self._threads if one.is_alive()] + [thread]
        thread.start()

    def ended(self, *, timeout_s: float) -> Sequence[Ended]:
        """See `rtfusion.batch.run.Workers`."""
        found: list[Ended] = []
        with contextlib.suppress(Empty):
            while True:
                ended, share = self._ended.get(timeout=0 if found else timeout_s)
                self._shares.append(share)
                self._processes.pop(ended.job.place).wait()
                self._progress.pop(ended.job.place, None)
                found.append(ended)
        return found

    def progress(self) -> Mapping[str, tuple[int, int | None]]:
        """See `rtfusion.batch.run.Workers`."""
        return dict(self._progress)

    def _follow(
        self,
        process: subprocess.Popen[str],
        errors: IO[str],
        given: Job,
        job: Job,
        share: tuple[int, ...] | None,
    ) -> None:
        """Give a process its job, hear what it says, and tell how it ended."""
        last: dict[str, Any] = {}
        with errors:
            with contextlib.suppress(BrokenPipeError):
                if process.stdin is not None:
                    with process.stdin as stdin:
                        json.dump(asdict(given), stdin)
            if process.stdout is not None:
                with process.stdout as stdout:
                    for line in stdout:
                        last = _read(line) or last
                        if "fused" in last:
                            self._progress[job.place] = last["fused"], last["of"]
            ended = _ending(job, last, code=process.wait(), said=_tail(errors))
        self._ended.put((ended, share))


def shares_of(cores: Sequence[int], *, count: int) -> list[tuple[int, ...] | None]:
    """Give each worker an equal part of the cores, or None, which is all of them, where there are more workers than cores."""
    if count > len(cores):
        return [None] * count
    return [tuple(cores[index::count]) for index in range(count)]


def _read(line: str) -> dict[str, Any]:
    """What a line says; nothing where it is none of ours, or cut off."""
    try:
        values = json.loads(line)
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}


def _tail(errors: IO[str]) -> str:
    errors.seek(0)
    return errors.read()[-TAIL:].strip()


def _ending(job: Job, last: Mapping[str, Any], *, code: int, said: str) -> Ended:
    host = socket.gethostname()
    if "finished" in last and code == 0:
        return Ended(job=job, result=Finished(**last["finished"]), host=host)
    if "split" in last and code == 0:
        return Ended(
            job=job, result=Split(pieces=tuple(Piece(**piece) for piece in last["split"]["pieces"])), host=host
        )
    if "error" in last and code > 0:
        return Ended(job=job, error=last["error"], exit_code=code, is_of_storage=bool(last["is_of_storage"]), host=host)
    if code < 0 or code == KILLED_BY_SHELL:
        return Ended(
            job=job, error=f"its process was killed (signal {-code if code < 0 else 9})", was_killed=True, host=host
        )
    message = said.splitlines()[-1] if said else f"it ended with {code}"
    return Ended(job=job, error=message, exit_code=code or EXIT_BUG, host=host)
