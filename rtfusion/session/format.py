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
segment without its last line, pairs whose frames are not there are left out. The last line is written when all before it is on
the disk.

What is damaged is left out, from there to the end of its segment, and told of in `Session.damaged`; with ``strict`` it is an
error. A session is a folder that somebody may have made by hand: only regular files are opened, and every value has a bound.
"""

from __future__ import annotations

import functools
import json
import logging
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

from rtfusion.errors import CaptureError
from rtfusion.intents.axes import AXES
from rtfusion.session.lossless import count_frames
from rtfusion.types import Band, Degraded, Frame

_log = logging.getLogger(__name__)

SCHEMA = 1
SESSION_FILE = "session.json"
CALIBRATION_FILE = "calibration.json"
FINISHED = b'{"finished":true}\n'
"""The last line of a segment that was not cut off."""

MAX_DESCRIPTION_BYTES = 16 << 20
MAX_LINES_BYTES = 256 << 20
MAX_RATE_HZ = 1e5

Count = Annotated[int, Field(ge=0, lt=2**53)]
Stamp = Annotated[int, Field(ge=-(2**62), le=2**62)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^/\x00]+$")]
"""Of an image, which an output may give to a file."""
Share = Annotated[float, Field(ge=-1, le=1)]


def _axis(name: str) -> str:
    if name not in AXES:
        raise ValueError(f"{name[:40]!a} is no intent")
    return name


Axis = Annotated[str, AfterValidator(_axis)]


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameRecord:
    """One frame of a pair, without its pixels."""

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")

    index: Count
    """Position in the video of its segment."""
    timestamp_ns: Stamp
    sequence: Count
    received_ns: Stamp
    name: Name | None
    kelvin_per_count: Finite | None
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
    intents: Mapping[Axis, Share] = field(default_factory=dict)
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
    strict: bool = False
    """A damaged segment is an error, and not left out."""
    damaged: dict[int, str] = field(default_factory=dict)
    """What is wrong with the segments that were read so far and left out, by their numbers."""

    @property
    def calibration(self) -> Path | None:
        """Calibration file of the session, where there is one."""
        path = self.folder / CALIBRATION_FILE
        return path if path.is_file() else None

    def segments(self) -> Iterator[Segment]:
        """Read all segments in order, each when it is asked for; those that are damaged are left out.

        Raises:
            CaptureError: lines are not those of a segment, or frames that they name are missing: with ``strict`` in any
                segment, else in so many that nothing is left.
        """
        some = False
        for number in self._numbers():
            try:
                segment = Segment(number=number, pairs=tuple(self._pairs(number)))
            except CaptureError as error:
                if self.strict:
                    raise
                self.leave_out(number, str(error))
            else:
                some = some or bool(segment.pairs)
                yield segment
        if self.damaged and not some:
            raise CaptureError(next(iter(self.damaged.values())))

    def _numbers(self) -> list[int]:
        """The numbers of all segments that there were, also of those that lost their lines."""
        found = (re.match(r"([0-9]{6,9})(?:\.jsonl|-(?:visible|thermal)\.mkv)", path.name, re.ASCII)
                 for path in self.folder.iterdir())  # fmt: skip
        with_videos = {int(match[1]) for match in found if match is not None}
        with_lines = {number for number in with_videos if (self.folder / f"{number:06}.jsonl").exists()}
        last = max(with_lines, default=-1)  # where a segment begins, videos come first
        return sorted(number for number in with_videos if number in with_lines or number < last)

    def leave_out(self, number: int, why: str) -> None:
        """Note that a segment, or the rest of one, cannot be played."""
        if number not in self.damaged:
            self.damaged[number] = why
            _tell_once(why)

    def pairs(self) -> Iterator[PairRecord]:
        """Read the pairs of all segments in order."""
        return (pair for segment in self.segments() for pair in segment.pairs)

    def _pairs(self, number: int) -> list[PairRecord]:
        path = self.folder / f"{number:06}.jsonl"
        pairs, finished, problem = _read_lines(path)
        if problem is None and not pairs:
            return pairs
        there = {band: _frames_in(video_path(self.folder, number, band.value)) for band in Band}
        whole = [pair for pair in pairs if all(pair.of(band).index < there[band] for band in Band)]
        if finished and len(whole) < len(pairs):
            counts = " and ".join(f"{count} {band.value} frames" for band, count in there.items())
            problem = f"{path}: names frames that are gone; the videos hold {counts}"
        if problem is not None:
            if self.strict or not whole:
                raise CaptureError(problem)
            self.leave_out(number, problem)
        return whole


def load_session(folder: Path, *, strict: bool = False) -> Session:
    """Open a session's folder, or a folder with one session in it.

    Raises:
        CaptureError: there is no session, several, or one that this version cannot read.
    """
    if not (folder / SESSION_FILE).exists():
        inside = sorted(path.parent for path in folder.glob(f"*/{SESSION_FILE}"))
        if len(inside) != 1:
            what = f"{len(inside)} sessions, name one: {', '.join(path.name for path in inside[-5:])}" if inside else ""
            raise CaptureError(f"{folder}: {what or 'no recorded session (no session.json); record one first'}")
        folder = inside[0]
    path = folder / SESSION_FILE
    try:
        values = json.loads(_read_regular(path, max_bytes=MAX_DESCRIPTION_BYTES))
        if values["schema"] == SCHEMA:
            streams = {band: _stream(values["streams"][band.value]) for band in Band}
            return Session(folder=folder, settings=dict(values["settings"]), streams=streams, strict=strict)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CaptureError(f"{path}: not the description of a session: {error!r:.200}") from None
    raise CaptureError(f"{folder}: the session has schema {values['schema']!r:.50}; this rtfusion reads {SCHEMA}")


def _stream(values: Any) -> dict[str, Any]:
    stream = dict(values)
    uri, rate_hz, continuous = (stream[name] for name in ("uri", "rate_hz", "continuous"))
    if not (
        isinstance(uri, str)
        and isinstance(continuous, bool)
        and isinstance(rate_hz, (int, float))
        and 0 < rate_hz <= MAX_RATE_HZ
    ):
        raise ValueError(f"uri, rate_hz and continuous are {uri!r}, {rate_hz!r} and {continuous!r}")
    return stream


def _read_regular(path: Path, *, max_bytes: int) -> bytes:
    """Read a file of a session; a pipe or a device, which may never end, is none.

    Raises:
        CaptureError: it is no regular file, too large, or cannot be read.
    """
    _check_regular(path)
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise CaptureError(f"{path}: cannot be read: {error.strerror}") from error
    if len(data) > max_bytes:
        raise CaptureError(f"{path}: larger than the {max_bytes >> 20} MB that it may have")
    return data


def _check_regular(path: Path) -> None:
    try:
        kind = path.stat().st_mode
    except OSError as error:
        raise CaptureError(f"{path}: cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(kind):
        raise CaptureError(f"{path}: no regular file; a session holds nothing else")


@functools.lru_cache(maxsize=256)
def _tell_once(why: str) -> None:
    """Both cameras, their pairs and a comparison read the same segments."""
    _log.warning("a damaged segment is left out: %s", why)


@functools.lru_cache(maxsize=256)
def _counted(path: Path, size: int, changed_ns: int) -> int:
    """Whole frames of a video, counted once as long as it stays the same."""
    return count_frames(path)


def _frames_in(path: Path) -> int:
    """Whole frames of a video; 0 where there is none yet, or none any more."""
    if not path.exists():
        return 0
    _check_regular(path)
    status = path.stat()
    return _counted(path, status.st_size, status.st_mtime_ns)


def video_path(folder: Path, number: int, what: str) -> Path:
    """Give the path of a video of a segment; ``what`` is a band or ``fused``."""
    return folder / f"{number:06}-{what}.mkv"


def _read_lines(path: Path) -> tuple[list[PairRecord], bool, str | None]:
    """The pairs of a segment as far as they can be read, whether it was finished, and what is wrong with the next line."""
    pairs: list[PairRecord] = []
    *lines, rest = _read_regular(path, max_bytes=MAX_LINES_BYTES).split(b"\n")
    for number, line in enumerate(lines, start=1):
        if line + b"\n" == FINISHED:
            return pairs, True, None
        try:
            pairs.append(_PAIR.validate_json(line))
        except ValidationError as error:
            problem = error.errors()[0]
            what = f"{'.'.join(map(str, problem['loc']))} {problem['msg']}".strip()
            return pairs, False, f"{path}, line {number}: not a pair of a session: {what:.200}"
    # what was cut off while it was written is no damage, nor are the zeros that a file system puts there at a power cut
    is_cut_off = rest.startswith(b"{") or (pairs and not rest.strip(b"\0"))
    if rest and not is_cut_off:
        return pairs, False, f"{path}: after line {len(lines)} comes what is no line"
    return pairs, False, None


_OF_FRAME = tuple(field.name for field in fields(FrameRecord) if field.name != "index")
_PAIR = TypeAdapter(PairRecord)
