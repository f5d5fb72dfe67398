"""Train the head, or go on training it: batches in, a checkpoint out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from rtfusion_trainer.averaged import AveragedRun, Kind, train
from rtfusion_trainer.focus.config import CROP_STEP_PX, PRESETS, FocusConfig
from rtfusion_trainer.focus.data import FocusBatch, make_focus_batch, whole
from rtfusion_trainer.focus.labels import LabeledPair, load_labeled_pairs
from rtfusion_trainer.focus.network import FocusHead, Inference
from rtfusion_trainer.workers import join

POSITIVE = 3.0
"""Weight of a value on a target: few are."""
HELD_OUT = 12
"""Of the pairs that a person labeled, every so-many-th is not learned from, and measured at the end."""
HEAD = Kind(
    name="head",
    command="rtfusion train focus",
    build=FocusHead,
    default=FocusConfig(),
    presets=PRESETS,
    multiple_px=CROP_STEP_PX,
    warmup_steps=100,
)


class FocusRun(AveragedRun[FocusConfig, FocusHead, FocusBatch]):
    """One training run of the head; beside the loss it shows its terms."""

    def __init__(self, config: FocusConfig) -> None:
        super().__init__(HEAD, config)

    def _loss(self, batch: FocusBatch) -> tuple[Tensor, Mapping[str, Tensor]]:
        terms = losses(self.network(batch.visible_y, batch.thermal), batch)
        return torch.stack(list(terms.values())).sum(), terms


def losses(logits: Tensor, batch: FocusBatch) -> dict[str, Tensor]:
    """Cross entropy of every value, those on targets weighted, and the overlap of what is found with what is there."""
    wanted, weight = batch.wanted, batch.weight
    each = torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    weighted = weight * torch.where(wanted > 0.5, POSITIVE, 1.0)
    entropy = (weighted * each).sum() / weighted.sum().clamp(min=1)
    found, there = torch.sigmoid(logits) * weight, wanted * weight
    shared = (found * there).sum(dim=(0, 2, 3))
    overlap = (2 * shared + 1) / ((found * found).sum(dim=(0, 2, 3)) + (there * there).sum(dim=(0, 2, 3)) + 1)
    return {"entropy": 4 * entropy, "overlap": 0.3 * (1 - overlap).sum()}


def measure(head: FocusHead, pairs: Sequence[LabeledPair], targets: Sequence[str]) -> dict[str, float]:
    """Intersection over union of the maps, at one half, with the filled boxes of every target, over all pairs."""
    inference, shared, joined = Inference(head).eval(), torch.zeros(len(targets)), torch.zeros(len(targets))
    for pair in pairs:
        visible, thermal, wanted, weight = (torch.from_numpy(plane) for plane in whole(pair, targets))
        with torch.no_grad():
            found = (inference(visible[None, None], thermal[None, None])[0] >= 0.5) & (weight > 0)
        there = (wanted >= 0.5) & (weight > 0)
        shared += (found & there).sum(dim=(1, 2))
        joined += (found | there).sum(dim=(1, 2))
    return {target: float(shared[i] / joined[i].clamp(min=1)) for i, target in enumerate(targets)}


def train_focus(
    *,
    data: Path,
    out: Path,
    preset: str = "focus",
    labels: Path | None = None,
    detector: Path | None = None,
    steps: int | None = None,
    seed: int | None = None,
    threads: int | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, float]:
    """Train on the CPU, or go on where ``out`` holds a checkpoint; gives the overlap on the pairs held out, by target.

    Args:
        data: pairs, SET/vi and SET/ir.
        out: folder of the checkpoint.
        preset: of `HEAD`.
        labels: boxes, see `rtfusion_trainer.labels`.
        detector: YOLOX of COCO, for pairs without labels.
        steps: instead of the preset's.
        seed: instead of the preset's.
        threads: of PyTorch.
        stop: asked between two steps.

    Raises:
        ConfigError: a file, a folder or a setting is not as it should be.
    """
    config = HEAD.load_config(preset)
    config = replace(config, steps=steps or config.steps, seed=config.seed if seed is None else seed)
    with join("cpu", threads=threads):
        pairs = load_labeled_pairs(data, labels=labels, detector=detector, targets=config.targets)
        checked = [pair for pair in pairs if pair.checked]
        held_out = checked[::HELD_OUT] if len(checked) > HELD_OUT else []
        learned = [pair for pair in pairs if all(pair is not other for other in held_out)]
        run = FocusRun(config)
        train(run, lambda step: make_focus_batch(learned, config, step=step), out=out, stop=stop)
        return measure(run.average.eval(), held_out, config.targets) if held_out else {}
