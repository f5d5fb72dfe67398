"""One V4L2 device: what it offers, the mode it is set to, its buffers. All calls of the kernel pass through `Kernel`.

Not run on hardware: tests put a driver written in Python behind `Kernel`, and hold the numbers and structures against the
system's own linux/videodev2.h.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import select
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

from rtfusion.capture import v4l2_abi as abi
from rtfusion.clock import NS_PER_S

BUFFERS = 4
MOST_ENTRIES = 256
"""No list of a driver is followed further: some never end."""
E = TypeVar("E", bound=ctypes.Structure)
Memory = mmap.mmap | bytearray
BROKEN = 0x08 | 0x10 | 0x20
"""POLLERR, POLLHUP and POLLNVAL of poll(2), which not every system has."""


class Kernel:
    """The calls of the operating system that are used, so that a test can stand in for them. All raise OSError."""

    def open(self, path: str) -> int:
        """Return a file descriptor that never blocks."""
        return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def close(self, fd: int) -> None:
        """Give a file descriptor back."""
        os.close(fd)

    def ioctl(self, fd: int, request: int, argument: ctypes.Structure) -> None:
        """Make one call, which reads and writes ``argument``; it is repeated when a signal came between."""
        import fcntl  # of POSIX; this module is read elsewhere too

        while True:
            try:
                fcntl.ioctl(fd, request, argument, True)
            except InterruptedError:
                continue
            return

    def map(self, fd: int, length: int, offset: int) -> Memory:
        """Map the memory of one buffer."""
        return mmap.mmap(fd, length, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=offset)

    def wait(self, fd: int, timeout_s: float) -> int:
        """Wait for a filled buffer; return the events of poll(2), 0 when the time is up."""
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return next((events for _, events in poll.poll(max(timeout_s, 0.0) * 1000)), 0)


KERNEL = Kernel()


@dataclass(frozen=True, kw_only=True, slots=True)
class SizeRange:
    """The sizes that a driver scales or crops to: (width, height) each."""

    least_px: tuple[int, int]
    most_px: tuple[int, int]
    step_px: tuple[int, int]

    def nearest(self, size_px: tuple[int, int]) -> tuple[int, int]:
        """The size of the range that is nearest to one."""
        each = zip(size_px, self.least_px, self.most_px, self.step_px, strict=True)
        width, height = (
            least + (min(max(wanted, least), most) - least) // max(step, 1) * max(step, 1)
            for wanted, least, most, step in each
        )
        return width, height


@dataclass(frozen=True, kw_only=True, slots=True)
class Mode:
    """One way a camera can deliver images, or the way it does."""

    fourcc: str
    """Pixel format: ``YUYV``, ``UYVY``, ``NV12``, ``MJPG``, ``GREY``, ``Y16``, ``Y16-BE`` ..."""
    width_px: int
    height_px: int
    rates_hz: tuple[float, ...] = ()
    """Frames per second that it offers, fastest first; empty where the driver does not say."""
    any_rate: bool = False
    """Every rate between the first and the last is offered."""
    sizes: SizeRange | None = None
    """The sizes that are offered, where that is a range; this is the largest of them."""
    stride_bytes: int = 0
    """From one row to the next, once negotiated."""
    full_range: bool = False
    """Luma spans 0..255 instead of 16..235, as the driver says, once negotiated."""
    bt709: bool = False
    """Color is coded by BT.709 instead of BT.601, as the driver says, once negotiated."""

    @property
    def size_px(self) -> tuple[int, int]:
        """(width, height)."""
        return self.width_px, self.height_px

    @property
    def rate_hz(self) -> float | None:
        """The fastest rate; once negotiated, the rate."""
        return self.rates_hz[0] if self.rates_hz else None

    def __str__(self) -> str:
        rate = "" if self.rate_hz is None else f" {self.rate_hz:g} Hz"
        return f"{self.fourcc} {self.width_px}x{self.height_px}{rate}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Buffer:
    """One frame as the driver delivered it."""

    data: bytes
    timestamp_ns: int | None
    """CLOCK_MONOTONIC; None where the driver uses another clock."""
    sequence: int
    broken: bool
    """The driver marked it as damaged."""
    start_of_exposure: bool
    """The stamp is of the start of the exposure, not of the end of the frame."""


class VideoDevice:
    """An open device. Every method raises OSError as the kernel does."""

    def __init__(self, path: str, *, kernel: Kernel = KERNEL) -> None:
        self.path = path
        self._kernel = kernel
        self._fd: int | None = kernel.open(path)
        self._maps: list[Memory] = []
        self._streaming = False
        try:
            capability = abi.Capability()
            self._ioctl(abi.QUERYCAP, capability)
        except BaseException:
            self.close()
            raise
        self.name = abi.text(capability.card)
        self.driver = abi.text(capability.driver)
        has_own = capability.capabilities & abi.CAP_DEVICE_CAPS
        self._can = capability.device_caps if has_own else capability.capabilities

    @property
    def captures(self) -> bool:
        """True when it delivers images; a camera has further nodes that do not."""
        wanted = abi.CAP_VIDEO_CAPTURE | abi.CAP_STREAMING
        return self._can & wanted == wanted

    def modes(self) -> list[Mode]:
        """List every pixel format in every size, with the rates."""
        formats = self._listed(abi.ENUM_FMT, abi.FormatDescription, type=abi.VIDEO_CAPTURE)
        return [mode for entry in formats for mode in self._sizes(entry.pixelformat)]

    def current(self) -> Mode:
        """Read the mode that it is set to."""
        wanted = abi.Format(type=abi.VIDEO_CAPTURE)
        self._ioctl(abi.G_FMT, wanted)
        return _negotiated(wanted.fmt.pix)

    def set_mode(self, mode: Mode, *, rate_hz: float | None) -> Mode:
        """Ask for a mode; return what the driver made of it."""
        wanted = abi.Format(type=abi.VIDEO_CAPTURE)
        pix = wanted.fmt.pix
        pix.width, pix.height, pix.pixelformat = mode.width_px, mode.height_px, abi.fourcc(mode.fourcc)
        pix.field = abi.FIELD_ANY
        self._ioctl(abi.S_FMT, wanted)
        return replace(_negotiated(pix), rates_hz=self._set_rate(rate_hz))

    def command(self, control: int, value: int) -> None:
        """Set a control."""
        self._ioctl(abi.S_CTRL, abi.Control(id=control, value=value))

    def _sizes(self, pixel_format: int) -> Iterator[Mode]:
        for entry in self._listed(abi.ENUM_FRAMESIZES, abi.FrameSize, pixel_format=pixel_format):
            sizes = None
            width, height = entry.numbers[0], entry.numbers[1]
            if entry.type != abi.DISCRETE:
                least_x, width, step_x, least_y, height, step_y = entry.numbers
                sizes = SizeRange(least_px=(least_x, least_y), most_px=(width, height), step_px=(step_x, step_y))
            rates_hz, any_rate = self._rates(pixel_format, width, height)
            yield Mode(
                fourcc=abi.fourcc_text(pixel_format),
                width_px=width,
                height_px=height,
                rates_hz=rates_hz,
                any_rate=any_rate,
                sizes=sizes,
            )
            if sizes is not None:
                return

    def _rates(self, pixel_format: int, width: int, height: int) -> tuple[tuple[float, ...], bool]:
        """The rates of a size, fastest first, and whether every rate between them is offered, too."""
        asked = {"pixel_format": pixel_format, "width": width, "height": height}
        found, any_rate = set(), False
        for entry in self._listed(abi.ENUM_FRAMEINTERVALS, abi.FrameInterval, **asked):
            any_rate = entry.type != abi.DISCRETE
            intervals = (
                entry.intervals[:2] if any_rate else entry.intervals[:1]
            )  # of a range: the shortest, the longest
            found |= {interval.denominator / interval.numerator for interval in intervals if interval.numerator}
            if any_rate:
                break
        return tuple(sorted(found, reverse=True)), any_rate

    def _listed(self, request: int, entry_of: type[E], **asked: int) -> Iterator[E]:
        """The entries of a list of the driver, none where it has no such list."""
        for index in range(MOST_ENTRIES):
            entry = entry_of(index=index, **asked)
            if not self._knows(request, entry):
                return
            yield entry

    def _knows(self, request: int, argument: ctypes.Structure) -> bool:
        """Make a call; False where the driver does not have it, or has no such entry."""
        try:
            self._ioctl(request, argument)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOTTY):
                return False
            raise
        return True

    def _set_rate(self, rate_hz: float | None) -> tuple[float, ...]:
        """Ask for a rate; return the one that holds now, nothing where the driver knows of none."""
        wanted = abi.StreamParameters(type=abi.VIDEO_CAPTURE)
        capture = wanted.parameters.capture
        if not self._knows(abi.G_PARM, wanted):
            return ()
        if rate_hz is not None and capture.capability & abi.CAP_TIMEPERFRAME:
            capture.timeperframe = abi.Fraction(1000, round(rate_hz * 1000))
            if not self._knows(abi.S_PARM, wanted):
                return ()
        interval = capture.timeperframe
        return (interval.denominator / interval.numerator,) if interval.numerator and interval.denominator else ()

    def start(self) -> None:
        """Begin to stream."""
        request = abi.RequestBuffers(count=BUFFERS, type=abi.VIDEO_CAPTURE, memory=abi.MMAP)
        self._ioctl(abi.REQBUFS, request)
        if request.count == 0:
            raise OSError(errno.ENOMEM, "the driver has no buffers")
        for index in range(request.count):
            buffer = self._buffer(index)
            self._ioctl(abi.QUERYBUF, buffer)
            self._maps.append(self._kernel.map(self._open_fd(), buffer.length, buffer.m.offset))
            self._ioctl(abi.QBUF, buffer)
        self._ioctl(abi.STREAMON, abi.StreamType(abi.VIDEO_CAPTURE))
        self._streaming = True

    def take(self, *, timeout_s: float) -> Buffer | None:
        """The next frame, its buffer given back to the driver; None when there is none in time.

        Raises:
            OSError: ENODEV when the camera is gone, EIO when this one frame is lost.
        """
        events = self._kernel.wait(self._open_fd(), timeout_s)
        if not events:
            return None
        buffer = self._buffer(0)
        try:
            self._ioctl(abi.DQBUF, buffer)
        except BlockingIOError:
            if events & BROKEN:  # nothing will ever come, and poll(2) would return at once for ever
                raise OSError(errno.ENODEV, "No such device") from None
            return None
        taken = self._taken(buffer)
        self._ioctl(abi.QBUF, self._buffer(buffer.index))
        return taken

    def close(self) -> None:
        """Stop and release everything. Idempotent."""
        fd, self._fd = self._fd, None
        if fd is None:
            return
        try:
            if self._streaming:
                self._kernel.ioctl(fd, abi.STREAMOFF, abi.StreamType(abi.VIDEO_CAPTURE))
        except OSError:
            pass  # it was unplugged
        finally:
            for mapped in self._maps:
                if isinstance(mapped, mmap.mmap):
                    mapped.close()
            self._maps.clear()
            self._kernel.close(fd)

    def _taken(self, buffer: abi.Buffer) -> Buffer:
        stamp = buffer.timestamp
        is_monotonic = buffer.flags & abi.FLAG_TIMESTAMP_MASK == abi.FLAG_TIMESTAMP_MONOTONIC
        used = min(buffer.bytesused, buffer.length)
        return Buffer(
            data=bytes(memoryview(self._maps[buffer.index])[:used]),
            timestamp_ns=stamp.seconds * NS_PER_S + stamp.microseconds * 1000 if is_monotonic else None,
            sequence=buffer.sequence,
            broken=bool(buffer.flags & abi.FLAG_ERROR),
            start_of_exposure=buffer.flags & abi.FLAG_STAMP_SOURCE_MASK == abi.FLAG_STAMP_START_OF_EXPOSURE,
        )

    def _buffer(self, index: int) -> abi.Buffer:
        return abi.Buffer(index=index, type=abi.VIDEO_CAPTURE, memory=abi.MMAP)

    def _ioctl(self, request: int, argument: ctypes.Structure) -> None:
        self._kernel.ioctl(self._open_fd(), request, argument)

    def _open_fd(self) -> int:
        if self._fd is None:
            raise OSError(errno.EBADF, "the device was closed")
        return self._fd


def _negotiated(pix: abi.PixelFormat) -> Mode:
    return Mode(
        fourcc=abi.fourcc_text(pix.pixelformat),
        width_px=pix.width,
        height_px=pix.height,
        stride_bytes=pix.bytesperline,
        full_range=pix.quantization == abi.QUANTIZATION_FULL_RANGE,
        bt709=pix.ycbcr_enc == abi.YCBCR_ENC_709 or (not pix.ycbcr_enc and pix.colorspace == abi.COLORSPACE_REC709),
    )
