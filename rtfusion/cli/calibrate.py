"""The options that the commands of ``rtfusion calibrate`` share, and the check that their outputs can be written."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

Ir = Annotated[str, typer.Option("--ir", metavar="SRC", help="Thermal camera or recording.")]
Vis = Annotated[str, typer.Option("--vis", metavar="SRC", help="Visible camera or recording.")]
File = Annotated[Path, typer.Argument(metavar="FILE", help="Calibration file.", show_default=False)]
Out = Annotated[Path, typer.Option("--out", metavar="FILE", help="Calibration file to write.")]
ThermalDelayMs = Annotated[
    float, typer.Option("--thermal-delay-ms", metavar="MS", help="Known delay of the thermal stamps.")
]
DistanceM = Annotated[
    float, typer.Option("--distance-m", metavar="M", min=0.1, help="Distance that the registration is set for.")
]
DEFAULT_DISTANCE_M = 8.0


def check_free(*paths: Path, overwrite: bool, inputs: Iterable[str | Path | None] = ()) -> None:
    """Find out before the work that an output could not be written after it; ``inputs`` are sources and files that are read.

    Raises:
        ConfigError: there is such a file already, it is an input, or there is no such folder.
    """
    from rtfusion.capture import source_path
    from rtfusion.errors import FusionError
    from rtfusion.files import check_output

    taken: dict[Path, str] = {}
    for given in inputs:
        with suppress(FusionError):  # one that cannot be told is an error when it is opened
            path = source_path(given) if isinstance(given, str) else given
            if path is not None:
                taken[path] = "an input"
    for path in paths:
        check_output(path, overwrite=overwrite, taken=taken)
        taken[path] = "another output"
