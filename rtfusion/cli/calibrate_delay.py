"""``rtfusion calibrate delay``: the constant time offset between two cameras, from what moves."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from rtfusion.cli.calibrate import Ir, Vis, check_free
from rtfusion.cli.options import Debug

HELP = """Measure by how much the stamps of the thermal camera are late.

Two cameras that see somebody wave, walk or drive by:
  rtfusion calibrate delay --ir /dev/video2 --vis /dev/video0 --out rig.json
Two recordings that began at the same moment:
  rtfusion calibrate delay --ir thermal.mp4 --vis visible.mp4 --out rig.json

A calibration that is there keeps all else, and tells where each camera looks;
make it first where the views differ by more than some pixels. Where the motion
does not tell the delay, nothing is written, and the exit code is 2."""


def delay(
    *,
    ir: Ir,
    vis: Vis,
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="Calibration file to note it in; made if there is none.")
    ],
    seconds: Annotated[
        float, typer.Option("--seconds", metavar="S", min=3.0, max=60.0, help="How long to look.")
    ] = 15.0,
    debug: Debug = False,
) -> None:
    """Look, measure, tell, write."""
    from rtfusion_calibration.delay import measure_delay, with_delay

    from rtfusion.capture import open_pair
    from rtfusion.cli.console import show_text
    from rtfusion.cli.stopping import Stopping
    from rtfusion.registration import Calibration

    check_free(out, overwrite=True, inputs=(ir, vis))
    before = Calibration.load(out) if out.exists() else None
    visible, thermal = open_pair(visible=vis, thermal=ir)
    with closing(visible), closing(thermal), Stopping() as stopping:
        estimate = measure_delay(
            visible=visible, thermal=thermal, calibration=before, seconds=seconds, stop=stopping.event
        )
    with_delay(before, estimate, visible=visible.info, thermal=thermal.info).save(out)
    show_text(f"{estimate.sentence()}\ncalibration: {out}\n")
