"""What the systems do differently: what macOS and Windows have in place of what Linux has, and a sentence for the rest.

rtfusion is developed and tested on Linux. Elsewhere recordings, images, network cameras, the browser view and ZeroMQ are written
to run too; a test takes from the interpreter what those systems lack. It has not been run there.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from rtfusion.errors import ConfigError

CLOSED_ON_EXEC = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
"""Flags of `os.open` for every file of bytes that is for this process alone."""
HAS_UNNAMED_FILES = hasattr(os, "O_TMPFILE")


def usable_cores() -> tuple[int, ...]:
    """Numbers of the processor cores that this process may use, ascending; where that cannot be asked, of all there are."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def instructions(*, root: Path = Path("/")) -> frozenset[str]:
    """Instruction sets of the processor by the names that Linux has for them (avx2, asimd); empty where it does not tell them."""
    try:
        text = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    found = re.search(r"(?m)^(?:flags|Features)\s*:\s*(.+)$", text)
    return frozenset(found[1].split()) if found else frozenset()


def stay_on(cores: Iterable[int]) -> None:
    """Keep this process to some cores; does nothing where the system takes no such wish (macOS, Windows)."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


def lock(handle: int) -> None:
    """Lock an open file for this process alone, until it is closed.

    Raises:
        BlockingIOError: another process holds it.
        OSError: it cannot be locked.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        _lock_a_byte(handle)
        return
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def read_at(handle: int, count: int, offset: int) -> bytes:
    """Up to ``count`` bytes of a file from ``offset`` on; the position stays."""
    if hasattr(os, "pread"):
        return os.pread(handle, count, offset)
    with _position_kept(handle):
        os.lseek(handle, offset, os.SEEK_SET)
        return os.read(handle, count)


def write_at(handle: int, data: bytes, offset: int) -> None:
    """Write into a file at ``offset``; the position stays."""
    if hasattr(os, "pwrite"):
        os.pwrite(handle, data, offset)
        return
    with _position_kept(handle):
        os.lseek(handle, offset, os.SEEK_SET)
        os.write(handle, data)


def user_id() -> int | None:
    """Number of the user whose rights this process has; None where files have no such owner (Windows)."""
    return os.geteuid() if hasattr(os, "geteuid") else None


def needs(*systems: str, what: str, instead: str) -> None:
    """Refuse what this system does not have.

    Args:
        systems: where it runs, of ``linux``, ``macos`` and ``windows``.
        what: what was asked for, as the beginning of a sentence.
        instead: what to do in its place.

    Raises:
        ConfigError: this is another system.
    """
    here = {"darwin": "macos", "win32": "windows"}.get(sys.platform, sys.platform)
    if here not in systems:
        names = {"linux": "Linux", "macos": "macOS", "windows": "Windows"}
        where = " and ".join(names[system] for system in systems)
        raise ConfigError(f"{what} runs on {where} alone, and this is {names.get(here, here)}; {instead}")


def _lock_a_byte(handle: int) -> None:
    import msvcrt

    try:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    except PermissionError as error:  # how Windows says that it is taken
        raise BlockingIOError(*error.args) from None


@contextlib.contextmanager
def _position_kept(handle: int) -> Iterator[None]:
    position = os.lseek(handle, 0, os.SEEK_CUR)
    try:
        yield
    finally:
        os.lseek(handle, position, os.SEEK_SET)
