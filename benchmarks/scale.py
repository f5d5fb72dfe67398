"""What it costs to see more: pixels, camera pairs at once, and the cores for it. `python -m benchmarks.scale --help`.

Three tables: milliseconds per frame against the size of the picture; frames per second of 1 to 8 pairs at once on this machine,
as one process each or as threads of one process; and frames per second of one pair against the cores it may use.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rtfusion.evaluate import plot, timing
from rtfusion.evaluate.bench import SIZES, frames_of
from rtfusion.evaluate.clips import make_clips
from rtfusion.evaluate.conditions import Conditions
from rtfusion.evaluate.methods import Method, select
from rtfusion.evaluate.speed_case import READY, command, run_case

MODES = ("processes", "threads")
WAIT_S = 120.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables, write the result file and the plots where they are asked for."""
    options = _arguments(arguments)
    methods = [method for method in select(enhance=()) if method.name in options.method]
    conditions = Conditions()
    with tempfile.TemporaryDirectory(prefix="rtfusion-scale-") as name:
        folder = Path(name)
        rows = [
            *_pixels(methods, folder, sizes=options.size, frames=options.frames, rounds=options.rounds),
            *_streams(methods, folder, streams=options.streams, frames=options.frames, rounds=options.rounds),
            *_cores(methods, folder, frames=options.frames, rounds=options.rounds),
        ]
    settings = {"frames": options.frames, "rounds": options.rounds, "streams_size": SIZES[0]}
    data = timing.result("scale", settings=settings, rows=rows, conditions=conditions)
    print(table(data))
    if options.json is not None:
        timing.save(data, options.json)
    if options.plots is not None:
        options.plots.mkdir(parents=True, exist_ok=True)
        for stem, drawing in plots(data).items():
            (options.plots / f"{stem}.svg").write_text(drawing, encoding="utf-8")
    return 0


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    known = [method.name for method in select(enhance=())]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__.splitlines()[0])
    parser.add_argument("--method", nargs="+", default=known, choices=known, metavar="NAME", help=", ".join(known))
    parser.add_argument("--size", nargs="+", default=list(SIZES), metavar="WxH")
    parser.add_argument(
        "--streams", nargs="+", type=int, default=[1, 2, 4, 8], metavar="N", help="camera pairs at once"
    )
    parser.add_argument(
        "--frames", type=int, default=240, metavar="N", help="of one run at 640x480; fewer of larger ones"
    )
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE", help="result file to write")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="folder for the plots")
    return parser.parse_args(arguments)


def _clip(folder: Path, size: str, *, frames: int) -> dict[str, Any]:
    """Sources of a run of so many frames."""
    wanted = frames_of(size, frames=frames)
    clip = min(wanted, 60)
    return {**make_clips(folder, size=size, frames=clip), "loop": max(1, round(wanted / clip))}


def _pixels(
    methods: Sequence[Method], folder: Path, *, sizes: Sequence[str], frames: int, rounds: int
) -> list[dict[str, Any]]:
    rows = []
    for size in sizes:
        clip = _clip(folder, size, frames=frames)
        cases = {method.name: partial(run_case, {**clip, **method.settings}) for method in methods}
        width, height = map(int, size.split("x"))
        for name, runs in timing.in_turns(cases, rounds=rounds).items():
            fused_ms = [run["fuser_p50_ms"] for run in runs]
            rows.append(
                {
                    "case": name,
                    "of": "pixels",
                    "size": size,
                    "megapixels": width * height / 1e6,
                    "fps": timing.spread([run["fps"] for run in runs]),
                    "fuser_p50_ms": timing.spread(fused_ms),
                    "memory_mb": max(run["memory_mb"] for run in runs),
                    "bound_by": runs[-1]["bound_by"],
                }
            )
    return rows


def _streams(
    methods: Sequence[Method], folder: Path, *, streams: Sequence[int], frames: int, rounds: int
) -> list[dict[str, Any]]:
    clip = _clip(folder, SIZES[0], frames=frames)
    rows = []
    for method in methods:
        job = {**clip, **method.settings}
        cases = {(mode, count): partial(together, job, count=count, mode=mode) for count in streams for mode in MODES}
        measured = timing.in_turns({f"{mode} {count}": case for (mode, count), case in cases.items()}, rounds=rounds)
        for (mode, count), runs in zip(cases, measured.values(), strict=True):
            rows.append(
                {
                    "case": method.name,
                    "of": "streams",
                    "mode": mode,
                    "streams": count,
                    **{name: timing.spread([run[name] for run in runs]) for name in runs[0]},
                }
            )
    return rows


def together(job: Mapping[str, Any], *, count: int, mode: str) -> dict[str, float]:
    """Several runs that start at the same moment: frames per second of all, CPU per frame, memory of all.

    Raises:
        RuntimeError: one of them failed.
    """
    figures = [run_case(job, streams=count)] if mode == "threads" else _processes(command(job, wait=True), count=count)
    frames = sum(figure["frames"] for figure in figures)
    return {
        "fps": frames / max(figure["elapsed_s"] for figure in figures),
        "cpu_ms_per_frame": sum(figure["cpu_ms_per_frame"] * figure["frames"] for figure in figures) / frames,
        "memory_mb": sum(figure["memory_mb"] for figure in figures),
    }


