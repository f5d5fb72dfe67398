"""``rtfusion calibrate scene``: a calibration without a target, from what both cameras see."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rtfusion.cli.calibrate_board import Ir, Vis
from rtfusion.cli.options import Debug

if TYPE_CHECKING:
    from rtfusion.types import FramePair

HELP = """Estimate the registration from an ordinary scene, without a target.

Two cameras, looking at a scene with many edges, all far away:
  rtfusion calibrate scene --ir /dev/video1 --vis /dev/video0 --out rig.json
Two folders of images, matched by name, or two videos:
  rtfusion calibrate scene --ir ir/ --vis vi/ --out rig.json

It holds at the distance of what was seen. Where the scene does not determine
it, nothing is written, the reason is told, and the exit code is 2."""

LIVE_PAIRS = 150
PAIRS = 20


def scene(
    *,
    ir: Ir,
    vis: Vis,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Calibration file to write.")],
    thermal_delay_ms: Annotated[
        float, typer.Option("--thermal-delay-ms", metavar="MS", help="Known delay of the thermal stamps.")
    ] = 0.0,
    overwrite: Annotated[bool, typer.Option("--overwrite", metavar="", help="Replace a file that exists.")] = False,
    debug: Debug = False,
) -> None:
    """Look, estimate, tell, write."""
    from rtfusion_calibration.scene import estimate_scene, gray_pair

    from rtfusion.cli.calibrate_board import check_free
    from rtfusion.cli.console import say, show_text
    from rtfusion.clock import NS_PER_MS
    from rtfusion.errors import CalibrationError

    check_free(out, overwrite=overwrite)
    pairs = _look(ir=ir, vis=vis, thermal_delay_ms=thermal_delay_ms)
    if not pairs:
        raise CalibrationError("no pair of pictures came; do both sources play, and at the same time?")
    say(f"comparing {len(pairs)} pairs")
    estimate = estimate_scene([gray_pair(pair) for pair in pairs])
    calibration = estimate.calibration(
        visible_size_px=pairs[0].visible.size_px,
        thermal_size_px=pairs[0].thermal.size_px,
        thermal_delay_ns=round(thermal_delay_ms * NS_PER_MS),
    )
    calibration.save(out)
    names = [pairs[index].visible.name or f"pair {index + 1}" for index in estimate.outliers]
    left_out = f"left out, of another moment or place of the cameras: {', '.join(names)}\n" if names else ""
    show_text(f"{estimate.sentence()}\n{left_out}calibration: {out}\n")


def _look(*, ir: str, vis: str, thermal_delay_ms: float) -> list[FramePair]:
    """Some pairs, evenly chosen, until the recordings are over, enough came from a camera, or Ctrl-C."""
    from rtfusion_calibration.collect import Sampler

    from rtfusion.cli.stopping import Stopping
    from rtfusion.pairs import open_pairs

    sampler = Sampler(PAIRS)
    with (
        Stopping() as stopping,
        open_pairs(ir=ir, vis=vis, thermal_delay_ms=thermal_delay_ms, stop=stopping.event, read_ahead=True) as pairs,
    ):
        for pair in islice(pairs, LIVE_PAIRS if pairs.live else None):
            sampler(pair)
    return sampler.pairs
