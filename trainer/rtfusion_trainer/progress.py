"""The progress of a training run for a person: a bar on a terminal, plain lines elsewhere, and curves for TensorBoard."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rtfusion.errors import ConfigError
from rtfusion.installing import install

POINT_EVERY = 50
"""Steps from one point of a curve to the next."""
PLAIN_PERIOD_S = 10.0
"""From one plain line to the next."""
MEMORY = 0.98
"""Memory of the moving averages that are shown."""


class Stopped(Exception):  # noqa: N818 - it is no error
    """What was asked to stop did so before its end, and leaves nothing."""


def heed(stop: Callable[[], bool]) -> None:
    """Go on, unless ``stop`` says otherwise.

    Raises:
        Stopped: it does.
    """
    if stop():
        raise Stopped


def tell(text: str, *, silent: bool = False) -> None:
    """One line on stderr; nothing where ``silent``, as all processes but the first are."""
    if not silent:
        sys.stderr.write(f"{text}\n")


def saved(path: Path, *, finished: int, total: int, then: str = "", silent: bool = False) -> None:
    """Say where a training was saved, whether it was the end of it, and the command that comes ``then``."""
    if finished < total:
        tell(f"stopped after step {finished} of {total}, saved in {path}; the same command goes on", silent=silent)
        return
    tell(f"all {total} steps are done, saved in {path}" + (f"; next: {then}" if then else ""), silent=silent)


@contextlib.contextmanager
def shown(
    *, total: int, finished: int = 0, what: str = "step", curves: Path | None = None, silent: bool = False
) -> Iterator[Callable[[int, Mapping[str, float]], None]]:
    """Show moving averages on stderr; call what this yields with the number, from 1, and the values of every step.

    The time of a step is counted from the end of the first one: what is prepared before is none.

    Args:
        total: number of steps.
        finished: number of those that are done already.
        what: what a step is, for a person.
        curves: folder for TensorBoard's curves.
        silent: show nothing and write nothing, as all processes but the first do.
    """
    if silent:
        yield lambda step, values: None
        return
    if finished < total:
        tell(
            f"preparing; {total} {what}s" if not finished else f"preparing; going on after {what} {finished} of {total}"
        )
    smooth: dict[str, float] = {}
    first: list[tuple[int, float]] = []
    """Number and time of the first step that came."""
    next_s = [time.monotonic() + PLAIN_PERIOD_S]
    bar = _bar(total, finished=finished) if sys.stderr.isatty() else None
    writer = None if curves is None else _writer(curves)

    def show(step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            smooth[name] = MEMORY * smooth.get(name, value) + (1 - MEMORY) * value
        texts = [f"{name} {value:.4f}" for name, value in smooth.items()]
        if bar is not None:  # beside which there is room for one
            bar.update(bar.task_ids[0], completed=step, description=" ".join(texts[:1]))
        now_s = time.monotonic()
        first.extend([(step, now_s)] if not first else [])
        if bar is None and (now_s >= next_s[0] or step == total):
            next_s[0] = now_s + PLAIN_PERIOD_S
            parts = [f"{what} {step}/{total}"]
            if step > first[0][0]:
                per_step_s = (now_s - first[0][1]) / (step - first[0][0])
                parts.append(f"{per_step_s:.2f} s per {what}")
                parts += [f"{_duration((total - step) * per_step_s)} left"] if step < total else []
            tell(": ".join(filter(None, [", ".join(parts), " ".join(texts)])))
        if writer is not None and (step % POINT_EVERY == 0 or step == total):
            for name, value in smooth.items():
                writer.add_scalar(name, value, step)

    with bar or contextlib.nullcontext(), contextlib.closing(writer) if writer else contextlib.nullcontext():
        yield show


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _bar(total: int, *, finished: int) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}", markup=False))
    progress = Progress(*columns, console=Console(stderr=True))
    progress.add_task("", total=total, completed=finished)
    return progress


def _writer(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError(f"--tensorboard needs tensorboard; run {install('train')}") from error
    return SummaryWriter(str(folder))
