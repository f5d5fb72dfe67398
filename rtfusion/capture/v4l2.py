"""Cameras through V4L2. Not run on hardware: tests put a driver written in Python behind the calls of the kernel.

A frame is stamped with the time that the driver wrote on its buffer, where that is plausible: CLOCK_MONOTONIC,
advancing, and less than half a second old when the frame becomes ready. This is checked over the first frames; a camera that
fails gets the time of arrival instead, and its description says so. A frame that waited in the driver, because this process was
stopped or had no time, keeps its own time, however old it is.

The device is never waited for longer than a moment at a time, so that a camera that stops delivering can neither hang a
read nor a close.
"""

from __future__ import annotations

import contextlib
import errno
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from rtfusion.capture.base import StreamInfo
from rtfusion.capture.buffers import BufferDecoder, JpegRules
from rtfusion.capture.devices import CameraFinder
from rtfusion.capture.modes import FOURCCS, Asked, choose_mode, lighter_mode
from rtfusion.capture.palette import AUTO, ThermalColors, palette_name
from rtfusion.capture.profiles import PROFILES, Profile, is_thermal, recognize
from rtfusion.capture.uri import SourceUri, rate_hz, read_query
from rtfusion.capture.v4l2_device import KERNEL, Buffer, Kernel, Mode, VideoDevice
from rtfusion.clock import MONOTONIC, NS_PER_MS, NS_PER_S, Clock
from rtfusion.errors import CaptureError, CaptureTimeout, EndOfStream, StreamLost
from rtfusion.text import parse_size_px
from rtfusion.types import Band, Frame

T = TypeVar("T")

OPEN_TIMEOUT_S = 5.0
MAX_AGE_NS = NS_PER_S // 2
"""A stamp older than this, when its frame becomes ready, is of another clock."""
LAG_STEP_NS = NS_PER_S // 5
"""No exposure grows by so much: a stamp that is all of a sudden so much older than usual is of a clock that jumped."""
LAG_WINDOW_NS = 10 * NS_PER_S
SLEPT_NS = NS_PER_S // 5
CHECKED_FRAMES = 5
ASSUMED_RATE_HZ = 30.0
FORMATS = {{"MJPG": "mjpeg", "GREY": "gray"}.get(name, name.lower()): name for name in FOURCCS}
"""Values of ``format`` in a URI, and the names that drivers have for them."""

AGAIN_NS = NS_PER_S // 2
"""So long after a camera that did not answer over USB it is asked once more."""
_UNANSWERED = (errno.EPROTO, errno.EIO, errno.ETIMEDOUT, errno.EPIPE, errno.EREMOTEIO)
_POLL_S = 0.05
_PAUSE_NS = 20 * NS_PER_MS
_QUEUED_FRAMES = 16
_CLOSE_TIMEOUT_S = 0.5
"""Longest wait for a driver to let go of a camera; one that hangs is left to it."""


def open_v4l2(
    uri: SourceUri,
    *,
    band: Band,
    clock: Clock = MONOTONIC,
    finder: CameraFinder | None = None,
    jpeg: JpegRules | None = None,
    kernel: Kernel = KERNEL,
) -> V4l2Source:
    """Open a camera.

    ``size``, ``fps`` and ``format`` in the query ask the driver for a mode, ``profile`` says what it sends, ``palette`` what
    colored its thermal pictures.

    ``finder`` is kept from one opening of a camera to the next, so that it is always the same camera, and so is ``jpeg``, what is
    known of its images.

    Raises:
        ConfigError: a parameter of the URI is wrong.
        CaptureError: the camera is missing, busy, not permitted, has no such mode or delivers nothing.
    """
    converters: dict[str, Callable[[str], Any]] = {
        "size": parse_size_px,
        "fps": rate_hz,
        "format": _one_of(FORMATS),
        "profile": _one_of(PROFILES),
        "palette": palette_name,
    }
    query = read_query(uri, converters)
    asked = Asked(
        fourcc=query.get("format"),
        size_px=query.get("size"),
        rate_hz=query.get("fps"),
        profile=query.get("profile"),
        palette=query.get("palette"),
    )
    finder = CameraFinder(uri.target) if finder is None else finder
    jpeg = JpegRules() if jpeg is None else jpeg
    path = finder.find()
    open_it = partial(_open_at, path, uri, asked, band=band, clock=clock, finder=finder, jpeg=jpeg, kernel=kernel)
    try:
        try:
            return open_it()
        except OSError as error:
            if isinstance(error, CaptureError) or error.errno not in _UNANSWERED:
                raise
        clock.sleep_until_ns(clock.now_ns() + AGAIN_NS, wake=threading.Event())
        return open_it()
    except CaptureError as error:
        if uri.text in str(error):
            raise
        raise CaptureError(f"{uri.text}: {error}") from error
    except OSError as error:
        raise CaptureError(f"{uri.text}: {why_not_opened(error, path)}") from error


