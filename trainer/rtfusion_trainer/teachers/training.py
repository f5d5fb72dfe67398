"""Training LDFusion with the language-driven loss.

Step n of a run with seed s depends on s, n, the process and the data alone: batches, crops, noise and patches are drawn from
generators seeded by them. So a resumed run goes on as if it had not stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rtfusion.errors import ConfigError
from rtfusion.types import Image8
from rtfusion_trainer import checkpoint
from rtfusion_trainer.affine import RandomAffine, draw, seeded, warp
from rtfusion_trainer.losses.language import ImageTextEncoder, LanguagePreset, language_terms, text_directions
from rtfusion_trainer.losses.perceptual import Vgg19Features, perceptual_loss
from rtfusion_trainer.mixed import MixedPrecision
from rtfusion_trainer.pairs import both_sides
from rtfusion_trainer.teachers.ldfusion import DECODER_FILE, ENCODER_FILE, LdFusion
from rtfusion_trainer.workers import ALONE, Workers

SCHEMA = 1
_ATTEMPTS = 20
_EPOCH, _STEP, _PATCHES = 1, 2, 3  # what a generator is for
ImagePair = tuple[Image8, Image8]
"""Visible luminance and thermal, (H, W) uint8, one size."""


@dataclass(frozen=True, kw_only=True)
class LanguageSchedule:
    """The course of a training of LDFusion; the values are those of its published code."""

    epochs: int = 100
    repeats: int = 10
    """Passes of an epoch through the pairs, each with other crops."""
    batch: int = 16
    """Pictures a step, in each process."""
    crop_px: int = 224
    noise: float = 0.03
    """Standard deviation of the noise on the network's inputs; the loss compares with the clean ones."""
    least_contrast: float = 0.05
    """A crop in which both bands deviate less than this is drawn again."""
    learning_rate: float = 5e-4
    betas: tuple[float, float] = (0.9, 0.999)
    warmup_epochs: int = 1
    halve_at_epochs: tuple[int, ...] = (50, 60, 70, 80, 90, 100)
    """The rate is halved when so many epochs are done."""
    affine: RandomAffine = field(default_factory=RandomAffine)
    """Of the crops."""
    seed: int = 3407


