"""A recorded session as two sources, and its pairs as they were."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path

import av

from rtfusion.capture.base import StreamInfo
from rtfusion.capture.container import open_container
from rtfusion.capture.pixels import PixelConverter
from rtfusion.capture.playback import Playback
from rtfusion.capture.uri import SourceUri, read_query
from rtfusion.clock import MONOTONIC, Clock
from rtfusion.errors import CaptureError, ConfigError, StreamLost
from rtfusion.session.format import FrameRecord, PairRecord, Session, load_session, video_path
from rtfusion.smoothing import beat_ns
from rtfusion.types import Band, Frame, FramePair

MOST_NOTES = 20
"""Damaged segments that are told of one by one; all are counted."""


class SessionSource(Playback):
    """One camera of a session: every frame that was recorded, once.

    Its stamps are those of the run less whole beats (`rtfusion.smoothing`), so that what a run does from time to time a replay
    does at the same frames; the first pair is within the first beat.
    """

    def __init__(
        self,
        folder: Path,
        *,
        uri: str,
        band: Band,
        loop: int = 1,
        pace: bool = False,
        strict: bool = False,
        clock: Clock = MONOTONIC,
    ) -> None:
        """Open the session. What is damaged in it is skipped and counted, or an error with ``strict``.

        Raises:
            CaptureError: it is none, or there is no pair in it.
        """
        if loop != 1:
            raise CaptureError(f"{uri}: a session is played once; leave out loop")
        super().__init__(self._play(), pace=pace, clock=clock)
        self.session = load_session(folder, strict=strict)
        self._band = band
        first = next(self.session.pairs(), None)
        if first is None:
            raise CaptureError(f"{uri}: not one pair was recorded in this session")
        self._start_ns = _start_ns(first)
        stream = self.session.streams[band]
        self.info = StreamInfo.like(
            self.peek(),
            uri=uri,
            rate_hz=float(stream["rate_hz"]),
            live=False,
            continuous=bool(stream["continuous"]),
            description=f"recorded from {stream['uri']}",
        )

    def _play(self) -> Generator[Frame, None, None]:
        convert = PixelConverter(self._band)
        for segment in self.session.segments():
            if records := segment.frames(self._band):
                path = video_path(self.session.folder, segment.number, self._band.value)
                try:
                    yield from self._segment(path, records, convert)
                except CaptureError as error:
                    if self.session.strict:
                        raise
                    self.session.leave_out(segment.number, str(error))
            self.notes = tuple(f"a damaged segment: {why}" for why in list(self.session.damaged.values())[:MOST_NOTES])
        if self.session.damaged:
            self.drops["segments_damaged"] = len(self.session.damaged)

    def _segment(
        self, path: Path, records: tuple[FrameRecord, ...], convert: PixelConverter
    ) -> Generator[Frame, None, None]:
        played = 0
        with open_container(path, uri=str(path)) as container:
            codec = container.streams.video[0].codec_context
            codec.thread_count = 1
            codec.options = {
                "err_detect": "explode"
            }  # a slice whose checksum is wrong is an error, not a copy of the last one
            try:
                for record, decoded in zip(records, container.decode(video=0), strict=False):
                    image, pixel_format = convert(decoded)
                    yield Frame(
                        image=image,
                        pixel_format=pixel_format,
                        band=self._band,
                        timestamp_ns=record.timestamp_ns - self._start_ns,
                        sequence=record.sequence,
                        received_ns=self._clock.now_ns(),
                        name=record.name,
                        kelvin_per_count=record.kelvin_per_count,
                        shutter=record.shutter,
                    )
                    played += 1
            except (av.FFmpegError, OSError, ValueError, IndexError) as error:
                if isinstance(error, CaptureError):
                    raise
                raise StreamLost(f"{path}: damaged after {played} frames: {error}") from error
        if played < len(records):
            raise StreamLost(f"{path}: holds {played} frames, its lines name {len(records)}")


def open_session(uri: SourceUri, *, band: Band, loop: int, pace: bool, clock: Clock) -> SessionSource:
    """Open one camera of a session by its URI; ``?strict=true`` makes what is damaged an error."""
    strict = read_query(uri, {"strict": _boolean}).get("strict", False)
    if corrections := uri.query.keys() - {"strict"}:
        raise ConfigError(
            f"{uri.text}: a session holds its pictures as they were corrected then; leave out {', '.join(corrections)}"
        )
    return SessionSource(uri.path, uri=uri.text, band=band, loop=loop, pace=pace, strict=strict, clock=clock)


def _boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("expected true or false")
    return text == "true"


def _start_ns(first: PairRecord) -> int:
    """The moment from which the stamps of a session count."""
    return beat_ns(min(first.visible.timestamp_ns, first.thermal.timestamp_ns))


class SessionPairer:
    """Puts the frames of a session together as they were when it was recorded. Used as a `rtfusion.pairing.Pairer`.

    Frames that do not come, since they are damaged, cost the pairs that they were in.
    """

    tolerance_ns = None
    """Pairs are what they were."""

    def __init__(self, session: Session) -> None:
        self._start_ns = next((_start_ns(pair) for pair in session.pairs()), 0)
        self._pairs = _with_positions(session)
        self._next = next(self._pairs, None)
        self._records = {band: _frames(session, band) for band in Band}
        self._frames: dict[Band, Frame] = {}
        self._used: dict[Band, bool] = dict.fromkeys(Band, True)
        self._arrived = dict.fromkeys(Band, 0)
        """Frames of a band that came, or will not come any more, since a later one came."""
        self._ended: set[Band] = set()
        self.pairs = 0
        self.drops: dict[Band, Counter[str]] = {band: Counter() for band in Band}

    @property
    def _missing(self) -> set[Band]:
        """The bands of which a frame of the next pair is still to come."""
        return {band for band in Band if self._next is not None and self._arrived[band] <= self._next[1][band]}

    @property
    def wants(self) -> Band:
        """The stream to read next."""
        return Band.VISIBLE if Band.VISIBLE in self._missing else Band.THERMAL

    @property
    def finished(self) -> bool:
        """True when no further pair can come."""
        return self._next is None or bool(self._missing & self._ended)

    def push(self, frame: Frame) -> None:
        """Take one frame."""
        band = frame.band
        if not self._used[band]:
            self.drops[band]["damaged"] += 1
        self._frames[band], self._used[band] = frame, False
        for record in self._records[band]:
            self._arrived[band] += 1
            if (record.timestamp_ns - self._start_ns, record.sequence) == (frame.timestamp_ns, frame.sequence):
                break

    def end(self, band: Band) -> None:
        """Say that a stream has no further frames."""
        self._ended.add(band)

    def take(self) -> FramePair | None:
        """The next pair, or None."""
        while self._next is not None and not self._missing:
            record, positions = self._next
            self._next = next(self._pairs, None)
            if any(self._arrived[band] != positions[band] + 1 for band in Band):
                continue  # one of its frames did not come
            self._used = dict.fromkeys(Band, True)
            self.count()
            return FramePair(
                visible=self._frames[Band.VISIBLE],
                thermal=self._frames[Band.THERMAL],
                sequence=record.sequence,
                degraded=record.degraded,
                intents=record.intents,
            )
        return None

    def count(self) -> int:
        """The number of the next pair."""
        self.pairs += 1
        return self.pairs - 1

    def explain(self) -> str:
        """One sentence on where both streams are."""
        return f"{self.pairs} pairs of the session were played"


def _with_positions(session: Session) -> Iterator[tuple[PairRecord, dict[Band, int]]]:
    """Every pair with the places of its frames among all frames of their bands."""
    before = dict.fromkeys(Band, 0)
    for segment in session.segments():
        for pair in segment.pairs:
            yield pair, {band: before[band] + pair.of(band).index for band in Band}
        for band in Band:
            before[band] += len(segment.frames(band))


def _frames(session: Session, band: Band) -> Iterator[FrameRecord]:
    """All frames of a band, in order."""
    return (record for segment in session.segments() for record in segment.frames(band))
