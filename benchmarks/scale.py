"""The cost of seeing more: pixels, camera pairs at once, and the cores for it.

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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.suite import Measured, Result, Row, Suite, chosen, columns_table, hardware
from rtfusion.errors import ConfigError
from rtfusion.evaluate import bench, plot, timing
from rtfusion.evaluate.bench import SIZES
from rtfusion.evaluate.methods import Method, named, select
from rtfusion.evaluate.speed_case import READY, command, run_case
from rtfusion.text import parse_size_px

MODES = ("processes", "threads")
WAIT_S = 120.0
FPS = ("FPS", "{fps[median]:.0f} ({fps[min]:.0f} to {fps[max]:.0f})")
COLUMNS = {
    "pixels": (
        ("size", "{size}"),
        ("method", "{case}"),
        FPS,
        ("p50 ms", "{fuser_p50_ms[median]:.2f}"),
        ("ms/Mpx", "{ms_per_megapixel:.1f}"),
        ("MB", "{memory_mb:.0f}"),
        ("bound by", "{bound_by}"),
    ),
    "streams": (
        ("pairs", "{streams}"),
        ("method", "{case}"),
        ("as", "{mode}"),
        ("all, FPS", FPS[1]),
        ("each", "{fps_of_each:.0f}"),
        ("CPU ms", "{cpu_ms_per_frame[median]:.2f}"),
        ("MB", "{memory_mb[median]:.0f}"),
    ),
    "cores": (("cores", "{cores}"), ("method", "{case}"), FPS),
}
"""The three tables, by what a row is ``of``."""


def measure(options: argparse.Namespace) -> Measured:
    """Rows ``of`` pixels, streams and cores."""
    known = {method.name: method for method in select(enhance=())}
    methods = list(named(known, options.method, kind="method").values())
    with tempfile.TemporaryDirectory(prefix="rtfusion-scale-") as folder:
        rows = [row for part in (_pixels, _streams, _cores) for row in part(methods, Path(folder), options)]
    return {**chosen(options, "frames", "rounds"), "streams_size": SIZES[0]}, rows


def _pixels(methods: Sequence[Method], folder: Path, options: argparse.Namespace) -> Iterator[Row]:
    plan = bench.Plan(methods=methods, sizes=options.size, rounds=options.rounds, frames=options.frames, live_s=0)
    for row in bench.measure(plan, say=lambda text: None)["rows"]:
        width, height = parse_size_px(row["size"], option="--size")
        yield {**row, "of": "pixels", "megapixels": width * height / 1e6}


def _streams(methods: Sequence[Method], folder: Path, options: argparse.Namespace) -> Iterator[Row]:
    clips = bench.looped_clips(folder, size=SIZES[0], frames=options.frames)
    for method in methods:
        run = partial(together, {**clips, **method.settings})
        cases = {(mode, count): partial(run, count=count, mode=mode) for count in options.streams for mode in MODES}
        for (mode, count), runs in timing.run_interleaved(cases, rounds=options.rounds).items():
            yield {"case": method.name, "of": "streams", "mode": mode, "streams": count, **timing.spreads(runs)}


def _cores(methods: Sequence[Method], folder: Path, options: argparse.Namespace) -> Iterator[Row]:
    cores = sorted(os.sched_getaffinity(0))
    counts = sorted({1, *(2**power for power in range(1, 8) if 2**power < len(cores)), len(cores)})
    clips = bench.looped_clips(folder, size=SIZES[0], frames=options.frames)
    for method in methods:
        run = partial(run_case, {**clips, **method.settings})
        cases = {count: partial(run, cores=cores[:count]) for count in counts}
        for count, runs in timing.run_interleaved(cases, rounds=options.rounds).items():
            yield {"case": method.name, "of": "cores", "cores": count, **timing.spreads(runs, ("fps",))}


def together(job: Mapping[str, Any], *, count: int, mode: str) -> dict[str, float]:
    """Several runs that start at the same moment: frames per second of all, CPU per frame, memory of all.

    Raises:
        ConfigError: one of them failed.
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
    with ExitStack() as stack:
        runs = []
        for _ in range(count):
            run = subprocess.Popen(line, stdin=pipe, stdout=pipe, stderr=pipe, text=True)  # noqa: S603
            runs.append(stack.enter_context(run))
            stack.callback(run.kill)
        for run in runs:
            if run.stdout is None or run.stdout.readline().strip() != READY:
                raise ConfigError(f"a run of {count} side by side could not be opened: {run.communicate()[1][-500:]}")
        for run in runs:
            if run.stdin is not None:
                run.stdin.write("go\n")
                run.stdin.flush()
        outputs = [run.communicate(timeout=WAIT_S) for run in runs]
    failed = [errors for run, (_, errors) in zip(runs, outputs, strict=True) if run.returncode]
    if failed:
        raise ConfigError(f"a run of {count} side by side failed: {failed[0][-500:]}")
    return [json.loads(output.splitlines()[-1]) for output, _ in outputs]


# -- telling ------------------------------------------------------------------------------------------------------------


def table(data: Result) -> str:
    """Three Markdown tables."""
    rows: dict[str, list[Row]] = {of: [] for of in COLUMNS}
    for row in data["rows"]:
        more = {"fps_of_each": row["fps"]["median"] / row.get("streams", 1)}
        if row["of"] == "pixels":
            more = {"ms_per_megapixel": row["fuser_p50_ms"]["median"] / row["megapixels"]}
        rows[row["of"]].append({**row, **more})
    return "\n\n".join([hardware(data), *(columns_table(COLUMNS[of], rows[of]) for of in COLUMNS)])


def plots(data: Result) -> dict[str, str]:
    """``scale-pixels``, ``scale-streams`` and ``scale-cores`` as SVG."""
    points: dict[str, dict[str, list[tuple[float, float]]]] = {of: {} for of in COLUMNS}
    for row in data["rows"]:
        name = f"{row['case']}, {row['mode']}" if row["of"] == "streams" else row["case"]
        at = row["megapixels"] if row["of"] == "pixels" else row[row["of"]]
        figure = row["fuser_p50_ms" if row["of"] == "pixels" else "fps"]["median"]
        points[row["of"]].setdefault(name, []).append((at, figure))
    pixels, streams, cores = points.values()
    return {
        "scale-pixels": plot.lines("Fusing a frame", pixels, x_label="megapixels", y_label="ms, p50", log=True),
        "scale-streams": plot.lines("Camera pairs at once, 640x480", streams, x_label="pairs", y_label="FPS of all"),
        "scale-cores": plot.lines("One pair, 640x480", cores, x_label="cores", y_label="FPS"),
    }


SUITE = Suite(
    name="scale",
    help=__doc__,
    options={
        "--method": {"nargs": "+", "metavar": "NAME", "help": "average, pyramid, small ...; default: all"},
        "--size": {"nargs": "+", "default": list(SIZES), "metavar": "WxH"},
        "--streams": {"nargs": "+", "type": int, "default": [1, 2, 4, 8], "metavar": "N", "help": "pairs at once"},
        "--frames": {
            "type": int,
            "default": 240,
            "metavar": "N",
            "help": "of one run at 640x480; fewer of larger ones",
        },
        "--rounds": {"type": int, "default": 3, "metavar": "N"},
    },
    measure=measure,
    table=table,
    plots=plots,
)

if __name__ == "__main__":
    sys.exit(SUITE.main())
