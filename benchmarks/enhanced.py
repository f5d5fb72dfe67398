"""The language-driven look against the network that it comes from: what the dial at 1 shows, and what it costs.

::

    python -m benchmarks.enhanced --data DIR --ldlite FILE [--json FILE]

``DIR`` holds the smoke clip (``video/m3svd_0117_1605``) and the MSRS pairs (``eval/msrs``), ``FILE`` the published weights of
LD-Lite, which runs in PyTorch. Every picture is fused with the dial at 1 by each shipped model, by the pyramid, and by LD-Lite:

- contrast: mean local standard deviation where the visible camera is blind and the thermal one is not, gray levels
- noise: what is left in gray levels of fresh noise of 2 gray levels on both bands of a picture that stands still
- grid: how far a grid of 8 px stands out of the spectrum, dB (`rtfusion_trainer.teachers.shift.grid_peak_db`)
- halo: `rtfusion.evaluate.metrics.halo`, the mean and the largest

Contrast and noise are also given as ratios to LD-Lite's, picture by picture, and then averaged.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.fusers import read_gray, short
from benchmarks.suite import DATA, Measured, Result, Row, Suite, columns_table
from rtfusion.errors import ConfigError
from rtfusion.evaluate.blind import deviation
from rtfusion.evaluate.clips import clip_pairs
from rtfusion.evaluate.methods import select
from rtfusion.evaluate.metrics import NOISE_SIGMA, finite, finite_mean, halo, still_scene_noise, with_noise
from rtfusion.types import Image8

CLIP = "m3svd_0117_1605"
CLIP_FRAMES = (60, 180, 300)
NIGHTS = 4
"""Evenly chosen of the MSRS pairs whose names end in N."""
WINDOW_PX = 16
BLIND_SD = 4.0
"""Visible gray levels: less structure than this in a window, and the camera is blind there ..."""
SEEN_RATIO = 2.0
SEEN_SD = 1.5
"""... and the thermal one is not where it has more than this, and SEEN_RATIO times the visible one's."""
NOISE_FRAMES = 6
LDLITE = "LD-Lite"
REPEATS = 2
"""So often a picture is shown first, to let what a method remembers settle."""
COLUMNS = (
    ("scene", "{scene}"),
    ("method", "{case}"),
    ("contrast", "{contrast:.2f}"),
    ("ratio", "{contrast_ratio:.2f}"),
    ("noise", "{noise:.2f}"),
    ("ratio", "{noise_ratio:.2f}"),
    ("grid", "{grid_db:.2f}"),
    ("halo", "{halo:.2f}"),
    ("most", "{halo_max:.2f}"),
)

Fuse = Callable[..., Image8]
"""Called with ``visible_y`` and ``thermal``, (H, W) both."""
Pair = Mapping[str, Image8]
"""Luminance of both bands, by the same names."""


def measure(options: argparse.Namespace) -> Measured:
    """A row for every scene and method."""
    scenes = {"smoke": smoke(options.data), "msrs_night": nights(options.data)}
    with ExitStack() as stack:
        fuses = _methods(options.ldlite, stack)
        rows = [row for scene, pairs in scenes.items() for row in measure_scene(scene, pairs, fuses)]
    settings = {"clip": CLIP, "frames": list(CLIP_FRAMES), "nights": NIGHTS, "noise_sigma": NOISE_SIGMA, "enhance": 1.0}
    return settings, rows


def smoke(data: Path) -> list[Pair]:
    """Frames of the clip in which the visible camera looks into smoke.

    Raises:
        ConfigError: there is no such clip.
    """
    clip = data / "video" / CLIP
    pairs = enumerate(clip_pairs(ir=clip / "ir.mp4", vis=clip / "vi.mp4", max_pairs=max(CLIP_FRAMES) + 1))
    return [{"visible_y": pair.visible_y, "thermal": pair.thermal} for index, pair in pairs if index in CLIP_FRAMES]


