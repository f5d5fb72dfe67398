"""The window's state machine, its snapshots and its pipe; no display needed."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from multiprocessing import Pipe

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtfusion.window.viewer import Action, Pictures, Screen, View, receive, save_snapshot, send, window_size_px


def pictures(level: int, *, gray_visible: bool = False) -> Pictures:
    visible = np.full((4, 6, 3), level + 1, np.uint8)
    return Pictures(
        fused=np.full((4, 6, 3), level, np.uint8),
        visible=visible[:, :, 0] if gray_visible else visible,
        thermal=np.full((4, 6), level + 2, np.uint8),
    )


def levels(screen: Screen) -> list[int]:
    """Gray levels along the middle row, one per panel."""
    assert screen.picture is not None
    assert screen.picture.shape[2] == 3
    return screen.picture[2, ::6, 0].tolist()


def test_shows_the_newest_picture():
    screen = Screen()
    assert screen.picture is None
    for level in (10, 20):
        screen.take(pictures(level))
        assert levels(screen) == [level]


@pytest.mark.parametrize("gray_visible", [False, True])
def test_f_goes_round_the_views(gray_visible):
    screen = Screen()
    screen.take(pictures(10, gray_visible=gray_visible))
    seen = []
    for _ in range(5):
        seen.append((screen.view, levels(screen)))
        assert screen.press("f") is Action.NONE
    assert seen == [
        (View.FUSED, [10]),
        (View.SIDE_BY_SIDE, [11, 12, 10]),
        (View.THERMAL, [12]),
        (View.VISIBLE, [11]),
        (View.FUSED, [10]),
    ]


def test_parallax_is_a_view_of_the_run_that_has_it():
    screen = Screen()
    orange = np.full((2, 3, 3), (0, 140, 255), np.uint8)
    screen.take(replace(pictures(10), parallax=orange))
    for _ in range(4):
        screen.press("f")
    assert screen.view is View.PARALLAX
    assert screen.picture is not None
    assert screen.picture.shape == pictures(10).fused.shape
    assert screen.picture[0, 0, 2] > 2 * screen.picture[0, 0, 0], "orange over the gray of the visible picture"
    screen.take(pictures(20))
    assert screen.view is View.FUSED


def test_pause_holds_the_picture_while_new_ones_come():
    screen = Screen()
    screen.take(pictures(10))
    screen.press(" ")
    screen.take(pictures(20))
    screen.take(pictures(30))
    assert levels(screen) == [10]
    assert "paused" in screen.title
    screen.press("f")
    assert levels(screen) == [11, 12, 10]
    screen.press(" ")
    assert levels(screen) == [31, 32, 30]
    assert "paused" not in screen.title


def test_a_stream_of_fused_frames_has_one_view():
    screen = Screen()
    screen.take(pictures(10))
    screen.press("f")
    screen.press("f")
    assert screen.view is View.THERMAL
    screen.take(Pictures(fused=np.full((4, 6, 3), 9, np.uint8)))
    assert screen.view is View.FUSED
    screen.press("f")
    assert levels(screen) == [9]


@pytest.mark.parametrize("key", ["q", "Q", "\x1b"])
def test_keys_that_quit(key):
    assert Screen().press(key) is Action.QUIT


def test_a_snapshot_needs_a_picture():
    screen = Screen()
    assert screen.press("s") is Action.NONE
    screen.take(pictures(10))
    assert screen.press("s") is Action.SNAPSHOT


@given(st.lists(st.sampled_from(["take", "f", " ", "s", "x", "\xff"]), max_size=30))
def test_any_keys_leave_a_picture_to_show(steps):
    screen, newest = Screen(), 0
    for step in steps:
        if step == "take":
            newest += 1
            screen.take(pictures(newest))
        else:
            assert screen.press(step) in (Action.NONE, Action.SNAPSHOT)
        if newest and not screen.paused:
            assert levels(screen)[-1] in (newest, newest + 1, newest + 2)
        assert screen.view.value in screen.title


def test_windows_fit_the_screen_and_keep_the_shape():
    assert window_size_px((640, 480)) == (640, 480)
    assert window_size_px((1920, 480), largest_px=(960, 900)) == (960, 240)
    assert window_size_px((1000, 4000), largest_px=(1600, 1000)) == (250, 1000)
    assert window_size_px((9000, 1), largest_px=(900, 900)) == (900, 1)


def test_snapshots_are_png_files_that_replace_nothing(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    path = save_snapshot(picture, folder=tmp_path, now_s=1_700_000_000.25)
    assert path.parent == tmp_path
    assert path.name.startswith("rtfusion-2023111")
    assert path.name.endswith("-250.png")
    np.testing.assert_array_equal(cv2.imread(str(path)), picture)
    with pytest.raises(FileExistsError):
        save_snapshot(picture, folder=tmp_path, now_s=1_700_000_000.25)


@pytest.mark.parametrize(
    "sent",
    [
        pictures(10),
        pictures(10, gray_visible=True),
        Pictures(fused=np.arange(1_440_000, dtype=np.uint8).reshape(480, 1000, 3)),
    ],
)
def test_pictures_go_through_the_socket(sent):
    ours, theirs = Pipe()
    with ours, theirs:
        sender = threading.Thread(target=send, args=(ours, sent))
        sender.start()
        got = receive(theirs)
        sender.join()
    assert got is not None
    for name in ("fused", "visible", "thermal"):
        if getattr(sent, name) is None:
            assert getattr(got, name) is None
        else:
            np.testing.assert_array_equal(getattr(got, name), getattr(sent, name))


@pytest.mark.parametrize("sent_bytes", [0, 3, 40, 200])
def test_an_end_in_the_middle_is_an_end(sent_bytes):
    whole, spoken = Pipe()
    with whole, spoken:
        send(spoken, pictures(10))
        data = os.read(whole.fileno(), 4096)
    assert len(data) > sent_bytes
    ours, theirs = Pipe()
    with theirs:
        os.write(ours.fileno(), data[:sent_bytes])
        ours.close()
        assert receive(theirs) is None
