"""The window itself, on a virtual display where there is one; its failures without a display, everywhere."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from rtfusion.errors import CaptureTimeout, ConfigError, SinkError
from rtfusion.registration import Calibration
from rtfusion.sinks import Sink, SinkContext, StopRequested, open_sink
from rtfusion.types import Band
from rtfusion.window.sink import view_stream
from tests.support import RecordingControl

PATIENCE_S = 30.0

needs_windows = pytest.mark.skipif(not cv2.currentUIFramework(), reason="this OpenCV was built without windows")


@pytest.fixture
def display(monkeypatch) -> Iterator[subprocess.Popen[bytes]]:
    """A virtual X server, and DISPLAY set to it; -noreset, or it restarts whenever the last window has gone."""
    if shutil.which("Xvfb") is None or shutil.which("xdotool") is None:
        pytest.skip("no Xvfb and xdotool here; apt-get install xvfb xdotool")
    read, write = os.pipe()
    with subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-screen", "0", "1024x768x24", "-noreset", "-nolisten", "tcp"],
        pass_fds=[write], stderr=subprocess.DEVNULL,
    ) as server:  # fmt: skip
        os.close(write)
        with os.fdopen(read) as numbers:
            monkeypatch.setenv("DISPLAY", f":{numbers.readline().strip()}")
        monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
        yield server
        server.terminate()


def open_window(control: RecordingControl) -> Sink:
    """The window of a run, which a person may change."""
    sizes_px = dict.fromkeys(Band, (320, 240))
    return open_sink(
        "window:", context=SinkContext(rate_hz=30.0, live=False, session="run", control=control, sizes_px=sizes_px)
    )


def xdotool(*arguments: str) -> str:
    done = subprocess.run(["xdotool", *arguments], capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    return done.stdout.strip()


def drag(window: str, *places: tuple[int, int]) -> None:
    """Press the left button at the first place, and let it go at the last one."""
    for index, (x_px, y_px) in enumerate(places):
        xdotool("mousemove", "--sync", "--window", window, str(x_px), str(y_px))
        if index == 0:
            xdotool("mousedown", "1")
    xdotool("mouseup", "1")


def title() -> str:
    return xdotool("search", "--name", "fused|thermal", "getwindowname")


def write_until(sink, frame, condition, *, key: str | None = None) -> None:
    """Go on writing until the condition holds. A key is pressed first, and again when it had no effect for long."""
    deadline_s = time.monotonic() + PATIENCE_S
    pressed_s = 0.0
    while not condition():
        now_s = time.monotonic()
        assert now_s < deadline_s
        if key is not None and now_s - pressed_s > 3.0:
            pressed_s = now_s
            xdotool("search", "--name", "fused|thermal", "key", key)
        sink.write(frame)


@needs_windows
def test_keys_reach_the_run(display, tmp_path, monkeypatch, make_context, make_frame, caplog):
    monkeypatch.chdir(tmp_path)
    frame = make_frame(0, size_px=(320, 240))
    sink = open_sink("window:", context=make_context())
    try:
        write_until(sink, frame, lambda: "| fused |" in " ".join(title().split()))
        write_until(sink, frame, lambda: "visible, thermal, fused" in title(), key="f")
        write_until(sink, frame, lambda: "paused" in title(), key="space")
        with caplog.at_level(logging.INFO):
            write_until(sink, frame, lambda: "snapshot: " in caplog.text, key="s")
        snapshot = next(tmp_path.iterdir())
        thermal = np.repeat(frame.thermal[:, :, None], 3, axis=2)
        np.testing.assert_array_equal(cv2.imread(str(snapshot)), np.hstack([frame.image, thermal, frame.image]))
        with pytest.raises(StopRequested):
            write_until(sink, frame, lambda: False, key="q")
        with pytest.raises(StopRequested):
            sink.write(frame)
    finally:
        sink.close(aborted=False)
        sink.close(aborted=False)


@needs_windows
def test_keys_nudge_the_registration(display, tmp_path, monkeypatch, make_frame):
    monkeypatch.chdir(tmp_path)
    control = RecordingControl()
    sink = open_window(control)
    frame = make_frame(0, size_px=(320, 240))
    try:
        write_until(sink, frame, lambda: "nudge" in title())
        write_until(sink, frame, lambda: control.calibration is not None, key="Right")
        assert control.calibration is not None
        assert control.calibration.homography_px[0, 2] >= 1.0
        write_until(sink, frame, lambda: list(tmp_path.glob("calibration-*.json")), key="w")
        assert Calibration.load(next(tmp_path.iterdir())) == control.calibration
    finally:
        sink.close(aborted=False)


@needs_windows
def test_a_rectangle_that_is_dragged_reaches_the_run_where_it_was_drawn(display, make_frame):
    control = RecordingControl()
    sink = open_window(control)
    frame = make_frame(0, size_px=(320, 240))
    try:
        write_until(sink, frame, lambda: "marks" in title())
        window = xdotool("search", "--name", "marks").splitlines()[0]

        def drawn() -> bool:
            drag(window, (80, 60), (120, 120), (160, 180))
            for _ in range(5):
                sink.write(frame)
                time.sleep(0.05)
            return bool(control.regions)

        write_until(sink, frame, drawn)
        box = control.regions[0]
        assert (box.left, box.top, box.right, box.bottom) == pytest.approx((0.25, 0.25, 0.5, 0.75), abs=0.05)
        write_until(sink, frame, lambda: not control.regions, key="x")
    finally:
        sink.close(aborted=False)


@needs_windows
def test_two_runs_in_one_process(display, make_context, make_frame):
    def run() -> None:
        sink = open_sink("window:", context=make_context())
        sink.write(make_frame(0))
        sink.close(aborted=False)
        finished.append(True)

    finished: list[bool] = []
    for _ in range(2):
        thread = threading.Thread(target=run)
        thread.start()
        thread.join(PATIENCE_S)
    assert finished == [True, True]


@needs_windows
def test_a_display_that_goes_away_is_an_error_and_no_end_of_the_process(display, make_context, make_frame):
    sink = open_sink("window:", context=make_context())
    sink.write(make_frame(0))
    display.send_signal(signal.SIGKILL)
    with pytest.raises(SinkError, match="the window is gone"):
        write_until(sink, make_frame(1), lambda: False)
    sink.close(aborted=True)


@needs_windows
def test_a_window_that_hangs_is_an_error(display, make_context, make_frame, monkeypatch):
    monkeypatch.setattr("rtfusion.window.sink.ANSWER_S", 1)
    sink = open_sink("window:", context=make_context())
    os.kill(sink._viewer._process.pid, signal.SIGSTOP)
    with pytest.raises(SinkError, match="the window took no picture within 1 s"):
        write_until(sink, make_frame(1, size_px=(1280, 960)), lambda: False)
    sink.close(aborted=True)


@needs_windows
def test_view_shows_a_published_stream(display, make_context, make_frame):
    publisher = open_sink("zmq:tcp://127.0.0.1:*", context=make_context(live=True))
    stop = threading.Event()
    failures: list[BaseException] = []

    def view() -> None:
        try:
            view_stream(publisher.endpoint, stop=stop)
        except BaseException as error:  # noqa: BLE001 - shown by the assertion below
            failures.append(error)

    for end in ("q", "stop"):
        viewer = threading.Thread(target=view)
        viewer.start()
        write_until(publisher, make_frame(0), lambda: "fused" in title())
        if end == "stop":
            stop.set()
        write_until(publisher, make_frame(0), lambda: not viewer.is_alive(), key="q" if end == "q" else None)  # noqa: B023
    publisher.close(aborted=True)
    assert failures == []


@needs_windows
def test_view_gives_up_without_frames(display):
    with pytest.raises(CaptureTimeout, match=r"no frame from tcp://127.0.0.1:9 within 0.2 s"):
        view_stream("tcp://127.0.0.1:9", stop=threading.Event(), timeout_s=0.2)


def test_without_a_display(make_context, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(ConfigError, match=r"DISPLAY is not set.*--sink out.mp4"):
        open_sink("window:", context=make_context())


@needs_windows
def test_with_a_wrong_display(make_context, monkeypatch):
    monkeypatch.setenv("DISPLAY", ":54321")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(ConfigError, match=r"could not connect to display :54321.*--sink out.mp4"):
        open_sink("window:", context=make_context())
