"""`rtfusion batch` as a person runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from rtfusion.batch.work import DONE, STAGING
from rtfusion.cli.app import app
from tests.batch.archives import make_archive, tree
from tests.batch.test_run import WAIT_S, batch, in_this_process, wait_for

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


def test_settings_that_a_batch_decides_itself_are_no_flags_of_it(tmp_path: Path) -> None:
    refused = CliRunner().invoke(app, ["batch", str(tmp_path), "--out", "out", "--sink", "x.mp4"])
    assert "No such option: --sink" in refused.stderr


def test_a_killed_batch_is_taken_up_where_it_was(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "archive", frames=60, size_px=(160, 120), videos=("drive/night", "yard"))
    batch(archive, tmp_path / "undisturbed", settings=settings_of_the_command(), workers=in_this_process([]))
    arguments = [str(archive), "--out", str(tmp_path / "out"), "--jobs", "1", "--fuser", "pyramid"]
    with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        wait_for(lambda: any((tmp_path / "out").glob(f"{STAGING}/*/fused.mp4")))
        os.kill(first.pid, signal.SIGKILL)
    again = command(*arguments)
    assert again.returncode == 0, again.stderr
    assert tree(tmp_path / "out") == tree(tmp_path / "undisturbed")


def settings_of_the_command() -> dict[str, object]:
    """As the command hands them on."""
    from rtfusion.cli.batch import _plain
    from rtfusion.config import Settings

    return _plain(Settings(fuser="pyramid"))
