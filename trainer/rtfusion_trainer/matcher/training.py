"""Train the matcher, or go on training it: batches in, a checkpoint out."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from rtfusion.errors import ConfigError
from rtfusion_trainer import checkpoint
from rtfusion_trainer.config import Schedule, changed
from rtfusion_trainer.distill import CHECKPOINT, GRADIENT_LIMIT, learning_rate
from rtfusion_trainer.matcher.config import MatcherConfig, load_matcher_config
from rtfusion_trainer.matcher.data import GrayPictures, MatcherBatch, make_matcher_batch
from rtfusion_trainer.matcher.network import Matcher
from rtfusion_trainer.pairs import image_sets, read_pair
from rtfusion_trainer.progress import shown
from rtfusion_trainer.workers import join

SCHEMA = 1
WARMUP_STEPS = 50
HELD_OUT = 25
"""Every so-many-th pair of a set is not learned from, and measured at the end."""
MEASURED = 8
"""Batches of what is held out; their views are the same in every run."""


class MatcherRun:
    """One training run: the network, its moving average and its optimizer; `step` at a time."""

    def __init__(self, config: MatcherConfig) -> None:
        torch.manual_seed(config.seed)
        self.config = config
        self.finished_steps = 0
        self.network = Matcher(config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self._optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self._schedule = Schedule(
            steps=config.steps, learning_rate=config.learning_rate, warmup_steps=min(WARMUP_STEPS, config.steps)
        )

    def step(self, batch: MatcherBatch) -> dict[str, float]:
        """One step of the optimizer; gives the loss and the share of cells found to half a cell.

        Raises:
            FloatingPointError: the loss is not finite.
        """
        self.network.train()
        drawn = torch.Generator().manual_seed(self.config.seed + self.finished_steps)
        loss, found = contrast(self.network, batch, asked=self.config.asked, generator=drawn)
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
        return {"loss": float(loss.detach()), "found": float(found)}

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
        theirs = config_of(state.get("config"), path=path)
        if changes := checkpoint.differences(asdict(self.config), asdict(replace(theirs, steps=self.config.steps))):
            raise ConfigError(f"{path} is of a run with other settings ({', '.join(changes)}); use another --out")
        self.network.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.finished_steps = state["step"]


def contrast(network: Matcher, batch: MatcherBatch, *, asked: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Cross entropy of where the cells of each view lie among all cells of the other one, and the share found to half a cell.

    A place between cells is asked of its four neighbors by how near they are: a mean over those that are found gives it back to a
    fraction of a cell.
    """
    visible, thermal = network(batch.visible_y, batch.thermal)
    sides = ((visible, thermal, batch.thermal_at), (thermal, visible, batch.visible_at))
    results = [
        _contrast(one[i], other[i], at[i], asked=asked, generator=generator)
        for one, other, at in sides
        for i in range(len(at))
        if bool(torch.isfinite(at[i]).any())
    ]
    loss, found = (torch.stack(values).mean() for values in zip(*results, strict=True))
    return loss, found