def _processes(line: Sequence[str], *, count: int) -> list[dict[str, Any]]:
    """Open all, then let all go."""
    pipe = subprocess.PIPE
    runs = [subprocess.Popen(line, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(count)]  # noqa: S603
    try:
        for run in runs:
            if run.stdout is None or run.stdout.readline().strip() != READY:
                raise RuntimeError(f"a run of {count} side by side could not be opened: {run.communicate()[1][-500:]}")
        for run in runs:
            if run.stdin is not None:
                run.stdin.write("go\n")
                run.stdin.flush()
        outputs = [run.communicate(timeout=WAIT_S) for run in runs]
    finally:
        for run in runs:
            run.kill()
    failed = [errors for run, (_, errors) in zip(runs, outputs, strict=True) if run.returncode]
    if failed:
        raise RuntimeError(f"a run of {count} side by side failed: {failed[0][-500:]}")
    return [json.loads(output.splitlines()[-1]) for output, _ in outputs]


def _cores(methods: Sequence[Method], folder: Path, *, frames: int, rounds: int) -> list[dict[str, Any]]:
    clip = _clip(folder, SIZES[0], frames=frames)
    cores = sorted(os.sched_getaffinity(0))
    counts = sorted({1, *(2**power for power in range(1, 8) if 2**power < len(cores)), len(cores)})
    rows = []
    for method in methods:
        cases = {str(n): partial(run_case, {**clip, **method.settings}, cores=cores[:n]) for n in counts}
        for count, runs in timing.in_turns(cases, rounds=rounds).items():
            rates = timing.spread([run["fps"] for run in runs])
            rows.append({"case": method.name, "of": "cores", "cores": int(count), "fps": rates})
    return rows


# -- telling ------------------------------------------------------------------------------------------------------------


def table(data: Mapping[str, Any]) -> str:
    """Three Markdown tables."""
    rows = data["rows"]
    pixels = [row for row in rows if row["of"] == "pixels"]
    streams = [row for row in rows if row["of"] == "streams"]
    cores = [row for row in rows if row["of"] == "cores"]
    parts = [f"{data['machine']['cores']} cores of {data['machine']['processor']}", ""]
    parts += _markdown(
        ["size", "method", "FPS", "fusing ms, p50", "ms per megapixel", "memory MB", "bound by"],
        [
            [row["size"], row["case"], _shown(row["fps"]), f"{row['fuser_p50_ms']['median']:.2f}",
             f"{row['fuser_p50_ms']['median'] / row['megapixels']:.1f}", f"{row['memory_mb']:.0f}", row["bound_by"]]
            for row in pixels
        ],
    )  # fmt: skip
    parts += _markdown(
        ["pairs at once", "method", "as", "FPS of all", "FPS of each", "CPU ms/frame", "memory MB of all"],
        [
            [str(row["streams"]), row["case"], row["mode"], _shown(row["fps"]),
             f"{row['fps']['median'] / row['streams']:.0f}", f"{row['cpu_ms_per_frame']['median']:.2f}",
             f"{row['memory_mb']['median']:.0f}"]
            for row in streams
        ],
    )  # fmt: skip
    parts += _markdown(
        ["cores", "method", "FPS"], [[str(row["cores"]), row["case"], _shown(row["fps"])] for row in cores]
    )
    return "\n".join(parts).rstrip()


def plots(data: Mapping[str, Any]) -> dict[str, str]:
    """``scale-pixels``, ``scale-streams`` and ``scale-cores`` as SVG."""
    pixels: dict[str, list[tuple[float, float]]] = {}
    streams: dict[str, list[tuple[float, float]]] = {}
    cores: dict[str, list[tuple[float, float]]] = {}
    for row in data["rows"]:
        if row["of"] == "pixels":
            pixels.setdefault(row["case"], []).append((row["megapixels"], row["fuser_p50_ms"]["median"]))
        elif row["of"] == "streams":
            streams.setdefault(f"{row['case']}, {row['mode']}", []).append((row["streams"], row["fps"]["median"]))
        else:
            cores.setdefault(row["case"], []).append((row["cores"], row["fps"]["median"]))
    return {
        "scale-pixels": plot.lines("Fusing a frame", pixels, x_label="megapixels", y_label="ms, p50", log=True),
        "scale-streams": plot.lines("Camera pairs at once, 640x480", streams, x_label="pairs", y_label="FPS of all"),
        "scale-cores": plot.lines("One pair, 640x480", cores, x_label="cores", y_label="FPS"),
    }


def _shown(values: Mapping[str, float]) -> str:
    return f"{values['median']:.0f} ({values['min']:.0f} to {values['max']:.0f})"


def _markdown(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    return [*(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *body)), ""]


if __name__ == "__main__":
    sys.exit(main())
