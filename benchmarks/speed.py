"""How fast the main job runs: decode, pair, register, fuse, hand to the null sink. `python -m benchmarks.speed --help`.

Two files are decoded as fast as they can be: the figure is capacity, not camera rate. By default they are made from the synthetic
scene (H.264, 640x480, 300 frames); name your own with --ir and --vis. Every case runs in a process of its own, so that
its memory is its own, and the cases take turns.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import timing

BASELINE = "average"


def main() -> None:
    """Measure, print the table, and write the result file where one is asked for."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="rtfusion-speed-") as folder:
        if arguments.ir is None or arguments.vis is None:
            arguments.vis, arguments.ir = _make_clips(Path(folder), arguments.size, arguments.frames)
            source = f"synthetic scene, H.264, {arguments.size}, {arguments.frames} frames"
        else:
            source = f"{Path(arguments.vis).parent.name}"
        cases = {name: _case(arguments, name) for name in arguments.fuser}
        for case in cases.values():
            case()  # warm-up: file cache, compiled bytecode, processor clocks
        rows = timing.interleaved(cases, rounds=arguments.rounds, baseline=arguments.fuser[0], figure="fps")
    settings = {"source": source, "loop": arguments.loop, "sink": "null:", "baseline": arguments.fuser[0]}
    data = timing.result("speed", settings=settings, rows=rows)
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
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__.splitlines()[0])
    parser.add_argument("--ir", help="thermal recording; default: made from the synthetic scene")
    parser.add_argument("--vis", help="visible recording; default: made from the synthetic scene")
    parser.add_argument(
        "--fuser", nargs="+", default=[BASELINE, "maximum", "pyramid", "overlay"], help="the first is the baseline"
    )
    parser.add_argument("--size", default="640x480", help="of the synthetic clips")
    parser.add_argument("--frames", type=int, default=300, help="of the synthetic clips")
    parser.add_argument("--loop", type=int, default=4, help="times each recording is played in one run")
    parser.add_argument("--rounds", type=int, default=5, help="runs per fuser, taken in turn")
    parser.add_argument("--json", type=Path, help="result file to write")
    return parser.parse_args()


def _make_clips(folder: Path, size: str, frames: int) -> tuple[str, str]:
    """Visible and thermal clips of the synthetic scene, H.264."""
    scene = f"synthetic:?size={size}&frames={frames}&fps=30&scene=day"
    paths = []
    for band in ("visible", "thermal"):
        path = folder / f"{band}.mp4"
        _write_band(scene, band=band, path=path)
        paths.append(str(path))
    return paths[0], paths[1]


def _write_band(scene: str, *, band: str, path: Path) -> None:
    from rtfusion import Band, EndOfStream, FusedFrame, open_sink, open_source
    from rtfusion.fusion.color import as_bgr
    from rtfusion.sinks.base import SinkContext

    source = open_source(scene, band=Band(band))
    sink = open_sink(str(path), context=SinkContext(rate_hz=source.info.rate_hz, live=False, session="speed"))
    try:
        while True:
            frame = source.read(timeout_s=5.0)
            image = as_bgr(frame.image.astype(np.uint8, copy=False))
            sink.write(
                FusedFrame(
                    image=image,
                    visible=image,
                    thermal=image[..., 0],
                    timestamp_ns=frame.timestamp_ns,
                    thermal_timestamp_ns=frame.timestamp_ns,
                    received_ns=frame.received_ns,
                    sequence=frame.sequence,
                    fuser="none",
                )
            )
    except EndOfStream:
        pass
    finally:
        source.close()
        sink.close(aborted=False)


def _case(arguments: argparse.Namespace, fuser: str) -> Callable[[], dict[str, float]]:
    command = [sys.executable, "-m", "benchmarks.speed_case", arguments.vis, arguments.ir, fuser, str(arguments.loop)]

    def run() -> dict[str, float]:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            raise SystemExit(f"the case {fuser} failed:\n{done.stderr}")
        figures: dict[str, float] = json.loads(done.stdout)
        return figures

    return run


if __name__ == "__main__":
    main()