def nights(data: Path) -> list[Pair]:
    """Night pairs of MSRS.

    Raises:
        ConfigError: there are too few.
    """
    folder = data / "eval" / "msrs"
    found = sorted(folder.glob("vi/*N.*"))
    if len(found) < NIGHTS:
        raise ConfigError(f"{folder / 'vi'} has {len(found)} night pictures (*N.*); expected {NIGHTS} or more")
    return [
        {
            "visible_y": read_gray(path),
            "thermal": read_gray(next((folder / "ir").glob(f"{path.stem}.*"), folder / "ir")),
        }
        for path in found[:: len(found) // NIGHTS][:NIGHTS]
    ]


def measure_scene(scene: str, pairs: Sequence[Pair], fuses: Mapping[str, Fuse]) -> list[Row]:
    """A row for every method; `LDLITE` is among them."""
    figures = {case: [_figures(fuse, pair) for pair in pairs] for case, fuse in fuses.items()}
    rows = []
    for case, values in figures.items():
        row: Row = {"case": case, "scene": scene, "pictures": len(pairs)}
        row |= {name: finite_mean(value[name] for value in values) for name in ("contrast", "noise", "grid_db", "halo")}
        row["halo_max"] = max(finite(value["halo"] for value in values), default=None)
        for name in ("contrast", "noise"):
            ratios = (ours[name] / theirs[name] for ours, theirs in zip(values, figures[LDLITE], strict=True))
            row[f"{name}_ratio"] = finite_mean(ratios)
        rows.append(row)
    return rows


def blind_contrast(*, fused: Image8, visible: Image8, thermal: Image8) -> float:
    """Mean local deviation of the fused picture where only the thermal band sees; nan where that is nowhere."""
    seen_v, seen_t, shown = (deviation(image, window_px=WINDOW_PX) for image in (visible, thermal, fused))
    blind = (seen_v < BLIND_SD) & (seen_t > SEEN_RATIO * seen_v) & (seen_t > SEEN_SD)
    return float(shown[blind].mean()) if blind.any() else math.nan


def _figures(fuse: Fuse, pair: Pair) -> dict[str, float]:
    from rtfusion_trainer.teachers.shift import grid_peak_db

    for _ in range(REPEATS):
        fused = fuse(**pair).copy()
    noisy = partial(with_noise, rng=np.random.default_rng(0))
    still = [fuse(**{name: noisy(image) for name, image in pair.items()}).copy() for _ in range(NOISE_FRAMES)]
    return {
        "contrast": blind_contrast(fused=fused, visible=pair["visible_y"], thermal=pair["thermal"]),
        "noise": still_scene_noise(still),
        "grid_db": grid_peak_db(fused.astype(np.float32) / np.float32(255)),
        "halo": halo(fused=fused, visible=pair["visible_y"], thermal=pair["thermal"]),
    }


def _methods(ldlite: Path, stack: ExitStack) -> dict[str, Fuse]:
    from rtfusion_trainer.teachers.ldlite import ldlite_teacher

    teacher = ldlite_teacher(ldlite)

    def enhanced(*, visible_y: Image8, thermal: Image8) -> Image8:
        fused = teacher(visible=visible_y, thermal=thermal)
        return np.rint(fused * 255).clip(0, 255).astype(np.uint8)

    fuses: dict[str, Fuse] = {LDLITE: enhanced}
    for method in select(fusers=("pyramid",), enhance=(1.0,)):
        fuses[method.name] = partial(stack.enter_context(closing(method.open_luminance(still=True))), timestamp_ns=0)
    return fuses


def table(data: Result) -> str:
    """Markdown, a row for every scene and method."""
    return columns_table(COLUMNS, ({**row, "case": short(row["case"])} for row in data["rows"]))


SUITE = Suite(
    name="enhanced",
    help=__doc__,
    options={
        "--data": {**DATA, "help": "holds video/ and eval/msrs"},
        "--ldlite": {"type": Path, "required": True, "metavar": "FILE", "help": "published weights of LD-Lite"},
    },
    measure=measure,
    table=table,
)

if __name__ == "__main__":
    sys.exit(SUITE.main())
