"""Files that FFmpeg opens: their tracks, what they say of themselves, and what their packets say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from rtfusion.capture.playback import pts_to_ns
from rtfusion.capture.timeline import measured_rate_hz
from rtfusion.errors import CaptureError, ConfigError
from rtfusion.types import Band

START_COMMENT = "rtfusion: first frame at {} ns"
"""The comment that rtfusion writes into a video; see `StreamInfo.starts_ns`."""
RATE_PACKETS = 600
"""So many packets are looked at to measure a rate."""

_START_COMMENT = re.compile(START_COMMENT.format(r"(-?\d{1,19})"))
_BAND_WORDS = {
    Band.VISIBLE: re.compile(r"(?i)(?<![a-z])(vis|visible|rgb|color|colour|eo)(?![a-z])"),
    Band.THERMAL: re.compile(r"(?i)(?<![a-z])(ir|thermal|infrared|lwir|mwir|flir)(?![a-z])"),
}


def open_container(path: Path, *, uri: str) -> InputContainer:
    """Open a video file; nothing it refers to is fetched from a network.

    Raises:
        CaptureError: no such file, not a regular one, empty, not readable, or not a video.
    """
    if not path.exists():
        raise CaptureError(f"{uri}: no such file; check the path")
    if not path.is_file():
        raise CaptureError(f"{uri}: not a regular file; expected a video file")
    if path.stat().st_size == 0:
        raise CaptureError(f"{uri}: the file is empty (0 bytes); expected a video file")
    try:
        # "file:" keeps a name such as "http:x" from being taken for an address.
        container = av.open(
            f"file:{path.absolute()}", container_options={"protocol_whitelist": "file"}, metadata_errors="replace"
        )
    except PermissionError:
        raise CaptureError(f"{uri}: no permission to read the file; check it with ls -l") from None
    except (av.FFmpegError, OSError) as error:
        raise CaptureError(f"{uri}: not a video that can be read ({reason(error)}); {_advice(path)}") from error
    if not container.streams:
        container.close()
        raise CaptureError(f"{uri}: not a video that can be read (it holds no track); {_advice(path)}")
    return container


def _advice(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(12)
    if head[4:8] == b"ftyp":
        return "an MP4 file without its index: the recording or a copy of it was cut off before its end"
    if head.startswith(b"FFF\0") or path.suffix.lower() in (".seq", ".csq", ".fff", ".ats", ".sfmov"):
        return "recordings of FLIR's own software are not read; export them as 16-bit TIFF or as a video"
    return "expected a video file such as .mp4, .mkv, .avi or .ts"


def reason(error: Exception) -> str:
    """What a library says that went wrong."""
    return str(getattr(error, "strerror", None) or error)


def starts_ns(container: InputContainer) -> int | None:
    """Read `StreamInfo.starts_ns` from the comment of a video that rtfusion wrote."""
    comments = [str(text) for name, text in container.metadata.items() if name.lower() == "comment"]
    match = next(filter(None, map(_START_COMMENT.fullmatch, comments)), None)
    return None if match is None else int(match[1])


# -- tracks -----------------------------------------------------------------------------------------------------------


def video_tracks(container: InputContainer) -> list[VideoStream]:
    """The video tracks that can be decoded, without cover pictures, in the order of the file."""
    return [
        stream
        for stream in container.streams.video
        if not stream.disposition & stream.disposition.attached_pic and stream.codec_context is not None
    ]


def video_stream(
    container: InputContainer, uri: str, *, asked: str | None = None, band: Band | None = None
) -> VideoStream:
    """The track that is ``asked`` for, by its number among the video tracks or by a band that one is named after.

    By default the one that is named after ``band``, else the largest picture, as players choose.

    Raises:
        CaptureError: there is none that can be decoded.
        ConfigError: there is no such track.
    """
    tracks = video_tracks(container)
    if not tracks:
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        raise CaptureError(f"{uri}: no video stream that can be decoded; it holds {kinds}")
    if asked is None:
        named = _named_after(tracks, band)
        return named if named is not None else max(tracks, key=lambda track: track.width * track.height)
    if asked.isdecimal():
        if int(asked) < len(tracks):
            return tracks[int(asked)]
        raise ConfigError(f"{uri}: no video track {asked}; it holds {tracks_text(container)}")
    named = _named_after(tracks, Band(asked))
    if named is None:
        raise ConfigError(
            f"{uri}: no track, or several, named after {asked}; give its number of {tracks_text(container)}"
        )
    return named


def _named_after(tracks: list[VideoStream], band: Band | None) -> VideoStream | None:
    """The only track whose name has a word of the band."""
    if band is None or len(tracks) < 2:
        return None
    found = [track for track in tracks if any(_BAND_WORDS[band].search(text) for text in _names(track))]
    return found[0] if len(found) == 1 else None


def _names(track: VideoStream) -> list[str]:
    return [track.metadata[key] for key in ("title", "handler_name", "HANDLER_NAME", "name") if key in track.metadata]


def tracks_text(container: InputContainer) -> str:
    """All video tracks for a person: ``stream=0 (640x480 h264), stream=1 (160x120 mjpeg, "preview")``."""
    return ", ".join(
        f"stream={index} ({track.width}x{track.height} {track.codec_context.name}"
        + "".join(f', "{name}"' for name in _names(track)[:1])
        + ")"
        for index, track in enumerate(video_tracks(container))
    )


def tracks_text_of(path: Path, *, uri: str) -> str:
    """What a file with several video tracks holds, to end a sentence with; nothing for other files."""
    with open_container(path, uri=uri) as container:
        return f"; it holds {tracks_text(container)}" if len(video_tracks(container)) > 1 else ""


# -- rates and lengths ------------------------------------------------------------------------------------------------


def stamps_rate_hz(path: Path, *, uri: str, asked: str | None, band: Band, claimed_hz: float | None) -> float | None:
    """The rate that the stamps of the first packets tell, as `measured_rate_hz`; None where they tell none."""
    with open_container(path, uri=uri) as container:
        stream = video_stream(container, uri, asked=asked, band=band)
        if stream.time_base is None:
            return None
        stamps = []
        try:
            for packet in islice(container.demux(stream), RATE_PACKETS):
                if packet.pts is not None:
                    stamps.append(pts_to_ns(packet.pts, stream.time_base))
        except (av.FFmpegError, OSError):
            pass  # what breaks here breaks again where it is read, and is told there
        return measured_rate_hz(stamps, claimed_hz=claimed_hz)


class Extent:
    """From when to when the packets of a track last, whether or not they are shown or can be decoded."""

    def __init__(self, stream: VideoStream, *, begin: int | None = None) -> None:
        """``begin`` is the first stamp, where what comes first is not read."""
        self._time_base = stream.time_base
        self._stretches_s = 0.0
        self._first = begin
        self._end = 0
        self._last_dts: int | None = None
        self._waiting: list[int] | None = []
        self.pictures = 0
        """Packets that hold something."""

    def push(self, packet: Packet[VideoStream]) -> None:
        """Take the next packet, before it is decoded."""
        self.pictures += packet.size > 0
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is None or self._time_base is None:
            return
        if packet.dts is not None and self._last_dts is not None and packet.dts < self._last_dts:
            self._stretches_s += self._stretch_s  # joined: the stamps begin again
            self._first = None
        self._last_dts = packet.dts
        end = stamp + (packet.duration or 0)
        self._end = end if self._first is None else max(self._end, end)
        self._first = stamp if self._first is None else min(self._first, stamp)
        if self._waiting is not None and packet.size and not packet.is_discard:
            self._waiting.append(stamp)

    def failed(self, packet: Packet[VideoStream]) -> None:
        """Say that the last packet is damaged, which is counted elsewhere."""
        if self._waiting and packet.pts == self._waiting[-1]:
            self._waiting.pop()

    def before(self, pts: int | None) -> list[int]:
        """The stamps of the pictures before the first one that was decoded, which could not be; asked once."""
        waiting, self._waiting = self._waiting, None
        return [] if pts is None else sorted(stamp for stamp in waiting or () if stamp < pts)

    @property
    def _stretch_s(self) -> float:
        if self._first is None or self._time_base is None:
            return 0.0
        return float((self._end - self._first) * self._time_base)

    @property
    def span_s(self) -> float:
        """Seconds from the first stamp to the end of the last picture; 0 where there are no stamps."""
        return self._stretches_s + self._stretch_s


def declared_s(container: InputContainer, stream: VideoStream) -> float:
    """The length that the file says the track has; 0 when it does not say."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    if len(container.streams) != 1 or container.duration is None:
        return 0.0
    # a container counts from 0, the stream from its own first frame
    return (container.duration - max(container.start_time or 0, 0)) / av.time_base


