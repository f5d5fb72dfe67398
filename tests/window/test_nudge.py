"""Nudging without a window; the window's own test presses the real keys."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtfusion.errors import CalibrationError
from rtfusion.registration import Calibration
from rtfusion.types import Band
from rtfusion.window.nudge import Nudger
from rtfusion.window.viewer import Action, Screen, key_name
from tests.support import RecordingControl

SIZES_PX = {Band.VISIBLE: (640, 480), Band.THERMAL: (320, 240)}


def at(calibration: Calibration | None, x: float, y: float) -> np.ndarray:
    assert calibration is not None
    point = calibration.homography_px @ (x, y, 1.0)
    return point[:2] / point[2]


def pressed(keys: list[str], calibration: Calibration | None = None) -> RecordingControl:
    control = RecordingControl(calibration)
    nudger = Nudger(control, sizes_px=SIZES_PX)
    for key in keys:
        nudger.press(key)
    nudger.apply()
    return control


def test_keys_shift_by_visible_pixels_from_the_same_view() -> None:
    control = pressed(["right", "right", "down", "left", "x", "right"])
    assert control.changes == 1
    np.testing.assert_allclose(at(control.calibration, 0.0, 0.0), (0.5 + 2, 0.5 + 1))


def test_turning_and_scaling_leave_the_middle_where_it_is() -> None:
    before = pressed(["right"]).calibration
    middle = at(before, 159.5, 119.5)
    for keys, length, angle_deg in (
        (["]"] * 5, 1.0, 0.5),
        (["["], 1.0, -0.1),
        (["+", "="], 1.002**2, 0.0),
        (["-"], 1 / 1.002, 0.0),
    ):
        after = pressed(keys, before).calibration
        np.testing.assert_allclose(at(after, 159.5, 119.5), middle)
        there, here = at(after, 259.5, 119.5) - middle, at(before, 259.5, 119.5) - middle
        assert np.linalg.norm(there) / np.linalg.norm(here) == pytest.approx(length)
        assert np.degrees(np.arctan2(there[1], there[0])) == pytest.approx(angle_deg, abs=1e-9)


@given(keys=st.lists(st.sampled_from(["left", "right", "up", "down"]), max_size=12))
def test_shifts_add_up_in_any_order(keys: list[str]) -> None:
    control = pressed(["right", *keys, "]", "["])
    x = sum({"left": -1, "right": 1}.get(key, 0) for key in keys)
    y = sum({"up": -1, "down": 1}.get(key, 0) for key in keys)
    if control.calibration is not None:  # steps that cancel change nothing
        np.testing.assert_allclose(at(control.calibration, 0.0, 0.0), (1.5 + x, 0.5 + y))
    else:
        assert (x, y) == (-1, 0)


def test_a_step_is_a_pixel_of_the_stream_whatever_was_calibrated() -> None:
    double = Calibration.from_homography(
        visible_from_thermal_px=np.diag([4.0, 4.0, 1.0]), visible_size_px=(1280, 960), thermal_size_px=(320, 240)
    )
    np.testing.assert_allclose(at(pressed(["right"], double).calibration, 0.0, 0.0), (2.0, 0.0))


def test_reset_goes_back_and_save_writes_what_is_in_use(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    control = RecordingControl()
    nudger = Nudger(control, sizes_px=SIZES_PX, folder=tmp_path)
    nudger.press("right")
    nudger.press("w")
    with caplog.at_level(logging.INFO):
        nudger.apply()
    (path,) = tmp_path.iterdir()
    assert f"use it with --calibration {path}" in caplog.text
    saved = Calibration.load(path)
    assert saved == control.calibration
    assert saved.provenance["nudged"] == "by hand"
    nudger.press("up")
    nudger.press("r")
    nudger.apply()
    np.testing.assert_allclose(at(control.calibration, 0.0, 0.0), (0.5, 0.5))


def test_a_folder_that_is_gone_ends_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    nudger = Nudger(RecordingControl(), sizes_px=SIZES_PX, folder=tmp_path / "gone")
    nudger.press("w")
    nudger.apply()
    assert "could not be saved" in caplog.text


def test_a_nudge_gives_up_the_pose_and_the_figures() -> None:
    nudged = pressed(["up"], Calibration.from_homography(
        visible_from_thermal_px=np.diag([2.0, 2.0, 1.0]), visible_size_px=(640, 480), thermal_size_px=(320, 240), distance_m=5.0
    )).calibration  # fmt: skip
    assert nudged is not None
    assert nudged.visible_from_thermal is None
    assert nudged.quality is None
    assert nudged.distance_m == 5.0


def test_the_window_passes_on_what_it_does_not_answer() -> None:
    screen = Screen(nudges=True)
    assert [screen.press(key) for key in ("left", "+", "w", "r")] == [Action.FORWARD] * 4
    assert [screen.press(key) for key in (" ", "f", "q")] == [Action.NONE, Action.FORWARD, Action.QUIT]
    assert "nudge" in screen.title
    assert Screen().press("left") is Action.NONE
    assert "nudge" not in Screen().title


def test_an_arrow_is_no_letter() -> None:
    assert [key_name(code) for code in (0xFF51, 0xFF52, 0xFF53, 0xFF54)] == ["left", "up", "right", "down"]
    assert (key_name(ord("q")), key_name(-1), key_name(0xFFE1)) == ("q", "", "")


def test_a_nudge_that_is_refused_ends_no_run(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise CalibrationError("parallax dense needs a pose")

    control = RecordingControl()
    monkeypatch.setattr(control, "change", refuse)
    nudger = Nudger(control, sizes_px=SIZES_PX)
    nudger.press("right")
    nudger.apply()
    assert "the registration was not moved: parallax dense needs a pose" in caplog.text
    monkeypatch.undo()
    nudger.apply()
    assert control.changes == 0, "it is not tried again and again"
