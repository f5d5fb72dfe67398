"""Ctrl-C and termination: the first one asks the run to finish, the second one ends the process.

A terminal that goes away (SIGHUP) asks as SIGTERM does; where that is ignored, as under ``nohup``, it stays so.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

from rtfusion.cli.console import is_looked_at, log_line

REPEAT_S = 0.5
"""One request may arrive twice: `timeout` and some terminals signal the process and then its group."""
SHOW_CURSOR = "\x1b[?25h"
_HANGUP: signal.Signals | None = getattr(signal, "SIGHUP", None)
"""Windows has none."""


class Stopping:
    """While entered, SIGINT, SIGTERM and SIGHUP set `event`; `exit_code` says which of them came."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.signal: signal.Signals | None = None
        self._signaled_s = 0.0
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Stopping:
        for number in filter(None, (signal.SIGINT, signal.SIGTERM, _HANGUP)):
            if number is _HANGUP and signal.getsignal(number) is signal.SIG_IGN:
                continue
            self._previous[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @property
    def exit_code(self) -> int:
        """0, or 128 plus the signal: 130 after Ctrl-C, 143 after a request to terminate."""
        return 0 if self.signal is None else 128 + self.signal

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        number = signal.SIGTERM if number == _HANGUP else number
        if self.signal is None:
            self.signal = signal.Signals(number)
            self._signaled_s = time.monotonic()
            self.event.set()
            _write_now("stopping, finishing outputs... (again to quit at once)")
        elif time.monotonic() - self._signaled_s >= REPEAT_S:
            _write_now("stopped at once; the last frames may be missing from the outputs", with_cursor=True)
            os._exit(128 + number)


def _write_now(message: str, *, with_cursor: bool = False) -> None:
    """Past the buffers of stderr, in the middle of whose work a signal may come."""
    line = f"{log_line(message)}\n"
    with contextlib.suppress(OSError):  # nobody is left to read it
        if is_looked_at():  # below a bar or a status line, which hides the cursor
            line = f"\n{line}{SHOW_CURSOR if with_cursor else ''}"
        os.write(sys.stderr.fileno(), line.encode())
