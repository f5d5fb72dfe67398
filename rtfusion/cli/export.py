"""``rtfusion export``: a trained student as ONNX files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rtfusion.cli.options import Debug
from rtfusion.cli.training import require_trainer

HELP = """Write a trained student as ONNX files with their contract inside.

One file per precision, student-NAME.onnx, student-NAME-f16.onnx and so on;
each is compared with PyTorch before it is kept. gpu-f16 and gpu-int8 are for
TensorRT and CUDA, and are made of a model file as well:
  rtfusion export --checkpoint small --out models --data train \\
    --precision gpu-f16 --precision gpu-int8

  rtfusion export --checkpoint run/checkpoint.pt --out models \\
    --precision f32 --precision int8 --data train \\
    --trained-on 'M3SVD, 168 pairs (MIT)' --license Apache-2.0"""


def export_student(
    *,
    checkpoint: Annotated[
        Path,
        typer.Option(
            "--checkpoint", metavar="FILE", help="Of a student's training; for GPU files, also a float32 model."
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder of the files; those of these names are replaced.")
    ],
    precision: Annotated[
        list[str] | None,
        typer.Option(
            "--precision", metavar="NAME", help="f32, f16, int8, gpu-f16 or gpu-int8 (repeatable). Default: f32."
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", metavar="DIR", help="Training pairs SET/vi and SET/ir, to calibrate int8 and GPU files on."
        ),
    ] = None,
    trained_on: Annotated[
        list[str] | None, typer.Option("--trained-on", metavar="SET", help="A data set with its terms (repeatable).")
    ] = None,
    enhance: Annotated[
        float | None,
        typer.Option(
            "--enhance", metavar="0..1", min=0, max=1, help="Where the dial stands unless turned. Default: as trained."
        ),
    ] = None,
    license_id: Annotated[
        str | None, typer.Option("--license", metavar="ID", help="Of the weights, such as Apache-2.0.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Write the files and print how far each is from PyTorch."""
    require_trainer()
    from rtfusion_trainer.checkpoint import CHECKPOINT
    from rtfusion_trainer.distill import is_model
    from rtfusion_trainer.export import export

    from rtfusion.cli.console import busy, show, table
    from rtfusion.errors import ConfigError

    if (checkpoint / CHECKPOINT).is_file():  # else it may be the name of a model that ships
        raise ConfigError(
            f"{checkpoint} is a folder; the checkpoint of a training is the file {checkpoint / CHECKPOINT} in it"
        )
    if is_model(checkpoint) and (trained_on or license_id or enhance is not None):
        raise ConfigError(
            "a model file says itself what it was trained on: leave out --trained-on, --license, --enhance"
        )
    if not is_model(checkpoint) and not (trained_on and license_id):
        raise ConfigError("the file says what it was trained on and its license: pass --trained-on and --license")
    with busy("writing the files and comparing each with PyTorch"):
        differences = export(
            checkpoint,
            out,
            precisions=precision or ["f32"],
            data=data,
            trained_on=trained_on or (),
            license_id=license_id or "",
            enhance=enhance,
        )
    rows = table("file", "kB", "mean difference to PyTorch", numbers_from=1)
    for path, difference in differences.items():
        rows.add_row(str(path), f"{path.stat().st_size / 1000:.0f}", f"{difference:.5f}")
    show(rows)
