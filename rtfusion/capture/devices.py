"""The cameras of this machine, as the kernel lists them, and the same camera again after it was pulled out.

Nothing is opened and no device is asked anything here.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from rtfusion.capture.profiles import is_thermal
from rtfusion.errors import CaptureError, ConfigError
from rtfusion.types import Band

_NEAR_INFRARED_NAMES = re.compile(r"\bir\b|infrared|windows hello", re.I)
_NOT_CAMERAS = re.compile(r"codec|\bisp\b|-isp|metadata|jpeg|hevc|h264|stateless|encoder|decoder|output|vbi", re.I)


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """One video node."""

    path: str
    """The path for --ir and --vis; its number may change when cameras are plugged in again."""
    name: str
    """The name that the driver gives it."""
    capture: bool
    """False for a node that delivers no images, such as the metadata node beside each USB camera."""
    band: Band | None
    """A guess by the name and the USB identity; None when there is nothing to go by."""
    usb_id: str | None = None
    """``vendor:product``, for a USB camera."""
    stable_path: str | None = None
    """A link below /dev/v4l/by-id that stays with this camera wherever it is plugged in."""
    serial: str | None = None
    """Serial number, for a USB camera that has one."""
    port: str | None = None
    """The USB port it is plugged into, as the kernel names it."""


def list_devices(root: Path = Path("/")) -> list[Device]:
    """All video nodes in the order of their numbers; ``root`` is the top of the file system to look at."""
    nodes = sorted((root / "sys/class/video4linux").glob("video[0-9]*"), key=lambda node: int(node.name[5:]))
    stable_paths = _stable_paths(root)
    return [_device(node, stable_paths.get(node.name)) for node in nodes]


def guess_band(*, name: str, usb_id: str | None) -> Band | None:
    """Thermal for what is known to be; visible for any other USB camera that does not call itself infrared."""
    if is_thermal(name=name, usb_id=usb_id):
        return Band.THERMAL
    if usb_id is None or _NEAR_INFRARED_NAMES.search(name):  # near infrared sees reflected light, not heat
        return None
    return Band.VISIBLE


def named_device(target: str, *, root: Path = Path("/")) -> Device | None:
    """The node that a path, or ``usb:VENDOR:PRODUCT[:SERIAL]``, names; None for what the kernel does not list, or not as one."""
    found = _named(target, list_devices(root), root=root)
    return found[0] if len(found) == 1 else None


def _named(target: str, devices: list[Device], *, root: Path) -> list[Device]:
    """The node that a path names, or all with pictures that ``usb:`` may mean."""
    if target.startswith("usb:"):
        usb_id, serial = _parse_usb(target)
        return [d for d in devices if d.capture and d.usb_id == usb_id and serial in (None, d.serial)]
    node = Path(os.path.realpath(root / target.lstrip("/"))).name
    return [device for device in devices if device.path == f"/dev/{node}"]


class CameraFinder:
    """Finds the node of one camera, and of the same camera again wherever it turns up.

    ``target`` is a path (/dev/videoN, a link below /dev/v4l) or ``usb:VID:PID[:serial]``. What is found first is
    remembered: number, link and port of another camera are never taken for it, so two cameras cannot be exchanged when
    both are pulled out and plugged in again. A camera without a serial number is known by its port, and by its kind
    where there was no second one of that kind.
    """

    def __init__(self, target: str, *, root: Path = Path("/")) -> None:
        self.target = target
        self._root = root
        self.device: Device | None = None
        """The camera that was found first."""
        self._one_of_its_kind = False

    def find(self) -> str:
        """The path of the node now.

        Raises:
            CaptureError: the camera is not there.
            ConfigError: ``usb:`` is malformed or names several cameras.
        """
        devices = list_devices(self._root)
        cameras = [device for device in devices if device.capture]
        if self.device is not None:
            return self._again(self.device, cameras).path
        self.device = self._first(devices, cameras)
        if self.device is None:
            return self.target  # of no kind that the kernel lists: opening tells what it is
        self._one_of_its_kind = sum(camera.usb_id == self.device.usb_id for camera in cameras) == 1
        return self.device.path

    def _first(self, devices: list[Device], cameras: list[Device]) -> Device | None:
        found = _named(self.target, devices, root=self._root)
        if not self.target.startswith("usb:"):
            if found and not found[0].capture:
                raise CaptureError(_no_pictures(self.target, found[0], cameras))
            return found[0] if found else None
        if not found:
            raise CaptureError(f"{self.target}: no such camera; `rtfusion devices` lists those that are there")
        if len(found) > 1:
            names = ", ".join(
                f"usb:{camera.usb_id}:{camera.serial}" if camera.serial else camera.path for camera in found
            )
            raise ConfigError(f"{self.target}: there are {len(found)} such cameras; name one of them: {names}")
        return found[0]

    def _again(self, known: Device, cameras: list[Device]) -> Device:
        alike = [camera for camera in cameras if (camera.usb_id, camera.serial) == (known.usb_id, known.serial)]
        if known.usb_id is None:
            alike = [camera for camera in alike if (camera.path, camera.name) == (known.path, known.name)]
        here = [camera for camera in alike if camera.port == known.port]
        if here:
            return here[0]
        if len(alike) == 1 and (known.serial or self._one_of_its_kind):
            return alike[0]
        raise CaptureError(f"{self.target}: {known.name} ({known.usb_id or known.path}) is not plugged in")


def _no_pictures(target: str, named: Device, cameras: list[Device]) -> str:
    """Say which node is meant instead of one that carries no pictures, and which others there are."""
    own = next((camera for camera in cameras if camera.port and camera.port == named.port), None)
    others = [camera for camera in cameras if camera is not own]
    listed = ", ".join(
        f"{camera.path} ({camera.name}{f', {camera.band.value}' if camera.band else ''})" for camera in others
    )
    right = f"; its pictures come from {own.path}" if own is not None else ""
    return f"{target}: this node of {named.name} carries no pictures{right}; other cameras: {listed or 'none'}"


def _parse_usb(target: str) -> tuple[str, str | None]:
    """(vendor:product, serial)."""
    match = re.fullmatch(r"usb:([0-9a-f]{4}):([0-9a-f]{4})(?::(.+))?", target, re.IGNORECASE)
    if match is None:
        raise ConfigError(f"{target}: expected usb:VENDOR:PRODUCT or usb:VENDOR:PRODUCT:SERIAL, such as usb:0bda:5830")
    return f"{match[1]}:{match[2]}".lower(), match[3]


def _device(node: Path, stable_path: str | None) -> Device:
    name = _text(node / "name") or node.name
    usb = (node / "device").resolve().parent
    usb_id = _usb_id(usb)
    index = int(_text(node / "index") or 0)
    # The USB video driver makes pairs of nodes: images at even indices, their metadata at odd ones.
    capture = index % 2 == 0 if usb_id is not None else _NOT_CAMERAS.search(name) is None
    return Device(
        path=f"/dev/{node.name}",
        name=name,
        capture=capture,
        band=guess_band(name=name, usb_id=usb_id) if capture else None,
        usb_id=usb_id,
        stable_path=stable_path,
        serial=(_text(usb / "serial") or None) if usb_id else None,
        port=usb.name if usb_id else None,
    )


def _stable_paths(root: Path) -> dict[str, str]:
    """video0 -> /dev/v4l/by-id/..."""
    links = sorted((root / "dev/v4l/by-id").glob("*"))
    return {link.readlink().name: f"/dev/v4l/by-id/{link.name}" for link in links if link.is_symlink()}


def _usb_id(device: Path) -> str | None:
    """``vendor:product`` of what may be a USB device."""
    vendor, product = _text(device / "idVendor"), _text(device / "idProduct")
    return f"{vendor}:{product}" if vendor and product else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
