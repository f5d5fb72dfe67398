"""Degradations of a pair of images by cameras and weather, for the student to learn from.

Some of it the student shall undo or ignore (noise, stripes, compression, a small misregistration): it is compared with the clean
pair. Some of it is a scene like any other (low light, haze, a lost band): it is compared with what it was given.

Images are (H, W) float32 in [0, 1] and so are the results; all randomness comes from the generator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[np.float32]
Random = np.random.Generator


@dataclass(frozen=True)
class Degraded:
    """A pair as the student sees it, and the pair that its output is compared with."""

    visible: Plane
    thermal: Plane
    wanted_visible: Plane
    wanted_thermal: Plane


def degrade(random: Random, *, visible: Plane, thermal: Plane) -> Degraded:
    """One or two degradations of a pair, chosen at random: first what is given, then what is to be ignored."""
    if random.random() < 0.6:
        visible, thermal = GIVEN[random.integers(len(GIVEN))](random, visible, thermal)
    seen_visible, seen_thermal = visible, thermal
    if random.random() < 0.7:
        seen_visible, seen_thermal = IGNORED[random.integers(len(IGNORED))](random, visible, thermal)
    return Degraded(_unit(seen_visible), _unit(seen_thermal), _unit(visible), _unit(thermal))


def sensor_noise(random: Random, image: Plane, *, deviation: float) -> Plane:
    """White noise of this standard deviation, in units of full scale."""
    return image + np.float32(deviation) * random.standard_normal(image.shape, dtype=np.float32)


def _noise(random: Random, visible: Plane, thermal: Plane) -> tuple[Plane, Plane]:
    first, second = random.uniform(0, 0.03, 2)
    return sensor_noise(random, visible, deviation=first), sensor_noise(random, thermal, deviation=second)


def _stripes(random: Random, visible: Plane, thermal: Plane) -> tuple[Plane, Plane]:
    """Fixed pattern of an uncooled sensor: every column has its own offset."""
    columns = random.standard_normal(thermal.shape[1], dtype=np.float32)
    return visible, thermal + np.float32(random.uniform(0.005, 0.02)) * columns


def _misregistration(random: Random, visible: Plane, thermal: Plane) -> tuple[Plane, Plane]:
    shift = np.array([[1, 0, random.uniform(-2, 2)], [0, 1, random.uniform(-2, 2)]], np.float32)
    height, width = thermal.shape
    moved = cv2.warpAffine(thermal, shift, (width, height), borderMode=cv2.BORDER_REPLICATE)
    return visible, np.asarray(moved, np.float32)


def _coarse_levels(random: Random, visible: Plane, thermal: Plane) -> tuple[Plane, Plane]:
    """A 16-bit signal mapped to few levels, as a wide fixed range does."""
    levels = np.float32(random.integers(24, 96))
    return visible, np.asarray(np.round(thermal * levels) / levels, np.float32)


def _compressed(random: Random, visible: Plane, thermal: Plane) -> tuple[Plane, Plane]:
    """Blocks of a network camera: the visible band, and the thermal one half of the time, through JPEG."""
    visible = _through_jpeg(visible, quality=int(random.integers(12, 60)))
    if random.random() < 0.5:
        thermal = _through_jpeg(thermal, quality=int(random.integers(25, 80)))
    return visible, thermal


def _through_jpeg(image: Plane, *, quality: int) -> Plane:
    levels = np.round(_unit(image) * 255).astype(np.uint8)
    encoded = cv2.imencode(".jpg", levels, (cv2.IMWRITE_JPEG_QUALITY, quality))[1]
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE), np.float32) / np.float32(255)


def _blur(random: Random, visible: Plane, thermal: Plane) -> tuple[Plane, Plane]:
    sigma_px = random.uniform(0.5, 2.0)
    return np.asarray(cv2.GaussianBlur(visible, (0, 0), sigma_px), np.float32), thermal


def _low_light(random: Random, visible: Plane, thermal: Plane) -> tuple[Plane, Plane]:
    return visible * np.float32(random.uniform(0.1, 0.6)), thermal


def _low_contrast(random: Random, visible: Plane, thermal: Plane) -> tuple[Plane, Plane]:
    amount, level = np.float32(random.uniform(0.3, 0.8)), np.float32(random.uniform(0.1, 0.7))
    return visible, level + amount * (thermal - level)


def _haze(random: Random, visible: Plane, thermal: Plane) -> tuple[Plane, Plane]:
    """Smoke that is thicker in some places: toward a light gray, by a smooth random transmission."""
    coarse = random.uniform(-0.3, random.uniform(0.1, 1.0), (4, 4)).astype(np.float32)
    height, width = visible.shape
    transmission = np.clip(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), 0.02, 1)
    air = np.float32(random.uniform(0.3, 0.95))
    return np.asarray(air + transmission * (visible - air), np.float32), thermal


def _gain_jump(random: Random, visible: Plane, thermal: Plane) -> tuple[Plane, Plane]:
    return visible, np.float32(random.uniform(0.7, 1.4)) * thermal + np.float32(random.uniform(-0.15, 0.15))


def _polarity(random: Random, visible: Plane, thermal: Plane) -> tuple[Plane, Plane]:
    """A brighter or darker mapping of the same heat."""
    return visible, np.power(np.clip(thermal, 0, 1), np.float32(random.uniform(0.5, 2.0)))


def _no_thermal(random: Random, visible: Plane, thermal: Plane) -> tuple[Plane, Plane]:
    """A camera behind its shutter: one gray."""
    return visible, np.full_like(thermal, random.uniform(0, 1))


Change = Callable[[Random, Plane, Plane], tuple[Plane, Plane]]

IGNORED: tuple[Change, ...] = (*[_noise] * 2, _stripes, _misregistration, _coarse_levels, *[_compressed] * 3)
GIVEN: tuple[Change, ...] = (_blur, _low_light, _low_contrast, *[_haze] * 4, _gain_jump, _polarity, _no_thermal)
"""A change that is named more than once is drawn more often."""


def _unit(image: Plane) -> Plane:
    return np.clip(image, 0, 1, dtype=np.float32)
