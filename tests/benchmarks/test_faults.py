"""The fault run in seconds: every limit of the watchdog is shortened, and nothing else."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import faults
from rtfusion.capture import watchdog
from rtfusion.clock import NS_PER_MS
from tests.rig import life
from tests.rig.disk import check_session, check_video, small_disk
from tests.rig.life import Log, Plan, live, read_log

ALL_BUT_THERMAL_UNPLUGGED = (
    "hangs", "killed", "repeated", "shutter", "size", "silent", "frozen", "corrupt", "rate", "visible unplugged",
)  # fmt: skip
KINDS = ("unplugged", "silent", "corrupt", "frozen", "size")


@pytest.fixture
def short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "LEAST_LIMIT_S", 0.4)
    monkeypatch.setattr(watchdog, "FIRST_PAUSE_S", 0.05)
    monkeypatch.setattr(watchdog, "LONGEST_PAUSE_S", 0.4)
    monkeypatch.setattr(watchdog.RateWatch, "WINDOW_NS", 500 * NS_PER_MS)


@pytest.mark.usefixtures("short_limits")
def test_a_camera_that_is_unplugged_is_noticed_and_got_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(life, "SETTLED_FRAMES", 10)
    plan = Plan(minutes=0, least=1, without=ALL_BUT_THERMAL_UNPLUGGED, pause_s=0.05)
    live(plan, folder=tmp_path, log=Log(tmp_path / "log"))
    lines = {line["kind"]: line for line in read_log(tmp_path / "log")}
    assert lines["fault"]["name"] == "thermal unplugged"
    assert lines["fault"]["noticed_s"] is not None
    assert lines["fault"]["recovered_s"] is not None
    assert lines["state"]["counted"]["thermal"]["unplugged"] == 1
    assert (lines["state"]["swapped"], lines["ended"]["threads_left"]) == (0, [])


@pytest.mark.slow  # fourteen seconds; one fault is played above
@pytest.mark.usefixtures("short_limits")
def test_every_fault_is_noticed_and_got_over(tmp_path: Path) -> None:
    # another rate takes seconds to be sure of, and a rate that a busy machine can follow: tests/capture/test_watchdog.py
    with small_disk(tmp_path / "disk") as disk:
        plan = Plan(minutes=0, least=5, without=("rate",), seed=2, pause_s=0.05)
        live(plan, folder=tmp_path, log=Log(tmp_path / "log"), disk=disk)
        lines = read_log(tmp_path / "log")
        if disk is not None:
            session = check_session(next(disk.glob("*/session.json")).parent)
            assert session["plays"]
            assert session["segments"] == 2
    played = [line for line in lines if line["kind"] == "fault"]
    assert len(played) == 5
    assert ("disk full" in {fault["name"] for fault in played}) == (disk is not None)
    assert [fault for fault in played if fault["noticed_s"] is None or fault["recovered_s"] is None] == []
    *_, state, ended = lines
    assert (state["kind"], ended["kind"]) == ("state", "ended")
    assert state["swapped"] == 0
    assert ended["threads_left"] == []
    assert check_video(tmp_path / "fused.mkv", written=state["written"])["plays"]
    for band, counted in state["counted"].items():
        for cause in KINDS:
            assert counted.get(cause, 0) >= sum(fault["name"] == f"{band} {cause}" for fault in played)


@pytest.mark.slow  # five seconds; tests/session/test_record.py kills a recording
def test_a_life_that_is_killed_leaves_what_was_recorded(tmp_path: Path) -> None:
    words = ["--minutes", "0", "--seed", "1", "--folder", tmp_path, "--log", tmp_path / "log", "--killed"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.rig.life", *words], env=environment, start_new_session=True
    ) as life:
        life.wait(120)
        os.killpg(life.pid, signal.SIGKILL)
    assert life.returncode == -signal.SIGKILL
    lines = read_log(tmp_path / "log")
    assert [line["kind"] for line in lines if line["kind"] != "state"] == ["started", "killed"]
    (session,) = (tmp_path / "killed").iterdir()
    assert check_session(session)["plays"]
    assert check_video(tmp_path / "fused.mkv", written=lines[-2]["written"])["plays"]


def result(**changes: Any) -> dict[str, Any]:
    spread = {"median": 1.0, "min": 1.0, "max": 1.0}
    fault = {
        "of": "fault", "count": 2, "limit_s": 2.0, "noticed": 2, "in_time": 2, "noticed_s": spread,
        "recovered": 2, "recovered_s": spread,
    }  # fmt: skip
    total = {**fault, "case": "all", "of": "run", "swapped": 0, "ended": True, "threads_left": []}
    memory = {"case": "memory", "of": "run", "start_mb": 200.0, "warm_mb": 240.0, "end_mb": 250.0}
    files = [{"file": "a", "plays": True}]
    rows = [{**fault, "case": "visible frozen"}, total, memory, {"case": "recordings", "of": "run", "files": files}]
    return {"rows": [{**row, **changes.get(row["case"], {})} for row in rows]}


@pytest.mark.parametrize(
    ("case", "changes", "message"),
    [
        ("all", {"noticed": 1, "in_time": 1}, "1 faults were never noticed"),
        ("all", {"in_time": 1}, "1 faults were noticed late"),
        ("all", {"recovered": 0}, "2 faults were not got over"),
        ("all", {"swapped": 3}, "3 pictures changed places"),
        ("all", {"ended": False}, "the run did not end"),
        ("all", {"threads_left": ["sink-x"]}, "threads are left: ['sink-x']"),
        ("memory", {"end_mb": 300.0}, "memory grew from 240.0 to 300.0 MB"),
        ("recordings", {"files": [{"file": "b", "plays": False}]}, "b does not play"),
    ],
)
def test_what_is_wrong_is_said(case: str, changes: dict[str, Any], message: str) -> None:
    (said,) = faults.failures(result(**{case: changes}))
    assert said == message


def test_the_table_of_a_good_run() -> None:
    assert faults.failures(result()) == []
    assert "| visible frozen | 2 | 2 | 1.00 (most 1.00) | 2 | 2 | 1.00 (most 1.00) |" in faults.table(result())


def told(*, at_s: float, **changes: Any) -> list[dict[str, Any]]:
    """What a life of one fault tells."""
    state = {
        "kind": "state", "at_s": at_s, "memory_mb": 200.0, "threads": 9, "files": 20, "swapped": 0,
        "frames": {"whole": 100, "held": 2}, "counted": {"thermal": {"frozen": 1}}, "written": 100, "notes": [],
    }  # fmt: skip
    fault = {
        "kind": "fault",
        "at_s": at_s,
        "name": "thermal frozen",
        "limit_s": 2.0,
        "noticed_s": 1.5,
        "recovered_s": 0.5,
    }
    return [{"kind": "started", "at_s": at_s}, {**fault, **changes}, state]


def test_both_lives_are_put_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = {"kind": "ended", "at_s": 160.0, "threads_left": [], "drops": {}, "age_ms": {}}
    lives = {
        "first": ([*told(at_s=10.0), {"kind": "killed", "at_s": 20.0}], 20.25),
        "second": ([*told(at_s=24.0, noticed_s=2.5), ended], 170.0),
    }
    monkeypatch.setattr(faults, "_live", lambda folder, options, **_: lives[folder.name])
    monkeypatch.setattr(faults, "small_disk", lambda folder: contextlib.nullcontext(None))
    monkeypatch.setattr(faults, "check_session", lambda folder: {"file": folder.name, "plays": True})
    monkeypatch.setattr(faults, "check_video", lambda path, written: {"written": written, "plays": True})
    (tmp_path / "first" / "killed" / "session").mkdir(parents=True)
    settings, rows = faults.measure(argparse.Namespace(folder=tmp_path, minutes=1.0, seed=0))
    assert settings["left_out"] == [faults.NO_DISK]
    by_case = {row["case"]: row for row in rows}
    assert list(by_case) == ["process killed", "thermal frozen", "all", "memory", "recordings"]
    assert by_case["process killed"]["noticed_s"]["median"] == 0.25
    assert by_case["process killed"]["recovered_s"]["median"] == 3.75
    frozen = by_case["thermal frozen"]
    assert (frozen["count"], frozen["noticed"], frozen["in_time"], frozen["recovered"]) == (2, 2, 1, 2)
    assert by_case["all"]["frames"] == {"whole": 200, "held": 4}
    assert by_case["all"]["counted"] == {"thermal": {"frozen": 2}}
    assert [file["file"] for file in by_case["recordings"]["files"]] == [
        "session",
        "first/fused.mkv",
        "second/fused.mkv",
    ]
    assert faults.failures({"rows": rows}) == ["1 faults were noticed late"]
