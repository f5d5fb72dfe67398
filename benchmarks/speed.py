"""Speed of the main job: decode, pair, register, fuse, hand to the null sink.

Two files are decoded as fast as they can be: the figure is capacity, not camera rate. By default they are made from the
synthetic scene (H.264, 300 frames of 640x480, and fewer of 1280x1024); name your own with --ir and --vis. A model runs in
the precision that a run takes by itself, in INT8 and in float32. Every case runs in a process of its own, so that its memory
is its own, and the cases take turns. Beside the rates stands what decoding, network and fuser do alone: `benchmarks.speed_floor`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.speed_floor import floor
from benchmarks.suite import Measured, Result, Row, Suite, columns_table
from rtfusion.errors import ConfigError
from rtfusion.evaluate import timing
from rtfusion.evaluate.bench import frames_of
from rtfusion.evaluate.clips import make_clips
from rtfusion.evaluate.methods import WITHOUT_MODEL, shipped_models
from rtfusion.evaluate.speed_case import run_case

SIZES = ("640x480", "1280x1024")
FLOOR_ROUNDS = 3
FIGURES = ("fps", "frames", "fuser_p50_ms", "fuser_p99_ms", "cpu_ms_per_frame", "memory_mb")
COLUMNS = (
    ("fuser", "{case}"),
    ("FPS", "{fps[median]:.0f}"),
    ("min to max", "{fps[min]:.0f} to {fps[max]:.0f}"),
    ("ratio", "{ratio:.2f}"),
    ("fuser p50 ms", "{fuser_p50_ms[median]:.2f}"),
    ("fuser p99 ms", "{fuser_p99_ms[median]:.2f}"),
    ("CPU ms/frame", "{cpu_ms_per_frame[median]:.2f}"),
    ("memory MB", "{memory_mb[max]:.0f}"),
)
FLOOR_COLUMNS = (
    ("alone, pairs a second", "{case}"),
    ("decode", "{decode[median]:.0f}"),
    ("network", "{network[median]:.0f}"),
    ("fuser", "{fuser[median]:.0f}"),
    ("whole run, of the slowest part", "{share:.0%}"),
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
    methods = _chosen(options.fuser)
    rows: list[Row] = []
    floors: dict[str, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="rtfusion-speed-") as folder:
        for size in [None] if recorded else options.size:
            files = {"vis": options.vis, "ir": options.ir}
            if size is not None:
                files = make_clips(Path(folder), size=size, frames=frames_of(size, frames=options.frames))
            cases = {
                name if size is None else f"{name}, {size}": {**files, **values, "loop": options.loop}
                for name, values in methods.items()
            }
            rows += _rates(cases, rounds=options.rounds)
            floors |= _floors(cases)
    source = "named on the command line" if recorded else f"synthetic scene, H.264, {', '.join(options.size)}"
    baseline = rows[0]["case"]
    return {"source": source, "loop": options.loop, "sink": "null:", "baseline": baseline, "floors": floors}, rows


def _chosen(names: list[str] | None) -> dict[str, dict[str, Any]]:
    known = methods()
    for name in names or ():
        if name not in known:
            raise ConfigError(f"there is no fuser {name!r} to measure; there are {', '.join(known)}")
    return {name: values for name, values in known.items() if names is None or name in names}


def _rates(cases: Mapping[str, Mapping[str, Any]], *, rounds: int) -> list[Row]:
    # one round of warm-up: file cache, compiled bytecode, processor clocks
    runs = {name: partial(_run, settings) for name, settings in cases.items()}
    return timing.interleaved_rows(runs, rounds=rounds, baseline=next(iter(cases)), figure="fps", warm_up=1)


def _run(settings: Mapping[str, Any]) -> dict[str, float]:
    figures = run_case(settings)
    decode = {f"decode_{band}_p50_ms": figures["stages_ms"][f"decode {band}"]["p50"] for band in ("visible", "thermal")}
    return {**{figure: figures[figure] for figure in FIGURES}, **decode}


def _floors(cases: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """Measure the parts of every model alone; gives the spread over the rounds by case and part."""
    runs = {name: partial(floor, settings) for name, settings in cases.items() if settings["fuser"] == "learned"}
    measured = timing.run_interleaved(runs, rounds=FLOOR_ROUNDS)
    return {name: timing.spreads(rounds) for name, rounds in measured.items()}


def table(data: Result) -> str:
    """The rates, and what the parts do alone with the share that a whole run reaches of the slowest; Markdown."""
    title = f"{data['settings']['source']}, {data['machine']['cores']} cores of {data['machine']['processor']}"
    parts = [title, columns_table(COLUMNS, data["rows"])]
    rates = {row["case"]: row["fps"]["median"] for row in data["rows"]}
    floors = [
        {"case": name, **alone, "share": rates[name] / min(spread["median"] for spread in alone.values())}
        for name, alone in data["settings"].get("floors", {}).items()
    ]
    return "\n\n".join([*parts, columns_table(FLOOR_COLUMNS, floors)] if floors else parts)


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
