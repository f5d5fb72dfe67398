"""The whole batch: what is left to do, handed out, retried when a worker dies, counted."""

from __future__ import annotations

import os
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from rtfusion.batch.archive import Recording
from rtfusion.batch.work import DONE, STAGING, Job, is_done, make_job
from rtfusion.errors import ConfigError
from rtfusion.portable import lock

ATTEMPTS = 3
"""Number of times that a recording is begun when workers die over it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """The result of one job: its ``record`` when it is done, else the ``error`` and its exit code."""

    job: Job
    record: Mapping[str, Any] | None = None
    error: str = ""
    exit_code: int = 0
    attempts: int = 1


class Workers(Protocol):
    """A way of doing jobs side by side."""

    def __call__(self, jobs: Sequence[Job], *, stop: threading.Event) -> Iterator[Outcome]:
        """Every job's outcome as it comes; ends early, with nothing left running, once ``stop`` is set."""
        ...


@dataclass(kw_only=True, slots=True)
class Summary:
    """Counts of what a batch did."""

    recordings: int
    already_done: int = 0
    fused: int = 0
    frames: int = 0
    restarts: int = 0
    """Number of times that a worker died and its recording was begun again."""
    failed: dict[str, str] = field(default_factory=dict)
    """Recording to what was wrong with it."""
    exit_code: int = 0

    def count(self, outcome: Outcome) -> str:
        """Count what became of a recording, and say it in a few words."""
        self.restarts += outcome.attempts - 1
        if outcome.record is None:
            self.failed[outcome.job.name] = outcome.error
            self.exit_code = self.exit_code or outcome.exit_code
            return f"failed: {outcome.error}"
        self.fused += 1
        self.frames += outcome.record["fused"]
        again = f", begun {outcome.attempts} times" if outcome.attempts > 1 else ""
        return f"{outcome.record['fused']} frames{again}"


def run(
    recordings: Sequence[Recording],
    *,
    out: Path,
    settings: Mapping[str, Any],
    workers: Workers,
    stop: threading.Event,
    overwrite: bool = False,
    say: Callable[[str], None],
) -> Summary:
    """Fuse every recording that is not done yet.

    A recording that cannot be fused is told of and left out; the others go on.

    Raises:
        ConfigError: another batch writes there, something else is in the way, or a setting is wrong. Nothing was begun.
    """
    jobs = [make_job(recording, out=out, settings=settings) for recording in recordings]
    summary = Summary(recordings=len(jobs))
    with _alone_in(out):
        if overwrite:
            _remove_stale(jobs)
        left = [job for job in jobs if not is_done(job)]
        summary.already_done = len(jobs) - len(left)
        try:
            for outcome in workers(left, stop=stop):
                told = summary.count(outcome)
                done = summary.already_done + summary.fused + len(summary.failed)
                say(f"[{done}/{len(jobs)}] {outcome.job.name}: {told}")
        finally:
            _clear(out)
    return summary


def _remove_stale(jobs: Sequence[Job]) -> None:
    """Results of other settings or damaged ones; what is not of a batch stays and is an error."""
    for job in jobs:
        with suppress(ConfigError):
            if is_done(job) or not job.folder.exists():
                continue
        if (job.folder / DONE).is_file():
            shutil.rmtree(job.folder)


def _clear(out: Path) -> None:
    """Remove what is unfinished. Moved away first, at one stroke: a worker that outlived its batch can publish no half."""
    with suppress(FileNotFoundError):
        (out / STAGING).rename(out / f"{STAGING}-{uuid.uuid4().hex}")
    for left in out.glob(f"{STAGING}-*"):
        shutil.rmtree(left, ignore_errors=True)


@contextmanager
def _alone_in(out: Path) -> Iterator[None]:
    """The output folder for this batch alone; what an earlier one left unfinished is removed.

    The lock is on the folder itself and goes with the process, however it ends.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        handle = os.open(out, os.O_RDONLY)
    except OSError as error:
        raise ConfigError(f"cannot make the folder {out}: {error.strerror}; name another one with --out") from error
    try:
        try:
            lock(handle)
        except BlockingIOError:
            raise ConfigError(f"another batch is writing to {out}; wait for it, or choose another --out") from None
        _clear(out)
        yield
    finally:
        os.close(handle)
