"""``rtfusion train evaluate``: everything that is measured of a model, its result file and its card."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from rtfusion.cli.options import Debug, Overwrite
from rtfusion.cli.training import require_trainer

HELP = """Measure a model on sets of pairs and on clips, and write its card.

Image metrics and halo on sets; warp error, noise and halo on clips; leak; how
far other precisions move; with a detector, the people that are found; with a
teacher's outputs ([bold]rtfusion train cache[/bold]), how like it the model is.
  rtfusion train evaluate --model models/student-small.onnx \\
    --parity models/student-small-int8.onnx \\
    --data eval --clips video --json result.json --card small.md --stamp"""
PUBLISHED_SET, PUBLISHED_PAIRS = "tno", 42
"""The set for which published methods are known, when it is whole."""


def evaluate_model(
    *,
    model: Annotated[
        Path, typer.Option("--model", metavar="NAME|FILE", help="A shipped model, an ONNX file, or a checkpoint.")
    ],
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="Sets of unrelated pairs: SET/vi and SET/ir.")
    ] = None,
    clips: Annotated[
        Path | None,
        typer.Option("--clips", metavar="DIR", help="Clips: CLIP/vi.mp4 and CLIP/ir.mp4, or folders vi and ir."),
    ] = None,
    parity: Annotated[
        list[Path] | None,
        typer.Option("--parity", metavar="FILE", help="The same student in another precision (repeatable)."),
    ] = None,
    reference: Annotated[
        list[str] | None,
        typer.Option(
            "--reference", metavar="NAME", help="Fuser, or model that ships, beside it (repeatable). Default: pyramid."
        ),
    ] = None,
    teacher_cache: Annotated[
        Path | None,
        typer.Option(
            "--teacher-cache", metavar="DIR", help="A teacher's outputs of the same pairs, to be held against them."
        ),
    ] = None,
    vgg_weights: Annotated[
        Path | None,
        typer.Option("--vgg-weights", metavar="FILE", help="VGG-19, for the distance in features from them."),
    ] = None,
    detector: Annotated[
        Path | None, typer.Option("--detector", metavar="FILE", help="YOLOX of COCO as ONNX, to look for people.")
    ] = None,
    people: Annotated[
        Path | None, typer.Option("--people", metavar="DIR", help="Folder of the recordings with labeled people.")
    ] = None,
    enhance: Annotated[
        float | None,
        typer.Option("--enhance", metavar="0..1", min=0, max=1, help="Dial. Without it, the model's default."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="The first N pairs of every set.")
    ] = None,
    frames: Annotated[int, typer.Option("--frames", metavar="N", min=2, help="The first N frames of every clip.")] = 60,
    threads: Annotated[int | None, typer.Option("--threads", metavar="N", min=1, help="Threads of the engine.")] = None,
    result_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Result file to write.")] = None,
    card_file: Annotated[
        Path | None, typer.Option("--card", metavar="FILE", help="Model card to write (Markdown).")
    ] = None,
    note: Annotated[
        list[str] | None,
        typer.Option("--note", metavar="TEXT", help="What the card should say beyond figures (repeatable)."),
    ] = None,
    stamp: Annotated[
        bool, typer.Option("--stamp", metavar="", help="Put the scores into the model files, those of --parity too.")
    ] = False,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Measure, and write what was asked for; the card goes to stdout where no file is named."""
    require_trainer()
    from rtfusion_trainer.card import card
    from rtfusion_trainer.evaluate import evaluate, scores

    from rtfusion.cli.console import say, show_text
    from rtfusion.errors import ConfigError
    from rtfusion.files import check_output
    from rtfusion.models import find_model

    for path in filter(None, (result_file, card_file)):
        if path.exists():
            check_output(path, overwrite=overwrite, taken={model: "an input"})
    if (detector is None) != (people is None):
        raise ConfigError("people are looked for with --detector FILE in --people DIR; give both, or neither")
    if model.suffix == ".pt" and (stamp or detector):
        use = "--stamp puts scores into ONNX files" if stamp else "people are looked for with an ONNX file"
        raise ConfigError(f"{use}, and this is a checkpoint; export it first")
    teacher, features = _teacher(teacher_cache, data=data, vgg_weights=vgg_weights)
    result = evaluate(
        model,
        data=data,
        clips=clips,
        parity=parity or (),
        references=reference or ("pyramid",),
        enhance=enhance,
        limit=limit,
        frames=frames,
        threads=threads,
        teacher=teacher,
        features=features,
        log=say,
    )
    _rank(result)
    if detector is not None and people is not None:
        say("people")
        result["people"] = _people(find_model(model), detector=detector, data=people, enhance=enhance)
    if result_file is not None:
        _write(result_file, json.dumps(result, indent=1, allow_nan=False) + "\n")
    text = card(result, notes=note or ())
    if card_file is None:
        show_text(text)
    else:
        _write(card_file, text)
    if stamp:
        from rtfusion_trainer.export import stamp_scores

        for path in (model, *(parity or ())):
            stamp_scores(find_model(path), scores(result))


def _teacher(cache: Path | None, *, data: Path | None, vgg_weights: Path | None) -> tuple[Any, Any]:
    """The teacher's pictures and VGG-19, each None where it is not asked for."""
    from rtfusion_trainer.config import Imitation
    from rtfusion_trainer.losses.perceptual import load_vgg19
    from rtfusion_trainer.teachers.cache import CachedPictures

    from rtfusion.errors import ConfigError

    if cache is None:
        if vgg_weights is not None:
            raise ConfigError("--vgg-weights are for the distance from a teacher; pass --teacher-cache DIR too")
        return None, None
    if data is None:
        raise ConfigError("--teacher-cache holds outputs of the pairs of --data DIR; pass both")
    features = None if vgg_weights is None else load_vgg19(vgg_weights, layers=Imitation().layers)
    return CachedPictures(cache), features


def _rank(result: dict[str, Any]) -> None:
    """Mean ranks over eleven metrics among the cases, and among the published methods where they are known for the set."""
    from rtfusion.evaluate.ranking import mean_ranks, published

    known = published(PUBLISHED_SET)
    for name, entry in result["sets"].items():
        rows: dict[str, list[float]] = {
            case: [figures[metric] for metric in known.metrics] for case, figures in entry["cases"].items()
        }
        if (name, entry["pairs"]) == (PUBLISHED_SET, PUBLISHED_PAIRS):
            rows = {**known.rows, **rows}
        if any(None in row for row in rows.values()):
            continue  # PSNR of pictures that are equal
        ranks = mean_ranks(rows)
        entry["mean_rank"] = {case: ranks[case] for case in entry["cases"]}
        entry["ranked_among"] = len(rows)


def _people(model: Path, *, detector: Path, data: Path, enhance: float | None) -> Sequence[Mapping[str, Any]]:
    """Rows of `rtfusion.evaluate.visibility` for the model and both bands."""
    from rtfusion.evaluate import visibility
    from rtfusion.evaluate.detector import Detector

    dials = [] if enhance is None else [enhance]
    return visibility.measure(
        data=data,
        detector=Detector(detector),
        methods=visibility.methods(fusers=[], models={"student": model}, enhance=dials),
        sets=visibility.read_labels(visibility.LABELS),
    )


def _write(path: Path, text: str) -> None:
    from rtfusion.errors import ConfigError
    from rtfusion.files import write_whole

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}; name another file") from error
