"""Do fused videos hold still? Flicker, noise, leak and motion of every method, against both input streams.

::

    python -m benchmarks.stability --data DIR [--clip NAME ...] [--frames N] [--json FILE]

``DIR`` holds the clips (``video/NAME/vi.mp4``, ``ir.mp4``, registered). For every clip and method:

- warp: what changes beyond motion, over the contrast (`rtfusion.evaluate.metrics.warp_error`), without which averaging would win
- motion: mean difference in pixels between the optical flow of the fused frames and that of each band, averaged over both:
  what moves must go on moving as it did
- jitter: mean step of the mean gray level from frame to frame
- noise: a frozen frame with fresh sensor noise of 2 gray levels in both bands; temporal noise of the result over its contrast,
  as a multiple of the same ratio of the visible stream
- leak: how far one hot object re-tones the rest of the picture, gray levels (`rtfusion.evaluate.metrics.leak`)
- halo: a dark seam around hot targets that neither band has, gray levels (`rtfusion.evaluate.metrics.halo`)

In all of them less is better, and the rows ``visible`` and ``thermal`` are the streams themselves.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from rtfusion.capture import open_pair
from rtfusion.errors import ConfigError, EndOfStream, FusionError
from rtfusion.evaluate import timing
from rtfusion.evaluate.conditions import Conditions
from rtfusion.evaluate.methods import Method, select
from rtfusion.evaluate.metrics import halo, leak, standard_deviation, still_scene_noise, warp_error
from rtfusion.fusion.color import luminance
from rtfusion.types import Image8

CLIPS = ("m3svd_0111_1716", "m3svd_0113_1714", "m3svd_0117_1605")
FIGURES = ("warp", "motion", "jitter", "noise", "leak", "halo", "contrast")
NOISE_SIGMA = 2.0
NOISE_FRAMES = 12
FRAME_NS = 33_333_333
READ_TIMEOUT_S = 10.0

Fuse = Callable[[Image8, Image8, int], Image8]
"""Visible, thermal and timestamp to the fused (H, W)."""
Flow = npt.NDArray[np.float32]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables, and write the result file where one is asked for; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stability", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of the clips: video/NAME")
    parser.add_argument("--clip", nargs="+", default=list(CLIPS), metavar="NAME")
    parser.add_argument("--frames", type=int, default=90, metavar="N", help="of every clip, from its beginning")
    parser.add_argument("--json", type=Path, metavar="FILE", help="result file to write")
    options = parser.parse_args(arguments)
    conditions = Conditions()
    try:
        rows = [
            row
            for clip in options.clip
            for row in measure(options.data / "video" / clip, frames=options.frames, methods=select())
        ]
    except FusionError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    settings = {"clips": options.clip, "frames": options.frames, "noise_sigma": NOISE_SIGMA}
    data = timing.result("stability", settings=settings, rows=rows, conditions=conditions)
    print(table(data))
    if options.json is not None:
        timing.save(data, options.json)
    return 0


def measure(clip: Path, *, frames: int, methods: Sequence[Method]) -> list[dict[str, Any]]:
    """A row for both bands and for every method.

    Raises:
        ConfigError: the clip cannot be read, has fewer than two frames, or its bands differ in size.
    """
    with ExitStack() as stack:
        fuses: dict[str, Fuse] = {"visible": lambda v, t, at: v, "thermal": lambda v, t, at: t}
        for method in methods:
            fuses[method.name] = _opened(method, stack, still=False)
        moving, last = _moving(clip, frames=frames, fuses=fuses)
    visible, thermal = last
    rows: list[dict[str, Any]] = []
    for case, figures in moving.items():
        chosen = next((method for method in methods if method.name == case), None)
        frozen = _frozen(case, chosen, visible=visible, thermal=thermal)
        rows.append({"case": case, "clip": clip.name, "frames": frames, **figures, **frozen})
    reference = rows[0]["noise"]
    for row in rows:
        row["noise"] = row["noise"] / reference if reference else None
    return rows


def _moving(
    clip: Path, *, frames: int, fuses: Mapping[str, Fuse]
) -> tuple[dict[str, dict[str, float | None]], tuple[Image8, Image8]]:
    """What shows from frame to frame, averaged, by case; and the last frame of both bands."""
    values: dict[str, list[tuple[float, ...]]] = {case: [] for case in fuses}
    before: dict[str, Image8] = {}
    bands = ("visible", "thermal")
    pair: tuple[Image8, Image8] | None = None
    for visible, thermal, timestamp_ns in clip_frames(clip, count=frames):
        # Copies: a method may hand out the same buffer again.
        fused = {case: fuse(visible, thermal, timestamp_ns).copy() for case, fuse in fuses.items()}
        if before:
            flows = {case: _flow(before[case], fused[case]) for case in fused}
            for case, picture in fused.items():
                warp = warp_error(
                    previous_fused=before[case],
                    fused=picture,
                    previous_visible=before["visible"],
                    visible=fused["visible"],
                )
                motion = np.mean([_apart(flows[case], flows[band]) for band in bands])
                jitter = abs(float(picture.mean()) - float(before[case].mean()))
                seam = halo(fused=picture, visible=visible, thermal=thermal)
                values[case].append((warp, float(motion), jitter, seam, standard_deviation(fused=picture)))
        before, pair = fused, (visible, thermal)
    if pair is None or not values["visible"]:
        raise ConfigError(f"{clip} has fewer than two frames; stability needs some that follow one another")
    names = ("warp", "motion", "jitter", "halo", "contrast")
    return {case: dict(zip(names, _means(rows), strict=True)) for case, rows in values.items()}, pair


def _means(rows: Sequence[tuple[float, ...]]) -> list[float | None]:
    """Of every column, over the finite values: a cut has no flow, a black frame no contrast."""
    columns = [[value for value in column if math.isfinite(value)] for column in zip(*rows, strict=True)]
    return [float(np.mean(column)) if column else None for column in columns]


def _frozen(case: str, method: Method | None, *, visible: Image8, thermal: Image8) -> dict[str, float]:
    """Noise over contrast of a still scene, and the leak."""
    with ExitStack() as stack:
        fuse: Fuse = (
            _opened(method, stack, still=False)
            if method is not None
            else (lambda v, t, at: v if case == "visible" else t)
        )
        pictures = [
            fuse(v, t, index * FRAME_NS).copy() for index, (v, t) in enumerate(_noisy(visible=visible, thermal=thermal))
        ]
    contrast = standard_deviation(fused=pictures[-1])
    noise = still_scene_noise(pictures) / contrast if contrast else math.inf
    return {"noise": noise, "leak": _leak(case, method, visible=visible, thermal=thermal)}


def _leak(case: str, method: Method | None, *, visible: Image8, thermal: Image8) -> float:
    """A video whose second frame holds the hot object, for a method that has just started."""
    if method is None:
        return 0.0
    with ExitStack() as stack:
        fuse = _opened(method, stack, still=False)
        stamps = iter(range(0, 10 * FRAME_NS, FRAME_NS))
        return leak(
            fuse=lambda *, visible, thermal: fuse(visible, thermal, next(stamps)).copy(),
            visible=visible,
            thermal=thermal,
        )


def _noisy(*, visible: Image8, thermal: Image8) -> Iterator[tuple[Image8, Image8]]:
    rng = np.random.default_rng(0)
    for _ in range(NOISE_FRAMES):
        v, t = (
            np.clip(np.rint(image + rng.normal(0, NOISE_SIGMA, image.shape)), 0, 255).astype(np.uint8)
            for image in (visible, thermal)
        )
        yield v, t


def _opened(method: Method, stack: ExitStack, *, still: bool) -> Fuse:
    fuser = method.open_luminance(still=still)
    stack.callback(fuser.close)
    return lambda visible, thermal, at: fuser(visible_y=visible, thermal=thermal, timestamp_ns=at)


def _flow(previous: Image8, current: Image8) -> Flow:
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    flow: Flow = dis.calc(previous, current, np.zeros((1, 1, 2), np.float32)).astype(np.float32, copy=False)
    return flow


def _apart(flow: Flow, other: Flow) -> float:
    """Mean length of the difference, in pixels."""
    difference = flow - other
    return float(np.hypot(difference[..., 0], difference[..., 1]).mean())


def clip_frames(clip: Path, *, count: int) -> Iterator[tuple[Image8, Image8, int]]:
    """Luminance of both bands and the visible stamp, of the first ``count`` frames."""
    visible, thermal = open_pair(visible=str(clip / "vi.mp4"), thermal=str(clip / "ir.mp4"))
    try:
        for _ in range(count):
            v, t = (source.read(timeout_s=READ_TIMEOUT_S) for source in (visible, thermal))
            if v.size_px != t.size_px:
                raise ConfigError(f"{clip}: visible is {v.size_px}, thermal {t.size_px}; register the clip first")
            yield luminance(v.image.astype(np.uint8, copy=False)), t.image.astype(np.uint8, copy=False), v.timestamp_ns
    except EndOfStream:
        return
    finally:
        visible.close()
        thermal.close()


def table(data: Mapping[str, Any]) -> str:
    """One Markdown table for each clip; warp also as a multiple of the visible stream's."""
    parts = []
    for clip in dict.fromkeys(row["clip"] for row in data["rows"]):
        rows = [row for row in data["rows"] if row["clip"] == clip]
        head = ["method", "warp", "x visible", *FIGURES[1:]]
        parts += [f"{clip}, {rows[0]['frames']} frames", "", f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
        for row in rows:
            times = row["warp"] / rows[0]["warp"] if row["warp"] is not None and rows[0]["warp"] else None
            cells = [_number(row["warp"], 4), _number(times, 2), *(_number(row[name], 2) for name in FIGURES[1:])]
            parts.append(f"| {row['case']} | {' | '.join(cells)} |")
        parts.append("")
    return "\n".join(parts).rstrip()


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


if __name__ == "__main__":
    sys.exit(main())
