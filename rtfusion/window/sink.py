"""A window on this desktop, for a run (`WindowSink`) and for a published stream (`view_stream`).

Keys: q or Esc quit, space pause, f fused / side by side / thermal / visible / parallax, s snapshot; in a run also those of
`rtfusion.window.nudge`, `rtfusion.window.wishes` and `rtfusion.window.marks`. The window lives in a process of its own;
`rtfusion.window.viewer` says why.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO

from rtfusion.errors import CaptureTimeout, ConfigError, SinkError
from rtfusion.fusion.color import displacement_bgr
from rtfusion.portable import needs
from rtfusion.sinks.base import SinkContext, StopRequested
from rtfusion.types import FusedFrame
from rtfusion.window.marks import Corners, Marker
from rtfusion.window.nudge import Nudger
from rtfusion.window.viewer import Pictures, send
from rtfusion.window.wishes import Wisher

_log = logging.getLogger(__name__)

START_S = 20.0
ANSWER_S = 5
"""Longest wait for the window's process to take a picture that it asked for, or to end."""
TICK_S = 0.1

_ELSEWHERE = (
    "A run can write a file (--sink out.mp4), be watched in a browser (--sink web://127.0.0.1:8080), or publish "
    "(--sink zmq:tcp://127.0.0.1:5555) to where there is one"
)


class WindowSink:
    """Shows the newest frame. Frames that come while one is being drawn are passed over: a window keeps no record."""

    def __init__(self, target: str, *, uri: str, context: SinkContext) -> None:
        self.uri = uri
        self._nudger: Nudger | None = None
        self._wisher: Wisher | None = None
        self._marker: Marker | None = None
        if context.control is not None and context.sizes_px:
            self._nudger = Nudger(context.control, sizes_px=context.sizes_px)
            self._wisher = Wisher(context.control)
            self._marker = Marker(context.control)
        is_run = self._nudger is not None
        self._viewer = Viewer(
            name="rtfusion", on_key=self._press if is_run else None, on_sentence=self._say, on_mark=self._mark
        )

    def write(self, frame: FusedFrame) -> None:
        """Show one frame.

        Raises:
            StopRequested: the user pressed q or closed the window.
            SinkError: the window is gone, with its display, or does not answer.
        """
        caption = "" if self._wisher is None else self._wisher.caption
        parallax = None if frame.displacement is None else displacement_bgr(frame.displacement)
        pictures = Pictures(
            fused=frame.image, visible=frame.visible, thermal=frame.thermal, parallax=parallax, caption=caption
        )
        self._viewer.show(pictures)
        if self._nudger is not None:
            self._nudger.apply()

    def close(self, *, aborted: bool) -> None:
        """Close the window. Idempotent."""
        self._viewer.close()

    def _press(self, key: str) -> None:
        for taker in (self._nudger, self._wisher):
            if taker is not None:
                taker.press(key)
        if self._marker is not None and self._wisher is not None and (told := self._marker.press(key)) is not None:
            self._wisher.caption = told

    def _mark(self, corners: Corners) -> None:
        if self._marker is not None and self._wisher is not None:
            self._wisher.caption = self._marker.mark(corners)

    def _say(self, text: str) -> None:
        if self._wisher is not None:
            self._wisher.say(text)


def view_stream(
    url: str,
    *,
    stop: threading.Event,
    timeout_s: float | None = None,
    server_key: str | None = None,
    keys: Path | None = None,
) -> None:
    """Show what a run publishes at ``url`` until ``stop`` is set or the user quits.

    Raises:
        ConfigError: there is no display, ``url`` is not an address, or a key cannot be used.
        CaptureTimeout: no frame came for ``timeout_s``.
        SinkError: the window is gone, with its display.
    """
    from rtfusion.publish.subscriber import subscribe

    frames = subscribe(url, timeout_s=TICK_S, server_key=server_key, keys=keys)
    with contextlib.suppress(StopRequested), frames, contextlib.closing(Viewer(name=frames.url)) as viewer:
        last_s = time.monotonic()
        while not stop.is_set():
            try:
                viewer.show(Pictures(fused=next(frames).image))
                last_s = time.monotonic()
            except CaptureTimeout:
                viewer.poll()
                if timeout_s is not None and time.monotonic() - last_s >= timeout_s:
                    raise CaptureTimeout(
                        f"no frame from {frames.url} within {timeout_s:g} s; is a run publishing there "
                        f"(--sink zmq:{frames.url})?"
                    ) from None


