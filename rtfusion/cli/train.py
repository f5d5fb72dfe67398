"""``rtfusion train``: teachers, their outputs, and students without a teacher."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rtfusion.cli.options import Debug
from rtfusion.cli.training import (
    DISTRIBUTED,
    ClipModel,
    ClipWeights,
    Data,
    Device,
    License,
    Limit,
    NoClipTest,
    Preset,
    RunFolder,
    Seed,
    Shifts,
    StandIn,
    Steps,
    Threads,
    TrainedOn,
    require_trainer,
    trains,
)
from rtfusion.errors import ConfigError

if TYPE_CHECKING:
    from rtfusion_trainer.config import TrainingOptions

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
STUDENT_HELP = f"""Train a student on the direct objective, without a teacher.

Where teachers' outputs are named it is [bold]rtfusion distill[/bold], which has these options too.
{DISTRIBUTED}"""
DISTILL_HELP = f"""Train a student on teachers' outputs beside the direct objective.

The outputs come from [bold]rtfusion train cache[/bold], weighted by the preset's table
guidance. A faithful teacher guides by pixels, gradients, structure and VGG-19
features; a language-driven one shows what the dial at 1 shall bring out: how
bright, and with how much local contrast. Either may be left out. Where the
student sees a pair changed on purpose, the teachers do not count.
{DISTRIBUTED}"""
CACHE_HELP = """Keep a teacher's outputs on disk, for [bold]rtfusion distill[/bold].

Each teacher gets a folder of its own in --out, whose name is printed. What is
there is not made again."""

RECIPE_HELP = """From a sentence to a student: teacher, its pictures, student, file, card.

One recipe, [bold]language[/bold]. Every stage tells what it will cost before it goes
on, and takes up where it stopped when the same command is given again:
  rtfusion train recipe language --pairs DIR --clip-weights DIR --out DIR \\
    --goal "the thermal targets glow, the background stays dark"
"""
ENCODER_HELP = """Train a small encoder of pictures and texts that stands in for CLIP.

It knows ten facts of fused pictures (band, day, smoke, people, vehicles, sharp,
noisy, bright, contrast, targets that stand out), in English and Chinese, and
nothing else. Where you have CLIP's weights, take those. It takes minutes: what
Ctrl-C ends before leaves no file."""
FOCUS_HELP = """Train the head that finds people and vehicles, and write it as ONNX.

It learns from boxes that people drew (--labels) and, on pictures without any,
from those of a detector (--detector). On one CPU thread the preset takes about
25 minutes. The file is what rtfusion ships as models/focus-small.onnx, and what
its contract says of the data is what you say with --trained-on."""

MATCHER_HELP = """Train the matcher that finds the same things in both bands, and write it as ONNX.

