"""``rtfusion config show``: values with their origins."""

from __future__ import annotations

import json
from pathlib import Path

from .conftest import Cli


def test_the_table_names_value_and_origin(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "rtfusion.toml").write_text('fuser = "average"\nloop = 3\nsink = ["fused.mp4"]\n')
    result = cli("config", "show", "--loop", "5", RTFUSION_FUSER="maximum")
    rows = {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines() if line.strip()}
    assert (result.returncode, result.stderr) == (0, "")
    assert rows["fuser"] == ["maximum", "environment", "RTFUSION_FUSER"]
    assert rows["loop"] == ["5", "flag", "--loop"]
    assert rows["sink"] == ["fused.mp4", "file", "rtfusion.toml"]
    assert rows["pair"] == ["once", "default"]
    assert "\x1b" not in result.stdout


def test_json(cli: Cli) -> None:
    result = cli("config", "show", "--json", "--sink", "a.mp4", "--sink", "null:", "--no-pace")
    settings = json.loads(result.stdout)
    assert settings["sink"] == {"value": ["a.mp4", "null:"], "origin": "flag --sink"}
    assert settings["pace"] == {"value": False, "origin": "flag --pace"}
    assert settings["max_frames"] == {"value": None, "origin": "default"}


def test_a_wrong_setting_is_one_line(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "rig.toml").write_text("fusr = 1")
    result = cli("config", "show", "--config", "rig.toml")
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr == "rtfusion: the settings file rig.toml has the unknown key fusr; did you mean fuser?\n"


def test_debug_shows_the_traceback(cli: Cli) -> None:
    result = cli("config", "show", "--debug", "--loop", "0")
    assert result.returncode == 2
    assert "Traceback" in result.stderr
    assert result.stderr.endswith("rtfusion: loop is '0' (flag --loop); it should be greater than or equal to 1\n")


def test_passwords_are_not_shown(cli: Cli) -> None:
    secret = ("--ir", "rtsp://me:s3cret@camera/1", "--vis", "http://camera/a?token=s3cret")
    for result in (cli("config", "show", *secret), cli("config", "show", "--json", *secret)):
        assert "s3cret" not in result.stdout + result.stderr
        assert "rtsp://***@camera/1" in result.stdout
