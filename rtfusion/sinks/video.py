"""Video files through PyAV: H.264 or lossless FFV1, every frame at its own time, playable after a kill or a full disk.

Measured at 640x480 on one core: H.264 veryfast 200 frames/s (5 ms of CPU a frame, conversion included), superfast 260
at twice the size, FFV1 90. B frames are off: they save 4 % here and would hold frames back, which a kill would lose.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.frame import PictureType
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from rtfusion.capture.container import START_COMMENT
from rtfusion.clock import NS_PER_S
from rtfusion.errors import ConfigError, SinkError
from rtfusion.files import expanded
from rtfusion.portable import instructions
from rtfusion.sinks.base import SinkContext
from rtfusion.sinks.guarded import SYNC_S, DiskSync, GuardedFile
from rtfusion.text import did_you_mean
from rtfusion.types import FusedFrame, Image8

_log = logging.getLogger(__name__)

KEYFRAME_NS = NS_PER_S
"""The first frame of every second of the stamps is a key frame: so pieces of a recording have theirs where the whole has them."""
LOOKAHEAD_S = 1 / 3
"""The encoder holds back at most this much (10 frames at 30 Hz)."""
AT_RISK_S = 2.0
"""Longest piece that a kill can cost an MP4: one second from key frame to key frame, and what the encoder holds back."""

JOINABLE_PARAMETERS = {
    "qp": 20, "scenecut": 0, "weightp": 0,
    "partitions": "none", "8x8dct": 0, "deadzone-inter": 32,
}  # fmt: skip
"""Parameters of x264 by which every second is coded by itself: one quantizer, which nothing before decides, key frames by time.

