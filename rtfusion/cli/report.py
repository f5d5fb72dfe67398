"""``rtfusion report``: a run as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rtfusion.cli.options import Debug, Overwrite


def report(
    *,
    stats: Annotated[Path, typer.Argument(metavar="FILE", help="What --stats-json wrote.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="The HTML file. Without it, beside the statistics.")
    ] = None,
    pictures: Annotated[
        int, typer.Option("--pictures", metavar="N", min=0, max=50, help="Moments to show, over the whole run.")
    ] = 4,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Make one HTML file of a run: pictures side by side, plots, tables.

      rtfusion run --ir ir.mp4 --vis vi.mp4 --sink fused.mp4 --stats-json run.json
      rtfusion report run.json

    The pictures are read again from the recordings and from the output.
    """
    from rtfusion.cli.console import say, show_text
    from rtfusion.evaluate.run_page import write_report
    from rtfusion.files import check_output

    target = out if out is not None else stats.with_suffix(".html")
    check_output(target, overwrite=overwrite, taken={stats: "an input"})
    for sentence in write_report(stats, target, pictures=pictures):
        say(sentence)
    show_text(f"{target}\n")
