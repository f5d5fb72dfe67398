"""``rtfusion calibrate scene``: a calibration without a target, from what both cameras see."""

from __future__ import annotations

from itertools import islice

from rtfusion.cli.calibrate import Ir, Out, ThermalDelayMs, Vis, check_free
from rtfusion.cli.options import Debug, Overwrite

HELP = """Estimate the registration from an ordinary scene, without a target.

Two cameras, looking at a scene with many edges, all far away:
  rtfusion calibrate scene --ir /dev/video2 --vis /dev/video0 --out rig.json
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
    out: Out,
    thermal_delay_ms: ThermalDelayMs = 0.0,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Look, estimate, tell, write."""
    from rtfusion_calibration.collect import Sampler
    from rtfusion_calibration.scene import estimate_scene, gray_pair

    from rtfusion.cli.console import say, show_text
    from rtfusion.cli.stopping import Stopping
    from rtfusion.clock import NS_PER_MS
    from rtfusion.errors import CalibrationError
    from rtfusion.pairs import open_pairs
    from rtfusion.progress import part, steps

    check_free(out, overwrite=overwrite, inputs=(ir, vis))
    sampler = Sampler(PAIRS)
    with (
        Stopping() as stopping,
        open_pairs(ir=ir, vis=vis, thermal_delay_ms=thermal_delay_ms, stop=stopping.event, read_ahead=True) as stream,
    ):
        total = LIVE_PAIRS if stream.live else stream.visible.frame_count
        for pair in steps(islice(stream, LIVE_PAIRS if stream.live else None), "looking at pairs", total=total):
            sampler(pair)
    pairs = sampler.kept
    if not pairs:
        raise CalibrationError("no pair of pictures came; do both sources play, and at the same time?")
    say(f"comparing {len(pairs)} pairs")
    with part(0.0, 1.0):
        estimate = estimate_scene([gray_pair(pair) for pair in pairs])
    estimate.calibration(
        visible_size_px=pairs[0].visible.size_px,
        thermal_size_px=pairs[0].thermal.size_px,
        thermal_delay_ns=round(thermal_delay_ms * NS_PER_MS),
    ).save(out)
    names = [pairs[index].visible.name or f"pair {index + 1}" for index in estimate.outliers]
    left_out = f"left out, of another moment or place of the cameras: {', '.join(names)}\n" if names else ""
    show_text(f"{estimate.sentence()}\n{left_out}calibration: {out}\n")
