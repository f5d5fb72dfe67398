"""The account of a batch: what became of every recording, as lines of JSON in one file beside the results.

It is what a batch goes on from, and what its table, its exit code and ``rtfusion batch status`` are made of. A line is the whole
entry of one recording at one moment; the last one counts. It is written as things happen; into storages that cannot add to a
file it is written anew every few seconds, so that whoever is killed there loses the last of them, which the results themselves
tell (`rtfusion.batch.work.DONE`).
"""

from __future__ import annotations

import datetime
import hashlib
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from pydantic import TypeAdapter

from rtfusion.batch.storage import LocalStore, Store

NAME = "batch.jsonl"
State = Literal["waiting", "running", "done", "failed", "unfinished"]
"""``unfinished``: a storage did not answer or the batch was stopped, so that it is tried again by the next one."""
LEAST_PERIOD_S = 5.0
SHARE_OF_TIME = 0.05
"""Part of the time that writing the whole account anew may take."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """Everything that is known of one recording."""

    recording: str
    state: State = "waiting"
    attempts: int = 0
    """Number of times that it was begun."""
    causes: tuple[str, ...] = ()
    """What ended the attempts that came to nothing, in their order."""
    exit_code: int = 0
    """That of the last attempt; 0 when it is done."""
    started: str | None = None
    """When the last attempt began: a time of day in UTC."""
    ended: str | None = None
    host: str | None = None
    """Machine of the last attempt."""
    seconds: float = 0.0
    """How long the attempts took that came to a result."""
    cpu_s: float = 0.0
    """Seconds of a processor that they took."""
    bytes_in: int = 0
    fingerprint: str = ""
    """See `rtfusion.batch.work.Job.fingerprint`."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, str] = field(default_factory=dict)
    """Name and checksum (SHA-256) of the model's file, for the fuser that has one."""
    pieces: int = 1
    """Number of pieces in which it was fused."""
    frames: Mapping[str, int] = field(default_factory=dict)
    """Frames read of both bands, pairs made, frames fused."""
    drops: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    outputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Bytes and SHA-256 of every file of the result; of many, `of_many`."""

    @property
    def cause(self) -> str:
        """What ended its last attempt."""
        return self.causes[-1] if self.causes else ""


FILES_TOLD = 8
"""Files of a result that an entry names one by one. Of more, the result itself tells."""


def of_many(outputs: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Mapping[str, Any]]:
    """The outputs as an entry holds them: of many files, their number, all bytes and the SHA-256 of the list of all of theirs."""
    if len(outputs) <= FILES_TOLD:
        return outputs
    sums = "".join(f"{name} {outputs[name]['sha256']}\n" for name in sorted(outputs))
    total = sum(file["bytes"] for file in outputs.values())
    return {ALL_FILES: {"files": len(outputs), "bytes": total, "sha256": hashlib.sha256(sums.encode()).hexdigest()}}


ALL_FILES = "*"
_ENTRY = TypeAdapter(Entry)


class Account:
    """The entries of a batch, in memory and in the file."""

    def __init__(self, store: Store) -> None:
        """Read what is there; what is no whole entry is left out and counted in ``damaged``."""
        self._store = store
        self.entries: dict[str, Entry] = {}
        self.damaged = 0
        self._heads: list[dict[str, Any]] = []
        self._changed = False
        self._written_s = self._took_s = 0.0
        content = store.read(NAME) or b""
        for line in content.splitlines():
            self._read(line)
        if content and not content.endswith(b"\n") and isinstance(store, LocalStore):
            store.append(NAME, b"\n")  # of a kill, or a full disk: what follows is a line of its own

    def _read(self, line: bytes) -> None:
        try:
            values = json.loads(line)
            if isinstance(values, dict) and "recording" not in values:
                self._heads.append(values)
                return
            entry = _ENTRY.validate_python(values)
        except ValueError:
            self.damaged += 1
            return
        self.entries[entry.recording] = entry

    def begin(self, head: Mapping[str, Any], entries: Sequence[Entry]) -> None:
        """Begin a batch of these recordings; entries of others stay as they are."""
        self._heads.append({"batch": {**head, "started": now()}})
        for entry in entries:
            self.entries[entry.recording] = entry
        self._write_all()

    def note(self, entry: Entry) -> None:
        """Keep this entry in place of the one before."""
        self.entries[entry.recording] = entry
        if isinstance(self._store, LocalStore):
            self._store.append(NAME, _line(asdict(entry)))
        else:
            self._changed = True

    def update(self) -> None:
        """Write what is only in memory, when it is time to.

        Raises:
            StorageError: the storage does not take it; it stays in memory.
        """
        pause_s = max(LEAST_PERIOD_S, self._took_s / SHARE_OF_TIME)
        if self._changed and time.monotonic() - self._written_s >= pause_s:
            self._write_all()

    def end(self, summary: Mapping[str, Any]) -> None:
        """Write the end of a batch, and every recording as one line, sorted by name."""
        self._heads.append({"summary": {**summary, "ended": now()}})
        self._write_all()

    @property
    def last_batch(self) -> Mapping[str, Any]:
        """The head of the last batch; empty where there was none."""
        return next((head["batch"] for head in reversed(self._heads) if "batch" in head), {})

    def _write_all(self) -> None:
        started_s = time.monotonic()
        entries = (asdict(self.entries[name]) for name in sorted(self.entries))
        self._store.write(NAME, b"".join(map(_line, [*self._heads, *entries])))
        self._written_s = time.monotonic()
        self._took_s = self._written_s - started_s
        self._changed = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """The counts of an account."""

    recordings: int
    states: Mapping[str, int]
    frames: int
    """Frames fused of all that is done."""
    cpu_s: float
    restarts: int
    """Number of times that a recording was begun again."""
    bytes_in: int
    dropped: int
    """Frames that came into no fused frame."""
    failed: Mapping[str, str]
    """Recording to what was wrong with it, failed and unfinished ones."""
    exit_code: int

    def plain(self) -> dict[str, Any]:
        """Give it as JSON can hold it."""
        return asdict(self)


def summarize(entries: Mapping[str, Entry]) -> Summary:
    """Count what became of recordings. The exit code is that of the first by name that is not done, else 0."""
    ordered = [entries[name] for name in sorted(entries)]
    counts = Counter(entry.state for entry in ordered)
    wrong = [entry for entry in ordered if entry.state in ("failed", "unfinished")]
    return Summary(
        recordings=len(ordered),
        states={state: counts[state] for state in get_args(State) if counts[state]},
        frames=sum(entry.frames.get("fused", 0) for entry in ordered if entry.state == "done"),
        cpu_s=sum(entry.cpu_s for entry in ordered),
        restarts=sum(max(entry.attempts - 1, 0) for entry in ordered),
        bytes_in=sum(entry.bytes_in for entry in ordered),
        dropped=sum(sum(causes.values()) for entry in ordered for causes in entry.drops.values()),
        failed={entry.recording: entry.cause for entry in wrong},
        exit_code=next((entry.exit_code for entry in wrong if entry.exit_code), 0),
    )


def precision_of(entries: Mapping[str, Entry]) -> str | None:
    """The precision that finished recordings were fused in, where one is said."""
    done = (entry.settings.get("precision") for entry in entries.values() if entry.state == "done")
    return next((str(precision) for precision in done if precision not in (None, "auto")), None)


def now() -> str:
    """The time of day in UTC, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def _line(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, ensure_ascii=False, separators=(",", ":")) + "\n").encode()
