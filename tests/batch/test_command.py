"""`rtfusion batch` as a person runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rtfusion.batch.account import NAME
from rtfusion.batch.work import DONE, STAGING
from rtfusion.cli.app import app
from rtfusion.cli.batch import _plain
from rtfusion.config import Settings
from rtfusion.errors import ConfigError
from tests.batch.archives import InThisProcess, batch, make_archive, tree
from tests.batch.test_run import WAIT_S, wait_for

COMMAND = [sys.executable, "-m", "rtfusion", "batch"]


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=WAIT_S, check=False)


def test_an_archive_with_a_broken_recording(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "archive", frames=3, videos=("drive/night", "yard"))
    (archive / "yard" / "ir.mp4").write_bytes(b"no video")
    done = command(str(archive), "--out", str(tmp_path / "out"), "--jobs", "2", "--fuser", "average")
    assert done.returncode == 3, done.stderr
    assert "3 recordings: 0 were done, 2 fused now" in done.stdout
    assert "failed: yard:" in done.stdout
    assert "[3/3]" in done.stderr
    assert '"fuser": "average"' in (tmp_path / "out" / "stills" / DONE).read_text()


def test_brackets_in_names_and_errors_are_shown_as_they_are(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "archive", frames=3, videos=("[/night] [red]",))
    (archive / "[/night] [red]" / "ir.mp4").write_bytes(b"no video")
    arguments = (str(archive), "--out", str(tmp_path / "out"), "--fuser", "average")
    estimated = command(*arguments, "--dry-run")
    assert "cannot be fused: [/night] [red]: " in estimated.stdout, estimated.stderr
    done = command(*arguments)
    assert done.returncode == 3, done.stderr
    assert "failed: [/night] [red]: " in done.stdout
    status = command("status", str(tmp_path / "out"))
    assert status.returncode == 3, status.stderr
    assert "[red]" in status.stdout


def test_what_a_stopped_batch_left_is_not_said_to_have_failed(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "archive", frames=60, size_px=(160, 120), videos=("drive/night", "yard"))
    arguments = [str(archive), "--out", str(tmp_path / "out"), "--jobs", "1", "--fuser", "pyramid"]
    with subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as first:
        wait_for(lambda: any((tmp_path / "out").glob(f"{STAGING}/*/fused.mp4")))
        first.send_signal(signal.SIGINT)
        said, _ = first.communicate(timeout=WAIT_S)
    assert first.returncode == 130
    lines = " ".join(said.split())
    assert " 0 failed, " in lines
    assert "unfinished: yard: the batch was stopped" in lines


def test_settings_that_a_batch_decides_itself_are_no_flags_of_it(tmp_path: Path) -> None:
    refused = CliRunner().invoke(app, ["batch", str(tmp_path), "--out", "out", "--sink", "x.mp4"])
    assert "No such option: --sink" in refused.stderr


def test_a_killed_batch_is_taken_up_where_it_was(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "archive", frames=60, size_px=(160, 120), videos=("drive/night", "yard"))
    batch(archive, tmp_path / "undisturbed", settings=settings_of_the_command(), workers=InThisProcess())
    arguments = [str(archive), "--out", str(tmp_path / "out"), "--jobs", "1", "--fuser", "pyramid"]
    with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        wait_for(lambda: any((tmp_path / "out").glob(f"{STAGING}/*/fused.mp4")))
        os.kill(first.pid, signal.SIGKILL)
    again = command(*arguments)
    assert again.returncode == 0, again.stderr
    assert tree(tmp_path / "out") == tree(tmp_path / "undisturbed")


def test_status_tells_of_a_batch_after_it_and_while_it_runs(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "archive", frames=60, size_px=(160, 120), videos=("drive/night", "yard"))
    (archive / "yard" / "ir.mp4").write_bytes(b"no video")
    out = str(tmp_path / "out")
    nothing = command("status", out)
    assert nothing.returncode == 2
    assert "no account of a batch" in nothing.stderr
    arguments = [str(archive), "--out", out, "--jobs", "1", "--fuser", "pyramid"]
    with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        wait_for(lambda: any((tmp_path / "out").glob(f"{STAGING}/*/fused.mp4")))
        wait_for((tmp_path / "out" / STAGING / "running.json").exists)
        first.send_signal(signal.SIGSTOP)  # it is not to end while it is asked about
        running = command("status", out)
        first.send_signal(signal.SIGKILL)
    assert running.returncode == 0
    assert f"process {first.pid}" in running.stdout
    assert "1 running" in running.stdout
    left = command("status", out)
    assert left.returncode == 130
    assert "interrupted" in left.stdout
    again = command(*arguments)
    assert again.returncode == 3
    said = json.loads(command("status", out, "--json").stdout)
    assert (said["running"], said["states"], said["exit_code"]) == (False, {"done": 2, "failed": 1}, 3)
    assert list(said["failed"]) == ["yard"]
    account = (tmp_path / "out" / NAME).read_text()
    assert account.count('"recording":"drive/night"') == 1, "one line for each in the end"


def test_what_failed_is_not_tried_again_unless_asked_or_changed(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "archive", frames=3, videos=("yard",))
    good = (archive / "yard" / "ir.mp4").read_bytes()
    (archive / "yard" / "ir.mp4").write_bytes(b"no video")
    arguments = [str(archive), "--out", str(tmp_path / "out"), "--fuser", "average"]
    assert command(*arguments).returncode == 3
    again = command(*arguments)
    assert again.returncode == 3
    assert "1 had failed before and were not tried again; --retry failed does" in again.stdout
    assert "yard" not in again.stderr
    assert "[2/2] yard: failed" in command(*arguments, "--retry", "failed").stderr
    (archive / "yard" / "ir.mp4").write_bytes(good)
    assert command(*arguments).returncode == 0


def test_a_dry_run_counts_and_writes_nothing(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "archive", frames=60, videos=("drive/night", "yard"))
    (archive / "yard" / "ir.mp4").write_bytes(b"no video")
    arguments = [str(archive), "--out", str(tmp_path / "out"), "--fuser", "average", "--dry-run"]
    said = json.loads(command(*arguments, "--json").stdout)
    assert (said["recordings"], said["left"], said["samples"]) == (3, 3, 2)
    assert said["bytes_left"] == sum(path.stat().st_size for path in archive.rglob("*") if path.is_file())
    assert list(said["unreadable"]) == ["yard"]
    assert said["hours"] * 3600 == pytest.approx(3, rel=0.4), (
        "by bytes: two seconds, and the half that is left of the broken one"
    )
    assert said["core_hours"] > 0
    assert not (tmp_path / "out").exists()
    text = command(*arguments).stdout
    assert "3 recordings, 3 to do" in text
    assert "core-hours" in text


def test_a_dry_run_counts_what_is_done_by_other_settings_as_to_do(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "archive", frames=3, videos=("yard",))
    out = tmp_path / "out"
    batch(archive, out, settings=settings_of_the_command(), workers=InThisProcess())
    for fuser, left in (("pyramid", 0), ("average", 2)):
        done = CliRunner().invoke(
            app, ["batch", str(archive), "--out", str(out), "--fuser", fuser, "--dry-run", "--json"]
        )
        assert json.loads(done.stdout)["left"] == left


def test_a_folder_of_the_name_of_a_model_is_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "small").mkdir()
    monkeypatch.chdir(tmp_path)
    assert _plain(Settings(model="small"))["model"] == "small"
    (tmp_path / "mine.onnx").touch()
    assert _plain(Settings(model="mine.onnx"))["model"] == str(tmp_path / "mine.onnx")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["archive"], "--out is missing"),
        (["archive", "more", "--out", "out"], "one archive at a time"),
        (["status"], "status wants one place"),
        (["archive", "--out", "out", "--retry", "all"], "expected failed"),
        (["archive", "--out", "out", "--cores", "2"], "--cores is for a cluster"),
        (["archive", "--out", "o?t"], "a question mark"),
        (["archive", "--out", "nonsense://x/y"], "no storage is known by nonsense://"),
        (["nonsense://archive", "--out", "out"], "no storage is known by nonsense://"),
        (["archive", "--out", "out", "--model", "nonsense://x/m.onnx"], "no storage is known by nonsense://"),
    ],
)
def test_wrong_command_lines_are_told_and_make_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    refused = CliRunner().invoke(app, ["batch", *arguments])
    assert isinstance(refused.exception, ConfigError)
    assert says in str(refused.exception)
    assert list(tmp_path.iterdir()) == []


def settings_of_the_command() -> dict[str, object]:
    """As the command hands them on."""
    return _plain(Settings(fuser="pyramid"))
