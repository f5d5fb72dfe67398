"""A recorded session: a folder of raw frames of both cameras, with what is needed to fuse them again to the same pixels.

::

    session.json            schema, session, settings of the run, both streams; written once, at the start
    calibration.json        the calibration of the run, where there was one
    000000-visible.mkv      frames of one segment, lossless (FFV1), in the order of their indices
    000000-thermal.mkv      the same, 16-bit counts as they came
    000000-fused.mkv        what was made of them, to look at
    000000.jsonl            one line for each pair; the last one says that the segment is finished
    000001-visible.mkv ...

A line names the frames of a pair by their indices in the segment (a held frame serves several pairs and is stored once) and
says all that is known of them. Lines are written after the frames they name, but a muxer keeps the last frame or two: in a
segment without its last line, pairs whose frames are not there are left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from rtfusion.errors import CaptureError
from rtfusion.session.lossless import count_frames
from rtfusion.types import Band, Degraded, Frame

SCHEMA = 1
SESSION_FILE = "session.json"
CALIBRATION_FILE = "calibration.json"
FINISHED = b'{"finished":true}\n'
"""The last line of a segment that was not cut off."""

Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=-1, le=1)]


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameRecord:
    """One frame of a pair, without its pixels."""

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")

    index: Count
    """Position in the video of its segment."""
    timestamp_ns: int
    sequence: Count
    received_ns: int
    name: str | None
    kelvin_per_count: float | None
    shutter: bool

    @classmethod
    def of(cls, frame: Frame, *, index: int) -> FrameRecord:
        """Note what is known of a frame."""
        return cls(index=index, **{name: getattr(frame, name) for name in _OF_FRAME})


@dataclass(frozen=True, kw_only=True, slots=True)
class PairRecord:
    """One line of a segment."""

    __pydantic_config__ = ConfigDict(strict=True)

    sequence: Count
    degraded: Degraded | None
    visible: FrameRecord
    thermal: FrameRecord
    fused_crc32: Count
    """Checksum of the fused BGR image, row by row."""
    intents: Mapping[str, Share] = field(default_factory=dict)
    """The intents that it was made with, those that were not at 0."""
    intents_version: Count = 0
    """How often they had been changed."""

    def of(self, band: Band) -> FrameRecord:
        """Give the record of the frame of a band."""
        return self.visible if band is Band.VISIBLE else self.thermal

    def line(self) -> bytes:
        """Give the line as it is written."""
        return json.dumps(asdict(self), separators=(",", ":")).encode() + b"\n"


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """One segment as it can be played: it holds whole pairs alone."""

    number: int
    pairs: tuple[PairRecord, ...]

    def frames(self, band: Band) -> tuple[FrameRecord, ...]:
        """List the frames of a band in order, each once."""
        return tuple({pair.of(band).index: pair.of(band) for pair in self.pairs}.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """A session's folder, checked."""

    folder: Path
    settings: Mapping[str, Any]
    streams: Mapping[Band, Mapping[str, Any]]
    """Description of each stream by band: uri, size, pixel_format, rate_hz and continuous."""

    @property
    def calibration(self) -> Path | None:
        """Calibration file of the session, where there is one."""
        path = self.folder / CALIBRATION_FILE
        return path if path.is_file() else None

    def segments(self) -> Iterator[Segment]:
        """Read all segments in order, each when it is asked for.

        Raises:
            CaptureError: the lines are not those of a segment.
        """
        for number in sorted(int(path.stem) for path in self.folder.glob("*.jsonl") if path.stem.isdigit()):
            pairs, finished = _read_lines(self.folder / f"{number:06}.jsonl")
            if not finished and pairs:
                there = {band: count_frames(video_path(self.folder, number, band.value)) for band in Band}
                pairs = [pair for pair in pairs if all(pair.of(band).index < there[band] for band in Band)]
            yield Segment(number=number, pairs=tuple(pairs))

    def pairs(self) -> Iterator[PairRecord]:
        """Read the pairs of all segments in order."""
        return (pair for segment in self.segments() for pair in segment.pairs)


def load_session(folder: Path) -> Session:
    """Open a session's folder, or a folder with one session in it.

    Raises:
        CaptureError: there is no session, several, or one that this version cannot read.
    """
    if not (folder / SESSION_FILE).is_file():
        inside = sorted(path.parent for path in folder.glob(f"*/{SESSION_FILE}"))
        if len(inside) != 1:
            what = f"{len(inside)} sessions, name one: {', '.join(path.name for path in inside[-5:])}" if inside else ""
            raise CaptureError(f"{folder}: {what or 'no recorded session (no session.json); record one first'}")
        folder = inside[0]
    try:
        values = json.loads((folder / SESSION_FILE).read_text(encoding="utf-8"))
        if values["schema"] == SCHEMA:
            streams = {band: _stream(values["streams"][band.value]) for band in Band}
            return Session(folder=folder, settings=dict(values["settings"]), streams=streams)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CaptureError(f"{folder / SESSION_FILE}: not the description of a session: {error!r}") from None
    raise CaptureError(f"{folder}: the session has schema {values['schema']!r}; this rtfusion reads {SCHEMA}")


def _stream(values: Any) -> dict[str, Any]:
    stream = dict(values)
    uri, rate_hz, continuous = (stream[name] for name in ("uri", "rate_hz", "continuous"))
    if not (
        isinstance(uri, str) and isinstance(continuous, bool) and isinstance(rate_hz, (int, float)) and rate_hz > 0
    ):
        raise ValueError(f"uri, rate_hz and continuous are {uri!r}, {rate_hz!r} and {continuous!r}")
    return stream


def video_path(folder: Path, number: int, what: str) -> Path:
    """Give the path of a video of a segment; ``what`` is a band or ``fused``."""
    return folder / f"{number:06}-{what}.mkv"


def _read_lines(path: Path) -> tuple[list[PairRecord], bool]:
    """The pairs of a segment, and whether it was finished."""
    pairs: list[PairRecord] = []
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise CaptureError(f"{path}: cannot be read: {error.strerror}") from error
    for number, line in enumerate(lines, start=1):
        if line == FINISHED:
            return pairs, True
        if not line.endswith(b"\n"):  # cut off while it was written
            break
        try:
            pairs.append(_PAIR.validate_json(line))
        except ValidationError as error:
            problem = error.errors()[0]
            what = f"{'.'.join(map(str, problem['loc']))} {problem['msg']}".strip()
            raise CaptureError(f"{path}, line {number}: not a pair of a session: {what}") from None
    return pairs, False


_OF_FRAME = tuple(field.name for field in fields(FrameRecord) if field.name != "index")
_PAIR = TypeAdapter(PairRecord)