It learns from registered pairs, whose views it turns, scales, shifts, slants
and spoils: nothing has to be labeled. On one CPU thread the preset takes about
ten minutes. The file is what rtfusion ships as models/matcher-small.onnx, and
what its contract says of the data is what you say with --trained-on."""


@trains(preset="ldfusion")
def teacher(
    options: TrainingOptions,
    *,
    clip_weights: ClipWeights = None,
    clip_model: ClipModel = None,
    no_clip_test: NoClipTest = False,
    stand_in: StandIn = None,
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
    away_from: Annotated[
        list[str] | None, typer.Option("--away-from", metavar="TEXT", help="Describes the opposite (repeatable).")
    ] = None,
) -> None:
    """Train, and leave the checkpoint and the weights in the published layout."""
    from rtfusion_trainer.encoders import EncoderFiles
    from rtfusion_trainer.teach import train_teacher

    prompts = {"visible": prompt_visible, "thermal": prompt_thermal, "objective": prompt_objective, "away": away_from}
    train_teacher(
        options,
        encoder=EncoderFiles(
            clip_weights=clip_weights, clip_model=clip_model, clip_test=not no_clip_test, stand_in=stand_in
        ),
        prompts={name: texts or () for name, texts in prompts.items()},
        then=f"rtfusion train cache --teacher ldfusion --weights {options.out} --data {options.data} --out caches",
    )


@trains(preset="small")
def student(
    options: TrainingOptions,
    *,
    init: Annotated[
        Path | None,
        typer.Option(
            "--init", metavar="FILE", help="Checkpoint or float32 model to begin with; a smaller student is widened."
        ),
    ] = None,
    teacher_cache: Annotated[
        Path | None,
        typer.Option("--teacher-cache", metavar="DIR", help="Folder of a faithful teacher's outputs."),
    ] = None,
    enhanced_cache: Annotated[
        Path | None,
        typer.Option("--enhanced-cache", metavar="DIR", help="Folder of a teacher that shows the look of 1."),
    ] = None,
    language_cache: Annotated[
        Path | None,
        typer.Option(
            "--language-cache", metavar="DIR", help="Folder of a language-driven teacher, whose look is wanted itself."
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option("--labels", metavar="FILE", help="People and cars of the pairs, to be easy to find (JSON)."),
    ] = None,
    detector: Annotated[
        Path | None, typer.Option("--detector", metavar="FILE", help="A YOLOX (ONNX), which says how easily.")
    ] = None,
    tutor: Annotated[
        Path | None,
        typer.Option(
            "--tutor", metavar="FILE", help="Another student, whose pictures are wanted: checkpoint or model."
        ),
    ] = None,
    clip_weights: ClipWeights = None,
    clip_model: ClipModel = None,
    no_clip_test: NoClipTest = False,
    stand_in: StandIn = None,
) -> None:
    """Train, and leave the checkpoint."""
    from rtfusion_trainer.checkpoint import CHECKPOINT
    from rtfusion_trainer.distill import train_student
    from rtfusion_trainer.encoders import EncoderFiles

    encoder = EncoderFiles(
        clip_weights=clip_weights, clip_model=clip_model, clip_test=not no_clip_test, stand_in=stand_in
    )
    train_student(
        options,
        init=init,
        teacher_cache=teacher_cache,
        enhanced_cache=enhanced_cache,
        language_cache=language_cache,
        encoder=encoder,
        labels=labels,
        detector=detector,
        tutor=tutor,
        then=(
            f"rtfusion export --checkpoint {options.out / CHECKPOINT} --out models --trained-on 'DATA SET (ITS TERMS)' "
            "--license NAME"
        ),
    )


@functools.wraps(student)
def distill(**options: Any) -> None:
    """Train a student that has a teacher."""
    require_trainer()
    if all(options[name] is None for name in ("teacher_cache", "enhanced_cache", "language_cache", "tutor")):
        raise ConfigError(
            "there is no teacher to learn from; name --teacher-cache, --enhanced-cache, --language-cache or --tutor, or use "
            "rtfusion train student"
        )
    student(**options)


def recipe(
    name: Annotated[str, typer.Argument(metavar="NAME", help="language.")],
    *,
    pairs: Annotated[Path, typer.Option("--pairs", metavar="DIR", help="SET/vi and SET/ir, or vi and ir.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="For everything; what is there is gone on with.")],
    clip_weights: ClipWeights = None,
    clip_model: ClipModel = None,
    no_clip_test: NoClipTest = False,
    stand_in: StandIn = None,
    goal: Annotated[
        list[str] | None,
        typer.Option("--goal", metavar="TEXT", help="What is wanted (repeatable). Default: the preset's."),
    ] = None,
    away_from: Annotated[
        list[str] | None, typer.Option("--away-from", metavar="TEXT", help="The opposite of it (repeatable).")
    ] = None,
    teacher_preset: Annotated[
        str, typer.Option("--teacher-preset", metavar="NAME", help="ours, ldfusion, ldfusion-as-released, or a file.")
    ] = "ours",
    student_preset: Annotated[
        str, typer.Option("--student-preset", metavar="NAME", help="A student's preset, or a TOML file.")
    ] = "language",
    teacher_steps: Annotated[
        int | None, typer.Option("--teacher-steps", metavar="N", min=1, help="Steps at most, instead of the preset's.")
    ] = None,
    student_steps: Annotated[
        int | None, typer.Option("--student-steps", metavar="N", min=1, help="Steps, instead of the preset's.")
    ] = None,
    vgg_weights: Annotated[
        Path | None, typer.Option("--vgg-weights", metavar="FILE", help="VGG-19. Without it no features are compared.")
    ] = None,
    shifts: Shifts = "few",
    eval_data: Annotated[
        Path | None, typer.Option("--eval", metavar="DIR", help="Other pairs to evaluate on. Default: the same.")
    ] = None,
    trained_on: Annotated[
        list[str] | None, typer.Option("--trained-on", metavar="TEXT", help="A data set and its terms (repeatable).")
    ] = None,
    license_id: License = "not stated",
    seed: Seed = None,
    device: Device = "auto",
    threads: Threads = None,
    debug: Debug = False,
) -> None:
    """Do all stages, and print the card's path."""
    require_trainer()
    from rtfusion_trainer.recipe import RecipeOptions, run_recipe

    from rtfusion.cli.console import show_text
    from rtfusion.cli.stopping import Stopping

    if name != "language":
        raise ConfigError(f"no recipe {name!r}; there is language")
    with Stopping() as stopping:
        made = run_recipe(
            RecipeOptions(
                pairs=pairs,
                out=out,
                clip_weights=clip_weights,
                clip_model=clip_model,
                clip_test=not no_clip_test,
                stand_in=stand_in,
                goal=tuple(goal or ()),
                away_from=tuple(away_from or ()),
                teacher_preset=teacher_preset,
                student_preset=student_preset,
                vgg_weights=vgg_weights,
                teacher_steps=teacher_steps,
                student_steps=student_steps,
                shifts=shifts,
                eval_data=eval_data,
                trained_on=tuple(trained_on or ()),
                license_id=license_id,
                seed=seed,
                device=device,
                threads=threads,
                stop=stopping.event.is_set,
            )
        )
    if made is not None:
        show_text(f"{made}\n")
    sys.exit(stopping.exit_code)


