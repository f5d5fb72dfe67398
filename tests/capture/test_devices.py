"""Cameras as sysfs lists them, on a tree made here."""

from __future__ import annotations

from pathlib import Path

import pytest

from rtfusion.capture.devices import Device, guess_band, list_devices
from rtfusion.types import Band


def add_node(root: Path, number: int, name: str, *, index: int = 0, usb: str | None = None, port: str = "1-1") -> None:
    """A video node as the kernel shows it; ``usb`` is vendor:product."""
    interface = root / "sys/devices/pci0/usb1" / port / f"{port}:1.0" if usb else root / "sys/devices/platform/codec"
    node = interface / "video4linux" / f"video{number}"
    node.mkdir(parents=True)
    (node / "name").write_text(f"{name}\n")
    (node / "index").write_text(f"{index}\n")
    (node / "device").symlink_to("../..")
    if usb:
        vendor, product = usb.split(":")
        (interface.parent / "idVendor").write_text(f"{vendor}\n")
        (interface.parent / "idProduct").write_text(f"{product}\n")
    links = root / "sys/class/video4linux"
    links.mkdir(parents=True, exist_ok=True)
    (links / f"video{number}").symlink_to(node)


def add_stable_path(root: Path, name: str, number: int) -> None:
    folder = root / "dev/v4l/by-id"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).symlink_to(f"../../video{number}")


def test_cameras_are_listed_with_all_that_is_known(tmp_path: Path) -> None:
    add_node(tmp_path, 0, "HD Pro Webcam C920", usb="046d:082d")
    add_node(tmp_path, 1, "HD Pro Webcam C920", index=1, usb="046d:082d")
    add_node(tmp_path, 2, "USB Camera: USB Camera", usb="0bda:5830", port="1-2")
    add_node(tmp_path, 10, "bcm2835-codec-decode")
    add_stable_path(tmp_path, "usb-046d_C920_1234-video-index0", 0)
    assert list_devices(tmp_path) == [
        Device(
            path="/dev/video0",
            name="HD Pro Webcam C920",
            capture=True,
            band=Band.VISIBLE,
            usb_id="046d:082d",
            stable_path="/dev/v4l/by-id/usb-046d_C920_1234-video-index0",
        ),
        Device(path="/dev/video1", name="HD Pro Webcam C920", capture=False, band=None, usb_id="046d:082d"),
        Device(path="/dev/video2", name="USB Camera: USB Camera", capture=True, band=Band.THERMAL, usb_id="0bda:5830"),
        Device(path="/dev/video10", name="bcm2835-codec-decode", capture=False, band=None),
    ]


def test_a_machine_without_cameras(tmp_path: Path) -> None:
    assert list_devices(tmp_path) == []


def test_a_camera_that_says_nothing_of_itself(tmp_path: Path) -> None:
    (tmp_path / "sys/class/video4linux/video3").mkdir(parents=True)
    assert list_devices(tmp_path) == [Device(path="/dev/video3", name="video3", capture=True, band=None)]


@pytest.mark.parametrize(
    ("name", "usb_id", "band"),
    [
        ("PureThermal (fw:v1.3.0): PureThe", "1e4e:0100", Band.THERMAL),
        ("PureThermal (fw:v1.3.0)", None, Band.THERMAL),
        ("FLIR Video: FLIR Video", "09cb:4007", Band.THERMAL),
        ("Boson", None, Band.THERMAL),
        ("P2 Pro", None, Band.THERMAL),
        ("USB Camera", "0bda:5830", Band.THERMAL),
        ("HD Webcam", "046d:0825", Band.VISIBLE),
        ("Integrated IR Camera", "13d3:56f2", None),
        ("unicam", None, None),
    ],
)
def test_the_band_is_guessed_from_name_and_identity(name: str, usb_id: str | None, band: Band | None) -> None:
    assert guess_band(name=name, usb_id=usb_id) is band