With the others, two codings of pictures that differ in a few pixels stay near to each other: where there are many ways to code a
block, another one is taken for a pixel that differs, and that stays until the next key frame. Measured in docs/batch.md.
"""

FFV1_OPTIONS = {"g": "1", "slices": "4", "slicecrc": "1"}
"""Every frame is a key frame, and each slice carries a checksum."""
MATROSKA_OPTIONS = {"cluster_size_limit": "1", "flush_packets": "1"}
"""Each frame is a cluster of its own (0.2 % more bytes), so that a kill costs what the encoder holds back and no more."""

_FORMATS = {".mp4": "mp4", ".mkv": "matroska", ".mov": "mov", ".avi": "avi"}
_TICK_S = {"mp4": Fraction(1, 90_000), "mov": Fraction(1, 90_000), "matroska": Fraction(1, 1000)}
_HYBRID_SINCE = (61, 7, 100)
"""The libavformat of FFmpeg 7.1."""
_BT709, _SMPTE170M = 1, 6
"""BT.601 colors at every size, and said so in the file: older OpenCV and PyAV read every file that way, whatever it
says, and players that do read the tag are right at any size."""
_SCALER_FLAGS = 0x44002
"""libswscale: bilinear | full_chr_h_inp | accurate_rnd; without the last one colors are off by up to 5 levels."""


class VideoSink:
    """One video file; its size is that of the first frame.

    H.264 has 4:2:0 color, which holds even sizes only: an odd column or row is repeated once. Times are those of the
    frames, relative to the first one, to 1/90000 s in MP4 and MOV and to 1 ms in Matroska. AVI has no times: there
    each frame goes to the nearest tick of the nominal rate. The bytes of H.264 depend on the number of ``threads``; without it
    there are as many as cores, 4 at most. When the first frame was is in the comment of the file.

    A ``joinable`` one is coded second by second, at one quality: equal pictures of a second of the stamps, whatever is before and
    after them, decode to equal pictures, so that pieces of a recording may be joined into what one file of it would be.
    """

    keeps_all = True

    def __init__(
        self,
        target: str | Path,
        *,
        context: SinkContext,
        uri: str | None = None,
        codec: str = "h264",
        crf: int | None = None,
        preset: str | None = None,
        sync_s: int = SYNC_S,
        threads: int | None = None,
        joinable: bool = False,
    ) -> None:
        self.uri = uri if uri is not None else str(target)
        self._path = path = _video_path(str(target), uri=self.uri)
        self._format = _FORMATS[path.suffix.lower()]
        self._codec = codec
        self._rate_hz = max(Fraction(context.rate_hz).limit_denominator(1001), Fraction(1, 1001))
        if codec == "ffv1" and (crf is not None or preset is not None):
            raise ConfigError(f"{self.uri}: crf and preset belong to codec=h264; FFV1 is lossless and has neither")
        if codec == "ffv1" and self._format not in ("matroska", "avi"):
            raise ConfigError(
                f"{self.uri}: {path.suffix} is no place for FFV1, which few players find there; write .mkv"
            )
        if joinable and (codec != "h264" or crf is not None or preset is not None):
            raise ConfigError(
                f"{self.uri}: joinable is a way of H.264 with a quality of its own; leave codec, crf and preset out"
            )
        lookahead_frames = max(0, min(10, round(self._rate_hz * Fraction(LOOKAHEAD_S))))
        self._options = FFV1_OPTIONS if codec == "ffv1" else {
            "preset": preset or "veryfast", "crf": str(18 if crf is None else crf), "bf": "0",
            "rc-lookahead": str(lookahead_frames), "forced-idr": "1", **_x264(JOINABLE_PARAMETERS if joinable else {}),
        }  # fmt: skip
        self._file = GuardedFile(path, uri=self.uri, overwrite=context.overwrite)
        self._threads = threads if threads is not None else min(4, os.cpu_count() or 1)
        self._encoder: _Encoder | None = None
        self._size_px: tuple[int, int] | None = None
        self._closed = False
        self._taken = 0
        # a recording is fused again; what cameras saw is seen once
        self._sync = DiskSync(sync_s) if context.live and sync_s else None

    def write(self, frame: FusedFrame) -> None:
        """Encode one frame.

        Raises:
            SinkError: the disk is full, the frame has another size than the first one, or the encoder failed.
        """
        size_px = (frame.width_px, frame.height_px)
        try:
            if self._encoder is None:
                self._size_px = size_px
                self._encoder = self._open_encoder(size_px, first_ns=frame.timestamp_ns)
            if size_px != self._size_px:
                raise SinkError(
                    f"{self._path}: the frame size changed from {_text(self._size_px)} to {_text(size_px)} in mid-run; "
                    "a video file has one size. What was written so far is kept"
                )
            self._encoder.encode(frame.image, timestamp_ns=frame.timestamp_ns)
            if self._sync is not None and self._sync.error is not None:
                raise SinkError(f"{self._path}: the disk did not take what was written: {self._sync.error.strerror}")
        except av.FFmpegError as error:
            raise SinkError(f"{self._path}: the {self._codec} encoder failed: {error}") from error
        self._raise_file_error()
        self._taken += 1

    @property
    def lost(self) -> int:
        """Frames that were taken and are not in the file, since it could not be written to its end."""
        if self._file.error is None or self._encoder is None:
            return 0
        return max(0, self._taken - self._encoder.whole_frames)

    def close(self, *, aborted: bool) -> None:
        """Write what the encoder still holds and finish the file; without any frame there will be no file.

        Raises:
            SinkError: the file could not be finished; it plays up to the last second.
        """
        if self._closed:
            return
        self._closed = True
        if self._sync is not None:
            self._sync.close()
        if self._encoder is None:
            self._file.discard()
            if not aborted:
                _log.warning("%s: no frame came, so no file was written", self._path)
            return
        already_raised = self._file.error is not None
        try:
            self._encoder.close()
        except av.FFmpegError as error:
            raise SinkError(f"{self._path}: the file could not be finished: {error}") from error
        finally:
            at_risk = self._file.error is not None or self._file.whole_bytes == 0
            if at_risk and self._encoder.duration_s < AT_RISK_S and not _plays(self._file.readable_at):
                self._file.discard()
            else:
                self._finish_file()
        if not already_raised:
            self._raise_file_error()

    def _finish_file(self) -> None:
        self._file.give_name()
        if self._sync is not None and self._file.error is None:
            self._file.try_sync()
        self._file.close()

    def sync(self) -> None:
        """Bring what was written to the disk, for a caller that does so itself.

        Raises:
            OSError: the disk does not take it.
        """
        self._file.sync()

    def _raise_file_error(self) -> None:
        if self._file.error is None or self._encoder is None:
            return
        kept = ". What was recorded before is kept and plays" if self._encoder.duration_s >= AT_RISK_S else ""
        raise SinkError(
            f"{self._path}: {self._file.error.strerror} after {self._file.whole_bytes / 1e6:.1f} MB; "
            f"make room, or write elsewhere{kept}"
        ) from self._file.error

    def _open_encoder(self, size_px: tuple[int, int], *, first_ns: int) -> _Encoder:
        self._file.begin()
        if self._sync is not None:
            self._sync.watch(self._file.sync)
        lossless = self._codec == "ffv1"
        coded_px = size_px if lossless else (size_px[0] + size_px[0] % 2, size_px[1] + size_px[1] % 2)
        if coded_px != size_px:
            _log.warning(
                "%s: H.264 holds even sizes only; %s is padded to %s by repeating its last column or row",
                self._path, _text(size_px), _text(coded_px),
            )  # fmt: skip
        return _Encoder(
            self._file, container=self._format, lossless=lossless, size_px=coded_px, rate_hz=self._rate_hz,
            first_ns=first_ns, options=self._options, threads=self._threads,
        )  # fmt: skip


class _Encoder:
    """An open container with one video stream, FFV1 or H.264."""

    def __init__(
        self,
        file: GuardedFile,
        *,
        container: str,
        lossless: bool,
        size_px: tuple[int, int],
        rate_hz: Fraction,
        first_ns: int,
        options: dict[str, str],
        threads: int,
    ) -> None:
        self._file = file
        self._size_px = size_px
        self._tick_s = _TICK_S.get(container, 1 / rate_hz)
        self._lossless = lossless
        self._reformatter = VideoReformatter()
        self._container = av.open(file, "w", format=container, container_options=muxer_options(container))
        self._container.metadata["comment"] = START_COMMENT.format(first_ns)
        self._stream = self._container.add_stream(
            "ffv1" if lossless else "libx264", rate=rate_hz, width=size_px[0], height=size_px[1], options=options
        )
        self._stream.pix_fmt = "bgr0" if lossless else "yuv420p"
        codec = self._stream.codec_context
        codec.time_base = self._tick_s
        codec.thread_count = threads
        if not lossless:
            codec.colorspace, codec.color_range = _SMPTE170M, ColorRange.MPEG
            codec.color_primaries = codec.color_trc = _BT709
        self._first_ns = first_ns
        self._second = first_ns // KEYFRAME_NS
        self._last_tick = -1
        self._muxed = self.whole_frames = 0
        # a piece of these is written when the first packet of the next one comes
        self._waiting = 1 if container in ("mp4", "mov") else 0

    @property
    def duration_s(self) -> float:
        """Time between the first frame and the last one."""
        return float(max(0, self._last_tick) * self._tick_s)

    def encode(self, image: Image8, *, timestamp_ns: int) -> None:
        """Encode one (H, W, 3) BGR image."""
        elapsed_s = Fraction(timestamp_ns - self._first_ns, NS_PER_S)
        frame = self._converted(image)
        frame.time_base = self._tick_s
        frame.pts = self._last_tick = max(self._last_tick + 1, round(elapsed_s / self._tick_s))
        if timestamp_ns // KEYFRAME_NS != self._second:
            frame.pict_type = PictureType.I
            self._second = timestamp_ns // KEYFRAME_NS
        self._mux(self._stream.encode(frame))

    def close(self) -> None:
        """Encode what is held back and write the end of the file."""
        try:
            self._mux(self._stream.encode(None))
        finally:
            self._container.close()

    def _converted(self, image: Image8) -> av.VideoFrame:
        right, bottom = self._size_px[0] - image.shape[1], self._size_px[1] - image.shape[0]
        if right or bottom:
            image = np.pad(image, ((0, bottom), (0, right), (0, 0)), mode="edge")
        source = av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(image), format="bgr24")
        if self._lossless:
            return self._reformatter.reformat(source, format="bgr0")
        return self._reformatter.reformat(
            source, format="yuv420p", dst_colorspace=Colorspace.ITU601, src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG, interpolation=_SCALER_FLAGS,
        )  # fmt: skip

    def _mux(self, packets: Sequence[av.Packet[av.VideoStream]]) -> None:
        for packet in packets:
            before_bytes = self._file.whole_bytes
            self._container.mux(packet)
            self._file.mark_whole()
            self._muxed += 1
            if self._file.whole_bytes > before_bytes:
                self.whole_frames = self._muxed - self._waiting


def _video_path(target: str, *, uri: str) -> Path:
    path = expanded(target)
    suffix = path.suffix.lower()
    if suffix in _FORMATS:
        return path
    bare, _, query = target.partition("?")
    if query and bare.lower().endswith(tuple(_FORMATS)):
        raise ConfigError(f"sink {uri!r}: a bare path takes no settings; did you mean video:{uri}?")
    hint = did_you_mean(suffix, _FORMATS) or "; for a folder of images write images:DIR"
    raise ConfigError(
        f"sink {uri!r} is not a video file by its name; expected one of {' '.join(_FORMATS)} at the end{hint}"
    )


def _plays(path: Path) -> bool:
    try:
        with av.open(path) as container:
            return next(container.decode(video=0), None) is not None
    except (av.FFmpegError, IndexError):  # IndexError: no video stream
        return False


def _x264(parameters: Mapping[str, Any]) -> Mapping[str, str]:
    """The option that gives x264 its own parameters, with those of every video."""
    given = {**_repeatable(), **parameters}
    return {"x264-params": ":".join(f"{name}={value}" for name, value in given.items())} if given else {}


@functools.cache
def _repeatable() -> Mapping[str, str]:
    """Parameters of x264 without which equal frames do not always become equal bytes.

    With AVX-512 its look ahead differs between two encodings of one clip, measured at 64x48: in 5 of 9,600, with B frames in
    one of four; with AVX2 in none.
    """
    return {"asm": "avx2"} if {"avx2", "avx512f"} <= instructions() else {}


def muxer_options(container: str) -> dict[str, str]:
    """Options that keep a file playable at any moment: whole pieces, flushed at once; in MP4 about a second each."""
    if container == "matroska":
        return MATROSKA_OPTIONS
    if container == "avi":
        return {"flush_packets": "1"}
    flags = _mp4_flags(av.library_versions["libavformat"])
    return {"movflags": flags, "min_frag_duration": "500000", "flush_packets": "1"}


def _mp4_flags(libavformat: tuple[int, ...]) -> str:
    if libavformat >= _HYBRID_SINCE:
        return "hybrid_fragmented+frag_keyframe"
    _log.warning("this FFmpeg is older than 7.1: MP4 files stay fragmented, which some editors do not read; use .mkv")
    return "frag_keyframe+empty_moov+default_base_moof"


def _text(size_px: tuple[int, int] | None) -> str:
    return "x".join(str(length) for length in size_px or ())
