"""Recording a session (`rtfusion.session.format`): the raw frames of both cameras, their stamps, and the fused video.

Recording never ends a run: when the disk gets full, or writing fails, it stops, is counted and noted, and the run goes on
fusing. With room again, or once the disk is back, it goes on in a new segment. What is written is brought to the disk twice
within ``sync_s``, frames before the lines that name them, so that a power cut costs no more than that.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import time
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Any

from rtfusion.capture.container import reason
from rtfusion.clock import MONOTONIC, NS_PER_S, Clock
from rtfusion.errors import ConfigError, FusionError, SinkError
from rtfusion.files import expanded, sync_folder, write_whole
from rtfusion.portable import CLOSED_ON_EXEC
from rtfusion.session.format import (
    CALIBRATION_FILE,
    FINISHED,
    SCHEMA,
    SESSION_FILE,
    FrameRecord,
    PairRecord,
    video_path,
)
from rtfusion.session.lossless import LosslessVideo
from rtfusion.session.retention import Retention
from rtfusion.sinks.base import SinkContext
from rtfusion.sinks.guarded import SYNC_S, DiskSync
from rtfusion.sinks.retry import Retry
from rtfusion.sinks.video import VideoSink
from rtfusion.types import Band, Frame, FramePair, FusedFrame

_log = logging.getLogger(__name__)

CAPACITY_FRAMES = 32
"""Frames of cameras that may wait for the disk: a lost one changes how the gain control of a replay goes on."""
SEGMENT_S = 60
RESERVE_MB = 1024
AGAIN = 1.25
"""Recording goes on once there is a quarter more room than where it stopped."""


class RecordSink:
    """Writes one session into a new folder, named by the time (UTC), of the folder given."""

    keeps_all = True

    def __init__(
        self,
        target: str | Path,
        *,
        context: SinkContext,
        uri: str | None = None,
        segment_s: int = SEGMENT_S,
        reserve_mb: int = RESERVE_MB,
        fused: bool = True,
        sync_s: int = SYNC_S,
        keep: float | None = None,
        max_gb: float | None = None,
        clock: Clock = MONOTONIC,
    ) -> None:
        """Make the folder and describe the run in it.

        Segments of any session in the folder given go when they are older than ``keep``, in seconds, and the oldest where all
        are larger than ``max_gb`` (`rtfusion.session.retention`).

        Raises:
            ConfigError: it cannot be made, or there is too little room to begin.
        """
        self.uri = uri if uri is not None else f"record:{target}"
        self.drops: Counter[str] = Counter()
        """Pairs that were not recorded, by cause."""
        self.capacity_frames = CAPACITY_FRAMES
        self._context = context
        self._segment_ns = segment_s * NS_PER_S
        self._reserve_bytes = reserve_mb * 1_000_000
        self._with_fused = fused
        self._full = False
        self._forgot_ns: int | None = None
        self._number = -1
        self._segment: _Segment | None = None
        self._retention = Retention(keep_s=keep, max_bytes=None if max_gb is None else max_gb * 1e9)
        self._sync = DiskSync(sync_s)
        self._retry = Retry(clock)
        name = time.strftime("%Y-%m-%dT%H-%M-%SZ", time.gmtime()) + f"-{context.session[:6]}"
        self._root = expanded(target)
        self.folder = self._root / name
        try:
            self.folder.mkdir(parents=True)
            self._device = self._root.stat().st_dev
            self._describe()
            free_bytes = shutil.disk_usage(self.folder).free
            if free_bytes < self._reserve_bytes:
                self._forget_old()
                free_bytes = shutil.disk_usage(self.folder).free
        except OSError as error:
            raise ConfigError(f"{self.uri}: cannot record into {self.folder}: {error.strerror}") from error
        if free_bytes < self._reserve_bytes:
            raise ConfigError(
                f"{self.uri}: {free_bytes / 1e6:.0f} MB are free, and {reserve_mb} are to be left; make room, or lower "
                "reserve_mb"
            )
        _log.info("recording into %s", self.folder)

    def write(self, frame: FusedFrame) -> bool:
        """Record one pair and what was made of it; False when the disk is full or gone, which ``drops`` tells."""
        dropped = self.drops.total()
        if frame.pair is None:
            self.drops["no_pair"] += 1
        elif not self._retry.is_due:
            self.drops["failed"] += 1
        elif (cause := self._failure(frame, frame.pair)) is not None:
            self._interrupt(cause)
        return self.drops.total() == dropped

    def close(self, *, aborted: bool) -> None:
        """Finish the segment.

        Raises:
            SinkError: recording was interrupted, and could not go on until now.
        """
        is_interrupted = self._retry.failures > 0 and self._segment is None
        self._end_segment(finished=True)
        self._sync.close()
        if is_interrupted and not aborted:
            raise SinkError(f"{self.uri}: recording did not go on; {self.drops['failed']} pairs were not recorded")

    def _failure(self, frame: FusedFrame, pair: FramePair) -> str | None:
        """Record one pair, or say why that failed: in words, since the error would hold the segment by what it came through."""
        try:
            self._record(frame, pair)
        except (FusionError, OSError, ValueError) as error:  # ValueError is PyAV's
            return reason(error)
        return None

    def _record(self, frame: FusedFrame, pair: FramePair) -> None:
        if self._retry.failures:
            self._return()
        if self._forgot_ns is None or pair.timestamp_ns - self._forgot_ns >= self._segment_ns:
            self._forgot_ns = pair.timestamp_ns  # also while the disk is full: this may be what it waits for
            self._forget_old()
        if not self._has_room():
            self.drops["disk_full"] += 1
            return
        if self._segment is not None and self._sync.error is not None:
            raise self._sync.error
        if self._segment is None or self._segment.is_over(pair):
            self._end_segment(finished=True)
            self._number += 1  # also when the segment cannot begin: the next one has files of its own
            self._segment = _Segment(self.folder, self._number, first=pair, context=self._context, sync=self._sync,
                                     length_ns=self._segment_ns, fused=self._with_fused)  # fmt: skip
        self._segment.write(frame, pair)
        if self._retry.failures and self._retry.worked():
            _log.info("%s: recording goes on, %d pairs were not recorded", self.uri, self.drops["failed"])

    def _forget_old(self) -> None:
        """Delete what is to be kept no longer; where that fails, recording goes on."""
        try:
            count = self._retention.apply(self._root, written=self.folder)
        except OSError as error:
            self._note(f"{self.uri}: what keep and max_gb say could not be deleted: {reason(error)}")
            return
        if count:
            _log.info("%s: %d segments were deleted, as keep and max_gb say", self.uri, count)

    def _interrupt(self, cause: str) -> None:
        """Count a pair that was lost, end the segment, and wait some time."""
        self.drops["failed"] += 1
        if not self._retry.failures:
            self._note(f"{self.uri}: recording was interrupted, fusing goes on: {cause}")
        self._retry.failed()
        self._end_segment(finished=False)

    def _return(self) -> None:
        """Make sure of the folder: the disk may have gone, and another one stand in its place.

        Raises:
            SinkError: the disk is not there.
            OSError: it cannot be written.
        """
        if self._root.stat().st_dev != self._device:
            raise SinkError(f"{self._root} is on another disk than before")
        if not (self.folder / SESSION_FILE).exists():
            self.folder.mkdir(exist_ok=True)
            self._describe()

    def _has_room(self) -> bool:
        free_bytes = shutil.disk_usage(self.folder).free
        if not self._full and free_bytes < self._reserve_bytes:
            self._full = True
            self._note(
                f"{self.uri}: recording stopped with {free_bytes / 1e6:.0f} MB free, fusing goes on; make room and it resumes"
            )
            self._end_segment(finished=True)
        elif self._full and free_bytes >= self._reserve_bytes * AGAIN:
            self._full = False
            _log.info("%s: there is room again, recording goes on", self.uri)
        return not self._full

    def _end_segment(self, *, finished: bool) -> None:
        segment, self._segment = self._segment, None
        if segment is None:
            return
        error = segment.close(finished=finished)
        if error is not None and finished:
            self._note(f"{self.uri}: a segment could not be finished, it plays all the same: {reason(error)}")

    def _note(self, text: str) -> None:
        _log.warning("%s", text)
        if self._context.note is not None:
            self._context.note(text)

    def _describe(self) -> None:
        """Write what the session is, so that a power cut leaves it whole."""
        settings = dict(self._context.settings)
        calibration = settings.get("calibration")
        if calibration is not None:
            write_whole(self.folder / CALIBRATION_FILE, Path(calibration).read_bytes(), durable=True)
        values: dict[str, Any] = {
            "schema": SCHEMA,
            "session": self._context.session,
            "started_unix_ns": time.time_ns(),
            "started_monotonic_ns": time.monotonic_ns(),
            "settings": settings,
            "streams": {band.value: dict(stream) for band, stream in self._context.streams.items()},
        }
        write_whole(self.folder / SESSION_FILE, json.dumps(values, indent=2, default=str) + "\n", durable=True)
        for folder in (self._root, *self._root.resolve().parents):
            if folder.stat().st_dev == self._device:
                with contextlib.suppress(PermissionError):  # not ours to read; then it was not made by us
                    sync_folder(folder)


class _Segment:
    """Three videos and the lines that go with them."""

    def __init__(
        self,
        folder: Path,
        number: int,
        *,
        first: FramePair,
        context: SinkContext,
        sync: DiskSync,
        length_ns: int,
        fused: bool,
    ) -> None:
        self._end_ns = first.timestamp_ns + length_ns
        self._last: dict[Band, tuple[Frame, FrameRecord]] = {}
        self._sync = sync
        self._videos: dict[Band, LosslessVideo] = {}
        self._fused: VideoSink | None = None
        with contextlib.ExitStack() as opened:
            for band in Band:
                path = video_path(folder, number, band.value)
                video = LosslessVideo(path, like=_of(first, band), rate_hz=context.rate_hz)
                opened.callback(_quietly, video.close)
                self._videos[band] = video
            if fused:
                # brought to the disk with the others
                within = replace(context, overwrite=False)
                self._fused = VideoSink(video_path(folder, number, "fused"), context=within, sync_s=0)
                opened.callback(_quietly, partial(self._fused.close, aborted=True))
            lines = folder / f"{number:06}.jsonl"
            descriptor = os.open(lines, os.O_WRONLY | os.O_CREAT | os.O_EXCL | CLOSED_ON_EXEC, 0o644)
            self._lines: FileIO = FileIO(descriptor, "wb")
            opened.pop_all()
        syncs = [video.sync for video in self._videos.values()]
        syncs += [] if self._fused is None else [self._fused.sync]
        sync.watch(*syncs, self._sync_lines, partial(sync_folder, folder))

    def is_over(self, pair: FramePair) -> bool:
        """True when this pair belongs to the next segment, by its time, or because a camera has another size now."""
        return pair.timestamp_ns >= self._end_ns or not all(self._videos[band].fits(_of(pair, band)) for band in Band)

    def write(self, frame: FusedFrame, pair: FramePair) -> None:
        """Frames first, then their line."""
        record = PairRecord(
            sequence=pair.sequence,
            degraded=pair.degraded,
            visible=self._stored(pair.visible),
            thermal=self._stored(pair.thermal),
            fused_crc32=crc32(frame),
            intents=dict(frame.intents),
            intents_version=frame.intents_version,
        )
        self._write_line(record.line())
        if self._fused is not None:
            self._fused.write(frame)

    def close(self, *, finished: bool) -> Exception | None:
        """End all files; the last line says that the segment is whole, so it is written when all else is on the disk.

        Gives back the first thing that failed, once everything was tried. Raised from here, it would hold itself by what it came
        through, and the encoders too: memory and threads of a failed segment would stay until a garbage collection.
        """
        self._sync.forget()
        ends: list[Callable[[], None]] = [video.close for video in self._videos.values()]
        ends += [] if self._fused is None else [partial(self._fused.close, aborted=not finished)]
        errors = [error for error in map(_quietly, ends) if error is not None]
        try:
            if finished and not errors:
                self._sync_lines()
                self._write_line(FINISHED)
            self._sync_lines()
        except OSError as error:
            errors.append(error)
        finally:
            self._lines.close()
        return errors[0] if errors else None

    def _write_line(self, line: bytes) -> None:
        """Write all of a line or nothing of it."""
        start, rest = self._lines.tell(), memoryview(line)
        try:
            while rest:
                rest = rest[self._lines.write(rest) or 0 :]
        except OSError:
            with contextlib.suppress(OSError):
                self._lines.truncate(start)
            raise

    def _sync_lines(self) -> None:
        os.fsync(self._lines.fileno())

    def _stored(self, frame: Frame) -> FrameRecord:
        """Store a frame, unless it is the one before, held."""
        last = self._last.get(frame.band)
        if last is not None and last[0] is frame:
            return last[1]
        record = FrameRecord.of(frame, index=self._videos[frame.band].write(frame))
        self._last[frame.band] = frame, record
        return record


def _quietly(end: Callable[[], None]) -> Exception | None:
    """End something, and return what went wrong, without the frames that it came through: they hold what was ended."""
    try:
        end()
    except (FusionError, OSError, ValueError) as error:
        return error.with_traceback(None)
    return None


def crc32(frame: FusedFrame) -> int:
    """Checksum of the fused image, row by row."""
    return zlib.crc32(frame.image.tobytes())


def _of(pair: FramePair, band: Band) -> Frame:
    return pair.visible if band is Band.VISIBLE else pair.thermal
