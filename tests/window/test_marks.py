"""Rectangles drawn in the window reach the run."""

from __future__ import annotations

import numpy as np
import pytest

from rtfusion.errors import ConfigError
from rtfusion.focus.boxes import MARKED, Box
from rtfusion.window.marks import Marker
from rtfusion.window.viewer import Pictures, Screen, View
from tests.support import RecordingControl

WIDE, HIGH = 64, 48


def screen(*, run: bool = True) -> Screen:
    made = Screen(nudges=run)
    gray = np.full((HIGH, WIDE), 90, np.uint8)
    made.take(Pictures(fused=np.repeat(gray[:, :, None], 3, axis=2), visible=gray, thermal=gray))
    return made


def test_a_rectangle_is_drawn_from_any_corner_and_shown_on_the_way() -> None:
    looking = screen()
    plain = looking.picture
    looking.grab(48, 36)
    assert looking.drag(16, 12)
    assert not np.array_equal(looking.picture, plain)
    assert looking.drop(16, 12) == (0.25, 0.25, 0.75, 0.75)
    assert np.array_equal(looking.picture, plain)
    looking.grab(32, 24)
    assert looking.drop(500, -7) == (0.5, 0.0, 1.0, 0.5), "beyond the picture it ends at its border"


def test_a_click_is_no_rectangle_and_neither_is_a_move_without_a_button() -> None:
    looking = screen()
    assert not looking.drag(3, 3)
    assert looking.drop(3, 3) is None
    looking.grab(3, 3)
    assert looking.drop(3, 3) is None


def test_nothing_is_drawn_before_the_first_picture_side_by_side_or_in_a_stream_of_others() -> None:
    empty, beside, watched = Screen(nudges=True), screen(), screen(run=False)
    beside.press("f")
    assert beside.view is View.SIDE_BY_SIDE
    for looking in (empty, beside, watched):
        looking.grab(1, 1)
        assert looking.drop(40, 40) is None


def test_marks_add_up_and_are_cleared_and_what_is_refused_is_told() -> None:
    control = RecordingControl()
    marker = Marker(control)
    assert marker.mark((0.1, 0.2, 0.3, 0.4)) == "1 marked, x clears"
    assert marker.mark((0.5, 0.2, 0.7, 0.4)) == "2 marked, x clears"
    assert control.regions is not None
    assert control.regions[0] == Box(target=MARKED, left=0.1, top=0.2, right=0.3, bottom=0.4)
    assert marker.press("i") is None
    assert len(control.regions) == 2
    assert marker.press("x") == "nothing marked"
    assert control.regions == ()


def test_a_run_that_takes_no_marks_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    control = RecordingControl()

    def refuse(change: object) -> None:
        raise ConfigError("boxes and rectangles change nothing here")

    monkeypatch.setattr(control, "change", refuse)
    assert Marker(control).mark((0.1, 0.2, 0.3, 0.4)) == "boxes and rectangles change nothing here"
