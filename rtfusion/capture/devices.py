"""The cameras of this machine, as the kernel lists them: nothing is opened and no device is asked anything."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from rtfusion.types import Band

_THERMAL_USB_IDS = frozenset(
    {
        "0bda:5830",  # InfiRay P2 Pro, Topdon TC001
        "0bda:5840",  # InfiRay and relatives
        "1e4e:0100",  # PureThermal with a FLIR Lepton
        "09cb:4007",  # FLIR Boson
        "3474:4321",  # Topdon TC002
    }
)
_THERMAL_NAMES = re.compile(
    r"thermal|lepton|\bboson|\bflir\b|infiray|p2 ?pro|\btc00[0-9]|topdon|xtherm|ht-?301|hikmicro|\btau ?2|\bseek\b",
    re.I,
)
_NEAR_INFRARED_NAMES = re.compile(r"\bir\b|infrared|windows hello", re.I)
_NOT_CAMERAS = re.compile(r"codec|\bisp\b|-isp|metadata|jpeg|hevc|h264|stateless|encoder|decoder|output|vbi", re.I)


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """One video node."""

    path: str
    """What --ir and --vis take; the number may change when cameras are plugged in again."""
    name: str
    """What the driver calls it."""
    capture: bool
    """False for a node that delivers no images, such as the metadata node beside each USB camera."""
    band: Band | None
    """A guess by the name and the USB identity; None when there is nothing to go by."""
    usb_id: str | None = None
    """``vendor:product``, for a USB camera."""
    stable_path: str | None = None
    """A link below /dev/v4l/by-id that stays with this camera wherever it is plugged in."""


def list_devices(root: Path = Path("/")) -> list[Device]:
    """All video nodes in the order of their numbers; ``root`` is the top of the file system to look at."""
    nodes = sorted((root / "sys/class/video4linux").glob("video[0-9]*"), key=lambda node: int(node.name[5:]))
    stable_paths = _stable_paths(root)
    return [_device(node, stable_paths.get(node.name)) for node in nodes]


def guess_band(*, name: str, usb_id: str | None) -> Band | None:
    """Thermal for what is known to be; visible for any other USB camera that does not call itself infrared."""
    if usb_id in _THERMAL_USB_IDS or _THERMAL_NAMES.search(name):
        return Band.THERMAL
    if usb_id is None or _NEAR_INFRARED_NAMES.search(name):  # near infrared sees reflected light, not heat
        return None
    return Band.VISIBLE


def _device(node: Path, stable_path: str | None) -> Device:
    name = _text(node / "name") or node.name
    usb_id = _usb_id(node)
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
    )


def _stable_paths(root: Path) -> dict[str, str]:
    """video0 -> /dev/v4l/by-id/..."""
    links = sorted((root / "dev/v4l/by-id").glob("*"))
    return {link.readlink().name: f"/dev/v4l/by-id/{link.name}" for link in links if link.is_symlink()}


def _usb_id(node: Path) -> str | None:
    """The identity of the USB device that the node's interface belongs to."""
    device = (node / "device").resolve().parent
    vendor, product = _text(device / "idVendor"), _text(device / "idProduct")
    return f"{vendor}:{product}" if vendor and product else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
