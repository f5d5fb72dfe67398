"""How fast the main job runs: decode, pair, register, fuse, hand to the null sink. `python -m benchmarks.speed --help`.

Two files are decoded as fast as they can be: the figure is capacity, not camera rate. By default they are made from the synthetic
scene (H.264, 640x480, 300 frames); name your own with --ir and --vis. Every case runs in a process of its own, so that
its memory is its own, and the cases take turns.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import timing
from benchmarks.clips import make_clips
from benchmarks.conditions import Conditions
from benchmarks.methods import Method, select
from benchmarks.speed_case import run_case

CLASSICAL_AND_OVERLAY = ("average", "maximum", "pyramid", "overlay")
FIGURES = ("fps", "frames", "fuser_p50_ms", "fuser_p99_ms", "cpu_ms_per_frame", "memory_mb")


def main() -> None:
    """Measure, print the table, and write the result file where one is asked for."""
    arguments = _arguments()
    chosen = [method for method in select(fusers=CLASSICAL_AND_OVERLAY, enhance=()) if method.name in arguments.fuser]
    conditions = Conditions()
    with tempfile.TemporaryDirectory(prefix="rtfusion-speed-") as folder:
        source = "named on the command line"
        if arguments.ir is None or arguments.vis is None:
            clips = make_clips(Path(folder), size=arguments.size, frames=arguments.frames)
            arguments.vis, arguments.ir = clips["vis"], clips["ir"]
            source = f"synthetic scene, H.264, {arguments.size}, {arguments.frames} frames"
        # one round of warm-up: file cache, compiled bytecode, processor clocks
        cases = {method.name: _case(arguments, method) for method in chosen}
        baseline = chosen[0].name
        rows = timing.interleaved(cases, rounds=arguments.rounds, baseline=baseline, figure="fps", warm_up=1)
    settings = {"source": source, "loop": arguments.loop, "sink": "null:", "baseline": baseline}
    data = timing.result("speed", settings=settings, rows=rows, conditions=conditions)
    print(table(data))
    if arguments.json is not None:
        timing.save(data, arguments.json)


def table(data: dict[str, Any]) -> str:
    """The result as a Markdown table."""
    lines = [
        f"{data['settings']['source']}, {data['machine']['cores']} cores of {data['machine']['processor']}",
        "",
        "| fuser | FPS | min to max | ratio | fuser p50 ms | fuser p99 ms | CPU ms/frame | memory MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in data["rows"]:
        fps = row["fps"]
        lines.append(
            f"| {row['case']} | {fps['median']:.0f} | {fps['min']:.0f} to {fps['max']:.0f} | {row['ratio']:.2f} "
            f"| {row['fuser_p50_ms']['median']:.2f} | {row['fuser_p99_ms']['median']:.2f} "
            f"| {row['cpu_ms_per_frame']['median']:.2f} | {row['memory_mb']['max']:.0f} |"
        )
    return "\n".join(lines)


def _arguments() -> argparse.Namespace:
    known = [method.name for method in select(fusers=CLASSICAL_AND_OVERLAY, enhance=())]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__.splitlines()[0])
    parser.add_argument("--ir", help="thermal recording; default: made from the synthetic scene")
    parser.add_argument("--vis", help="visible recording; default: made from the synthetic scene")
    parser.add_argument(
        "--fuser", nargs="+", default=known, choices=known, metavar="NAME", help=f"of {', '.join(known)}"
    )
    parser.add_argument("--size", default="640x480", help="of the synthetic clips")
    parser.add_argument("--frames", type=int, default=300, help="of the synthetic clips")
    parser.add_argument("--loop", type=int, default=4, help="times each recording is played in one run")
    parser.add_argument("--rounds", type=int, default=5, help="runs per fuser, taken in turn")
    parser.add_argument("--json", type=Path, help="result file to write")
    return parser.parse_args()


def _case(arguments: argparse.Namespace, method: Method) -> Callable[[], dict[str, float]]:
    settings = {"vis": arguments.vis, "ir": arguments.ir, "loop": arguments.loop, **method.settings}

    def run() -> dict[str, float]:
        try:
            figures = run_case(settings)
        except RuntimeError as error:
            raise SystemExit(f"the case {method.name} failed: {error}") from None
        stages = figures["stages_ms"]
        return {
            **{name: figures[name] for name in FIGURES},
            "decode_visible_p50_ms": stages["decode visible"]["p50"],
            "decode_thermal_p50_ms": stages["decode thermal"]["p50"],
        }

    return run


if __name__ == "__main__":
    main()
