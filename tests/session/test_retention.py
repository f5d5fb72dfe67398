"""Recordings that are kept for some time, or up to some size: what goes, and what is never touched."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from rtfusion.session.format import load_session
from rtfusion.session.record import RecordSink
from rtfusion.session.retention import Retention
from rtfusion.text import parse_size_gb, parse_time_s
from tests.session.test_record import context, fused_of, record, session_of

NOW_S = 1_900_000_000.0
HOUR_S = 3600.0


def make_session(root: Path, name: str, *, hours_old: list[float], segment_bytes: int = 1000) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "session.json").write_text("{}")
    for number, hours in enumerate(hours_old):
        for file in (f"{number:06}.jsonl", f"{number:06}-visible.mkv"):
            (folder / file).write_bytes(bytes(segment_bytes // 2))
            os.utime(folder / file, (NOW_S - HOUR_S * hours,) * 2)
    return folder


class FreeSpace(NamedTuple):
    """What `shutil.disk_usage` says."""

    free: int


def set_age(folder: Path, *, hours: float) -> None:
    for path in folder.iterdir():
        os.utime(path, (time.time() - HOUR_S * hours,) * 2)


def segments(root: Path) -> set[str]:
    return {f"{path.parent.name}/{path.stem}" for path in root.glob("*/*.jsonl")}


def apply(root: Path, written: Path, **rule: float) -> int:
    return Retention(now_s=lambda: NOW_S, **rule).apply(root, written=written)


def test_what_is_too_old_goes(tmp_path: Path) -> None:
    make_session(tmp_path, "a", hours_old=[50, 49])
    make_session(tmp_path, "b", hours_old=[25, 23])
    now = make_session(tmp_path, "c", hours_old=[1, 0])
    assert apply(tmp_path, now, keep_s=24 * HOUR_S) == 3
    assert segments(tmp_path) == {"b/000001", "c/000000", "c/000001"}
    assert not (tmp_path / "a").exists()


def test_the_oldest_go_where_there_is_too_much(tmp_path: Path) -> None:
    make_session(tmp_path, "a", hours_old=[50, 5])
    now = make_session(tmp_path, "b", hours_old=[40, 0])
    assert apply(tmp_path, now, max_bytes=2000) == 2
    assert segments(tmp_path) == {"a/000001", "b/000001"}
    assert (now / "session.json").exists()


def test_what_is_being_written_stays(tmp_path: Path) -> None:
    now = make_session(tmp_path, "a", hours_old=[100, 90])
    assert apply(tmp_path, now, keep_s=HOUR_S, max_bytes=1) == 1
    assert segments(tmp_path) == {"a/000001"}


def test_nothing_else_is_touched(tmp_path: Path) -> None:
    now = make_session(tmp_path / "recordings", "now", hours_old=[0])
    other = make_session(tmp_path, "elsewhere", hours_old=[500])
    root = tmp_path / "recordings"
    (root / "link").symlink_to(other)
    (root / "notes").mkdir()
    (root / "notes" / "000000.jsonl").write_text("of somebody")
    mixed = make_session(root, "mixed", hours_old=[500])
    (mixed / "thesis.txt").write_text("keep me")
    (mixed / "000000-visible.mkv").unlink()
    (mixed / "000000-visible.mkv").symlink_to(other / "000000-visible.mkv")
    apply(root, now, keep_s=HOUR_S, max_bytes=1)
    assert (other / "000000-visible.mkv").exists()
    assert (other / "000000.jsonl").exists()
    assert (root / "notes" / "000000.jsonl").exists()
    assert (mixed / "thesis.txt").read_text() == "keep me"


def test_without_a_rule_nothing_goes(tmp_path: Path) -> None:
    now = make_session(tmp_path, "a", hours_old=[9000, 0])
    assert apply(tmp_path, now) == 0
    assert len(segments(tmp_path)) == 2


def test_a_run_keeps_to_it_and_what_is_left_plays(tmp_path: Path) -> None:
    old = make_session(tmp_path / "sessions", "old", hours_old=[50, 49], segment_bytes=1_000_000)
    record(tmp_path, frames=20, query="&max_gb=0.001")
    assert not old.exists()
    assert list(load_session(session_of(tmp_path)).pairs())


def test_the_first_segments_of_a_run_go_too_and_the_rest_plays(tmp_path: Path) -> None:
    sink = RecordSink(tmp_path, context=context(), reserve_mb=1, segment_s=1, max_gb=1e-6)
    for number in range(120):
        sink.write(fused_of(number))
    sink.close(aborted=False)
    assert segments(tmp_path) == {f"{sink.folder.name}/{number:06}" for number in (2, 3)}
    recorded = [pair.sequence for pair in load_session(sink.folder).pairs()]
    assert recorded == list(range(recorded[0], 120))
    assert len(recorded) == pytest.approx(60, abs=2)


def test_a_full_disk_has_room_again_when_something_is_old_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    young = make_session(tmp_path, "young", hours_old=[0])
    set_age(young, hours=0.5)
    sink = RecordSink(tmp_path, context=context(), reserve_mb=5, keep=HOUR_S, segment_s=1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: FreeSpace(4_000_000 if young.exists() else 10_000_000))
    for number in range(90):
        if number == 40:
            set_age(young, hours=2)
        sink.write(fused_of(number))
    sink.close(aborted=False)
    assert not young.exists()
    assert 40 <= sink.drops["disk_full"] < 80
    recorded = [pair.sequence for pair in load_session(sink.folder).pairs()]
    assert recorded == list(range(sink.drops["disk_full"], 90))


def test_a_run_begins_on_a_disk_that_is_full_of_what_is_too_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = make_session(tmp_path, "old", hours_old=[0])
    set_age(old, hours=2)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: FreeSpace(4_000_000 if old.exists() else 10_000_000))
    RecordSink(tmp_path, context=context(), reserve_mb=5, keep=HOUR_S).close(aborted=False)
    assert not old.exists()


def test_what_cannot_be_deleted_costs_no_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Retention, "apply", refuse)
    checksums = record(tmp_path, frames=5, query="&keep=1d")
    assert len(list(load_session(session_of(tmp_path)).pairs())) == len(checksums) == 5


@pytest.mark.parametrize(("text", "time_s"), [("90m", 5400), ("36h", 129_600), ("7d", 604_800), ("2w", 1_209_600)])
def test_times(text: str, time_s: float) -> None:
    assert parse_time_s(text) == time_s


@pytest.mark.parametrize("text", ["", "7", "d", "0d", "-1d", "1y", "1.5d", "٣d"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="such as 7d"):
        parse_time_s(text)


@pytest.mark.parametrize("text", ["", "0", "-1", "nan", "1e9", "5GB"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="such as 500"):
        parse_size_gb(text)
