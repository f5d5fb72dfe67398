"""Train a teacher with the language-driven loss, and keep the outputs of teachers for distillation.

``rtfusion train teacher`` and ``rtfusion train cache`` call these. Both go on where they stopped when they are started again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from rtfusion.errors import ConfigError
from rtfusion.types import Image8
from rtfusion_trainer.checkpoint import CHECKPOINT
from rtfusion_trainer.config import TrainingOptions, changed, read_preset
from rtfusion_trainer.encoders import EncoderFiles, load_encoder
from rtfusion_trainer.losses.language import LanguagePreset, Prompts
from rtfusion_trainer.losses.perceptual import load_vgg19
from rtfusion_trainer.pairs import load_pairs
from rtfusion_trainer.progress import saved, shown
from rtfusion_trainer.teachers.cache import CachedTeacher
from rtfusion_trainer.teachers.faithful import FaithfulTeacher
from rtfusion_trainer.teachers.ldfusion import ldfusion_teacher
from rtfusion_trainer.teachers.ldlite import ldlite_teacher
from rtfusion_trainer.teachers.network import Teacher
from rtfusion_trainer.teachers.shift import ShiftAveraged
from rtfusion_trainer.teachers.training import LanguageRun, LanguageSchedule, train
from rtfusion_trainer.workers import join

PRESETS = Path(__file__).parent / "teachers" / "presets"
SAVE_EVERY = 200
TEACHERS = ("faithful", "ldlite", "ldfusion")
SHIFTS = ("few", "full", "none")


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """The tables of a teacher's preset."""

    loss: LanguagePreset = field(default_factory=LanguagePreset)
    schedule: LanguageSchedule = field(default_factory=LanguageSchedule)


def load_teacher_config(preset: str) -> TeacherConfig:
    """A preset by name, or a TOML file by its path; what it does not say is LDFusion's.

    Raises:
        ConfigError: there is no such preset or file, it is no TOML, or it has an unknown or ill-typed setting.
    """
    return changed(TeacherConfig(), read_preset(preset, folder=PRESETS), name="the preset")


def train_teacher(
    options: TrainingOptions,
    *,
    encoder: EncoderFiles,
    prompts: Mapping[str, Sequence[str]] | None = None,
    then: str = "",
) -> None:
    """Train LDFusion; leaves the checkpoint and, in the published layout, the weights so far.

    Args:
        options: the preset (of `load_teacher_config`), the data, and how to train; ``steps`` may end it before the last epoch.
        encoder: of pictures and texts.
        prompts: texts instead of the preset's, by ``visible``, ``thermal``, ``objective`` and ``away``.
        then: the command that comes next, for a person.

    Raises:
        ConfigError: a file, folder, setting or device is not as it should be.
        ModelError: weights that cannot be read or are of another model.
    """
    config = _config(options, prompts=prompts or {})
    with join(options.device, threads=options.threads) as workers:
        # The weights first: they are what is most likely to be missing, and reading the data takes longer.
        judge = load_encoder(encoder, device=workers.device, silent=not workers.is_first)
        vgg = None
        if config.loss.perceptual_weight:
            vgg = load_vgg19(options.vgg_weights, layers=config.loss.perceptual_layers, device=workers.device)
        pairs = load_pairs(options.data, limit=options.limit, part=(workers.rank, workers.count))
        run = LanguageRun(
            config.schedule,
            config.loss,
            pairs=[(pair.visible, pair.thermal) for pair in pairs],
            encoder=judge,
            vgg=vgg,
            device=workers.device,
            precision=options.precision,
            overfit=options.overfit,
            workers=workers,
        )
        if options.steps is not None:
            run.total_steps = min(run.total_steps, options.steps)
        checkpoint, silent = options.out / CHECKPOINT, not workers.is_first
        if workers.from_first(checkpoint.exists):
            run.resume(checkpoint)
        total, finished = run.total_steps, run.finished_steps
        with shown(total=total, finished=finished, curves=options.curves, silent=silent) as log:
            train(run, checkpoint, stop=options.stop, log=log, save_every=SAVE_EVERY)
        run.export(options.out)
        saved(checkpoint, finished=run.finished_steps, total=total, then=then, silent=silent)


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
        cached = open_cache(teacher=teacher, out=out, weights=weights, shifts=shifts, device=workers.device)
        pairs = load_pairs(data, limit=limit)[workers.rank :: workers.count]
        ask([(pair.visible, pair.thermal) for pair in pairs], cached, stop=stop, silent=not workers.is_first)
    return cached.folder


def open_cache(*, teacher: str, out: Path, weights: Path | None, shifts: str, device: torch.device) -> CachedTeacher:
    """The teacher that `cache_outputs` asks, with its folder in ``out``.

    Raises:
        ConfigError: a file, folder or name is not as it should be.
        ModelError: weights that cannot be read or are of another model.
    """
    return CachedTeacher(_teacher(teacher, weights=weights, shifts=shifts, device=device), out)


def ask(
    pairs: Sequence[tuple[Image8, Image8]],
    cached: CachedTeacher,
    *,
    stop: Callable[[], bool] = lambda: False,
    silent: bool = False,
) -> None:
    """Make what is missing of a teacher's outputs for pairs of visible and thermal, and show how far it is."""
    with shown(total=len(pairs), what="picture", silent=silent) as log:
        for index, (visible, thermal) in enumerate(pairs):
            if stop():
                break
            cached(visible=visible, thermal=thermal)
            log(index + 1, {})


def _config(options: TrainingOptions, *, prompts: Mapping[str, Sequence[str]]) -> TeacherConfig:
    config = load_teacher_config(options.preset)
    loss = replace(config.loss, prompts=teacher_prompts(config, prompts))
    if not options.with_features:
        loss = replace(loss, perceptual_weight=0.0)
    seed = config.schedule.seed if options.seed is None else options.seed
    return TeacherConfig(loss=loss, schedule=replace(config.schedule, seed=seed))


def teacher_prompts(config: TeacherConfig, given: Mapping[str, Sequence[str]]) -> Prompts:
    """The texts of a preset, and those that are given instead of some of them."""
    return replace(config.loss.prompts, **{name: tuple(texts) for name, texts in given.items() if texts})


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
