"""``rtfusion train``: teachers, their outputs, and students without a teacher."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from rtfusion.cli.options import Debug
from rtfusion.cli.training import (
    DISTRIBUTED,
    Data,
    Device,
    Init,
    NoFeatures,
    Out,
    Overfit,
    Precision,
    Preset,
    Seed,
    Steps,
    Tensorboard,
    Threads,
    VggWeights,
    require_trainer,
)

HELP = """Train the networks that fuse.

A teacher has all the time it wants; a student runs in real time, and is what
is shipped. The usual way:
  rtfusion train cache --teacher faithful --data DIR --out caches
  rtfusion distill --teacher-cache caches/faithful-1a2b3c4d --data DIR --out run
  rtfusion export --checkpoint run/checkpoint.pt --out models ...
  rtfusion train evaluate --model models/student-small.onnx --data EVAL

Ctrl-C finishes the step, saves, and leaves with 130; the same command goes
on from there."""
TEACHER_HELP = f"""Train LDFusion, a teacher that learns from what is said of pictures (CLIP).

Weights of CLIP and VGG-19 are files that you place; nothing is downloaded.
{DISTRIBUTED}"""
STUDENT_HELP = f"""Train a student on the direct objective alone, without a teacher.

{DISTRIBUTED}"""
CACHE_HELP = """Keep a teacher's outputs on disk, for [bold]rtfusion distill[/bold].

Each teacher gets a folder of its own in --out, whose name is printed. What is
there is not made again."""


def teacher(
    *,
    data: Data,
    out: Out,
    clip_weights: Annotated[
        Path | None, typer.Option("--clip-weights", metavar="PATH", help="Checkpoint of CLIP, or an open_clip folder.")
    ] = None,
    clip_model: Annotated[
        str, typer.Option("--clip-model", metavar="NAME", help="open_clip's name of the model in the file.")
    ] = "ViT-B-32",
    vgg_weights: VggWeights = None,
    no_features: NoFeatures = False,
    preset: Preset = "ldfusion",
    prompt_visible: Annotated[
        list[str] | None,
        typer.Option("--prompt-visible", metavar="TEXT", help="Describes the visible image (repeatable)."),
    ] = None,
    prompt_thermal: Annotated[
        list[str] | None,
        typer.Option("--prompt-thermal", metavar="TEXT", help="Describes the thermal image (repeatable)."),
    ] = None,
    prompt_objective: Annotated[
        list[str] | None,
        typer.Option("--prompt-objective", metavar="TEXT", help="Describes what is wanted (repeatable)."),
    ] = None,
    steps: Steps = None,
    seed: Seed = None,
    device: Device = "auto",
    precision: Precision = "f32",
    threads: Threads = None,
    overfit: Overfit = False,
    tensorboard: Tensorboard = False,
    debug: Debug = False,
) -> None:
    """Train, and leave the checkpoint and the weights in the published layout."""
    require_trainer()
    from rtfusion_trainer.teach import train_teacher

    from rtfusion.cli.stopping import Stopping

    with Stopping() as stopping:
        train_teacher(
            preset=preset,
            data=data,
            out=out,
            clip_weights=clip_weights,
            clip_model=clip_model,
            vgg_weights=vgg_weights,
            with_features=not no_features,
            prompts={
                "visible": prompt_visible or (),
                "thermal": prompt_thermal or (),
                "objective": prompt_objective or (),
            },
            steps=steps,
            seed=seed,
            device=device,
            precision=precision,
            threads=threads,
            overfit=overfit,
            tensorboard=tensorboard,
            stop=stopping.event.is_set,
        )
    sys.exit(stopping.exit_code)


def student(
    *,
    data: Data,
    out: Out,
    preset: Preset = "small",
    init: Init = None,
    steps: Steps = None,
    seed: Seed = None,
    device: Device = "auto",
    precision: Precision = "f32",
    threads: Threads = None,
    overfit: Overfit = False,
    tensorboard: Tensorboard = False,
    debug: Debug = False,
) -> None:
    """Train, and leave the checkpoint."""
    require_trainer()
    from rtfusion_trainer.distill import train_student

    from rtfusion.cli.stopping import Stopping

    with Stopping() as stopping:
        train_student(
            preset=preset,
            data=data,
            out=out,
            init=init,
            steps=steps,
            seed=seed,
            device=device,
            precision=precision,
            threads=threads,
            overfit=overfit,
            tensorboard=tensorboard,
            stop=stopping.event.is_set,
        )
    sys.exit(stopping.exit_code)


def cache(
    *,
    teacher: Annotated[str, typer.Option("--teacher", metavar="NAME", help="faithful, ldlite or ldfusion.")],
    data: Data,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the teachers' folders.")],
    weights: Annotated[
        Path | None, typer.Option("--weights", metavar="PATH", help="File of LD-Lite, or folder of LDFusion.")
    ] = None,
    shifts: Annotated[
        str, typer.Option("--shifts", metavar="NAME", help="That a network is averaged over: few, full or none.")
    ] = "few",
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="The first N pairs.")] = None,
    device: Device = "auto",
    threads: Threads = None,
    debug: Debug = False,
) -> None:
    """Make what is missing, and print the teacher's folder."""
    require_trainer()
    from rtfusion_trainer.teach import cache_outputs

    from rtfusion.cli.console import show_text
    from rtfusion.cli.stopping import Stopping

    with Stopping() as stopping:
        folder = cache_outputs(
            teacher=teacher,
            data=data,
            out=out,
            weights=weights,
            shifts=shifts,
            limit=limit,
            device=device,
            threads=threads,
            stop=stopping.event.is_set,
        )
    show_text(f"{folder}\n")
    sys.exit(stopping.exit_code)
