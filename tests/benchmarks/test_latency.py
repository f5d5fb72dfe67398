"""Capture to subscriber, for a moment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import latency
from rtfusion.evaluate import schema


@pytest.fixture
def cores() -> Iterator[None]:
    allowed = os.sched_getaffinity(0)
    yield
    os.sched_setaffinity(0, allowed)


@pytest.mark.usefixtures("cores")
def test_the_age_of_frames_at_a_subscriber(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(latency, "WARM_UP_FRAMES", 3)
    target = tmp_path / "latency.json"
    case = ["--fuser", "average", "--encoding", "raw", "jpeg", "--size", "160x120", "--rate-hz", "60"]
    assert latency.main([*case, "--seconds", "0.3", "--rounds", "1", "--json", str(target)]) == 0
    assert "| average, jpeg |" in capsys.readouterr().out
    rows = schema.load(target)["rows"]
    assert [row["case"] for row in rows] == ["average, raw", "average, jpeg"]
    for row in rows:
        assert row["count"]["median"] == 18
        assert 0 < row["p50"]["median"] <= row["p99"]["median"] <= row["max"]["median"]
