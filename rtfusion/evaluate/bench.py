"""The speed of rtfusion on this machine: capacity and live rate, by stage, engine, model and size. `rtfusion bench`.

Capacity plays recordings as fast as everything can go. Live takes frames from memory at a camera's rate and by a camera's rules
(newest wins), and tells how many are fused and how old they are then; recordings of one's own are played at their own speed
instead. All methods of a size take turns, every run is a process of its own, and nothing is written anywhere.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rtfusion.errors import ConfigError
from rtfusion.evaluate import plot, timing
from rtfusion.evaluate.clips import make_clips
from rtfusion.evaluate.conditions import snapshot
from rtfusion.evaluate.methods import Method
from rtfusion.evaluate.speed_case import BOUND_BY, run_case, stage_parts
from rtfusion.text import parse_size_px

SIZES = ("640x480", "1280x1024", "1920x1080", "3840x2160")
PUBLISHED = Path(__file__).with_name("published_speed.json")
KEEPS_UP = 0.97
"""Share of the source's rate that counts as keeping up."""
VGA_PX = 640 * 480
CAMERA_FRAMES = 8
"""Different pictures that a camera of a live run shows, in turn, from memory."""

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A plan of what to measure."""

    methods: Sequence[Method]
    sizes: Sequence[str] = SIZES
    engines: Sequence[str] = ("auto",)
    """Engines for the methods with a model."""
    rounds: int = 3
    frames: int = 300
    """Length of one run at 640x480; larger pictures get fewer, in proportion to their pixels."""
    live_s: float = 4.0
    """Length of a live run; 0 measures capacity alone."""
    rate_hz: int = 30
    limit_s: float | None = None
    """Longest that one run may take; a slow machine fuses fewer frames of it."""
    recordings: Mapping[str, str] = field(default_factory=dict)
    """``vis`` and ``ir`` instead of the synthetic scene; sizes are then of no account."""


def quick(methods: Sequence[Method]) -> Plan:
    """A first look in about half a minute, also where two cores have other work to do."""
    return Plan(methods=methods, sizes=SIZES[:1], rounds=1, frames=150, live_s=1.5, limit_s=3.0)


def measure(plan: Plan, *, say: Say) -> dict[str, Any]:
    """A result with a row for every size, method and engine.

    Raises:
        ConfigError: a run failed: the recordings, a model or an engine cannot be used.
    """
    start = snapshot()
    with tempfile.TemporaryDirectory(prefix="rtfusion-bench-") as folder:
        sources = _sources(plan, Path(folder), say=say)
        rows = [row for size, *settings in sources for row in _measure_size(plan, size, *settings, say=say)]
    settings = {
        "source": "recordings" if plan.recordings else "synthetic scene, H.264",
        "sink": "null:",
        "rounds": plan.rounds,
        "rate_hz": plan.rate_hz,
        "live_s": plan.live_s,
        **({} if plan.limit_s is None else {"limit_s": plan.limit_s}),
        "baseline": rows[0]["case"],
    }
    return timing.result("bench", settings=settings, rows=rows, start=start)


def _sources(plan: Plan, folder: Path, *, say: Say) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Every size, and the settings of runs at full speed and of live ones."""
    if plan.recordings:
        yield "as recorded", {**plan.recordings}, {**plan.recordings, "pace": True}
        return
    for size in plan.sizes:
        say(f"filming {size}")
        capacity = looped_clips(folder, size=size, frames=plan.frames, rate_hz=plan.rate_hz)
        camera = live_camera(size=size, rate_hz=plan.rate_hz)
        yield size, capacity, {"ir": camera, "vis": camera, "max_frames": max(2, round(plan.live_s * plan.rate_hz))}


def looped_clips(folder: Path, *, size: str, frames: int, rate_hz: int = 30) -> dict[str, Any]:
    """The settings of a run over so many frames as `frames_for` says; rendering costs more than playing again, so it loops.

    Raises:
        ConfigError: it is no size.
    """
    wanted = frames_for(size, frames=frames)
    clip = min(wanted, 60)
    return {
        **make_clips(folder, size=size, frames=clip, rate_hz=rate_hz),
        "loop": max(1, round(wanted / clip)),
    }


def live_camera(*, size: str, rate_hz: int, frames: int = 0) -> str:
    """The URI of a synthetic camera that shows pictures from memory at a camera's rate; 0 ``frames``: without end."""
    return f"synthetic:?live=true&size={size}&fps={rate_hz}&prerender={CAMERA_FRAMES}&frames={frames}"


def frames_for(size: str, *, frames: int) -> int:
    """Give a run as many pixels at every size, but at least 40 frames.

    Raises:
        ConfigError: it is no size.
    """
    width, height = parse_size_px(size, option="--size")
    return max(40, min(frames, round(frames * VGA_PX / (width * height))))


