"""Capture to subscriber, for a moment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import latency
from rtfusion.evaluate import schema


@pytest.fixture
def cores() -> Iterator[None]:
    allowed = os.sched_getaffinity(0)
    yield
    os.sched_setaffinity(0, allowed)


@pytest.mark.slow  # three seconds; how ages are counted is shown below
@pytest.mark.usefixtures("cores")
def test_the_age_of_frames_at_a_subscriber(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(latency, "WARM_UP_FRAMES", 3)
    target = tmp_path / "latency.json"
    case = ["--fuser", "average", "--encoding", "raw", "jpeg", "--size", "160x120", "--rate-hz", "60"]
    assert latency.SUITE.main([*case, "--seconds", "0.3", "--rounds", "1", "--json", str(target)]) == 0
    assert "| average, jpeg |" in capsys.readouterr().out
    rows = schema.load(target)["rows"]
    assert [row["case"] for row in rows] == ["average, raw", "average, jpeg"]
    for row in rows:
        assert row["count"]["median"] == 18
        assert 0 < row["p50"]["median"] <= row["p99"]["median"] <= row["max"]["median"]


def test_ages_are_counted_after_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each frame is as many milliseconds old as its number says; those of the warm-up, and what they missed, do not count."""
    monkeypatch.setattr(latency, "WARM_UP_FRAMES", 2)
    monkeypatch.setattr(latency, "time", SimpleNamespace(monotonic_ns=lambda: 10**9))

    @contextmanager
    def subscribed(url: str, *, timeout_s: float) -> Iterator[Iterator[SimpleNamespace]]:
        yield (SimpleNamespace(timestamp_ns=10**9 - age * 10**6, missed=age % 2) for age in range(1, 100))

    monkeypatch.setattr(latency, "subscribe", subscribed)
    found = latency._received("tcp://127.0.0.1:1", frames=6)
    assert (found["count"], found["mean"], found["max"], found["missed"]) == (4, 4.5, 6.0, 2)
