"""Training of the small networks beside the student, on the CPU: steps, the weights' moving average, checkpoints, the loop.

A network says what it is in a `Kind`, and what it learns in the `AveragedRun._loss` of its run. Step n depends on the seed, n and
the data alone, so a run that goes on from its checkpoint ends as if it had not stopped.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from rtfusion.errors import ConfigError
from rtfusion_trainer import checkpoint
from rtfusion_trainer.checkpoint import CHECKPOINT
from rtfusion_trainer.config import Schedule, changed, read_preset
from rtfusion_trainer.distill import GRADIENT_LIMIT, learning_rate
from rtfusion_trainer.progress import saved, shown

SCHEMA = 1


@dataclass(frozen=True)
class AveragedConfig:
    """The settings that every such training has."""

    name: str
    steps: int
    batch: int
    crop_px: tuple[int, int]
    """(width, height) of the pictures that it learns from: multiples of `Kind.multiple_px`."""
    learning_rate: float
    weight_decay: float
    ema: float
    save_every: int
    seed: int


C = TypeVar("C", bound=AveragedConfig)
N = TypeVar("N", bound=nn.Module)
B = TypeVar("B")


@dataclass(frozen=True)
class Kind(Generic[C, N]):
    """A network that is trained so."""

    name: str
    """What a person calls it."""
    command: str
    """What trains it."""
    build: Callable[[C], N]
    default: C
    presets: Path
    """Folder of its presets."""
    multiple_px: int
    """Of which the sides of a crop are multiples."""
    warmup_steps: int

    def load_config(self, preset: str) -> C:
        """A preset by name, or a TOML file by its path.

        Raises:
            ConfigError: there is no such preset or file, it is no TOML, or it has an unknown, ill-typed or impossible setting.
        """
        config = changed(self.default, read_preset(preset, folder=self.presets), name="the preset")
        if len(config.crop_px) != 2 or any(
            side < self.multiple_px or side % self.multiple_px for side in config.crop_px
        ):
            raise ConfigError(f"the preset: crop_px is {config.crop_px}; expected two multiples of {self.multiple_px}")
        return config

    def load_average(self, path: Path) -> tuple[N, C]:
        """The averaged network of a checkpoint, ready for use, and its settings.

        Raises:
            ConfigError: it cannot be read, or holds another network.
        """
        state = checkpoint.read(path, schema=SCHEMA)
        config = self.config_of(state.get("config"), path=path)
        network = self.build(config)
        try:
            network.load_state_dict(state["average"])
        except (KeyError, RuntimeError) as error:
            raise ConfigError(f"{path} holds another network than this version's {self.name}: {error}") from error
        return network.eval(), config

    def config_of(self, values: object, *, path: Path) -> C:
        """The settings in a checkpoint.

        Raises:
            ConfigError: there are none, or they are of another network.
        """
        if not isinstance(values, dict) or not values.keys() <= {entry.name for entry in fields(self.default)}:
            raise ConfigError(f"{path} is the checkpoint of another network; train a {self.name} with {self.command}")
        return changed(self.default, values, name=str(path))


class AveragedRun(ABC, Generic[C, N, B]):
    """One training run: the network, its moving average and its optimizer; `step` at a time."""

    def __init__(self, kind: Kind[C, N], config: C) -> None:
        torch.manual_seed(config.seed)
        self.config = config
        self.finished_steps = 0
        self.network: N = kind.build(config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average: N = copy.deepcopy(self.network).requires_grad_(False)
        self._kind = kind
        self._optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self._schedule = Schedule(
            steps=config.steps, learning_rate=config.learning_rate, warmup_steps=min(kind.warmup_steps, config.steps)
        )

    @abstractmethod
    def _loss(self, batch: B) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss of a batch, and what is shown beside it."""

    def step(self, batch: B) -> dict[str, float]:
        """One step of the optimizer; gives the loss and what is shown beside it.

        Raises:
            FloatingPointError: the loss is not finite.
        """
        self.network.train()
        loss, beside = self._loss(batch)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss is {float(loss)} at step {self.finished_steps}")
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(self._schedule, self.finished_steps)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), GRADIENT_LIMIT)
        self._optimizer.step()
        self.finished_steps += 1
        kept = min(self.config.ema, self.finished_steps / (self.finished_steps + 10))
        ours, theirs = self.average.state_dict(), self.network.state_dict()
        for name, slow in ours.items():
            slow.lerp_(theirs[name], 1 - kept) if slow.is_floating_point() else slow.copy_(theirs[name])
        return {name: float(value.detach()) for name, value in {"loss": loss, **beside}.items()}

    def save(self, path: Path) -> None:
        """Write everything that `resume` needs.

        Raises:
            ConfigError: it cannot be written.
        """
        state = {
            "step": self.finished_steps,
            "config": asdict(self.config),
            "model": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }
        checkpoint.write(path, {"schema": SCHEMA, **state})

    def resume(self, path: Path) -> None:
        """Go on from ``path``.

        Raises:
            ConfigError: it cannot be read, or is of a run with other settings; the number of steps may differ.
        """
        state = checkpoint.read(path, schema=SCHEMA)
        theirs = self._kind.config_of(state.get("config"), path=path)
        if changes := checkpoint.differences(asdict(self.config), asdict(replace(theirs, steps=self.config.steps))):
            raise ConfigError(f"{path} is of a run with other settings ({', '.join(changes)}); use another --out")
        self.network.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.finished_steps = state["step"]


def train(run: AveragedRun[C, N, B], make: Callable[[int], B], *, out: Path, stop: Callable[[], bool]) -> None:
    """Train, or go on where ``out`` holds a checkpoint, to the last step or until ``stop`` says so between two; save.

    ``make`` gives the batch of a step, from 0, and is called while the step before it runs.
    """
    path, config = out / CHECKPOINT, run.config
    if path.exists():
        run.resume(path)
    with ThreadPoolExecutor(1) as pool, shown(total=config.steps, finished=run.finished_steps) as log:
        following = pool.submit(make, run.finished_steps)
        while run.finished_steps < config.steps and not stop():
            batch = following.result()
            following = pool.submit(make, run.finished_steps + 1)
            log(run.finished_steps + 1, run.step(batch))
            if run.finished_steps % config.save_every == 0:
                run.save(path)
    run.save(path)
    saved(path, finished=run.finished_steps, total=config.steps)