def _measure_size(
    plan: Plan, size: str, capacity: Mapping[str, Any], live: Mapping[str, Any], *, say: Say
) -> list[dict[str, Any]]:
    jobs: dict[str, dict[str, Any]] = {}
    for method in plan.methods:
        for engine in plan.engines if method.model is not None else (None,):
            name = method.name if engine in (None, "auto") else f"{method.name}, {engine}"
            jobs[name] = {**method.settings, **({"engine": engine} if engine else {})}
    say(f"{size}: capacity of {', '.join(jobs)}")
    cases = {name: partial(run_case, {**capacity, **settings}, limit_s=plan.limit_s) for name, settings in jobs.items()}
    measured = timing.run_interleaved(cases, rounds=plan.rounds)
    baseline = [run["fps"] for run in next(iter(measured.values()))]
    rows = []
    for name, runs in measured.items():
        row = {"case": name, "size": size, **_capacity(runs, baseline=baseline)}
        if plan.live_s > 0:
            say(f"{size}: {name} live at {plan.rate_hz} Hz")
            figures = run_case({**live, **jobs[name]}, limit_s=plan.limit_s)
            row["live"] = _live(figures, rate_hz=None if plan.recordings else plan.rate_hz)
        rows.append(row)
    return rows


def _capacity(runs: Sequence[Mapping[str, Any]], *, baseline: Sequence[float]) -> dict[str, Any]:
    """Figures over the rounds; the stages are those of the round with the median rate."""
    rates = [run["fps"] for run in runs]
    middle = runs[rates.index(statistics.median_low(rates))]
    return {
        "engine": middle["engine"],
        "rounds": len(runs),
        **timing.spreads(runs, ("fps", "cpu_ms_per_frame", "fuser_p50_ms")),
        **timing.ratios(rates, baseline),
        "memory_mb": max(run["memory_mb"] for run in runs),
        "bound_by": middle["bound_by"],
        "stages_ms": middle["stages_ms"],
    }


def _live(figures: Mapping[str, Any], *, rate_hz: int | None) -> dict[str, Any]:
    """Summarize a live run. ``rate_hz`` is None for recordings, whose ages would count the waiting for the next frame."""
    if rate_hz is None:
        return {"fps": figures["fps"]}
    found = {name: figures[name] for name in ("fps", "age_p50_ms", "age_p99_ms", "dropped")}
    return {**found, "keeps_up": figures["fps"] >= KEEPS_UP * rate_hz}


# -- telling ------------------------------------------------------------------------------------------------------------

RATES = ("size, method", "FPS", "live FPS", "age p99", "CPU ms", "MB")
STAGES = ("ms per frame, p50", *BOUND_BY, "bound")


def rates(data: Mapping[str, Any]) -> list[list[str]]:
    """The table below `RATES`."""
    return [
        [
            f"{row['size']} {row['case']}",
            f"{row['fps']['median']:.0f}",
            f"{live['fps']:.1f}{' late' if live.get('keeps_up') is False else ''}" if live else "-",
            f"{live['age_p99_ms']:.1f}" if live.get("age_p99_ms") is not None else "-",
            f"{row['cpu_ms_per_frame']['median']:.1f}",
            f"{row['memory_mb']:.0f}",
        ]
        for row in data["rows"]
        for live in [row.get("live") or {}]
    ]


def stages(data: Mapping[str, Any]) -> list[list[str]]:
    """The table below `STAGES`."""
    return [
        [f"{row['size']} {row['case']}", *(f"{parts[part]:.2f}" for part in BOUND_BY), row["bound_by"]]
        for row in data["rows"]
        for parts in [stage_parts(row["stages_ms"], figure="p50")]
    ]


def draw(data: Mapping[str, Any]) -> str:
    """The stages of every row as an SVG of stacked bars."""
    bars = {f"{row['size']} {row['case']}": stage_parts(row["stages_ms"], figure="p50") for row in data["rows"]}
    return plot.bars("Milliseconds per frame by stage, p50; stages overlap in time", bars, unit="ms")


def remarks(data: Mapping[str, Any], *, previous: Mapping[str, Any] | None = None) -> list[str]:
    """Sentences to stand below the table: what held the machine back, how it was before, what others publish."""
    engines = {row["case"]: row["engine"] for row in data["rows"] if row["engine"]}
    found = [f"{case} runs on {engine}" for case, engine in engines.items()]
    found += [f"held back while measuring: {reason}" for reason in data["conditions"]["throttled"]]
    if previous is not None:
        found += against(data, previous)
    return found + _published({row["size"] for row in data["rows"]})


def _published(sizes: Collection[str]) -> list[str]:
    """The fastest learned and the fastest classical figure that others state for these sizes."""
    rows = json.loads(PUBLISHED.read_text(encoding="utf-8"))["rows"]
    found = []
    for learned in (True, False):
        stated = [row for row in rows if row["size"] in sizes and row["learned"] is learned]
        for row in sorted(stated, key=lambda row: -float(row["fps"]))[:1]:
            found.append(f"published: {row['method']}, {row['fps']:g} FPS at {row['size']} on {row['hardware']}")
    return found


def against(data: Mapping[str, Any], previous: Mapping[str, Any]) -> list[str]:
    """Capacity of every row over that of an earlier result.

    Raises:
        ConfigError: it is not of this suite.
    """
    if previous["suite"] != "bench":
        raise ConfigError(f"the earlier result is of the suite {previous['suite']}; expected one of rtfusion bench")
    before = {(row["size"], row["case"]): row["fps"]["median"] for row in previous["rows"]}
    same = all(previous["machine"][name] == data["machine"][name] for name in ("processor", "cores"))
    where = "" if same else ", on another machine"
    return [
        f"{row['case']} at {row['size']}: {row['fps']['median'] / before[key]:.2f} times the FPS of "
        f"{previous['measured_utc'][:10]} ({previous['commit']}{where})"
        for row in data["rows"]
        if (key := (row["size"], row["case"])) in before
    ]
