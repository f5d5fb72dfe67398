"""Cameras that are asked what they can do, and checked all at once."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from rtfusion.capture import v4l2_abi as abi
from rtfusion.capture.survey import ask_cameras, check_cameras
from rtfusion.capture.v4l2_device import Mode
from rtfusion.types import Band
from tests.capture.test_devices import add_node
from tests.rig.cameras import FakeCamera, FakeKernel


class Desk:
    """Two cameras as sysfs lists them, behind a driver written in Python."""

    def __init__(self, root: Path) -> None:
        self.root = root
        add_node(root, 0, "Webcam", usb="046d:082d")
        add_node(root, 1, "Webcam", usb="046d:082d", index=1)
        add_node(root, 2, "USB Camera", usb="1234:5678", port="1-2")
        self.webcam = self._camera("Webcam", Mode(fourcc="YUYV", width_px=640, height_px=480, rates_hz=(30.0,)))
        self.thermal = self._camera("USB Camera", Mode(fourcc="YUYV", width_px=256, height_px=384, rates_hz=(25.0,)))
        self.kernel = FakeKernel({"/dev/video0": self.webcam, "/dev/video2": self.thermal})

    def _camera(self, name: str, mode: Mode) -> FakeCamera:
        return FakeCamera(modes=[mode], content=lambda *_: b"", name=name)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_cameras_are_asked_and_left_alone(desk: Desk) -> None:
    webcam, thermal = ask_cameras(desk.root, kernel=desk.kernel)
    assert (webcam.device.path, webcam.band, [str(mode) for mode in webcam.modes]) == (
        "/dev/video0",
        Band.VISIBLE,
        ["YUYV 640x480 30 Hz"],
    )
    assert (thermal.band, thermal.profile) == (Band.THERMAL, "p2pro"), "told from its format"
    assert desk.kernel.open_count == 0


def test_all_is_well(desk: Desk) -> None:
    findings = check_cameras(desk.root, kernel=desk.kernel)
    assert [(finding.subject, finding.state, finding.text) for finding in findings] == [
        ("/dev/video0 (Webcam)", "good", "visible, YUYV 640x480 30 Hz"),
        ("/dev/video2 (USB Camera)", "good", "thermal, YUYV 256x384 25 Hz"),
    ]
    assert desk.kernel.open_count == 0


@pytest.mark.parametrize(
    ("request_number", "number", "advice"),
    [
        (0, errno.EACCES, "no permission; run `sudo usermod"),
        (abi.REQBUFS, errno.EBUSY, "another program uses the camera; `fuser /dev/video2`"),
        (abi.STREAMON, errno.ENOSPC, "not enough USB bandwidth; try ?format=mjpeg"),
    ],
)
def test_what_keeps_a_camera_from_working(desk: Desk, request_number: int, number: int, advice: str) -> None:
    desk.thermal.refuses[request_number] = number
    webcam, thermal, *_ = check_cameras(desk.root, kernel=desk.kernel)
    assert (webcam.state, thermal.state) == ("good", "bad")
    assert thermal.text.startswith(advice)
    assert desk.kernel.open_count == 0


def test_formats_that_cannot_be_decoded(desk: Desk) -> None:
    desk.thermal.modes = [Mode(fourcc="H264", width_px=640, height_px=480)]
    _, broken, none_thermal = check_cameras(desk.root, kernel=desk.kernel)
    assert (broken.state, broken.text) == (
        "bad",
        "the camera has no mode that can be decoded; it offers H264 640x480",
    )
    assert none_thermal.text.startswith("none of the cameras is known to be thermal")


def test_a_machine_without_cameras(tmp_path: Path) -> None:
    (finding,) = check_cameras(tmp_path)
    assert (finding.subject, finding.state) == ("cameras", "note")
