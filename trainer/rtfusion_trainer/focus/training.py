"""Train the head, or go on training it: batches in, a checkpoint out."""

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
from rtfusion_trainer.focus.config import FocusConfig, load_focus_config
from rtfusion_trainer.focus.data import FocusBatch, make_focus_batch, whole
from rtfusion_trainer.focus.labels import LabeledPair, load_labeled_pairs
from rtfusion_trainer.focus.network import FocusHead, Inference
from rtfusion_trainer.progress import shown
from rtfusion_trainer.workers import join

SCHEMA = 1
POSITIVE = 3.0
"""Weight of a value on a target: few are."""
WARMUP_STEPS = 100
HELD_OUT = 12
"""Of the pairs that a person labeled, every so-many-th is not learned from, and measured at the end."""


class FocusRun:
    """One training run: the head, its moving average and its optimizer; `step` at a time."""

    def __init__(self, config: FocusConfig) -> None:
        torch.manual_seed(config.seed)
        self.config = config
        self.finished_steps = 0
        self.head = FocusHead(config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.head).requires_grad_(False)
        self._optimizer = torch.optim.AdamW(
            self.head.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self._schedule = Schedule(
            steps=config.steps, learning_rate=config.learning_rate, warmup_steps=min(WARMUP_STEPS, config.steps)
        )

    def step(self, batch: FocusBatch) -> dict[str, float]:
        """One step of the optimizer; gives the loss and its terms.

        Raises:
            FloatingPointError: the loss is not finite.
        """
        self.head.train()
        logits = self.head(batch.visible_y, batch.thermal)
        terms = losses(logits, batch)
        loss = torch.stack(list(terms.values())).sum()
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss is {float(loss)} at step {self.finished_steps}")
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(self._schedule, self.finished_steps)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.head.parameters(), GRADIENT_LIMIT)
        self._optimizer.step()
        self.finished_steps += 1
        kept = min(self.config.ema, self.finished_steps / (self.finished_steps + 10))
        ours, theirs = self.average.state_dict(), self.head.state_dict()
        for name, slow in ours.items():
            slow.lerp_(theirs[name], 1 - kept) if slow.is_floating_point() else slow.copy_(theirs[name])
        return {"loss": float(loss.detach()), **{name: float(term.detach()) for name, term in terms.items()}}

    def save(self, path: Path) -> None:
        """Write everything that `resume` needs.

        Raises:
            ConfigError: it cannot be written.
        """
        state = {
            "step": self.finished_steps,
            "config": asdict(self.config),
            "model": self.head.state_dict(),
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
        self.head.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.finished_steps = state["step"]


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


def config_of(values: object, *, path: Path) -> FocusConfig:
    """The settings in a checkpoint.

    Raises:
        ConfigError: there are none.
    """
    if not isinstance(values, dict) or "targets" not in values:
        raise ConfigError(f"{path} is the checkpoint of another network; train a head with rtfusion train focus")
    return changed(FocusConfig(), values, name=str(path))


def load_head(path: Path) -> tuple[FocusHead, FocusConfig]:
    """The averaged head of a checkpoint, ready for use.

    Raises:
        ConfigError: it cannot be read, or holds another network.
    """
    state = checkpoint.read(path, schema=SCHEMA)
    config = config_of(state.get("config"), path=path)
    head = FocusHead(config)
    try:
        head.load_state_dict(state["average"])
    except (KeyError, RuntimeError) as error:
        raise ConfigError(f"{path} holds another network than this version's head: {error}") from error
    return head.eval(), config


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
        preset: of `rtfusion_trainer.focus.config.load_focus_config`.
        labels: boxes, see `rtfusion_trainer.labels`.
        detector: YOLOX of COCO, for pairs without labels.
        steps: instead of the preset's.
        seed: instead of the preset's.
        threads: of PyTorch.
        stop: asked between two steps.

    Raises:
        ConfigError: a file, a folder or a setting is not as it should be.
    """
    config = load_focus_config(preset)
    config = replace(config, steps=steps or config.steps, seed=config.seed if seed is None else seed)
    with join("cpu", threads=threads):
        pairs = load_labeled_pairs(data, labels=labels, detector=detector, targets=config.targets)
        checked = [pair for pair in pairs if pair.checked]
        held_out = checked[::HELD_OUT] if len(checked) > HELD_OUT else []
        learned = [pair for pair in pairs if all(pair is not other for other in held_out)]
        run = FocusRun(config)
        if (out / CHECKPOINT).exists():
            run.resume(out / CHECKPOINT)
        _train(run, learned, out=out, stop=stop)
        return measure(run.average.eval(), held_out, config.targets) if held_out else {}


def _train(run: FocusRun, pairs: Sequence[LabeledPair], *, out: Path, stop: Callable[[], bool]) -> None:
    config = run.config
    with (
        ThreadPoolExecutor(1) as pool,
        shown(total=config.steps, finished=run.finished_steps) as log,
    ):
        following = pool.submit(make_focus_batch, pairs, config, step=run.finished_steps)
        while run.finished_steps < config.steps and not stop():
            batch = following.result()
            following = pool.submit(make_focus_batch, pairs, config, step=run.finished_steps + 1)
            log(run.finished_steps + 1, run.step(batch))
            if run.finished_steps % config.save_every == 0:
                run.save(out / CHECKPOINT)
    run.save(out / CHECKPOINT)
