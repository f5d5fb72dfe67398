from __future__ import annotations

import numpy as np
import pytest

from rtfusion.errors import ConfigError
from rtfusion.thermal import GainControl, SlowValue
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
    toned = GainControl()(counts, timestamp_ns=0)
    assert toned.min() == 0
    assert toned.max() == 255
    assert np.all(np.diff(toned.ravel().astype(int)) >= 0)


def test_a_hot_object_does_not_retone_the_picture_at_once() -> None:
    rng = np.random.default_rng(0)
    background = rng.integers(7000, 8000, (120, 160)).astype(np.uint16)
    gain = GainControl()
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
    assert GainControl()(counts, timestamp_ns=0).std() < 8


def test_fixed_needs_an_ordered_range() -> None:
    with pytest.raises(ConfigError, match="gain_low < gain_high"):
        GainControl(mode="fixed", low_counts=9000, high_counts=8000)
    with pytest.raises(ConfigError, match="percentile or fixed"):
        GainControl(mode="auto")


def test_slow_value_reaches_63_percent_after_its_time_constant() -> None:
    slow = SlowValue(time_constant_s=2.0)
    assert slow.follow(0.0, timestamp_ns=0) == 0.0
    value = 0.0
    for i in range(1, 61):
        value = slow.follow(1.0, timestamp_ns=round(i * 1000 / 30) * MS)
    assert value == pytest.approx(1 - np.exp(-1), abs=1e-3)


def test_slow_value_does_not_depend_on_the_frame_rate() -> None:
    fast, slow = SlowValue(time_constant_s=1.0), SlowValue(time_constant_s=1.0)
    for value in (fast, slow):
        value.follow(0.0, timestamp_ns=0)
    for i in range(1, 101):
        last_fast = fast.follow(1.0, timestamp_ns=i * 10 * MS)
    last_slow = slow.follow(1.0, timestamp_ns=1000 * MS)
    assert last_fast == pytest.approx(last_slow, abs=1e-9)


def test_slow_value_starts_anew_when_time_goes_back_and_without_memory() -> None:
    slow = SlowValue(time_constant_s=1.0)
    slow.follow(5.0, timestamp_ns=1000 * MS)
    assert slow.follow(1.0, timestamp_ns=0) == 1.0
    still = SlowValue(time_constant_s=0.0)
    still.follow(5.0, timestamp_ns=0)
    assert still.follow(1.0, timestamp_ns=1) == 1.0
