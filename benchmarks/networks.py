"""Speed of networks alone: the small student, LD-Lite's network and a plain one, in PyTorch and in OpenVINO, in turns.

::

    python -m benchmarks.networks [--size WxH ...] [--rounds N] [--json FILE]      (needs the [train] extra)

Weights do not matter for the time, so those of LD-Lite and of the plain network are as they are initialized. The plain one
is five 3 x 3 convolutions of 32 channels at full resolution, what a first try at a fusion network looks like. All see a
frame of noise in [0, 1]; a round runs every network once in every engine, and ratios are taken within a round, to the INT8
file of the student in OpenVINO; its f16 file computes in f16 where the processor does, and *in parts* is the INT8 file as a run
takes it, with the compiled kernels where they are. The networks alone: no decoding, no registration, no color
(`rtfusion bench` measures those).
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.suite import Measured, Result, Row, Suite, chosen, columns_table
from rtfusion.engines import open_engine, open_gray_engine
from rtfusion.evaluate import timing
from rtfusion.models import shipped
from rtfusion.models.spec import IMAGE_INPUTS
from rtfusion.text import parse_size_px

STUDENT = "small"
BASELINE = f"{STUDENT} INT8, OpenVINO"
PRECISIONS = {BASELINE: "int8", f"{STUDENT} f16, OpenVINO": "f16"}
"""Cases of the student's files in other precisions."""
IN_PARTS = f"{STUDENT} INT8 in parts, OpenVINO"
SCALARS = ("enhance", "visible_mean", "thermal_mean")
"""Inputs of the student beside the images."""
PLAIN_WIDTH, PLAIN_LAYERS = 32, 5
OPSET = 17
WARM_UP = 3
COLUMNS = (
    ("size", "{size}"),
    ("network", "{case}"),
    ("ms p50", "{ms[p50]:.1f}"),
    ("p90", "{ms[p90]:.1f}"),
    ("p99", "{ms[p99]:.1f}"),
    ("times", "{ratio:.2f}"),
    ("range", "{least:.1f}-{most:.1f}"),
)

Run = Callable[[], object]


class Network(NamedTuple):
    """A network as a module and as a file of the same graph."""

    module: Any
    path: Path
    scalars: tuple[str, ...] = ()
    """Names of its inputs beside the images."""


def measure(options: argparse.Namespace) -> Measured:
    """A row for every size, network and engine."""
    with tempfile.TemporaryDirectory(prefix="rtfusion-networks-") as folder:
        networks = _networks(Path(folder))
        rows = [row for size in options.size for row in _measure_size(networks, size, options)]
    parameters = {
        name: sum(weights.numel() for weights in network.module.parameters()) for name, network in networks.items()
    }
    return {**chosen(options, "rounds", "threads"), "warm_up": WARM_UP, "parameters": parameters}, rows


def _measure_size(networks: Mapping[str, Network], size: str, options: argparse.Namespace) -> list[Row]:
    width, height = parse_size_px(size, option="--size")
    runs: dict[str, Run] = {}
    with ExitStack() as stack:

        def openvino(path: Path, scalars: tuple[str, ...]) -> Run:
            engine = open_engine("openvino", model=path, size_px=(width, height), threads=options.threads)
            stack.enter_context(closing(engine))
            return partial(engine.run, inputs=_inputs(scalars, size_px=(width, height)))

        for name, network in networks.items():
            runs[f"{name}, PyTorch"] = _eager(network, size_px=(width, height), threads=options.threads)
            runs[f"{name}, OpenVINO"] = openvino(network.path, network.scalars)
        for name, precision in PRECISIONS.items():
            runs[name] = openvino(shipped(STUDENT, precision=precision), SCALARS)
        in_parts = open_gray_engine(
            "openvino", model=shipped(STUDENT, precision="int8"), size_px=(width, height), threads=options.threads
        )
        stack.enter_context(closing(in_parts))
        levels = {
            name: (255 * image[0, 0]).astype(np.uint8) for name, image in _inputs((), size_px=(width, height)).items()
        }
        runs[IN_PARTS] = partial(in_parts.run, images=levels, inputs=dict.fromkeys(SCALARS, 0.5))
        cases = {name: partial(timing.duration_ms, run) for name, run in runs.items()}
        measured = timing.run_interleaved(cases, rounds=options.rounds, warm_up=WARM_UP)
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


