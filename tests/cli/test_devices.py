"""``rtfusion devices`` and ``rtfusion view``: what they say, with and without the hardware."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rtfusion.capture.devices import Device
from rtfusion.types import Band

from .conftest import Main

STABLE = "/dev/v4l/by-id/usb-046d_HD_Pro_Webcam_C920_12345678-video-index0"
CAMERAS = [
    Device(path="/dev/video0", name="HD Pro Webcam [C920]", capture=True, band=Band.VISIBLE, stable_path=STABLE),
    Device(path="/dev/video1", name="metadata", capture=False, band=None),
    Device(path="/dev/video2", name="PureThermal", capture=True, band=Band.THERMAL),
    Device(path="/dev/video4", name="mystery", capture=True, band=None),
]


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[Device]], None]:
    def plug(cameras: list[Device]) -> None:
        monkeypatch.setattr("rtfusion.capture.devices.list_devices", lambda: cameras)

    return plug


def test_cameras_are_listed_with_a_command_to_try(main_here: Main, plugged: Callable[[list[Device]], None]) -> None:
    plugged(CAMERAS)
    code, out, err = main_here("devices")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert "/dev/video0 visible HD Pro Webcam [C920]" in lines
    assert "/dev/video2 thermal PureThermal" in lines
    assert "/dev/video4 ? mystery" in lines
    assert STABLE in out.replace("\n", "").replace(" ", "")
    assert "video1" not in out
    assert lines[-1] == "rtfusion run --ir /dev/video2 --vis /dev/video0"


def test_without_a_camera_it_says_what_to_do(main_here: Main, plugged: Callable[[list[Device]], None]) -> None:
    plugged([])
    code, out, err = main_here("devices")
    assert (code, err) == (0, "")
    assert out.startswith("No camera was found.")
    assert "rtfusion demo" in out


def test_view_without_a_display_says_so(main_here: Main) -> None:
    code, out, err = main_here("view", "tcp://127.0.0.1:5555")
    assert (code, out) == (2, "")
    assert "no display" in err
    assert len(err.splitlines()) == 1
