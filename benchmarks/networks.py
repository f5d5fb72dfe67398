"""Speed of networks alone: the small student, LD-Lite's network and a plain one, in PyTorch and in OpenVINO, in turns.

::

    python -m benchmarks.networks [--size WxH ...] [--rounds N] [--json FILE]      (needs the [train] extra)

Weights do not matter for the time, so those of LD-Lite and of the plain network are as they are initialized. The plain one
is five 3 x 3 convolutions of 32 channels at full resolution, what a first try at a fusion network looks like. All see a
frame of noise in [0, 1]; a round runs every network once in every engine, and ratios are taken within a round, to the INT8
file of the student in OpenVINO; its f16 file computes in f16 where the processor does. The networks alone: no decoding, no
registration, no color (`rtfusion bench` measures those).
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rtfusion.engines import open_engine
from rtfusion.evaluate import timing
from rtfusion.evaluate.conditions import Conditions
from rtfusion.models import shipped
from rtfusion.models.spec import IMAGE_INPUTS

STUDENT = "small"
BASELINE = f"{STUDENT} INT8, OpenVINO"
HALF = f"{STUDENT} f16, OpenVINO"
SCALARS = ("enhance", "visible_mean", "thermal_mean")
"""Inputs of the student beside the images."""
PLAIN_WIDTH, PLAIN_LAYERS = 32, 5
OPSET = 17
WARM_UP = 3

Run = Callable[[], object]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and write the result file where one is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.networks", description=__doc__.splitlines()[0])
    parser.add_argument("--size", nargs="+", default=["640x480", "1280x1024"], metavar="WxH", help="multiples of 8")
    parser.add_argument("--rounds", type=int, default=15, metavar="N", help="runs of each, taken in turn")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE", help="result file to write")
    options = parser.parse_args(arguments)
    conditions = Conditions()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="rtfusion-networks-") as folder:
        networks = _networks(Path(folder))
        for size in options.size:
            rows += _measure(networks, size=size, rounds=options.rounds, threads=options.threads)
    settings = {
        "rounds": options.rounds,
        "warm_up": WARM_UP,
        "threads": options.threads,
        "parameters": {name: count for name, (_, _, count) in networks.items()},
    }
    data = timing.result("networks", settings=settings, rows=rows, conditions=conditions)
    print(table(data))
    if options.json is not None:
        timing.save(data, options.json)
    return 0


def _measure(networks: Mapping[str, Any], *, size: str, rounds: int, threads: int) -> list[dict[str, Any]]:
    width, height = map(int, size.split("x"))
    runs: dict[str, Run] = {}
    engines = []
    for name, (module, path, _) in networks.items():
        runs[f"{name}, PyTorch"] = _eager(module, size_px=(width, height), threads=threads)
        engine = open_engine("openvino", model=path, size_px=(width, height), threads=threads)
        engines.append(engine)
        runs[f"{name}, OpenVINO"] = _engine(engine, _inputs(name, size_px=(width, height)))
    for name, precision in ((BASELINE, "int8"), (HALF, "f16")):
        path = shipped(STUDENT, precision=precision)
        engines.append(open_engine("openvino", model=path, size_px=(width, height), threads=threads))
        runs[name] = _engine(engines[-1], _inputs(STUDENT, size_px=(width, height)))
    measured = timing.in_turns(
        {name: lambda run=run: _timed_ms(run) for name, run in runs.items()},  # type: ignore[misc]
        rounds=rounds,
        warm_up=WARM_UP,
    )
    for engine in engines:
        engine.close()
    return [
        {
            "case": name,
            "size": size,
            "ms": timing.distribution(times_ms),
            **timing.ratios(times_ms, measured[BASELINE]),
            "baseline": BASELINE,
        }
        for name, times_ms in measured.items()
    ]


def _timed_ms(run: Run) -> float:
    started_ns = time.perf_counter_ns()
    run()
    return (time.perf_counter_ns() - started_ns) / 1e6


def _networks(folder: Path) -> dict[str, tuple[Any, Path, int]]:
    """Name to module, ONNX file and number of parameters."""
    import torch
    from rtfusion_trainer.config import load_config
    from rtfusion_trainer.student import Student
    from rtfusion_trainer.teachers.ldlite import LdLite
    from torch import nn

    class Plain(nn.Module):
        """Five layers at full resolution."""

        def __init__(self) -> None:
            super().__init__()
            widths = [2, *[PLAIN_WIDTH] * (PLAIN_LAYERS - 1)]
            layers: list[nn.Module] = []
            for before, after in itertools.pairwise(widths):
                layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
            self.layers = nn.Sequential(*layers, nn.Conv2d(PLAIN_WIDTH, 1, 3, padding=1), nn.Sigmoid())

        def forward(self, visible: torch.Tensor, thermal: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.layers(torch.cat((visible, thermal), dim=1))
            return result

    class Positional(nn.Module):
        """LD-Lite with inputs that an exporter can name."""

        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, visible: torch.Tensor, thermal: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.network(visible=visible, thermal=thermal)
            return result

    torch.manual_seed(0)
    student = Student(load_config(STUDENT).network).eval()
    found: dict[str, tuple[Any, Path, int]] = {STUDENT: (student, shipped(STUDENT), _count(student))}
    for name, module in (("LD-Lite", Positional(LdLite()).eval()), ("plain, 5 layers", Plain().eval())):
        path = folder / f"{len(found)}.onnx"
        _export(module, path)
        found[name] = (module, path, _count(module))
    return found


def _count(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _export(module: Any, path: Path) -> None:
    """An ONNX file with the names that engines expect, height and width dynamic."""
    import warnings

    import torch

    image = torch.rand(1, 1, 64, 64)
    free = {name: {2: "height", 3: "width"} for name in ("visible_y", "thermal", "fused_y")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracing exporter is deprecated, but gives the plain graph wanted here
        torch.onnx.export(
            module, (image, image), str(path), input_names=["visible_y", "thermal"], output_names=["fused_y"],
            dynamic_axes=free, opset_version=OPSET, dynamo=False,
        )  # fmt: skip


def _eager(module: Any, *, size_px: tuple[int, int], threads: int) -> Run:
    import torch

    torch.set_num_threads(threads)
    width, height = size_px
    images = [torch.rand(1, 1, height, width) for _ in range(2)]
    is_student = type(module).__name__ == "Student"
    scalars = [torch.full((1, 1, 1, 1), 0.5)] * (len(SCALARS) if is_student else 0)

    def run() -> object:
        with torch.inference_mode():
            return module(*images, *scalars)

    return run


def _inputs(name: str, *, size_px: tuple[int, int]) -> dict[str, Any]:
    """Noise for the images, 0.5 for the scalars of the student."""
    rng = np.random.default_rng(0)
    width, height = size_px
    images = {image: rng.random((1, 1, height, width), np.float32) for image in IMAGE_INPUTS}
    return images | {scalar: np.full((1, 1, 1, 1), 0.5, np.float32) for scalar in SCALARS if name == STUDENT}


def _engine(engine: Any, inputs: Mapping[str, Any]) -> Run:
    return lambda: engine.run(inputs=inputs)


def table(data: Mapping[str, Any]) -> str:
    """Times and ratios as Markdown: how many times as long as the student's INT8 file in OpenVINO."""
    settings = data["settings"]
    counts = ", ".join(f"{name} {count:,}" for name, count in settings["parameters"].items())
    head = ["size", "network, engine", "ms p50", "p90", "p99", f"times {STUDENT} INT8", "least to most"]
    lines = [
        f"{settings['threads']} threads of {data['machine']['processor']}, {settings['rounds']} rounds; "
        f"parameters: {counts}",
        "",
        f"| {' | '.join(head)} |",
        "|" + "---|" * len(head),
    ]
    for row in data["rows"]:
        ms, ratios = row["ms"], row["ratios"]
        figures = [*(f"{ms[name]:.2f}" for name in ("p50", "p90", "p99")), f"{row['ratio']:.2f}"]
        lines.append(
            f"| {row['size']} | {row['case']} | {' | '.join(figures)} | {min(ratios):.2f} to {max(ratios):.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
