"""Bands that are dressed up or dead: blocks of strong compression, a blank thermal or visible band.

Beside a blank band the other one is shown as it is, with the blocks of its own compression.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np

import rtfusion
from benchmarks.robust.pairs import Mask, Pair, pairs
from rtfusion.fusion.color import luminance
from rtfusion.types import Image8

JPEG_QUALITY = 15
BLOCK_PX = 8
FLAT_LEVELS, FLAT_PX = 4.0, 17
STEP_BAR_LEVELS = 1.4


def measure(*, shared: Path, work: Path, model: str) -> list[dict[str, Any]]:
    """Steps between blocks on flat ground, and what a blank band does to the other one."""
    found = list(pairs(shared, "msrs", "roadscene", "vifb", every=5))
    return [*_blocks(found, model=model), *_blank(found, model=model)]


def _blocks(found: list[Pair], *, model: str) -> list[dict[str, Any]]:
    shown, mean, bands = [], [], []
    for pair in found:
        flat = _is_flat(luminance(pair.visible)) & _is_flat(pair.thermal)
        if flat.mean() < 0.02:
            continue
        visible, thermal = (_compressed(image) for image in pair[1:])
        shown.append(_step(luminance(rtfusion.fuse(visible=visible, thermal=thermal, model=model)), flat=flat))
        mean.append(_step(luminance(rtfusion.fuse(visible=visible, thermal=thermal, fuser="average")), flat=flat))
        bands.append(max(_step(luminance(visible), flat=flat), _step(thermal, flat=flat)))
    return [
        {
            "case": f"JPEG quality {JPEG_QUALITY}, {len(shown)} pairs",
            "figure": f"step over block borders on flat ground, gray levels (worse input {np.mean(bands):.1f})",
            "value": float(np.mean(shown)),
            "mean": float(np.mean(mean)),
            "bar": STEP_BAR_LEVELS,
            "better": "lower",
        }
    ]


def _blank(found: list[Pair], *, model: str) -> list[dict[str, Any]]:
    worst = dict.fromkeys(("dead flat thermal", "wholly white visible", "wholly black visible"), 0.0)
    for pair in found:
        white = np.full_like(pair.visible, 255)
        for case, visible, thermal, alone in (
            ("dead flat thermal", pair.visible, np.full_like(pair.thermal, 128), luminance(pair.visible)),
            ("wholly white visible", white, pair.thermal, pair.thermal),
            ("wholly black visible", white * 0, pair.thermal, pair.thermal),
        ):
            fused_y = luminance(rtfusion.fuse(visible=visible, thermal=thermal, model=model))
            worst[case] = max(worst[case], float(np.abs(fused_y.astype(int) - alone).mean()))
    figure = {
        "figure": "mean change of the other band, worst, gray levels",
        "mean": None,
        "bar": 0.5,
        "better": "lower",
    }
    return [{"case": case, "value": value, **figure} for case, value in worst.items()]


def _compressed(image: Image8) -> Image8:
    coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    return cast(Image8, cv2.imdecode(coded, cv2.IMREAD_UNCHANGED))


def _is_flat(image: Image8) -> Mask:
    mean, squares = (cv2.blur(image.astype(np.float32) ** power, (FLAT_PX, FLAT_PX)) for power in (1, 2))
    return squares - mean**2 < FLAT_LEVELS**2


def _step(image: Image8, *, flat: Mask) -> float:
    """Mean step over the borders of blocks within an area, along both axes."""
    steps: list[float] = []
    for lines, area in ((image, flat), (image.T, flat.T)):
        across = np.abs(np.diff(lines.astype(np.float32), axis=1))
        borders = np.arange(across.shape[1]) % BLOCK_PX == BLOCK_PX - 1
        steps += across[:, borders][area[:, :-1][:, borders]].tolist()
    return float(np.mean(steps))
