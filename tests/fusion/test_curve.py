"""The `scene` gain: contrast for what there is, none for noise, and nothing taken away by what enters."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rtfusion.fusion.tone import GainControl
from tests.support import MS

SHAPES = st.sampled_from([(60, 80), (120, 160), (240, 320)])


def soft(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    """A smooth picture of mean 0 and deviation 1."""
    plane = cv2.GaussianBlur(np.random.default_rng(seed).normal(0, 1, shape), (0, 0), shape[0] / 16)
    return (plane - plane.mean()) / plane.std()


def toned(planes: list[np.ndarray], *, noise: float = 5.0, rate_hz: float = 8.0, mode: str = "scene") -> np.ndarray:
    rng = np.random.default_rng(1)
    gain = GainControl(mode=mode)
    images = []
    for index, plane in enumerate(planes):
        counts = np.clip(np.rint(plane + rng.normal(0, noise, plane.shape)), 0, 65535).astype(np.uint16)
        images.append(gain(counts, timestamp_ns=round(index * 1e9 / rate_hz)).astype(np.float32))
    return np.stack(images)


@settings(max_examples=12, deadline=None)
@given(shape=SHAPES, noise=st.floats(1.0, 30.0), rate_hz=st.sampled_from([8.0, 30.0, 60.0]), seed=st.integers(0, 99))
def test_a_scene_of_one_temperature_is_no_snow(shape: tuple[int, int], noise: float, rate_hz: float, seed: int) -> None:
    plane = 29_315 + 0.8 * noise * soft(shape, seed)
    levels = toned([plane] * (10 + round(rate_hz)), noise=noise, rate_hz=rate_hz)[-10:]
    assert levels.std(axis=0).mean() < 2.0


@settings(max_examples=12, deadline=None)
@given(
    contrast=st.sampled_from([30.0, 100.0, 600.0]),
    heat=st.sampled_from([2_000.0, 8_000.0, 25_000.0]),
    share=st.floats(0.002, 0.03),
    seed=st.integers(0, 99),
)
def test_a_hot_object_takes_nothing_from_the_rest(contrast: float, heat: float, share: float, seed: int) -> None:
    scene = 29_000 + contrast * soft((120, 160), seed)
    scene[70:110, 20:30] += 2 * contrast
    hot = scene.copy()
    side = round(np.sqrt(share * scene.size))
    hot[5 : 5 + side, 120 : 120 + side] += heat
    levels = toned([scene] * 16 + [hot] * 24 + [scene] * 24)
    kept = levels[:, 70:110, 20:30].mean(axis=(1, 2)) - levels[:, 70:110, 40:50].mean(axis=(1, 2))
    around = levels[:, :, :110].std(axis=(1, 2))
    assume(kept[8:16].mean() > 10)  # else the ground beside it is as warm
    assert around[16:].min() > 0.8 * around[8:16].mean()
    assert kept[16:].min() > 0.8 * kept[8:16].mean()
    place = np.s_[:, 6 : 4 + side, 121 : 119 + side]
    assert levels[place][16:40].mean() > levels[place][8:16].mean() + 30, "and it shows"


def test_a_hot_object_does_not_make_snow_of_a_uniform_scene() -> None:
    plane = 29_315 + 4.0 * soft((120, 160))
    hot = plane.copy()
    hot[10:34, 10:34] += 25_000
    levels = toned([plane] * 8 + [hot] * 60)[-20:]
    assert levels[:, 50:].std(axis=0).mean() < 2.0


def test_people_in_fog_show() -> None:
    plane = 29_000 + 6.0 * soft((120, 160))
    plane[40:90, 50:66] += 40
    levels = toned([plane] * 24)[-1]
    assert levels[45:85, 52:64].mean() - levels[45:85, 80:100].mean() > 20


def test_a_rich_scene_has_the_range() -> None:
    for deviation in (100.0, 500.0, 4_000.0):
        levels = toned([25_000 + deviation * soft((120, 160))] * 8)[-1]
        assert np.percentile(levels, 99) - np.percentile(levels, 1) > 120


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 99), low=st.integers(0, 60_000), span=st.integers(1, 65_535))
def test_warmer_is_never_darker(seed: int, low: int, span: int) -> None:
    rng = np.random.default_rng(seed)
    counts = np.clip(low + rng.integers(0, span, (60, 80)) ** 2 // span, 0, 65535).astype(np.uint16)
    gain = GainControl()
    gain(counts, timestamp_ns=0)
    every = gain(np.arange(65536, dtype=np.uint16)[None], timestamp_ns=1, hold=True)[0].astype(int)
    assert np.all(np.diff(every) >= 0)
    assert np.array_equal(gain(counts, timestamp_ns=2, hold=True), every.astype(np.uint8)[counts])


@pytest.mark.parametrize("level", [0, 1, 29_315, 65_535])
def test_a_dead_flat_band_comes_out_flat(level: int) -> None:
    gain = GainControl()
    for index in range(3):
        assert np.ptp(gain(np.full((120, 160), level, np.uint16), timestamp_ns=index * 100 * MS)) == 0


def test_a_horizon_that_moves_does_not_tip_the_contrast_over() -> None:
    sky, ground = 20_000 + 20.0 * soft((120, 160)), 23_000 + 100.0 * soft((120, 160), 3)
    rows = np.arange(120)[:, None]
    shown = []
    for horizon in range(40, 81, 2):
        levels = toned([np.where(rows < horizon, sky, ground)])[0]
        shown.append(levels[80:].std() / 100.0)
    assert min(shown) > 0.11
    assert np.abs(np.diff(np.log(shown))).max() < 0.35


def test_what_drifts_slowly_keeps_its_contrast() -> None:
    scene = 29_000 + 60.0 * soft((120, 160))
    around = toned([scene + 20.0 * index / 8 for index in range(80)]).std(axis=(1, 2))
    assert np.abs(around / around[0] - 1).max() < 0.15


def test_dead_pixels_change_nothing() -> None:
    scene = 29_000 + 60.0 * soft((120, 160))
    dead = scene.copy()
    dead[::40, ::40], dead[20::40, 20::40] = 0, 65_535
    clean, spoilt = (toned([plane] * 8)[-1] for plane in (scene, dead))
    assert np.median(np.abs(clean - spoilt)) <= 1


def test_another_scene_is_taken_as_it_is_at_once() -> None:
    first, other = 8_000 + 300.0 * soft((120, 160)), 31_000 + 40.0 * soft((120, 160), 5)
    after = toned([first] * 16 + [other] * 30)[16:]
    assert abs(after[0].mean() - after[-1].mean()) < 3
    assert abs(after[0].std() / after[-1].std() - 1) < 0.1


def test_stills_do_not_remember_one_another() -> None:
    rng = np.random.default_rng(4)
    first, other = (
        (29_000 + spread * soft((120, 160), int(spread)) + rng.normal(0, 5, (120, 160))).astype(np.uint16)
        for spread in (300.0, 250.0)
    )
    gain = GainControl(time_constant_s=0.0)
    gain(first, timestamp_ns=0)
    assert np.array_equal(gain(other, timestamp_ns=40 * MS), GainControl()(other, timestamp_ns=0))


def test_the_curve_does_not_depend_on_the_rate() -> None:
    scene = 29_000 + 100.0 * soft((120, 160))
    warm = scene + 1_000.0 * (soft((120, 160), 3) > 1)
    slow, fast = (toned([scene] * round(rate) + [warm] * round(2 * rate), rate_hz=rate)[-1] for rate in (8.0, 30.0))
    assert np.abs(slow.mean() - fast.mean()) < 2
    assert np.abs(slow.std() / fast.std() - 1) < 0.05


def test_the_state_names_the_mode_and_its_ends() -> None:
    gain = GainControl()
    scene = (29_000 + 100.0 * soft((120, 160))).astype(np.uint16)
    gain(scene, timestamp_ns=0)
    assert gain.state["gain"] == "scene"
    ends = gain.state["low_counts"], gain.state["high_counts"]
    assert ends == pytest.approx(np.percentile(scene, [1, 99.5]), abs=5)
