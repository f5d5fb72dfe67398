"""What a person sees of a training run: a bar on a terminal, plain lines elsewhere, and curves for TensorBoard."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from rtfusion.errors import ConfigError

PLAIN_EVERY = 50
"""Steps from one plain line, or point of a curve, to the next."""
MEMORY = 0.98
"""Of the moving averages that are shown."""


class Progress:
    """Called with the step and its values after every step; shows moving averages on stderr."""

    def __init__(self, *, total: int, finished: int = 0, curves: Path | None = None, silent: bool = False) -> None:
        """``finished`` of ``total`` steps are done; ``curves`` is TensorBoard's folder; all but the first process are silent."""
        self._total, self._first = total, finished
        self._silent = silent
        self._began_s = time.monotonic()
        self._smooth: dict[str, float] = {}
        self._bar: Any = None
        self._writer = None if silent or curves is None else _writer(curves)

    def __enter__(self) -> Progress:
        if not self._silent and sys.stderr.isatty():
            self._bar = bar()
            self._task = self._bar.add_task("", total=self._total, completed=self._first)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        if self._writer is not None:
            self._writer.close()

    def __call__(self, step: int, values: Mapping[str, float]) -> None:
        """After step number ``step``, from 1."""
        if self._silent:
            return
        for name, value in values.items():
            self._smooth[name] = MEMORY * self._smooth.get(name, value) + (1 - MEMORY) * value
        texts = [f"{name} {value:.4f}" for name, value in self._smooth.items()]
        if self._bar is not None:  # beside which there is room for one
            self._bar.update(self._task, completed=step, description=" ".join(texts[:1]))
        if step % PLAIN_EVERY and step != self._total:
            return
        if self._bar is None:
            per_step_s = (time.monotonic() - self._began_s) / max(1, step - self._first)
            left_min = (self._total - step) * per_step_s / 60
            sys.stderr.write(
                f"step {step}/{self._total}, {per_step_s:.2f} s per step, {left_min:.0f} min left: {' '.join(texts)}\n"
            )
        if self._writer is not None:
            for name, value in self._smooth.items():
                self._writer.add_scalar(name, value, step)


def bar() -> Any:
    """Rich's progress display, on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}", markup=False))
    return Progress(*columns, console=Console(stderr=True))


def _writer(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError("--tensorboard needs tensorboard; run pip install 'rtfusion[train]'") from error
    return SummaryWriter(str(folder))
