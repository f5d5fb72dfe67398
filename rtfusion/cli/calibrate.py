"""The options that the commands of ``rtfusion calibrate`` share, and the check that their outputs can be written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

Ir = Annotated[str, typer.Option("--ir", metavar="SRC", help="Thermal camera or recording.")]
Vis = Annotated[str, typer.Option("--vis", metavar="SRC", help="Visible camera or recording.")]
File = Annotated[Path, typer.Argument(metavar="FILE", help="Calibration file.", show_default=False)]
Out = Annotated[Path, typer.Option("--out", metavar="FILE", help="Calibration file to write.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", metavar="", help="Replace outputs that exist.")]
ThermalDelayMs = Annotated[
    float, typer.Option("--thermal-delay-ms", metavar="MS", help="Known delay of the thermal stamps.")
]
DistanceM = Annotated[
    float, typer.Option("--distance-m", metavar="M", min=0.1, help="Distance that the registration is set for.")
]
DEFAULT_DISTANCE_M = 8.0


def check_free(*paths: Path, overwrite: bool) -> None:
    """Find out before the work that an output could not be written after it.

    Raises:
        ConfigError: there is such a file already, or no such folder.
    """
    from rtfusion.errors import ConfigError

    for path in paths:
        folder = path.resolve().parent
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            raise ConfigError(f"cannot write {path}: {folder} is no folder that can be written to; make it first")
        if path.exists() and not overwrite:
            raise ConfigError(f"{path} exists; choose another name, or replace it with --overwrite")
