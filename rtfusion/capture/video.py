"""Video files through PyAV: any container and codec that FFmpeg reads.

Thermal frames become counts (GRAY16) where they hold more than 8 bits of gray, else luminance (GRAY8), also when they
are stored as color. Visible frames become BGR8, or GRAY8 where there is no color. Eight-bit luminance always spans
0..255: video range (16..235), which is what untagged YUV means, is expanded.

Stamps are presentation times relative to the file's own first frame. Where the first stamps of two files differ, the
difference says nothing about the cameras (every muxer chooses its own origin), so it is dropped.

A decoder uses one thread. Two decoders and a fuser fill two cores, and more threads than that only cost (measured).
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.packet import Packet
from av.video.format import VideoFormat
from av.video.plane import VideoPlane
from av.video.reformatter import ColorRange, VideoReformatter
from av.video.stream import VideoStream

from rtfusion.capture.base import StreamInfo
from rtfusion.capture.orientation import Orientation
from rtfusion.capture.playback import Playback, Timeline
from rtfusion.capture.uri import SourceUri, read_query
from rtfusion.clock import MONOTONIC, NS_PER_S, Clock
from rtfusion.errors import CaptureError, EndOfStream, StreamLost
from rtfusion.types import Band, Frame, Image, Image8, PixelFormat

MAX_ERRORS_IN_A_ROW = 30
ASSUMED_RATE_HZ = 25.0
CUT_OFF = 0.05
"""Share of its declared length that a file may lack before it is said to be cut off."""

START_COMMENT = "rtfusion: first frame at {} ns"
"""The comment that rtfusion writes into a video; see `StreamInfo.starts_ns`."""

_START_COMMENT = re.compile(START_COMMENT.format(r"(-?\d{1,19})"))
_FULL_RANGE_NAMES = ("yuvj", "gray", "ya8", "ya16", "mono")
_BT601, _BT709 = 5, 1
# The matrix that a frame is tagged with (AVColorSpace) -> the number that the conversion has for it (SWS_CS_*).
_MATRICES = {1: _BT709, 4: 4, 5: _BT601, 6: _BT601, 7: 7, 9: 9, 10: 9}
_FULL_FROM_LIMITED = np.clip(np.rint((np.arange(256) - 16) * (255 / 219)), 0, 255).astype(np.uint8)


class PixelConverter:
    """Decoded frames as fresh arrays in the pixel formats of a band. For one thread; the heavy calls free the GIL."""

    def __init__(self, band: Band) -> None:
        self._band = band
        self._reformatter = VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> tuple[Image, PixelFormat]:
        """The image, (H, W) or (H, W, 3), and what its numbers mean.

        Raises:
            av.FFmpegError: a pixel format that cannot be converted.
        """
        if any(plane.line_size < 0 for plane in frame.planes):  # some uncompressed AVI files store the last row first
            frame = self._reformat(frame, "rgb24" if frame.format.name != "rgb24" else "bgr24")
        depth = _gray_depth(frame.format)
        if depth > 8:
            return self._deep_gray(frame, depth)
        if depth or self._band is Band.THERMAL:
            return self._luminance(frame), PixelFormat.GRAY8
        return self._bgr(frame), PixelFormat.BGR8

    def _deep_gray(self, frame: av.VideoFrame, depth: int) -> tuple[Image, PixelFormat]:
        counts = _pixels(frame.planes[0], ">u2" if frame.format.is_big_endian else "<u2").astype(np.uint16)
        if self._band is Band.THERMAL:
            return counts, PixelFormat.GRAY16
        return cv2.convertScaleAbs(counts, alpha=255 / (2**depth - 1)), PixelFormat.GRAY8

    def _luminance(self, frame: av.VideoFrame) -> Image8:
        if frame.format.is_rgb or frame.format.has_palette:
            return cv2.cvtColor(self._bgr(frame), cv2.COLOR_BGR2GRAY).astype(np.uint8, copy=False)
        luma, *others = frame.format.components
        if luma.bits != 8 or any(other.plane == luma.plane for other in others):
            frame = self._reformat(frame, "yuv422p", keep_range=True)
        plane = _pixels(frame.planes[0], "u1")
        return np.array(plane) if _is_full_range(frame) else cv2.LUT(plane, _FULL_FROM_LIMITED)

    def _bgr(self, frame: av.VideoFrame) -> Image8:
        return np.ascontiguousarray(_pixels(self._reformat(frame, "bgr24").planes[0], "u1", channels=3))

    def _reformat(self, frame: av.VideoFrame, pixel_format: str, *, keep_range: bool = False) -> av.VideoFrame:
        source_range = ColorRange.JPEG if _is_full_range(frame) else ColorRange.MPEG
        return self._reformatter.reformat(
            frame,
            format=pixel_format,
            src_colorspace=_MATRICES.get(frame.colorspace) or _usual_matrix(frame),
            dst_colorspace=_BT601,
            src_color_range=source_range,
            dst_color_range=source_range if keep_range else ColorRange.JPEG,
            threads=1,
        )


class VideoSource(Playback):
    """One video file, played ``loop`` times."""

    def __init__(
        self, path: Path, *, uri: str, band: Band, loop: int = 1, pace: bool = False, clock: Clock = MONOTONIC
    ) -> None:
        """Open the file and decode its first frame."""
        container = open_container(path, uri=uri)
        super().__init__(self._play(container, loop), pace=pace, clock=clock)
        self._path = path
        self._uri = uri
        self._band = band
        self._convert = PixelConverter(band)
        self._sequence = 0
        self._orientation: Orientation | None = None
        self.drops = {"corrupt": 0}
        try:
            stream = video_stream(container, uri)
            self._timeline = Timeline(rate_hz=self._rate_hz(container, stream))
            self.info = StreamInfo.like(
                self._first_frame(stream),
                uri=uri,
                rate_hz=self._timeline.rate_hz,
                live=False,
                frame_count=stream.frames * loop or None,
                starts_ns=_starts_ns(container),
                description=self._description(container, stream),
            )
        except BaseException:
            container.close()
            raise

    def _note(self, text: str) -> None:
        self.notes += (f"{self._uri}: {text}",)

    def _rate_hz(self, container: InputContainer, stream: VideoStream) -> float:
        # A bare stream without a container has no stamps to average over; the codec's own figure is better there.
        rate = stream.average_rate if container.duration else stream.guessed_rate
        if not rate:
            self._note(f"the file names no frame rate; {ASSUMED_RATE_HZ:g} a second are assumed")
        return float(rate) if rate else ASSUMED_RATE_HZ

    def _first_frame(self, stream: VideoStream) -> Frame:
        try:
            return self.peek()
        except (EndOfStream, StreamLost) as error:
            raise CaptureError(
                f"{self._uri}: not one frame of its {stream.codec_context.name} stream can be decoded ({error}); "
                "the file is damaged or incomplete, make a new copy of it"
            ) from None

    def _description(self, container: InputContainer, stream: VideoStream) -> str:
        names, suffix = container.format.name.split(","), self._path.suffix.lower().removeprefix(".")
        codec, kind = stream.codec_context, suffix if suffix in names else names[0]
        return f"{codec.name} {codec.pix_fmt} in {kind}"

    def _play(self, container: InputContainer, loop: int) -> Generator[Frame, None, None]:
        """All frames of all rounds. Each round opens the file anew: not every format can seek to its start."""
        try:
            yield from self._decode(container)
            for _ in range(loop - 1):
                container.close()
                try:
                    container = open_container(self._path, uri=self._uri)
                except CaptureError as error:
                    raise StreamLost(f"{error} (when it was opened once more{self._position()})") from error
                yield from self._decode(container)
        finally:
            container.close()
            self._note_counts()

    def _decode(self, container: InputContainer) -> Iterator[Frame]:
        stream = video_stream(container, self._uri)
        stream.codec_context.thread_count = 1
        self._timeline.restart()
        start_ns, start = self._timeline.next_ns, self._sequence
        errors = 0
        for packet, received_ns in self._packets(container, stream):
            frames = _frames_of(packet)
            if frames is None:
                self._lose_one()
                errors += 1
                if errors > MAX_ERRORS_IN_A_ROW:
                    raise StreamLost(f"{self._uri}: {errors} packets in a row cannot be decoded{self._position()}")
            for decoded in frames or ():
                errors = 0
                if decoded.is_corrupt:
                    self._lose_one()
                    continue
                if self._orientation is None:
                    # asked once and not once per round: side data and its frame hold one another until the garbage collector runs
                    self._orientation = self._orientation_of(decoded)
                yield self._frame(decoded, stream, self._orientation, received_ns)
        self._check_length(container, stream, start_ns, start)

    def _packets(self, container: InputContainer, stream: VideoStream) -> Iterator[tuple[Packet[VideoStream], int]]:
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (av.FFmpegError, OSError) as error:
                raise StreamLost(f"{self._uri}: reading stopped{self._position()}: {_reason(error)}") from error
            yield packet, self._clock.now_ns()

    def _frame(self, decoded: av.VideoFrame, stream: VideoStream, orientation: Orientation, received_ns: int) -> Frame:
        try:
            image, pixel_format = self._convert(decoded)
        except (av.FFmpegError, ValueError, NotImplementedError) as error:
            raise StreamLost(
                f"{self._uri}: frames of the pixel format {decoded.format.name} cannot be converted ({_reason(error)}); "
                "store the video as yuv420p, gray or gray16le"
            ) from error
        frame = Frame(
            image=orientation(image),
            pixel_format=pixel_format,
            band=self._band,
            timestamp_ns=self._timeline.stamp(decoded.pts, stream.time_base or Fraction(1, av.time_base)),
            sequence=self._sequence,
            received_ns=received_ns,
        )
        self._sequence += 1
        return frame

    def _lose_one(self) -> None:
        self.drops["corrupt"] += 1
        self._sequence += 1

    def _position(self) -> str:
        return f" at frame {self._sequence}, {self._timeline.next_ns / NS_PER_S:.2f} s"

    def _orientation_of(self, frame: av.VideoFrame) -> Orientation:
        try:
            side_data: Any = frame.side_data
            orientation = Orientation.from_display_matrix(bytes(side_data["DISPLAYMATRIX"]))
        except (KeyError, ValueError):  # ValueError: side data of a kind that this PyAV does not know
            return Orientation()
        if orientation is None:
            self._note("it asks to be shown at an angle that is not a right one; shown as stored")
        return orientation or Orientation()

    def _check_length(self, container: InputContainer, stream: VideoStream, start_ns: int, start: int) -> None:
        """Fail when the file ended well before the length or the number of frames it declares."""
        played_s, frames = (self._timeline.next_ns - start_ns) / NS_PER_S, self._sequence - start
        declared_s, least = _declared_s(container, stream), 1 - CUT_OFF
        if declared_s * least > played_s and (declared_s - played_s) * self._timeline.rate_hz > 3:
            lack = f"after {played_s:.2f} s although it declares {declared_s:.2f} s"
        elif stream.frames * least > frames + 3:
            lack = f"after {frames} frames although it declares {stream.frames}"
        else:
            return
        raise StreamLost(
            f"{self._uri}: the file ended {lack}; it seems to be cut off or damaged. "
            "What could be read was used; make a new copy of the file for the rest"
        )

    def _note_counts(self) -> None:
        if self._timeline.repaired:
            self._note(
                f"{self._timeline.repaired} of {self._sequence} stamps were missing or did not increase; "
                f"replaced at {self._timeline.rate_hz:g} frames a second"
            )
        if self.drops["corrupt"]:
            self._note(f"{self.drops['corrupt']} corrupt packets or frames were skipped")


def open_video(uri: SourceUri, *, band: Band, loop: int, pace: bool, clock: Clock) -> VideoSource:
    """Open a video file by its URI, which takes no parameters."""
    read_query(uri, {})
    return VideoSource(uri.path, uri=uri.text, band=band, loop=loop, pace=pace, clock=clock)


def _starts_ns(container: InputContainer) -> int | None:
    """Read `StreamInfo.starts_ns` from the comment of a video that rtfusion wrote."""
    comments = [str(text) for name, text in container.metadata.items() if name.lower() == "comment"]
    match = next(filter(None, map(_START_COMMENT.fullmatch, comments)), None)
    return None if match is None else int(match[1])


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
        return av.open(
            f"file:{path.absolute()}", container_options={"protocol_whitelist": "file"}, metadata_errors="replace"
        )
    except PermissionError:
        raise CaptureError(f"{uri}: no permission to read the file; check it with ls -l") from None
    except (av.FFmpegError, OSError) as error:
        raise CaptureError(f"{uri}: not a video that can be read ({_reason(error)}); {_advice(path)}") from error


def _advice(path: Path) -> str:
    with path.open("rb") as file:
        if file.read(12)[4:8] == b"ftyp":
            return "an MP4 file without its index: the recording or a copy of it was cut off before its end"
    return "expected a video file such as .mp4, .mkv, .avi or .ts"


def video_stream(container: InputContainer, uri: str) -> VideoStream:
    """Find the first video that is no cover picture.

    Raises:
        CaptureError: there is none that can be decoded.
    """
    for stream in container.streams.video:
        cover = stream.disposition & stream.disposition.attached_pic
        if not cover and stream.codec_context is not None:
            return stream
    kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
    raise CaptureError(f"{uri}: no video stream that can be decoded; it holds {kinds}")


def _frames_of(packet: Packet[VideoStream]) -> list[av.VideoFrame] | None:
    """The frames that a packet completes; None for a packet that is broken."""
    if packet.is_corrupt:
        return None
    try:
        return packet.decode()
    except (av.FFmpegError, ValueError):
        return None


def _declared_s(container: InputContainer, stream: VideoStream) -> float:
    """The length that the file says the stream has; 0 when it does not say."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    if len(container.streams) != 1 or container.duration is None:
        return 0.0
    # a container counts from 0, the stream from its own first frame
    return (container.duration - max(container.start_time or 0, 0)) / av.time_base


