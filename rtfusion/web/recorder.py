"""The record button: a video file that begins and ends while the run goes on."""

from __future__ import annotations

import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from rtfusion.errors import ConfigError, FusionError
from rtfusion.sinks.base import SinkContext
from rtfusion.sinks.thread import SinkThread
from rtfusion.telemetry import Telemetry
from rtfusion.types import FusedFrame

PATIENCE_S = 2.0
"""Longest that a run over recordings waits for the file; live, frames that it cannot take in time are lost and counted."""
FINISH_S = 5.0
END_S = 1.0
"""Longest wait for a file to be finished, when it is stopped and when the run ends. It plays even if that was too short."""


class Recorder:
    """Writes video files into a folder, one at a time. What breaks a recording ends it, never the run."""

    def __init__(self, folder: Path, *, context: SinkContext, uri: str) -> None:
        """Make the folder, where it is not there.

        Raises:
            ConfigError: it cannot be made or written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise ConfigError(
                f"{uri}: nothing can be recorded into {folder}: {error.strerror}; name a folder that can be written"
            ) from None
        self._folder = folder
        self._context = context
        self._lock = threading.Lock()
        self._thread: SinkThread | None = None
        self._state: dict[str, Any] = {
            "on": False,
            "file": None,
            "elapsed_s": 0.0,
            "frames": 0,
            "dropped": 0,
            "error": None,
        }
        self._started_s = 0.0
        self._closed = False

    @property
    def state(self) -> dict[str, Any]:
        """JSON-able: whether it records, which file, for how long, and what went wrong."""
        with self._lock:
            self._measure()
            return dict(self._state)

    def start(self) -> None:
        """Begin a file; does nothing while there is one.

        Raises:
            ConfigError: it cannot be made.
        """
        from rtfusion.sinks.video import VideoSink

        with self._lock:
            if self._thread is not None or self._closed:
                return
            path = self._folder / time.strftime("rtfusion-%Y%m%d-%H%M%S.mp4")
            sink = VideoSink(path, context=replace(self._context, overwrite=False))
            self._thread = SinkThread(sink, live=self._context.live, telemetry=Telemetry(), stop=lambda: None)
            self._thread.start()
            self._state |= {"on": True, "file": path.name, "frames": 0, "error": None}
            self._started_s = time.monotonic()

    def stop(self, *, timeout_s: float = FINISH_S) -> None:
        """End the file, and wait until it is finished; does nothing while there is none."""
        with self._lock:
            thread = self._forget(None)
        if thread is None:
            return
        thread.finish()
        if not thread.join(timeout_s=timeout_s):
            self._state["error"] = f"{thread.uri} is not finished yet; what was recorded plays"
        elif thread.error is not None:
            self._state["error"] = _sentence(thread.error)

    def put(self, frame: FusedFrame) -> None:
        """Record one frame, if there is a recording."""
        with self._lock:
            thread = self._thread
        if thread is None:
            return
        in_time = thread.put(frame, timeout_s=PATIENCE_S)
        with self._lock:
            if thread is not self._thread:
                return
            if thread.error is not None or not in_time:
                late = f"the disk took no frame for {PATIENCE_S:g} s"
                self._forget(late if thread.error is None else _sentence(thread.error))
                thread.finish()
                return
            self._state["frames"] += 1

    def close(self) -> None:
        """End what is being recorded; nothing begins afterwards."""
        self._closed = True
        self.stop(timeout_s=END_S)

    def _measure(self) -> None:
        if self._thread is not None:
            self._state |= {"elapsed_s": time.monotonic() - self._started_s, "dropped": self._thread.dropped}

    def _forget(self, error: str | None) -> SinkThread | None:
        """No longer record, and say why; the lock is held."""
        self._measure()
        thread, self._thread = self._thread, None
        if thread is not None:
            self._state |= {"on": False, "error": error}
        return thread


def _sentence(error: BaseException) -> str:
    return str(error) if isinstance(error, FusionError) else f"the recording broke: {error!r}"
