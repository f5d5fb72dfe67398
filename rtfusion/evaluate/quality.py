"""Image quality of fused images or videos of any method: all metrics of `rtfusion.evaluate.metrics`. `rtfusion evaluate`.

Folders of images are matched by stem. Videos are matched in time: the sources are paired by the rule of the runtime, each visible
frame with its nearest thermal one (`rtfusion.pairing`, ``hold``), and each fused frame is measured with the pair of its moment.
Everything is 8-bit gray (color by OpenCV's BGR2GRAY, 0.299 R + 0.587 G + 0.114 B; only luminance is
judged), and the three pictures of a moment have one size: register first.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rtfusion.capture import open_source
from rtfusion.capture.images import list_images
from rtfusion.errors import CaptureError, ConfigError
from rtfusion.evaluate.metrics import entropy, image_metrics, warp_error
from rtfusion.evaluate.moments import frames_of, with_fused
from rtfusion.evaluate.ranking import PUBLISHED, mean_ranks
from rtfusion.evaluate.ranking import published as published_values
from rtfusion.evaluate.reading import read_luminance
from rtfusion.fusion.color import luminance
from rtfusion.pairs import open_pairs
from rtfusion.progress import part, steps
from rtfusion.types import Band, Frame, Image8

SCHEMA = 2
ROLES = ("ir", "vis", "fused")
PAGE_COLUMNS = 80
FIRST = 16
CELL = 9
"""Widths in the table: of a page, of its first column, of a figure."""
ENTROPY_TOLERANCE = 0.02
"""Bits by which the mean entropy of a known set may differ: decoders and conversions to gray round differently."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """Three gray (H, W) uint8 pictures of one moment."""

    name: str
    number: int
    """Number of the fused frame in its video; 0 for images."""
    visible: Image8
    thermal: Image8
    fused: Image8


def compare(
    *,
    ir: Path,
    vis: Path,
    fused: Mapping[str, Path],
    every: int = 1,
    thermal_delay_ms: float = 0.0,
    published: str | None = None,
) -> dict[str, Any]:
    """Measure several methods on the same pictures, and rank them.

    Args:
        ir: folder of thermal images, or a thermal video.
        vis: the visible ones.
        fused: method to its fused images or video.
        every: of a video, take every n-th frame only.
        thermal_delay_ms: known delay of the thermal stamps of videos.
        published: a set of `PUBLISHED`, whose methods are ranked as well.

    Returns:
        ``{"schema": 2, "methods", "published", "notes", "mean_rank", "ranked_over"}``: methods maps a name to what `evaluate`
        gives; published a name to its metrics; notes are sentences that say why a comparison with published methods does not
        hold; the mean rank is over the metrics that all have, which ranked_over names; None for a single method.

    Raises:
        ConfigError: see `evaluate`; no such published set.
    """
    others = _published(published) if published is not None else {}
    methods = {}
    with part(0.0, 1.0):
        for number, (name, path) in enumerate(fused.items()):
            with part(number / len(fused), (number + 1) / len(fused)):
                methods[name] = evaluate(ir=ir, vis=vis, fused=path, every=every, thermal_delay_ms=thermal_delay_ms)
    rows = {name: result["mean"] for name, result in methods.items()} | others
    metrics = [name for name in next(iter(rows.values())) if all(row.get(name) is not None for row in rows.values())]
    ranks = mean_ranks({name: [row[metric] for metric in metrics] for name, row in rows.items()}, metrics=metrics)
    return {
        "schema": SCHEMA,
        "methods": methods,
        "published": others,
        "notes": [] if published is None else list(_other_pictures(published, methods)),
        "mean_rank": {name: ranks[name] if len(rows) > 1 else None for name in rows},
        "ranked_over": metrics,
    }


def evaluate(*, ir: Path, vis: Path, fused: Path, every: int = 1, thermal_delay_ms: float = 0.0) -> dict[str, Any]:
    """Measure every stem that all three folders hold, or every ``every``-th frame of a fused video.

    Returns:
        ``{"folders", "count", "sources", "mean", "standard_error", "images", "left_out"}``: ``sources`` are the mean entropies
        of the two bands as they were measured, by which a known set is recognized; ``images`` maps a stem, or the number of a
        frame, to its metrics, ``left_out`` a folder's role to the stems that the others lack, and ``fused`` to the numbers of
        frames that are of no moment of the source videos. A value that is not finite
        (PSNR of equal images, the standard error of a single image) is None. Videos have ``warp`` as well, where
        two measured frames follow one another.

    Raises:
        ConfigError: a folder, an image or a video cannot be read, no stem is in all three, or sizes differ.
    """
    places = {"ir": ir, "vis": vis, "fused": fused}
    for path in places.values():
        if not path.exists():
            raise ConfigError(f"there is no {path}; expected a folder of images or a video")
    kinds = {path.is_dir() for path in places.values()}
    if len(kinds) > 1:
        what = ", ".join(f"{path} is {'a folder' if path.is_dir() else 'no folder'}" for path in places.values())
        raise ConfigError(f"{what}; expected three folders of images or three videos")
    left_out: dict[str, list[str]] = {role: [] for role in ROLES}
    is_video = kinds == {False}
    videos = partial(_videos, delay_ms=thermal_delay_ms, left_out=left_out["fused"])
    samples = videos(places) if is_video else _folders(places, left_out)
    bands: list[dict[str, float]] = []
    images = _measure(_noted(samples, every=every, bands=bands), place=fused, every=every, is_video=is_video)
    return {
        "folders": {role: str(path) for role, path in places.items()},
        "count": len(images),
        "sources": summary(bands)["mean"],
        **summary(list(images.values())),
        "images": {name: _finite(row) for name, row in images.items()},
        "left_out": left_out,
    }


def format_table(result: Mapping[str, Any]) -> str:
    """Means with their standard errors, a line for each metric; the mean rank and among how many; what was left out."""
    methods = result["methods"]
    counts = ", ".join(f"{name} {method['count']}" for name, method in methods.items())
    columns = [*methods, *result["published"]]
    width = max(20, *(len(name) + 2 for name in columns))
    is_narrow = FIRST + width * len(columns) <= PAGE_COLUMNS
    lines = [f"images measured: {counts}", "", *(_by_metric(result, width=width) if is_narrow else _by_method(result))]
    if len(result["mean_rank"]) > 1:
        lines.append(_ranked(result))
    for name, method in methods.items():
        for role, stems in method["left_out"].items():
            if stems:
                some = ", ".join(stems[:5]) + (", ..." if len(stems) > 5 else "")
                why = "of no moment of the sources" if "warp" in method["mean"] else "not in all three folders"
                lines.append(f"{name}: left out of {role}, {why}: {len(stems)} ({some})")
    return "\n".join(lines)


def format_markdown(result: Mapping[str, Any]) -> str:
    """A table in Markdown, a line for each method, best mean rank first; below it stands what the rank is the mean of."""
    rows = {name: method["mean"] for name, method in result["methods"].items()} | result["published"]
    ranks, metrics = result["mean_rank"], list(next(iter(rows.values())))
    is_ranked = len(rows) > 1
    heads = ["", *metrics, *(["mean rank"] if is_ranked else [])]
    lines = [" | ".join(heads), "|".join(["---", *["---:"] * (len(heads) - 1)])]
    for name in sorted(rows, key=lambda name: ranks[name] or 0.0):
        cells = [_number(rows[name].get(metric)) for metric in metrics]
        lines.append(
            " | ".join([name.replace("|", "\\|"), *cells, *([_number(ranks[name], digits=2)] if is_ranked else [])])
        )
    table = "".join(f"| {line} |\n" for line in lines)
    return f"{table}\n{_ranked(result)}\n" if is_ranked else table


def _ranked(result: Mapping[str, Any]) -> str:
    """Say what a mean rank is the mean of."""
    ranked, ranks = result["ranked_over"], result["mean_rank"]
    measured = next(iter(result["methods"].values()))["mean"]
    without = [metric for metric in measured if metric not in ranked]
    text = f"mean rank: 1 is best of {len(ranks)}, over {len(ranked)} metrics that all have"
    return text + (f" (without {', '.join(without)})" if without else "")


def _by_metric(result: Mapping[str, Any], *, width: int) -> Iterator[str]:
    """A line for each metric, with standard errors."""
    methods, ranks = result["methods"], result["mean_rank"]
    yield f"{'':{FIRST}}" + "".join(f"{name:>{width}}" for name in ranks)
    for metric in next(iter(methods.values()))["mean"]:
        cells = [_with_error(method, metric) for method in methods.values()]
        cells += [_number(row.get(metric)) for row in result["published"].values()]
        yield f"{metric:{FIRST}}" + "".join(f"{cell:>{width}}" for cell in cells)
    if len(ranks) > 1:
        cells = [_number(rank, digits=2) for rank in ranks.values()]
        yield f"{f'mean rank of {len(ranks)}':{FIRST}}" + "".join(f"{cell:>{width}}" for cell in cells)


def _by_method(result: Mapping[str, Any]) -> Iterator[str]:
    """A line for each method, best mean rank first, in parts that are no wider than a page; without standard errors."""
    rows = {name: method["mean"] for name, method in result["methods"].items()} | result["published"]
    ranks = result["mean_rank"]
    order = sorted(rows, key=lambda name: ranks[name] or 0.0)
    first = max(map(len, rows)) + 2
    metrics = list(next(iter(rows.values())))
    at_once = max(1, (PAGE_COLUMNS - first) // CELL)
    if len(rows) > 1:
        yield f"{'':{first}}mean rank of {len(rows)}"
        yield from (f"{name:{first}}{_number(ranks[name], digits=2):>9}" for name in order)
    for start in range(0, len(metrics), at_once):
        shown = metrics[start : start + at_once]
        yield ""
        yield " " * first + "".join(f"{metric:>{CELL}}" for metric in shown)
        for name in order:
            yield f"{name:{first}}" + "".join(
                f"{_number(rows[name].get(metric), digits=3):>{CELL}}" for metric in shown
            )


def names_of(paths: Sequence[Path]) -> dict[str, Path]:
    """A short name for every path: its last parts, as many as tell them apart.

    Raises:
        ConfigError: one stands twice.
    """
    resolved = [path.resolve() for path in paths]
    for depth in range(1, max((len(path.parts) for path in resolved), default=0) + 1):
        names = ["/".join(path.parts[-depth:]) for path in resolved]
        if len(set(names)) == len(names):
            return dict(zip(names, paths, strict=True))
    raise ConfigError(f"a fused folder or video is given twice: {', '.join(map(str, paths))}; name each once")


# -- pictures -----------------------------------------------------------------------------------------------------------


def _folders(places: Mapping[str, Path], left_out: dict[str, list[str]]) -> Iterator[Sample]:
    try:
        files = {role: list_images(folder, uri=str(folder)) for role, folder in places.items()}
    except CaptureError as error:
        raise ConfigError(str(error)) from error
    stems = sorted(set.intersection(*(set(found) for found in files.values())))
    if not stems:
        counts = ", ".join(f"{len(found)} in {places[role]}" for role, found in files.items())
        raise ConfigError(f"no file name is in all three folders (images: {counts}); name matching files alike")
    left_out |= {role: sorted(set(found) - set(stems)) for role, found in files.items()}
    for stem in steps(stems, f"measuring {places['fused']}"):
        visible, thermal, fused = (read_luminance(files[role][stem]) for role in ("vis", "ir", "fused"))
        yield Sample(name=stem, number=0, visible=visible, thermal=thermal, fused=fused)


def _videos(places: Mapping[str, Path], *, delay_ms: float, left_out: list[str]) -> Iterator[Sample]:
    """Every fused frame that is of the moment of a pair; the others are named in ``left_out``."""

    def listed(frames: Iterator[Frame]) -> Iterator[Frame]:
        for frame in frames:
            left_out.append(f"{frame.sequence:06d}")
            yield frame

    with ExitStack() as stack:
        fused = stack.enter_context(closing(open_source(str(places["fused"]), band=Band.VISIBLE)))
        pairs = stack.enter_context(
            open_pairs(ir=places["ir"], vis=places["vis"], pair="hold", thermal_delay_ms=delay_ms)
        )
        frames = listed(frames_of(fused))
        moments = with_fused(pairs, frames, info=fused.info)
        for pair, frame in steps(moments, f"measuring {places['fused']}", total=pairs.visible.frame_count):
            if frame is not None:
                name = f"{frame.sequence:06d}"
                left_out.remove(name)
                yield Sample(
                    name=name,
                    number=frame.sequence,
                    visible=_gray8(pair.visible, places["vis"]),
                    thermal=_gray8(pair.thermal, places["ir"]),
                    fused=_gray8(frame, places["fused"]),
                )
        deque(frames, maxlen=0)  # what comes after the last pair is left out too


def _gray8(frame: Frame, path: Path) -> Image8:
    if frame.image.dtype != np.uint8:
        raise ConfigError(
            f"{path} has 16-bit pixels; the metrics are defined on 8 bit: measure what was toned for fusing"
        )
    return luminance(frame.image.astype(np.uint8, copy=False))


# -- figures ------------------------------------------------------------------------------------------------------------


def _measure(samples: Iterator[Sample], *, place: Path, every: int, is_video: bool) -> dict[str, dict[str, float]]:
    """The metrics of every n-th sample; in videos its ``warp`` error to the frame before, where that is of a moment too."""
    images: dict[str, dict[str, float]] = {}
    before: Sample | None = None
    for sample in samples:
        if sample.number % every == 0:
            try:
                row = image_metrics(fused=sample.fused, visible=sample.visible, thermal=sample.thermal)
            except ValueError as error:
                raise ConfigError(f"cannot measure {sample.name} of {place}: {error}") from error
            if is_video:
                row["warp"] = (
                    math.nan if before is None or sample.number != before.number + 1 else _warp(before, sample)
                )
            images[sample.name] = row
        before = sample
    if not images:
        raise ConfigError(f"{place}: no frame is of a moment of the sources; was it made of others, or with a delay?")
    return images


def _noted(samples: Iterator[Sample], *, every: int, bands: list[dict[str, float]]) -> Iterator[Sample]:
    """The samples; the entropies of both bands of those that are measured go into ``bands``."""
    for sample in samples:
        if sample.number % every == 0:
            bands.append({name: entropy(fused=getattr(sample, name)) for name in ("visible", "thermal")})
        yield sample


def _other_pictures(name: str, methods: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Say of which method the pictures are not those that the published ones were measured on."""
    known = published_values(name).pictures
    for method, result in methods.items():
        found = {"pairs": result["count"], **result["sources"]}
        if any(abs(found[key] - value) > ENTROPY_TOLERANCE for key, value in known.items()):
            yield (
                f"{method}: these are not the pictures that the published methods were measured on ({_pictures(known)}; here "
                f"{_pictures(found)}), so the ranks among them mean nothing"
            )


