"""A survey of the cameras of this machine, and of what keeps them from working: for ``rtfusion devices`` and ``doctor``."""

from __future__ import annotations

import contextlib
import statistics
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rtfusion.capture.devices import CameraFinder, Device, guess_band, list_devices
from rtfusion.capture.modes import Asked, choose_mode
from rtfusion.capture.profiles import recognize
from rtfusion.capture.uri import SourceUri
from rtfusion.capture.v4l2 import V4l2Source, open_v4l2, why_not_opened
from rtfusion.capture.v4l2_device import KERNEL, Kernel, Mode, VideoDevice
from rtfusion.clock import NS_PER_MS, NS_PER_S
from rtfusion.errors import CaptureError, CaptureTimeout, StreamLost
from rtfusion.types import Band, Frame

READ_S = 2.0
"""So long every camera is read from for `check_cameras`."""
RATE_OFF = 0.15
LEAST_FRAMES = 5
BLACK = 3.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Camera:
    """One camera, asked what it offers."""

    device: Device
    modes: tuple[Mode, ...] = ()
    problem: str | None = None
    """Why it could not be asked."""

    @property
    def band(self) -> Band | None:
        """A guess: by what is known of the name and the identity, and by formats that only thermal cameras have."""
        if self.device.band is Band.THERMAL or not self.modes:
            return self.device.band
        return Band.THERMAL if self.profile not in (None, "gray8") else self.device.band

    @property
    def profile(self) -> str | None:
        """The profile that it would have as a thermal camera; None where nothing is known of its modes."""
        try:
            mode, _ = choose_mode(self.modes, Asked(), band=Band.THERMAL, **self._identity)
        except CaptureError:
            return None
        return recognize(fourcc=mode.fourcc, size_px=mode.size_px, **self._identity).name

    @property
    def _identity(self) -> dict[str, Any]:
        return {"usb_id": self.device.usb_id, "name": self.device.name}


@dataclass(frozen=True, kw_only=True, slots=True)
class CameraCheck:
    """One thing that was checked."""

    subject: str
    state: Literal["good", "note", "bad"]
    """``note``: worth knowing; nothing is broken."""
    text: str
    """The state of things and, where that is not good, the remedy."""


def ask_cameras(root: Path = Path("/"), *, kernel: Kernel = KERNEL) -> list[Camera]:
    """Every camera with its modes. Each is opened for a moment, which disturbs nobody who uses it."""
    devices = list_devices(root) or _bare_nodes(root, kernel)
    return [_ask(device, kernel) for device in devices if device.capture]


def _bare_nodes(root: Path, kernel: Kernel) -> Iterator[Device]:
    """The nodes of cameras where the kernel shows nothing else of them, as in a container: each is asked what it is."""
    for node in sorted((root / "dev").glob("video[0-9]*"), key=lambda node: int(node.name[5:])):
        path = f"/dev/{node.name}"
        try:
            with closing(VideoDevice(path, kernel=kernel)) as opened:
                name, capture = opened.name, opened.captures
        except OSError:
            name, capture = node.name, True  # what is wrong with it is said when it is asked for its modes
        yield Device(path=path, name=name, capture=capture, band=guess_band(name=name, usb_id=None))


def _ask(device: Device, kernel: Kernel) -> Camera:
    try:
        with closing(VideoDevice(device.path, kernel=kernel)) as opened:
            return Camera(device=device, modes=tuple(opened.modes()))
    except OSError as error:
        return Camera(device=device, problem=why_not_opened(error, device.path))


def check_cameras(root: Path = Path("/"), *, kernel: Kernel = KERNEL, seconds: float = READ_S) -> list[CameraCheck]:
    """Open and start all cameras at once, as a run does, read from all of them for a while, and say what came of it.

    Too little USB bandwidth shows only so: each camera works alone, and the second one fails. And a camera that can be
    started may still deliver nothing, at another rate, damaged, or with stamps that are of no use.
    """
    cameras = ask_cameras(root, kernel=kernel)
    if not cameras:
        text = "none was found; plug one in, or pass it into the container (docker run --device /dev/video0 ...)"
        return [CameraCheck(subject="cameras", state="note", text=text)]
    exams = [_Exam(camera, root=root, kernel=kernel) for camera in cameras]
    for exam in exams:
        exam.open()
    together = threading.Barrier(sum(exam.source is not None for exam in exams) or 1)
    readers = [threading.Thread(target=exam.read, args=(seconds, together), daemon=True) for exam in exams]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    findings = [exam.finding() for exam in exams]
    if not any(camera.band is Band.THERMAL for camera in cameras):
        text = "none of the cameras is known to be thermal; if one is, name it with --ir all the same"
        findings.append(CameraCheck(subject="thermal camera", state="note", text=text))
    return findings