def encoder(
    *,
    data: Data,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The encoder's file.")],
    labels: Annotated[
        Path | None, typer.Option("--labels", metavar="FILE", help="JSON: people and vehicles of the pairs.")
    ] = None,
    eval_data: Annotated[
        Path | None, typer.Option("--eval", metavar="DIR", help="Other pairs, to measure its accuracy on.")
    ] = None,
    eval_labels: Annotated[
        Path | None, typer.Option("--eval-labels", metavar="FILE", help="JSON: people and vehicles of those.")
    ] = None,
    steps: Annotated[int, typer.Option("--steps", metavar="N", min=1, help="Steps.")] = 2500,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Another seed is another encoder.")] = 0,
    threads: Threads = None,
    debug: Debug = False,
) -> None:
    """Train, write the file, and print the zero-shot accuracy by fact."""
    require_trainer()
    from rtfusion_trainer.labels import read_labels
    from rtfusion_trainer.progress import shown
    from rtfusion_trainer.stand_in.network import save_stand_in
    from rtfusion_trainer.stand_in.training import accuracy, seen_pairs, train_stand_in

    from rtfusion.cli.console import show_text
    from rtfusion.cli.stopping import Stopping

    if eval_labels is not None and eval_data is None:
        raise ConfigError("--eval-labels are of the pairs of --eval: pass both")
    if labels is not None:
        read_labels(labels, data=data)
    # read before the training, so that a wrong file or folder costs no encoder
    judging = None if eval_data is None else seen_pairs(eval_data, labels=eval_labels)
    with Stopping() as stopping, shown(total=steps) as log:
        made = train_stand_in(
            data, labels=labels, steps=steps, seed=seed, threads=threads, stop=stopping.event.is_set, log=log
        )
    if not stopping.event.is_set():
        measured = {} if judging is None else accuracy(made, judging)
        save_stand_in(
            out, made, card={"steps": steps, "seed": seed, **{f"accuracy {k}": v for k, v in measured.items()}}
        )
        figures = ", ".join(f"{fact} {value:.2f}" for fact, value in measured.items())
        lacking = (
            "--eval DIR names pairs to measure it on" if judging is None else "too few pictures say a fact clearly"
        )
        found = f"zero-shot accuracy {figures}" if figures else f"not measured; {lacking}"
        show_text(f"{out}: {found}\n")
    sys.exit(stopping.exit_code)


