"""Degradations of a pair of images by cameras and weather, for the student to learn from.

Some of it the student shall undo or ignore (noise, stripes, dead pixels, compression, a coarse sensor, glare, a small
misregistration): it is compared with the clean pair. Some of it is a scene like any other (low light, smoke, a lost band): it is
compared with what it was given.

Images are (H, W) float32 in [0, 1] and so are the results; all randomness comes from the generator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from rtfusion.fusion.upsampling import restored

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


def degrade_for(random: Random, *, visible: Plane, thermal: Plane, difficulty: float) -> tuple[Plane, Plane]:
    """The pair as a worse camera or poorer light would show it, where the clean one is what is wanted.

    One change out of those that leave something to restore, blended with the pair: by 0.2 to 0.2 + 0.8 difficulty.
    """
    changes = (*IGNORED, *RESTORABLE)
    changed = changes[random.integers(len(changes))](random, visible, thermal)
    strength = np.float32(0.2 + 0.8 * difficulty * random.random())
    seen = (clean + strength * (after - clean) for clean, after in zip((visible, thermal), changed, strict=True))
    first, second = (_unit(image) for image in seen)
    return first, second


def in_smoke(random: Random, *, visible: Plane, thermal: Plane) -> Plane:
    """The visible band of the pair behind smoke, or behind haze that is thicker in some places."""
    change = (_smoke, _haze)[random.integers(2)]
    return _unit(change(random, visible, thermal)[0])


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


def _rows(random: Random, visible: Plane, thermal: Plane) -> tuple[Plane, Plane]:
    """Flicker of a readout: every row has its own offset, for this frame."""
    rows = random.standard_normal((thermal.shape[0], 1), dtype=np.float32)
    return visible, thermal + np.float32(random.uniform(0.005, 0.025)) * rows


def _dead_pixels(random: Random, visible: Plane, thermal: Plane) -> tuple[Plane, Plane]:
    """Pixels of the sensor that always say the same, each by itself or with its neighbor."""
    size_px = int(random.integers(1, 4))
    height, width = (-(-side // size_px) for side in thermal.shape)
    dead = random.random((height, width)) < random.uniform(0.0003, 0.003)
    dead[:, 1:] |= dead[:, :-1] & (random.random((height, width - 1)) < 0.3)
    values = random.choice(np.array([0, 1], np.float32), (height, width))
    dead, values = (np.kron(plane, np.ones((size_px, size_px), plane.dtype)) for plane in (dead, values))
    there = np.s_[: thermal.shape[0], : thermal.shape[1]]
    return visible, np.where(dead[there], values[there], thermal)


def _coarse_sensor(random: Random, visible: Plane, thermal: Plane) -> tuple[Plane, Plane]:
    """A thermal sensor with a pixel for three to eight of ours along each side, brought onto the grid as the runtime does."""
    factor = random.choice((3, 4, 4, 4, 5, 6, 8))
    height, width = thermal.shape
    small = cv2.resize(255 * thermal, (max(width // factor, 8), max(height // factor, 8)), interpolation=cv2.INTER_AREA)
    noise_levels = random.uniform(0, 8) if random.random() < 0.5 else 0.0
    small = np.rint(small + np.float32(noise_levels) * random.standard_normal(small.shape, dtype=np.float32))
    fine = restored(np.clip(small, 0, 255).astype(np.uint8), noise_levels=noise_levels, magnification=float(factor))
    large = cv2.resize(fine, (width, height), interpolation=cv2.INTER_CUBIC)
    return visible, np.asarray(large, np.float32) / np.float32(255)


def _glare(random: Random, visible: Plane, thermal: Plane) -> tuple[Plane, Plane]:
    """Headlights, lamps or the sun: discs far beyond full scale, with the bloom that the lens makes of them."""
    height, width = visible.shape
    light = np.zeros_like(visible)
    for _ in range(random.integers(1, 4)):
        center = int(random.integers(width)), int(random.integers(height))
        cv2.circle(light, center, int(random.uniform(0.02, 0.12) * min(height, width)) + 1, random.uniform(1.5, 6), -1)
    sigma_px = random.uniform(0.02, 0.15) * min(height, width)
    bloom = cv2.GaussianBlur(light, (0, 0), sigma_px)
    return _unit(
        visible + np.maximum(cv2.GaussianBlur(light, (0, 0), 1.0), np.float32(random.uniform(0.3, 1)) * bloom)
    ), thermal


def _overexposed(random: Random, visible: Plane, thermal: Plane) -> tuple[Plane, Plane]:
    """Exposed for the dark: all that is bright is white, and white runs over its border."""
    brightened = np.float32(random.uniform(1.5, 4)) * visible
    beyond = np.maximum(brightened - 1, 0)
    return _unit(brightened + cv2.GaussianBlur(beyond, (0, 0), random.uniform(1, 6))), thermal


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


def _smoke(random: Random, visible: Plane, thermal: Plane) -> tuple[Plane, Plane]:
    """Smoke that the visible camera does not see through: hardly more than its own drifts and the noise of the camera."""
    height, width = visible.shape
    coarse = random.uniform(-0.05, 0.05, (6, 6)).astype(np.float32)
    drift = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    seen = np.float32(random.uniform(0, 0.12)) * (cv2.GaussianBlur(visible, (0, 0), random.uniform(0.5, 2)) - 0.5)
    smoke = np.float32(random.uniform(0.35, 0.9)) + drift + seen
    return sensor_noise(random, smoke, deviation=random.uniform(0, 0.006)), thermal


def _gain_jump(random: Random, visible: Plane, thermal: Plane) -> tuple[Plane, Plane]:
    return visible, np.float32(random.uniform(0.7, 1.4)) * thermal + np.float32(random.uniform(-0.15, 0.15))


def _polarity(random: Random, visible: Plane, thermal: Plane) -> tuple[Plane, Plane]:
    """A brighter or darker mapping of the same heat."""
    return visible, np.power(np.clip(thermal, 0, 1), np.float32(random.uniform(0.5, 2.0)))


def _no_thermal(random: Random, visible: Plane, thermal: Plane) -> tuple[Plane, Plane]:
    """A camera behind its shutter: one gray."""
    return visible, np.full_like(thermal, random.uniform(0, 1))


Change = Callable[[Random, Plane, Plane], tuple[Plane, Plane]]

IGNORED: tuple[Change, ...] = (
    *[_noise] * 2,
    _stripes,
    _rows,
    _dead_pixels,
    _misregistration,
    _coarse_levels,
    *[_coarse_sensor] * 4,
    *[_compressed] * 3,
    _glare,
    _overexposed,
)
GIVEN: tuple[Change, ...] = (
    _blur,
    _low_light,
    _low_contrast,
    *[_haze] * 4,
    *[_smoke] * 3,
    _gain_jump,
    _polarity,
    _no_thermal,
)
"""A change that is named more than once is drawn more often."""
RESTORABLE: tuple[Change, ...] = (_blur, _low_light, _low_contrast, *[_haze] * 2, _gain_jump, _polarity)
"""Changes of the scene that leave something of what was there, so that one who knows the clean pair may ask for it."""
IN_PLACE: tuple[Change, ...] = (
    *[_noise] * 2,
    _stripes,
    _rows,
    _dead_pixels,
    _coarse_levels,
    *[_coarse_sensor] * 3,
    _compressed,
    _glare,
    _overexposed,
    _blur,
    _low_contrast,
    _haze,
    _gain_jump,
    _polarity,
)
"""Changes that leave every thing where it is and show it in both bands."""


def _unit(image: Plane) -> Plane:
    return np.clip(image, 0, 1, dtype=np.float32)
