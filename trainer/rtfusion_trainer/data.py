"""Batches: crops of pairs, varied and degraded, with two frames of a clip or of a still scene at the end of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rtfusion_trainer.config import TrainingConfig
from rtfusion_trainer.degradations import Plane, Random, degrade, degrade_for, sensor_noise
from rtfusion_trainer.pairs import TARGETS, Pair, both_sides
from rtfusion_trainer.teachers.cache import FULL_SCALE, Image16
from rtfusion_trainer.variation import vary

CHOICES = (0.2, 0.15, 0.4, 0.25)
"""Probabilities of the dial at 0, at 1, at the default, and anywhere."""
ENHANCED_CHOICES = (0.1, 0.27, 0.38, 0.25)
"""These probabilities for pairs of which a teacher shows the look of 1."""


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
    faithful_target: Tensor | None = None
    """Pictures of the faithful teacher, if there is one."""
    enhanced_target: Tensor | None = None
    """Pictures of the teacher that shows the look of the dial at 1, if there is one."""
    language_target: Tensor | None = None
    """Pictures of a language-driven teacher, if there is one, as both bands explain them."""
    trust: Tensor | None = None
    """(N,) weights of the teachers' pictures: 0 where the pair shall look otherwise than the one that they saw."""
    degraded: Tensor | None = None
    """(N,) true where the student sees worse than the language-driven teacher did."""

    def to(self, device: torch.device) -> Batch:
        """Copy the batch to ``device``."""
        moved = {name: value.to(device, non_blocking=True) for name, value in vars(self).items() if value is not None}
        return Batch(**moved)


def make_batch(
    pairs: list[Pair], config: TrainingConfig, *, step: int, rank: int = 0, difficulty: float = 1.0
) -> Batch:
    """The batch of one training step of one process: the same in every run, so that a resumed run goes on unchanged.

    ``difficulty`` is of pairs that a language-driven teacher saw clean (`rtfusion_trainer.degradations.degrade_for`).
    """
    random = np.random.default_rng((config.schedule.seed, step, rank))
    singles = [_single(random, pairs, config, difficulty) for _ in range(config.schedule.batch - 2)]
    clip, warp, steady = _clip(random, pairs, config)
    samples = singles + clip

    def images(name: str) -> Tensor:
        return torch.from_numpy(np.stack([getattr(sample, name) for sample in samples])[:, None])

    targets = [name for name in TARGETS if getattr(pairs[0], name) is not None]
    follows = "language_target" in targets
    names = ("visible", "thermal", "wanted_visible", "wanted_thermal", "distance_px", *targets)
    return Batch(
        **{name: images(name) for name in names},
        means=torch.from_numpy(np.stack([sample.means for sample in samples])).reshape(-1, 2, 1, 1),
        enhance=_enhance(random, samples, config, has_teacher="enhanced_target" in targets or follows),
        warp=warp,
        steady=steady,
        trust=torch.tensor([float(sample.unchanged) for sample in samples]) if targets else None,
        degraded=torch.tensor([sample.degraded for sample in samples]) if follows else None,
    )


@dataclass(frozen=True)
class _Sample:
    """A crop as the student sees it and as its output is compared with; ``unchanged`` if the teachers saw the same."""

    visible: Plane
    thermal: Plane
    wanted_visible: Plane
    wanted_thermal: Plane
    distance_px: Plane
    means: Plane
    faithful_target: Plane | None
    enhanced_target: Plane | None
    language_target: Plane | None
    unchanged: bool = True
    degraded: bool = False


def _single(random: Random, pairs: list[Pair], config: TrainingConfig, difficulty: float) -> _Sample:
    pair, partner = (pairs[random.integers(len(pairs))] for _ in range(2))
    pair, unchanged = vary(random, pair, partner, config.variation)
    clean = replace(_crop(random, pair, size_px=config.schedule.crop_px), unchanged=unchanged)
    if random.random() >= config.degraded_share:
        return clean
    if clean.language_target is not None:
        return _worse(random, clean, difficulty)
    degraded = degrade(random, visible=clean.visible, thermal=clean.thermal)
    changes = ((degraded.wanted_visible, clean.visible), (degraded.wanted_thermal, clean.thermal))
    shifts = np.array([after.mean() - before.mean() for after, before in changes], np.float32)
    return replace(
        clean,
        **vars(degraded),
        means=np.clip(clean.means + shifts, 0, 1),
        unchanged=unchanged and all(np.array_equal(after, before) for after, before in changes),
    )


