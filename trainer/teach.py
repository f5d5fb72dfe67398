"""Train a teacher with the language-driven loss, or keep the outputs of teachers for distillation.

::

    python -m trainer.teach language --data DIR --clip-weights FILE --vgg-weights FILE --out DIR
    python -m trainer.teach cache --teacher ldlite --weights FILE --data DIR --out DIR
    python -m trainer.teach cache --teacher faithful --data DIR --out DIR

Data folders hold one folder per set, each with ``vi`` and ``ir``. Both commands go on where they stopped when they are started
again; Ctrl-C finishes the step or the pair, saves, and ends.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from rtfusion.cli.stopping import Stopping
from rtfusion.errors import ConfigError, FusionError
from trainer.data import load_pairs
from trainer.losses.clip import DEFAULT_MODEL, load_clip
from trainer.losses.language import LDFUSION, LanguagePreset
from trainer.losses.perceptual import load_vgg19
from trainer.teachers.base import Teacher
from trainer.teachers.cache import CachedTeacher
from trainer.teachers.faithful import FaithfulTeacher
from trainer.teachers.ldfusion import ldfusion_teacher
from trainer.teachers.ldlite import ldlite_teacher
from trainer.teachers.shift import ShiftAveraged
from trainer.teachers.training import LanguageRun, LanguageSchedule, train

CHECKPOINT = "checkpoint.pt"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; gives the exit code."""
    options = _parser().parse_args(arguments)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    try:
        with Stopping() as stopping:
            options.command(options, stopping.event.is_set)
    except FusionError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return stopping.exit_code


def teach_language(options: argparse.Namespace, stop: Callable[[], bool]) -> None:
    """Train LDFusion; leaves the checkpoint and, in the published layout, the weights so far."""
    device = torch.device(options.device)
    preset, schedule = _preset(options), _schedule(options)
    # The weights first: they are what is most likely to be missing, and reading the data takes longer.
    encoder = load_clip(options.clip_weights, model=options.clip_model, device=device)
    vgg = None
    if preset.perceptual_weight:
        vgg = load_vgg19(options.vgg_weights, layers=preset.perceptual_layers, device=device)
    pairs = [(pair.visible, pair.thermal) for pair in load_pairs(options.data)]
    run = LanguageRun(schedule, preset, pairs=pairs, encoder=encoder, vgg=vgg, device=device)
    if options.steps is not None:
        run.total_steps = min(run.total_steps, options.steps)
    checkpoint = options.out / CHECKPOINT
    if checkpoint.exists():
        run.resume(checkpoint)
    with _progress() as progress:
        task = progress.add_task("", total=run.total_steps, completed=run.finished_steps)

        def log(step: int, values: dict[str, float]) -> None:
            text = " ".join(f"{name} {value:.3f}" for name, value in values.items())
            progress.update(task, completed=step, description=text)

        train(run, checkpoint, stop=stop, log=log, save_every=options.save_every)
    run.export(options.out)


def teach_cache(options: argparse.Namespace, stop: Callable[[], bool]) -> None:
    """Ask the teacher for every pair whose output is not there yet."""
    teacher = CachedTeacher(_teacher(options), options.out)
    pairs = load_pairs(options.data, limit=options.limit)
    with _progress() as progress:
        for pair in progress.track(pairs, description=teacher.name):
            if stop():
                return
            teacher(visible=pair.visible, thermal=pair.thermal)


def _teacher(options: argparse.Namespace) -> Teacher:
    device = torch.device(options.device)
    if options.teacher == "faithful":
        return FaithfulTeacher(device=device)
    if options.weights is None:
        raise ConfigError(
            f"--teacher {options.teacher} needs --weights: the file of LD-Lite, or the folder of LDFusion"
        )
    load = ldlite_teacher if options.teacher == "ldlite" else ldfusion_teacher
    teacher = load(options.weights, device=device)
    return teacher if options.shifts == "none" else ShiftAveraged(teacher, full=options.shifts == "full")


def _preset(options: argparse.Namespace) -> LanguagePreset:
    """LDFusion's, with what the options change."""
    given = {name: getattr(options, f"prompt_{name}") for name in ("visible", "thermal", "objective")}
    prompts = replace(LDFUSION.prompts, **{name: tuple(texts) for name, texts in given.items() if texts})
    patches = LDFUSION.patches if options.patches is None else replace(LDFUSION.patches, count=options.patches)
    layers = LDFUSION.perceptual_layers if options.perceptual_layers is None else options.perceptual_layers
    weight = 0.0 if layers == ("none",) else LDFUSION.perceptual_weight
    return replace(LDFUSION, prompts=prompts, patches=patches, perceptual_layers=layers, perceptual_weight=weight)


def _schedule(options: argparse.Namespace) -> LanguageSchedule:
    names = ("epochs", "batch", "crop_px", "learning_rate", "seed")
    given = {name: getattr(options, name) for name in names}
    return replace(LanguageSchedule(), **{name: value for name, value in given.items() if value is not None})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m trainer.teach", description="Teachers.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    language = commands.add_parser("language", help="train LDFusion with the language-driven loss")
    language.set_defaults(command=teach_language)
    cache = commands.add_parser("cache", help="keep a teacher's outputs on disk")
    cache.set_defaults(command=teach_cache)
    for command in (language, cache):
        command.add_argument("--data", type=Path, required=True, metavar="DIR", help="folders SET/vi and SET/ir")
        command.add_argument("--out", type=Path, required=True, metavar="DIR", help="what is there is not made again")
        command.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
        command.add_argument("--threads", type=int, metavar="N", help="of the CPU")
    _add_language_options(language)
    cache.add_argument("--teacher", required=True, choices=("faithful", "ldlite", "ldfusion"))
    cache.add_argument("--weights", type=Path, metavar="PATH", help="final.pt of LD-Lite, or a folder of LDFusion")
    cache.add_argument(
        "--shifts", choices=("few", "full", "none"), default="few", help="that a network is averaged over"
    )
    cache.add_argument("--limit", type=int, metavar="N", help="the first N pairs")
    return parser


def _add_language_options(parser: argparse.ArgumentParser) -> None:
    weights = parser.add_argument_group("weights, none of which is downloaded")
    weights.add_argument("--clip-weights", type=Path, metavar="PATH", help="checkpoint file, or open_clip folder")
    weights.add_argument(
        "--clip-model", default=DEFAULT_MODEL, metavar="NAME", help="of the file (default: %(default)s)"
    )
    weights.add_argument("--vgg-weights", type=Path, metavar="FILE", help="state dict of VGG-19")
    loss = parser.add_argument_group("loss (default: LDFusion's)")
    for name in ("visible", "thermal", "objective"):
        loss.add_argument(f"--prompt-{name}", action="append", metavar="TEXT", help="may be given several times")
    loss.add_argument("--patches", type=int, metavar="N", help="per picture")
    loss.add_argument("--perceptual-layers", type=_layers, metavar="A,B", help="of VGG-19; none leaves the term out")
    schedule = parser.add_argument_group("schedule (default: LDFusion's)")
    for name in ("epochs", "batch", "crop-px", "seed"):
        schedule.add_argument(f"--{name}", type=int, metavar="N")
    schedule.add_argument("--learning-rate", type=float, metavar="RATE")
    schedule.add_argument("--steps", type=int, metavar="N", help="end after so many, before the last epoch")
    schedule.add_argument("--save-every", type=int, default=200, metavar="N", help="steps (default: %(default)s)")


def _layers(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _progress() -> Progress:
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    return Progress(*columns, console=Console(stderr=True))


if __name__ == "__main__":
    sys.exit(main())
