"""One run of the main job, or several side by side in threads, in a process of its own; prints its figures as JSON.

The argument is JSON: ``{"settings": {…}, "streams": 1, "wait": false, "cores": null}``. With ``wait`` it says ``ready`` when
everything is open, and starts when a line comes on stdin, so that several processes start together.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rtfusion import ConfigError, FusionError, Pipeline, Settings, build
from rtfusion.fusion.threads import opencv_for
from rtfusion.memory import use_few_pools
from rtfusion.portable import stay_on
from rtfusion.telemetry import Histogram, Telemetry

READY = "ready"
PERCENTILES = (50, 90, 95, 99)
BOUND_BY = ("decode", "register", "infer", "compose", "sink")
_STAGES = {"tone": "register", "register": "register", "fuse": "infer", "compose": "compose"}


def run_case(
    settings: Mapping[str, Any],
    *,
    streams: int = 1,
    cores: Sequence[int] | None = None,
    limit_s: float | None = None,
) -> dict[str, Any]:
    """Run it in a fresh interpreter: its memory and its threads are its own. After ``limit_s`` it is stopped, and counts.

    Raises:
        ConfigError: the run failed; the message ends with what it said.
    """
    words = command(settings, streams=streams, cores=cores, limit_s=limit_s)
    done = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        raise ConfigError(f"{settings.get('model') or settings.get('fuser', 'a run')} cannot be measured: {said[-1]}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def command(
    settings: Mapping[str, Any],
    *,
    streams: int = 1,
    cores: Sequence[int] | None = None,
    wait: bool = False,
    limit_s: float | None = None,
) -> list[str]:
    """The command line of a case."""
    plain = {name: str(value) if name == "model" else value for name, value in settings.items()}
    job = {
        "settings": plain,
        "streams": streams,
        "wait": wait,
        "cores": list(cores) if cores is not None else None,
        "limit_s": limit_s,
    }
    return [sys.executable, "-m", "rtfusion.evaluate.speed_case", json.dumps(job)]


def main() -> int:
    """Run what the argument says; the exit code is that of a run."""
    job = json.loads(sys.argv[1])
    if job["cores"] is not None:
        stay_on(job["cores"])
    try:
        sys.stdout.write(json.dumps(_run(job)) + "\n")
    except FusionError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


def _run(job: Mapping[str, Any]) -> dict[str, Any]:
    settings = Settings(**{"sink": ("null:",), **job["settings"]})
    use_few_pools()
    with opencv_for(settings.fuser):
        return _run_as_commands_do(settings, job)


def _run_as_commands_do(settings: Settings, job: Mapping[str, Any]) -> dict[str, Any]:
    pipelines = [build(settings) for _ in range(job["streams"])]
    if job["wait"]:
        sys.stdout.write(READY + "\n")
        sys.stdout.flush()
        sys.stdin.readline()
    watch = _Watch(pipelines, limit_s=job["limit_s"])
    started_s = time.monotonic()
    with ThreadPoolExecutor(len(pipelines)) as pool:
        runs = [pool.submit(pipeline.run, stop=watch.stop, on_tick=watch.tick) for pipeline in pipelines]
        for run in runs:
            run.result()
    return {
        **(_figures(pipelines[0].telemetry) if len(pipelines) == 1 else {}),
        "fps": sum(pipeline.telemetry.fps for pipeline in pipelines),
        "frames": sum(pipeline.telemetry.fused for pipeline in pipelines),
        "elapsed_s": time.monotonic() - started_s,
        "cpu_ms_per_frame": watch.cpu_ms_per_frame(),
        "memory_mb": _most_memory_mb(),
    }


class _Watch:
    """CPU time per frame from the first tick with a fused frame on: loading an engine is no part of it. Stops in time."""

    def __init__(self, pipelines: Sequence[Pipeline], *, limit_s: float | None) -> None:
        self.stop = threading.Event()
        self._end_s = None if limit_s is None else time.monotonic() + limit_s
        self._pipelines = pipelines
        self._lock = threading.Lock()
        self._from = time.process_time(), 0
        self._ticked = False

    def tick(self) -> None:
        with self._lock:
            fused = self._fused()
            if not self._ticked and fused:
                self._from, self._ticked = (time.process_time(), fused), True
            if fused and self._end_s is not None and time.monotonic() >= self._end_s:
                self.stop.set()

    def cpu_ms_per_frame(self) -> float:
        cpu_s, fused = self._from
        return (time.process_time() - cpu_s) * 1000 / max(1, self._fused() - fused)

    def _fused(self) -> int:
        return sum(pipeline.telemetry.fused for pipeline in self._pipelines)


def _figures(telemetry: Telemetry) -> dict[str, Any]:
    snapshot = telemetry.snapshot()
    stages = {name: _distribution(telemetry.stage(name)) for name in snapshot["stages_ms"]}
    fuser_stages = [stages[name] for name in _STAGES if name in stages]
    age: dict[str, float] = next(iter(snapshot["age_ms"].values()), {})
    return {
        "engine": snapshot["engine"],
        "fuser_p50_ms": sum(stage["p50"] for stage in fuser_stages),
        "fuser_p99_ms": sum(stage["p99"] for stage in fuser_stages),
        "age_p50_ms": age.get("p50"),
        "age_p99_ms": age.get("p99"),
        "dropped": sum(telemetry.drops_by_cause().values()),
        "stages_ms": stages,
        "bound_by": bound_by(stages),
    }


def _most_memory_mb() -> float:
    """The largest resident size so far. ``ru_maxrss`` starts at that of the process that started this one: no good here."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) / 1024


def _distribution(histogram: Histogram) -> dict[str, float]:
    summary = histogram.summary_ms()
    values = {f"p{percent}": histogram.percentile_ns(percent) / 1e6 for percent in PERCENTILES}
    return {"count": histogram.count, "mean": summary["mean"] or 0.0, **values, "max": summary["max"] or 0.0}


def stage_parts(stages: Mapping[str, Mapping[str, float]], *, figure: str) -> dict[str, float]:
    """Sum the time by part of the path; two decoders or several sinks work at the same time, so the slowest counts."""
    parts = dict.fromkeys(BOUND_BY, 0.0)
    for name, stage in stages.items():
        part = _STAGES.get(name)
        if part is not None:
            parts[part] += stage[figure]
        elif (thread := name.partition(" ")[0]) in parts:
            parts[thread] = max(parts[thread], stage[figure])
    return parts


def bound_by(stages: Mapping[str, Mapping[str, float]]) -> str:
    """Name what limits the throughput: the busiest thread, and in the fusing thread its longest part.

    Each decoder and each sink has a thread of its own; registering, inferring and composing share one.
    """
    parts = stage_parts({name: stage for name, stage in stages.items() if stage["count"]}, figure="mean")
    fusing = {part: parts[part] for part in BOUND_BY[1:4]}
    longest = max(fusing, key=fusing.__getitem__)
    busy = {"decode": parts["decode"], "sink": parts["sink"], longest: sum(fusing.values())}
    return max(busy, key=busy.__getitem__)


if __name__ == "__main__":
    sys.exit(main())
