"""One batch at a time in an output, and how it stands: told by a small file in the output that the batch keeps writing.

On this machine's file system a lock holds as well, which goes with its process. Object stores have none: there a batch that wrote
its file within the last minute is taken to be alive, unless it was one of this machine whose process is gone. Two that begin
within the same second can miss each other there.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from rtfusion.batch.storage import LocalStore, Store
from rtfusion.batch.work import STAGING, clear_staging
from rtfusion.errors import ConfigError, StorageError
from rtfusion.portable import lock

RUNNING = f"{STAGING}/running.json"
ALIVE_S = 60.0
"""A batch that wrote its file before this is taken to be dead."""
PERIOD_S = {True: 1.0, False: 10.0}
"""How often it is written, on this machine and elsewhere."""


class Lease:
    """The right to write into an output, and what is told of the batch that has it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._next_s = 0.0

    def tell(self, progress: Mapping[str, Any], *, at_once: bool = False) -> None:
        """Say how the batch stands, when it is time to.

        Raises:
            StorageError: the storage does not take it.
        """
        if not at_once and time.monotonic() < self._next_s:
            return
        said = {"host": socket.gethostname(), "pid": os.getpid(), "written_s": time.time(), "progress": progress}
        self._store.write(RUNNING, json.dumps(said).encode())
        self._next_s = time.monotonic() + PERIOD_S[self._store.is_local]


@contextmanager
def alone_in(store: Store) -> Iterator[Lease]:
    """The output for this batch alone; what an earlier one left unfinished is removed.

    Raises:
        ConfigError: another batch writes there, or it cannot be written.
    """
    if isinstance(store, LocalStore):
        with _locked(store):
            clear_staging(store)
            try:
                yield Lease(store)
            finally:
                clear_staging(store)
        return
    said = running(store)
    if said is not None:
        raise ConfigError(f"{_another(store)} (process {said['pid']} of {said['host']})")
    lease = Lease(store)
    try:
        lease.tell({}, at_once=True)
    except StorageError as error:
        raise ConfigError(f"{error} (--out)") from error
    try:
        yield lease
    finally:
        with suppress(StorageError):
            clear_staging(store)


def running(store: Store) -> Mapping[str, Any] | None:
    """What the batch that writes into an output says of itself; None where none does.

    Raises:
        StorageError: the storage does not answer.
    """
    try:
        said: dict[str, Any] = json.loads(store.read(RUNNING) or b"null") or {}
        age_s, pid = time.time() - float(said["written_s"]), int(said["pid"])
    except (ValueError, KeyError, TypeError):
        return None
    here = said.get("host") == socket.gethostname()
    return None if age_s > ALIVE_S or (here and not _lives(pid)) else said


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _another(store: Store) -> str:
    return f"another batch is writing to {store.shown}; wait for it, or choose another --out"


@contextmanager
def _locked(store: LocalStore) -> Iterator[None]:
    """The lock is on the folder itself and goes with the process, however it ends."""
    try:
        store.root.mkdir(parents=True, exist_ok=True)
        handle = os.open(store.root, os.O_RDONLY)
    except OSError as error:
        raise ConfigError(
            f"cannot make the folder {store.root}: {error.strerror}; name another one with --out"
        ) from error
    try:
        try:
            lock(handle)
        except BlockingIOError:
            raise ConfigError(_another(store)) from None
        yield
    finally:
        os.close(handle)
