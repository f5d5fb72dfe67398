"""``rtfusion config show``: values with their origins."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import Main


def test_the_table_names_value_and_origin(main_here: Main, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("rtfusion.toml").write_text('fuser = "average"\nloop = 3\nsink = ["fused.mp4"]\n')
    monkeypatch.setenv("RTFUSION_FUSER", "maximum")
    code, out, err = main_here("config", "show", "--loop", "5")
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.strip()}
    assert (code, err) == (0, "")
    assert rows["fuser"] == ["maximum", "environment", "RTFUSION_FUSER"]
    assert rows["loop"] == ["5", "flag", "--loop"]
    assert rows["sink"] == ["fused.mp4", "file", "rtfusion.toml"]
    assert rows["pair"] == ["once", "default"]
    assert "\x1b" not in out


def test_json(main_here: Main) -> None:
    _, out, _ = main_here("config", "show", "--json", "--sink", "a.mp4", "--sink", "null:", "--no-pace")
    settings = json.loads(out)
    assert settings["sink"] == {"value": ["a.mp4", "null:"], "origin": "flag --sink"}
    assert settings["pace"] == {"value": False, "origin": "flag --pace"}
    assert settings["max_frames"] == {"value": None, "origin": "default"}


def test_a_wrong_setting_is_one_line(main_here: Main) -> None:
    Path("rig.toml").write_text("fusr = 1")
    code, out, err = main_here("config", "show", "--config", "rig.toml")
    assert (code, out) == (2, "")
    assert err == "rtfusion: the settings file rig.toml has the unknown key fusr; did you mean fuser?\n"


def test_debug_shows_the_traceback(main_here: Main) -> None:
    code, _, err = main_here("config", "show", "--debug", "--loop", "0")
    assert code == 2
    assert "Traceback" in err
    assert err.endswith("rtfusion: loop is '0' (flag --loop); it should be greater than or equal to 1\n")


def test_passwords_are_not_shown(main_here: Main) -> None:
    secret = ("--ir", "rtsp://me:s3cret@camera/1", "--vis", "http://camera/a?token=s3cret")
    for form in ((), ("--json",)):
        _, out, err = main_here("config", "show", *form, *secret)
        assert "s3cret" not in out + err
        assert "rtsp://***@camera/1" in out
