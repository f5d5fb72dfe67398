from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rtfusion.batch import Account, Entry, storage, summarize
from rtfusion.batch.account import ALL_FILES, NAME, of_many, precision_of
from rtfusion.batch.storage import open_store
from tests.batch.archives import STILLS, InThisProcess, batch, make_archive


def account_of(out: Path) -> Account:
    return Account(open_store(out))


def test_everything_that_is_known_of_a_recording_is_in_its_entry(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "archive", frames=5)
    (archive / STILLS / "vis" / "b.png").unlink()
    (archive / "yard" / "ir.mp4").write_bytes(b"no video")
    batch(archive, tmp_path / "out", settings={"fuser": "learned", "model": "small", "precision": "f32"})
    entries = account_of(tmp_path / "out").entries
    stills, yard, night = entries[STILLS], entries["yard"], entries["drive/night"]
    assert (stills.state, stills.attempts, stills.causes, stills.exit_code) == ("done", 1, (), 0)
    assert stills.frames == {"visible": 2, "thermal": 3, "pairs": 2, "fused": 2}
    assert sum(stills.drops["thermal"].values()) == 1
    assert stills.cpu_s > 0
    assert stills.seconds > 0
    assert stills.host
    assert str(stills.started) <= str(stills.ended)
    assert (stills.settings["fuser"], stills.model["name"], len(stills.model["sha256"])) == ("learned", "small", 64)
    assert night.bytes_in == sum(path.stat().st_size for path in (archive / "drive/night").iterdir())
    assert len(night.outputs["fused.mp4"]["sha256"]) == 64
    assert (yard.state, yard.attempts, yard.exit_code) == ("failed", 1, 3)
    assert "ir.mp4" in yard.cause
    assert precision_of(entries) == "f32"


def test_what_is_no_whole_line_is_left_out_and_the_results_tell(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "archive", frames=3)
    batch(archive, tmp_path / "out", workers=InThisProcess())
    path = tmp_path / "out" / NAME
    path.write_bytes(path.read_bytes()[:-200])  # the disk was full
    account = account_of(tmp_path / "out")
    assert account.damaged == 1
    assert "yard" not in account.entries
    begun: list[str] = []
    assert batch(archive, tmp_path / "out", workers=InThisProcess(begun)).already_done == 4
    assert begun == []
    assert account_of(tmp_path / "out").entries["yard"].state == "done"
    path.unlink()
    assert batch(archive, tmp_path / "out", workers=InThisProcess(begun)).already_done == 4
    assert len(account_of(tmp_path / "out").entries) == 4


def test_lines_of_another_version_and_rubbish_do_not_stop_it(tmp_path: Path) -> None:
    lines: list[Any] = [
        {"recording": "a", "state": "done", "of_a_later_version": 1},
        {"recording": "b", "state": "dancing"},
        {"recording": ["c"], "attempts": {}},
        [1],
    ]
    content = "".join(f"{json.dumps(line)}\n" for line in lines)
    (tmp_path / NAME).write_bytes(content.encode() + b"\xff\xfe\n{")
    account = account_of(tmp_path)
    assert list(account.entries) == ["a"]
    assert account.damaged == 5


def test_of_many_files_their_number_and_one_checksum_is_kept() -> None:
    few = {f"{number}.png": {"bytes": 2, "sha256": str(number)} for number in range(3)}
    assert of_many(few) == few
    many = {f"{number}.png": {"bytes": 2, "sha256": str(number)} for number in range(1000)}
    told = of_many(many)[ALL_FILES]
    assert (told["files"], told["bytes"]) == (1000, 2000)
    assert of_many({**many, "0.png": {"bytes": 2, "sha256": "other"}})[ALL_FILES]["sha256"] != told["sha256"]


def test_the_exit_code_is_of_the_account() -> None:
    entries = {
        "a": Entry(recording="a", state="done", attempts=2, frames={"fused": 7}, cpu_s=1.0),
        "b": Entry(recording="b", state="failed", attempts=1, exit_code=3, causes=("broken",)),
        "c": Entry(recording="c", state="unfinished", attempts=1, exit_code=5, causes=("no answer",)),
    }
    summary = summarize(entries)
    assert summary.states == {"done": 1, "failed": 1, "unfinished": 1}
    assert (summary.exit_code, summary.frames, summary.restarts) == (3, 7, 1)
    assert summary.failed == {"b": "broken", "c": "no answer"}
    assert summarize({"a": entries["a"]}).exit_code == 0


def test_where_nothing_can_be_added_to_a_file_it_is_written_anew_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fsspec", reason="storage by URL is not installed: pip install -e '.[s3]'")
    store = storage.open_store("memory://account/out")
    account = Account(store)
    account.begin({"recordings": 1}, [Entry(recording="a")])
    account.note(Entry(recording="a", state="running", attempts=1))
    account.update()
    assert Account(store).entries["a"].state == "waiting", "a moment ago it was written"
    monkeypatch.setattr("rtfusion.batch.account.LEAST_PERIOD_S", 0.0)
    monkeypatch.setattr("rtfusion.batch.account.SHARE_OF_TIME", 1e9)
    account.update()
    assert Account(store).entries["a"].state == "running"
    account.end({})
    assert Account(store).last_batch["recordings"] == 1
