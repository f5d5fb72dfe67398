from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtfusion.clock import FakeClock
from rtfusion.telemetry import Histogram, Telemetry
from rtfusion.types import Band
from tests.support import MS


@given(st.lists(st.integers(1, 10**11), min_size=1, max_size=200), st.sampled_from([50, 95, 99]))
def test_percentiles_are_right_to_two_percent(values: list[int], percent: int) -> None:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    exact = np.percentile(values, percent, method="inverted_cdf")
    assert histogram.percentile_ns(percent) == pytest.approx(exact, rel=0.021)


def test_summary_in_milliseconds() -> None:
    histogram = Histogram()
    for value_ms in range(1, 101):
        histogram.record(value_ms * MS)
    summary = histogram.summary_ms()
    assert summary["count"] == 100
    assert summary["mean"] == pytest.approx(50.5)
    assert summary["max"] == 100
    assert summary["p50"] == pytest.approx(50, rel=0.02)


def test_an_empty_histogram_says_so() -> None:
    assert Histogram().summary_ms() == {"count": 0, "p50": None, "p95": None, "p99": None, "max": None, "mean": None}


def test_memory_does_not_grow_with_the_number_of_values() -> None:
    histogram = Histogram()
    rng = np.random.default_rng(0)
    for value in rng.integers(1_000_000, 40_000_000, 20_000):
        histogram.record(int(value))
    assert len(histogram._counts) < 400


def test_fps_counts_intervals_not_frames() -> None:
    clock = FakeClock()
    telemetry = Telemetry(clock=clock)
    for _ in range(31):
        telemetry.fused_one()
        clock.advance_ns(33_333_333)
    assert telemetry.fps == pytest.approx(30.0, rel=1e-3)


def test_snapshot_is_json_and_leaves_out_zero_drops() -> None:
    telemetry = Telemetry(clock=FakeClock())
    telemetry.frame_read(Band.VISIBLE, decode_ns=2 * MS)
    telemetry.sink_wrote("out.mp4", age_ns=5 * MS, write_ns=1 * MS)
    telemetry.note("once")
    telemetry.note("once")
    telemetry.drops = {"visible": {"no_partner": 3, "corrupt": 0}, "sinks": {"out.mp4": {"slow": 2}}}
    snapshot = json.loads(json.dumps(telemetry.snapshot()))
    assert snapshot["drops"] == {"visible": {"no_partner": 3}, "sinks": {"out.mp4": {"slow": 2}}}
    assert snapshot["notes"] == ["once"]
    assert snapshot["frames_read"] == {"visible": 1, "thermal": 0}
    assert snapshot["age_ms"]["out.mp4"]["count"] == 1
    assert snapshot["stages_ms"]["decode visible"]["max"] == 2.0


def test_what_is_not_well_again_is_logged_again_and_noted_once(caplog: pytest.LogCaptureFixture) -> None:
    telemetry = Telemetry()
    for _ in range(2):
        telemetry.warn("the disk is full")
    assert [record.getMessage() for record in caplog.records] == ["the disk is full"] * 2
    assert telemetry.notes == ["the disk is full"]
