"""``rtfusion export``: a trained student as ONNX files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rtfusion.cli.options import Debug
from rtfusion.cli.training import require_trainer

HELP = """Write a trained student as ONNX files with their contract inside.

One file per precision, student-NAME.onnx, student-NAME-f16.onnx and
student-NAME-int8.onnx; each is compared with PyTorch before it is kept.
  rtfusion export --checkpoint run/checkpoint.pt --out models \\
    --precision f32 --precision int8 --data train \\
    --trained-on 'M3SVD, 168 pairs (MIT)' --license Apache-2.0"""


def export_student(
    *,
    checkpoint: Annotated[Path, typer.Option("--checkpoint", metavar="FILE", help="Of a student's training.")],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder of the files; those of these names are replaced.")
    ],
    precision: Annotated[
        list[str] | None,
        typer.Option("--precision", metavar="NAME", help="f32, f16 or int8 (repeatable). Default: f32."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="Training pairs SET/vi and SET/ir, to calibrate int8 on."),
    ] = None,
    trained_on: Annotated[
        list[str], typer.Option("--trained-on", metavar="SET", help="A data set with its terms (repeatable).")
    ],
    enhance: Annotated[
        float | None,
        typer.Option(
            "--enhance", metavar="0..1", min=0, max=1, help="Where the dial stands unless turned. Default: as trained."
        ),
    ] = None,
    license_id: Annotated[str, typer.Option("--license", metavar="ID", help="Of the weights, such as Apache-2.0.")],
    debug: Debug = False,
) -> None:
    """Write the files and print how far each is from PyTorch."""
    require_trainer()
    from rtfusion_trainer.export import export

    from rtfusion.cli.console import show, table

    differences = export(
        checkpoint,
        out,
        precisions=precision or ["f32"],
        data=data,
        trained_on=trained_on,
        license_id=license_id,
        enhance=enhance,
    )
    rows = table("file", "kB", "mean difference to PyTorch", numbers_from=1)
    for path, difference in differences.items():
        rows.add_row(str(path), f"{path.stat().st_size / 1000:.0f}", f"{difference:.5f}")
    show(rows)
