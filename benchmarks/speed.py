"""How fast the main job runs: decode, pair, register, fuse, hand to the null sink. `python -m benchmarks.speed --help`.

Two files are decoded as fast as they can be: the figure is capacity, not camera rate. By default they are made from the
synthetic scene (H.264, 300 frames of 640x480, and fewer of 1280x1024); name your own with --ir and --vis. A model runs in
the precision that a run takes by itself, in INT8 and in float32. Every case runs in a process of its own, so that its memory
is its own, and the cases take turns. Beside the rates stands what decoding, network and fuser do alone:
`benchmarks.speed_floor`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.speed_floor import floor
from rtfusion.evaluate import timing
from rtfusion.evaluate.bench import frames_of
from rtfusion.evaluate.clips import make_clips
from rtfusion.evaluate.conditions import Conditions
from rtfusion.evaluate.methods import shipped_models
from rtfusion.evaluate.speed_case import run_case

CLASSICAL_AND_OVERLAY = ("average", "maximum", "pyramid", "overlay")
SIZES = ("640x480", "1280x1024")
FLOOR_ROUNDS = 3
FIGURES = ("fps", "frames", "fuser_p50_ms", "fuser_p99_ms", "cpu_ms_per_frame", "memory_mb")


def main() -> None:
    """Measure, print the table, and write the result file where one is asked for."""
    arguments = _arguments()
    conditions = Conditions()
    floors: dict[str, dict[str, dict[str, float]]] = {}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="rtfusion-speed-") as folder:
        recordings = arguments.ir is not None and arguments.vis is not None
        for size in [None] if recordings else arguments.size:
            rows += _measure_size(arguments, size, Path(folder), floors=floors)
    sizes = ", ".join(arguments.size)
    source = "named on the command line" if recordings else f"synthetic scene, H.264, {sizes}"
    settings = {
        "source": source,
        "loop": arguments.loop,
        "sink": "null:",
        "baseline": rows[0]["case"],
        "floors": floors,
    }
    data = timing.result("speed", settings=settings, rows=rows, conditions=conditions)
    print(table(data))
    if arguments.json is not None:
        timing.save(data, arguments.json)


def methods() -> dict[str, dict[str, Any]]:
    """What is compared, by name, as settings of a run: a model as it runs by itself, in INT8 and in float32."""
    found: dict[str, dict[str, Any]] = {name: {"fuser": name} for name in CLASSICAL_AND_OVERLAY}
    for model in shipped_models():
        found[model] = {"fuser": "learned", "model": model}
        for name, precision in (("INT8", "int8"), ("float32", "f32")):
            found[f"{model}, {name}"] = {**found[model], "precision": precision}
    return found


def _measure_size(
    arguments: argparse.Namespace, size: str | None, folder: Path, *, floors: dict[str, dict[str, dict[str, float]]]
) -> list[dict[str, Any]]:
    """The rows of one size; what the parts of the models do alone goes into ``floors``, by case."""
    files = {"vis": arguments.vis, "ir": arguments.ir}
    if size is not None:
        files = make_clips(folder, size=size, frames=frames_of(size, frames=arguments.frames))
    chosen = {name: {**files, **values} for name, values in methods().items() if name in arguments.fuser}
    # one round of warm-up: file cache, compiled bytecode, processor clocks
    cases = {_named(name, size): _case(name, {**values, "loop": arguments.loop}) for name, values in chosen.items()}
    rows = timing.interleaved(cases, rounds=arguments.rounds, baseline=next(iter(cases)), figure="fps", warm_up=1)
    alone = {_named(name, size): values for name, values in chosen.items() if values["fuser"] == "learned"}
    measured = timing.in_turns({name: partial(floor, values) for name, values in alone.items()}, rounds=FLOOR_ROUNDS)
    for name, runs in measured.items():
        floors[name] = {part: timing.spread([run[part] for run in runs]) for part in runs[0]}
    return rows


def _named(name: str, size: str | None) -> str:
    return name if size is None else f"{name}, {size}"


def table(data: dict[str, Any]) -> str:
    """The result as a Markdown table."""
    lines = [
        f"{data['settings']['source']}, {data['machine']['cores']} cores of {data['machine']['processor']}",
        "",
        "| fuser | FPS | min to max | ratio | fuser p50 ms | fuser p99 ms | CPU ms/frame | memory MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in data["rows"]:
        fps = row["fps"]
        lines.append(
            f"| {row['case']} | {fps['median']:.0f} | {fps['min']:.0f} to {fps['max']:.0f} | {row['ratio']:.2f} "
            f"| {row['fuser_p50_ms']['median']:.2f} | {row['fuser_p99_ms']['median']:.2f} "
            f"| {row['cpu_ms_per_frame']['median']:.2f} | {row['memory_mb']['max']:.0f} |"
        )
    return "\n".join(lines + _floor_lines(data))


def _floor_lines(data: dict[str, Any]) -> list[str]:
    """A table of what the parts do alone, and how much of the slowest of them a whole run reaches."""
    floors = data["settings"].get("floors", {})
    if not floors:
        return []
    rates = {row["case"]: row["fps"]["median"] for row in data["rows"]}
    lines = [
        "",
        "| alone, pairs a second | decode | network | fuser | whole run, of the slowest part |",
        "|---|---|---|---|---|",
    ]
    for name, parts in floors.items():
        medians = {part: spread["median"] for part, spread in parts.items()}
        share = rates[name] / min(medians.values())
        cells = " | ".join(f"{medians[part]:.0f}" for part in ("decode", "network", "fuser"))
        lines.append(f"| {name} | {cells} | {share:.0%} |")
    return lines


def _arguments() -> argparse.Namespace:
    known = list(methods())
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__.splitlines()[0])
    parser.add_argument("--ir", help="thermal recording; default: made from the synthetic scene")
    parser.add_argument("--vis", help="visible recording; default: made from the synthetic scene")
    parser.add_argument(
        "--fuser", nargs="+", default=known, choices=known, metavar="NAME", help=f"of {', '.join(known)}"
    )
    parser.add_argument("--size", nargs="+", default=list(SIZES), help="of the synthetic clips")
    parser.add_argument("--frames", type=int, default=300, help="of the synthetic clips, at 640x480")
    parser.add_argument("--loop", type=int, default=2, help="times each recording is played in one run")
    parser.add_argument("--rounds", type=int, default=3, help="runs per fuser, taken in turn")
    parser.add_argument("--json", type=Path, help="result file to write")
    return parser.parse_args()


def _case(name: str, settings: dict[str, Any]) -> Callable[[], dict[str, float]]:
    def run() -> dict[str, float]:
        try:
            figures = run_case(settings)
        except RuntimeError as error:
            raise SystemExit(f"the case {name} failed: {error}") from None
        stages = figures["stages_ms"]
        return {
            **{figure: figures[figure] for figure in FIGURES},
            "decode_visible_p50_ms": stages["decode visible"]["p50"],
            "decode_thermal_p50_ms": stages["decode thermal"]["p50"],
        }

    return run


if __name__ == "__main__":
    main()
