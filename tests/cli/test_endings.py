"""Processes end as they should: whatever becomes of the terminal, the streams, the parent."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import av
import pytest

from rtfusion.config import load
from rtfusion.errors import ConfigError

from .conftest import Main

LIVE = "synthetic:?live=true&fps=20&size=64x48&frames=0"
FEW = "synthetic:?size=64x48&frames=30"
RUN = [sys.executable, "-m", "rtfusion", "run", "--fuser=average"]
PATIENCE_S = 60


def shell(
    folder: Path, environ: Mapping[str, str], *words: str, streams: str, camera: str = FEW
) -> subprocess.CompletedProcess[str]:
    command = " ".join(f"'{word}'" for word in [*RUN, f"--ir={camera}", f"--vis={camera}", *words])
    return subprocess.run(
        ["sh", "-c", f"exec {command} {streams}"],
        cwd=folder,
        env=dict(environ),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@pytest.mark.parametrize(
    "streams",
    [
        ">&-",
        *(pytest.param(two, marks=pytest.mark.slow) for two in ("2>&-", ">&- 2>&-")),
        "<&- >&- 2>&-",
        "2>/dev/full",
    ],
)
def test_closed_streams_lose_nothing(tmp_path: Path, environ: Mapping[str, str], streams: str) -> None:
    done = shell(tmp_path, environ, "--sink=out.mkv", "--stats-json=s.json", streams=streams)
    assert done.returncode == 0, done.stderr
    assert "bug" not in done.stdout + done.stderr
    assert (tmp_path / "s.json").stat().st_size > 100
    with av.open(tmp_path / "out.mkv") as container:
        assert sum(1 for _ in container.decode(video=0)) == 30


def test_a_table_that_cannot_be_printed_is_an_error_and_the_rest_is_written(
    tmp_path: Path, environ: Mapping[str, str]
) -> None:
    done = shell(tmp_path, environ, "--sink=out.mkv", "--stats-json=s.json", streams=">/dev/full")
    assert (done.returncode, "stdout cannot be written: No space left on device" in done.stderr) == (5, True)
    assert (tmp_path / "s.json").stat().st_size > 100


@pytest.fixture
def hangups_count() -> Iterator[None]:
    """Tests that were started under nohup ignore them, and so would what they start."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hangups_count")
@pytest.mark.parametrize(
    ("number", "ignored"), [(signal.SIGHUP, False), (signal.SIGTERM, False), (signal.SIGHUP, True)]
)
def test_a_hangup_ends_a_run_as_termination_does(
    tmp_path: Path, environ: Mapping[str, str], number: signal.Signals, ignored: bool
) -> None:
    words = [*RUN, f"--ir={LIVE}", f"--vis={LIVE}", "--sink=out.mkv", "--stats-json=s.json"]
    begin = ["nohup", *words] if ignored else words
    with subprocess.Popen(
        begin, cwd=tmp_path, env=dict(environ), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as run:
        end_s = time.monotonic() + PATIENCE_S
        while not (tmp_path / "out.mkv").exists():
            assert time.monotonic() < end_s
            time.sleep(0.05)
        run.send_signal(number)
        if ignored:
            with pytest.raises(subprocess.TimeoutExpired):
                run.wait(1)
            run.send_signal(signal.SIGTERM)
        run.communicate(timeout=PATIENCE_S)
    assert run.returncode == 143
    assert '"reason": "terminated"' in (tmp_path / "s.json").read_text()
    with av.open(tmp_path / "out.mkv") as container:
        assert sum(1 for _ in container.decode(video=0)) > 0


def test_a_mute_camera_holds_nobody_up_and_is_called_mute(tmp_path: Path, environ: Mapping[str, str]) -> None:
    """It takes the connection and says nothing; a request to stop is heard while it is being opened."""
    cases = [(scheme, is_stopped) for scheme in ("rtsp", "http") for is_stopped in (False, True)]
    with contextlib.ExitStack() as open_ends:
        mutes = [open_ends.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in cases]
        runs = []
        for (scheme, _), mute in zip(cases, mutes, strict=True):
            camera = f"{scheme}://127.0.0.1:{mute.getsockname()[1]}/x"
            words = [*RUN, f"--ir={LIVE}", f"--vis={camera}", "--sink=null:"]
            runs.append(
                subprocess.Popen(
                    words, cwd=tmp_path, env=dict(environ), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
                )
            )
        for (_, is_stopped), mute, run in zip(cases, mutes, runs, strict=True):
            mute.settimeout(PATIENCE_S)
            open_ends.enter_context(mute.accept()[0])
            if is_stopped:
                run.send_signal(signal.SIGTERM)
        for (scheme, is_stopped), run in zip(cases, runs, strict=True):
            _, told = run.communicate(timeout=PATIENCE_S)
            assert run.returncode == (143 if is_stopped else 3), told
            if not is_stopped:
                assert "mute" in told or (scheme == "http" and "does not answer in time" in told)


PARENT = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-m", "rtfusion.batch.work", str(os.getpid())], stdin=subprocess.PIPE)
print(child.pid, flush=True)
time.sleep(100)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the system knows no signal for a parent that ends")
@pytest.mark.parametrize("pause_s", [0.0, 1.5])
def test_a_worker_of_a_batch_ends_with_its_parent(environ: Mapping[str, str], pause_s: float) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], env=dict(environ), stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        time.sleep(pause_s)
        parent.kill()
    end_s = time.monotonic() + PATIENCE_S
    while _runs(worker):
        assert time.monotonic() < end_s
        time.sleep(0.05)