def _contrast(
    one: Tensor, other: Tensor, at: Tensor, *, asked: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """``one`` and ``other`` are (C, h, w), ``at`` (cells, 2); a part of the cells is asked."""
    height, width = other.shape[1:]
    known = torch.nonzero(torch.isfinite(at[:, 0]))[:, 0]
    known = known[torch.randperm(len(known), generator=generator)[:asked]]
    logits = one.flatten(1)[:, known].T @ other.flatten(1)
    x, y = at[known].T
    left, top = x.floor().clamp(0, width - 2), y.floor().clamp(0, height - 2)
    right, low = x - left, y - top
    corner = (top * width + left).long()
    neighbors = torch.stack([corner, corner + 1, corner + width, corner + width + 1], dim=1)
    shares = torch.stack([(1 - right) * (1 - low), right * (1 - low), (1 - right) * low, right * low], dim=1)
    loss = (torch.logsumexp(logits, dim=1) - (shares * logits.gather(1, neighbors)).sum(dim=1)).mean()
    best = logits.detach().argmax(dim=1)
    off = torch.maximum((best % width - x).abs(), (best // width - y).abs())
    return loss, (off <= 0.75).float().mean()


def config_of(values: object, *, path: Path) -> MatcherConfig:
    """The settings in a checkpoint.

    Raises:
        ConfigError: there are none.
    """
    if not isinstance(values, dict) or "keystone" not in values:
        raise ConfigError(f"{path} is the checkpoint of another network; train a matcher with rtfusion train matcher")
    return changed(MatcherConfig(), values, name=str(path))


def load_matcher(path: Path) -> tuple[Matcher, MatcherConfig]:
    """The averaged network of a checkpoint, ready for use.

    Raises:
        ConfigError: it cannot be read, or holds another network.
    """
    state = checkpoint.read(path, schema=SCHEMA)
    config = config_of(state.get("config"), path=path)
    network = Matcher(config)
    try:
        network.load_state_dict(state["average"])
    except (KeyError, RuntimeError) as error:
        raise ConfigError(f"{path} holds another network than this version's matcher: {error}") from error
    return network.eval(), config


def measure(network: Matcher, sets: Sequence[Sequence[GrayPictures]], config: MatcherConfig) -> dict[str, float]:
    """Loss, and the share of cells found to half a cell, over views of pairs that were held out."""
    fixed = replace(config, seed=config.seed + 1)
    values = []
    for step in range(MEASURED):
        with torch.no_grad():
            drawn = torch.Generator().manual_seed(step)
            values.append(
                contrast(network, make_matcher_batch(sets, fixed, step=step), asked=config.asked, generator=drawn)
            )
    loss, found = (float(torch.stack(one).mean()) for one in zip(*values, strict=True))
    return {"loss": loss, "found": found}


def train_matcher(
    *,
    data: Path,
    out: Path,
    preset: str = "matcher",
    steps: int | None = None,
    seed: int | None = None,
    threads: int | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, float]:
    """Train on the CPU, or go on where ``out`` holds a checkpoint; gives what `measure` finds on the pairs held out.

    Args:
        data: registered pairs, SET/vi and SET/ir.
        out: folder of the checkpoint.
        preset: of `rtfusion_trainer.matcher.config.load_matcher_config`.
        steps: instead of the preset's.
        seed: instead of the preset's.
        threads: of PyTorch.
        stop: asked between two steps.

    Raises:
        ConfigError: a file, a folder or a setting is not as it should be.
    """
    config = load_matcher_config(preset)
    config = replace(config, steps=steps or config.steps, seed=config.seed if seed is None else seed)
    with join("cpu", threads=threads):
        sets = [
            [GrayPictures(*read_pair(visible, thermal), origin=name) for visible, thermal in files]
            for name, files in image_sets(data).items()
        ]
        held_out = [pairs[::HELD_OUT] for pairs in sets if len(pairs) > HELD_OUT]
        learned = [pairs if len(pairs) <= HELD_OUT else _without(pairs) for pairs in sets]
        run = MatcherRun(config)
        if (out / CHECKPOINT).exists():
            run.resume(out / CHECKPOINT)
        _train(run, learned, out=out, stop=stop)
        return measure(run.average.eval(), held_out, config) if held_out else {}


def _without(pairs: Sequence[GrayPictures]) -> list[GrayPictures]:
    """Leave out what is held out."""
    return [pair for index, pair in enumerate(pairs) if index % HELD_OUT]


def _train(run: MatcherRun, sets: Sequence[Sequence[GrayPictures]], *, out: Path, stop: Callable[[], bool]) -> None:
    config = run.config
    with (
        ThreadPoolExecutor(1) as pool,
        shown(total=config.steps, finished=run.finished_steps) as log,
    ):
        following = pool.submit(make_matcher_batch, sets, config, step=run.finished_steps)
        while run.finished_steps < config.steps and not stop():
            batch = following.result()
            following = pool.submit(make_matcher_batch, sets, config, step=run.finished_steps + 1)
            log(run.finished_steps + 1, run.step(batch))
            if run.finished_steps % config.save_every == 0:
                run.save(out / CHECKPOINT)
    run.save(out / CHECKPOINT)
