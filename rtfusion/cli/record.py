"""``rtfusion record``: fuse, and keep what came from the cameras."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from rtfusion.cli.options import ConfigFile, Debug, LogJson, takes_settings


@takes_settings()
def record(
    flags: Mapping[str, object],
    *,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", rich_help_panel="Recording", help="Folder of the sessions.")
    ],
    segment_s: Annotated[
        int,
        typer.Option("--segment-s", metavar="S", min=1, rich_help_panel="Recording", help="Length of a segment."),
    ] = 60,
    reserve_mb: Annotated[
        int,
        typer.Option("--reserve-mb", metavar="MB", min=1, rich_help_panel="Recording", help="Left free on the disk."),
    ] = 1024,
    keep: Annotated[
        str | None,
        typer.Option("--keep", metavar="TIME", rich_help_panel="Recording", help="Delete older segments, as with 7d."),
    ] = None,
    max_gb: Annotated[
        float | None,
        typer.Option("--max-gb", metavar="GB", rich_help_panel="Recording", help="Delete the oldest beyond this size."),
    ] = None,
    config: ConfigFile = None,
    log_json: LogJson = False,
    debug: Debug = False,
) -> None:
    """Fuse as [bold]run[/bold] does, and record both cameras losslessly with all that replaying needs.

      rtfusion record --ir /dev/video2 --vis /dev/video0 --out recordings
      rtfusion replay recordings/2026-11-21T05-45-12Z-5f0c9e

    Every run makes a folder of its own in --out: raw frames (16-bit thermal counts
    as they came), stamps, calibration and the fused video, in segments that
    survive a kill. Before the disk is full recording stops, and fusing goes on.
    """
    from rtfusion.cli.job import run_job
    from rtfusion.config import load

    loaded = load(flags, file=config, environ=os.environ)
    bounds = {"segment_s": segment_s, "reserve_mb": reserve_mb, "keep": keep, "max_gb": max_gb}
    query = "&".join(f"{name}={value}" for name, value in bounds.items() if value is not None)
    sink = (*loaded.settings.sink, f"record:{out}?{query}")
    settings = loaded.settings.model_copy(update={"sink": sink})
    sys.exit(run_job(replace(loaded, settings=settings)))
