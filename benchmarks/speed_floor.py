"""What the parts of the main job do alone: decode both recordings, run the network, run the fuser. The floor of a whole run."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rtfusion import Band, EndOfStream, Settings, open_source
from rtfusion.clock import NS_PER_S
from rtfusion.engines import open_engine
from rtfusion.engines.parity import golden_inputs
from rtfusion.fusion import model_file
from rtfusion.fusion.tone import GainControl
from rtfusion.models import read_spec
from rtfusion.pipeline import open_fuser
from rtfusion.telemetry import Telemetry
from rtfusion.types import Frame, FramePair

RUNS = 60
"""Of network and fuser; what is given is their median."""


def floor(settings: Mapping[str, Any]) -> dict[str, float]:
    """Pairs a second of ``decode`` (both files, a thread each), ``network`` and ``fuser`` (network included), each alone.

    Args:
        settings: of a run that fuses with a model, with ``vis`` and ``ir`` named.

    Raises:
        FusionError: the files or the model cannot be used.
    """
    chosen = Settings(**settings)
    decoded = _decode(str(chosen.vis), str(chosen.ir))
    return {"decode": decoded, "network": _network(chosen), "fuser": _fuser(chosen)}


def _decode(visible: str, thermal: str) -> float:
    counts: list[int] = []

    def play(uri: str, band: Band) -> None:
        with contextlib.closing(open_source(uri, band=band)) as source:
            count = 0
            with contextlib.suppress(EndOfStream):
                while True:
                    source.read(timeout_s=5.0)
                    count += 1
            counts.append(count)

    threads = [threading.Thread(target=play, args=each) for each in ((visible, Band.VISIBLE), (thermal, Band.THERMAL))]
    started_s = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return min(counts, default=0) / (time.perf_counter() - started_s)


def _network(settings: Settings) -> float:
    frame = _first(str(settings.vis), Band.VISIBLE)
    path = model_file(settings.model or Path("small"), precision=settings.precision, engine=settings.engine)
    spec = read_spec(path)
    width, height = (length + -length % spec.stride for length in frame.size_px)
    engine = open_engine(settings.engine, model=path, size_px=(width, height), threads=settings.threads)
    inputs = golden_inputs(spec, size_px=(width, height))
    try:
        return _rate(lambda: engine.run(inputs=inputs))
    finally:
        engine.close()


def _fuser(settings: Settings) -> float:
    pair = FramePair(
        visible=_first(str(settings.vis), Band.VISIBLE), thermal=_first(str(settings.ir), Band.THERMAL), sequence=0
    )
    fuser = open_fuser(settings, gain=GainControl(), calibration=None, telemetry=Telemetry(), still=False)
    try:
        return _rate(lambda: fuser(pair))
    finally:
        fuser.close()


def _first(uri: str, band: Band) -> Frame:
    with contextlib.closing(open_source(uri, band=band)) as source:
        return source.read(timeout_s=5.0)


def _rate(run: Callable[[], object]) -> float:
    """Runs a second, by the median of `RUNS` after a few that do not count."""
    times_ns = []
    for _ in range(RUNS + 5):
        started_ns = time.perf_counter_ns()
        run()
        times_ns.append(time.perf_counter_ns() - started_ns)
    return NS_PER_S / float(np.median(times_ns[5:]))
