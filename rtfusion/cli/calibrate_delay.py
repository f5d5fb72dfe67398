"""``rtfusion calibrate delay``: the constant time offset between two cameras, from what moves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rtfusion.cli.calibrate_board import Ir, Vis
from rtfusion.cli.options import Debug

if TYPE_CHECKING:
    from rtfusion_calibration.delay import DelayEstimate

HELP = """Measure by how much the stamps of the thermal camera are late.

Two cameras that see somebody wave, walk or drive by:
  rtfusion calibrate delay --ir /dev/video1 --vis /dev/video0 --out rig.json
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
    from rtfusion.cli.calibrate_board import check_free
    from rtfusion.cli.console import show_text
    from rtfusion.cli.stopping import Stopping
    from rtfusion.registration import Calibration

    check_free(out, overwrite=True)
    before = Calibration.load(out) if out.exists() else None
    visible, thermal = open_pair(visible=vis, thermal=ir)
    try:
        with Stopping() as stopping:
            estimate: DelayEstimate = measure_delay(
                visible=visible, thermal=thermal, calibration=before, seconds=seconds, stop=stopping.event
            )
    finally:
        visible.close()
        thermal.close()
    with_delay(before, estimate, visible=visible.info, thermal=thermal.info).save(out)
    show_text(f"{estimate.sentence()}\ncalibration: {out}\n")