class Viewer:
    """A window in a process of its own."""

    def __init__(
        self,
        *,
        name: str,
        on_key: Callable[[str], None] | None = None,
        on_sentence: Callable[[str], None] | None = None,
        on_mark: Callable[[Corners], None] | None = None,
    ) -> None:
        """Open it; ``on_key`` gets the keys that the window does not answer itself, ``on_sentence`` what is typed.

        ``on_mark`` gets the corners of a rectangle that is drawn.

        Raises:
            ConfigError: there is no display that can be opened, or OpenCV was built without windows.
        """
        needs("linux", "macos", what="window:", instead="use web://127.0.0.1:8080")
        if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise ConfigError(f"no window can be opened: there is no display, DISPLAY is not set. {_ELSEWHERE}")
        self._on_key, self._on_sentence, self._on_mark = on_key, on_sentence, on_mark
        self._ready = self._quit = False
        ours, remote = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", ANSWER_S, 0))
        self._connection = Connection(ours.detach())
        with tempfile.TemporaryFile() as messages:
            with remote:
                self._process = _start(name, nudges=on_key is not None, connection=remote, messages=messages)
            try:
                self._wait_until_ready()
            except SinkError as error:
                self.close()
                raise ConfigError(f"no window can be opened: {_reason(messages) or error}. {_ELSEWHERE}") from None

    def show(self, pictures: Pictures) -> None:
        """Show these pictures, unless the ones before are still being drawn.

        Raises:
            StopRequested: the user quit.
            SinkError: the window is gone or does not answer.
        """
        self.poll()
        if not self._ready:
            return
        self._ready = False
        try:
            send(self._connection, pictures)
        except BlockingIOError:
            raise SinkError(f"the window took no picture within {ANSWER_S} s; is its display still there?") from None
        except OSError:
            self.poll()  # it may have said goodbye
            raise self._gone() from None

    def poll(self) -> None:
        """Take in what the window said.

        Raises:
            StopRequested: the user quit.
            SinkError: the window is gone.
        """
        while not self._quit and self._connection.poll():
            self._take_event()
        if self._quit:
            raise StopRequested

    def close(self) -> None:
        """Close the window and wait for its process. Idempotent."""
        self._connection.close()
        try:
            self._process.wait(ANSWER_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _wait_until_ready(self) -> None:
        deadline_s = time.monotonic() + START_S
        while not self._ready:
            if not self._connection.poll(max(0.0, deadline_s - time.monotonic())):
                self._process.kill()
                raise SinkError(f"none appeared within {START_S:g} s")
            self._take_event()

    def _take_event(self) -> None:
        try:
            event, text = self._connection.recv()
        except (EOFError, OSError):
            raise self._gone() from None
        if event == "ready":
            self._ready = True
        elif event == "quit":
            self._quit = True
        elif event == "saved":
            _log.info("snapshot: %s", text)
        elif event == "failed":
            _log.warning("the snapshot could not be written: %s", text)
        elif event == "error":
            raise SinkError(text)
        elif event == "say" and self._on_sentence is not None:
            self._on_sentence(text)
        elif event == "mark" and self._on_mark is not None:
            left, top, right, bottom = map(float, text.split())
            self._on_mark((left, top, right, bottom))
        elif event == "key" and self._on_key is not None:
            self._on_key(text)

    def _gone(self) -> SinkError:
        try:
            status = f"its process ended with status {self._process.wait(ANSWER_S)}"
        except subprocess.TimeoutExpired:
            status = "its process does not answer"
        return SinkError(f"the window is gone: {status}; was its display closed?")


def _start(name: str, *, nudges: bool, connection: socket.socket, messages: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - this very Python
        [sys.executable, "-m", "rtfusion.window.viewer", name, *(["nudges"] if nudges else [])],
        stdin=connection.fileno(),
        stdout=subprocess.DEVNULL,
        stderr=messages,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        start_new_session=True,  # Ctrl-C is for the run, which closes the window when it is done
    )


def _reason(messages: IO[bytes]) -> str | None:
    """The line in which Qt speaks of the display."""
    messages.seek(0)
    lines = (line.strip() for line in messages.read().decode(errors="replace").splitlines())
    return next((line.removeprefix("qt.qpa.xcb: ") for line in lines if "display" in line), None)
