"""Train a teacher with the language-driven loss, and keep the outputs of teachers for distillation.

``rtfusion train teacher`` and ``rtfusion train cache`` call these. Both go on where they stopped when they are started again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from rtfusion.errors import ConfigError
from rtfusion_trainer.config import changed, read_preset
from rtfusion_trainer.losses.clip import DEFAULT_MODEL, load_clip
from rtfusion_trainer.losses.language import LDFUSION, LanguagePreset
from rtfusion_trainer.losses.perceptual import load_vgg19
from rtfusion_trainer.pairs import load_pairs
from rtfusion_trainer.progress import Progress
from rtfusion_trainer.teachers.base import Teacher
from rtfusion_trainer.teachers.cache import CachedTeacher
from rtfusion_trainer.teachers.faithful import FaithfulTeacher
from rtfusion_trainer.teachers.ldfusion import ldfusion_teacher
from rtfusion_trainer.teachers.ldlite import ldlite_teacher
from rtfusion_trainer.teachers.shift import ShiftAveraged
from rtfusion_trainer.teachers.training import LanguageRun, LanguageSchedule, train
from rtfusion_trainer.workers import join

CHECKPOINT = "checkpoint.pt"
PRESETS = Path(__file__).parent / "teachers" / "presets"
SAVE_EVERY = 200
TEACHERS = ("faithful", "ldlite", "ldfusion")
SHIFTS = ("few", "full", "none")


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """The tables of a teacher's preset."""

    loss: LanguagePreset = LDFUSION
    schedule: LanguageSchedule = field(default_factory=LanguageSchedule)


def load_teacher_config(preset: str) -> TeacherConfig:
    """A preset by name, or a TOML file by its path; what it does not say is LDFusion's.

    Raises:
        ConfigError: there is no such preset or file, it is no TOML, or it has an unknown or ill-typed setting.
    """
    return changed(TeacherConfig(), read_preset(preset, folder=PRESETS), name="the preset")


def train_teacher(
    *,
    preset: str,
    data: Path,
    out: Path,
    clip_weights: Path | None,
    clip_model: str = DEFAULT_MODEL,
    vgg_weights: Path | None = None,
    with_features: bool = True,
    prompts: Mapping[str, Sequence[str]] | None = None,
    steps: int | None = None,
    seed: int | None = None,
    device: str = "auto",
    precision: str = "f32",
    threads: int | None = None,
    overfit: bool = False,
    tensorboard: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Train LDFusion; leaves the checkpoint and, in the published layout, the weights so far.

    Args:
        preset: of `load_teacher_config`.
        data: folders SET/vi and SET/ir.
        out: for the checkpoint; where it holds one, training goes on.
        clip_weights: see `rtfusion_trainer.losses.clip.load_clip`.
        clip_model: the same.
        vgg_weights: for perceptual fidelity.
        with_features: False leaves that out.
        prompts: texts instead of the preset's, by ``visible``, ``thermal`` and ``objective``.
        steps: end after so many, before the last epoch.
        seed: instead of the preset's.
        device: ``auto``, ``cpu`` or ``cuda``.
        precision: one of `rtfusion_trainer.mixed.PRECISIONS`.
        threads: of PyTorch on the CPU.
        overfit: train on one batch, to see that it can be learned.
        tensorboard: write curves.
        stop: asked between two steps.

    Raises:
        ConfigError: a file, folder, setting or device is not as it should be.
        ModelError: weights that cannot be read or are of another model.
    """
    config = _changed(load_teacher_config(preset), prompts=prompts or {}, seed=seed, with_features=with_features)
    with join(device, threads=threads) as workers:
        # The weights first: they are what is most likely to be missing, and reading the data takes longer.
        encoder = load_clip(clip_weights, model=clip_model, device=workers.device)
        vgg = None
        if config.loss.perceptual_weight:
            vgg = load_vgg19(vgg_weights, layers=config.loss.perceptual_layers, device=workers.device)
        pairs = load_pairs(data, part=(workers.rank, workers.count))
        run = LanguageRun(
            config.schedule,
            config.loss,
            pairs=[(pair.visible, pair.thermal) for pair in pairs],
            encoder=encoder,
            vgg=vgg,
            device=workers.device,
            precision=precision,
            overfit=overfit,
            workers=workers,
        )
        if steps is not None:
            run.total_steps = min(run.total_steps, steps)
        if workers.from_first((out / CHECKPOINT).exists):
            run.resume(out / CHECKPOINT)
        curves, silent = out if tensorboard else None, not workers.is_first
        with Progress(total=run.total_steps, finished=run.finished_steps, curves=curves, silent=silent) as log:
            train(run, out / CHECKPOINT, stop=stop, log=log, save_every=SAVE_EVERY)
        run.export(out)


def cache_outputs(
    *,
    teacher: str,
    data: Path,
    out: Path,
    weights: Path | None = None,
    shifts: str = "few",
    limit: int | None = None,
    device: str = "auto",
    threads: int | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Path:
    """Ask the teacher for every pair whose output is not there yet; gives the folder, which distillation takes.

    Args:
        teacher: one of `TEACHERS`.
        data: folders SET/vi and SET/ir.
        out: folder in which each teacher has one of its own.
        weights: the file of LD-Lite, or the folder of LDFusion.
        shifts: one of `SHIFTS`, that a network is averaged over.
        limit: the first so many pairs.
        device: ``auto``, ``cpu`` or ``cuda``.
        threads: of PyTorch on the CPU.
        stop: asked between two pairs.

    Raises:
        ConfigError: a file, folder or name is not as it should be.
        ModelError: weights that cannot be read or are of another model.
    """
    with join(device, threads=threads) as workers:
        cached = CachedTeacher(_teacher(teacher, weights=weights, shifts=shifts, device=workers.device), out)
        pairs = load_pairs(data, limit=limit)[workers.rank :: workers.count]
        with Progress(total=len(pairs), silent=not workers.is_first) as log:
            for index, pair in enumerate(pairs):
                if stop():
                    break
                cached(visible=pair.visible, thermal=pair.thermal)
                log(index + 1, {})
    return cached.folder


def _changed(
    config: TeacherConfig, *, prompts: Mapping[str, Sequence[str]], seed: int | None, with_features: bool
) -> TeacherConfig:
    loss, schedule = config.loss, config.schedule
    given = {name: tuple(texts) for name, texts in prompts.items() if texts}
    loss = replace(loss, prompts=replace(loss.prompts, **given))
    if not with_features:
        loss = replace(loss, perceptual_weight=0.0)
    return TeacherConfig(loss=loss, schedule=schedule if seed is None else replace(schedule, seed=seed))


def _teacher(name: str, *, weights: Path | None, shifts: str, device: torch.device) -> Teacher:
    if name == "faithful":
        return FaithfulTeacher(device=device)
    if name not in TEACHERS or shifts not in SHIFTS:
        raise ConfigError(
            f"no teacher {name!r} with shifts {shifts!r}; there are {', '.join(TEACHERS)} and {', '.join(SHIFTS)}"
        )
    if weights is None:
        raise ConfigError(f"the teacher {name} needs --weights: the file of LD-Lite, or the folder of LDFusion")
    load = ldlite_teacher if name == "ldlite" else ldfusion_teacher
    teacher = load(weights, device=device)
    return teacher if shifts == "none" else ShiftAveraged(teacher, full=shifts == "full")
