"""The parts of the main job alone: decode both recordings, run the network, run the fuser. No run is faster than any of them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from rtfusion import Band, Settings, open_source
from rtfusion.clock import NS_PER_S
from rtfusion.engines import model_file, open_engine
from rtfusion.engines.parity import golden_inputs
from rtfusion.evaluate.moments import frames_of
from rtfusion.fusion.fuser import open_fuser
from rtfusion.models import read_spec
from rtfusion.telemetry import Telemetry
from rtfusion.types import Frame, FramePair

RUNS = 60
"""Runs of network and fuser, of which the median counts."""


def floor(settings: Mapping[str, Any]) -> dict[str, float]:
    """Pairs a second of ``decode`` (both files, a thread each), ``network`` and ``fuser`` (network included), each alone.

    Args:
        settings: those of a run that fuses with a model, with ``vis`` and ``ir`` named.

    Raises:
        FusionError: the files or the model cannot be used.
    """
    run = Settings(**settings)
    files = {Band.VISIBLE: str(run.vis), Band.THERMAL: str(run.ir)}
    pair = FramePair(visible=_first(files, Band.VISIBLE), thermal=_first(files, Band.THERMAL), sequence=0)
    return {
        "decode": _decode(files),
        "network": _network(run, size_px=pair.visible.size_px),
        "fuser": _fuser(run, pair),
    }


def _decode(files: Mapping[Band, str]) -> float:
    started_s = time.perf_counter()
    with ThreadPoolExecutor(len(files)) as pool:
        counts = list(pool.map(_play, files.values(), files))
    return min(counts) / (time.perf_counter() - started_s)


def _play(uri: str, band: Band) -> int:
    with contextlib.closing(open_source(uri, band=band)) as source:
        return sum(1 for _ in frames_of(source))


def _first(files: Mapping[Band, str], band: Band) -> Frame:
    with contextlib.closing(open_source(files[band], band=band)) as source:
        return source.read(timeout_s=5.0)


def _network(run: Settings, *, size_px: tuple[int, int]) -> float:
    path = model_file(run.model or Path("small"), precision=run.precision)
    spec = read_spec(path)
    width, height = (length + -length % spec.stride for length in size_px)
    inputs = golden_inputs(spec, size_px=(width, height))
    engine = open_engine(run.engine, model=path, size_px=(width, height), threads=run.threads)
    with contextlib.closing(engine):
        return _rate(lambda: engine.run(inputs=inputs))


def _fuser(run: Settings, pair: FramePair) -> float:
    fuser = open_fuser(run, telemetry=Telemetry())
    with contextlib.closing(fuser):
        return _rate(lambda: fuser(pair))


def _rate(run: Callable[[], object]) -> float:
    """Runs a second, by the median of `RUNS` after a few that do not count."""
    times_ns = []
    for _ in range(RUNS + 5):
        started_ns = time.perf_counter_ns()
        run()
        times_ns.append(time.perf_counter_ns() - started_ns)
    return NS_PER_S / float(np.median(times_ns[5:]))
