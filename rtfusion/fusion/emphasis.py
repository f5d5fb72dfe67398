"""Targets that stand out of the fused picture, or step back into it, and nothing around them that changes.

Inside a target the picture is ``F + g (F - S) + a ((T - U) - (F - S))``: what differs from the surroundings S is amplified by g,
and moved by a towards what the thermal band T makes differ from its own surroundings U. All but F and T is smooth, made at a
quarter of the resolution or coarser, and 0 outside of the target, so there are no halos, and no edges that the picture has not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import cv2
import numpy as np

from rtfusion.focus.base import PEOPLE, SCALE, VEHICLES, Map, Maps, map_shape
from rtfusion.fusion.buffers import fresh
from rtfusion.fusion.color import Take
from rtfusion.intents import Intents
from rtfusion.types import Image8

TARGETS = (PEOPLE, VEHICLES)
"""The targets that have an axis among the intents."""
GAIN, GAINS = 0.45, {VEHICLES: 0.6}
"""What differs from the surroundings is amplified by so much, where a target stands out in full; those of some are other ones,
since a vehicle has parts that are as bright as the road."""
THERMAL = 0.45
"""And moved by up to so much towards what differs in the thermal band."""
STEP_BACK = 0.6
"""Share of what differs that is taken away, where a target steps back in full."""
FAINT = 0.02
"""A target that is fainter than this is left alone."""
WINDOW_CELLS = 4
"""What is changed is looked for in squares of so many values of a map a side."""
SURROUNDINGS_CELLS = 2
"""Side of the cells in which surroundings are averaged, in those of an eighth of the resolution."""
OUTSIDE = 0.7
"""How much less a target itself counts for its surroundings than what is around it. A vehicle that fills a third of the picture
has little around it: held against that alone, it would be changed as a whole."""
SURROUNDINGS_SIGMA = 2.0
"""Reach of the surroundings, in these cells."""
DARKEST, BRIGHTEST = 4.0, 250.0
"""A target is not amplified beyond these levels: there would be no detail left in it."""
_NEAR = np.ones((3, 3), np.uint8)


def sought(intents: Intents) -> tuple[str, ...]:
    """The targets whose places have to be known."""
    return tuple(name for name in TARGETS if getattr(intents, name) or intents.background)


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
    targets = {name: one for name, one in targets.items() if strengths.get(name)}
    if not targets:
        return fused_y
    out, gain, back = _shares(targets, strengths=strengths, shape=map_shape(fused_y.shape))
    share = np.maximum(out, back)
    windows = _windows(share)
    if not windows:
        return fused_y
    # whatever the strength, the surroundings are the same, so that the picture follows it in a straight line
    there = np.maximum.reduce([*targets.values()])
    planes = _planes(fused_y, thermal, there=there, out=out, gain=gain, back=back)
    result = take(fused_y.shape)
    np.copyto(result, fused_y)
    for window in windows:
        _apply(result, fused_y, thermal, planes, window=window)
    return result


def _shares(targets: Maps, *, strengths: Mapping[str, float], shape: tuple[int, int]) -> tuple[Map, Map, Map]:
    """How far every cell stands out, by what gain, and how far it steps back; of two targets the one that stands out counts."""
    out, gain, back = (np.zeros(shape, np.float32) for _ in range(3))
    for name, one in targets.items():
        strength = np.float32(strengths[name])
        if strength > 0:
            share = strength * one
            np.maximum(out, share, out=out)
            np.maximum(gain, np.float32(GAINS.get(name, GAIN)) * share, out=gain)
        else:
            np.maximum(back, -strength * one, out=back)
    return out, gain, np.minimum(back, 1 - out)


def _windows(share: Map) -> list[tuple[slice, slice]]:
    """The rectangles of cells about all that is to be changed, each with a rim of a cell that is not; they may overlap."""
    height, width = share.shape
    size = -(-width // WINDOW_CELLS), -(-height // WINDOW_CELLS)
    mask = cv2.resize(share, size, interpolation=cv2.INTER_AREA) > FAINT / WINDOW_CELLS**2
    count, _, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    return [
        (_cells(top, tall, of=size[1], cells=height), _cells(left, wide, of=size[0], cells=width))
        for left, top, wide, tall in stats[1:count, :4].tolist()
    ]


def _cells(first: int, length: int, *, of: int, cells: int) -> slice:
    """So many of ``of`` parts of a side, and a rim, in cells."""
    return slice(max(first * cells // of - 1, 0), min(-(-(first + length) * cells // of) + 1, cells))


def _planes(fused_y: Image8, thermal: Image8, *, there: Map, out: Map, gain: Map, back: Map) -> tuple[Map, Map, Map]:
    """For every cell, what F is multiplied by beside 1, what T is multiplied by, and what is added."""
    size = -(-out.shape[1] // 2), -(-out.shape[0] // 2)
    # every other row is enough for what is smooth, at half the time
    rows = (image[::2] for image in (fused_y, thermal))
    fused, warm = (cast(Image8, cv2.resize(half, size, interpolation=cv2.INTER_AREA)) for half in rows)
    around = 1 - OUTSIDE * cast(Map, cv2.resize(there, size, interpolation=cv2.INTER_AREA))
    s, u = _surroundings(fused, around), _surroundings(warm, around)
    differs, warmer = fused - s, warm - u
    # towards the thermal band where it tells more, and the same
    alike = np.clip(0.5 + differs * warmer / 200, 0, 1)
    tells = np.abs(warmer) / (np.abs(warmer) + np.abs(differs) + 8)
    coarse = (s, u, THERMAL * alike * tells, _room(fused, s))
    s, u, a, room = (cast(Map, cv2.resize(one, out.shape[::-1], interpolation=cv2.INTER_LINEAR)) for one in coarse)
    a = a * out
    g = np.minimum(gain, room * out) - STEP_BACK * back - a
    return g, a, -g * s - a * u


def _room(fused: Image8, s: Map) -> Map:
    """The gain by which the brightest and the darkest near every cell stay in the range of the picture."""
    above = (BRIGHTEST - s) / np.maximum(cv2.dilate(fused, _NEAR) - s, 1)
    below = (s - DARKEST) / np.maximum(s - cv2.erode(fused, _NEAR), 1)
    return cast(Map, np.clip(np.minimum(above, below) - 1, 0, None))


def _surroundings(plane: Image8, around: Map) -> Map:
    """The mean of what is around, weighted by nearness; of the whole picture where nothing is near."""
    height, width = around.shape
    size = -(-width // SURROUNDINGS_CELLS), -(-height // SURROUNDINGS_CELLS)
    weighted, weights = (cv2.resize(one, size, interpolation=cv2.INTER_AREA) for one in (plane * around, around))
    everywhere = np.float32(1e-3)
    mean = cv2.mean(weighted)[0] / max(cv2.mean(weights)[0], 1e-6)
    weighted, weights = (
        cv2.GaussianBlur(one, (0, 0), SURROUNDINGS_SIGMA, borderType=cv2.BORDER_REPLICATE)
        for one in (weighted, weights)
    )
    smooth = (weighted + everywhere * np.float32(mean)) / (weights + everywhere)
    return cast(Map, cv2.resize(smooth, (width, height), interpolation=cv2.INTER_LINEAR))


def _apply(
    result: Image8, fused_y: Image8, thermal: Image8, planes: tuple[Map, Map, Map], *, window: tuple[slice, slice]
) -> None:
    """Make one window of the result of that of the pictures."""
    there = tuple(slice(side.start * SCALE, side.stop * SCALE) for side in window)
    part = fused_y[there]
    cells_px = planes[0][window].shape[1] * SCALE, planes[0][window].shape[0] * SCALE
    whole = (cv2.resize(plane[window], cells_px, interpolation=cv2.INTER_LINEAR) for plane in planes)
    times, warm, step = (cast(Map, one)[: part.shape[0], : part.shape[1]] for one in whole)
    cv2.add(step, cv2.multiply(part, times, times, dtype=cv2.CV_32F), step)
    cv2.add(step, cv2.multiply(thermal[there], warm, warm, dtype=cv2.CV_32F), step)
    cv2.add(part, step, result[there], dtype=cv2.CV_8U)
