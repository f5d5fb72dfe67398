"""``rtfusion build``: make the engine of a model for this GPU."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from rtfusion.cli.options import Debug


def build(
    *,
    model: Annotated[
        Path, typer.Option(metavar="NAME|FILE", help="Model that comes with rtfusion, or a model file (ONNX).")
    ],
    size: Annotated[
        list[str], typer.Option(metavar="WxH", help="Size of the visible images, such as 640x480 (repeatable).")
    ],
    precision: Annotated[
        str,
        typer.Option(metavar="NAME", help="Of a model that comes with rtfusion: f32, f16 or int8; auto is f16."),
    ] = "auto",
    via: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="onnx, TensorRT's own parser, or torch, torch_tensorrt; both end in one engine."
        ),
    ] = "onnx",
    force: Annotated[bool, typer.Option("--force", metavar="", help="Build anew what is there already.")] = False,
    debug: Debug = False,
) -> None:
    """Build the TensorRT engine of a model for this GPU, ahead of the first run.

      rtfusion build --model small --size 640x480

    A build takes minutes. The engine is kept in ~/.cache/rtfusion/engines under a key of everything that can change it, checked
    with a golden input, and found there by every run with [bold]--engine tensorrt[/bold]. Without a build, the first run does it.
    """
    from rtfusion.cli.console import say
    from rtfusion.cuda.device import Device
    from rtfusion.engines import model_file, resolve
    from rtfusion.engines.tensorrt import build as build_engine
    from rtfusion.models import read_spec
    from rtfusion.text import parse_size_px

    sizes_px = [parse_size_px(text, option="--size") for text in size]
    model = model_file(model, precision=precision, on_gpu=True)
    spec = read_spec(model)
    resolve("tensorrt")
    with closing(Device()) as device:
        for width, height in sizes_px:
            padded_px = spec.padded_px((width, height))
            network = build_engine(
                model=model, size_px=padded_px, device=device, via=via, force=force, progress=_Progress()
            )
            device.call(network.close)
            say(f"{network.description} is ready for {width}x{height} on {device.description}")


class _Progress:
    """One line per phase, and where a person looks, the share of it that is done."""

    def __init__(self) -> None:
        self._phase = ""

    def __call__(self, phase: str, step: int, steps: int) -> None:
        if sys.stderr.isatty():
            share = 100 * step // max(1, steps)
            sys.stderr.write(f"\r{phase[:60]:60} {share:3d} %" + ("\n" if step >= steps else ""))
            sys.stderr.flush()
        elif phase != self._phase:
            sys.stderr.write(f"{phase}\n")
        self._phase = phase
