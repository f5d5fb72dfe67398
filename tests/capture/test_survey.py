"""Cameras that are asked what they can do, and checked all at once."""

from __future__ import annotations

import errno
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtfusion.capture import survey
from rtfusion.capture import v4l2_abi as abi
from rtfusion.capture.survey import CameraCheck, ask_cameras, check_cameras
from rtfusion.capture.uri import SourceUri
from rtfusion.capture.v4l2 import V4l2Source
from rtfusion.capture.v4l2_device import Mode
from rtfusion.types import Band
from tests.capture.test_devices import add_node
from tests.rig.cameras import FakeCamera, FakeKernel

SECONDS = 0.6
POOL = np.random.default_rng(0).integers(40, 200, 1_000_000, dtype=np.uint8).tobytes()


def noise(of: Mode, sequence: int) -> bytes:
    """Another picture for each number."""
    start = sequence % 100 * 2
    return POOL[start : start + 2 * of.width_px * of.height_px]


class Desk:
    """Two cameras as sysfs lists them, behind a driver written in Python."""

    def __init__(self, root: Path) -> None:
        self.root = root
        add_node(root, 0, "Webcam", usb="046d:082d")
        add_node(root, 1, "Webcam", usb="046d:082d", index=1)
        add_node(root, 2, "USB Camera", usb="1234:5678", port="1-2")
        self.webcam = self._camera("Webcam", Mode(fourcc="YUYV", width_px=640, height_px=480, rates_hz=(20.0,)))
        self.thermal = self._camera("USB Camera", Mode(fourcc="YUYV", width_px=256, height_px=384, rates_hz=(18.0,)))
        self.kernel = FakeKernel({"/dev/video0": self.webcam, "/dev/video2": self.thermal})

    def _camera(self, name: str, mode: Mode) -> FakeCamera:
        return FakeCamera(modes=[mode], content=noise, name=name)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_cameras_are_asked_and_left_alone(desk: Desk) -> None:
    webcam, thermal = ask_cameras(desk.root, kernel=desk.kernel)
    assert (webcam.device.path, webcam.band, [str(mode) for mode in webcam.modes]) == (
        "/dev/video0",
        Band.VISIBLE,
        ["YUYV 640x480 20 Hz"],
    )
    assert (thermal.band, thermal.profile) == (Band.THERMAL, "p2pro"), "told from its format"
    assert desk.kernel.open_count == 0


def check(desk: Desk) -> list[CameraCheck]:
    found = check_cameras(desk.root, kernel=desk.kernel, seconds=SECONDS)
    assert desk.kernel.open_count == 0
    return found


def test_all_is_well(desk: Desk) -> None:
    webcam, thermal = check(desk)
    assert (webcam.subject, webcam.state) == ("/dev/video0 (Webcam)", "good")
    assert re.fullmatch(
        r"visible, YUYV 640x480 20 Hz by V4L2, stamped by the driver at the start of exposure; "
        r"\d+ frames read, \d+\.\d frames/s, \d+ ms old on arrival",
        webcam.text,
    )
    assert (thermal.subject, thermal.state) == ("/dev/video2 (USB Camera)", "good")
    assert thermal.text.startswith("thermal, YUYV 256x384 18 Hz by V4L2, profile p2pro, stamped by the driver")


FAULTS = {
    "silent after its start": ({"silent": True}, "bad", "it started, and then no whole frame came"),
    "damaged": ({"damage": lambda data: data[:-9]}, "bad", "it started, and then no whole frame came"),
    "frozen": ({"frozen": True}, "note", "every picture is the same one"),
    "slow": ({"rate_hz": 10.0}, "note", "the camera says 20 frames/s"),
}


@pytest.mark.parametrize(
    "fault", ["frozen", *(pytest.param(name, marks=pytest.mark.slow) for name in FAULTS if name != "frozen")]
)
def test_what_shows_only_when_frames_are_read(desk: Desk, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    changes, state, words = FAULTS[fault]
    opened = survey.open_v4l2

    def open_then_break(uri: SourceUri, **how: Any) -> V4l2Source:
        source = opened(uri, **how)
        if uri.target == "/dev/video0":
            for name, value in changes.items():
                setattr(desk.webcam, name, value)
        return source

    monkeypatch.setattr(survey, "open_v4l2", open_then_break)
    webcam, thermal = check(desk)
    assert (webcam.state, thermal.state) == (state, "good")
    assert words in webcam.text


def test_stamps_that_are_of_no_use_and_black_pictures_are_noted(desk: Desk) -> None:
    desk.webcam.stamp_flags = 0
    desk.webcam.content = lambda of, sequence: bytes([16 + sequence % 2, 128]) * (of.width_px * of.height_px)
    webcam, _ = check(desk)
    assert webcam.state == "note"
    assert "stamped when they arrive" in webcam.text
    assert "its pictures are black; is the lens covered?" in webcam.text


@pytest.mark.parametrize(
    ("request_number", "number", "advice"),
    [
        (0, errno.EACCES, "no permission; run `sudo usermod"),
        (abi.REQBUFS, errno.EBUSY, "another program uses the camera; `fuser /dev/video2`"),
        (abi.STREAMON, errno.ENOSPC, "not enough USB bandwidth for YUYV 256x384 18 Hz; use a port of another"),
    ],
)
def test_what_keeps_a_camera_from_working(desk: Desk, request_number: int, number: int, advice: str) -> None:
    desk.thermal.refuses[request_number] = number
    webcam, thermal, *_ = check(desk)
    assert (webcam.state, thermal.state) == ("good", "bad")
    assert thermal.text.startswith(advice)


def test_formats_that_cannot_be_decoded(desk: Desk) -> None:
    desk.thermal.modes = [Mode(fourcc="H264", width_px=640, height_px=480)]
    _, broken, none_thermal = check(desk)
    assert (broken.state, broken.text) == (
        "bad",
        "the camera has no mode that can be decoded; it offers H264 640x480",
    )
    assert none_thermal.text.startswith("none of the cameras is known to be thermal")


def test_a_machine_without_cameras(tmp_path: Path) -> None:
    (finding,) = check_cameras(tmp_path)
    assert (finding.subject, finding.state) == ("cameras", "note")