class _Exam:
    """One camera: opened, read from, and judged."""

    def __init__(self, camera: Camera, *, root: Path, kernel: Kernel) -> None:
        self._camera = camera
        self._root, self._kernel = root, kernel
        self._band = camera.band or Band.VISIBLE
        self.source: V4l2Source | None = None
        self._error = camera.problem
        self._frames = 0
        self._stamps_ns: list[int] = []
        self._ages_ns: list[int] = []
        self._levels: list[float] = []
        self._checksums: set[int] = set()

    def open(self) -> None:
        """Start the camera, which goes on until it was read from."""
        device = self._camera.device
        if self._error is not None:
            return
        uri = SourceUri(scheme="v4l2", target=device.path, text=device.path)
        try:
            finder = CameraFinder(device.path, root=self._root)
            self.source = open_v4l2(uri, band=self._band, finder=finder, kernel=self._kernel)
        except CaptureError as error:
            self._error = str(error).removeprefix(f"{device.path}: ")

    def read(self, seconds: float, together: threading.Barrier) -> None:
        """Read from the camera while all others are read from, too."""
        source = self.source
        if source is None:
            return
        together.wait()
        end_s = time.monotonic() + seconds
        try:
            while (left_s := end_s - time.monotonic()) > 0:
                with contextlib.suppress(CaptureTimeout):
                    self._look(source.read(timeout_s=left_s))
        except StreamLost as error:
            self._error = str(error).removeprefix(f"{self._camera.device.path}: ")
        finally:
            together.wait()  # none ends while another is still being measured
            source.close()

    def _look(self, frame: Frame) -> None:
        self._frames += 1
        self._stamps_ns.append(frame.timestamp_ns)
        self._ages_ns.append(frame.received_ns - frame.timestamp_ns)
        self._levels.append(float(frame.image[::8, ::8].mean()))
        self._checksums.add(zlib.crc32(frame.image[::4, ::4].tobytes()))

    def finding(self) -> CameraCheck:
        """What came of it."""
        device = self._camera.device
        subject = f"{device.path} ({device.name})"
        if self._error is not None or self.source is None:
            return CameraCheck(subject=subject, state="bad", text=self._error or "it could not be opened")
        known = "" if self._camera.band is not None else ", as far as is known"
        what = f"{self._band.value}{known}, {self.source.info.description}"
        if not self._frames:
            return CameraCheck(subject=subject, state="bad", text=f"{what}; it started, and then no whole frame came")
        faults = list(self._faults(self.source))
        rate = f"{self._rate_hz():.1f} frames/s, " if self._frames > 1 else ""
        text = f"{what}; {self._frames} frames read, {rate}{statistics.median(self._ages_ns) / NS_PER_MS:.0f} ms old on arrival"
        return CameraCheck(subject=subject, state="note" if faults else "good", text="; ".join([text, *faults]))

    def _rate_hz(self) -> float:
        span_ns = self._stamps_ns[-1] - self._stamps_ns[0]
        return (len(self._stamps_ns) - 1) * NS_PER_S / span_ns if span_ns > 0 else 0.0

    def _faults(self, source: V4l2Source) -> Iterator[str]:
        """What is worth knowing of what came."""
        drops, nominal_hz = source.drops, source.info.rate_hz
        lost = drops["corrupt"] + drops["driver"]
        if lost:
            lost_text = f"{drops['corrupt']} frames damaged and {drops['driver']} lost by the driver"
            yield f"{lost_text}: a bad port or cable, or a busy machine"
        measured_hz = self._rate_hz()
        if self._frames >= LEAST_FRAMES and not lost and abs(measured_hz / nominal_hz - 1) > RATE_OFF:
            yield f"the camera says {nominal_hz:g} frames/s; a dark scene or slow exposure makes less of them"
        if "stamped on arrival" in source.info.description:
            yield "frames are stamped when they arrive, so their time is less exact"
        if self._frames >= LEAST_FRAMES and len(self._checksums) == 1:
            yield "every picture is the same one"
        elif self._band is Band.VISIBLE and max(self._levels) < BLACK:
            yield "its pictures are black; is the lens covered?"
        if self._band is Band.THERMAL and self._camera.profile == "gray8":
            yield "it offers no raw counts in a layout that is known, so it tones its pictures itself"
        yield from (note.removeprefix(f"{self._camera.device.path}: ") for note in source.notes)
