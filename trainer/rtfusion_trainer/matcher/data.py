"""Batches: two views of a registered pair, as two cameras that agree in nothing would have seen it, and what lies where.

Each view is a part of the picture: the visible one nearer or farther, the thermal one turned, scaled, shifted and seen at a slant
as well, with what is near elsewhere than what is far. Then cameras and weather spoil both, and gray levels become ranks, as they
are when pictures are matched.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rtfusion.registration.calibration import Matrix
from rtfusion.registration.descriptors import CELL_PX, cell_centers_px
from rtfusion.registration.structure import Points, equalized
from rtfusion.types import Image8
from rtfusion_trainer.degradations import IN_PLACE, Plane, Random
from rtfusion_trainer.matcher.config import MatcherConfig

NEARNESS = 0.15
"""Views that agree in size and turn differ by this share of what the others do."""
INVERSIONS = 4
"""Rounds in which a displacement is inverted; it is smooth."""


@dataclass(frozen=True)
class GrayPictures:
    """A registered pair, (H, W) uint8 each."""

    visible: Image8
    thermal: Image8


@dataclass(frozen=True)
class MatcherBatch:
    """N views of each band (N, 1, h, w) in [0, 1], and where the cells of the one lie in the other.

    ``thermal_at`` is (N, cells, 2): the place (x, y) in the thermal view, in cells, of what every cell of the visible view shows,
    row by row; NaN where it is beyond. ``visible_at`` is the other way.
    """

    visible_y: Tensor
    thermal: Tensor
    thermal_at: Tensor
    visible_at: Tensor


def make_matcher_batch(sets: Sequence[Sequence[GrayPictures]], config: MatcherConfig, *, step: int) -> MatcherBatch:
    """The batch of one training step: the same in every run. A set is drawn as often as the root of its size says."""
    random = np.random.default_rng((config.seed, step))
    roots = np.sqrt([len(pairs) for pairs in sets])
    samples = []
    for _ in range(config.batch):
        chosen = sets[int(random.choice(len(sets), p=roots / roots.sum()))]
        samples.append(view(random, chosen[int(random.integers(len(chosen)))], config))
    visible, thermal, thermal_at, visible_at = (
        torch.from_numpy(np.stack(arrays)) for arrays in zip(*samples, strict=True)
    )
    return MatcherBatch(
        visible_y=visible[:, None], thermal=thermal[:, None], thermal_at=thermal_at, visible_at=visible_at
    )


def view(random: Random, pair: GrayPictures, config: MatcherConfig) -> tuple[Plane, Plane, Plane, Plane]:
    """One sample: a view of each band, and where the cells of each lie in the other; see `MatcherBatch`."""
    crop_px, size_px = config.crop_px, (pair.visible.shape[1], pair.visible.shape[0])
    zoom = math.exp(random.uniform(*np.log(config.zoom)))
    seen = _seen_from(random, size_px, crop_px, zoom)
    moved = seen @ _motion(random, config)
    bend = _bend(random, config, zoom)
    visible_px = _grid(crop_px)
    visible = _drawn(pair.visible, _through(seen, visible_px), crop_px, zoom)
    thermal_places = _through(moved, visible_px) + bend(visible_px)
    thermal = _drawn(pair.thermal, thermal_places, crop_px, zoom)
    visible, thermal = _spoiled(random, visible, thermal, config)
    cells_px = cell_centers_px(crop_px)
    visible_at = _through(np.linalg.inv(seen), _through(moved, cells_px) + bend(cells_px))
    wanted = _through(seen, cells_px)
    thermal_at = _through(np.linalg.inv(moved), wanted)
    for _ in range(INVERSIONS):
        thermal_at = _through(np.linalg.inv(moved), wanted - bend(thermal_at))
    inside = [_inside(places, size_px) for places in (wanted, _through(moved, cells_px))]
    at = [_in_cells(places, crop_px, known) for places, known in zip((thermal_at, visible_at), inside, strict=True)]
    return visible, thermal, at[0], at[1]


def _seen_from(random: Random, size_px: tuple[int, int], crop_px: tuple[int, int], zoom: float) -> Matrix:
    """Picture from view: a part of this zoom, mirrored half of the time."""
    part = np.array(crop_px) / zoom
    room = np.array(size_px) - part
    low = random.uniform(np.minimum(room, 0) / 2 - 1e-6, np.maximum(room, 0) + np.minimum(room, 0) / 2)
    if random.random() < 0.5:
        return np.array([[-1 / zoom, 0, low[0] + part[0]], [0, 1 / zoom, low[1]], [0, 0, 1]])
    return np.array([[1 / zoom, 0, low[0]], [0, 1 / zoom, low[1]], [0, 0, 1]])


def _motion(random: Random, config: MatcherConfig) -> Matrix:
    """Where a pixel of the thermal view lies in the visible one, were all things equally far."""
    share = NEARNESS if random.random() < config.near else 1.0
    size, middle = np.array(config.crop_px), np.array(config.crop_px) / 2
    scale = math.exp(share * random.uniform(-1, 1) * math.log(config.scale))
    turn = math.radians(share * random.uniform(-1, 1) * config.turn_deg)
    # never small: a network sees where the border is, and would learn that things are where they are
    shift = random.uniform(-1, 1, 2) * config.shift * size
    corners = np.array([(0, 0), (size[0], 0), (size[0], size[1]), (0, size[1])], np.float64)
    rotation = scale * np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    slant = share * random.uniform(-1, 1, (4, 2)) * config.keystone * size
    there = (corners - middle) @ rotation.T + middle + shift + slant
    return np.asarray(
        cv2.getPerspectiveTransform(corners.astype(np.float32), there.astype(np.float32)), dtype=np.float64
    )


def _bend(random: Random, config: MatcherConfig, zoom: float) -> Any:
    """A function from pixels of the thermal view to how far, in pixels of the picture, what is near is displaced there."""
    if random.random() >= config.depth:
        return np.zeros_like
    width, height = config.crop_px
    coarse = random.uniform(-1, 1, (4, 5)).astype(np.float32)
    nearness = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    direction = random.uniform(-1, 1, 2) * config.depth_px / zoom

    def displaced(points_px: Points) -> Points:
        # in rows, since OpenCV takes no picture of more than 32767 pixels a side
        x, y = (points_px[:, axis].astype(np.float32).reshape(-1, width // CELL_PX) for axis in range(2))
        near = cv2.remap(nearness, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(near, np.float64).reshape(-1, 1) * direction

    return displaced


def _drawn(image: Image8, places_px: Points, crop_px: tuple[int, int], zoom: float) -> Plane:
    """The view (h, w) in [0, 1] whose pixels, row by row, are at these places of the picture."""
    source: Any = image if zoom > 0.9 else cv2.GaussianBlur(image, (0, 0), 0.4 / zoom)
    x, y = (places_px[:, axis].reshape(crop_px[::-1]).astype(np.float32) for axis in range(2))
    return np.asarray(
        cv2.remap(source, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32
    ) / np.float32(255)


def _spoiled(random: Random, visible: Plane, thermal: Plane, config: MatcherConfig) -> tuple[Plane, Plane]:
    """Both views as ranks, spoiled before by what changes no place."""
    if random.random() < config.inverted:
        thermal = 1 - thermal
    if random.random() < config.degraded:
        for _ in range(int(random.integers(1, 3))):
            visible, thermal = IN_PLACE[int(random.integers(len(IN_PLACE)))](
                random, np.clip(visible, 0, 1, dtype=np.float32), np.clip(thermal, 0, 1, dtype=np.float32)
            )
    ranks = [
        equalized(np.round(np.clip(view, 0, 1) * 255).astype(np.uint8)).astype(np.float32) / np.float32(255)
        for view in (visible, thermal)
    ]
    return ranks[0], ranks[1]


def _through(transform: npt.NDArray[Any], points: Points) -> Points:
    mapped = np.column_stack([points, np.ones(len(points))]) @ transform.T
    return np.asarray(mapped[:, :2] / mapped[:, 2:], dtype=np.float64)


def _grid(size_px: tuple[int, int]) -> Points:
    sides = np.meshgrid(*(np.arange(side, dtype=np.float64) for side in size_px))
    return np.stack(sides, axis=2).reshape(-1, 2)


def _inside(places_px: Points, size_px: tuple[int, int]) -> Any:
    return ((places_px >= 0) & (places_px <= np.array(size_px) - 1)).all(axis=1)


def _in_cells(places_px: Points, crop_px: tuple[int, int], known: Any) -> Plane:
    """Pixels to cells; NaN where it is beyond the outermost centers, or not ``known``."""
    cells = (places_px - (CELL_PX - 1) / 2) / CELL_PX
    inside = known & ((cells >= 0) & (cells <= np.array(crop_px) / CELL_PX - 1)).all(axis=1)
    return np.where(inside[:, None], cells, np.nan).astype(np.float32)
