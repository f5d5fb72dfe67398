from __future__ import annotations

import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the trainer needs torch: pip install -e '.[train]'")

from rtfusion_trainer.config import TrainingConfig, config_from_dict, load_config

from rtfusion.errors import ConfigError


def test_small_is_a_preset():
    config = load_config("small")
    assert config.network.name == "small"
    assert 0 <= config.enhance_default <= 1


@pytest.mark.parametrize("size", ["small", "large"])
def test_the_stages_of_what_ships_are_of_one_network_and_are_the_presets_of_the_script(size):
    script = (Path(__file__).parents[2] / "scripts" / "train-student").read_text()
    stages = [stage.replace("$size", size) for stage in re.findall(r'^stage "(\S+)"', script, flags=re.MULTILINE)]
    assert stages == [size, f"{size}-people", f"{size}-ring"]
    first, *others = (load_config(stage) for stage in stages)
    assert first.findable == TrainingConfig().findable
    for other in others:
        assert other.network == first.network
        assert other.findable == replace(first.findable, every=1)


def test_what_a_file_leaves_out_keeps_its_default(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("[schedule]\nsteps = 7\n[network]\ndilations = [1, 3]\n")
    config = load_config(str(path))
    assert config.schedule.steps == 7
    assert config.network.dilations == (1, 3)
    assert config.weights == TrainingConfig().weights


def test_a_configuration_survives_a_checkpoint():
    config = load_config("small")
    assert config_from_dict(asdict(config)) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stepz = 1", "no setting 'stepz'"),
        ("[schedule]\nsteps = 'many'", "steps is 'many'; expected a number of type int"),
        ("[schedule]\nsteps = 1.5", "steps is 1.5"),
        ("[schedule", "is not TOML"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path, text, message):
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(str(path))


def test_an_unknown_preset_names_the_known():
    with pytest.raises(ConfigError, match=r"known: .*small"):
        load_config("huge")


def test_the_preset_of_the_tutorial_is_one(tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/tutorials/train.md").read_text(encoding="utf-8")
    path = tmp_path / "mine.toml"
    path.write_text(page.partition("```toml\n")[2].partition("```")[0], encoding="utf-8")
    mine, small = load_config(str(path)), load_config("small")
    assert mine.network.name == "mine"
    assert replace(mine.network, name="small") == small.network


def test_a_preset_that_is_not_there_is_named_as_it_was_given(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"^there is no preset 'nix'; known: .*small.*, or a file whose name ends in .toml$"
    ):
        load_config("nix")
    with pytest.raises(ConfigError, match=r"^there is no file .*mine.toml; known: "):
        load_config(str(tmp_path / "mine.toml"))
