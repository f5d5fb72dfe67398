"""``rtfusion devices`` and ``rtfusion view``: what they say, with and without the hardware."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rtfusion.capture.devices import Device
from rtfusion.capture.survey import Camera
from rtfusion.capture.v4l2_device import Mode
from rtfusion.types import Band

from .conftest import Main

STABLE = "/dev/v4l/by-id/usb-046d_HD_Pro_Webcam_C920_12345678-video-index0"


def mode(fourcc: str, width: int, height: int, *rates_hz: float) -> Mode:
    return Mode(fourcc=fourcc, width_px=width, height_px=height, rates_hz=rates_hz)


CAMERAS = [
    Camera(
        device=Device(
            path="/dev/video0",
            name="HD Pro Webcam [C920]",
            capture=True,
            band=Band.VISIBLE,
            usb_id="046d:082d",
            serial="1234",
            stable_path=STABLE,
        ),
        modes=(mode("YUYV", 640, 480, 30.0, 15.0), mode("MJPG", 640, 480, 30.0), mode("MJPG", 1920, 1080, 30.0)),
    ),
    Camera(
        device=Device(path="/dev/video2", name="PureThermal", capture=True, band=Band.THERMAL),
        modes=(mode("Y16", 160, 120, 9.0),),
    ),
    Camera(device=Device(path="/dev/video4", name="mystery", capture=True, band=None), problem="no permission; run"),
]


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[Camera]], None]:
    def plug(cameras: list[Camera]) -> None:
        monkeypatch.setattr("rtfusion.capture.survey.ask_cameras", lambda: cameras)
        monkeypatch.setenv("COLUMNS", "160")

    return plug


def test_cameras_are_listed_with_a_command_to_try(main_here: Main, plugged: Callable[[list[Camera]], None]) -> None:
    plugged(CAMERAS)
    code, out, err = main_here("devices")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert "/dev/video0 visible HD Pro Webcam [C920] YUYV 640x480, 30 Hz" in lines
    assert "usb:046d:082d:1234 MJPG 640x480 to 1920x1080, 30 Hz" in lines
    assert "/dev/video2 thermal PureThermal Y16 160x120, 9 Hz" in lines
    assert "/dev/video4 ? mystery no permission; run" in lines
    assert STABLE in out.replace("\n", "").replace(" ", "")
    assert lines[-1] == "rtfusion run --ir /dev/video2 --vis /dev/video0"


def test_every_mode_is_shown_when_asked(main_here: Main, plugged: Callable[[list[Camera]], None]) -> None:
    plugged(CAMERAS)
    _, out, _ = main_here("devices", "--formats")
    assert "YUYV 640x480 at 30, 15 Hz" in out
    assert "MJPG 1920x1080 at 30 Hz" in out


def test_without_a_camera_it_says_what_to_do(main_here: Main, plugged: Callable[[list[Camera]], None]) -> None:
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