def focus(
    *,
    data: Data,
    out: RunFolder,
    labels: Annotated[
        Path | None,
        typer.Option("--labels", metavar="FILE", help="JSON: boxes by the stem of the pictures (docs/focus.md)."),
    ] = None,
    detector: Annotated[
        Path | None, typer.Option("--detector", metavar="FILE", help="YOLOX of COCO as ONNX, for pictures without.")
    ] = None,
    trained_on: TrainedOn,
    license_id: License,
    preset: Preset = "focus",
    steps: Steps = None,
    seed: Seed = None,
    threads: Threads = None,
    debug: Debug = False,
) -> None:
    """Train, write the file, and print it with the overlap on pictures that were held out."""
    require_trainer()
    from rtfusion_trainer.checkpoint import CHECKPOINT
    from rtfusion_trainer.focus.exporting import export_head
    from rtfusion_trainer.focus.training import train_focus

    from rtfusion.cli.console import show_text
    from rtfusion.cli.stopping import Stopping

    with Stopping() as stopping:
        scores = train_focus(
            data=data,
            out=out,
            preset=preset,
            labels=labels,
            detector=detector,
            steps=steps,
            seed=seed,
            threads=threads,
            stop=stopping.event.is_set,
        )
        if not stopping.event.is_set():
            path = export_head(out / CHECKPOINT, out, trained_on=trained_on, license_id=license_id, scores=scores)
            overlaps = ", ".join(f"{target} {value:.2f}" for target, value in scores.items()) or "nothing held out"
            show_text(f"{path}: overlap {overlaps}\n")
    sys.exit(stopping.exit_code)


def matcher(
    *,
    data: Data,
    out: RunFolder,
    trained_on: TrainedOn,
    license_id: License,
    preset: Preset = "matcher",
    steps: Steps = None,
    seed: Seed = None,
    threads: Threads = None,
    debug: Debug = False,
) -> None:
    """Train, write the file, and print it with the share of cells found in pictures that were held out."""
    require_trainer()
    from rtfusion_trainer.checkpoint import CHECKPOINT
    from rtfusion_trainer.matcher.exporting import export_matcher
    from rtfusion_trainer.matcher.training import train_matcher

    from rtfusion.cli.console import show_text
    from rtfusion.cli.stopping import Stopping

    with Stopping() as stopping:
        given = {"steps": steps, "seed": seed, "threads": threads}
        scores = train_matcher(data=data, out=out, preset=preset, stop=stopping.event.is_set, **given)
        if not stopping.event.is_set():
            path = export_matcher(out / CHECKPOINT, out, trained_on=trained_on, license_id=license_id, scores=scores)
            found = f"{100 * scores['found']:.0f} % of the cells found" if scores else "nothing held out"
            show_text(f"{path}: {found}\n")
    sys.exit(stopping.exit_code)


def cache(
    *,
    teacher: Annotated[str, typer.Option("--teacher", metavar="NAME", help="faithful, ldlite or ldfusion.")],
    data: Data,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the teachers' folders.")],
    weights: Annotated[
        Path | None, typer.Option("--weights", metavar="PATH", help="File of LD-Lite, or folder of LDFusion.")
    ] = None,
    shifts: Shifts = "few",
    limit: Limit = None,
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
