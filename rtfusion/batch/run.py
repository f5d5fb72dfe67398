"""The whole batch: what is left to do, handed out a few at a time, begun again when a worker dies, told and accounted for."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from types import TracebackType
from typing import Any, Protocol

from rtfusion import __version__
from rtfusion.batch.account import ALL_FILES, Account, Entry, Summary, now, of_many, summarize
from rtfusion.batch.lease import Lease, alone_in
from rtfusion.batch.pieces import PIECES, Piece
from rtfusion.batch.storage import Store, open_store
from rtfusion.batch.work import Finished, Job, Results, Split
from rtfusion.errors import EXIT_INTERRUPTED, ConfigError, SinkError, StorageError

ATTEMPTS = 3
"""Number of times that a recording is begun when workers die over it, or a storage does not answer."""
SILENT = 3
"""So many recordings in a row that a storage did not answer for end a batch."""
POLL_S = 0.2
STOPPED = "the batch was stopped", EXIT_INTERRUPTED
SILENCE = "a storage did not answer", StorageError.exit_code
"""Why a recording was not begun, or not ended, and its exit code."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """An attempt that is over: its ``result``, or what went wrong."""

    job: Job
    result: Finished | Split | None = None
    error: str = ""
    exit_code: int = 0
    was_killed: bool = False
    """The worker died, which says nothing against the recording."""
    is_of_storage: bool = False
    """A storage did not answer, which says nothing against the recording either."""
    host: str | None = None


class Workers(Protocol):
    """A way of doing jobs side by side. Entered before the first job; on the way out nothing is left running."""

    count: int
    """Jobs at a time."""

    def __enter__(self) -> Workers:
        """Get ready.

        Raises:
            ConfigError, EngineUnavailable: there are no such workers.
        """
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def start(self, job: Job) -> None:
        """Begin a job; no more than `count` are given at a time."""
        ...

    def ended(self, *, timeout_s: float) -> Sequence[Ended]:
        """The attempts that are over, for the first of which it waits so long."""
        ...

    def progress(self) -> Mapping[str, tuple[int, int | None]]:
        """Frames fused so far of the jobs that run, and of how many, by `Job.place`."""
        ...


@dataclass(kw_only=True, slots=True)
class Standing:
    """How a batch stands, for a line on the screen and for ``rtfusion batch status``."""

    recordings: int
    done: int
    """Recordings that nothing more is done for."""
    frames: int
    """Fused by this batch, those of recordings that run included."""
    left_s: float | None
    """Time left, from the bytes that are left and the bytes of this batch a second; None before anything is known."""
    core_hours: float | None
    """Estimate of what all recordings of this batch take together."""
    running: Mapping[str, tuple[int, int | None]] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """Give it as JSON can hold it."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """Where a batch says how it goes on."""

    say: Callable[[str], None]
    """Takes a line for every recording that is over."""
    stands: Callable[[Standing], None] = lambda standing: None
    """Called a few times a second."""


def run(
    jobs: Sequence[Job],
    *,
    out: str,
    workers: Workers,
    stop: threading.Event,
    told: Told,
    overwrite: bool = False,
    retry_failed: bool = False,
    head: Mapping[str, Any] | None = None,
) -> tuple[Summary, Mapping[str, int]]:
    """Fuse every recording that is not done yet, and account for all of them in `rtfusion.batch.account.NAME`.

    A recording that cannot be fused is told of and left out; the others go on. It is not tried again by the next batch unless it
    has changed, or its settings have, or ``retry_failed`` asks for it.

    Returns:
        The counts of the account of these recordings, and how many of them had been done, or had failed, before.

    Raises:
        ConfigError: another batch writes there, something else is in the way, or a setting is wrong. Nothing was begun.
        StorageError: the output does not answer. What was done before is kept.
    """
    store = open_store(out)
    with alone_in(store) as lease:
        account = Account(store)
        entries, left = _look(jobs, store, account=account, overwrite=overwrite, retry_failed=retry_failed)
        account.begin(
            {"version": __version__, "host": socket.gethostname(), "recordings": len(jobs), **(head or {})}, entries
        )
        batch = _Batch(jobs=jobs, left=deque(left), store=store, account=account, lease=lease, told=told)
        if left:
            with workers:
                batch.run(workers, stop=stop)
        before = Counter[str](entry.state for entry in entries)
        names = {job.name for job in jobs}
        summary = summarize({name: entry for name, entry in account.entries.items() if name in names})
        if not {"waiting", "running", "unfinished"} & set(summary.states):
            store.remove(PIECES)
        account.end(summary.plain())
    return summary, before


def _look(
    jobs: Sequence[Job], store: Store, *, account: Account, overwrite: bool, retry_failed: bool
) -> tuple[list[Entry], list[Job]]:
    """The entry of every recording as the batch finds it, and what is left to do.

    Raises:
        ConfigError: something is in the way. Nothing was changed but, to be overwritten, results of other settings.
    """
    results = Results(store, listed=None if store.is_local else store.sizes())
    entries: list[Entry] = []
    left: list[Job] = []
    stale: list[Job] = []
    for job in jobs:
        before = account.entries.get(job.name)
        try:
            record = _record(results, job, before)
        except ConfigError:
            if not (overwrite and results.is_ours(job)):
                raise
            stale.append(job)
            record = None
        entry = _entry(job, before)
        if record is not None:
            entries.append(entry if entry.state == "done" else _done(entry, record))
        elif entry.state == "failed" and not retry_failed:
            entries.append(entry)
        else:
            entries.append(replace(entry, state="waiting", exit_code=0))
            left.append(job)
    for job in stale:
        store.remove(job.name)
    return entries, left


def _record(results: Results, job: Job, before: Entry | None) -> Mapping[str, Any] | None:
    known = None
    if before is not None and before.state == "done" and before.outputs and ALL_FILES not in before.outputs:
        known = {"outputs": before.outputs, "fingerprint": before.fingerprint}
    return results.record(job, known=known, began=before is not None)


def _entry(job: Job, before: Entry | None) -> Entry:
    """The entry of a job: what was known of it, unless that was of another recording or of other settings."""
    fresh = Entry(
        recording=job.name,
        bytes_in=job.size_bytes,
        fingerprint=job.fingerprint,
        settings=job.shown_settings,
        model=job.model,
    )
    return before if before is not None and before.fingerprint == job.fingerprint else fresh


def _done(entry: Entry, record: Mapping[str, Any], **more: Any) -> Entry:
    frames = {**record["frames_read"], "pairs": record["pairs"], "fused": record["fused"]}
    return replace(
        entry,
        state="done",
        exit_code=0,
        frames=frames,
        drops=record["drops"],
        notes=tuple(record["notes"]),
        outputs=of_many(record["outputs"]),
        **more,
    )


def _share_bytes(job: Job) -> float:
    """The part of the bytes of a batch that a job stands for."""
    if job.joins:
        return 0.0
    return job.size_bytes / (1 if job.piece is None else job.piece.count)


class _Batch:
    """Hands out what is left, and keeps the account of it."""

    def __init__(
        self,
        *,
        jobs: Sequence[Job],
        left: deque[Job],
        store: Store,
        account: Account,
        lease: Lease,
        told: Told,
    ) -> None:
        self._left = left
        self._store = store
        self._running: dict[str, Job] = {}
        self._account = account
        self._lease = lease
        self._told = told
        self._recordings = len(jobs)
        self._over = len(jobs) - len(left)
        self._bytes = sum(job.size_bytes for job in left)
        self._bytes_over = 0.0
        self._frames_over = 0
        self._cpu_s = 0.0
        self._whole: dict[str, Job] = {}
        """By recording that is fused in pieces, its job."""
        self._pieces: dict[str, set[str]] = {}
        """By recording, the places of its pieces that are not fused yet."""
        self._begun: Counter[str] = Counter()
        """Attempts of this batch."""
        self._started_s = time.monotonic()
        self._silent = 0
        self._storage_is_silent = False
        """Nothing could be written of late."""

    def run(self, workers: Workers, *, stop: threading.Event) -> None:
        """Until nothing is left, or it is to stop, or a storage does not answer for one after the other."""
        while (self._left or self._running) and not stop.is_set() and self._silent < SILENT:
            while self._left and len(self._running) < workers.count:
                self._start(workers, self._left.popleft())
            for ended in workers.ended(timeout_s=POLL_S):
                self._end(ended)
            self._tell(workers.progress())
        for name in dict.fromkeys(job.name for job in (*self._running.values(), *self._left)):
            self._unfinished(name, stopped=stop.is_set())

    def _start(self, workers: Workers, job: Job) -> None:
        self._running[job.place] = job
        self._begun[job.place] += 1
        entry = self._account.entries[job.name]
        # its pieces and their joining are the same attempt
        if job.name not in self._pieces or self._begun[job.place] > 1:
            attempts = entry.attempts + 1
            self._note(replace(entry, state="running", attempts=attempts, started=now(), ended=None, host=None))
        workers.start(job)

    def _end(self, ended: Ended) -> None:
        job = self._running.pop(ended.job.place)
        entry = replace(self._account.entries[job.name], ended=now())
        if entry.state in ("failed", "unfinished"):
            return  # a piece of a recording that another piece has ended
        if isinstance(ended.result, Split):
            self._split(job, entry, ended.result.pieces)
            return
        if ended.result is not None:
            self._succeed(job, entry, ended.result)
            return
        causes = entry.causes
        entry = replace(entry, causes=(*causes, ended.error), exit_code=ended.exit_code, host=ended.host)
        self._silent = self._silent + 1 if ended.is_of_storage else 0
        if not (ended.was_killed or ended.is_of_storage):
            self._finish(job, replace(entry, state="failed"), f"failed: {ended.error}")
        elif self._begun[job.place] < ATTEMPTS:
            self._again(job, entry, ended)
        elif ended.is_of_storage:
            self._finish(job, replace(entry, state="unfinished"), f"unfinished: {ended.error}")
        else:
            error = f"its process was killed {ATTEMPTS} times; is there enough memory for so many at a time (--jobs)?"
            entry = replace(entry, state="failed", causes=(*causes, error), exit_code=SinkError.exit_code)
            self._finish(job, entry, f"failed: {error}")

    def _succeed(self, job: Job, entry: Entry, done: Finished) -> None:
        self._silent = 0
        self._cpu_s += done.cpu_s
        entry = replace(
            entry, host=done.host, cpu_s=entry.cpu_s + done.cpu_s, seconds=entry.seconds + done.seconds, exit_code=0
        )
        if not job.joins:
            self._frames_over += done.record["fused"]
        if job.piece is not None:
            self._bytes_over += _share_bytes(job)
            self._note(entry)
            left = self._pieces[job.name]
            left.discard(job.place)
            if not left:
                whole = replace(self._whole[job.name], joins=job.piece.count)
                self._left.appendleft(whole)
            return
        again = f", begun {entry.attempts} times" if entry.attempts > 1 else ""
        self._finish(job, _done(entry, done.record), f"{done.record['fused']} frames{again}")
        if job.joins:
            self._writing(lambda: self._store.remove(f"{PIECES}/{job.name}"))

    def _split(self, job: Job, entry: Entry, pieces: Sequence[Piece]) -> None:
        """Fuse its pieces before anything else, and then join them."""
        self._note(replace(entry, pieces=len(pieces)))
        jobs = [job.piece_of(piece) for piece in pieces]
        self._whole[job.name] = job
        self._pieces[job.name] = {one.place for one in jobs}
        self._begun[job.place] = 0
        self._left.extendleft(reversed(jobs))

    def _again(self, job: Job, entry: Entry, ended: Ended) -> None:
        """One whose worker died, at once; one that a storage did not answer for, after all others."""
        self._note(replace(entry, state="waiting"))
        if ended.was_killed:
            self._left.appendleft(job)
            return
        self._told.say(f"{job.name}: {ended.error}")
        self._left.append(job)

    def _finish(self, job: Job, entry: Entry, told: str) -> None:
        self._over += 1
        self._bytes_over += _share_bytes(job)
        self._left = deque(one for one in self._left if one.name != job.name)  # other pieces of one that is given up
        self._note(entry)
        self._told.say(f"[{self._over}/{self._recordings}] {job.name}: {told}")

    def _unfinished(self, name: str, *, stopped: bool) -> None:
        entry = self._account.entries[name]
        cause, code = SILENCE if not stopped else STOPPED
        self._note(replace(entry, state="unfinished", causes=(*entry.causes, cause), exit_code=code))

    def _note(self, entry: Entry) -> None:
        self._writing(lambda: self._account.note(entry))

    def _tell(self, progress: Mapping[str, tuple[int, int | None]]) -> None:
        standing = self._standing(progress)
        self._told.stands(standing)
        self._writing(lambda: self._lease.tell(standing.plain()))
        self._writing(self._account.update)

    def _standing(self, progress: Mapping[str, tuple[int, int | None]]) -> Standing:
        fused_now = {place: progress[place] for place in self._running if place in progress}
        part = sum(
            _share_bytes(self._running[place]) * min(fused / of, 1.0) for place, (fused, of) in fused_now.items() if of
        )
        running: dict[str, tuple[int, int | None]] = {}
        for place, (fused, of) in fused_now.items():
            job = self._running[place]
            before = running.get(job.name, (0, None))[0]
            running[job.name] = before + fused, of if job.piece is None else None
        done_bytes, elapsed_s = self._bytes_over + part, time.monotonic() - self._started_s
        left_s = None if not done_bytes else elapsed_s * max(self._bytes - done_bytes, 0.0) / done_bytes
        core_hours = self._cpu_s / 3600 * self._bytes / self._bytes_over if self._bytes_over and self._cpu_s else None
        return Standing(
            recordings=self._recordings,
            done=self._over,
            frames=self._frames_over + sum(fused for fused, _ in running.values()),
            left_s=left_s,
            core_hours=core_hours,
            running=running,
        )

    def _writing(self, write: Callable[[], None]) -> None:
        """Keep on where the output does not answer: what is not written stays in memory, and the end says so."""
        try:
            write()
        except StorageError as error:
            if not self._storage_is_silent:
                self._told.say(f"the account cannot be written: {error}")
            self._storage_is_silent = True
        else:
            self._storage_is_silent = False
