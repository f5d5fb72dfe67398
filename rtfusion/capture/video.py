"""Video files through PyAV: any container and codec that FFmpeg reads.

Thermal frames become counts (GRAY16) where they hold more than 8 bits of gray, else luminance (GRAY8), also when they
are stored as color. Visible frames become BGR8, or GRAY8 where there is no color. Eight-bit luminance always spans
0..255: video range (16..235), which is what untagged YUV means, is expanded.

What a file holds counts more than what its header says of it: its rate is measured from its stamps, and whether it is whole is
told by its packets. Stamps are presentation times since the file's own first picture, decodable or not. Where the first stamps
of two files differ, the difference says nothing about the cameras (every muxer chooses its own origin), so it is dropped.

A decoder uses one thread. Two decoders and a fuser fill two cores, and more threads than that only cost (measured).
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import av
from av.codec import Codec
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from rtfusion.capture.base import StreamInfo
from rtfusion.capture.container import (
    Extent,
    declared_s,
    open_container,
    reason,
    stamps_rate_hz,
    starts_ns,
    tracks_text,
    video_stream,
    video_tracks,
)
from rtfusion.capture.file_ends import appended_bytes, is_whole_in_transport_stream, missing_bytes
from rtfusion.capture.palette import looks_like
from rtfusion.capture.picture_reader import PictureReader
from rtfusion.capture.playback import Playback, pts_to_ns
from rtfusion.capture.raw_stream import headerless
from rtfusion.capture.seek import LAYOUTS
from rtfusion.capture.timeline import Timeline
from rtfusion.capture.uri import SourceUri, read_query
from rtfusion.capture.video_parameters import CONVERTERS, VideoParameters
from rtfusion.clock import MONOTONIC, NS_PER_S, Clock
from rtfusion.errors import CaptureError, ConfigError, EndOfStream, StreamLost
from rtfusion.types import Band, Frame

MAX_ERRORS_IN_A_ROW = 30
ASSUMED_RATE_HZ = 25.0
TIMELESS = ("mjpeg", "mpjpeg", "rawvideo")
"""Formats of pictures alone, for which FFmpeg makes up times."""
PLAUSIBLE_HZ = 240.0
"""A header that claims more gives the unit of its stamps instead of a rate."""
CUT_OFF = 0.05
"""Share of its declared length that a file may lack before it is said to be cut off."""
LONGEST_START = 1000
"""So many packets may come before the first that can be decoded: a recorder's key frames may be 20 s apart."""
LEAST_SEEK_NS = 5 * NS_PER_S
REORDERED_NS = NS_PER_S
SEEKABLE = ("mov", "avi")
"""Beginnings that are shorter, and those of files without an index at hand, are decoded and left out."""


class _Decoded(NamedTuple):
    """One frame as the decoder gave it."""

    frame: av.VideoFrame
    sequence: int


