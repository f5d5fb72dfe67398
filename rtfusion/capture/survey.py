"""A survey of the cameras of this machine, and of what keeps them from working: for ``rtfusion devices`` and ``doctor``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rtfusion.capture.devices import Device, guess_band, list_devices
from rtfusion.capture.modes import Asked, choose_mode
from rtfusion.capture.profiles import recognize
from rtfusion.capture.v4l2 import why_not_opened
from rtfusion.capture.v4l2_device import KERNEL, Kernel, Mode, VideoDevice
from rtfusion.errors import CaptureError
from rtfusion.types import Band


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


def check_cameras(root: Path = Path("/"), *, kernel: Kernel = KERNEL) -> list[CameraCheck]:
    """Open and start all cameras at once, as a run does, and say what came of it.

    Too little USB bandwidth shows only so: each camera works alone, and the second one fails.
    """
    cameras = ask_cameras(root, kernel=kernel)
    if not cameras:
        text = "none was found; plug one in, or pass it into the container (docker run --device /dev/video0 ...)"
        return [CameraCheck(subject="cameras", state="note", text=text)]
    with ExitStack() as running:
        findings = [_start(camera, running, kernel) for camera in cameras]
    if not any(camera.band is Band.THERMAL for camera in cameras):
        text = "none of the cameras is known to be thermal; if one is, name it with --ir all the same"
        findings.append(CameraCheck(subject="thermal camera", state="note", text=text))
    return findings


def _start(camera: Camera, running: ExitStack, kernel: Kernel) -> CameraCheck:
    device = camera.device
    subject = f"{device.path} ({device.name})"
    if camera.problem is not None:
        return CameraCheck(subject=subject, state="bad", text=camera.problem)
    band = camera.band or Band.VISIBLE
    try:
        wanted, rate_hz = choose_mode(camera.modes, Asked(), band=band, usb_id=device.usb_id)
        opened = VideoDevice(device.path, kernel=kernel)
        running.callback(opened.close)
        mode = opened.set_mode(wanted, rate_hz=rate_hz)
        opened.start()
    except CaptureError as error:
        return CameraCheck(subject=subject, state="bad", text=str(error))
    except OSError as error:
        return CameraCheck(subject=subject, state="bad", text=why_not_opened(error, device.path))
    if band is Band.THERMAL and camera.profile == "gray8":
        text = "it offers no raw counts in a layout that is known, so it tones its pictures itself"
        return CameraCheck(subject=subject, state="note", text=f"{band.value}, {mode}; {text}")
    return CameraCheck(subject=subject, state="good", text=f"{band.value}, {mode}")
