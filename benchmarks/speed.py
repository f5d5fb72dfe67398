"""Speed of the main job: decode, pair, register, fuse, hand to the null sink.

Two files are decoded as fast as they can be: the figure is capacity, not camera rate. By default they are made from the
synthetic scene (H.264, 300 frames of 640x480, and fewer of 1280x1024); name your own with --ir and --vis. A model runs in
the precision that a run takes by itself, in INT8 and in float32. Every case runs in a process of its own, so that its memory
is its own, and the cases take turns. Beside the rates stands what decoding both files and the fuser, its network included, do
alone: no run is faster than either of them.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.suite import Measured, Result, Row, Suite, columns_table, hardware
from rtfusion import Band, Settings, open_pairs, open_source
from rtfusion.evaluate import timing
from rtfusion.evaluate.bench import frames_for
from rtfusion.evaluate.clips import make_clips
from rtfusion.evaluate.methods import WITHOUT_MODEL, named, shipped_models
from rtfusion.evaluate.moments import frames_of
from rtfusion.evaluate.speed_case import run_case
from rtfusion.fusion.fuser import open_fuser
from rtfusion.telemetry import Telemetry

SIZES = ("640x480", "1280x1024")
FLOOR_ROUNDS = 3
FLOOR_RUNS = 60
"""Runs of the fuser in a round, of which the median counts."""
FIGURES = ("fps", "frames", "fuser_p50_ms", "fuser_p99_ms", "cpu_ms_per_frame", "memory_mb")
COLUMNS = (
    ("fuser", "{case}"),
    ("FPS", "{fps[median]:.0f}"),
    ("min-max", "{fps[min]:.0f}-{fps[max]:.0f}"),
    ("ratio", "{ratio:.2f}"),
    ("p50 ms", "{fuser_p50_ms[median]:.2f}"),
    ("p99 ms", "{fuser_p99_ms[median]:.2f}"),
    ("CPU ms", "{cpu_ms_per_frame[median]:.2f}"),
    ("MB", "{memory_mb[max]:.0f}"),
)
FLOOR_COLUMNS = (
    ("pairs a second", "{case}"),
    ("decode", "{decode[median]:.0f}"),
    ("fuser", "{fuser[median]:.0f}"),
    ("run, of the slower", "{share:.0%}"),
)


def methods() -> dict[str, dict[str, Any]]:
    """List what is compared, by name, as settings of a run: a model as it runs by itself, in INT8 and in float32."""
    found: dict[str, dict[str, Any]] = {name: {"fuser": name} for name in WITHOUT_MODEL}
    for model in shipped_models():
        found[model] = {"fuser": "learned", "model": model}
        for name, precision in (("INT8", "int8"), ("float32", "f32")):
            found[f"{model}, {name}"] = {**found[model], "precision": precision}
    return found


def measure(options: argparse.Namespace) -> Measured:
    """A row for every method and size; the floors are among the settings."""
    recorded = options.ir is not None and options.vis is not None
    chosen = named(methods(), options.fuser, kind="fuser")
    rows: list[Row] = []
    floors: dict[str, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="rtfusion-speed-") as folder:
        for size in [None] if recorded else options.size:
            files = {"vis": options.vis, "ir": options.ir}
            if size is not None:
                files = make_clips(Path(folder), size=size, frames=frames_for(size, frames=options.frames))
            suffix = "" if size is None else f", {size}"
            cases = {name + suffix: {**files, **values, "loop": options.loop} for name, values in chosen.items()}
            runs = {name: partial(_run, settings) for name, settings in cases.items()}
            # one round of warm-up: file cache, compiled bytecode, processor clocks
            rows += timing.interleaved_rows(
                runs, rounds=options.rounds, baseline=next(iter(cases)), figure="fps", warm_up=1
            )
            alone = {name: partial(floor, values) for name, values in cases.items() if values["fuser"] == "learned"}
            for name, rounds in timing.run_interleaved(alone, rounds=FLOOR_ROUNDS).items():
                floors[name] = timing.spreads(rounds)
    source = "named on the command line" if recorded else f"synthetic scene, H.264, {', '.join(options.size)}"
    baseline = rows[0]["case"]
    return {"source": source, "loop": options.loop, "sink": "null:", "baseline": baseline, "floors": floors}, rows


def _run(settings: Mapping[str, Any]) -> dict[str, float]:
    figures = run_case(settings)
    decode = {f"decode_{band}_p50_ms": figures["stages_ms"][f"decode {band}"]["p50"] for band in ("visible", "thermal")}
    return {**{figure: figures[figure] for figure in FIGURES}, **decode}


# -- floors -------------------------------------------------------------------------------------------------------------


def floor(settings: Mapping[str, Any]) -> dict[str, float]:
    """Pairs a second of ``decode`` (both files, a thread each) and ``fuser``, each alone.

    Args:
        settings: those of a run that fuses with a model, with ``vis`` and ``ir`` named.

    Raises:
        FusionError: the files or the model cannot be used.
    """
    run = Settings(**settings)
    found = {"decode": _decoded(str(run.vis), str(run.ir))}
    with open_pairs(ir=settings["ir"], vis=settings["vis"], max_pairs=1) as pairs:
        pair = next(iter(pairs))
    with closing(open_fuser(run, telemetry=Telemetry())) as fuser:
        found["fuser"] = _rate(lambda: fuser(pair))
    return found


def _decoded(*uris: str) -> float:
    def count(uri: str, band: Band) -> int:
        with closing(open_source(uri, band=band)) as source:
            return sum(1 for _ in frames_of(source))

    started_s = time.perf_counter()
    with ThreadPoolExecutor(len(uris)) as pool:
        counts = list(pool.map(count, uris, Band))
    return min(counts) / (time.perf_counter() - started_s)


def _rate(run: Callable[[], object]) -> float:
    """Runs a second, by the median after a few that do not count."""
    times_ms = [timing.duration_ms(run) for _ in range(FLOOR_RUNS + 5)]
    return 1000 / statistics.median(times_ms[5:])


def table(data: Result) -> str:
    """The rates, and what the parts do alone with the share that a whole run reaches of the slower; Markdown."""
    parts = [f"{data['settings']['source']}, {hardware(data)}", columns_table(COLUMNS, data["rows"])]
    rates = {row["case"]: row["fps"]["median"] for row in data["rows"]}
    floors = [
        {"case": name, **alone, "share": rates[name] / min(spread["median"] for spread in alone.values())}
        for name, alone in data["settings"].get("floors", {}).items()
    ]
    return "\n\n".join([*parts, columns_table(FLOOR_COLUMNS, floors)] if floors else parts)


def headline(data: Result) -> str:
    """One sentence for README.md: what the default model does at the size of most thermal cameras."""
    rows = {row["case"]: row["fps"]["median"] for row in data["rows"]}
    small, average = (rows.get(f"{case}, {SIZES[0]}") for case in ("small", "average"))
    if small is None or average is None:
        return "Not measured with the default model yet."
    return (
        f"Speed: **{small:.0f} frames a second** at {SIZES[0]}, from two H.264 files, decoding included, on {hardware(data)} "
        f"(the plain average: {average:.0f})."
    )


SUITE = Suite(
    name="speed",
    help=__doc__,
    options={
        "--ir": {"help": "thermal recording; default: made from the synthetic scene"},
        "--vis": {"help": "visible recording; default: made from the synthetic scene"},
        "--fuser": {"nargs": "+", "metavar": "NAME", "help": "average, small, 'small, INT8' ...; default: all"},
        "--size": {"nargs": "+", "default": list(SIZES), "help": "of the synthetic clips"},
        "--frames": {"type": int, "default": 300, "help": "of the synthetic clips, at 640x480"},
        "--loop": {"type": int, "default": 2, "help": "times each recording is played in one run"},
        "--rounds": {"type": int, "default": 3, "help": "runs per fuser, taken in turn"},
    },
    measure=measure,
    table=table,
)

if __name__ == "__main__":
    sys.exit(SUITE.main())
