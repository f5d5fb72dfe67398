"""The fault run in seconds: every limit of the watchdog is shortened, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.faults import run
from rtfusion.capture import watchdog
from rtfusion.clock import NS_PER_MS


def test_every_fault_is_noticed_and_got_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "LEAST_LIMIT_S", 0.4)
    monkeypatch.setattr(watchdog, "FIRST_PAUSE_S", 0.05)
    monkeypatch.setattr(watchdog, "LONGEST_PAUSE_S", 0.4)
    monkeypatch.setattr(watchdog.RateWatch, "WINDOW_NS", 500 * NS_PER_MS)
    # another rate takes seconds to be sure of, and a rate that a busy machine can follow: tests/capture/test_watchdog.py
    figures = run(minutes=0, least=4, without=("rate",), seed=2, folder=tmp_path, pause_s=0.05, patience=5)
    assert figures["missed"] == []
    assert figures["faults"] == 4
    assert figures["swapped"] == 0
    assert figures["threads_left"] == []
    assert figures["recording"]["frames"] > 50
    kinds = figures["by_kind"]
    for band, faults in figures["counted"].items():
        for cause in ("unplugged", "silent", "corrupt", "frozen", "size"):
            assert faults.get(cause, 0) >= kinds.get(f"{band} {cause}", {"noticed": 0})["noticed"]
