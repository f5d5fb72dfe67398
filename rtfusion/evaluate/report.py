"""The report of a run as one HTML file: pictures side by side, plots, tables, all inside. `rtfusion report`.

A run is told by the file that ``--stats-json`` wrote. Pictures are read again from its recordings and from its output; what was a
camera or was not kept has none.
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from rtfusion.capture import Source, open_source, source_path
from rtfusion.capture.images import decode_image, list_images
from rtfusion.clock import NS_PER_S
from rtfusion.config import Settings
from rtfusion.errors import ConfigError, FusionError
from rtfusion.evaluate import plot
from rtfusion.evaluate.bench import stage_parts
from rtfusion.evaluate.metrics import image_metrics
from rtfusion.evaluate.moments import frames_of, with_fused
from rtfusion.evaluate.speed_case import bound_by
from rtfusion.fusion.color import as_bgr, luminance
from rtfusion.fusion.tone import TIME_CONSTANT_S, GainControl
from rtfusion.pairs import PairStream
from rtfusion.pipeline import pairs_of
from rtfusion.registration import load_calibration
from rtfusion.types import Band, Frame, FramePair, Image8

PICTURE_HEIGHT_PX = 320
JPEG_QUALITY = 88
METRICS = ("EN", "SD", "AG", "SCD", "VIF", "Qabf", "SSIM")
STYLE = """
:root { color-scheme: light dark; --ink: #222; --faint: #667; --ground: #fafafa; --card: #fff; --line: #ddd; }
@media (prefers-color-scheme: dark) { :root {
  --ink: #e8e8e8; --faint: #9aa; --ground: #16181b; --card: #1e2125; --line: #363a40; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--ground); margin: 2rem auto; max-width: 1180px;
  padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; } .faint { color: var(--faint); }
table { border-collapse: collapse; background: var(--card); }
td, th { padding: .25rem .7rem; border-bottom: 1px solid var(--line);
  text-align: right; font-variant-numeric: tabular-nums; } td:first-child, th:first-child { text-align: left; }
.row { display: grid; grid-template-columns: repeat(3, 1fr); gap: 6px; margin-bottom: 6px; }
figure { margin: 0; } figure img { width: 100%; display: block; border-radius: 3px; }
figcaption { font-size: .8rem; color: var(--faint); }
svg { max-width: 100%; height: auto; border-radius: 4px; } .wide { overflow-x: auto; }
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """What each camera saw and what became of it."""

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
    try:
        target.write_text(page(run, moments, missing), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {target}: {error.strerror}") from error
    return missing


def page(run: Mapping[str, Any], moments: Sequence[Moment], missing: Sequence[str]) -> str:
    """The whole HTML."""
    engine = f" on {run['engine']}" if run["engine"] else ""
    headline = (
        f"{run['fused']} frames in {run['elapsed_s']:.1f} s with {run['fuser']}{engine}: {run['fps']:.1f} frames/s"
    )
    body = [
        f"<h1>{_text(headline)}</h1>",
        f"<p class=faint>rtfusion {_text(run.get('version', '?'))}, {_text(_ended(run))}</p>",
        *(_pictures(moments) if moments else []),
        *(f"<p class=faint>{_text(sentence)}</p>" for sentence in missing),
        "<h2>Sources</h2>",
        _sources(run),
    ]
    if any(stage["count"] for stage in run["stages_ms"].values()):
        body += ["<h2>Stages</h2>", f"<div class=wide>{_stage_plot(run)}</div>", _stages(run)]
    if run["written"]:
        body += ["<h2>Outputs</h2>", _outputs(run)]
    body += [f"<p>Note: {_text(note)}</p>" for note in run["notes"]]
    if "settings" in run:
        body += ["<h2>Settings</h2>", _settings(run["settings"])]
    return (
        f'<!doctype html>\n<html lang=en><meta charset=utf-8><meta name=viewport content="width=device-width">'
        f"<title>rtfusion: {_text(headline)}</title><style>{STYLE}</style>\n" + "\n".join(body) + "\n</html>\n"
    )


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
        yield from with_fused(pairs, frames_of(output), starts_ns=output.info.starts_ns)
    else:
        files = list_images(source_path(output.info.uri) or Path(), uri=output.info.uri)
        for pair in pairs:
            yield pair, files.get(pair.visible.name or f"{pair.sequence:06d}")


def _choose(
    shown: Iterable[tuple[FramePair, Frame | Path | None]], *, gain: GainControl, total: int, count: int
) -> Iterator[Moment]:
    """``count`` moments at equal distances, or all. The gain sees every pair until then, since it has a memory."""
    every = max(1, total // (count + 1))
    for pair, fused in shown:
        toned = gain(pair.thermal.image, timestamp_ns=pair.thermal.timestamp_ns)
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


def _pictures(moments: Sequence[Moment]) -> list[str]:
    body = ["<h2>Pictures</h2>"]
    for moment in moments:
        cells = [
            _figure(moment.visible, f"visible, {moment.name}"),
            _figure(moment.thermal, "thermal, as its camera sees it"),
        ]
        if moment.fused is not None:
            cells.append(_figure(moment.fused, f"fused{_scores(moment)}"))
        body.append(f"<div class=row>{''.join(cells)}</div>")
    return body


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


def _figure(image: Image8, caption: str) -> str:
    height, width = image.shape[:2]
    if height > PICTURE_HEIGHT_PX:
        size_px = round(width * PICTURE_HEIGHT_PX / height), PICTURE_HEIGHT_PX
        image = cv2.resize(image, size_px, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    data = cv2.imencode(".jpg", as_bgr(image), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
    text = base64.b64encode(data).decode()
    picture = f'<img alt="{_text(caption)}" src="data:image/jpeg;base64,{text}">'
    return f"<figure>{picture}<figcaption>{_text(caption)}</figcaption></figure>"


# -- tables -------------------------------------------------------------------------------------------------------------


def _ended(run: Mapping[str, Any]) -> str:
    ending = run.get("ending") or {}
    return f"{ending.get('reason', 'ended')}{': ' + ending['message'] if ending.get('message') else ''}"


def _sources(run: Mapping[str, Any]) -> str:
    rows = []
    for band in ("visible", "thermal"):
        info = run["sources"].get(band, {})
        drops = ", ".join(f"{count} {cause}" for cause, count in run["drops"].get(band, {}).items() if count) or "0"
        stream = f"{info.get('size', '?')} {info.get('pixel_format', '')}, {info.get('rate_hz', 0):.4g} Hz"
        rows.append([band, info.get("uri", "?"), stream, str(run["frames_read"].get(band, 0)), drops])
    skew = run["skew_ms"]
    pairs = f"<p>{run['pairs']} pairs; skew p50 {_ms(skew['p50'])} ms, p95 {_ms(skew['p95'])} ms, max {_ms(skew['max'])} ms</p>"
    return _table(["", "from", "stream", "frames read", "dropped"], rows) + pairs


def _stage_plot(run: Mapping[str, Any]) -> str:
    stages = {name: stage for name, stage in run["stages_ms"].items() if stage["count"]}
    bars = {figure: stage_parts(stages, figure=figure) for figure in ("p50", "p95", "p99")}
    return plot.bars(f"Milliseconds per frame by stage; bound by {bound_by(stages)}", bars, unit="ms")


def _stages(run: Mapping[str, Any]) -> str:
    figures = ("p50", "p95", "p99", "max")
    rows = [
        [name, *(_ms(stage[figure]) for figure in figures)]
        for name, stage in run["stages_ms"].items()
        if stage["count"]
    ]
    return _table(["stage, ms per frame", *figures], rows)


def _outputs(run: Mapping[str, Any]) -> str:
    rows = []
    for uri, written in run["written"].items():
        age = run["age_ms"].get(uri, {})
        dropped = sum(run["drops"].get("sinks", {}).get(uri, {}).values())
        rows.append([uri, str(written), str(dropped), *(_ms(age.get(name)) for name in ("p50", "p95", "p99"))])
    return _table(["output", "written", "dropped", "age ms p50", "p95", "p99"], rows)


def _settings(settings: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        [name, json.dumps(entry["value"]), entry["origin"]]
        for name, entry in settings.items()
        if entry["origin"] != "default"
    ]
    return _table(["setting", "value", "from"], rows) + "<p class=faint>All others at their defaults.</p>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{_text(cell)}</{tag}>" for cell in cells) + "</tr>"

    return f"<div class=wide><table>{line(head, 'th')}{''.join(line(row, 'td') for row in rows)}</table></div>"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _text(value: object) -> str:
    return html.escape(str(value))
