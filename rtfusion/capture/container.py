"""Files that FFmpeg opens: their tracks, what they say of themselves, and what their packets say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

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


def open_container(path: Path, *, uri: str, headerless: Mapping[str, str] | None = None) -> InputContainer:
    """Open a video file; nothing it refers to is fetched from a network.

    ``headerless`` are options of FFmpeg's reader of raw video, for a file that holds frames and nothing else.

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
            f"file:{path.absolute()}",
            format=None if headerless is None else "rawvideo",
            container_options={"protocol_whitelist": "file", **(headerless or {})},
            metadata_errors="replace",
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
        if (time_base := stream.time_base) is None:
            return None
        stamps = []
        try:
            for packet in islice(container.demux(stream), RATE_PACKETS):
                if packet.pts is not None:
                    stamps.append(pts_to_ns(packet.pts, time_base))
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
        self._waiting: list[int] | None = [] if begin is None else None
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
