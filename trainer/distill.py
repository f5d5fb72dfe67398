"""Train a student.

::

    python -m trainer.distill --preset small --data DIR --out DIR [--steps N] [--device cuda] [--overfit] [--tensorboard]

Started again with the same ``--out`` it goes on where it stopped. Ctrl-C finishes the step, saves, and ends.
"""

from __future__ import annotations

import argparse
import copy
import math
import signal
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rtfusion.errors import FusionError
from trainer import checkpoint
from trainer.config import Schedule, TrainingConfig, config_from_dict, load_config
from trainer.data import Batch, Pair, load_pairs, make_batch
from trainer.objective import objective
from trainer.student import Student

CHECKPOINT = "checkpoint.pt"
GRADIENT_LIMIT = 1.0
Log = Callable[[int, float, dict[str, float]], None]


class Run:
    """One training run: the student, its moving average and its optimizer; `step` at a time."""

    def __init__(self, config: TrainingConfig, *, device: torch.device) -> None:
        torch.manual_seed(config.schedule.seed)
        self.config = config
        self.device = device
        self.finished_steps = 0
        self.student = Student(config.network).to(device)
        self.average = copy.deepcopy(self.student).requires_grad_(False)
        self._optimizer = torch.optim.AdamW(
            self.student.parameters(), lr=config.schedule.learning_rate, weight_decay=config.schedule.weight_decay
        )

    def step(self, batch: Batch) -> tuple[float, dict[str, float]]:
        """One step of the optimizer; gives the loss and its terms.

        Raises:
            FloatingPointError: the loss is not finite.
        """
        batch = batch.to(self.device)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(self.config.schedule, self.finished_steps)
        self.student.train()
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.device.type == "cuda"):
            fused = self.student(batch.visible, batch.thermal, batch.enhance, batch.means[:, :1], batch.means[:, 1:])
        loss, terms = objective(fused.float(), batch, self.config.weights)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss is {float(loss)} at step {self.finished_steps}: {terms}")
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.student.parameters(), GRADIENT_LIMIT)
        self._optimizer.step()
        self.finished_steps += 1
        self._follow()
        return float(loss.detach()), terms

    def _follow(self) -> None:
        """The average follows fast at first, then with the memory of the configuration."""
        kept = min(self.config.schedule.ema, self.finished_steps / (self.finished_steps + 10))
        for slow, fast in zip(self.average.parameters(), self.student.parameters(), strict=True):
            slow.lerp_(fast.detach(), 1 - kept)

    def save(self, path: Path) -> None:
        """Write everything that `resume` needs."""
        checkpoint.save(
            checkpoint.Checkpoint(
                step=self.finished_steps,
                config=self.config.to_dict(),
                model=self.student.state_dict(),
                average=self.average.state_dict(),
                optimizer=self._optimizer.state_dict(),
            ),
            path,
        )

    def start_from(self, path: Path) -> None:
        """Begin with the averaged weights of another run."""
        weights = checkpoint.load(path).average
        self.student.load_state_dict(weights)
        self.average.load_state_dict(weights)

    def resume(self, path: Path) -> None:
        """Go on from ``path``."""
        state = checkpoint.load(path)
        self.student.load_state_dict(state.model)
        self.average.load_state_dict(state.average)
        self._optimizer.load_state_dict(state.optimizer)
        self.finished_steps = state.step


def learning_rate(schedule: Schedule, step: int) -> float:
    """Linear warm-up, then half a cosine down to a hundredth."""
    if step < schedule.warmup_steps:
        return schedule.learning_rate * (step + 1) / schedule.warmup_steps
    done = (step - schedule.warmup_steps) / max(1, schedule.steps - schedule.warmup_steps)
    return schedule.learning_rate * (0.01 + 0.99 * (1 + math.cos(math.pi * min(done, 1.0))) / 2)


