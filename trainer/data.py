"""Training data: registered pairs of images in folders, and short clips among them.

A data folder holds one folder per set, each with ``vi`` and ``ir``, whose files match by stem. Stems like ``SCENE_0012`` that
follow each other within a set make a clip.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rtfusion.errors import ConfigError
from rtfusion.types import Image8
from trainer.config import TrainingConfig
from trainer.degradations import Plane, Random, degrade, sensor_noise

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp"})
FAR_PX = 60
"""Distances to hot targets are stored up to here."""
_NUMBERED = re.compile(r"(.*_)(\d+)")


@dataclass(frozen=True)
class Pair:
    """One registered pair; ``next_pair`` is the index of the following video frame, or None."""

    name: str
    visible: Image8
    thermal: Image8
    distance_px: Image8
    """To the nearest hot pixel (thermal above its mean + 2 SD), up to `FAR_PX`."""
    next_pair: int | None = None


@dataclass(frozen=True)
class Batch:
    """N pictures (N, 1, H, W) in [0, 1], the last two of them consecutive frames; and what their fusion is judged by."""

    visible: Tensor
    thermal: Tensor
    wanted_visible: Tensor
    wanted_thermal: Tensor
    distance_px: Tensor
    means: Tensor
    """(N, 2, 1, 1), of the whole visible and thermal picture that the crop is from."""
    enhance: Tensor
    """(N, 1, 1, 1)."""
    warp: Tensor
    """(1, H, W, 2), `grid_sample` coordinates of the last picture's pixels in the one before it."""
    steady: Tensor
    """(1, 1, H, W), 1 where that is reliable."""

    def to(self, device: torch.device) -> Batch:
        """The same on ``device``."""
        return Batch(**{name: value.to(device, non_blocking=True) for name, value in vars(self).items()})


def load_pairs(folder: Path, *, limit: int | None = None) -> list[Pair]:
    """Every pair below ``folder``, in order of set and name, in memory; at most ``limit`` of them.

    Raises:
        ConfigError: there is none, an image cannot be read, or the two of a pair differ in size.
    """
    files = [(vi, ir) for ir_folder in sorted(folder.glob("*/ir")) for vi, ir in _matching(ir_folder)]
    if not files:
        raise ConfigError(f"{folder} holds no pairs; expected folders SET/vi and SET/ir with images of equal names")
    files = files[:limit]
    following = _next_frames([vi for vi, _ in files])
    return [_load(vi, ir, next_pair=following.get(index)) for index, (vi, ir) in enumerate(files)]


def make_batch(pairs: list[Pair], config: TrainingConfig, *, step: int) -> Batch:
    """The batch of one training step: step n's is the same in every run, so that a resumed run goes on unchanged."""
    random = np.random.default_rng((config.schedule.seed, step))
    singles = [_single(random, pairs, config) for _ in range(config.schedule.batch - 2)]
    clip, warp, steady = _clip(random, pairs, config)
    samples = singles + clip
    stacks = [torch.from_numpy(np.stack(column)[:, None]) for column in zip(*samples, strict=True)]
    means = stacks.pop().reshape(-1, 2, 1, 1)
    visible, thermal, wanted_visible, wanted_thermal, distance_px = stacks
    enhance = _enhance(random, config, count=len(samples))
    return Batch(visible, thermal, wanted_visible, wanted_thermal, distance_px, means, enhance, warp, steady)


Crop = tuple[Plane, Plane, Plane, Plane]
"""Visible, thermal, distance; and the (2,) means of the whole pictures."""
Sample = tuple[Plane, Plane, Plane, Plane, Plane, Plane]
"""Seen visible and thermal, wanted visible and thermal, distance, means."""


def _single(random: Random, pairs: list[Pair], config: TrainingConfig) -> Sample:
    pair = pairs[random.integers(len(pairs))]
    visible, thermal, distance_px, means = _crop(random, pair, size_px=config.schedule.crop_px)
    if random.random() >= config.degraded_share:
        return visible, thermal, visible, thermal, distance_px, means
    degraded = degrade(random, visible=visible, thermal=thermal)
    wanted = degraded.wanted_visible, degraded.wanted_thermal
    shifts = [after.mean() - before.mean() for after, before in zip(wanted, (visible, thermal), strict=True)]
    return degraded.visible, degraded.thermal, *wanted, distance_px, means + np.array(shifts, np.float32)


def _clip(random: Random, pairs: list[Pair], config: TrainingConfig) -> tuple[list[Sample], Tensor, Tensor]:
    """Two consecutive frames, or one twice with its noise drawn anew: a still scene."""
    size_px = config.schedule.crop_px
    starts = [index for index, pair in enumerate(pairs) if pair.next_pair is not None]
    if starts and random.random() < config.clip_share:
        first = pairs[starts[random.integers(len(starts))]]
        assert first.next_pair is not None  # noqa: S101  (for the type checker)
        state = random.bit_generator.state
        previous = _crop(random, first, size_px=size_px)
        random.bit_generator.state = state  # the same crop of both frames
        current = _crop(random, pairs[first.next_pair], size_px=size_px)
        warp, steady = _motion(previous=previous[0], current=current[0])
        return [(*frame[:2], *frame) for frame in (previous, current)], warp, steady
    frame = _crop(random, pairs[random.integers(len(pairs))], size_px=size_px)
    deviations = random.uniform(0.002, 0.02, 2)
    noisy: list[Sample] = []
    for _ in range(2):
        seen = [sensor_noise(random, plane, deviation=d) for plane, d in zip(frame[:2], deviations, strict=True)]
        noisy.append((seen[0], seen[1], *frame))
    ones = np.ones((size_px, size_px), np.float32)
    return noisy, _grid(np.zeros((size_px, size_px, 2), np.float32)), torch.from_numpy(ones)[None, None]