def _runs(process: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False


# -- a settings file that nobody named --------------------------------------------------------------------------------


def test_settings_that_were_found_are_the_first_thing_said(main_here: Main, tmp_path: Path) -> None:
    (tmp_path / "rtfusion.toml").write_text('fuser = "average"\n')
    sources = (f"--ir={FEW}", f"--vis={FEW}", "--sink=null:")
    _, _, err = main_here("run", *sources)
    assert err.splitlines()[0] == f"rtfusion: settings from {tmp_path}/rtfusion.toml, found in this folder"
    _, _, err = main_here("run", *sources, "--config=rtfusion.toml")
    assert "settings from" not in err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            'sink = ["web://0.0.0.0:8080?token=0123456789abcdef0123"]',
            r"opens an address .*web://0\.0\.0\.0:8080\?token=\*\*\*",
        ),
        ('sink = ["null:", "zmq:tcp://*:5555?insecure=true"]', "opens an address"),
        ('sink = ["zmq:tcp://192.0.2.1:5555"]', "opens an address"),
        ('sink = ["web://[::]:8080"]', "opens an address"),
        ("overwrite = true", "overwrites files"),
    ],
)
def test_settings_that_were_found_open_and_overwrite_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "rtfusion.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=f"found in this folder, {says}.*name it with --config rtfusion.toml"):
        load({}, file=None, environ={})
    load({}, file=file, environ={})
    load({}, file=None, environ={"RTFUSION_CONFIG": str(file)})
    load({"sink": "null:", "overwrite": "false"}, file=None, environ={})


def test_settings_of_somebody_else_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "rtfusion.toml"
    file.write_text('fuser = "average"\n')
    file.chmod(0o666)
    with pytest.raises(ConfigError, match="can be written by everybody; if it is meant, name it with --config"):
        load({}, file=None, environ={})
    file.chmod(0o644)
    load({}, file=None, environ={})
    monkeypatch.setattr(os, "geteuid", lambda: file.stat().st_uid + 1 if file.stat().st_uid else 1000)
    if file.stat().st_uid == 0:
        pytest.skip("what belongs to root is nobody's trap, and these tests run as root")
    with pytest.raises(ConfigError, match="belongs to another user"):
        load({}, file=None, environ={})


def test_root_does_not_take_the_settings_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file to somebody else")
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "rtfusion.toml"
    file.write_text('fuser = "average"\n')
    os.chown(file, 12_345, 12_345)
    with pytest.raises(ConfigError, match="belongs to another user"):
        load({}, file=None, environ={})
    assert load({}, file=file, environ={}).settings.fuser == "average"