# -- the end of a file ------------------------------------------------------------------------------------------------


def missing_bytes(path: Path) -> int | None:
    """Bytes that a file lacks of the length that it says it has: 0 for a whole one; None where it does not say.

    AVI, MP4 and MOV, Matroska and WebM say it, but for recordings that were never finished.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            ends_at = _says_it_ends_at(file, size)
    except OSError:  # deleted meanwhile
        return None
    return max(ends_at - size, 0) if ends_at else None


def _says_it_ends_at(file: BinaryIO, size: int) -> int:
    head = file.read(12)
    if head[:4] == b"RIFF":
        return _riff_ends_at(file)
    if head[4:8] == b"ftyp":
        return _boxes_end_at(file, size)
    return _segment_ends_at(file) if head[:4] == b"\x1a\x45\xdf\xa3" else 0


def appended_bytes(path: Path) -> int:
    """Bytes of further recordings behind an MP4 or MOV file, to which it was joined byte by byte: no reader comes to them."""
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            boxes = [at for at, kind in _boxes(file, size) if kind == b"ftyp"]
    except OSError:
        return 0
    return size - boxes[1] if len(boxes) > 1 and not boxes[0] else 0


def _riff_ends_at(file: BinaryIO) -> int:
    """The end of the last chunk; a long AVI has several."""
    at = 0
    while True:
        file.seek(at)
        head = file.read(8)
        if len(head) < 8 or head[:4] != b"RIFF":
            return at
        length = int.from_bytes(head[4:], "little")
        if not length:
            return 0
        at += 8 + length + length % 2


def _boxes_end_at(file: BinaryIO, size: int) -> int:
    """The end of the last box of an MP4 file; 0 where one goes "to the end", which says nothing."""
    end = 0
    for at, _ in _boxes(file, size):
        length = _box_length(file, at)
        if not length:
            return 0
        end = at + length
    return end


def _boxes(file: BinaryIO, size: int) -> Iterator[tuple[int, bytes]]:
    """Where each outer box begins, and its kind."""
    at = 0
    while at < size:
        file.seek(at + 4)
        yield at, file.read(4)
        length = _box_length(file, at)
        if not length:
            return
        at += length


def _box_length(file: BinaryIO, at: int) -> int:
    file.seek(at)
    head = file.read(16)
    length = int.from_bytes(head[:4], "big")
    if length == 1:
        length = int.from_bytes(head[8:16], "big")
    return length if length >= 8 else 0


def _segment_ends_at(file: BinaryIO) -> int:
    """The end of the segment of a Matroska file; 0 where it does not say."""
    file.seek(4)
    at = 4
    for is_segment in (False, True):
        if is_segment:
            file.seek(at)
            if file.read(4) != b"\x18\x53\x80\x67":
                return 0
            at += 4
        file.seek(at)
        first = file.read(1)
        if not first or not first[0]:
            return 0
        width = 9 - first[0].bit_length()
        rest = file.read(width - 1)
        value = int.from_bytes(bytes([first[0] & (0x7F >> (width - 1))]) + rest, "big")
        if value == (1 << 7 * width) - 1:
            return 0
        at += width + value
    return at


_TS_BYTES, _TS_SYNC = 188, 0x47


def is_whole_in_transport_stream(path: Path, at: int | None) -> bool:
    """True for a picture of a transport stream of which every packet is there, from the one at ``at`` to the last.

    The demuxer calls a picture damaged when the count of packets leaps after it, as it does where two recordings were joined.
    """
    if at is None:
        return False
    try:
        with path.open("rb") as file:
            file.seek(at)
            return _all_packets_of_a_picture(file)
    except OSError:
        return False


def _all_packets_of_a_picture(file: BinaryIO) -> bool:
    track: int | None = None
    counter = 0
    is_padded, held_bytes, declared_bytes = False, 0, 0
    while len(packet := file.read(_TS_BYTES)) == _TS_BYTES:
        if packet[0] != _TS_SYNC:
            return False
        begins, pid = bool(packet[1] & 0x40), (packet[1] & 0x1F) << 8 | packet[2]
        has_payload, has_field = bool(packet[3] & 0x10), bool(packet[3] & 0x20)
        if track is None:
            if not begins:
                return False
            track = pid
        elif pid != track or not has_payload:
            continue
        elif begins:
            break
        elif packet[3] & 15 != (counter + 1) % 16:
            return False
        counter = packet[3] & 15
        body = packet[5 + packet[4] :] if has_field else packet[4:]
        if not held_bytes:
            declared_bytes = int.from_bytes(body[4:6], "big")
        held_bytes += len(body)
        is_padded = has_field and bool(packet[4])
    # the last packet is filled up, unless the picture ends with it by chance: then its length must be declared
    return is_padded or bool(declared_bytes and held_bytes == declared_bytes + 6)
