"""``rtfusion replay``: fuse a recorded session again."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, cast

import typer

from rtfusion.cli.options import Debug, LogJson, takes_settings


@takes_settings(decider="replay")
def replay(
    flags: Mapping[str, object],
    *,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The session's folder.", show_default=False)],
    check: Annotated[
        bool, typer.Option("--check", metavar="", rich_help_panel="Output", help="Fail unless all frames are the same.")
    ] = False,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", metavar="", rich_help_panel="Input", help="Fail at a damaged segment; else it is skipped."
        ),
    ] = False,
    log_json: LogJson = False,
    debug: Debug = False,
) -> None:
    """Fuse a recorded session again: with the settings it was recorded with, or with others.

    As fast as possible into a video, and at its own speed into a window:
      rtfusion replay recordings/2026-11-21T05-45-12Z-5f0c9e --sink again.mp4
      rtfusion replay recordings/2026-11-21T05-45-12Z-5f0c9e --pace --sink window:
    Whether every fused frame is bit for bit what it was:
      rtfusion replay recordings/2026-11-21T05-45-12Z-5f0c9e --check
    """
    from rtfusion.cli.job import run_job
    from rtfusion.config import Settings, load
    from rtfusion.errors import ConfigError
    from rtfusion.redaction import MASK
    from rtfusion.session.format import load_session

    session = load_session(folder, strict=strict)
    replayed = [name for name, setting in Settings.declared().items() if setting.replayed]
    source = f"session:{session.folder}" + ("?strict=true" if strict else "")
    recorded = {name: session.settings.get(name) for name in replayed}
    for name, value in recorded.items():
        if MASK in str(value) and name not in flags:
            raise ConfigError(
                f"{name} was recorded as {value}: its secret was not kept; give --{name.replace('_', '-')}"
            )
    merged: dict[str, object] = {
        **recorded,
        "calibration": session.calibration,
        **flags,
        "ir": source,
        "vis": source,
    }
    if check:
        merged["sink"] = (*cast("Iterable[str]", flags.get("sink", ())), f"compare:{session.folder}")
    sys.exit(run_job(load(merged, file=Path(os.devnull), environ={})))