def _open_at(
    path: str,
    uri: SourceUri,
    asked: Asked,
    *,
    band: Band,
    clock: Clock,
    finder: CameraFinder,
    jpeg: JpegRules,
    kernel: Kernel,
) -> V4l2Source:
    """Open the camera at a path; raises as the kernel does, or says what is wrong."""
    usb_id = finder.device.usb_id if finder.device else None
    with contextlib.ExitStack() as on_error:
        device = VideoDevice(path, kernel=kernel)
        on_error.callback(device.close)
        started = _start(device, asked, band=band, usb_id=usb_id)
        source = V4l2Source(device, started, uri=uri.text, band=band, jpeg=jpeg, clock=clock)
        on_error.pop_all()
        return source


@dataclass(frozen=True, kw_only=True, slots=True)
class Started:
    """What a camera streams."""

    mode: Mode
    profile: Profile | None = None
    """What a thermal camera sends."""
    notes: tuple[str, ...] = ()
    """What a person should know."""
    palette: str = AUTO
    """What colored its pictures; see `ThermalColors`."""
    other: str = ""
    """The query that asks for another mode that the camera has, for one that does not work in this one."""


def _start(device: VideoDevice, asked: Asked, *, band: Band, usb_id: str | None) -> Started:
    """Negotiate and begin to stream."""
    if not device.captures:
        raise OSError(errno.ENOTTY, "not a camera")
    modes = device.modes() or [device.current()]
    wanted, wanted_hz = choose_mode(modes, asked, band=band, usb_id=usb_id, name=device.name)
    mode = device.set_mode(wanted, rate_hz=wanted_hz)
    notes = _granted(asked, wanted, mode)
    profile = None
    if band is Band.THERMAL:
        known = partial(recognize, usb_id=usb_id, name=device.name)
        profile = asked.profile or known(fourcc=mode.fourcc, size_px=mode.size_px)
        if not profile.fits(mode.fourcc, mode.size_px):
            raise CaptureError(
                f"the camera gives {mode}, which is not of the profile {profile.name}; leave profile out"
            )
    elif is_thermal(name=device.name, usb_id=usb_id):
        notes.append(f"it is {device.name}, a thermal camera, and is read as the visible one")
    other = lighter_mode(modes, mode, band=band)
    _stream(device, mode, other)
    for control, value in () if profile is None else profile.commands:
        try:
            device.command(control, value)
        except OSError as error:
            notes.append(f"the camera does not take the command for raw counts ({error.strerror})")
    return Started(mode=mode, profile=profile, notes=tuple(notes), palette=asked.palette or AUTO, other=other)


def _granted(asked: Asked, wanted: Mode, mode: Mode) -> list[str]:
    """What the camera gives instead of what was asked for."""
    notes = []
    if asked.size_px not in (None, mode.size_px):
        (width, height), (granted_width, granted_height) = wanted.size_px, mode.size_px
        notes.append(f"asked for {width}x{height}, the camera gives {granted_width}x{granted_height}")
    if asked.rate_hz and mode.rate_hz and abs(mode.rate_hz - asked.rate_hz) > 0.01 * asked.rate_hz:
        notes.append(f"asked for {asked.rate_hz:g} frames a second, the camera gives {mode.rate_hz:g}")
    return notes


