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
import itertools
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks.fusers import short
from benchmarks.suite import DATA, Measured, Result, Row, Suite, chosen, columns_table, grouped
from rtfusion.errors import ConfigError
from rtfusion.evaluate import metrics
from rtfusion.evaluate.clips import clip_pairs
from rtfusion.evaluate.methods import Method, select
from rtfusion.fusion import LuminanceFuser
from rtfusion.types import Image8

BANDS = ("visible", "thermal")
CLIPS = ("m3svd_0111_1716", "m3svd_0113_1714", "m3svd_0117_1605")
NOISE_FRAMES = 12
FRAME_NS = 33_333_333
COLUMNS = (
    ("method", "{case}"),
    ("warp", "{warp:.4f}"),
    ("x visible", "{times:.2f}"),
    *((name, f"{{{name}:.2f}}") for name in ("motion", "jitter", "noise", "leak", "halo", "contrast")),
)

Flow = npt.NDArray[np.float32]
Shown = Mapping[str, Image8]
"""The picture of every case at one moment, (H, W) each."""


class BandItself:
    """A band as it is, in the place of a fuser."""

    def __init__(self, band: str) -> None:
        self._band = band

    def __call__(self, *, visible_y: Image8, thermal: Image8, timestamp_ns: int) -> Image8:
        """The picture of the band."""
        return visible_y if self._band == "visible" else thermal

    def close(self) -> None:
        """Nothing is open."""


Cases = Mapping[str, Callable[[], LuminanceFuser]]
"""Case to what opens it anew: a method has a memory, and some figures are of one that has just started."""


def measure(options: argparse.Namespace) -> Measured:
    """A row for every clip, band and method."""
    rows = [
        row
        for clip in options.clip
        for row in measure_clip(options.data / "video" / clip, frames=options.frames, methods=select())
    ]
    return {"clips": options.clip, **chosen(options, "frames"), "noise_sigma": metrics.NOISE_SIGMA}, rows


def measure_clip(clip: Path, *, frames: int, methods: Sequence[Method]) -> list[Row]:
    """A row for both bands and for every method.

    Raises:
        ConfigError: the clip cannot be read, has fewer than two frames, or its bands differ in size.
    """
    cases: dict[str, Callable[[], LuminanceFuser]] = {band: partial(BandItself, band) for band in BANDS}
    cases |= {method.name: partial(method.open_luminance, still=False) for method in methods}
    moving, last = _moving(clip, frames=frames, cases=cases)
    bands = {band: last[band] for band in BANDS}
    rows: list[Row] = [
        {"case": case, "clip": clip.name, "frames": frames, **moving[case], **_frozen(start, **bands)}
        for case, start in cases.items()
    ]
    reference = rows[0]["noise"]
    for row in rows:
        row["noise"] = row["noise"] / reference if reference else None
    return rows


# -- what moves ---------------------------------------------------------------------------------------------------------


def _moving(clip: Path, *, frames: int, cases: Cases) -> tuple[dict[str, dict[str, float | None]], Shown]:
    """Average by case what shows from frame to frame; gives the pictures of the last frame too."""
    steps: dict[str, list[dict[str, float]]] = {case: [] for case in cases}
    last: Shown = {}
    for before, shown in itertools.pairwise(_shown(clip, frames=frames, cases=cases)):
        flows = {case: _flow(before[case], shown[case]) for case in cases}
        for case in cases:
            fused, bands = shown[case], {band: shown[band] for band in BANDS}
            apart_px = [np.linalg.norm(flows[case] - flows[band], axis=2).mean() for band in BANDS]
            warp = metrics.warp_error(
                previous_fused=before[case], fused=fused, previous_visible=before["visible"], visible=bands["visible"]
            )
            steps[case].append(
                {
                    "warp": warp,
                    "motion": float(np.mean(apart_px)),
                    "jitter": abs(float(fused.mean()) - float(before[case].mean())),
                    "halo": metrics.halo(fused=fused, **bands),
                    "contrast": metrics.standard_deviation(fused=fused),
                }
            )
        last = shown
    if not last:
        raise ConfigError(f"{clip} has fewer than two frames; stability needs some that follow one another")
    # a cut has no flow, a black frame no contrast
    return {
        case: {name: metrics.finite_mean(step[name] for step in some) for name in some[0]}
        for case, some in steps.items()
    }, last


def _shown(clip: Path, *, frames: int, cases: Cases) -> Iterator[Shown]:
    with ExitStack() as stack:
        fuses = {case: stack.enter_context(closing(start())) for case, start in cases.items()}
        for pair in clip_pairs(ir=clip / "ir.mp4", vis=clip / "vi.mp4", max_pairs=frames):
            # copies: a method may hand out the same buffer again
            yield {
                case: fuse(visible_y=pair.visible_y, thermal=pair.thermal, timestamp_ns=pair.timestamp_ns).copy()
                for case, fuse in fuses.items()
            }


def _flow(previous: Image8, current: Image8) -> Flow:
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    return dis.calc(previous, current, np.zeros((1, 1, 2), np.float32)).astype(np.float32, copy=False)


# -- what stands still --------------------------------------------------------------------------------------------------


def _frozen(start: Callable[[], LuminanceFuser], *, visible: Image8, thermal: Image8) -> dict[str, float]:
    """Noise over contrast of a still scene, and the leak; each of a method that has just started."""
    noisy = partial(metrics.with_noise, rng=np.random.default_rng(0))
    with closing(start()) as fuse:
        pictures = [
            fuse(visible_y=noisy(visible), thermal=noisy(thermal), timestamp_ns=index * FRAME_NS).copy()
            for index in range(NOISE_FRAMES)
        ]
    contrast = metrics.standard_deviation(fused=pictures[-1])
    stamps_ns = itertools.count(0, FRAME_NS)
    with closing(start()) as fuse:

        def again(*, visible: Image8, thermal: Image8) -> Image8:
            return fuse(visible_y=visible, thermal=thermal, timestamp_ns=next(stamps_ns)).copy()

        leaked = metrics.leak(fuse=again, visible=visible, thermal=thermal)
    return {"noise": metrics.still_scene_noise(pictures) / contrast if contrast else math.inf, "leak": leaked}


def table(data: Result) -> str:
    """One Markdown table for each clip; warp also as a multiple of the visible stream's."""
    parts = []
    for clip, rows in grouped(data["rows"], "clip").items():
        warp = rows[0]["warp"]
        shown = [{**row, "times": row["warp"] / warp if row["warp"] is not None and warp else None} for row in rows]
        parts += [
            f"{clip}, {rows[0]['frames']} frames",
            columns_table(COLUMNS, ({**row, "case": short(row["case"])} for row in shown)),
        ]
    return "\n\n".join(parts)


SUITE = Suite(
    name="stability",
    help=__doc__,
    options={
        "--data": {**DATA, "help": "folder of the clips: video/NAME"},
        "--clip": {"nargs": "+", "default": list(CLIPS), "metavar": "NAME"},
        "--frames": {"type": int, "default": 90, "metavar": "N", "help": "of every clip, from its beginning"},
    },
    measure=measure,
    table=table,
)

if __name__ == "__main__":
    sys.exit(SUITE.main())
