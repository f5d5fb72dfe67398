from __future__ import annotations

import numpy as np
import pytest

from rtfusion.errors import ConfigError
from rtfusion.fusion.tone import GainControl, in_units
from rtfusion.smoothing import ExponentialAverage
from tests.support import MS


def test_gray8_passes_untouched() -> None:
    image = np.arange(256, dtype=np.uint8).reshape(16, 16)
    gain = GainControl()
    assert gain(image, timestamp_ns=0) is image
    assert gain.state == {}


def test_fixed_range_is_the_linear_map() -> None:
    counts = np.array([[0, 7000, 7500, 8000, 65535]], dtype=np.uint16)
    gain = GainControl(mode="fixed", low_counts=7000, high_counts=8000)
    assert gain(counts, timestamp_ns=0).tolist() == [[0, 0, 128, 255, 255]]
    assert gain.state == {"gain": "fixed", "low_counts": 7000, "high_counts": 8000}


def test_percentiles_of_the_first_frame_span_the_range() -> None:
    counts = np.linspace(7000, 9000, 640 * 480).astype(np.uint16).reshape(480, 640)
    toned = GainControl(mode="percentile")(counts, timestamp_ns=0)
    assert toned.min() == 0
    assert toned.max() == 255
    assert np.all(np.diff(toned.ravel().astype(int)) >= 0)


def test_a_hot_object_does_not_retone_the_picture_at_once() -> None:
    rng = np.random.default_rng(0)
    background = rng.integers(7000, 8000, (120, 160)).astype(np.uint16)
    gain = GainControl(mode="percentile")
    before = gain(background, timestamp_ns=0)
    hot = background.copy()
    hot[:40, :40] = 16000
    after = gain(hot, timestamp_ns=33 * MS)
    elsewhere = np.abs(after[60:].astype(int) - before[60:].astype(int))
    assert elsewhere.mean() < 30, "one thirtieth of a second must not move the end points far"
    late = gain(hot, timestamp_ns=20_000 * MS)
    assert late[60:].mean() < before[60:].mean() / 4, "after many seconds the new range is taken"


def test_a_flat_scene_is_not_amplified_to_noise() -> None:
    rng = np.random.default_rng(0)
    counts = (7500 + rng.integers(-2, 3, (120, 160))).astype(np.uint16)
    assert GainControl(mode="percentile")(counts, timestamp_ns=0).std() < 8


def test_fixed_needs_an_ordered_range() -> None:
    with pytest.raises(ConfigError, match="gain_low < gain_high"):
        GainControl(mode="fixed", low_counts=9000, high_counts=8000)
    with pytest.raises(ConfigError, match="gain is 'auto'; expected one of scene, percentile, plateau, fixed"):
        GainControl(mode="auto")


def test_slow_value_reaches_63_percent_after_its_time_constant() -> None:
    slow = ExponentialAverage(time_constant_s=2.0)
    assert slow.follow(0.0, timestamp_ns=0) == 0.0
    value = 0.0
    for i in range(1, 61):
        value = slow.follow(1.0, timestamp_ns=round(i * 1000 / 30) * MS)
    assert value == pytest.approx(1 - np.exp(-1), abs=1e-3)


def test_slow_value_does_not_depend_on_the_frame_rate() -> None:
    fast, slow = ExponentialAverage(time_constant_s=1.0), ExponentialAverage(time_constant_s=1.0)
    for value in (fast, slow):
        value.follow(0.0, timestamp_ns=0)
    for i in range(1, 101):
        last_fast = fast.follow(1.0, timestamp_ns=i * 10 * MS)
    last_slow = slow.follow(1.0, timestamp_ns=1000 * MS)
    assert last_fast == pytest.approx(last_slow, abs=1e-9)


def test_slow_value_starts_anew_when_time_goes_back_and_without_memory() -> None:
    slow = ExponentialAverage(time_constant_s=1.0)
    slow.follow(5.0, timestamp_ns=1000 * MS)
    assert slow.follow(1.0, timestamp_ns=0) == 1.0
    still = ExponentialAverage(time_constant_s=0.0)
    still.follow(5.0, timestamp_ns=0)
    assert still.follow(1.0, timestamp_ns=1) == 1.0


