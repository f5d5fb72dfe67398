"""The progress of a run for a person: a bar for recordings, a status line for cameras, plain lines where nobody looks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from rtfusion.cli.console import is_looked_at, say
from rtfusion.cli.summary import count_drops
from rtfusion.config import Settings
from rtfusion.text import output_name

if TYPE_CHECKING:
    from rich.progress import Progress

TERMINAL_PERIOD_S = 0.25
PLAIN_PERIOD_S = 10.0


class Status:
    """Shows the telemetry of a run on stderr; `update` may be called as often as one likes."""

    def __init__(self, snapshot: Callable[[], Mapping[str, Any]], *, settings: Settings) -> None:
        self._snapshot = snapshot
        self._settings = settings
        self._period_s = TERMINAL_PERIOD_S if is_looked_at() else PLAIN_PERIOD_S
        self._next_s = time.monotonic() + self._period_s
        self._display: Progress | None = None
        self._nobody_looks = False

    def __enter__(self) -> Status:
        return self

    def __exit__(self, *error: object) -> None:
        if self._display is not None:
            self._show()
            with suppress(OSError, SystemExit):
                self._display.stop()

    def update(self) -> None:
        """Show how things stand, when it is time to."""
        now_s = time.monotonic()
        if now_s >= self._next_s and not self._nobody_looks:
            self._next_s = now_s + self._period_s
            self._show()

    def _show(self) -> None:
        try:
            self._draw()
        except (OSError, SystemExit):  # the terminal went away, for which rich would end the process
            self._nobody_looks = True

    def _draw(self) -> None:
        snapshot = self._snapshot()
        total = None if snapshot["live"] else expected_frames(snapshot, self._settings)
        if not is_looked_at():
            say(status_line(snapshot, total=total))
            return
        if self._display is None:
            self._display = _display(total)
        rate = f"{snapshot['fps_recent']:.0f} frames/s"
        status = status_line(snapshot, total=None) if total is None else rate
        (task,) = self._display.task_ids
        self._display.update(task, completed=snapshot["fused"], status=status, refresh=True)


def _display(total: int | None) -> Progress:
    """One line at the bottom of a terminal: bar and remaining time where the end is known, else the status."""
    from rich import progress
    from rich.console import Console

    status = progress.TextColumn("{task.fields[status]}", markup=False)
    columns: list[progress.ProgressColumn] = [status]
    if total is not None:
        bar = progress.BarColumn(bar_width=None)
        columns = [bar, progress.MofNCompleteColumn(), status, progress.TimeRemainingColumn()]
    display = progress.Progress(*columns, console=Console(stderr=True), auto_refresh=False, expand=total is not None)
    display.add_task("", total=total, status="")
    display.start()
    return display


def expected_frames(snapshot: Mapping[str, Any], settings: Settings) -> int | None:
    """Give the largest number of frames that a run of recordings will fuse, where that is known."""
    bands = ("visible",) if settings.pair == "hold" else ("visible", "thermal")
    counts = [snapshot["sources"][band]["frame_count"] for band in bands]
    known = [count for count in (*counts, settings.max_frames) if count is not None]
    return None if None in counts else min(known)


def status_line(snapshot: Mapping[str, Any], *, total: int | None) -> str:
    """Lost cameras, frames, rate, age of a fused frame, skew, and drops by where they were, on one line."""
    frames = f"{snapshot['fused']} of {total} frames" if total is not None else f"{snapshot['fused']} frames"
    parts = [*_lost(snapshot), frames, f"{snapshot['fps_recent']:.1f} frames/s"]
    if snapshot["live"]:
        parts += [f"age {snapshot['fused_age_ms']['p50']:.0f} ms"] if snapshot["fused_age_ms"]["count"] else []
        parts += [f"skew {snapshot['skew_ms']['p50']:.0f} ms"] if snapshot["skew_ms"]["count"] else []
    elif total is not None and snapshot["fps_recent"] > 0:
        parts.append(f"{(total - snapshot['fused']) / snapshot['fps_recent']:.0f} s left")
    places = {band: snapshot["drops"].get(band, {}) for band in ("visible", "thermal")}
    places |= {output_name(uri): causes for uri, causes in snapshot["drops"].get("sinks", {}).items()}
    dropped = [f"{place} {count}" for place, causes in places.items() if (count := count_drops(causes))]
    return ", ".join(parts) + (f"; dropped: {', '.join(dropped)}" if dropped else "")


def _lost(snapshot: Mapping[str, Any]) -> list[str]:
    """Which cameras are lost now, for how long, why, and what is shown."""
    found = ((band, source.get("outages", {}).get("now")) for band, source in snapshot["sources"].items())
    return [
        f"{band.upper()} LOST for {now['seconds']:.0f} s ({now['cause']}): {now['shown']}" for band, now in found if now
    ]
