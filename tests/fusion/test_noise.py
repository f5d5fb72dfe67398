"""The noise that a stream of pictures is measured to have."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtfusion.fusion.noise import NoiseLevel
from tests.support import MS


def textured(shape: tuple[int, int], *, deviation: float, seed: int = 0) -> np.ndarray:
    """Something to see, with detail of all sizes."""
    rng = np.random.default_rng(seed)
    layers = [cv2.GaussianBlur(rng.normal(0, size, shape), (0, 0), size) for size in (1, 4, 16)]
    plane = np.sum(layers, axis=0)
    return 20_000 + plane / plane.std() * deviation


def measured(planes: list[np.ndarray], deviation: float, *, rate_hz: float, seed: int = 1) -> float:
    rng = np.random.default_rng(seed)
    level = NoiseLevel(time_constant_s=2.0)
    for index, plane in enumerate(planes):
        image = np.clip(np.rint(plane + rng.normal(0, deviation, plane.shape)), 0, 65535).astype(np.uint16)
        level.follow(image, timestamp_ns=round(index * 1e9 / rate_hz))
    return level.deviation


@settings(max_examples=12, deadline=None)
@given(
    deviation=st.floats(1.0, 30.0),
    structure=st.floats(0.0, 4000.0),
    shape=st.sampled_from([(60, 80), (120, 160), (240, 320)]),
    rate_hz=st.sampled_from([8.0, 30.0, 60.0]),
)
def test_a_still_scene_is_measured_whatever_is_in_it(
    deviation: float, structure: float, shape: tuple[int, int], rate_hz: float
) -> None:
    planes = [textured(shape, deviation=structure)] * (2 + round(rate_hz))
    assert measured(planes, deviation, rate_hz=rate_hz) == pytest.approx(deviation, rel=0.15)


def test_what_moves_through_the_picture_is_no_noise() -> None:
    scene = textured((120, 160), deviation=100)
    planes = []
    for index in range(40):
        plane = scene.copy()
        plane[20:100, 2 * index : 2 * index + 50] += 800
        planes.append(plane)
    assert measured(planes, 5.0, rate_hz=25) == pytest.approx(5.0, rel=0.25)


def test_a_pan_does_not_pass_for_noise() -> None:
    ground = cv2.GaussianBlur(np.random.default_rng(4).normal(0, 1, (120, 600)), (0, 0), 10)
    wide = 20_000 + 300.0 * ground / ground.std()
    wide[30:70, ::40] += 500
    pan = [wide[:, 8 * index : 8 * index + 160] for index in range(50)]
    assert measured([wide[:, :160]] * 25 + pan, 5.0, rate_hz=25) < 10.0


@given(deviation=st.floats(2.0, 20.0), seed=st.integers(0, 99))
@settings(max_examples=12, deadline=None)
def test_noise_of_rows_and_of_a_sensor_that_was_scaled_up_counts(deviation: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scene = textured((240, 320), deviation=20)
    rows = [scene + rng.normal(0, deviation, (240, 1)) for _ in range(20)]
    scaled = [scene + cv2.resize(rng.normal(0, deviation, (60, 80)), (320, 240)) for _ in range(20)]
    for planes in (rows, scaled):
        seen = np.std([plane - scene for plane in planes])
        assert measured(planes, 0.3, rate_hz=8) == pytest.approx(seen, rel=0.35)


def test_repeats_say_nothing() -> None:
    level = NoiseLevel(time_constant_s=2.0)
    rng = np.random.default_rng(2)
    for index in range(60):
        if index % 20 == 0:
            image = (20_000 + rng.normal(0, 5, (120, 160))).astype(np.uint16)
        level.follow(image, timestamp_ns=index * 40 * MS)
    assert level.deviation == pytest.approx(5.0, rel=0.2)


def test_stills_are_measured_one_by_one() -> None:
    level = NoiseLevel(time_constant_s=0.0)
    rng = np.random.default_rng(3)
    for index, deviation in enumerate((2.0, 20.0, 5.0)):
        image = (20_000 + rng.normal(0, deviation, (120, 160))).astype(np.uint16)
        assert level.follow(image, timestamp_ns=index * 1000 * MS) == pytest.approx(deviation, rel=0.2)


@pytest.mark.parametrize("shape", [(1, 1), (2, 5), (3, 3), (7, 9)])
def test_the_smallest_pictures_have_a_level(shape: tuple[int, int]) -> None:
    level = NoiseLevel(time_constant_s=2.0)
    for index in range(3):
        assert level.follow(np.full(shape, 7, np.uint16), timestamp_ns=index * 500 * MS) == 0.0
