"""How long recordings are kept: what is older than so much, or more than so much, goes, the oldest segment first."""

from __future__ import annotations

import contextlib
import re
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rtfusion.session.format import CALIBRATION_FILE, SESSION_FILE

_SEGMENT_FILE = re.compile(r"([0-9]{6,9})(?:\.jsonl|-(?:visible|thermal|fused)\.mkv)", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Kept:
    """A segment on the disk."""

    files: tuple[Path, ...]
    written_s: float
    """When its last file was written to, in seconds since 1970."""
    size_bytes: int

    @property
    def folder(self) -> Path:
        """Of its session."""
        return self.files[0].parent


@dataclass(frozen=True, kw_only=True, slots=True)
class Retention:
    """The rule for one folder of sessions. Only segments of sessions are ever deleted, and none that is being written.

    Args:
        keep_s: segments that were written longer ago go; None keeps them.
        max_bytes: the sessions of the folder have at most so much room together, but for what is being written.
        now_s: gives the seconds since 1970.
    """

    keep_s: float | None = None
    max_bytes: float | None = None
    now_s: Callable[[], float] = time.time

    def apply(self, root: Path, *, written: Path) -> int:
        """Delete what is to go, and give the number of segments; ``written`` is the session that is being written.

        Raises:
            OSError: the folder cannot be read, or something in it not be deleted.
        """
        if self.keep_s is None and self.max_bytes is None:
            return 0
        kept = sorted(_segments(root), key=lambda one: (one.written_s, one.files[0].name))
        since_s = -1.0 if self.keep_s is None else self.now_s() - self.keep_s
        excess_bytes = sum(one.size_bytes for one in kept) - (self.max_bytes or float("inf"))
        last = {one.folder: one for one in kept}.get(written)
        count = 0
        for one in kept:
            if one is last or (one.written_s >= since_s and excess_bytes <= 0):
                continue
            _delete(one, written=written)
            excess_bytes -= one.size_bytes
            count += 1
        return count


def _segments(root: Path) -> Iterator[_Kept]:
    """Every segment of every session in a folder; links lead nowhere."""
    for folder in root.iterdir():
        if folder.is_symlink() or not (folder / SESSION_FILE).is_file():
            continue
        files: dict[str, list[tuple[Path, int, float]]] = {}
        for path in folder.iterdir():
            match = _SEGMENT_FILE.fullmatch(path.name)
            with contextlib.suppress(FileNotFoundError):
                about = path.lstat()
                if match is not None and stat.S_ISREG(about.st_mode):
                    files.setdefault(match[1], []).append((path, about.st_size, about.st_mtime))
        for found in files.values():
            paths, sizes_bytes, times_s = zip(*found, strict=True)
            yield _Kept(files=paths, written_s=max(times_s), size_bytes=sum(sizes_bytes))


def _delete(segment: _Kept, *, written: Path) -> None:
    """Delete a segment, and its session with the last one: lines last, so that what a cut leaves is a damaged segment."""
    for path in sorted(segment.files, key=lambda path: path.suffix == ".jsonl"):
        path.unlink(missing_ok=True)
    folder = segment.folder
    if folder != written and not any(_SEGMENT_FILE.fullmatch(path.name) for path in folder.iterdir()):
        for name in (CALIBRATION_FILE, SESSION_FILE):
            (folder / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # somebody keeps something of their own there
            folder.rmdir()
