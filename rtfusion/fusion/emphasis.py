"""Targets that stand out of the fused picture, or step back into it, and nothing around them that changes.

Inside a target the picture is ``F + g (F - S) + a ((T - U) - (F - S))``: what differs from the surroundings S is amplified by g,
and moved by a towards what the thermal band T makes differ from its own surroundings U. All but F and T is smooth, made at a
quarter of the resolution and 0 outside of the target, so there are no halos, and no edges that the picture has not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import cv2
import numpy as np

from rtfusion.focus.base import SCALE, Map, Maps, map_shape
from rtfusion.fusion.buffers import fresh
from rtfusion.fusion.color import Take
from rtfusion.types import Image8

GAIN = 0.45
"""What differs from the surroundings is amplified by so much, where a target stands out in full."""
THERMAL = 0.45
"""And moved by up to so much towards what differs in the thermal band."""
STEP_BACK = 0.6
"""Share of what differs that is taken away, where a target steps back in full."""
FAINT = 0.02
"""A target that is fainter than this is left alone."""
SURROUNDINGS_CELLS = 4
"""Side of the cells, in values of a map, in which surroundings are averaged."""
SURROUNDINGS_SIGMA = 2.0
"""Reach of the surroundings, in these cells."""
DARKEST, BRIGHTEST = 4.0, 250.0
"""A target is not amplified beyond these levels: there would be no detail left in it."""


def emphasized(
    *, fused_y: Image8, thermal: Image8, targets: Maps, strengths: Mapping[str, float], take: Take = fresh
) -> Image8:
    """The fused luminance in which each target stands out, or steps back, as its strength says.

    Args:
        fused_y: (H, W).
        thermal: (H, W), registered.
        targets: maps by the name of the target, (ceil(H / 4), ceil(W / 4)).
        strengths: -1 to 1 by the name of the target; none is 0.
        take: gives the array of the result.

    Returns:
        (H, W), ``fused_y`` itself where there is nothing to do.
    """
    out, back = _shares(targets, strengths=strengths, shape=map_shape(fused_y.shape))
    share = np.maximum(out, back)
    windows = _windows(share)
    if not windows:
        return fused_y
    planes = _planes(fused_y, thermal, out=out, back=back)
    result = take(fused_y.shape)
    np.copyto(result, fused_y)
    for window in windows:
        _apply(result, thermal, *(plane[window] for plane in planes), window=window)
    return result


def _shares(targets: Maps, *, strengths: Mapping[str, float], shape: tuple[int, int]) -> tuple[Map, Map]:
    """How far every cell stands out, and how far it steps back; of two targets the one that stands out counts."""
    out, back = (np.zeros(shape, np.float32) for _ in range(2))
    for name, one in targets.items():
        strength = np.float32(strengths.get(name, 0.0))
        if strength > 0:
            np.maximum(out, strength * one, out=out)
        elif strength < 0:
            np.maximum(back, -strength * one, out=back)
    return out, np.minimum(back, 1 - out)


def _windows(share: Map) -> list[tuple[slice, slice]]:
    """The rectangles of cells about all that is to be changed, each with a rim of a cell that is not."""
    mask = (share > FAINT).astype(np.uint8)
    count, _, stats, _ = cv2.connectedComponentsWithStats(cv2.dilate(mask, np.ones((3, 3), np.uint8)), connectivity=8)
    return [
        (slice(top, top + height), slice(left, left + width))
        for left, top, width, height in stats[1:count, :4].tolist()
    ]


def _planes(fused_y: Image8, thermal: Image8, *, out: Map, back: Map) -> tuple[Map, Map, Map]:
    """For every cell, what F is multiplied by beside 1, what T is multiplied by, and what is added."""
    fused, warm = (_quartered(image, out.shape) for image in (fused_y, thermal))
    around = 1 - np.minimum(out + back, 1)
    s, u = _surroundings(fused, around), _surroundings(warm, around)
    differs, warmer = fused - s, warm - u
    # towards the thermal band where it tells more, and the same
    alike = np.clip(0.5 + differs * warmer / 200, 0, 1)
    tells = np.abs(warmer) / (np.abs(warmer) + np.abs(differs) + 8)
    a = THERMAL * out * alike * tells
    g = np.minimum(GAIN, _room(fused, s)) * out - STEP_BACK * back
    shown = np.where(out + back > FAINT, np.float32(1), np.float32(0))
    return (g - a) * shown, a * shown, ((a - g) * s - a * u) * shown


def _room(fused: Map, s: Map) -> Map:
    """The gain by which the brightest and the darkest near every cell stay in the range of the picture."""
    rim = np.ones((3, 3), np.uint8)
    above = (BRIGHTEST - s) / np.maximum(cv2.dilate(fused, rim) - s, 1)
    below = (s - DARKEST) / np.maximum(s - cv2.erode(fused, rim), 1)
    return cast(Map, np.clip(np.minimum(above, below) - 1, 0, None))


def _surroundings(plane: Map, around: Map) -> Map:
    """The mean of what is around, weighted by nearness; of the whole picture where nothing is near."""
    height, width = plane.shape
    size = -(-width // SURROUNDINGS_CELLS), -(-height // SURROUNDINGS_CELLS)
    weighted, weights = (cv2.resize(one, size, interpolation=cv2.INTER_AREA) for one in (plane * around, around))
    everywhere = np.float32(1e-3)
    mean = float(weighted.sum()) / max(float(weights.sum()), 1e-6)
    weighted, weights = (
        cv2.GaussianBlur(one, (0, 0), SURROUNDINGS_SIGMA, borderType=cv2.BORDER_REPLICATE)
        for one in (weighted, weights)
    )
    smooth = (weighted + everywhere * np.float32(mean)) / (weights + everywhere)
    return cast(Map, cv2.resize(smooth, (width, height), interpolation=cv2.INTER_LINEAR))


def _quartered(image: Image8, shape: tuple[int, ...]) -> Map:
    return cv2.resize(image, shape[::-1], interpolation=cv2.INTER_AREA).astype(np.float32)


def _apply(result: Image8, thermal: Image8, times: Map, warm: Map, plus: Map, *, window: tuple[slice, slice]) -> None:
    """Change one window of the picture in place."""
    there = tuple(slice(side.start * SCALE, side.stop * SCALE) for side in window)
    part = result[there]
    cells_px = times.shape[1] * SCALE, times.shape[0] * SCALE
    whole = [cv2.resize(one, cells_px, interpolation=cv2.INTER_LINEAR) for one in (times, warm, plus)]
    times, warm, plus = (cast(Map, one)[: part.shape[0], : part.shape[1]] for one in whole)
    step = cast(Map, cv2.multiply(part, times, dtype=cv2.CV_32F))
    cv2.add(step, cv2.multiply(thermal[there], warm, dtype=cv2.CV_32F), step)
    cv2.add(step, plus, step)
    cv2.add(part, step, part, dtype=cv2.CV_8U)