def scene(offset: int = 7000, *, seed: int = 0) -> np.ndarray:
    """A cold half and a warm half, each with little contrast of its own, and a wide gap between them."""
    rng = np.random.default_rng(seed)
    counts = offset + rng.normal(100, 15, (120, 160))
    counts[:, 80:] += 1500
    return counts.astype(np.uint16)


def test_plateau_gives_contrast_where_the_counts_are() -> None:
    counts = scene()
    linear, plateau = (GainControl(mode=mode)(counts, timestamp_ns=0) for mode in ("percentile", "plateau"))
    assert plateau[:, :80].std() > 2 * linear[:, :80].std()
    order = np.argsort(counts.ravel(), kind="stable")
    assert np.all(np.diff(plateau.ravel()[order].astype(int)) >= 0), "warmer is never darker"
    assert plateau.min() == 0
    assert plateau.max() == 255


def test_plateau_leaves_an_even_scene_as_linear_gain_does() -> None:
    counts = np.linspace(7000, 9000, 480 * 640).astype(np.uint16).reshape(480, 640)
    linear, plateau = (GainControl(mode=mode)(counts, timestamp_ns=0) for mode in ("percentile", "plateau"))
    assert np.abs(linear.astype(int) - plateau.astype(int)).max() <= 6


def test_the_curve_of_plateau_has_a_memory() -> None:
    gain = GainControl(mode="plateau")
    before = gain(scene(), timestamp_ns=0)
    cold_only = scene()
    cold_only[:, 84:] = cold_only[:, :76]  # the warm half leaves: no frame may re-tone the rest at once
    after = gain(cold_only, timestamp_ns=33 * MS)
    step = np.abs(after[:, :80].astype(int) - before[:, :80].astype(int))
    assert step.mean() < 6
    late = gain(cold_only, timestamp_ns=30_000 * MS)
    assert np.abs(late[:, :80].astype(int) - before[:, :80].astype(int)).mean() > 20


@pytest.mark.parametrize("mode", ["scene", "percentile", "plateau"])
def test_a_held_image_changes_nothing(mode: str) -> None:
    gain = GainControl(mode=mode)
    before = gain(scene(), timestamp_ns=0)
    state = dict(gain.state)
    shutter = np.full((120, 160), 7900, np.uint16)
    gain(shutter, timestamp_ns=1000 * MS, hold=True)
    assert gain.state == state
    again = gain(scene(), timestamp_ns=1033 * MS)
    assert np.array_equal(before, again), "nor is the time of the hold made up for"


def test_a_camera_that_switches_its_gain_is_followed_at_once() -> None:
    gain = GainControl(mode="percentile")
    before = gain(scene(), timestamp_ns=0)
    after = gain(scene(offset=20000), timestamp_ns=33 * MS)
    assert np.abs(before.astype(int) - after.astype(int)).max() <= 1
    assert gain.state["low_counts"] > 20000


def test_black_hot_turns_the_levels_round() -> None:
    white, black = GainControl(), GainControl(black_hot=True)
    assert np.array_equal(white(scene(), timestamp_ns=0), 255 - black(scene(), timestamp_ns=0))
    eight = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(black(eight, timestamp_ns=0), 255 - eight)


def test_counts_in_units() -> None:
    assert in_units(29815, units="celsius", kelvin_per_count=0.01) == pytest.approx(25.0)
    assert in_units(29815, units="fahrenheit", kelvin_per_count=0.01) == pytest.approx(77.0)
    assert in_units(64 * 300, units="kelvin", kelvin_per_count=1 / 64) == pytest.approx(300.0)
    assert in_units(7312, units="counts", kelvin_per_count=None) == 7312.0
    assert in_units(7312, units="celsius", kelvin_per_count=None) is None
