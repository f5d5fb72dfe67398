"""Labeled crops: what the runtime shows of a pair, and the people and vehicles in it that a detector shall find there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rtfusion.errors import ConfigError
from rtfusion.evaluate.reading import read_luminance
from rtfusion.focus import PEOPLE, VEHICLES
from rtfusion.fusion.color import color_kept, luminance
from rtfusion.types import Image8
from rtfusion_trainer.config import Findable
from rtfusion_trainer.degradations import Random, degrade
from rtfusion_trainer.labels import read_labels
from rtfusion_trainer.pairs import image_sets

KINDS: Mapping[str | None, int] = {PEOPLE: 0, VEHICLES: 1}
"""What is to be found, in the order of `rtfusion.evaluate.detector.COCO`; all else, as bicycles, is neither wanted nor false."""
INSIDE = 0.75
"""An object of which less is in the crop is neither wanted nor false."""
LEAST_SIDE_PX = 8
DIALS = 0.45, 0.8
"""The dial is between these, where people look ..."""
ANYWHERE = 0.2
"""... but for this share of the crops, where it is anywhere."""

Boxes = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Scene:
    """A pair of files, (n, 4) boxes x0, y0, x1, y1 in it, and the class of each by `KINDS`, -1 for others."""

    visible: Path
    thermal: Path
    boxes: Boxes
    kinds: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Labeled:
    """One crop, (1, 1, H, W) in [0, 1] as the student sees it, and what is in it."""

    visible: Tensor
    thermal: Tensor
    wanted_visible: Tensor
    wanted_thermal: Tensor
    """The same without the faults of cameras."""
    means: Tensor
    """(1, 2, 1, 1)."""
    enhance: Tensor
    """(1, 1, 1, 1)."""
    color: Tensor
    """(1, 3, H, W), what the runtime adds to the fused luminance: blue, green, red."""
    boxes: Tensor
    """(n, 4) x0, y0, x1, y1 in the crop, of everything labeled."""
    kinds: Tensor
    """(n,) of `KINDS`; -1 where it does not count."""

    def to(self, device: torch.device) -> Labeled:
        """Copy it to ``device``."""
        return Labeled(**{name: value.to(device) for name, value in vars(self).items()})


def read_scenes(labels: Path, data: Path) -> list[Scene]:
    """The pairs below ``data`` that the labels name and that show somebody or something, in order.

    Raises:
        ConfigError: the labels cannot be read, or name no pair, or one stem of several pairs.
    """
    found = read_labels(labels, data=data)
    scenes = []
    for visible, thermal in (files for pairs in image_sets(data).values() for files in pairs):
        drawn = found[visible.stem].both if visible.stem in found else ()
        kinds = np.array([KINDS.get(one.target, -1) for one in drawn], np.int64)
        if (kinds >= 0).any():
            boxes = np.array([one.corners_px for one in drawn], np.float32)
            scenes.append(Scene(visible, thermal, boxes, kinds))
    if not scenes:
        raise ConfigError(f"the labels {labels} name no pair below {data} with people or vehicles")
    return scenes


def make_labeled(scenes: Sequence[Scene], settings: Findable, *, seed: int, step: int, rank: int = 0) -> Labeled:
    """The labeled crop of one training step of one process: the same in every run."""
    random = np.random.default_rng((seed, step, rank, 1))
    scene = scenes[int(random.integers(len(scenes)))]
    visible, thermal = _read_color(scene.visible), read_luminance(scene.thermal)
    boxes, kinds = scene.boxes, scene.kinds
    window = _window(random, scene, shape=thermal.shape, size_px=settings.crop_px)
    means = np.array([luminance(visible).mean(), thermal.mean()], np.float32) / 255
    visible, thermal = visible[window], thermal[window]
    boxes = boxes - np.array([window[1].start, window[0].start] * 2, np.float32)
    height, width = thermal.shape
    if random.random() < 0.5:
        visible, thermal = (cast(Image8, cv2.flip(image, 1)) for image in (visible, thermal))
        boxes = np.stack((width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]), axis=1)
    visible, thermal, wanted, shifts = _seen(random, visible, thermal, share=settings.degraded_share)
    boxes, kinds = _in_crop(boxes, kinds, width=width, height=height)
    low, high = DIALS
    enhance = random.uniform() if random.random() < ANYWHERE else random.uniform(low, high)
    gray = luminance(visible)
    share = cv2.resize(color_kept(visible=visible, thermal=thermal), (width, height)).astype(np.float32) / 255
    color = share[..., None] * (visible.astype(np.float32) - gray[..., None].astype(np.float32)) / 255
    return Labeled(
        visible=_image(gray),
        thermal=_image(thermal),
        wanted_visible=_image(wanted[0]),
        wanted_thermal=_image(wanted[1]),
        means=torch.from_numpy(np.clip(means + shifts, 0, 1)).reshape(1, 2, 1, 1),
        enhance=torch.full((1, 1, 1, 1), enhance, dtype=torch.float32),
        color=torch.from_numpy(np.ascontiguousarray(color.transpose(2, 0, 1)))[None],
        boxes=torch.from_numpy(boxes),
        kinds=torch.from_numpy(kinds),
    )


def _read_color(path: Path) -> Image8:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise ConfigError(f"cannot read {path} as an image")
    return np.asarray(image, np.uint8)


def _window(random: Random, scene: Scene, *, shape: tuple[int, ...], size_px: int) -> tuple[slice, slice]:
    """Rows and columns of a crop, at most of the picture's size, about an object that is to be found."""
    wanted = scene.boxes[scene.kinds >= 0]
    box = wanted[random.integers(len(wanted))]
    sides = []
    for low, high, length in ((box[1], box[3], shape[0]), (box[0], box[2], shape[1])):
        size = min(size_px, length - length % 8)
        reach = max((size - (high - low)) / 2, size / 8)
        start = round((low + high) / 2 - size / 2 + random.uniform(-reach, reach))
        start = min(max(start, 0), length - size)
        sides.append(slice(start, start + size))
    return sides[0], sides[1]


