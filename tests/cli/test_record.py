"""``record``, ``replay`` and ``--log-json`` as their users start them."""

from __future__ import annotations

import json
from pathlib import Path

from .conftest import Cli, Main

CAMERAS = "synthetic:?size=96x64&thermal_size=48x32&bits=16&fps=30&frames=20"


def test_a_session_is_recorded_and_replayed_to_the_bit(main_here: Main, tmp_path: Path) -> None:
    cameras = ("--ir", CAMERAS, "--vis", CAMERAS)
    code, out, err = main_here(
        "record", *cameras, "--out", "rec", "--reserve-mb", "1", "--fuser", "maximum", "--log-json"
    )
    assert code == 0
    assert "record:rec" in out
    lines = [json.loads(line) for line in err.splitlines()]
    assert all(set(line) == {"time", "level", "message"} for line in lines)
    assert any(line["level"] == "info" and "recording into" in line["message"] for line in lines)
    code, out, err = main_here("replay", "rec", "--check", "--sink", "again.mkv")
    assert code == 0, err
    assert "with maximum" in out
    assert "20 of 20 fused frames are bit for bit those recorded" in " ".join(out.split())
    assert (tmp_path / "again.mkv").stat().st_size > 0
    code, _, err = main_here("replay", "rec", "--check", "--fuser", "average")
    assert code == 5
    assert "0 of 20" in err


def test_errors_are_log_lines_too(main_here: Main) -> None:
    code, _, err = main_here("run", "--ir", "none.mp4", "--vis", "none.mp4", "--log-json")
    assert code in (2, 3)
    assert json.loads(err.splitlines()[-1])["level"] == "error"


def test_no_session(main_here: Main) -> None:
    code, _, err = main_here("replay", "nowhere")
    assert code == 3
    assert "no recorded session" in err


def test_keys(main_here: Main, tmp_path: Path) -> None:
    code, out, _ = main_here("keys", "camera")
    assert (code, "camera.key" in out) == (0, True)
    assert (tmp_path / "camera.key").stat().st_mode & 0o777 == 0o600
    code, _, err = main_here("keys", "camera")
    assert code == 2
    assert "never replaced" in err
    code, _, err = main_here("run", "--ir", CAMERAS, "--vis", CAMERAS, "--sink", "zmq:tcp://0.0.0.0:5599")
    assert code == 2
    assert "make keys with rtfusion keys" in err


def test_every_line_of_a_service_is_json_and_tells_its_beginning_and_its_end(cli: Cli) -> None:
    live = f"{CAMERAS}&live=true"
    sinks = ("--sink", "web://127.0.0.1:0", "--sink", "zmq:tcp://127.0.0.1:*")
    done = cli("run", "--ir", live, "--vis", live, *sinks, "--fuser", "average", "--log-json")
    assert done.returncode == 0, done.stderr
    said = [json.loads(line)["message"] for line in done.stderr.splitlines()]
    assert any(line.startswith("the page is at http://127.0.0.1:") for line in said)
    assert any(line.startswith("publishing at tcp://127.0.0.1:") for line in said)
    (beginning,) = (line for line in said if " begins: " in line)
    assert "visible synthetic:?size=96x64" in beginning
    assert "; fuser average; outputs web://127.0.0.1:0, zmq:tcp://127.0.0.1:*" in beginning
    assert said[-1].startswith("finished: ")


def test_a_wrong_command_line_is_a_line_of_the_log_too(cli: Cli) -> None:
    done = cli("run", "--log-json", "--no-such-option")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    told = json.loads(line)
    assert (told["level"], "--no-such-option" in told["message"]) == ("error", True)


def test_help_is_shown_to_whoever_logs_json(cli: Cli) -> None:
    done = cli("run", "--log-json", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage: rtfusion run" in done.stdout
