"""Settings of parts of an archive, by patterns of names."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rtfusion.batch import by_rules, find_recordings, read_rules
from rtfusion.batch.work import DONE
from rtfusion.cli.app import app
from rtfusion.errors import ConfigError
from rtfusion.registration import Calibration
from tests.batch.archives import make_archive, tree


def write_rules(folder: Path, text: str) -> Path:
    path = folder / "rigs.toml"
    path.write_text(text)
    return path


def command(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["batch", *map(str, arguments)], env={"COLUMNS": "200"})


def rig(shift_px: float) -> Calibration:
    return Calibration.from_homography(
        visible_from_thermal_px=[[1.0, 0.0, shift_px], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        visible_size_px=(96, 64),
        thermal_size_px=(96, 64),
    )


def test_each_recording_is_fused_by_the_rules_that_speak_of_it(tmp_path: Path) -> None:
    archive, rules = make_archive(tmp_path / "archive", frames=3), tmp_path / "rules"
    rules.mkdir()
    rig(5.0).save(rules / "car.json")
    path = write_rules(
        rules, '["drive/*"]\ncalibration = "car.json"\nfuser = "maximum"\n["*night"]\nfuser = "pyramid"\n'
    )
    done = command(archive, "--out", tmp_path / "out", "--jobs", 1, "--fuser", "average", "--rules", path)
    assert done.exit_code == 0, done.output
    settings = {
        name: json.loads((tmp_path / "out" / name / DONE).read_text())["settings"]
        for name in ("drive/day", "drive/night", "yard", "stills")
    }
    assert {name: one["fuser"] for name, one in settings.items()} == {
        "drive/day": "maximum",  # of the rule, which is narrower than a flag
        "drive/night": "pyramid",  # of two rules the later one
        "yard": "average",
        "stills": "average",
    }
    assert {name for name, one in settings.items() if "calibration" in one} == {"drive/day", "drive/night"}
    before = tree(tmp_path / "out")
    again = command(archive, "--out", tmp_path / "out", "--jobs", 1, "--fuser", "average", "--rules", path)
    assert "4 were done, 0 fused now" in again.output
    assert tree(tmp_path / "out") == before
    rig(6.0).save(rules / "car.json")
    other = command(archive, "--out", tmp_path / "out", "--jobs", 1, "--fuser", "average", "--rules", path)
    assert isinstance(other.exception, ConfigError), "another calibration is another result"
    assert "by other settings" in str(other.exception)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[yrad]\nfuser = 'average'\n", r'no recording is called like "yrad"; the first one is called "drive/day"'),
        ("[yard]\nfusser = 'average'\n", r'\["yard"\] has the unknown key fusser; did you mean fuser\?'),
        ("[yard]\nsink = ['x.mp4']\n", r'\["yard"\] has sink, which rtfusion batch decides itself'),
        ("[yard]\nfuser = 'nix'\n", r"fuser is 'nix' \(file .*rigs.toml, \[\"yard\"\]\)"),
        ("[yard]\nenhance = 5\n", r"enhance is 5 \(file .*rigs.toml, \[\"yard\"\]\)"),
        ("[yard]\ndetails = 1\n", r'\["yard"\] has the unknown key details'),
        ("yard = 'average'\n", r"has yard = 'average'; expected tables of settings by patterns of names"),
        ("[yard\n", r"is not valid TOML"),
    ],
)
def test_rules_that_cannot_be_obeyed_are_refused_before_anything_is_fused(tmp_path: Path, text: str, said: str) -> None:
    archive, path = make_archive(tmp_path / "archive", frames=2), write_rules(tmp_path, text)
    refused = command(archive, "--out", tmp_path / "out", "--rules", path)
    assert isinstance(refused.exception, ConfigError)
    assert re.search(said, str(refused.exception))
    assert not (tmp_path / "out").exists()


def test_a_file_of_rules_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*none\.toml: No such file"):
        read_rules(tmp_path / "none.toml")


def test_patterns_reach_over_folders_and_mean_case(tmp_path: Path) -> None:
    recordings = find_recordings(make_archive(tmp_path / "archive", frames=2))
    (rule,) = read_rules(write_rules(tmp_path, '["[dy]*"]\nfuser = "average"\n'))
    groups = by_rules(recordings, [rule])
    assert {tuple(one.name for one in some) for some in groups.values()} == {
        ("drive/day", "drive/night", "yard"),
        ("stills",),
    }
    with pytest.raises(ConfigError, match="no recording is called like"):
        by_rules(recordings, read_rules(write_rules(tmp_path, '["Drive/*"]\nfuser = "average"\n')))