def _seen(
    random: Random, visible: Image8, thermal: Image8, *, share: float
) -> tuple[Image8, Image8, tuple[Image8, Image8], npt.NDArray[np.float32]]:
    """Both bands as cameras and weather leave them, their luminances without the faults, and how far their means moved."""
    none = np.zeros(2, np.float32)
    if random.random() >= share:
        thermal = np.ascontiguousarray(thermal)
        return np.ascontiguousarray(visible), thermal, (luminance(visible), thermal), none
    gray, heat = (
        np.ascontiguousarray(levels, np.float32) / np.float32(255) for levels in (luminance(visible), thermal)
    )
    degraded = degrade(random, visible=gray, thermal=heat)
    step = 255 * (degraded.visible - gray)[..., None]
    shifts = [
        after.mean() - before.mean()
        for after, before in ((degraded.wanted_visible, gray), (degraded.wanted_thermal, heat))
    ]
    wanted = _levels(255 * degraded.wanted_visible), _levels(255 * degraded.wanted_thermal)
    return _levels(visible + step), _levels(255 * degraded.thermal), wanted, np.array(shifts, np.float32)


def _levels(values: npt.NDArray[Any]) -> Image8:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _in_crop(
    boxes: Boxes, kinds: npt.NDArray[np.int64], *, width: int, height: int
) -> tuple[Boxes, npt.NDArray[np.int64]]:
    """What is in a crop of this size, cut off at its border; what is hardly in it, or tiny, does not count."""
    inside = np.clip(boxes, 0, np.array([width, height] * 2, np.float32))
    sides, whole = inside[:, 2:] - inside[:, :2], (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    area = sides.prod(axis=1)
    counts = (area >= INSIDE * whole) & (sides.min(axis=1) >= LEAST_SIDE_PX)
    is_there = area > 0
    return np.ascontiguousarray(inside[is_there], np.float32), np.where(counts, kinds, -1)[is_there]


def _image(image: Image8) -> Tensor:
    return torch.from_numpy(image.astype(np.float32) / 255)[None, None]
