"""Files that are written while a run goes on: a failed write spoils nothing, a kill leaves no stub, a power cut costs a second.

A power cut loses what the system has not brought to the disk yet, which by itself it does after half a minute. `DiskSync` has it
brought there every so often, the files in the order in which they lean on each other.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

from rtfusion.errors import ConfigError
from rtfusion.files import replacing, sync_folder
from rtfusion.portable import CLOSED_ON_EXEC, HAS_UNNAMED_FILES, read_at, write_at

SYNC_S = 1
"""Longest piece that a power cut costs."""


class GuardedFile:
    """The file below a muxer: a failed write is kept in `error`, never raised into it, and nothing is written after.

    A muxer goes on after a failure, and finishing an MP4 turns its fragments into one ordinary file by overwriting the
    beginning: without room for the index at the end, the whole recording would be lost. So a failure puts the file back
    to what it was after the last whole packet, which plays.

    The file has its name only from the moment on when it plays, where the file system knows files without names (Linux,
    ``O_TMPFILE``): what is killed before leaves nothing. An earlier file of that name stays until then.
    """

    def __init__(self, path: Path, *, uri: str, overwrite: bool) -> None:
        """Open it.

        Raises:
            ConfigError: it cannot be written there, or is there already and not to be overwritten.
        """
        self._path = path.resolve()
        self._overwrite = overwrite
        self._existed = path.exists()
        self._file, self.is_named = _open_for_writing(path, uri=uri, overwrite=overwrite)
        self._end_bytes = 0
        self._head_bytes: int | None = None
        self._overwritten: list[tuple[int, bytes]] = []
        self._name_is_synced = False
        self.whole_bytes = 0
        self.error: OSError | None = None

    @property
    def readable_at(self) -> Path:
        """Where it can be read while it is open, also without a name."""
        return self._path if self.is_named else self._open_at

    def begin(self) -> None:
        """Empty the file: only now, so that a run that ends before its first frame destroys no earlier recording."""
        existed, self._existed = self._existed, False
        try:
            if self.is_named and existed and os.fstat(self._file).st_nlink > 1:
                self._part_from_other_names()
            os.ftruncate(self._file, 0)
        except OSError as error:
            self._keep(error)

    def write(self, data: bytes) -> int:
        """Write all of ``data``, or note why not."""
        if self.error is None:
            try:
                self._write_all(data)
            except OSError as error:
                self._keep(error)
                self._restore()
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position and return it."""
        return os.lseek(self._file, offset, whence)

    def tell(self) -> int:
        """Return the position."""
        return os.lseek(self._file, 0, os.SEEK_CUR)

    def mark_whole(self) -> None:
        """The file plays as it is now: called after each packet. With the first piece after the head it has a picture."""
        if self.error is not None:
            return
        self.whole_bytes = self._end_bytes
        self._overwritten.clear()
        if self._head_bytes is None:
            self._head_bytes = self.whole_bytes
        elif self.whole_bytes > self._head_bytes:
            self.give_name()

    def give_name(self) -> None:
        """Let the file appear under its name, in the place of an earlier one where that was to be overwritten."""
        if self.is_named:
            return
        try:
            if self._overwrite:
                with replacing(self._path) as part:
                    self._link(part)
            else:
                self._link(self._path)
            self.is_named = True
        except OSError as error:
            self._keep(error)

    def sync(self) -> None:
        """Bring it to the disk, with its name.

        Raises:
            OSError: the disk does not take it.
        """
        os.fsync(self._file)
        if self.is_named and not self._name_is_synced:
            try:
                sync_folder(self._path.parent)
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE):
                    raise
                return  # no descriptor is left for it: the next time
            self._name_is_synced = True

    def try_sync(self) -> None:
        """Bring it to the disk, and keep an error."""
        try:
            self.sync()
        except OSError as error:
            self._keep(error)

    def close(self) -> None:
        """Close; an error that the file system reports only now is kept too."""
        try:
            os.close(self._file)
        except OSError as error:
            self._keep(error)

    def discard(self) -> None:
        """Close and remove the file, unless it is an earlier one."""
        self.close()
        if self.is_named and not self._existed:
            self._path.unlink(missing_ok=True)

    @property
    def _open_at(self) -> Path:
        return Path(f"/proc/self/fd/{self._file}")

    def _keep(self, error: OSError) -> None:
        """Keep the first error, without the frames that it came through: they hold this file."""
        self.error = self.error or error.with_traceback(None)

    def _link(self, path: Path) -> None:
        # with a folder named, the system call is linkat, which alone follows what stands for the open file
        os.link(self._open_at, path, src_dir_fd=self._file, follow_symlinks=True)

    def _part_from_other_names(self) -> None:
        """Begin a new file where the old one has other names too (hard links): what they name stays as it is."""
        self._path.unlink()
        fresh = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | CLOSED_ON_EXEC, 0o666)
        os.close(self._file)
        self._file = fresh

    def _write_all(self, data: bytes) -> None:
        start = self.tell()
        if start < self.whole_bytes:
            self._overwritten.append((start, read_at(self._file, len(data), start)))
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._file, rest) :]
        self._end_bytes = max(self._end_bytes, start + len(data))

    def _restore(self) -> None:
        with contextlib.suppress(OSError):  # a device that is gone takes nothing back
            for start, data in reversed(self._overwritten):
                write_at(self._file, data, start)
            os.ftruncate(self._file, self.whole_bytes)


