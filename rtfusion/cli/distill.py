"""``rtfusion distill``: a student that learns from what teachers made of the same pairs."""

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
from rtfusion.errors import ConfigError

HELP = f"""Train a student on teachers' outputs beside the direct objective.

The outputs come from [bold]rtfusion train cache[/bold], weighted by the preset's table
guidance. A faithful teacher guides by pixels, gradients, structure and VGG-19
features; a language-driven one shows what the dial at 1 shall bring out: how
bright, and with how much local contrast. Either may be left out. Where the
student sees a pair changed on purpose, the teachers do not count.
{DISTRIBUTED}"""


def distill(
    *,
    data: Data,
    out: Out,
    teacher_cache: Annotated[
        Path | None,
        typer.Option("--teacher-cache", metavar="DIR", help="Folder of a faithful teacher's outputs."),
    ] = None,
    enhanced_cache: Annotated[
        Path | None,
        typer.Option("--enhanced-cache", metavar="DIR", help="Folder of a teacher that shows the look of 1."),
    ] = None,
    vgg_weights: VggWeights = None,
    no_features: NoFeatures = False,
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
    if teacher_cache is None and enhanced_cache is None:
        raise ConfigError(
            "there is no teacher to learn from; name --teacher-cache, --enhanced-cache or both, or use rtfusion train student"
        )
    from rtfusion_trainer.distill import train_student

    from rtfusion.cli.stopping import Stopping

    with Stopping() as stopping:
        train_student(
            preset=preset,
            data=data,
            out=out,
            teacher_cache=teacher_cache,
            enhanced_cache=enhanced_cache,
            vgg_weights=vgg_weights,
            with_features=not no_features,
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
