"""The report of a run as one HTML file: pictures side by side, plots, tables, all inside. `rtfusion report`.

A run is told by the file that ``--stats-json`` wrote. Pictures are read again from its recordings and from its output; what was a
camera or was not kept has none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from rtfusion.capture import Source, open_source, source_path
from rtfusion.capture.images import list_images
from rtfusion.capture.stills import decode_image
from rtfusion.clock import NS_PER_S
from rtfusion.config import Settings
from rtfusion.errors import ConfigError, FusionError
from rtfusion.evaluate import plot
from rtfusion.evaluate.metrics import image_metrics
from rtfusion.evaluate.moments import frames_of, with_fused
from rtfusion.evaluate.speed_case import bound_by, stage_parts
from rtfusion.fusion.color import luminance
from rtfusion.fusion.tone import TIME_CONSTANT_S, GainControl
from rtfusion.page import write_page
from rtfusion.pairs import PairStream
from rtfusion.pipeline import pairs_of
from rtfusion.progress import steps
from rtfusion.registration import load_calibration
from rtfusion.types import Band, Frame, FramePair, Image8

METRICS = ("EN", "SD", "AG", "SCD", "VIF", "Qabf", "SSIM")
TEMPLATE = Path(__file__).with_name("run_page.html")


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """The two pictures of a moment and the fused one."""

    name: str
    visible: Image8
    thermal: Image8
    """Toned; on its own camera's grid."""
    fused: Image8 | None


def write_report(stats: Path, target: Path, *, pictures: int = 4) -> list[str]:
    """Write the report of the run that ``stats`` tells of; gives what a reader will miss in it.

    Raises:
        ConfigError: the statistics cannot be read, or the target cannot be written.
    """
    run = _load(stats)
    moments, missing = _moments(run, count=pictures) if pictures else ([], [])
    engine = f" on {run['engine']}" if run["engine"] else ""
    ending = run.get("ending") or {}
    write_page(
        target,
        template=TEMPLATE,
        run=run,
        headline=f"{run['fused']} frames in {run['elapsed_s']:.1f} s with {run['fuser']}{engine}: {run['fps']:.1f} frames/s",
        ending=": ".join(filter(None, (ending.get("reason", "ended"), ending.get("message")))),
        moments=moments,
        missing=missing,
        scores=_scores,
        plot=_stage_plot(run),
    )
    return missing


def _load(path: Path) -> dict[str, Any]:
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    needed = {"fused", "fps", "sources", "stages_ms", "settings"}
    if not isinstance(run, dict) or not needed <= run.keys():
        raise ConfigError(f"{path} is not the statistics of a run; make them with rtfusion run --stats-json FILE")
    return run


# -- pictures -----------------------------------------------------------------------------------------------------------


def _moments(run: Mapping[str, Any], *, count: int) -> tuple[list[Moment], list[str]]:
    """Pictures at equal distances over the run, and what could not be shown."""
    values = {name: entry["value"] for name, entry in run["settings"].items()}
    if run["live"] or not values.get("vis") or not values.get("ir"):
        return [], ["The sources were cameras, so there are no pictures of them here."]
    if not run["fused"]:
        return [], ["No frame was fused, so there are no pictures."]
    try:
        with ExitStack() as stack:
            settings = Settings(**values | {"pace": False, "max_frames": run["fused"]})
            calibration = load_calibration(settings.calibration, distance_m=settings.distance_m)
            pairs = stack.enter_context(pairs_of(settings, calibration=calibration))
            output = _open_output(settings.sink, stack)
            memory_s = TIME_CONSTANT_S if pairs.thermal.continuous else 0.0
            gain = GainControl(**settings.arguments("gain"), time_constant_s=memory_s)
            shown = _with_output(pairs, output)
            moments = list(islice(_choose(shown, gain=gain, total=run["fused"], count=count), count))
    except FusionError as error:
        return [], [f"No pictures: {error}"]
    lacking = [moment.name for moment in moments if moment.fused is None]
    if output is None:
        return moments, ["The run kept no video and no images, so the fused pictures are missing: add --sink out.mp4."]
    if lacking:
        return moments, [
            f"{output.info.uri} holds no fused picture of {', '.join(lacking)}: none of its frames is of that time."
        ]
    return moments, []


def _open_output(sinks: Sequence[str], stack: ExitStack) -> Source | None:
    """The first output that can be read again."""
    for uri in sinks:
        with suppress(FusionError):
            bare = uri.partition("?")[0]
            place = source_path(bare)
            if place is not None and place.exists():
                return stack.enter_context(closing(open_source(bare, band=Band.VISIBLE)))
    return None


def _with_output(pairs: PairStream, output: Source | None) -> Iterator[tuple[FramePair, Frame | Path | None]]:
    """The pairs of the run, read again by the rule of the run, each with its fused picture: images by name, a video in time."""
    if output is None:
        yield from ((pair, None) for pair in pairs)
    elif output.info.continuous:
        yield from with_fused(pairs, frames_of(output), info=output.info)
    else:
        files = list_images(source_path(output.info.uri) or Path(), uri=output.info.uri)
        for pair in pairs:
            yield pair, files.get(pair.visible.name or f"{pair.sequence:06d}")


def _choose(
    shown: Iterable[tuple[FramePair, Frame | Path | None]], *, gain: GainControl, total: int, count: int
) -> Iterator[Moment]:
    """``count`` moments at equal distances, or all. The gain sees every pair until then, since it has a memory."""
    every = max(1, total // (count + 1))
    for pair, fused in steps(shown, "reading the run again", total=total):
        toned = gain(pair.thermal.image, timestamp_ns=pair.thermal.timestamp_ns, hold=pair.thermal.shutter)
        if total <= count or (pair.sequence and pair.sequence % every == 0):
            yield Moment(
                name=pair.visible.name or f"{pair.timestamp_ns / NS_PER_S:.2f} s",
                visible=pair.visible.image.astype(np.uint8, copy=False),
                thermal=toned,
                fused=_picture(fused),
            )


def _picture(fused: Frame | Path | None) -> Image8 | None:
    """The pixels of a frame or of an image file; None where there is none, or the file is broken."""
    with suppress(OSError, ValueError):
        image = decode_image(fused.read_bytes()) if isinstance(fused, Path) else fused.image if fused else None
        return None if image is None else image.astype(np.uint8, copy=False)
    return None


def _scores(moment: Moment) -> str:
    """The metrics of a picture, where the three have one size: else the thermal one was warped, and this one was not."""
    if moment.fused is None or not moment.visible.shape[:2] == moment.thermal.shape[:2] == moment.fused.shape[:2]:
        return ""
    try:
        values = image_metrics(
            fused=luminance(moment.fused), visible=luminance(moment.visible), thermal=luminance(moment.thermal)
        )
    except ValueError:  # smaller than a metric's window
        return ""
    return ": " + ", ".join(f"{name} {values[name]:.3g}" for name in METRICS)


def _stage_plot(run: Mapping[str, Any]) -> str:
    stages = {name: stage for name, stage in run["stages_ms"].items() if stage["count"]}
    bars = {figure: stage_parts(stages, figure=figure) for figure in ("p50", "p95", "p99")}
    return plot.bars(f"Milliseconds per frame by stage; bound by {bound_by(stages)}", bars, unit="ms") if stages else ""