def _worse(random: Random, clean: _Sample, difficulty: float) -> _Sample:
    """The sample seen worse than its teacher saw it; what is wanted is what it was."""
    visible, thermal = degrade_for(random, visible=clean.visible, thermal=clean.thermal, difficulty=difficulty)
    changes = ((visible, clean.visible), (thermal, clean.thermal))
    shifts = np.array([after.mean() - before.mean() for after, before in changes], np.float32)
    means = np.clip(clean.means + shifts, 0, 1)
    return replace(clean, visible=visible, thermal=thermal, means=means, degraded=True)


def _clip(random: Random, pairs: list[Pair], config: TrainingConfig) -> tuple[list[_Sample], Tensor, Tensor]:
    """Two consecutive frames, or one twice with its noise drawn anew: a still scene."""
    size_px = config.schedule.crop_px
    starts = [(pair, pair.next_pair) for pair in pairs if pair.next_pair is not None]
    if starts and random.random() < config.clip_share:
        first, second = starts[random.integers(len(starts))]
        state = random.bit_generator.state
        previous = _crop(random, first, size_px=size_px)
        random.bit_generator.state = state  # the same crop of both frames
        current = _crop(random, pairs[second], size_px=size_px)
        warp, steady = _motion(previous=previous.visible, current=current.visible)
        return [previous, current], warp, steady
    frame = _crop(random, pairs[random.integers(len(pairs))], size_px=size_px)
    deviations = random.uniform(0.002, 0.02, 2)
    noisy = [
        replace(
            frame,
            visible=sensor_noise(random, frame.visible, deviation=deviations[0]),
            thermal=sensor_noise(random, frame.thermal, deviation=deviations[1]),
        )
        for _ in range(2)
    ]
    return noisy, _grid(np.zeros((size_px, size_px, 2), np.float32)), torch.ones(1, 1, size_px, size_px)


def _crop(random: Random, pair: Pair, *, size_px: int) -> _Sample:
    """A square of the pair, mirrored half of the time; smaller pictures are extended by mirroring on both sides."""
    height, width = pair.visible.shape
    y, x = (int(random.integers(max(length - size_px, 0) + 1)) for length in (height, width))
    mirror = random.random() < 0.5

    def part(image: npt.NDArray[Any], full_scale: int) -> Plane:
        square = image[y : y + size_px, x : x + size_px]
        square = np.pad(square, [both_sides(size_px - length) for length in square.shape], mode="symmetric")
        return np.ascontiguousarray((square[:, ::-1] if mirror else square).astype(np.float32) / np.float32(full_scale))

    def target(picture: Image16 | None) -> Plane | None:
        return None if picture is None else part(picture, FULL_SCALE)

    visible, thermal = part(pair.visible, 255), part(pair.thermal, 255)
    return _Sample(
        visible=visible,
        thermal=thermal,
        wanted_visible=visible,
        wanted_thermal=thermal,
        distance_px=part(pair.distance_px, 1),
        means=np.array([pair.visible.mean(), pair.thermal.mean()], np.float32) / np.float32(255),
        faithful_target=target(pair.faithful_target),
        enhanced_target=target(pair.enhanced_target),
        language_target=target(pair.language_target),
    )


def _enhance(random: Random, samples: Sequence[_Sample], config: TrainingConfig, *, has_teacher: bool) -> Tensor:
    """0, 1, the default, or anything between, for every sample; the two frames of the clip have the same.

    Where a teacher shows the look of 1, what it has not seen stays at the default or below: without it, the same dial would be
    asked for two looks.
    """
    values = []
    for sample in samples:
        top = 1.0 if sample.unchanged or not has_teacher else config.enhance_default
        choices = (0.0, top, config.enhance_default, random.uniform(0, top))
        values.append(choices[random.choice(4, p=ENHANCED_CHOICES if has_teacher else CHOICES)])
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
