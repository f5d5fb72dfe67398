"""What a pair costs in a whole run: CPU time as a multiple of `average`'s, wall time as one of decoding both streams alone.

Two recordings are played from file to the null sink with the default settings and with `--fuser average`, and decoded without
fusing. Every run is a process of its own, and its start-up is no part of it. The order turns round from round to round (A B C,
C B A …), and ratios are taken within a round: who shares the machine, its caches and its clock is not the same an hour later.
CPU time is that of all threads of the process.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.suite import Measured, Result, Row, Suite, chosen, columns_table, hardware
from rtfusion import Band, open_source
from rtfusion.evaluate import timing
from rtfusion.evaluate.clips import make_clips
from rtfusion.evaluate.moments import frames_of
from rtfusion.evaluate.speed_case import run_case
from rtfusion.progress import steps

AVERAGE, DECODE = "average", "decoding alone"
CASES: Mapping[str, Mapping[str, Any]] = {
    AVERAGE: {"fuser": "average"},
    "default": {},
    "--denoise off": {"denoise": "off"},
    "--no-trust": {"trust": False},
}
Figures = Mapping[str, float]
COLUMNS = (
    ("", "{case}"),
    ("CPU ms a pair", "{cpu_ms[median]:.2f}"),
    ("min-max", "{cpu_ms[min]:.2f}-{cpu_ms[max]:.2f}"),
    ("times average", "{ratio:.2f}"),
    ("min-max", "{ratio_spread[min]:.2f}-{ratio_spread[max]:.2f}"),
    ("wall ms a pair", "{wall_ms[median]:.2f}"),
    ("times decoding", "{wall_ratio:.2f}"),
)


def measure(options: argparse.Namespace) -> Measured:
    """A row for every case: CPU and wall time of a pair, and its ratios round by round."""
    recorded = options.ir is not None and options.vis is not None
    with tempfile.TemporaryDirectory(prefix="rtfusion-cost-") as folder:
        files = {"vis": options.vis, "ir": options.ir}
        if not recorded:
            files = make_clips(Path(folder), size=options.size, frames=options.frames)
        rows = _rows({**{name: str(path) for name, path in files.items()}, "loop": options.loop}, options)
    source = "named on the command line" if recorded else f"synthetic scene, H.264, {options.size}"
    return {**chosen(options, "loop", "rounds"), "source": source, "sink": "null:"}, rows


def _rows(files: Mapping[str, Any], options: argparse.Namespace) -> list[Row]:
    cases = dict.fromkeys([AVERAGE, *options.case])
    runs: dict[str, Callable[[], Figures]] = {name: partial(_run, {**files, **CASES[name]}) for name in cases}
    runs[DECODE] = partial(_apart, files)
    for run in runs.values():  # file cache, compiled bytecode, the choice of a precision
        run()
    turns = [name for turn in range(options.rounds) for name in (list(runs) if turn % 2 == 0 else list(runs)[::-1])]
    measured: dict[str, list[Figures]] = {name: [] for name in runs}
    for name in steps(turns, "measuring"):
        measured[name].append(runs[name]())
    return [
        {
            "case": name,
            "rounds": options.rounds,
            **timing.spreads(figures),
            **_ratios(figures, measured[AVERAGE], "cpu_ms"),
            "wall_ratio": _ratios(figures, measured[DECODE], "wall_ms")["ratio"],
        }
        for name, figures in measured.items()
    ]


def _ratios(runs: list[Figures], baseline: list[Figures], figure: str) -> dict[str, Any]:
    found = timing.ratios([run[figure] for run in runs], [run[figure] for run in baseline])
    return {**found, "ratio_spread": timing.spread(found["ratios"])}


def _run(settings: Mapping[str, Any]) -> Figures:
    figures = run_case(settings)
    return {"cpu_ms": figures["cpu_ms_per_frame"], "wall_ms": 1000 / figures["fps"]}


def _apart(files: Mapping[str, Any]) -> Figures:
    """Decode in a process of its own, as a run does."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_decode, files).result()


def _decode(files: Mapping[str, Any]) -> Figures:
    """Decode both streams, a thread each; the figures are of a pair."""
    with ExitStack() as opened:
        bands = {"vis": Band.VISIBLE, "ir": Band.THERMAL}
        sources = [
            opened.enter_context(closing(open_source(files[name], band=band, loop=files["loop"])))
            for name, band in bands.items()
        ]
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        with ThreadPoolExecutor(len(sources)) as pool:
            counts = list(pool.map(lambda source: sum(1 for _ in frames_of(source)), sources))
        pairs = min(counts)
        return {
            "cpu_ms": (time.process_time() - cpu_s) * 1000 / pairs,
            "wall_ms": (time.perf_counter() - wall_s) * 1000 / pairs,
        }


def table(data: Result) -> str:
    """The cost of every case, Markdown."""
    return f"{data['settings']['source']}, {hardware(data)}\n\n{columns_table(COLUMNS, data['rows'])}"


SUITE = Suite(
    name="cost",
    help=__doc__,
    options={
        "--ir": {"help": "thermal recording; default: made from the synthetic scene"},
        "--vis": {"help": "visible recording; default: made from the synthetic scene"},
        "--case": {"nargs": "+", "choices": list(CASES), "default": ["default"], "help": "beside average and decoding"},
        "--size": {"default": "640x480", "help": "of the synthetic clips"},
        "--frames": {"type": int, "default": 300, "help": "of the synthetic clips"},
        "--loop": {"type": int, "default": 2, "help": "times each recording is played in one run"},
        "--rounds": {"type": int, "default": 6, "help": "runs of every case, in turns"},
    },
    measure=measure,
    table=table,
)

if __name__ == "__main__":
    sys.exit(SUITE.main())
