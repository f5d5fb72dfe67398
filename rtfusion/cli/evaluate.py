"""``rtfusion evaluate``: how good fused images or videos are, whoever made them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from rtfusion.cli.options import Debug, Overwrite


def evaluate(
    *,
    ir: Annotated[Path, typer.Option("--ir", metavar="DIR", help="Thermal images, or a video.")],
    vis: Annotated[Path, typer.Option("--vis", metavar="DIR", help="Visible images, or a video.")],
    fused: Annotated[list[Path], typer.Option("--fused", metavar="DIR", help="Fused ones of a method (repeatable).")],
    every: Annotated[int, typer.Option("--every", metavar="N", min=1, help="Of videos, every n-th frame only.")] = 1,
    thermal_delay_ms: Annotated[
        float, typer.Option("--thermal-delay-ms", metavar="MS", help="Of videos, known delay of the thermal stamps.")
    ] = 0.0,
    published: Annotated[
        str | None,
        typer.Option(
            "--published",
            metavar="SET",
            help="Rank published methods of a set too (tno); warns when the pictures are others.",
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all values, per image too.")
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE", help="Write the table in Markdown.")
    ] = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Measure fused images or videos of any method, side by side.

    Folders are matched by file name, videos in time. Every value is the mean over
    all images, with its standard error where the table is narrow enough for it;
    --json has both, and every image. The mean rank says over how many metrics.

      rtfusion evaluate --ir ir/ --vis vi/ --fused mine/ --fused theirs/
      rtfusion evaluate --ir ir.mp4 --vis vi.mp4 --fused fused.mp4 --every 10

    Color is judged by its luminance alone. Higher is better but for Nabf and warp
    (flicker of videos). EN, SD, SF and AG rise with noise as well.
    """
    from rtfusion.cli.console import say, show_text
    from rtfusion.evaluate import quality
    from rtfusion.files import check_output

    fused = [Path(str(path).removeprefix("images:")) for path in fused]  # as --sink writes it
    taken = dict.fromkeys([*map(Path, (ir, vis)), *map(Path, fused)], "an input")
    for path in filter(None, (json_file, markdown)):
        check_output(path, overwrite=overwrite, taken=taken)
        taken[path] = "another output"
    result = quality.compare(
        ir=ir,
        vis=vis,
        fused=quality.names_of(fused),
        every=every,
        thermal_delay_ms=thermal_delay_ms,
        published=published,
    )
    show_text(quality.format_table(result) + "\n")
    for note in result["notes"]:
        say(note, level="warning")
    if json_file is not None:
        json_file.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    if markdown is not None:
        markdown.write_text(quality.format_markdown(result), encoding="utf-8")
