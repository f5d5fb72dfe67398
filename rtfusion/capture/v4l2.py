"""Cameras through the V4L2 input of FFmpeg. Not run on hardware: tests drive it with made packets.

A frame is stamped with the time that the driver wrote on its buffer, where that is plausible: CLOCK_MONOTONIC,
advancing, and less than half a second old when the frame arrives. This is checked over the first frames; a camera that
fails gets the time of arrival instead, and its description says so.

The device is read without blocking, so that a camera that stops delivering can neither hang a read nor a close.
"""

from __future__ import annotations

import errno
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from rtfusion.capture.base import StreamInfo
from rtfusion.capture.images import to_band
from rtfusion.capture.uri import SourceUri, rate_hz, read_query
from rtfusion.capture.video import PixelConverter
from rtfusion.clock import MONOTONIC, NS_PER_MS, NS_PER_S, Clock
from rtfusion.errors import CaptureError, CaptureTimeout, EndOfStream, StreamLost
from rtfusion.types import Band, Frame, Image, PixelFormat

OPEN_TIMEOUT_S = 5.0
MAX_AGE_NS = NS_PER_S // 2
"""A stamp older than this on arrival is of another clock."""
CHECKED_FRAMES = 5
ASSUMED_RATE_HZ = 30.0

_POLL_NS = 2 * NS_PER_MS
_DISCARD_NS = 200 * NS_PER_MS
_CLOSE_TIMEOUT_S = 2.0
_NONBLOCK = {"fflags": "+4"}  # AVFMT_FLAG_NONBLOCK, which has no name among FFmpeg's options
_INPUT_FORMATS = {"yuyv422": "yuyv422", "mjpeg": "mjpeg", "gray": "gray", "y16": "gray16le"}


def open_v4l2(uri: SourceUri, *, band: Band, clock: Clock = MONOTONIC) -> V4l2Source:
    """Open a camera; ``size``, ``fps`` and ``format`` in the query ask the driver for a mode.

    Raises:
        ConfigError: a parameter of the URI is wrong.
        CaptureError: the camera is missing, busy, not permitted, has no such mode or delivers nothing.
    """
    mode = read_query(uri, {"size": _size, "fps": rate_hz, "format": _input_format})
    options = {
        option: str(mode[key])
        for key, option in (("size", "video_size"), ("fps", "framerate"), ("format", "input_format"))
        if key in mode
    }
    try:
        container = av.open(
            str(uri.path), format="v4l2", container_options=options | _NONBLOCK, timeout=(OPEN_TIMEOUT_S, None)
        )
    except (av.FFmpegError, OSError) as error:
        raise CaptureError(f"{uri.text}: {_why_not_opened(error, str(uri.path))}") from error
    try:
        return V4l2Source(container, uri=uri.text, band=band, asked_size=mode.get("size"), clock=clock)
    except BaseException:
        container.close()
        raise


