"""What intents cost: processor time of whole runs, with all axes in use and without, one after the other."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmarks.intents import figure
from benchmarks.suite import Row
from rtfusion.intents import AXES

CLIP = "m3svd_0113_1714"
FRAMES, BEGIN_FRAMES, ROUNDS = 320, 20, 3
"""What a run of the first few frames takes is taken off: it is the time to begin."""
LARGEST_RATIO, LARGEST_WITH_HEAD = 1.05, 1.15
ALL = ["--intent", ",".join(f"{axis}=0.7" for axis in AXES)]
WAYS = {"without a wish": [], "all axes": [*ALL, "--no-focus-head"], "all axes, with the head that finds people": ALL}


def measure(*, shared: Path, model: str, every: int) -> list[Row]:
    """The ratio of processor time a frame, the median of rounds."""
    clip = shared / "data" / "video" / CLIP
    common = ["--ir", str(clip / "ir.mp4"), "--vis", str(clip / "vi.mp4"), "--model", model, "--threads", "1"]
    times = np.array([[_cpu_ms([*common, *way]) for way in WAYS.values()] for _ in range(ROUNDS)])
    median = dict(zip(WAYS, np.median(times, axis=0).tolist(), strict=True))
    ratios = dict(zip(WAYS, np.median(times / times[:, :1], axis=0).tolist(), strict=True))
    bars = dict(zip(WAYS, (None, LARGEST_RATIO, LARGEST_WITH_HEAD), strict=True))
    rows = [figure(way, "CPU ms a frame, a whole run", median[way], count=ROUNDS, better="lower") for way in WAYS]
    return rows + [
        figure(way, "CPU, ratio", ratios[way], count=ROUNDS, better="lower", bar=bar)
        for way, bar in bars.items()
        if bar is not None
    ]


def _cpu_ms(arguments: list[str]) -> float:
    """Processor time of a frame in milliseconds."""
    spent = [_spent_s([*arguments, "--max-frames", str(frames)]) for frames in (BEGIN_FRAMES, FRAMES)]
    return 1e3 * (spent[1] - spent[0]) / (FRAMES - BEGIN_FRAMES)


def _spent_s(arguments: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "rtfusion", "run", "--sink", "null:", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