class DiskSync:
    """Brings files to the disk every so often, in a thread of its own: a disk is slow, and must not hold frames up."""

    def __init__(self, sync_s: float) -> None:
        """``sync_s`` is the longest piece that a power cut may cost; 0 leaves it to the system."""
        self._period_s = sync_s / 2  # what came just after one time waits for the next, and that takes a while too
        self._syncs: tuple[Callable[[], None], ...] = ()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.error: OSError | None = None
        """The disk did not take what was written."""

    def watch(self, *syncs: Callable[[], None]) -> None:
        """Call these from now on, in this order; they raise OSError."""
        with self._lock:
            self._syncs = syncs
            self.error = None
        if self._period_s and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="disk-sync", daemon=True)
            self._thread.start()

    def forget(self) -> None:
        """Call them no more; none is being called when this returns."""
        with self._lock:
            self._syncs = ()

    def close(self) -> None:
        """End the thread. Idempotent."""
        self.forget()
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._period_s):
            with self._lock:
                try:
                    for sync in self._syncs:
                        sync()
                except OSError as error:
                    self.error, self._syncs = error.with_traceback(None), ()  # which holds what is synced


def _open_for_writing(path: Path, *, uri: str, overwrite: bool) -> tuple[int, bool]:
    """Open a file; True when it has its name already."""
    if path.exists() and not path.is_file():
        raise ConfigError(f"{uri}: {path} is not a regular file; name a file that can be written")
    if path.exists() and not overwrite:
        raise ConfigError(f"{path} exists; choose another name, or replace it with --overwrite")
    try:
        with contextlib.suppress(NotImplementedError):
            return _open_unnamed(path.parent), False
        flags = os.O_RDWR | os.O_CREAT | CLOSED_ON_EXEC | (0 if overwrite else os.O_EXCL)
        return os.open(path, flags, 0o666), True
    except FileExistsError:
        raise ConfigError(f"{path} exists; choose another name, or replace it with --overwrite") from None
    except FileNotFoundError:
        if path.parent.is_dir():  # /proc, for one
            raise ConfigError(f"{uri}: no files can be made in {path.parent}; choose another folder") from None
        raise ConfigError(f"{uri}: the folder {path.parent} does not exist; make it first") from None
    except OSError as error:
        raise ConfigError(f"{uri}: {path} cannot be written: {error.strerror}; choose a place that can be") from None


def _open_unnamed(folder: Path) -> int:
    """Open a file without a name.

    Raises:
        NotImplementedError: there are none in this file system, or files cannot be given names later on.
    """
    if not HAS_UNNAMED_FILES:
        raise NotImplementedError
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR | CLOSED_ON_EXEC, 0o666)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOSYS):
            raise NotImplementedError from None
        raise
