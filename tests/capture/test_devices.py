"""Cameras as sysfs lists them, on a tree made here."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from rtfusion.capture.devices import CameraFinder, Device, guess_band, list_devices
from rtfusion.errors import CaptureError, ConfigError
from rtfusion.types import Band


def add_node(
    root: Path,
    number: int,
    name: str,
    *,
    index: int = 0,
    usb: str | None = None,
    port: str = "1-1",
    serial: str | None = None,
) -> None:
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
        if serial:
            (interface.parent / "serial").write_text(f"{serial}\n")
    links = root / "sys/class/video4linux"
    links.mkdir(parents=True, exist_ok=True)
    (links / f"video{number}").symlink_to(node)


def add_stable_path(root: Path, name: str, number: int) -> None:
    folder = root / "dev/v4l/by-id"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).symlink_to(f"../../video{number}")


def test_cameras_are_listed_with_all_that_is_known(tmp_path: Path) -> None:
    add_node(tmp_path, 0, "HD Pro Webcam C920", usb="046d:082d", serial="1234")
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
            serial="1234",
            port="1-1",
        ),
        Device(
            path="/dev/video1",
            name="HD Pro Webcam C920",
            capture=False,
            band=None,
            usb_id="046d:082d",
            serial="1234",
            port="1-1",
        ),
        Device(
            path="/dev/video2",
            name="USB Camera: USB Camera",
            capture=True,
            band=Band.THERMAL,
            usb_id="0bda:5830",
            port="1-2",
        ),
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


# -- the same camera again --------------------------------------------------------------------------------------------


def unplug_all(root: Path) -> None:
    shutil.rmtree(root / "sys")
    shutil.rmtree(root / "dev", ignore_errors=True)


def test_a_camera_is_found_by_number_link_and_identity(tmp_path: Path) -> None:
    add_node(tmp_path, 2, "P2 Pro", usb="0bda:5830", port="1-2")
    add_node(tmp_path, 4, "Webcam", usb="046d:082d", serial="A1")
    add_stable_path(tmp_path, "usb-webcam-video-index0", 4)
    targets = {
        "/dev/video2": "/dev/video2",
        "/dev/v4l/by-id/usb-webcam-video-index0": "/dev/video4",
        "usb:0bda:5830": "/dev/video2",
        "usb:046D:082D:A1": "/dev/video4",
    }
    assert {target: CameraFinder(target, root=tmp_path).find() for target in targets} == targets


def test_thermal_and_visible_are_not_exchanged_when_their_numbers_are(tmp_path: Path) -> None:
    add_node(tmp_path, 0, "P2 Pro", usb="0bda:5830", port="1-2")
    add_node(tmp_path, 2, "Webcam", usb="046d:082d", port="1-1")
    thermal, visible = (CameraFinder(f"/dev/video{number}", root=tmp_path) for number in (0, 2))
    assert (thermal.find(), visible.find()) == ("/dev/video0", "/dev/video2")
    unplug_all(tmp_path)
    add_node(tmp_path, 0, "Webcam", usb="046d:082d", port="1-1")
    with pytest.raises(CaptureError, match=r"/dev/video0: P2 Pro \(0bda:5830\) is not plugged in"):
        thermal.find()
    assert visible.find() == "/dev/video0"
    add_node(tmp_path, 2, "P2 Pro", usb="0bda:5830", port="1-2")
    assert (thermal.find(), visible.find()) == ("/dev/video2", "/dev/video0")


def test_a_camera_may_move_to_another_port_when_nothing_can_be_mistaken_for_it(tmp_path: Path) -> None:
    add_node(tmp_path, 0, "Webcam", usb="046d:082d", port="1-1", serial="A1")
    add_node(tmp_path, 2, "Webcam", usb="046d:082d", port="1-2", serial="B2")
    add_node(tmp_path, 4, "P2 Pro", usb="0bda:5830", port="1-3")
    webcam, thermal = CameraFinder("/dev/video2", root=tmp_path), CameraFinder("/dev/video4", root=tmp_path)
    webcam.find(), thermal.find()
    unplug_all(tmp_path)
    add_node(tmp_path, 0, "P2 Pro", usb="0bda:5830", port="2-1")
    add_node(tmp_path, 1, "Webcam", usb="046d:082d", port="2-2", serial="B2")
    assert (webcam.find(), thermal.find()) == ("/dev/video1", "/dev/video0")


def test_of_two_cameras_without_a_serial_number_each_keeps_its_port(tmp_path: Path) -> None:
    add_node(tmp_path, 0, "Cam", usb="0bda:5830", port="1-1")
    add_node(tmp_path, 2, "Cam", usb="0bda:5830", port="1-2")
    first, second = (CameraFinder(f"/dev/video{number}", root=tmp_path) for number in (0, 2))
    first.find(), second.find()
    unplug_all(tmp_path)
    add_node(tmp_path, 0, "Cam", usb="0bda:5830", port="1-2")
    assert second.find() == "/dev/video0"
    with pytest.raises(CaptureError, match="is not plugged in"):
        first.find()


def test_an_identity_that_fits_several_cameras_is_refused(tmp_path: Path) -> None:
    add_node(tmp_path, 0, "Cam", usb="0bda:5830", port="1-1", serial="A1")
    add_node(tmp_path, 2, "Cam", usb="0bda:5830", port="1-2")
    with pytest.raises(ConfigError, match=r"there are 2 such cameras; name one of them: usb:0bda:5830:A1, /dev/video2"):
        CameraFinder("usb:0bda:5830", root=tmp_path).find()


@pytest.mark.parametrize("target", ["usb:0bda", "usb:0bda:583x", "usb:"])
def test_a_malformed_identity_is_refused(tmp_path: Path, target: str) -> None:
    with pytest.raises(ConfigError, match="expected usb:VENDOR:PRODUCT"):
        CameraFinder(target, root=tmp_path).find()


def test_a_camera_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="usb:0bda:5830: no such camera"):
        CameraFinder("usb:0bda:5830", root=tmp_path).find()
    assert CameraFinder("/dev/video9", root=tmp_path).find() == "/dev/video9"  # opening it says what is wrong