def _gray_depth(layout: VideoFormat) -> int:
    """Bits of a gray pixel, up to 16; 0 for a format that is not gray."""
    if len(layout.components) != 1 or layout.has_palette or layout.is_bayer or layout.components[0].bits > 16:
        return 0
    return layout.components[0].bits


def _is_full_range(frame: av.VideoFrame) -> bool:
    """True when black is 0 and white the largest number, False for video range (16..235 of 255)."""
    layout = frame.format
    if layout.is_rgb or layout.has_palette or layout.name.startswith("yuvj"):
        return True
    if frame.color_range == ColorRange.UNSPECIFIED:
        return layout.name.startswith(_FULL_RANGE_NAMES)
    return frame.color_range == ColorRange.JPEG


def _usual_matrix(frame: av.VideoFrame) -> int:
    """The matrix of a stream that names none: BT.601 for standard definition, BT.709 above it, as players do."""
    return _BT709 if frame.width >= 1280 or frame.height > 576 else _BT601


def _pixels(plane: VideoPlane, dtype: npt.DTypeLike, *, channels: int = 1) -> Any:
    """A view of a plane without the padding at the ends of its rows: (H, W), or (H, W, channels)."""
    item_bytes = np.dtype(dtype).itemsize
    shape, strides = (plane.height, plane.width), (plane.line_size, item_bytes * channels)
    if channels == 1:
        return np.ndarray(shape, dtype, buffer=memoryview(plane), strides=strides)
    return np.ndarray((*shape, channels), dtype, buffer=memoryview(plane), strides=(*strides, item_bytes))


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