def load_average(path: Path) -> Student:
    """The trained student of a checkpoint, ready for use."""
    state = checkpoint.load(path)
    student = Student(config_from_dict(state.config).network)
    student.load_state_dict(state.average)
    return student.eval()


def train(run: Run, pairs: list[Pair], *, out: Path, overfit: bool = False, log: Log | None = None) -> None:
    """Train to the end of the schedule or to an interrupt, saving on the way."""
    schedule = run.config.schedule
    stop = _StopOnInterrupt()
    with stop, ThreadPoolExecutor(1) as pool:

        def prepare(step: int) -> Future[Batch]:
            return pool.submit(make_batch, pairs, run.config, step=0 if overfit else step)

        following = prepare(run.finished_steps)
        while run.finished_steps < schedule.steps and not stop.requested:
            batch = following.result()
            following = prepare(run.finished_steps + 1)
            loss, terms = run.step(batch)
            if log is not None:
                log(run.finished_steps, loss, terms)
            if run.finished_steps % schedule.save_every == 0:
                run.save(out / CHECKPOINT)
    run.save(out / CHECKPOINT)


class _StopOnInterrupt:
    """Turns the first Ctrl-C into a request; a second one interrupts as usual."""

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGINT, self._request)

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _request(self, *_: object) -> None:
        self.requested = True
        signal.signal(signal.SIGINT, signal.default_int_handler)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; gives the exit code."""
    options = _parser().parse_args(arguments)
    try:
        _train(options)
    except FusionError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


def _train(options: argparse.Namespace) -> None:
    config = load_config(options.preset)
    if options.steps is not None:
        config = replace(config, schedule=replace(config.schedule, steps=options.steps))
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    run = Run(config, device=torch.device(options.device))
    if (options.out / CHECKPOINT).exists():
        run.resume(options.out / CHECKPOINT)
        sys.stderr.write(f"going on after step {run.finished_steps}\n")
    elif options.init is not None:
        run.start_from(options.init)
    pairs = load_pairs(options.data)
    train(run, pairs, out=options.out, overfit=options.overfit, log=_logger(config, options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m trainer.distill", description="Train a student.")
    parser.add_argument("--preset", default="small", help="name of a preset, or a TOML file")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folders SET/vi and SET/ir")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for the checkpoint; resumed if there")
    parser.add_argument("--steps", type=int, metavar="N", help="instead of the preset's")
    parser.add_argument("--init", type=Path, metavar="FILE", help="checkpoint to take the first weights from")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, metavar="N", help="of the CPU")
    parser.add_argument("--overfit", action="store_true", help="train on one batch, to see that it learns")
    parser.add_argument("--tensorboard", action="store_true", help="write curves beside the checkpoint")
    return parser


def _logger(config: TrainingConfig, options: argparse.Namespace) -> Log:
    """Progress on one line of the error stream, and curves where asked for."""
    writer: Any = None
    if options.tensorboard:
        from torch.utils.tensorboard import SummaryWriter

        writer = SummaryWriter(str(options.out))
    began, first = time.monotonic(), None
    smooth: dict[str, float] = {}

    def log(step: int, loss: float, terms: dict[str, float]) -> None:
        nonlocal first
        first = step - 1 if first is None else first
        for name, value in {"loss": loss, **terms}.items():
            smooth[name] = 0.98 * smooth.get(name, value) + 0.02 * value
        if step % 50 and step != config.schedule.steps:
            return
        per_step_s = (time.monotonic() - began) / (step - first)
        left_min = (config.schedule.steps - step) * per_step_s / 60
        values = " ".join(f"{name} {value:.4f}" for name, value in smooth.items())
        end = "\r" if sys.stderr.isatty() else "\n"
        sys.stderr.write(
            f"step {step}/{config.schedule.steps} {per_step_s:.2f} s/step {left_min:.0f} min left {values}{end}"
        )
        if writer is not None:
            for name, value in smooth.items():
                writer.add_scalar(name, value, step)

    return log


if __name__ == "__main__":
    sys.exit(main())