def _pictures(found: Mapping[str, float]) -> str:
    return f"{found['pairs']:g} pairs of entropy {found['visible']:.2f} visible, {found['thermal']:.2f} thermal"


def _warp(before: Sample, sample: Sample) -> float:
    return warp_error(
        previous_fused=before.fused, fused=sample.fused, previous_visible=before.visible, visible=sample.visible
    )


def summary(rows: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float | None]]:
    """Give ``mean`` and ``standard_error`` of every metric, over the rows in which it has a value; None where it has none."""
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    known = {name: column[~np.isnan(column)] for name, column in columns.items()}
    with np.errstate(invalid="ignore"):  # PSNR may be infinite
        mean = {name: float(column.mean()) if len(column) else math.nan for name, column in known.items()}
        error = {
            name: float(column.std(ddof=1) / math.sqrt(len(column))) if len(column) > 1 else math.nan
            for name, column in known.items()
        }
    return {"mean": _finite(mean), "standard_error": _finite(error)}


def _published(name: str) -> dict[str, dict[str, float | None]]:
    if name not in PUBLISHED:
        raise ConfigError(f"there are no published values for {name!r}; there are some for {', '.join(PUBLISHED)}")
    found = published_values(name)
    return {method: dict(zip(found.metrics, values, strict=True)) for method, values in found.rows.items()}


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _with_error(method: Mapping[str, Any], metric: str) -> str:
    return f"{_number(method['mean'][metric])} ± {_number(method['standard_error'][metric])}"


def _number(value: float | None, *, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
