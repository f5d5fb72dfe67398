"""What a service manager is told of a run (sd_notify(3)): ready, alive, and how things stand. Nothing where nobody asked."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from rtfusion.cli.progress import status_line

STATUS_S = 10.0
PINGS = 4
"""Signs of life in the time within which one has to come."""


class Supervised:
    """Tells the manager named in the environment; `update` may be called as often as one likes.

    Ready is a run with its first fused frame. It is alive as long as frames are fused: one that hangs gives no sign of life, and
    the manager starts it again (``WatchdogSec=`` of the unit).

    Args:
        snapshot: the measurements of the run (`rtfusion.telemetry.Telemetry.snapshot`).
        environ: ``NOTIFY_SOCKET``, ``WATCHDOG_USEC`` and ``WATCHDOG_PID`` as systemd sets them.
        process: the number of this process.
    """

    def __init__(
        self,
        snapshot: Callable[[], Mapping[str, Any]],
        *,
        environ: Mapping[str, str] = os.environ,
        process: int | None = None,
    ) -> None:
        self._snapshot = snapshot
        self._manager = environ.get("NOTIFY_SOCKET", "")
        is_for_us = environ.get("WATCHDOG_PID", "") in ("", str(os.getpid() if process is None else process))
        within_us = environ.get("WATCHDOG_USEC", "")
        self._within_s = int(within_us) / 1e6 if within_us.isdigit() and is_for_us else 0.0
        self._fused = 0
        self._fused_s = self._next_s = self._next_status_s = 0.0

    def update(self) -> None:
        """Say what is due."""
        now_s = time.monotonic()
        if not self._manager or now_s < self._next_s:
            return
        self._next_s = now_s + min(self._within_s / PINGS or STATUS_S, 1.0)
        snapshot = self._snapshot()
        said: list[str] = []
        if snapshot["fused"] > self._fused:
            said += ["READY=1"] if not self._fused else []
            self._fused, self._fused_s = snapshot["fused"], now_s
        if self._within_s and self._fused and now_s - self._fused_s < self._within_s / 2:
            said.append("WATCHDOG=1")
        if now_s >= self._next_status_s:
            self._next_status_s = now_s + STATUS_S
            said.append(f"STATUS={status_line(snapshot, total=None)}")
        self._tell(said)

    def stopping(self) -> None:
        """Say that the run is over."""
        self._tell(["STOPPING=1"])

    def _tell(self, said: list[str]) -> None:
        if not (self._manager and said):
            return
        # a name that begins with @ is one of Linux's that is no file
        address = f"\0{self._manager[1:]}" if self._manager.startswith("@") else self._manager
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            try:
                manager.setblocking(False)
                manager.sendto("\n".join(said).encode(), address)
            except OSError:  # the manager went away, or is busy: the next sign of life comes soon
                return