def _inputs(scalars: tuple[str, ...], *, size_px: tuple[int, int]) -> dict[str, Any]:
    """Noise for the images, 0.5 for the scalars."""
    rng = np.random.default_rng(0)
    width, height = size_px
    images = {image: rng.random((1, 1, height, width), np.float32) for image in IMAGE_INPUTS}
    return images | {scalar: np.full((1, 1, 1, 1), 0.5, np.float32) for scalar in scalars}


def _eager(network: Network, *, size_px: tuple[int, int], threads: int) -> Run:
    import torch

    torch.set_num_threads(threads)
    inputs = [torch.from_numpy(array) for array in _inputs(network.scalars, size_px=size_px).values()]

    def run() -> object:
        with torch.inference_mode():
            return network.module(*inputs)

    return run


# -- networks -----------------------------------------------------------------------------------------------------------


def _networks(folder: Path) -> dict[str, Network]:
    import torch
    from rtfusion_trainer.config import load_config
    from rtfusion_trainer.student import Student
    from rtfusion_trainer.teachers.ldlite import LdLite
    from torch import nn

    class Positional(LdLite):
        """LD-Lite with inputs that an exporter can name."""

        def forward(self, visible: torch.Tensor, thermal: torch.Tensor) -> torch.Tensor:
            return super().forward(visible=visible, thermal=thermal)

    class Plain(nn.Module):
        """Convolutions at full resolution."""

        def __init__(self) -> None:
            super().__init__()
            layers: list[nn.Module] = []
            for before, after in itertools.pairwise([2, *[PLAIN_WIDTH] * (PLAIN_LAYERS - 1)]):
                layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
            self.layers = nn.Sequential(*layers, nn.Conv2d(PLAIN_WIDTH, 1, 3, padding=1), nn.Sigmoid())

        def forward(self, visible: torch.Tensor, thermal: torch.Tensor) -> Any:
            return self.layers(torch.cat((visible, thermal), dim=1))

    torch.manual_seed(0)
    found = {STUDENT: Network(Student(load_config(STUDENT).network).eval(), shipped(STUDENT), SCALARS)}
    for name, module in (("LD-Lite", Positional()), ("plain, 5 layers", Plain())):
        found[name] = Network(module.eval(), folder / f"{len(found)}.onnx")
        _export(found[name])
    return found


def _export(network: Network) -> None:
    """Write its ONNX file with the names that engines expect, height and width dynamic."""
    import torch

    image = torch.rand(1, 1, 64, 64)
    free = {name: {2: "height", 3: "width"} for name in ("visible_y", "thermal", "fused_y")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracing exporter is deprecated, but gives the plain graph wanted here
        torch.onnx.export(
            network.module, (image, image), str(network.path), input_names=["visible_y", "thermal"],
            output_names=["fused_y"], dynamic_axes=free, opset_version=OPSET, dynamo=False,
        )  # fmt: skip


def table(data: Result) -> str:
    """Times and ratios as Markdown: how many times as long as the student's INT8 file in OpenVINO."""
    settings = data["settings"]
    counts = ", ".join(f"{name} {count:,}" for name, count in settings["parameters"].items())
    title = f"{settings['threads']} threads of {data['machine']['processor']}, {settings['rounds']} rounds; parameters: {counts}"
    rows = [
        {
            **row,
            "case": row["case"].replace("plain, 5 layers", "plain"),
            "least": min(row["ratios"]),
            "most": max(row["ratios"]),
        }
        for row in data["rows"]
    ]
    return f"{title}\n\n{columns_table(COLUMNS, rows)}"


SUITE = Suite(
    name="networks",
    help=__doc__,
    options={
        "--size": {"nargs": "+", "default": ["640x480", "1280x1024"], "metavar": "WxH", "help": "multiples of 8"},
        "--rounds": {"type": int, "default": 15, "metavar": "N", "help": "runs of each, taken in turn"},
        "--threads": {"type": int, "default": len(os.sched_getaffinity(0)), "metavar": "N"},
    },
    measure=measure,
    table=table,
)

if __name__ == "__main__":
    sys.exit(SUITE.main())