class V4l2Source:
    """One camera. Its frames are numbered here: FFmpeg does not pass the driver's counter on."""

    def __init__(
        self,
        container: InputContainer,
        *,
        uri: str,
        band: Band,
        asked_size: str | None = None,
        clock: Clock = MONOTONIC,
    ) -> None:
        """Take an open device; reads its first frames to check their stamps.

        Raises:
            CaptureError: it delivers no frame, or none that can be decoded.
        """
        self._container = container
        self._stream: VideoStream = container.streams.video[0]
        self._uri = uri
        self._band = band
        self._clock = clock
        self._unpack = _unpacker(self._stream, band)
        self._stamps = StampPicker()
        self._reading = threading.Lock()
        self._closed = threading.Event()
        self._started = False
        self._sequence = 0
        self._corrupt = 0
        first = self._check_stamps()
        codec = self._stream.codec_context
        self._notes = []
        if asked_size not in (None, f"{codec.width}x{codec.height}"):
            self._notes.append(f"{uri}: asked for {asked_size}, the camera gives {codec.width}x{codec.height}")
        self._info = StreamInfo(
            uri=uri,
            band=band,
            width_px=first.width_px,
            height_px=first.height_px,
            pixel_format=first.pixel_format,
            rate_hz=float(self._stream.average_rate or ASSUMED_RATE_HZ),
            live=True,
            description=f"{codec.name} {codec.pix_fmt} by V4L2, {self._stamps.description}",
        )

    @property
    def info(self) -> StreamInfo:
        """What was negotiated with the camera."""
        return self._info

    @property
    def drops(self) -> dict[str, int]:
        """``corrupt``: buffers that the driver marked as broken, or that could not be decoded."""
        return {"corrupt": self._corrupt}

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of this camera."""
        return tuple(self._notes)

    def read(self, *, timeout_s: float) -> Frame:
        """The next frame. What queued up in the driver before the first read is discarded.

        Raises:
            EndOfStream: the source was closed.
            CaptureTimeout: no frame within ``timeout_s``.
            StreamLost: the camera was unplugged, or its driver failed.
        """
        with self._reading:
            if not self._started:
                self._discard_queue()
                self._started = True
            return self._read(timeout_s=timeout_s)

    def close(self) -> None:
        """Release the camera; may be called twice, and from another thread."""
        self._closed.set()
        if self._reading.acquire(timeout=_CLOSE_TIMEOUT_S):
            try:
                self._container.close()
            finally:
                self._reading.release()

    def _read(self, *, timeout_s: float) -> Frame:
        deadline_ns = self._clock.now_ns() + round(timeout_s * NS_PER_S)
        while not self._closed.is_set():
            packet = self._next_packet()
            now_ns = self._clock.now_ns()
            frame = None if packet is None else self._frame(packet, arrived_ns=now_ns)
            if frame is not None:
                return frame
            if now_ns >= deadline_ns:
                raise CaptureTimeout(f"{self._uri}: no frame within {timeout_s:g} s")
            if packet is None:
                self._clock.sleep_until_ns(min(now_ns + _POLL_NS, deadline_ns), wake=self._closed)
        raise EndOfStream("the source was closed")

    def _next_packet(self) -> Packet[VideoStream] | None:
        """One buffer of the driver, or None when none is ready."""
        try:
            return next(self._container.demux(self._stream))
        except BlockingIOError:
            return None
        except StopIteration:
            raise StreamLost(f"{self._uri}: the camera stopped delivering") from None
        except av.error.InvalidDataError:
            self._lose_one()
            return None
        except (av.FFmpegError, OSError) as error:
            raise StreamLost(
                f"{self._uri}: the camera was unplugged or its driver failed ({error.strerror}); check the cable"
            ) from error

    def _frame(self, packet: Packet[VideoStream], *, arrived_ns: int) -> Frame | None:
        """The frame in a buffer, or None for a broken one."""
        try:
            image, pixel_format = self._unpack(packet)
        except (av.FFmpegError, ValueError):
            self._lose_one()
            return None
        frame = Frame(
            image=image,
            pixel_format=pixel_format,
            band=self._band,
            timestamp_ns=self._stamps.pick(_driver_ns(packet, self._stream), arrived_ns=arrived_ns),
            sequence=self._sequence,
            received_ns=arrived_ns,
        )
        self._sequence += 1
        return frame

    def _lose_one(self) -> None:
        self._corrupt += 1
        self._sequence += 1

    def _check_stamps(self) -> Frame:
        """Let the picker see fresh frames; the last of them."""
        self._discard_queue()
        frames = [self._checked_frame() for _ in range(CHECKED_FRAMES)]
        self._stamps.decide()
        return frames[-1]

    def _checked_frame(self) -> Frame:
        try:
            return self._read(timeout_s=OPEN_TIMEOUT_S)
        except CaptureTimeout:
            broken = f" ({self._corrupt} broken buffers)" if self._corrupt else ""
            raise CaptureError(
                f"{self._uri}: the camera opened but delivers no frames{broken}; unplug it and plug it in again, "
                "or ask for another mode, for example ?size=640x480&format=mjpeg"
            ) from None

    def _discard_queue(self) -> None:
        """Drop what is ready now: it was captured before anybody asked."""
        limit_ns = self._clock.now_ns() + _DISCARD_NS
        while self._next_packet() is not None and self._clock.now_ns() < limit_ns:
            pass


class StampPicker:
    """The driver's time of a frame where it can be trusted, else the time of arrival. Stamps always increase.

    Until `decide`, frames are only looked at: the driver is trusted when not one of their times was implausible.
    """

    def __init__(self) -> None:
        self._plausible = True
        self._trusted: bool | None = None
        self._last_driver_ns: int | None = None
        self._last_ns = 0

    @property
    def description(self) -> str:
        """Which of the two is taken."""
        return "stamped by the driver" if self._trusted else "stamped on arrival (the driver's stamps are not usable)"

    def decide(self) -> None:
        """Settle on one of the two, by the frames so far."""
        self._trusted = self._plausible and self._last_driver_ns is not None

    def pick(self, driver_ns: int | None, *, arrived_ns: int) -> int:
        """The stamp of the next frame. A single implausible time of a trusted driver is replaced, too."""
        advances = driver_ns is not None and (self._last_driver_ns is None or driver_ns > self._last_driver_ns)
        plausible = driver_ns is not None and advances and 0 <= arrived_ns - driver_ns < MAX_AGE_NS
        self._plausible = self._plausible and plausible
        self._last_driver_ns = driver_ns
        stamp_ns = driver_ns if driver_ns is not None and plausible and self._trusted is not False else arrived_ns
        self._last_ns = max(stamp_ns, self._last_ns + 1)
        return self._last_ns


def raw_image(data: Any, *, width_px: int, height_px: int, pixel_format: PixelFormat) -> Image:
    """A driver's buffer of gray pixels as a fresh array (H, W); rows may be padded at their ends.

    Raises:
        ValueError: the number of bytes is not that of an image of this size.
    """
    samples = np.frombuffer(data, np.uint8)
    row_bytes = width_px * pixel_format.dtype.itemsize
    pitch_bytes, rest = divmod(samples.size, height_px)
    if rest or pitch_bytes < row_bytes:
        raise ValueError(f"{samples.size} bytes; expected {height_px} rows of {row_bytes}")
    rows = samples.reshape(height_px, pitch_bytes)[:, :row_bytes].copy()  # the buffer goes back to the driver
    little_endian: Any = rows.view(pixel_format.dtype.newbyteorder("<"))
    return little_endian.astype(pixel_format.dtype, copy=False)


def _unpacker(stream: VideoStream, band: Band) -> Callable[[Packet[VideoStream]], tuple[Image, PixelFormat]]:
    """How the buffers of a stream become images: gray ones as they are, all others decoded."""
    codec = stream.codec_context
    raw = {"gray": PixelFormat.GRAY8, "gray16le": PixelFormat.GRAY16}.get(codec.pix_fmt or "")
    convert = PixelConverter(band)

    def unpack(packet: Packet[VideoStream]) -> tuple[Image, PixelFormat]:
        if packet.size == 0 or packet.is_corrupt:
            raise ValueError("the driver marked the buffer as broken")
        if codec.name == "rawvideo" and raw is not None:
            image = raw_image(packet, width_px=codec.width, height_px=codec.height, pixel_format=raw)
            return to_band(image, band=band)
        frames = codec.decode(packet)
        if not frames:
            raise ValueError("the buffer holds no whole frame")
        return convert(frames[-1])

    return unpack


def _driver_ns(packet: Packet[VideoStream], stream: VideoStream) -> int | None:
    if packet.pts is None:
        return None
    return int(packet.pts * (stream.time_base or Fraction(1, 1_000_000)) * NS_PER_S)


def _size(text: str) -> str:
    if not re.fullmatch(r"[1-9][0-9]*x[1-9][0-9]*", text):
        raise ValueError("expected WIDTHxHEIGHT in pixels, such as 640x480")
    return text


def _input_format(text: str) -> str:
    if text not in _INPUT_FORMATS:
        raise ValueError(f"expected one of {', '.join(_INPUT_FORMATS)}")
    return _INPUT_FORMATS[text]


def _why_not_opened(error: Exception, path: str) -> str:
    """What came and what to do about it."""
    if isinstance(error, av.error.ExitError):
        return f"the camera opened but delivered no frame within {OPEN_TIMEOUT_S:g} s; plug it in again"
    number = getattr(error, "errno", None)
    causes: Mapping[Sequence[int], str] = {
        (errno.ENOENT, errno.ENODEV, errno.ENXIO): "no such camera; `rtfusion devices` lists those that are there",
        (errno.EACCES, errno.EPERM): "no permission; run `sudo usermod -aG video $USER` and log in again",
        (errno.EBUSY,): f"another program uses the camera; `fuser {path}` shows which",
        (errno.ENOTTY,): "not a camera; `rtfusion devices` lists the cameras",
        (errno.EINVAL,): f"the camera has no such mode, or this is not its video node; "
        f"`v4l2-ctl --device {path} --list-formats-ext` lists the modes, `rtfusion devices` the nodes",
        (errno.ENOSPC,): "not enough USB bandwidth; try ?format=mjpeg, a smaller size, or a port of another USB hub",
    }
    for numbers, advice in causes.items():
        if number in numbers:
            return advice
    return f"the camera cannot be opened ({getattr(error, 'strerror', None) or error})"
