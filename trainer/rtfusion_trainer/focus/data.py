"""Batches: parts of labeled pairs, mirrored, nearer or farther, in other tones, with noise, at a quarter of the resolution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from rtfusion.focus import SCALE, Box
from rtfusion.focus.boxes import painted
from rtfusion.focus.overlap import Floats
from rtfusion.types import Image8
from rtfusion_trainer.degradations import Plane, Random, sensor_noise
from rtfusion_trainer.focus.config import CROP_STEP_PX, FocusConfig
from rtfusion_trainer.focus.labels import LabeledPair

LEAST_SHOWN = 0.35
"""A box of which less is in the part is no target there, and no background either."""
GAMMA, CONTRAST, OFFSET = (0.5, 2.0), (0.5, 1.8), 0.2


@dataclass(frozen=True)
class FocusBatch:
    """N parts: both bands (N, 1, h, w) in [0, 1], and what is wanted (N, targets, h, w) with its weight."""

    visible_y: Tensor
    thermal: Tensor
    wanted: Tensor
    weight: Tensor


def make_focus_batch(pairs: Sequence[LabeledPair], config: FocusConfig, *, step: int) -> FocusBatch:
    """The batch of one training step: the same in every run, so that a resumed run goes on unchanged."""
    random = np.random.default_rng((config.seed, step))
    samples = [_sample(random, pairs[int(random.integers(len(pairs)))], config) for _ in range(config.batch)]
    visible, thermal, wanted, weight = (torch.from_numpy(np.stack(planes)) for planes in zip(*samples, strict=True))
    return FocusBatch(visible_y=visible[:, None], thermal=thermal[:, None], wanted=wanted, weight=weight)


def whole(pair: LabeledPair, targets: Sequence[str]) -> tuple[Plane, Plane, Plane, Plane]:
    """A pair as it is: both bands, what is wanted and its weight, for measuring."""
    width, height = (side // CROP_STEP_PX * CROP_STEP_PX for side in pair.size_px)
    size = width // SCALE, height // SCALE
    visible, thermal = (
        (cv2.resize(band[: height // 2, : width // 2], size, interpolation=cv2.INTER_AREA) / 255).astype(np.float32)
        for band in (pair.visible, pair.thermal)
    )
    factor = np.array([pair.size_px[0] / width, pair.size_px[1] / height] * 2)
    wanted, weight = _truth(
        {target: pair.boxes[target] * factor for target in targets},
        {target: pair.maybe[target] * factor for target in targets},
        shape=(height, width),
        empty=1.0,
    )
    return visible, thermal, wanted, weight


def _sample(random: Random, pair: LabeledPair, config: FocusConfig) -> tuple[Plane, Plane, Plane, Plane]:
    """A part of a pair: (h, w) of each band, (targets, h, w) of what is wanted and of its weight."""
    width, height = config.crop_px
    zoom = math.exp(random.uniform(-1, 1) * math.log(config.zoom))
    # where the corners of the part lie in the whole picture, in its pixels; beyond it the edge is repeated
    part = np.array([width, height]) / zoom
    room = np.array(pair.size_px) - part
    low = random.uniform(np.minimum(room, 0) / 2 - 1e-6, np.maximum(room, 0) + np.minimum(room, 0) / 2)
    mirrored = random.random() < 0.5
    bands = [
        _part(band, low / 2, zoom * 2 / SCALE, (width // SCALE, height // SCALE))
        for band in (pair.visible, pair.thermal)
    ]
    boxes, maybe = (
        {target: _seen(found[target], pair.size_px, low, part) for target in config.targets}
        for found in (pair.boxes, pair.maybe)
    )
    beyond = {
        target: np.concatenate([maybe[target][0], boxes[target][1], maybe[target][1]]) for target in config.targets
    }
    wanted, weight = _truth(
        {target: found[0] for target, found in boxes.items()},
        beyond,
        shape=(height, width),
        empty=1.0 if pair.checked else config.unsure,
    )
    visible, thermal = _varied(random, bands, config)
    planes = (visible, thermal, wanted, weight)
    if not mirrored:
        return planes
    visible, thermal, wanted, weight = (np.ascontiguousarray(plane[..., ::-1]) for plane in planes)
    return visible, thermal, wanted, weight


def _part(band: Image8, low: Floats, scale: float, size: tuple[int, int]) -> Image8:
    """A part of a band that is kept at half of the resolution, at a quarter of it times the zoom."""
    if scale < 1:  # area averaging: first to the scale, then the part
        smaller = cv2.resize(band, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        band, low, scale = np.asarray(smaller, np.uint8), low * scale, 1.0
    matrix = np.array([[scale, 0, -low[0] * scale], [0, scale, -low[1] * scale]])
    return np.asarray(
        cv2.warpAffine(band, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.uint8
    )


def _seen(boxes: Floats, size_px: tuple[int, int], low: Floats, part: Floats) -> tuple[Floats, Floats]:
    """The boxes in fractions of the part: those of which enough is in it, and those that are cut off."""
    moved = (boxes * (size_px * 2) - np.tile(low, 2)) / np.tile(part, 2)
    inside = np.clip(moved, 0, 1)
    area = (moved[:, 2:] - moved[:, :2]).prod(axis=1)
    share = (inside[:, 2:] - inside[:, :2]).prod(axis=1) / np.maximum(area, 1e-9)
    return inside[share >= LEAST_SHOWN], inside[(share > 0) & (share < LEAST_SHOWN)]


def _truth(
    boxes: dict[str, Floats], maybe: dict[str, Floats], *, shape: tuple[int, int], empty: float
) -> tuple[Plane, Plane]:
    """What is wanted, and how much each value counts: little on the soft edge of a box, nothing where a target may be."""
    wanted, weight = [], []
    for target, found in boxes.items():
        size = -(-shape[0] // SCALE), -(-shape[1] // SCALE)
        truth = _filled(target, found, shape).get(target, np.zeros(size, np.float32))
        doubt = _filled(target, maybe[target], shape).get(target, np.zeros(size, np.float32))
        counts = np.where(truth > 0, 1 - 3.2 * truth * (1 - truth), np.float32(empty))
        wanted.append(truth)
        weight.append(np.where((doubt > 0) & (truth < 0.5), 0, counts).astype(np.float32))
    return np.stack(wanted), np.stack(weight)


def _filled(target: str, boxes: Floats, shape: tuple[int, int]) -> dict[str, Plane]:
    names = ("left", "top", "right", "bottom")
    solid = boxes[(boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])]
    return painted((Box(target=target, **dict(zip(names, map(float, box), strict=True))) for box in solid), shape=shape)


def _varied(random: Random, bands: Sequence[Image8], config: FocusConfig) -> list[Plane]:
    """Both bands in [0, 1], in other tones and with noise, or one of them blank."""
    planes: list[Plane] = [band.astype(np.float32) / np.float32(255) for band in bands]
    if random.random() < config.inverted:
        planes[1] = 1 - planes[1]
    planes = [_toned(random, plane) if random.random() < config.toned else plane for plane in planes]
    if random.random() < config.blank:
        planes[int(random.integers(2))][:] = random.uniform(0, 1)
    noisy = (sensor_noise(random, plane, deviation=random.uniform(0, config.noise)) for plane in planes)
    return [np.clip(plane, 0, 1, dtype=np.float32) for plane in noisy]


def _toned(random: Random, plane: Plane) -> Plane:
    gamma, contrast = (math.exp(random.uniform(math.log(low), math.log(high))) for low, high in (GAMMA, CONTRAST))
    toned: Any = contrast * (plane**gamma) + random.uniform(-OFFSET, OFFSET) * contrast
    return np.clip(toned, 0, 1, dtype=np.float32)
