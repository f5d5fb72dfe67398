"""Engines that were built on this machine, under a key of everything that can change them.

An entry is three files: the engine (``.plan``), what a CPU gave for the golden input (``.npz``) and what it is (``.json``,
written last, so that an entry is whole or is not there). Nothing is shipped, nothing is trusted without its checksum.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rtfusion.engines.base import Tensor
from rtfusion.errors import EngineError
from rtfusion.files import write_whole
from rtfusion.portable import lock

SCHEMA = 2
KEY_LENGTH = 24
LOCK_TIMEOUT_S = 1800.0
"""Longest wait for another process that builds the same engine; a build takes minutes."""
_POLL_S = 0.2
_OUTPUT = "output:"
"""Stands before names in a golden file, so that none is an argument of `numpy.savez`."""
_logger = logging.getLogger(__name__)


class Stored(NamedTuple):
    """An engine of the store."""

    plan: bytes
    golden: Mapping[str, Tensor]
    """The outputs of the reference for the golden input, by name."""


def default_folder() -> Path:
    """``$XDG_CACHE_HOME/rtfusion/engines``, or in ``~/.cache``."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "rtfusion" / "engines"


def key_of(parts: Mapping[str, str]) -> str:
    """The name of an entry: a checksum over everything that it depends on."""
    text = json.dumps({"schema": str(SCHEMA), **parts}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


class EngineStore:
    """A folder of engines, shared by processes."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or default_folder()

    def get(self, parts: Mapping[str, str]) -> Stored | None:
        """The engine for these parts; None, with the reason logged, where there is none that is whole."""
        key = key_of(parts)
        about = self._path(key, "json")
        if not about.exists():
            _logger.info("no engine in %s for %s", self.folder, _short(parts))
            return None
        try:
            told = json.loads(about.read_text(encoding="utf-8"))
            plan = self._path(key, "plan").read_bytes()
            with np.load(io.BytesIO(self._path(key, "npz").read_bytes()), allow_pickle=False) as outputs:
                golden = {name.removeprefix(_OUTPUT): outputs[name].astype(np.float32) for name in outputs}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            _logger.warning("the engine %s cannot be read (%s); it is built anew", about.with_suffix(".plan"), error)
            return None
        if not isinstance(told, dict) or told.get("sha256") != hashlib.sha256(plan).hexdigest():
            _logger.warning("the engine %s is damaged; it is built anew", about.with_suffix(".plan"))
            return None
        return Stored(plan=plan, golden=golden)

    def put(self, parts: Mapping[str, str], stored: Stored, *, build_s: float) -> Path:
        """Keep an engine; gives its file.

        Raises:
            EngineError: the folder cannot be written.
        """
        key = key_of(parts)
        golden = io.BytesIO()
        np.savez(golden, allow_pickle=False, **{_OUTPUT + name: value for name, value in stored.golden.items()})
        about = {
            "schema": SCHEMA,
            "parts": dict(parts),
            "sha256": hashlib.sha256(stored.plan).hexdigest(),
            "built_utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "build_s": round(build_s, 1),
        }
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(self._path(key, "plan"), stored.plan, durable=True)
            write_whole(self._path(key, "npz"), golden.getvalue(), durable=True)
            write_whole(self._path(key, "json"), json.dumps(about, indent=1), durable=True)
        except OSError as error:
            raise EngineError(
                f"cannot write the engine to {self.folder}: {error.strerror}; set XDG_CACHE_HOME to a folder with room"
            ) from error
        return self._path(key, "plan")

    def drop(self, parts: Mapping[str, str], *, reason: str) -> None:
        """Forget an engine that turned out to be unusable, and say why."""
        key = key_of(parts)
        _logger.warning("the engine %s is not used: %s; it is built anew", self._path(key, "plan"), reason)
        self._path(key, "json").unlink(missing_ok=True)

    @contextmanager
    def locked(self, parts: Mapping[str, str], *, timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[None]:
        """While entered, no other process builds or writes this entry.

        Raises:
            EngineError: another one held it for too long, or the folder cannot be written.
        """
        path = self._path(key_of(parts), "lock")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise EngineError(f"cannot use {self.folder} to keep engines: {error.strerror}") from error
        try:
            _lock(handle, path, timeout_s=timeout_s)
            yield
        finally:
            os.close(handle)  # which lets the lock go

    def _path(self, key: str, suffix: str) -> Path:
        return self.folder / f"{key}.{suffix}"


def _lock(handle: int, path: Path, *, timeout_s: float) -> None:
    deadline_s, told, pause = time.monotonic() + timeout_s, False, threading.Event()
    while True:
        try:
            lock(handle)
        except BlockingIOError:
            if not told:
                _logger.info("another process builds this engine; waiting for it (%s)", path)
                told = True
            if time.monotonic() > deadline_s:
                raise EngineError(f"{path} was held by another process for {timeout_s:.0f} s; is it stuck?") from None
            pause.wait(_POLL_S)
        else:
            return


def _short(parts: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(parts.items()) if value)