def _stream(device: VideoDevice, mode: Mode, other: str) -> None:
    """Begin to stream; ``other`` is what can be asked for where the bus has no room."""
    try:
        device.start()
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        smaller = f"ask for less, with {other}, or use" if other else "use"
        raise CaptureError(
            f"not enough USB bandwidth for {mode}; {smaller} a port of another USB controller"
        ) from error


def camera_opener(uri: SourceUri, *, band: Band, clock: Clock) -> Callable[[], V4l2Source]:
    """Make a function that opens a camera, and always the same one."""
    finder, jpeg = CameraFinder(uri.target), JpegRules()
    return lambda: open_v4l2(uri, band=band, clock=clock, finder=finder, jpeg=jpeg)


class V4l2Source:
    """One camera, streaming. Frames bear the driver's numbers; what is missing in them was lost by the driver."""

    def __init__(
        self,
        device: VideoDevice,
        started: Started,
        *,
        uri: str,
        band: Band,
        jpeg: JpegRules | None = None,
        clock: Clock = MONOTONIC,
    ) -> None:
        """Take a streaming device; reads its first frames to check their stamps."""
        mode, profile = started.mode, started.profile
        self._other = started.other
        self._device = device
        self._uri = uri
        self._band = band
        self._clock = clock
        colors = ThermalColors(started.palette)
        self._decode = BufferDecoder(mode, profile=profile, band=band, jpeg=jpeg, colors=colors)
        self._stamps = TimestampSelector()
        self._numbers = SequenceCounter()
        self._reading = threading.Lock()
        self._closed = threading.Event()
        self._started = False
        self._notes = tuple(f"{uri}: {note}" for note in started.notes)
        self._empty_ns = clock.now_ns()
        self._suspended_ns = suspended_ns()
        self.drops = {"corrupt": 0, "driver": 0, "duplicate": 0}
        """Frames lost, by cause.

        ``corrupt``: marked as broken by the driver, or not to be decoded. ``driver``: gaps in its numbers. ``duplicate``: the
        camera itself says that it sent the image before.
        """
        layout = "" if profile is None or profile.name == "y16" else f", profile {profile.name}"
        self.info = StreamInfo.like(
            self._check_stamps(),
            uri=uri,
            rate_hz=mode.rate_hz or ASSUMED_RATE_HZ,
            live=True,
            description=f"{mode} by V4L2{layout}, {self._stamps.description}",
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the user about this camera."""
        return (*self._notes, *(f"{self._uri}: {note}" for note in self._decode.notes))

    def read(self, *, timeout_s: float) -> Frame:
        """The next frame, as `Source.read`. What queued up in the driver before the first read is discarded."""
        with self._reading:
            if not self._started:
                self._discard_queue()
                self._started = True
            return self._read(timeout_s=timeout_s)

    def close(self) -> None:
        """Release the camera, from any thread. Idempotent.

        A driver may hang when it is told to stop; it is waited for only a moment, and left to it then.
        """
        self._closed.set()
        releasing = threading.Thread(target=self._release, name="releasing", daemon=True)
        releasing.start()
        releasing.join(_CLOSE_TIMEOUT_S)

    def _release(self) -> None:
        with self._reading:
            self._device.close()

    def _read(self, *, timeout_s: float) -> Frame:
        deadline_ns = self._clock.now_ns() + round(timeout_s * NS_PER_S)
        while not self._closed.is_set():
            remaining_s = (deadline_ns - self._clock.now_ns()) / NS_PER_S
            buffer = self._take(timeout_s=min(max(remaining_s, 0.0), _POLL_S))
            frame = None if buffer is None else self._frame(buffer, arrived_ns=self._clock.now_ns())
            if frame is not None:
                return frame
            if self._clock.now_ns() >= deadline_ns:
                raise CaptureTimeout(f"{self._uri}: no frame within {timeout_s:g} s")
        raise EndOfStream("the source was closed")

    def _take(self, *, timeout_s: float) -> Buffer | None:
        """The next buffer; it became ready after `_empty_ns`."""
        try:
            self._leave_out_what_slept()
            if (buffer := self._device.take(timeout_s=0.0)) is not None:
                return buffer
            self._empty_ns = self._clock.now_ns()
            return self._device.take(timeout_s=timeout_s) if timeout_s > 0 else None
        except OSError as error:
            if error.errno == errno.EIO:  # this frame is lost, the next one may be fine
                self.drops["corrupt"] += 1
                self._clock.sleep_until_ns(self._clock.now_ns() + _PAUSE_NS, wake=self._closed)
                return None
            raise StreamLost(
                f"{self._uri}: the camera was unplugged or its driver failed ({error.strerror}); check the cable"
            ) from error

    def _leave_out_what_slept(self) -> None:
        """Drop what waited through a suspend of the machine: CLOCK_MONOTONIC stood still, so that it would look new."""
        now_ns = suspended_ns()
        if now_ns - self._suspended_ns < SLEPT_NS:
            return
        self._suspended_ns = now_ns
        for _ in range(_QUEUED_FRAMES):
            if self._device.take(timeout_s=0.0) is None:
                break
        self._numbers.skip()

    def _frame(self, buffer: Buffer, *, arrived_ns: int) -> Frame | None:
        """The frame in a buffer, or None for one that is of no use."""
        sequence, lost = self._numbers.next(buffer.sequence)
        self.drops["driver"] += lost
        picture = None
        with contextlib.suppress(ValueError):
            picture = None if buffer.broken else self._decode(buffer.data)
        if picture is None or picture.repeated:
            self.drops["corrupt" if picture is None else "duplicate"] += 1
            return None
        timestamp_ns = self._stamps.select(
            buffer.timestamp_ns,
            arrived_ns=arrived_ns,
            start_of_exposure=buffer.start_of_exposure,
            waited_ns=arrived_ns - self._empty_ns,
        )
        return Frame(
            image=picture.image,
            pixel_format=picture.pixel_format,
            band=self._band,
            timestamp_ns=timestamp_ns,
            sequence=sequence,
            received_ns=arrived_ns,
            kelvin_per_count=picture.kelvin_per_count,
            shutter=picture.shutter,
        )

    def _check_stamps(self) -> Frame:
        """Let the selector observe fresh frames; return the last of them."""
        self._discard_queue()
        try:
            frames = [self._read(timeout_s=OPEN_TIMEOUT_S) for _ in range(CHECKED_FRAMES)]
        except CaptureTimeout:
            broken = f" ({self.drops['corrupt']} broken buffers)" if self.drops["corrupt"] else ""
            if self.drops["duplicate"]:
                broken = f" but the same one, {self.drops['duplicate']} times"
            other = f", or ask for another mode, with {self._other}" if self._other else ""
            raise CaptureError(
                f"{self._uri}: the camera opened but delivers no frames{broken}; unplug it and plug it in again{other}"
            ) from None
        self._stamps.decide()
        return frames[-1]

    def _discard_queue(self) -> None:
        """Drop what is ready now: it was captured before anybody asked. Its numbers are not missed."""
        for _ in range(_QUEUED_FRAMES):
            if self._take(timeout_s=0.0) is None:
                break
        self._numbers.skip()


def suspended_ns() -> int:
    """How long this machine was suspended since it was started: time that CLOCK_MONOTONIC does not count."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.clock_gettime_ns(time.CLOCK_MONOTONIC)


class SequenceCounter:
    """The driver's 32-bit counter without its wrap, or a count of our own where the driver does not count."""

    MODULUS = 1 << 32

    def __init__(self) -> None:
        self._driver: int | None = None
        self._sequence = -1

    def next(self, driver: int) -> tuple[int, int]:
        """Return the number of the next frame and how many are missing before it."""
        step = 1 if self._driver is None else (driver - self._driver) % self.MODULUS
        if step == 0 or step > self.MODULUS // 2:  # it stands still, or began anew
            step = 1
        self._driver = driver
        self._sequence += step
        return self._sequence, step - 1

    def skip(self) -> None:
        """Ignore the gap before the next number."""
        self._driver = None


class TimestampSelector:
    """The driver's time of a frame where it can be trusted, else the time of arrival. Stamps always increase.

    Until `decide`, frames are only looked at: the driver is trusted when not one of their times was implausible.
    """

    def __init__(self) -> None:
        self._plausible = True
        self._trusted: bool | None = None
        self._last_driver_ns: int | None = None
        self._last_ns = 0
        self._start_of_exposure = False
        self._usual: tuple[int, int] | None = None
        """The age of the last stamp that was taken, on arrival, and when that was."""

    @property
    def description(self) -> str:
        """The clause of `StreamInfo.description` that tells which time is taken."""
        if not self._trusted:
            return "stamped on arrival (the driver's stamps are not usable)"
        return f"stamped by the driver at the {'start of exposure' if self._start_of_exposure else 'end of the frame'}"

    def decide(self) -> None:
        """Choose between the driver and the arrival, by the frames so far."""
        self._trusted = self._plausible and self._last_driver_ns is not None

    def select(
        self, driver_ns: int | None, *, arrived_ns: int, start_of_exposure: bool = False, waited_ns: int = 0
    ) -> int:
        """Return the stamp of the next frame, which may have waited in the driver for so long before it arrived here.

        A single implausible time of a trusted driver is replaced, too: by the arrival, less what frames usually take to arrive.
        """
        advances = driver_ns is not None and (self._last_driver_ns is None or driver_ns > self._last_driver_ns)
        plausible = driver_ns is not None and advances and 0 <= arrived_ns - driver_ns < MAX_AGE_NS + waited_ns
        self._plausible = self._plausible and plausible
        self._last_driver_ns = driver_ns
        self._start_of_exposure = start_of_exposure
        usual_ns = self._usual[0] if self._usual is not None and self._trusted else 0
        stamp_ns = arrived_ns - usual_ns
        if driver_ns is not None and plausible and self._trusted is not False:
            age_ns = arrived_ns - driver_ns
            if self._is_usual(age_ns - waited_ns, arrived_ns):
                stamp_ns = driver_ns
                if waited_ns < LAG_STEP_NS or self._usual is None:  # of one that waited for long the age tells nothing
                    self._usual = age_ns, arrived_ns
        self._last_ns = max(stamp_ns, self._last_ns + 1)
        return self._last_ns

    def _is_usual(self, age_ns: int, arrived_ns: int) -> bool:
        """False for a stamp that is all of a sudden much older than the one before; not for ever, should it stay so."""
        if self._usual is None or arrived_ns - self._usual[1] > LAG_WINDOW_NS:
            return True
        return age_ns <= self._usual[0] + LAG_STEP_NS


def why_not_opened(error: OSError, path: str) -> str:
    """Explain an error of the kernel and say what to do about it."""
    causes = {
        (errno.ENOENT, errno.ENODEV, errno.ENXIO): "no such camera; `rtfusion devices` lists those that are there",
        (errno.EACCES, errno.EPERM): "no permission; run `sudo usermod -aG video $USER` and log in again",
        (errno.EBUSY,): f"another program uses the camera; `fuser {path}` shows which",
        (errno.ENOTTY,): "not a camera; `rtfusion devices` lists the cameras",
        (errno.EINVAL,): "the camera refuses this mode, or this is not its video node; `rtfusion devices` lists both",
        (errno.ENOSPC,): "not enough USB bandwidth; use a port of another USB controller",
        _UNANSWERED: f"the camera did not answer over USB, twice ({error.strerror}); unplug it and plug it in again, into "
        "another port, without a hub, or with another cable",
    }
    advice = (advice for numbers, advice in causes.items() if error.errno in numbers)
    return next(advice, f"the camera cannot be opened ({error.strerror or error})")


def _one_of(table: Mapping[str, T]) -> Callable[[str], T]:
    """Make a converter for `read_query` that takes the names of a table."""

    def convert(text: str) -> T:
        if text not in table:
            raise ValueError(f"expected one of {', '.join(table)}")
        return table[text]

    return convert
