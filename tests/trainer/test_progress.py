from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the trainer needs torch: pip install -e '.[train]'")

from rtfusion_trainer import progress as progress_module
from rtfusion_trainer.progress import saved, shown


def test_where_nobody_looks_a_line_now_and_then_and_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now_s = 100.0
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now_s)
    with shown(total=30) as progress:
        for step in range(1, 31):
            now_s += 0.7
            progress(step, {"loss": 2.0})
    first, *lines = capsys.readouterr().err.splitlines()
    assert first == "preparing; 30 steps"
    assert [line.split(",")[0] for line in lines] == ["step 15/30", "step 30/30"]
    assert all("loss 2.0000" in line for line in lines)
    assert "0.70 s per step, 11 s left" in lines[0]
    assert "left" not in lines[1]


def test_what_is_prepared_is_not_taken_for_a_step(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now_s = 0.0
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now_s)
    with shown(total=100, finished=40) as progress:
        now_s += 60.0  # reading, warming up, and the first step
        for step in range(41, 101):
            progress(step, {})
            now_s += 0.5
    first, *lines = capsys.readouterr().err.splitlines()
    assert first == "preparing; going on after step 40 of 100"
    assert lines[0] == "step 41/100"  # of which nothing can be told yet
    assert lines[1] == "step 61/100, 0.50 s per step, 20 s left"


def test_the_end_says_where_it_is_and_what_comes_next(capsys: pytest.CaptureFixture[str]) -> None:
    saved(Path("run/checkpoint.pt"), finished=7, total=9, then="rtfusion export")
    saved(Path("run/checkpoint.pt"), finished=9, total=9, then="rtfusion export")
    assert capsys.readouterr().err.splitlines() == [
        "stopped after step 7 of 9, saved in run/checkpoint.pt; the same command goes on",
        "all 9 steps are done, saved in run/checkpoint.pt; next: rtfusion export",
    ]


def test_it_shows_moving_averages(capsys: pytest.CaptureFixture[str]) -> None:
    with shown(total=2) as progress:
        progress(1, {"loss": 1.0})
        progress(2, {"loss": 2.0})
    assert "loss 1.0200" in capsys.readouterr().err


def test_curves_are_written_for_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="curves need tensorboard: pip install -e '.[train]'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with shown(total=1, curves=tmp_path) as progress:
        progress(1, {"loss": 3.0, "ssim": 0.5})
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 3.0)]
    assert events.Scalars("ssim")[0].value == 0.5


def test_silent_is_silent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with shown(total=1, curves=tmp_path, silent=True) as progress:
        progress(1, {"loss": 1.0})
    assert capsys.readouterr().err == ""
    assert list(tmp_path.iterdir()) == []
