"""The progress of a run for a person: a bar for recordings, a status line for cameras, plain lines where nobody looks."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from rtfusion.cli.console import say
from rtfusion.cli.summary import count_drops
from rtfusion.config import Settings

TERMINAL_PERIOD_S = 0.25
PLAIN_PERIOD_S = 10.0


class Status:
    """Shows the telemetry of a run on stderr; `update` may be called as often as one likes."""

    def __init__(self, snapshot: Callable[[], Mapping[str, Any]], *, settings: Settings) -> None:
        self._snapshot = snapshot
        self._settings = settings
        self._on_terminal = sys.stderr.isatty()
        self._period_s = TERMINAL_PERIOD_S if self._on_terminal else PLAIN_PERIOD_S
        self._next_s = time.monotonic() + self._period_s
        self._display: _Display | None = None

    def __enter__(self) -> Status:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._display is not None:
            self._show()
            self._display.stop()

    def update(self) -> None:
        """Show how things stand, when it is time to."""
        now_s = time.monotonic()
        if now_s >= self._next_s:
            self._next_s = now_s + self._period_s
            self._show()

    def _show(self) -> None:
        snapshot = self._snapshot()
        total = None if snapshot["live"] else expected_frames(snapshot, self._settings)
        if not self._on_terminal:
            say(status_line(snapshot, total=total))
            return
        if self._display is None:
            self._display = _Display(total=total)
        self._display.show(snapshot)


class _Display:
    """One line at the bottom of a terminal: bar and remaining time where the end is known, else the status."""

    def __init__(self, *, total: int | None) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            ProgressColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        status = TextColumn("{task.fields[status]}", markup=False)
        columns: list[ProgressColumn] = [status]
        if total is not None:
            columns = [BarColumn(bar_width=None), MofNCompleteColumn(), status, TimeRemainingColumn()]
        self._progress = Progress(*columns, console=Console(stderr=True), auto_refresh=False, expand=total is not None)
        self._has_total = total is not None
        self._task = self._progress.add_task("", total=total, status="")
        self._progress.start()

    def show(self, snapshot: Mapping[str, Any]) -> None:
        fps = f"{snapshot['fps_recent']:.0f} frames/s"
        status = fps if self._has_total else status_line(snapshot, total=None)
        self._progress.update(self._task, completed=snapshot["fused"], status=status, refresh=True)

    def stop(self) -> None:
        self._progress.stop()


def expected_frames(snapshot: Mapping[str, Any], settings: Settings) -> int | None:
    """Give the largest number of frames that a run of recordings will fuse, where that is known."""
    bands = ("visible",) if settings.pair == "hold" else ("visible", "thermal")
    counts = [snapshot["sources"][band]["frame_count"] for band in bands]
    known = [count for count in (*counts, settings.max_frames) if count is not None]
    return None if None in counts else min(known)


def status_line(snapshot: Mapping[str, Any], *, total: int | None) -> str:
    """Frames, rate, age, skew and drops on one line."""
    frames = f"{snapshot['fused']} of {total} frames" if total is not None else f"{snapshot['fused']} frames"
    parts = [frames, f"{snapshot['fps_recent']:.1f} frames/s"]
    if snapshot["live"]:
        ages = [age["p50"] for age in snapshot["age_ms"].values() if age["count"]]
        parts += [f"age {max(ages):.0f} ms"] if ages else []
        parts += [f"skew {snapshot['skew_ms']['p50']:.0f} ms"] if snapshot["skew_ms"]["count"] else []
    elif total is not None and snapshot["fps_recent"] > 0:
        parts.append(f"{(total - snapshot['fused']) / snapshot['fps_recent']:.0f} s left")
    dropped = count_drops(snapshot["drops"])
    return ", ".join([*parts, f"{dropped} dropped"] if dropped else parts)
