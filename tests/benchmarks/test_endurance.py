"""A run of minutes, for a moment."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import endurance
from rtfusion.errors import ConfigError
from rtfusion.evaluate import schema


@pytest.mark.slow  # four seconds; how a process is weighed is shown below
def test_a_run_is_counted_and_weighed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(endurance, "SAMPLES_A_MINUTE", 120)
    target = tmp_path / "endurance.json"
    case = ["--fuser", "average", "--size", "64x48", "--rate-hz", "20", "--minutes", "0.05", "--json", str(target)]
    assert endurance.SUITE.main(case) == 0
    (row,) = schema.load(target)["rows"]
    assert f"| average | {row['fused']} | {row['missed']} |" in capsys.readouterr().out
    assert row["wanted"] == 60
    assert row["fused"] + row["missed"] == 60  # a busy machine may miss some
    assert row["fused"] > 0
    assert 0 < row["age_ms"]["p50"] <= row["age_ms"]["p99"] <= row["age_ms"]["max"]
    assert 20 < row["memory_mb"][0] < 2000
    assert row["elapsed_s"] > 3


def test_a_run_that_fails_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "endurance.json"
    assert (
        endurance.SUITE.main(["--size", "sixty", "--minutes", "0.01", "--json", str(target)]) == ConfigError.exit_code
    )
    assert "size" in capsys.readouterr().err
    assert not target.exists()


def test_a_process_is_weighed_while_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endurance, "SAMPLES_A_MINUTE", 1200)
    program = "import time; held = bytearray(64 << 20); time.sleep(0.5)"
    (size_mb,) = endurance._run([sys.executable, "-c", program])
    assert 20 < size_mb < 500


def test_a_process_that_fails_is_told_by_its_last_words() -> None:
    with pytest.raises(ConfigError, match=r"^no such camera$"):
        endurance._run([sys.executable, "-c", "import sys; sys.exit('first\\nno such camera')"])
    with pytest.raises(ConfigError, match="said nothing"):
        endurance._run([sys.executable, "-c", "raise SystemExit(3)"])
