"""Train the matcher, or go on training it: batches in, a checkpoint out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from rtfusion.registration.descriptors import CELL_PX
from rtfusion_trainer.averaged import AveragedRun, Kind, train
from rtfusion_trainer.matcher.config import PRESETS, MatcherConfig
from rtfusion_trainer.matcher.data import GrayPictures, MatcherBatch, make_matcher_batch
from rtfusion_trainer.matcher.network import Matcher
from rtfusion_trainer.pairs import image_sets, read_pair, what_is_there
from rtfusion_trainer.progress import tell
from rtfusion_trainer.workers import join

HELD_OUT = 25
"""Every so-many-th pair of a set is not learned from, and measured at the end."""
MEASURED = 8
"""Batches of what is held out; their views are the same in every run."""
MATCHER = Kind(
    name="matcher",
    command="rtfusion train matcher",
    build=Matcher,
    default=MatcherConfig(),
    presets=PRESETS,
    multiple_px=CELL_PX,
    warmup_steps=50,
)


class MatcherRun(AveragedRun[MatcherConfig, Matcher, MatcherBatch]):
    """One training run of the matcher; beside the loss it shows the share of cells found to half a cell."""

    def __init__(self, config: MatcherConfig) -> None:
        super().__init__(MATCHER, config)

    def _loss(self, batch: MatcherBatch) -> tuple[Tensor, Mapping[str, Tensor]]:
        drawn = torch.Generator().manual_seed(self.config.seed + self.finished_steps)
        loss, found = contrast(self.network, batch, asked=self.config.asked, generator=drawn)
        return loss, {"found": found}


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
        preset: of `MATCHER`.
        steps: instead of the preset's.
        seed: instead of the preset's.
        threads: of PyTorch.
        stop: asked between two steps.

    Raises:
        ConfigError: a file, a folder or a setting is not as it should be.
    """
    config = MATCHER.load_config(preset)
    config = replace(config, steps=steps or config.steps, seed=config.seed if seed is None else seed)
    with join("cpu", threads=threads):
        tell(what_is_there(data))
        sets = [
            [GrayPictures(*read_pair(visible, thermal)) for visible, thermal in files]
            for files in image_sets(data).values()
        ]
        held_out = [pairs[::HELD_OUT] for pairs in sets if len(pairs) > HELD_OUT]
        learned = [pairs if len(pairs) <= HELD_OUT else _without(pairs) for pairs in sets]
        run = MatcherRun(config)
        train(run, lambda step: make_matcher_batch(learned, config, step=step), out=out, stop=stop)
        return measure(run.average.eval(), held_out, config) if held_out else {}


def _without(pairs: Sequence[GrayPictures]) -> list[GrayPictures]:
    """Leave out what is held out."""
    return [pair for index, pair in enumerate(pairs) if index % HELD_OUT]
