"""A small disk that can be filled, a recording that begins and ends on demand, and what a player finds in recordings."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rtfusion.errors import CaptureError
from rtfusion.evaluate.moments import frames_of
from rtfusion.session.format import load_session
from rtfusion.session.lossless import count_frames
from rtfusion.session.record import CAPACITY_FRAMES, RecordSink
from rtfusion.session.source import SessionSource
from rtfusion.sinks.base import SinkContext
from rtfusion.types import Band, Frame, FusedFrame

DISK_MB = 96
RESERVE_MB = 16
CUT_OFF_FRAMES = 16
"""A kill may cost a video so many frames: what its encoder held back, and the one being written."""


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """A file system of `DISK_MB` in memory at ``folder``; None where it may not be mounted, which needs root."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m,mode=700", "rtfusion-faults", str(folder)]
    try:
        is_mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:  # no such command
        is_mounted = False
    try:
        yield folder if is_mounted else None
    finally:
        if is_mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


class Disk:
    """The small disk, to be filled and emptied."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """Leave less than a recording keeps in reserve."""
        with self._ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(self.folder).free - RESERVE_MB * 500_000)

    def empty(self) -> None:
        """Make room again."""
        self._ballast.unlink()


class Recording:
    """A sink that records a session (`RecordSink`) between `begin` and `end`; these two are for another thread."""

    uri = "record, on demand"

    def __init__(self, context: SinkContext) -> None:
        self.capacity_frames = CAPACITY_FRAMES
        self._context = context
        self._wanted: Path | None = None
        self._sink: RecordSink | None = None
        self._under: Path | None = None

    @property
    def drops(self) -> Mapping[str, int]:
        """Pairs of the present recording that were not recorded, by cause."""
        sink = self._sink
        return {} if sink is None else sink.drops

    @property
    def lines(self) -> int:
        """Pairs that the present recording holds, in all segments."""
        sink = self._sink
        if sink is None:
            return 0
        return sum(path.read_bytes().count(b'"fused_crc32"') for path in sink.folder.glob("*.jsonl"))

    def begin(self, folder: Path) -> None:
        """Record a session under ``folder`` from the next frame on."""
        self._wanted = folder

    def end(self) -> None:
        """Finish it with the next frame."""
        self._wanted = None

    def write(self, frame: FusedFrame) -> None:
        """Record a frame, where one is wanted."""
        if self._under != self._wanted:
            self.close(aborted=False)
            self._under = self._wanted
            if self._under is not None:
                self._sink = RecordSink(self._under, context=self._context, reserve_mb=RESERVE_MB)
        if self._sink is not None:
            self._sink.write(frame)

    def close(self, *, aborted: bool) -> None:
        """Finish what is being recorded."""
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.close(aborted=aborted)


def check_video(path: Path, *, written: int) -> dict[str, Any]:
    """Frames that were handed to the file, and that a player finds in it."""
    played = count_frames(path)
    return {"file": path.name, "written": written, "played": played, "plays": played >= written - CUT_OFF_FRAMES > 0}


def check_session(folder: Path) -> dict[str, Any]:
    """Pairs of a session's lines, the frames that come back, and whether they are those of their band."""
    try:
        segments = list(load_session(folder).segments())
        frames = {band: _frames(folder, band) for band in Band}
    except CaptureError as error:
        return {"file": folder.name, "error": str(error), "plays": False}
    lines = sum(path.read_bytes().count(b'"fused_crc32"') for path in folder.glob("*.jsonl"))
    pairs = sum(len(segment.pairs) for segment in segments)
    swapped = sum(not is_of_band(frame.image, band) for band in Band for frame in frames[band] if not frame.shutter)
    return {
        "file": folder.name, "segments": len(segments), "written": lines, "played": pairs, "swapped": swapped,
        "plays": pairs >= lines - 4 > 0 and swapped == 0,
    }  # fmt: skip


def _frames(folder: Path, band: Band) -> list[Frame]:
    with contextlib.closing(SessionSource(folder, uri=f"session:{folder}", band=band)) as source:
        return list(frames_of(source))


def is_of_band(image: Any, band: Band) -> bool:
    """Say if a picture is of the camera of this band: the visible one is brighter on the left, the thermal one above."""
    thinned = image[::8, ::8]
    rows, columns = thinned.shape[:2]
    halves = (
        (thinned[:, : columns // 2], thinned[:, columns // 2 :])
        if band is Band.VISIBLE
        else (thinned[: rows // 2], thinned[rows // 2 :])
    )
    return float(halves[0].mean()) > float(halves[1].mean())
