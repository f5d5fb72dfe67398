"""The progress of long work for a person: a bar with the time left, or a line every few seconds where nobody looks."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from rtfusion.cli.console import is_looked_at, say
from rtfusion.progress import Step, listening

if TYPE_CHECKING:
    from rich.progress import Progress

TERMINAL_PERIOD_S = 0.25
PLAIN_PERIOD_S = 3.0
SHORT_S = 0.5
"""Shorter work shows no bar."""


@contextmanager
def shown_steps() -> Iterator[None]:
    """Show how far long work is that `rtfusion.progress` tells of."""
    steps = Steps()
    with listening(steps):
        try:
            yield
        finally:
            steps(None)


class Steps:
    """A listener of `rtfusion.progress`: a bar with the time left, or a line every few seconds where nobody looks."""

    def __init__(self) -> None:
        self._began_s: float | None = None
        self._next_s = 0.0
        self._bar: Progress | None = None

    def __call__(self, step: Step | None) -> None:
        """Show a step, when it is time to; None takes the bar away."""
        with suppress(OSError, SystemExit):  # the terminal went away, for which rich would end the process
            if step is None:
                self._end()
                return
            now_s = time.monotonic()
            if self._began_s is None:
                self._began_s = now_s
                self._next_s = now_s + (SHORT_S if is_looked_at() else PLAIN_PERIOD_S)
            if now_s >= self._next_s:
                self._next_s = now_s + (TERMINAL_PERIOD_S if is_looked_at() else PLAIN_PERIOD_S)
                self._show(step, now_s - self._began_s)

    def _show(self, step: Step, elapsed_s: float) -> None:
        if not is_looked_at():
            say(step_line(step, elapsed_s=elapsed_s))
            return
        if self._bar is None:
            self._bar = _steps_bar()
        (task,) = self._bar.task_ids
        total = None if step.share is None else 1.0
        text = step_line(step, elapsed_s=elapsed_s)
        self._bar.update(task, completed=step.share or 0.0, total=total, status=text, refresh=True)

    def _end(self) -> None:
        bar, self._bar, self._began_s = self._bar, None, None
        if bar is not None:
            bar.stop()


def step_line(step: Step, *, elapsed_s: float) -> str:
    """What is done, how much of it, and the time that is left of the whole, on one line."""
    parts = [f"{step.doing}, {step.done} of {step.total}" if step.total else f"{step.doing}, {step.done}"]
    if step.share:
        left_s = elapsed_s * (1 - step.share) / step.share
        parts.append(f"{left_s:.0f} s left" if left_s < 120 else f"{left_s / 60:.0f} min left")
    return ", ".join(parts)


def _steps_bar() -> Progress:
    """A bar that is gone when the work is done; what else is said appears above it."""
    from rich import progress
    from rich.console import Console

    status = progress.TextColumn("{task.fields[status]}", markup=False)
    display = progress.Progress(
        progress.BarColumn(),
        status,
        console=Console(stderr=True),
        auto_refresh=False,
        transient=True,
        redirect_stdout=sys.stdout.isatty(),  # else results would go to the terminal, and not where they were to
    )
    display.add_task("", total=None, status="")
    display.start()
    return display