def _crop(random: Random, pair: Pair, *, size_px: int) -> Crop:
    """A square of the pair, mirrored half of the time; smaller pictures are extended by mirroring."""
    height, width = pair.visible.shape
    y, x = (int(random.integers(max(length - size_px, 0) + 1)) for length in (height, width))
    mirror = random.random() < 0.5
    planes = []
    for image, scale in ((pair.visible, 255), (pair.thermal, 255), (pair.distance_px, 1)):
        part = image[y : y + size_px, x : x + size_px]
        missing = [(0, size_px - length) for length in part.shape]
        part = np.pad(part, missing, mode="symmetric")
        plane = (part[:, ::-1] if mirror else part).astype(np.float32) / np.float32(scale)
        planes.append(np.ascontiguousarray(plane))
    means = np.array([pair.visible.mean(), pair.thermal.mean()], np.float32) / np.float32(255)
    return planes[0], planes[1], planes[2], means


def _enhance(random: Random, config: TrainingConfig, *, count: int) -> Tensor:
    """0, 1, the default, or anything between; the two frames of the clip have the same."""
    choices = (0.0, 1.0, config.enhance_default, random.uniform(0, 1))
    values = [choices[random.choice(4, p=(0.2, 0.15, 0.4, 0.25))] for _ in range(count)]
    values[-1] = values[-2]
    return torch.tensor(values, dtype=torch.float32).reshape(-1, 1, 1, 1)


def _motion(*, previous: Plane, current: Plane) -> tuple[Tensor, Tensor]:
    """DIS flow of the visible band: sampling grid from current to previous, and where both directions agree within 1 px."""
    before, after = (np.round(plane * 255).astype(np.uint8) for plane in (previous, current))
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    no_guess = np.zeros((1, 1, 2), np.float32)
    backward, forward = flow.calc(after, before, no_guess), flow.calc(before, after, no_guess)
    rows, columns = np.mgrid[0 : before.shape[0], 0 : before.shape[1]].astype(np.float32)
    map_x, map_y = columns + backward[..., 0], rows + backward[..., 1]
    round_trip = backward + cv2.remap(forward, map_x, map_y, cv2.INTER_LINEAR)
    inside = (map_x >= 0) & (map_x <= before.shape[1] - 1) & (map_y >= 0) & (map_y <= before.shape[0] - 1)
    steady = inside & (np.hypot(round_trip[..., 0], round_trip[..., 1]) < 1)
    return _grid(np.asarray(backward, np.float32)), torch.from_numpy(steady.astype(np.float32))[None, None]


def _grid(flow_px: npt.NDArray[np.float32]) -> Tensor:
    """`grid_sample` coordinates (align_corners) of every pixel moved by the flow."""
    height, width = flow_px.shape[:2]
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    x, y = 2 * (columns + flow_px[..., 0]) / (width - 1) - 1, 2 * (rows + flow_px[..., 1]) / (height - 1) - 1
    return torch.from_numpy(np.stack((x, y), axis=-1).astype(np.float32))[None]


def _matching(ir_folder: Path) -> list[tuple[Path, Path]]:
    visible = {path.stem: path for path in (ir_folder.parent / "vi").iterdir() if path.suffix.lower() in SUFFIXES}
    thermal = {path.stem: path for path in ir_folder.iterdir() if path.suffix.lower() in SUFFIXES}
    return [(visible[stem], thermal[stem]) for stem in sorted(visible.keys() & thermal.keys())]


def _next_frames(files: list[Path]) -> dict[int, int]:
    """Index of a frame to the index of the next one; only folders in which most names follow each other are clips."""
    indices = {path: index for index, path in enumerate(files)}
    following: dict[int, int] = {}
    for folder in {path.parent for path in files}:
        members = [path for path in files if path.parent == folder]
        names = {path.stem: path for path in members}
        found = {
            indices[path]: indices[names[successor]]
            for path in members
            if (successor := _successor(path.stem)) in names
        }
        if len(found) * 2 > len(members):
            following.update(found)
    return following


def _successor(stem: str) -> str | None:
    match = _NUMBERED.fullmatch(stem)
    return f"{match[1]}{int(match[2]) + 1:0{len(match[2])}d}" if match else None


def _load(visible_file: Path, thermal_file: Path, *, next_pair: int | None) -> Pair:
    visible, thermal = _gray(visible_file), _gray(thermal_file)
    if visible.shape != thermal.shape:
        raise ConfigError(f"{visible_file} is {visible.shape}, {thermal_file} {thermal.shape}; expected one size")
    cold = (thermal <= thermal.mean() + 2 * thermal.std()).astype(np.uint8)
    distance_px = np.minimum(cv2.distanceTransform(cold, cv2.DIST_L2, cv2.DIST_MASK_PRECISE), FAR_PX)
    return Pair(visible_file.stem, visible, thermal, np.round(distance_px).astype(np.uint8), next_pair)


def _gray(path: Path) -> Image8:
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise ConfigError(f"cannot read {path} as an image")
    return image.astype(np.uint8, copy=False)
