"""Recording a session (`rtfusion.session.format`): the raw frames of both cameras, their stamps, and the fused video.

Recording never ends a run: when the disk gets full, or writing fails, it stops, is counted and noted, and the run goes on
fusing. With room again, it goes on in a new segment.
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
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from rtfusion.clock import NS_PER_S
from rtfusion.errors import ConfigError, SinkError
from rtfusion.files import expanded, write_whole
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
from rtfusion.sinks.base import SinkContext
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

    def __init__(
        self,
        target: str | Path,
        *,
        context: SinkContext,
        uri: str | None = None,
        segment_s: int = SEGMENT_S,
        reserve_mb: int = RESERVE_MB,
        fused: bool = True,
    ) -> None:
        """Make the folder and describe the run in it.

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
        self._number = -1
        self._segment: _Segment | None = None
        name = time.strftime("%Y-%m-%dT%H-%M-%SZ", time.gmtime()) + f"-{context.session[:6]}"
        self.folder = expanded(target) / name
        try:
            self.folder.mkdir(parents=True)
            self._describe()
        except OSError as error:
            raise ConfigError(f"{self.uri}: cannot record into {self.folder}: {error.strerror}") from error
        free_bytes = shutil.disk_usage(self.folder).free
        if free_bytes < self._reserve_bytes:
            raise ConfigError(
                f"{self.uri}: {free_bytes / 1e6:.0f} MB are free, and {reserve_mb} are to be left; make room, or lower "
                "reserve_mb"
            )
        _log.info("recording into %s", self.folder)

    def write(self, frame: FusedFrame) -> None:
        """Record one pair and what was made of it, unless the disk is full."""
        if frame.pair is None or not self._has_room():
            self.drops["disk_full" if self._full else "no_pair"] += 1
            return
        try:
            if self._segment is None or self._segment.is_over(frame.pair):
                self._end_segment(finished=True)
                self._number += 1  # also when the segment cannot begin: the next one has files of its own
                self._segment = _Segment(self.folder, self._number, first=frame.pair, context=self._context,
                                         length_ns=self._segment_ns, fused=self._with_fused)  # fmt: skip
            self._segment.write(frame, frame.pair)
        except (ConfigError, SinkError, OSError) as error:
            self.drops["failed"] += 1
            self._note(f"{self.uri}: recording was interrupted: {error}")
            self._end_segment(finished=False)

    def close(self, *, aborted: bool) -> None:
        """Finish the segment."""
        self._end_segment(finished=True)

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
        try:
            segment.close(finished=finished)
        except (SinkError, OSError) as error:
            self._note(f"{self.uri}: a segment could not be finished, it plays all the same: {error}")

    def _note(self, text: str) -> None:
        _log.warning("%s", text)
        if self._context.note is not None:
            self._context.note(text)

    def _describe(self) -> None:
        settings = dict(self._context.settings)
        calibration = settings.get("calibration")
        if calibration is not None:
            shutil.copyfile(str(calibration), self.folder / CALIBRATION_FILE)
        values: dict[str, Any] = {
            "schema": SCHEMA,
            "session": self._context.session,
            "started_unix_ns": time.time_ns(),
            "started_monotonic_ns": time.monotonic_ns(),
            "settings": settings,
            "streams": {band.value: dict(stream) for band, stream in self._context.streams.items()},
        }
        write_whole(self.folder / SESSION_FILE, json.dumps(values, indent=2, default=str) + "\n")


class _Segment:
    """Three videos and the lines that go with them."""

    def __init__(
        self, folder: Path, number: int, *, first: FramePair, context: SinkContext, length_ns: int, fused: bool
    ) -> None:
        self._end_ns = first.timestamp_ns + length_ns
        self._last: dict[Band, tuple[Frame, FrameRecord]] = {}
        self._videos: Mapping[Band, LosslessVideo] = {
            band: LosslessVideo(video_path(folder, number, band.value), like=_of(first, band), rate_hz=context.rate_hz)
            for band in Band
        }
        fused_path = video_path(folder, number, "fused")
        self._fused = VideoSink(fused_path, context=replace(context, overwrite=False)) if fused else None
        descriptor = os.open(folder / f"{number:06}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self._lines: IO[bytes] = os.fdopen(descriptor, "wb", buffering=0)

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
        self._lines.write(record.line())
        if self._fused is not None:
            self._fused.write(frame)

    def close(self, *, finished: bool) -> None:
        """End all files; the first error is raised once everything was tried."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._lines.close)
            if finished:
                stack.callback(self._lines.write, FINISHED)
            for video in self._videos.values():
                stack.callback(video.close)
            if self._fused is not None:
                stack.callback(self._fused.close, aborted=not finished)

    def _stored(self, frame: Frame) -> FrameRecord:
        """Store a frame, unless it is the one before, held."""
        last = self._last.get(frame.band)
        if last is not None and last[0] is frame:
            return last[1]
        record = FrameRecord.of(frame, index=self._videos[frame.band].write(frame))
        self._last[frame.band] = frame, record
        return record


def crc32(frame: FusedFrame) -> int:
    """Checksum of the fused image, row by row."""
    return zlib.crc32(frame.image.tobytes())


def _of(pair: FramePair, band: Band) -> Frame:
    return pair.visible if band is Band.VISIBLE else pair.thermal