class VideoSource(Playback):
    """One video file, played ``loop`` times."""

    def __init__(
        self,
        path: Path,
        *,
        uri: str,
        band: Band,
        parameters: VideoParameters | None = None,
        loop: int = 1,
        pace: bool = False,
        clock: Clock = MONOTONIC,
    ) -> None:
        """Open the file and decode its first frame."""
        asked = parameters if parameters is not None else VideoParameters()
        if asked.end <= asked.start:
            raise ConfigError(f"{uri}: start={asked.start:g} and end={asked.end:g}; end has to be the larger one")
        self._headerless = headerless(path, asked=asked.profile) if path.is_file() else None
        container = open_container(path, uri=uri, headerless=self._headerless)
        super().__init__(self._play(container, loop), pace=pace, clock=clock)
        self._path = path
        self._uri = uri
        self._band = band
        self._asked = asked
        self._start_ns = round(self._asked.start * NS_PER_S)
        self._end_ns = None if self._asked.end == math.inf else round(self._asked.end * NS_PER_S)
        self._read_picture = PictureReader(band, self._asked, uri=uri, note=self._note)
        self._sequence = 0
        self._was_marked = False
        self._left_out_ns = 0
        self.drops = {"corrupt": 0}
        try:
            stream = self._stream(container)
            if self._asked.stream is None:
                self._note_tracks(container, stream)
            if stream.sample_aspect_ratio not in (None, 0, 1):
                self._note(f"its pixels are not square ({stream.sample_aspect_ratio}); they are taken as if they were")
            nominal_hz = self._nominal_hz(container, stream)
            timeless = container.format.name in TIMELESS
            self._timeline = Timeline(rate_hz=self._rate_hz(nominal_hz, timeless=timeless))
            first = self._first_frame(stream)
            self.info = StreamInfo.like(
                first,
                uri=uri,
                rate_hz=self._timeline.rate_hz,
                live=False,
                frame_count=stream.frames * loop or None if self._end_ns is None else None,
                duration_s=self._duration_s(container, stream, nominal_hz) * loop or None,
                looks_like=looks_like(first, self._read_picture.colors),
                starts_ns=self._begins_ns(container),
                description=self._description(container, stream, nominal_hz),
            )
        except BaseException:
            container.close()
            raise

    def _stream(self, container: InputContainer) -> VideoStream:
        return video_stream(container, self._uri, asked=self._asked.stream, band=self._band)

    def _note(self, text: str) -> None:
        self.notes += (f"{self._uri}: {text}",)

    def _note_tracks(self, container: InputContainer, stream: VideoStream) -> None:
        tracks = video_tracks(container)
        if len(tracks) > 1:
            self._note(f"of its video tracks, {tracks_text(container)}, stream={tracks.index(stream)} is read")

    def _nominal_hz(self, container: InputContainer, stream: VideoStream) -> float | None:
        """The rate that the file claims; of a bare stream without a container that of its codec."""
        rate = stream.average_rate if container.duration else stream.guessed_rate
        return float(rate) if rate else None

    def _rate_hz(self, nominal_hz: float | None, *, timeless: bool) -> float:
        """What the user says, else what the stamps say, else what the header claims."""
        if self._asked.fps is not None:
            return self._asked.fps
        measured_hz = None
        if self._headerless is None:
            measured_hz = stamps_rate_hz(
                self._path, uri=self._uri, asked=self._asked.stream, band=self._band, claimed_hz=nominal_hz
            )
        rate_hz = measured_hz or nominal_hz or ASSUMED_RATE_HZ
        if timeless or (measured_hz is None and nominal_hz is None):
            self._note(f"the file tells no times; {rate_hz:g} frames a second are assumed; ?fps= says another rate")
        return rate_hz

    def _duration_s(self, container: InputContainer, stream: VideoStream, nominal_hz: float | None) -> float:
        """The length that the file declares, at the rate that the user says; 0 where it declares none."""
        if container.format.name == "mpegts":
            return 0.0  # FFmpeg's is the difference of the first and the last stamp, which may begin again in between
        length_s = declared_s(container, stream)
        if not length_s and container.duration is not None:
            length_s = container.duration / av.time_base
        if self._asked.fps is not None and nominal_hz is not None:
            length_s *= nominal_hz / self._asked.fps
        return max(min(length_s, self._asked.end) - self._asked.start, 0.0)

    def _begins_ns(self, container: InputContainer) -> int | None:
        begins_ns = starts_ns(container)
        return None if begins_ns is None else begins_ns + self._start_ns

    def _first_frame(self, stream: VideoStream) -> Frame:
        try:
            return self.peek()
        except (EndOfStream, StreamLost) as error:
            if self._sequence and self._start_ns:
                raise CaptureError(f"{self._uri}: it has no frame from start={self._asked.start:g} s on") from None
            if "no_picture" in self.drops:
                raise CaptureError(
                    f"{self._uri}: it holds {self.drops['no_picture']} frames, none of which is a picture after one of the "
                    "shutter, without which the counts of this camera tell nothing; look at the profile, or in a container "
                    "take them as they are with ?profile=y16"
                ) from None
            raise CaptureError(
                f"{self._uri}: not one frame of its {stream.codec_context.name} stream can be decoded ({error}); "
                "the file is damaged or incomplete, make a new copy of it"
            ) from None

    def _description(self, container: InputContainer, stream: VideoStream, nominal_hz: float | None) -> str:
        names, suffix = container.format.name.split(","), self._path.suffix.lower().removeprefix(".")
        codec, kind = stream.codec_context, suffix if suffix in names else names[0]
        said = f"{codec.name} {codec.pix_fmt} in {kind}"
        is_claim = self._asked.fps is None and nominal_hz is not None and nominal_hz <= PLAUSIBLE_HZ
        if is_claim and self._timeline.rate_hz != nominal_hz:
            said += f", its header claims {nominal_hz:g} Hz"
        return said

    def _play(self, container: InputContainer, loop: int) -> Generator[Frame, None, None]:
        """All frames of all rounds. Each round opens the file anew: not every format can seek to its start."""
        try:
            yield from self._round(container)
            for _ in range(loop - 1):
                container.close()
                try:
                    container = open_container(self._path, uri=self._uri, headerless=self._headerless)
                except CaptureError as error:
                    raise StreamLost(f"{error} (when it was opened once more{self._position()})") from error
                yield from self._round(container)
        finally:
            container.close()
            self._note_ending()

    def _round(self, container: InputContainer) -> Iterator[Frame]:
        stream = self._stream(container)
        stream.codec_context.thread_count = 1
        begin_ns, begin = self._timeline.next_ns, self._sequence
        sought_from = self._seek(container, stream)
        extent = Extent(stream, begin=sought_from)
        decoded = self._decode(container, stream, extent)
        first = next(decoded, None)
        if first is not None:
            raw_ns = self._raw_ns(stream, begin)
            earlier = extent.before(first.frame.pts) if sought_from is None else [sought_from]
            if sought_from is None:
                first = self._count_undecodable(first, len(earlier))
            time_base = _time_base(stream)
            origin_ns = 0 if self._asked.fps is not None else pts_to_ns(earlier[0], time_base) if earlier else None
            frames = ((one, raw_ns(one)) for one in chain([first], decoded))
            asked_at_ns = self._clock.now_ns()
            for one, placed_ns in self._timeline.place(frames, origin_ns=origin_ns):
                if self._end_ns is not None and placed_ns - begin_ns >= self._end_ns:
                    self._left_out_ns += self._start_ns
                    return
                if placed_ns - begin_ns >= self._start_ns:
                    stamp_ns = placed_ns - self._left_out_ns - self._start_ns
                    frame = self._frame(one, stamp_ns, received_ns=asked_at_ns, codec=stream.codec_context.codec)
                    if frame is not None:
                        yield frame
                        asked_at_ns = self._clock.now_ns()
                else:
                    self._read_picture.leave_out(one.frame, codec=stream.codec_context.codec)
            self._left_out_ns += self._start_ns
        self._check_length(container, stream, extent)

    def _seek(self, container: InputContainer, stream: VideoStream) -> int | None:
        """Go to the last key frame before what is not left out; the stamp of the beginning, or None where all is decoded.

        Only where much is left out, an index says where the key frames are, and what is left out tells nothing of the rest.
        """
        begin, time_base = stream.start_time, stream.time_base
        indexed = container.format.name.split(",")[0] in SEEKABLE
        if (
            self._start_ns < LEAST_SEEK_NS
            or self._asked.fps is not None
            or self._asked.profile in LAYOUTS
            or not indexed
            or begin is None
            or time_base is None
        ):
            return None
        # an index is of decoding times, which are earlier than those of showing by what a codec reorders
        target = begin + int(Fraction(self._start_ns - REORDERED_NS, NS_PER_S) / time_base)
        keys = [entry.timestamp for entry in stream.index_entries if entry.is_keyframe and entry.timestamp <= target]
        if not keys:
            return None
        try:
            container.seek(max(keys), stream=stream)
        except (av.FFmpegError, OSError):
            return None
        return begin

    def _count_undecodable(self, first: _Decoded, count: int) -> _Decoded:
        """Count the pictures before the first one that could be decoded, which keep their places in time."""
        if not count:
            return first
        self.drops["no_key_frame"] = self.drops.get("no_key_frame", 0) + count
        self._sequence += count
        return first._replace(sequence=first.sequence + count)

    def _raw_ns(self, stream: VideoStream, begin: int) -> Any:
        """What gives the stamp of a frame from any origin: its own, or its number at the rate that the user says."""
        fps, time_base = self._asked.fps, _time_base(stream)
        if fps is not None:
            return lambda one: round((one.sequence - begin) * NS_PER_S / fps)
        return lambda one: None if one.frame.pts is None else pts_to_ns(one.frame.pts, time_base)

    def _decode(
        self, container: InputContainer, stream: VideoStream, extent: Extent
    ) -> Generator[_Decoded, None, None]:
        errors, limit = 0, LONGEST_START
        for packet in self._packets(container, stream):
            extent.push(packet)
            frames = self._frames_of(packet, container)
            if frames is None:
                extent.failed(packet)
                self._lose_one()
                errors += 1
                if errors > limit:
                    raise StreamLost(f"{self._uri}: {errors} packets in a row cannot be decoded{self._position()}")
            for decoded in frames or ():
                errors, limit = 0, MAX_ERRORS_IN_A_ROW
                if decoded.is_corrupt:
                    self._lose_one()
                    continue
                yield _Decoded(decoded, self._sequence)
                self._sequence += 1

    def _frames_of(self, packet: Packet[VideoStream], container: InputContainer) -> list[av.VideoFrame] | None:
        """The frames that a packet completes; None for a packet that is broken."""
        if packet.is_corrupt and container.format.name != "mpegts":
            return None
        # in a transport stream the mark is on the picture before the one that is meant
        doubtful, self._was_marked = packet.is_corrupt or self._was_marked, packet.is_corrupt
        if doubtful and packet.size and not is_whole_in_transport_stream(self._path, packet.pos):
            return None
        try:
            return packet.decode()
        except (av.FFmpegError, ValueError):
            return None

    def _packets(self, container: InputContainer, stream: VideoStream) -> Iterator[Packet[VideoStream]]:
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (av.FFmpegError, OSError) as error:
                raise StreamLost(f"{self._uri}: reading stopped{self._position()}: {reason(error)}") from error
            yield packet

    def _frame(self, decoded: _Decoded, timestamp_ns: int, *, received_ns: int, codec: Codec) -> Frame | None:
        frame = decoded.frame
        try:
            picture = self._read_picture(frame, codec=codec)
        except ConfigError:
            raise
        except (av.FFmpegError, ValueError, NotImplementedError) as error:
            raise StreamLost(
                f"{self._uri}: frames of the pixel format {frame.format.name} cannot be converted ({reason(error)}); "
                "store the video as yuv420p, gray or gray16le"
            ) from error
        if picture is None:
            self.drops["no_picture"] = self.drops.get("no_picture", 0) + 1
            return None
        return Frame(
            image=picture.image,
            pixel_format=picture.pixel_format,
            band=self._band,
            timestamp_ns=timestamp_ns,
            sequence=decoded.sequence,
            received_ns=received_ns,
            kelvin_per_count=picture.kelvin_per_count,
            shutter=picture.shutter,
        )

    def _lose_one(self) -> None:
        self.drops["corrupt"] += 1
        self._sequence += 1

    def _position(self) -> str:
        return f" at frame {self._sequence}, {self._timeline.next_ns / NS_PER_S:.2f} s"

    def _check_length(self, container: InputContainer, stream: VideoStream, extent: Extent) -> None:
        """Fail when the packets of the file ended well before the length it declares, and bytes of it may be missing."""
        missing = missing_bytes(self._path)
        if missing == 0:
            return
        length_s, least = declared_s(container, stream), 1 - CUT_OFF
        period_s = self._timeline.period_ns / NS_PER_S
        if length_s * least > extent.span_s > 0 and length_s - extent.span_s > 3 * period_s:
            lack = f"after {extent.span_s:.2f} s although it declares {length_s:.2f} s"
        elif (missing or not extent.span_s) and stream.frames * least > extent.pictures + 3:
            lack = f"after {extent.pictures} frames although it declares {stream.frames}"
        else:
            return
        raise StreamLost(
            f"{self._uri}: the file ended {lack}; it seems to be cut off or damaged. "
            "What could be read was used; make a new copy of the file for the rest"
        )

    def _note_ending(self) -> None:
        for note in self._timeline.notes(count=self._sequence):
            self._note(note)
        for note in self._read_picture.notes:
            self._note(note)
        if "no_key_frame" in self.drops:
            self._note(
                f"{self.drops['no_key_frame']} frames before its first key frame could not be decoded, as where it was cut out "
                "of a longer one; the others keep their times"
            )
        if appended := appended_bytes(self._path):
            self._note(
                f"behind it lie {appended} bytes of another recording, joined to it byte by byte, which no reader comes to; give "
                "that one as a file of its own"
            )
        if self.drops["corrupt"]:
            self._note(f"{self.drops['corrupt']} corrupt packets or frames were skipped")


def open_video(uri: SourceUri, *, band: Band, loop: int, pace: bool, clock: Clock) -> VideoSource:
    """Open a video file by its URI, with the parameters of `VideoParameters`."""
    asked = VideoParameters(**read_query(uri, CONVERTERS))
    return VideoSource(uri.path, uri=uri.text, band=band, parameters=asked, loop=loop, pace=pace, clock=clock)


def _time_base(stream: VideoStream) -> Fraction:
    return stream.time_base or Fraction(1, av.time_base)
