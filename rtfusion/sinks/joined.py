"""Videos that were written in pieces, as one: their packets are copied, nothing is encoded again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av

from rtfusion.capture.container import START_COMMENT, starts_ns
from rtfusion.clock import NS_PER_S
from rtfusion.errors import SinkError
from rtfusion.sinks.base import Sink, SinkContext
from rtfusion.sinks.video import VideoSink, muxer_options
from rtfusion.types import Band, FusedFrame


class PieceSink:
    """The frames of one stretch of a recording as a video of their own, whose stamps are those of the whole recording.

    It is joinable (`rtfusion.sinks.video.VideoSink`): what it is coded to does not depend on what is before and after it.

    Args:
        path: the file, an MP4.
        shift_ns: added to the stamp of every frame: where the sources began to be read.
        begin_ns: first stamp that belongs to it, since the beginning of the recording, on a whole second; what comes before
            warms memories up.
        end_ns: first one that does not; None for the last piece.
        threads: of the encoder.
        also: outputs that get the frames of the piece beside the video, by these stamps; closed with it.
    """

    def __init__(
        self,
        path: Path,
        *,
        shift_ns: int,
        begin_ns: int,
        end_ns: int | None,
        threads: int | None = None,
        also: Sequence[Sink] = (),
    ) -> None:
        self.uri = str(path)
        self.written = 0
        """Frames of the piece."""
        self.outside = Counter[Band]()
        """Frames of each camera in what was fused whose own stamps are before or after it."""
        self._outside_ns: dict[Band, int] = {}
        self._path = path
        self._shift_ns = shift_ns
        self._begin_ns = begin_ns
        self._end_ns = end_ns
        self._threads = threads
        self._also = also
        self._video: VideoSink | None = None
        self._rate_hz = 0.0

    def begin(self, *, rate_hz: float) -> None:
        """Say the nominal rate of the run, before the first frame."""
        self._rate_hz = rate_hz

    def write(self, frame: FusedFrame) -> None:
        """Encode one frame if it belongs to the piece.

        Raises:
            SinkError: as `rtfusion.sinks.video.VideoSink.write`, and of the other outputs.
        """
        stamp_ns = frame.timestamp_ns + self._shift_ns
        self._count_outside(Band.VISIBLE, stamp_ns)
        self._count_outside(Band.THERMAL, frame.thermal_timestamp_ns + self._shift_ns)
        if not self._holds(stamp_ns):
            return
        if self._video is None:
            context = SinkContext(rate_hz=self._rate_hz, live=False, session="")
            self._video = VideoSink(self._path, context=context, threads=self._threads, joinable=True)
        frame = replace(frame, timestamp_ns=stamp_ns)
        self._video.write(frame)
        for sink in self._also:
            sink.write(frame)
        self.written += 1

    def _holds(self, stamp_ns: int) -> bool:
        return self._begin_ns <= stamp_ns and (self._end_ns is None or stamp_ns < self._end_ns)

    def _count_outside(self, band: Band, stamp_ns: int) -> None:
        """Count a frame of a camera once, however many fused frames it is in."""
        if not self._holds(stamp_ns) and stamp_ns != self._outside_ns.get(band):
            self.outside[band] += 1
            self._outside_ns[band] = stamp_ns

    def close(self, *, aborted: bool) -> None:
        """Finish all files.

        Raises:
            SinkError: one could not be finished.
        """
        with ExitStack() as closing:
            for sink in (*self._also, *([] if self._video is None else [self._video])):
                closing.callback(sink.close, aborted=aborted)


def join_videos(parts: Sequence[Path], to: Path) -> None:
    """Write MP4 videos, as `PieceSink` made them of one recording, one after the other in the order of time into one.

    Raises:
        SinkError: one of them cannot be read, is of another encoder or size, or there is no room.
    """
    try:
        _join(parts, to)
    except (av.FFmpegError, OSError) as error:
        raise SinkError(f"{to}: the pieces could not be joined: {getattr(error, 'strerror', None) or error}") from error


def _join(parts: Sequence[Path], to: Path) -> None:
    with av.open(to, "w", format="mp4", container_options=muxer_options("mp4")) as joined:
        stream, first_ns, header, last = None, 0, b"", -1
        for part in parts:
            with av.open(part) as piece:
                video = piece.streams.video[0]
                begins_ns = starts_ns(piece)
                if begins_ns is None:
                    raise SinkError(f"{part} is no piece of a recording: it does not say when it begins")
                if stream is None:
                    stream = joined.add_stream_from_template(video)
                    stream.time_base = video.time_base
                    joined.metadata["comment"] = START_COMMENT.format(begins_ns)
                    first_ns, header = begins_ns, bytes(video.codec_context.extradata or b"")
                elif bytes(video.codec_context.extradata or b"") != header:
                    raise SinkError(f"{part} was encoded otherwise than the piece before it")
                time_base = video.time_base or Fraction(1, 90_000)
                offset = round(Fraction(begins_ns - first_ns, NS_PER_S) / time_base)
                # one packet is one frame, in their order; at the end of the file comes one without a time
                for packet in piece.demux(video):
                    if packet.pts is None:
                        continue
                    # two pieces may round to one tick
                    packet.pts = packet.dts = last = max(packet.pts + offset, last + 1)
                    packet.stream = stream
                    joined.mux(packet)


def count_frames(path: Path) -> int:
    """Number of pictures in a video, by its packets.

    Raises:
        SinkError: it cannot be read.
    """
    try:
        with av.open(path) as container:
            return sum(packet.size > 0 for packet in container.demux(video=0))
    except (av.FFmpegError, OSError, IndexError) as error:
        raise SinkError(f"{path}: what was written cannot be read: {error}") from error