def steps_per_epoch(schedule: LanguageSchedule, *, pairs: int) -> int:
    """Whole batches of an epoch, at least one."""
    return max(1, pairs * schedule.repeats // schedule.batch)


def learning_rate(schedule: LanguageSchedule, step: int, *, per_epoch: int) -> float:
    """The rate of step ``step`` (from 0): a linear warm-up, times 1/2 for every milestone passed."""
    warmup_steps = schedule.warmup_epochs * per_epoch
    ramp = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    halvings = sum(step >= epoch * per_epoch for epoch in schedule.halve_at_epochs)
    return float(schedule.learning_rate * ramp * 0.5**halvings)


class LanguageRun:
    """One training run: LDFusion, its optimizer and what judges it; `step` at a time."""

    def __init__(
        self,
        schedule: LanguageSchedule,
        preset: LanguagePreset,
        *,
        pairs: Sequence[ImagePair],
        encoder: ImageTextEncoder,
        vgg: Vgg19Features | None,
        device: torch.device,
        precision: str = "f32",
        overfit: bool = False,
        workers: Workers = ALONE,
    ) -> None:
        """Start at step 0; ``vgg`` None leaves perceptual fidelity out, then ``preset.perceptual_weight`` is 0.

        With ``overfit`` every step has the batch of the first, to see that it can be learned.

        Raises:
            ConfigError: there are no pairs, or a weight without what it weights.
        """
        if not pairs:
            raise ConfigError("there are no pairs to train on")
        if vgg is None and preset.perceptual_weight:
            raise ConfigError("perceptual fidelity has a weight, but there is no VGG-19: pass --vgg-weights FILE")
        torch.manual_seed(schedule.seed)
        self.network = LdFusion().to(device)
        self._wrapped = workers.wrap(self.network)
        self.finished_steps = 0
        self.per_epoch = steps_per_epoch(schedule, pairs=len(pairs))
        self.total_steps = schedule.epochs * self.per_epoch
        self._schedule, self._preset, self._pairs, self._device = schedule, preset, pairs, device
        self._encoder, self._vgg = encoder, vgg
        self._overfit, self.workers = overfit, workers
        self._text = text_directions(encoder, preset.prompts)
        self._optimizer = torch.optim.Adam(self.network.parameters(), lr=schedule.learning_rate, betas=schedule.betas)
        self._mixed = MixedPrecision(precision, self._optimizer, device=device)

    def step(self) -> dict[str, float]:
        """One step; gives the weighted ``loss`` and its unweighted terms.

        Raises:
            FloatingPointError: the loss is not finite.
        """
        visible, thermal, noisy_visible, noisy_thermal = self._batch()
        self._wrapped.train()
        with self._mixed.autocast():
            fused = self._wrapped(visible=noisy_visible, thermal=noisy_thermal)
        terms = self._terms(fused=fused.float(), visible=visible, thermal=thermal)
        weights = {name: getattr(self._preset, f"{name}_weight") for name in terms}
        loss = torch.stack([weights[name] * value for name, value in terms.items()]).sum()
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss is {float(loss)} at step {self.finished_steps}: {terms}")
        rate = learning_rate(self._schedule, self.finished_steps, per_epoch=self.per_epoch)
        self._mixed.step(loss, self.network.parameters(), rate=rate)
        self.finished_steps += 1
        return {name: float(value.detach()) for name, value in {"loss": loss, **terms}.items()}

    def _terms(self, *, fused: Tensor, visible: Tensor, thermal: Tensor) -> dict[str, Tensor]:
        terms = language_terms(
            encoder=self._encoder,
            text=self._text,
            fused=fused,
            visible=visible,
            thermal=thermal,
            patches=self._preset.patches,
            generator=self._generator(_PATCHES),
        )
        if self._vgg is not None:
            with torch.no_grad():
                features = {"visible": self._vgg(visible), "thermal": self._vgg(thermal)}
            terms["perceptual"] = perceptual_loss(fused=self._vgg(fused), **features).mean()
        return terms

    def _batch(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Clean and noisy crops of both bands, (N, 1, S, S) each."""
        epoch, position = divmod(0 if self._overfit else self.finished_steps, self.per_epoch)
        count = len(self._pairs) * self._schedule.repeats
        order = torch.randperm(count, generator=seeded(self._schedule.seed, _EPOCH, epoch, self.workers.rank))
        # The order is gone through again where the pairs are too few for one batch.
        chosen = [int(order[(position * self._schedule.batch + i) % count]) for i in range(self._schedule.batch)]
        generator = self._generator(_STEP)
        pairs = (self._pairs[i % len(self._pairs)] for i in chosen)
        both = torch.stack([random_crop(pair, self._schedule, generator) for pair in pairs])
        noisy = both + self._schedule.noise * torch.randn(both.shape, generator=generator)
        clean_visible, clean_thermal = both.to(self._device).chunk(2, dim=1)
        noisy_visible, noisy_thermal = noisy.to(self._device).chunk(2, dim=1)
        return clean_visible, clean_thermal, noisy_visible, noisy_thermal

    def _generator(self, purpose: int) -> torch.Generator:
        step = 0 if self._overfit else self.finished_steps
        return seeded(self._schedule.seed, purpose, step, self.workers.rank)

    def save(self, path: Path) -> None:
        """Write everything that `resume` needs, whole or not at all; of several processes, the first one does."""
        if self.workers.is_first:
            state = {"schema": SCHEMA, "step": self.finished_steps, "settings": self._settings()}
            checkpoint.write(path, {**state, "network": self.network.state_dict(), **self._mixed.state_dict()})

    def resume(self, path: Path) -> None:
        """Go on from ``path``, which only the first process has to see.

        Raises:
            ConfigError: it cannot be read, or was written by a run with other settings; the number of epochs may differ.
        """
        state = self.workers.from_first(lambda: checkpoint.read(path, schema=SCHEMA))
        changes = checkpoint.differences(self._settings(), state["settings"])
        if changes:
            raise ConfigError(
                f"{path} is of a run with other settings ({', '.join(changes)}); use the same, or another folder"
            )
        self.network.load_state_dict(state["network"])
        self._mixed.load_state_dict({"scaler": {}, **state})
        self.finished_steps = state["step"]

    def export(self, folder: Path) -> None:
        """Write the trained network in the published layout, for `ldfusion_teacher`; the first process does."""
        if self.workers.is_first:
            checkpoint.write(folder / ENCODER_FILE, self.network.encoder.state_dict())
            checkpoint.write(folder / DECODER_FILE, self.network.decoder.state_dict())

    def _settings(self) -> dict[str, str]:
        """The settings that decide the course of the run. The number of epochs does not: a run may be made longer."""
        values = {**asdict(self._schedule), **asdict(self._preset), "pairs": len(self._pairs)}
        return {name: str(value) for name, value in values.items() if name != "epochs"}


def train(
    run: LanguageRun,
    path: Path,
    *,
    stop: Callable[[], bool],
    log: Callable[[int, Mapping[str, float]], None],
    save_every: int,
) -> None:
    """Train to the end, or until ``stop`` says so between two steps; save now and then, and at the end."""
    while run.finished_steps < run.total_steps and not run.workers.any(stop()):
        values = run.step()
        log(run.finished_steps, values)
        if run.finished_steps % save_every == 0:
            run.save(path)
    run.save(path)


def random_crop(pair: ImagePair, schedule: LanguageSchedule, generator: torch.Generator) -> Tensor:
    """A random square of both bands, (2, S, S) in [0, 1], through one random affine map.

    Pictures that are too small are mirrored on both sides first.

    Drawn again, at most 20 times in all, while both bands are flat in it.
    """
    size_px = schedule.crop_px
    missing = [both_sides(size_px - length) for length in pair[0].shape]
    both = torch.from_numpy(np.stack([np.pad(image, missing, mode="symmetric") for image in pair])).float() / 255
    for _ in range(_ATTEMPTS):
        y, x = (int(torch.randint(n - size_px + 1, (), generator=generator)) for n in both.shape[1:])
        square, matrix = both[None, :, y : y + size_px, x : x + size_px], draw(schedule.affine, generator)
        crop = warp(square, matrix, size_px=size_px, resampling=schedule.affine.resampling)[0]
        if bool((crop.std(dim=(1, 2)) >= schedule.least_contrast).any()):
            break
    return crop
