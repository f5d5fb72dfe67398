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
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks.stability import clip_frames
from rtfusion.errors import ConfigError, FusionError
from rtfusion.evaluate import timing
from rtfusion.evaluate.conditions import Conditions
from rtfusion.evaluate.images import read_gray
from rtfusion.evaluate.methods import select
from rtfusion.evaluate.metrics import halo, still_scene_noise
from rtfusion.fusion import Luminance
from rtfusion.types import Image8

CLIP = "m3svd_0117_1605"
CLIP_FRAMES = (60, 180, 300)
NIGHTS = 4
"""Of the MSRS pairs whose names end in N, evenly."""
WINDOW_PX = 16
BLIND_SD = 4.0
"""Visible gray levels: less structure than this in a window, and the camera is blind there ..."""
SEEN_RATIO = 2.0
SEEN_SD = 1.5
"""... and the thermal one is not where it has more than this, and SEEN_RATIO times the visible one's."""
NOISE_SIGMA = 2.0
NOISE_FRAMES = 6
LDLITE = "LD-Lite"
REPEATS = 2
"""Of a picture, to let what a method remembers settle."""

Fuse = Callable[[Image8, Image8], Image8]
Pair = tuple[Image8, Image8]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and write the result file where one is asked for; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.enhanced", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="holds video/ and eval/msrs")
    parser.add_argument("--ldlite", type=Path, required=True, metavar="FILE", help="published weights of LD-Lite")
    parser.add_argument("--json", type=Path, metavar="FILE", help="result file to write")
    options = parser.parse_args(arguments)
    conditions = Conditions()
    try:
        scenes = {"smoke": smoke(options.data), "msrs_night": nights(options.data)}
        with ExitStack() as stack:
            fuses = _methods(options.ldlite, stack)
            rows = [row for scene, pairs in scenes.items() for row in measure(scene, pairs, fuses)]
    except FusionError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    settings = {"clip": CLIP, "frames": list(CLIP_FRAMES), "nights": NIGHTS, "noise_sigma": NOISE_SIGMA, "enhance": 1.0}
    data = timing.result("enhanced", settings=settings, rows=rows, conditions=conditions)
    print(table(data))
    if options.json is not None:
        timing.save(data, options.json)
    return 0


def smoke(data: Path) -> list[Pair]:
    """Frames of the clip in which the visible camera looks into smoke.

    Raises:
        ConfigError: there is no such clip.
    """
    frames = clip_frames(data / "video" / CLIP, count=max(CLIP_FRAMES) + 1)
    return [(visible, thermal) for index, (visible, thermal, _) in enumerate(frames) if index in CLIP_FRAMES]


def nights(data: Path) -> list[Pair]:
    """Night pairs of MSRS.

    Raises:
        ConfigError: there are too few.
    """
    folder = data / "eval" / "msrs"
    found = sorted(folder.glob("vi/*N.*"))
    if len(found) < NIGHTS:
        raise ConfigError(f"{folder / 'vi'} has {len(found)} night pictures (*N.*); expected {NIGHTS} or more")
    chosen = found[:: len(found) // NIGHTS][:NIGHTS]
    return [
        (read_gray(path), read_gray(next((folder / "ir").glob(f"{path.stem}.*"), folder / "ir"))) for path in chosen
    ]


def measure(scene: str, pairs: Sequence[Pair], fuses: Mapping[str, Fuse]) -> list[dict[str, Any]]:
    """A row for every method; `LDLITE` is among them."""
    figures: dict[str, list[dict[str, float]]] = {
        case: [_figures(fuse, visible=visible, thermal=thermal) for visible, thermal in pairs]
        for case, fuse in fuses.items()
    }
    rows = []
    for case, values in figures.items():
        row: dict[str, Any] = {"case": case, "scene": scene, "pictures": len(pairs)}
        row |= {name: _mean(value[name] for value in values) for name in ("contrast", "noise", "grid_db", "halo")}
        row["halo_max"] = max((value["halo"] for value in values if math.isfinite(value["halo"])), default=None)
        for name in ("contrast", "noise"):
            ratios = (ours[name] / theirs[name] for ours, theirs in zip(values, figures[LDLITE], strict=True))
            row[f"{name}_ratio"] = _mean(ratios)
        rows.append(row)
    return rows


def table(data: Mapping[str, Any]) -> str:
    """Markdown, a row for every scene and method."""
    lines = [
        "| scene | method | contrast | of LD-Lite's | noise | of LD-Lite's | grid dB | halo | largest halo |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    names = ("contrast", "contrast_ratio", "noise", "noise_ratio", "grid_db", "halo", "halo_max")
    for row in data["rows"]:
        cells = ["-" if row[name] is None else f"{row[name]:.2f}" for name in names]
        lines.append(f"| {row['scene']} | {row['case']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def blind_contrast(*, fused: Image8, visible: Image8, thermal: Image8) -> float:
    """Mean local deviation of the fused picture where only the thermal band sees; nan where that is nowhere."""
    seen_v, seen_t = _deviation(visible), _deviation(thermal)
    blind = (seen_v < BLIND_SD) & (seen_t > SEEN_RATIO * seen_v) & (seen_t > SEEN_SD)
    return float(_deviation(fused)[blind].mean()) if blind.any() else math.nan


def _figures(fuse: Fuse, *, visible: Image8, thermal: Image8) -> dict[str, float]:
    from rtfusion_trainer.teachers.shift import grid_peak_db

    for _ in range(REPEATS):
        fused = fuse(visible, thermal).copy()
    random = np.random.default_rng(0)
    still = [fuse(*(_noisy(random, band) for band in (visible, thermal))).copy() for _ in range(NOISE_FRAMES)]
    return {
        "contrast": blind_contrast(fused=fused, visible=visible, thermal=thermal),
        "noise": still_scene_noise(still),
        "grid_db": grid_peak_db(fused.astype(np.float32) / np.float32(255)),
        "halo": halo(fused=fused, visible=visible, thermal=thermal),
    }


def _methods(ldlite: Path, stack: ExitStack) -> dict[str, Fuse]:
    from rtfusion_trainer.teachers.ldlite import ldlite_teacher

    teacher = ldlite_teacher(ldlite)

    def enhanced(visible: Image8, thermal: Image8) -> Image8:
        fused = teacher(visible=visible, thermal=thermal)
        return np.rint(fused * 255).clip(0, 255).astype(np.uint8)

    fuses: dict[str, Fuse] = {LDLITE: enhanced}
    for method in select(fusers=("pyramid",), enhance=(1.0,)):
        fuser = method.open_luminance(still=True)
        stack.callback(fuser.close)
        fuses[method.name] = partial(_fuse, fuser)
    return fuses


def _fuse(fuser: Luminance, visible: Image8, thermal: Image8) -> Image8:
    return fuser(visible_y=visible, thermal=thermal, timestamp_ns=0)


def _noisy(random: np.random.Generator, image: Image8) -> Image8:
    return np.rint(image + random.normal(0, NOISE_SIGMA, image.shape)).clip(0, 255).astype(np.uint8)


def _deviation(image: Image8) -> npt.NDArray[np.float32]:
    values, window = image.astype(np.float32), (WINDOW_PX, WINDOW_PX)
    mean = cv2.blur(values, window)
    return np.sqrt(np.maximum(cv2.blur(values * values, window) - mean * mean, 0))


def _mean(values: Iterable[float]) -> float | None:
    finite = [value for value in values if math.isfinite(value)]
    return float(np.mean(finite)) if finite else None


if __name__ == "__main__":
    sys.exit(main())
