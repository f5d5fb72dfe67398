from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtfusion.fusion.scene import SceneMean, SceneMemory
from rtfusion.types import Image8
from tests.support import MS

TAU_S = 1.0


def scene(seed: int, *, size_px: tuple[int, int] = (640, 480), low: int = 20, high: int = 200) -> Image8:
    """Areas of about a twelfth of the picture a side, each of one level."""
    width, height = size_px
    areas = np.random.default_rng(seed).integers(low, high, (12, 16), dtype=np.uint8)
    return np.kron(areas, np.ones((height // 12, width // 16), np.uint8)).astype(np.uint8)


def slowly(dt_ms: float) -> float:
    return 1 - math.exp(-dt_ms / 1000 / TAU_S)


@given(st.integers(1, 500), st.integers(0, 5))
def test_a_scene_that_stays_is_followed_slowly(dt_ms: int, noise_levels: int) -> None:
    memory, rng = SceneMemory(time_constant_s=TAU_S), np.random.default_rng(0)
    still = scene(1, size_px=(320, 240))
    assert memory.weight(still, timestamp_ns=0) == 1.0
    noisy = (still + rng.integers(-noise_levels, noise_levels + 1, still.shape)).astype(np.uint8)
    assert memory.weight(noisy, timestamp_ns=dt_ms * MS) == pytest.approx(slowly(dt_ms))


def test_a_hot_object_that_enters_is_no_other_scene() -> None:
    memory, still = SceneMemory(time_constant_s=TAU_S), scene(1)
    memory.weight(still, timestamp_ns=0)
    hot = still.copy()
    hot[100:300, 200:450] = 255  # a sixth of the picture
    assert memory.weight(hot, timestamp_ns=40 * MS) == pytest.approx(slowly(40))


@pytest.mark.parametrize("size_px", [(640, 480), (160, 120), (80, 60), (1280, 960)])
def test_another_scene_is_followed_at_once(size_px: tuple[int, int]) -> None:
    memory = SceneMemory(time_constant_s=TAU_S)
    memory.weight(scene(1, size_px=size_px), timestamp_ns=0)
    assert memory.weight(scene(2, size_px=size_px), timestamp_ns=40 * MS) == 1.0
    assert memory.weight(scene(2, size_px=size_px), timestamp_ns=80 * MS) == pytest.approx(slowly(40))


@pytest.mark.parametrize("factor", [0.1, 0.4, 2.5])
def test_light_that_is_switched_is_followed_at_once(factor: float) -> None:
    memory, room = SceneMemory(time_constant_s=TAU_S), scene(1, high=100)
    memory.weight(room, timestamp_ns=0)
    assert memory.weight(np.clip(room * factor, 0, 255).astype(np.uint8), timestamp_ns=40 * MS) > 0.9


def test_the_end_of_a_tunnel_is_followed_while_it_comes() -> None:
    """Each frame changes little against the one before, but all of them together most of what is remembered."""
    mean, road = SceneMean(time_constant_s=TAU_S), scene(1)
    for index in range(13):
        lit = (road * (0.1 + 0.9 * index / 12)).astype(np.uint8)
        followed = mean.follow(float(lit.mean()), image=lit, timestamp_ns=index * 66 * MS)
        assert followed == pytest.approx(float(lit.mean()), abs=14)


def test_the_dark_of_a_tunnel_is_followed_to_its_few_levels() -> None:
    mean, road = SceneMean(time_constant_s=TAU_S), scene(1, high=120)
    for index in range(13):
        dark = (road * (1 - 0.9 * index / 12)).astype(np.uint8)
        followed = mean.follow(float(dark.mean()), image=dark, timestamp_ns=index * 66 * MS)
    assert followed == pytest.approx(float(dark.mean()), abs=2)


@given(st.integers(0, 99))
def test_noise_in_the_dark_is_no_other_scene(seed: int) -> None:
    memory, rng = SceneMemory(time_constant_s=TAU_S), np.random.default_rng(seed)
    night = scene(1, low=2, high=30)
    memory.weight(night, timestamp_ns=0)
    noisy = np.clip(night + rng.normal(0, 8, night.shape), 0, 255).astype(np.uint8)
    assert memory.weight(noisy, timestamp_ns=40 * MS) == pytest.approx(slowly(40))


def test_color_and_gray_are_the_same_scene() -> None:
    gray, other = scene(1), scene(2)
    weights = []
    for images in ((gray, other), tuple(np.dstack([image] * 3) for image in (gray, other))):
        memory = SceneMemory(time_constant_s=TAU_S)
        weights.append([memory.weight(image, timestamp_ns=index * MS) for index, image in enumerate(images)])
    assert weights[0] == weights[1]


def test_unrelated_stills_do_not_remember_one_another() -> None:
    memory = SceneMemory(time_constant_s=0.0)
    assert [memory.weight(scene(1), timestamp_ns=index * MS) for index in range(3)] == [1.0, 1.0, 1.0]


def test_time_that_goes_back_starts_anew() -> None:
    memory = SceneMemory(time_constant_s=TAU_S)
    memory.weight(scene(1), timestamp_ns=100 * MS)
    assert memory.weight(scene(1), timestamp_ns=50 * MS) == 1.0
