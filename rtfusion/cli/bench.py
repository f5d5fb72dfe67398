"""``rtfusion bench``: how fast this machine fuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from rtfusion.cli.options import Debug, Overwrite


def bench(
    *,
    quick: Annotated[bool, typer.Option("--quick", metavar="", help="640x480 only, in less than 30 s.")] = False,
    size: Annotated[
        list[str] | None, typer.Option("--size", metavar="WxH", help="Size of the pictures (repeatable).")
    ] = None,
    fuser: Annotated[
        list[str] | None,
        typer.Option("--fuser", metavar="NAME", help="Fuser without a model (repeatable): average, pyramid."),
    ] = None,
    model: Annotated[
        list[Path] | None,
        typer.Option("--model", metavar="FILE", help="Model file (repeatable). Without it, the shipped ones."),
    ] = None,
    engine: Annotated[
        list[str] | None, typer.Option("--engine", metavar="NAME", help="Engine of the models (repeatable).")
    ] = None,
    ir: Annotated[str | None, typer.Option("--ir", metavar="SRC", help="Thermal recording of your own.")] = None,
    vis: Annotated[str | None, typer.Option("--vis", metavar="SRC", help="Visible recording of your own.")] = None,
    rounds: Annotated[int, typer.Option("--rounds", metavar="N", min=1, help="Runs of each, taken in turn.")] = 3,
    rate_hz: Annotated[int, typer.Option("--rate-hz", metavar="HZ", min=1, help="Rate of the live runs.")] = 30,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Result file; with --overwrite, compared with the one there."),
    ] = None,
    against: Annotated[Path | None, typer.Option("--against", metavar="FILE", help="Earlier result.")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="The stages as an SVG plot.")] = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    r"""Measure how fast this machine fuses, and what holds it back.

    FPS is what two recordings can be fused at, decoding included; live FPS is
    what is left of 30 frames a second that arrive as a camera's would, and age how
    old they are when they come out. Stages are milliseconds per frame, p50.

    A first look:
      rtfusion bench --quick
    Your model, both engines, your size, kept and compared with the last time:
      rtfusion bench --model mine.onnx --engine openvino --engine onnxruntime \
        --size 1280x1024 --json bench.json
    """
    from rtfusion.cli.console import say, show, table
    from rtfusion.errors import ConfigError
    from rtfusion.evaluate import bench as suite
    from rtfusion.evaluate import schema, timing
    from rtfusion.files import check_output
    from rtfusion.portable import needs

    needs("linux", "macos", what="rtfusion bench", instead="rtfusion doctor measures the fusers there")
    for path in (json_file, plot):
        if path is not None:
            check_output(path, overwrite=overwrite, taken={} if against is None else {against: "the earlier result"})
    earlier = against or (json_file if json_file is not None and json_file.exists() else None)
    previous: dict[str, Any] | None = None if earlier is None else schema.load(earlier)
    methods = _methods(fuser, model, quick=quick)
    if (ir is None) != (vis is None):
        raise ConfigError("recordings are measured in pairs: give both --ir and --vis")
    recordings = {} if ir is None or vis is None else {"ir": ir, "vis": vis}
    given: dict[str, Any] = {"sizes": size, "engines": engine, "recordings": recordings}
    plan = suite.quick(methods) if quick else suite.Plan(methods=methods, rounds=rounds)
    plan = replace(plan, rate_hz=rate_hz, **{name: value for name, value in given.items() if value})
    data = suite.measure(plan, say=say)
    rates, stages = (table(*headers, numbers_from=1, name_width=18) for headers in (suite.RATES, suite.STAGES))
    for rows, body in ((rates, suite.rates(data)), (stages, suite.stages(data))):
        for cells in body:
            rows.add_row(*cells)
    show("", rates, "", stages, "", *suite.remarks(data, previous=previous))
    if json_file is not None:
        timing.save(data, json_file)
    if plot is not None:
        plot.write_text(suite.draw(data), encoding="utf-8")


def _methods(fusers: list[str] | None, models: list[Path] | None, *, quick: bool) -> Any:
    """A list of `rtfusion.evaluate.methods.Method`."""
    from rtfusion.evaluate.methods import select, shipped_models

    if fusers is None:
        fusers = [] if models is not None else ["pyramid"] if quick else ["average", "pyramid"]
    known = shipped_models()
    chosen = {path.stem: known.get(str(path), path) for path in models} if models is not None else known
    if quick and models is None:
        chosen = dict(list(chosen.items())[-1:])  # small, where there are small and large
    return select(fusers=fusers, models=chosen, enhance=())
