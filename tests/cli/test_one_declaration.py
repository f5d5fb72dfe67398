"""A new setting is one declaration: everything that speaks of settings knows it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import pytest

from rtfusion.batch.archive import Part, Recording
from rtfusion.batch.work import make_jobs
from rtfusion.cli import batch, job
from rtfusion.config import Loaded, Setting, Settings, load

from .conftest import Main


class More(Settings):
    """All settings and two new ones."""

    haze: Annotated[
        Literal["thin", "thick"],
        Setting(group="Fusion", metavar="NAME", taker="overlay", argument="density", replayed=True),
    ] = "thin"
    """Density of the haze."""
    masks: Annotated[
        Path | None, Setting(group="Input", metavar="FILE", taker="pairs", path="file", decided_by=("replay",))
    ] = None
    """Masks of both cameras."""


@pytest.fixture(autouse=True)
def two_new_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtfusion.config.Settings", More)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Loaded]:
    """What the commands would have run."""
    asked: list[Loaded] = []
    monkeypatch.setattr(job, "run_job", lambda loaded: asked.append(loaded) or 0)
    return asked


def test_help_shows_it_in_its_panel(main_here: Main) -> None:
    text = main_here("run", "--help")[1]
    panel = text[text.index("─ Fusion ─") : text.index("─ Output ─")]
    assert "--haze" in panel
    assert "Density of the haze: thin, thick. [default: thin]" in " ".join(panel.replace("│", " ").split())
    assert "--masks" in text[text.index("─ Input ─") : text.index("─ Pairing ─")]


def test_a_flag_a_variable_and_a_key_of_a_file_set_it(
    main_here: Main, runs: list[Loaded], monkeypatch: pytest.MonkeyPatch
) -> None:
    main_here("run", "--haze", "thick")
    monkeypatch.setenv("RTFUSION_HAZE", "thick")
    main_here("run")
    monkeypatch.delenv("RTFUSION_HAZE")
    Path("rtfusion.toml").write_text('haze = "thick"\nmasks = "masks.png"\n')
    main_here("run")
    assert [loaded.settings.haze for loaded in runs] == ["thick"] * 3
    assert [loaded.origins["haze"] for loaded in runs] == [
        "flag --haze",
        "environment RTFUSION_HAZE",
        "file rtfusion.toml",
    ]
    assert runs[-1].settings.masks == Path("masks.png")
    assert json.loads(main_here("config", "show", "--json")[1])["haze"]["value"] == "thick"


def test_a_wrong_value_is_named_with_what_is_legal(main_here: Main) -> None:
    code, _, said = main_here("run", "--haze", "thik")
    assert code == 2
    assert "haze is 'thik' (flag --haze); it should be thin or thick; did you mean thick?" in " ".join(said.split())


def test_a_replay_takes_over_what_was_recorded(main_here: Main, runs: list[Loaded]) -> None:
    stream = {"uri": "x", "rate_hz": 30.0, "continuous": True}
    recorded = {"haze": "thick", "masks": "masks.png", "pair": "hold"}
    values = {"schema": 1, "settings": recorded, "streams": {"visible": stream, "thermal": stream}}
    Path("session").mkdir()
    Path("session/session.json").write_text(json.dumps(values))
    main_here("replay", "session")
    main_here("replay", "session", "--haze", "thin")
    assert [loaded.settings.haze for loaded in runs] == ["thick", "thin"]
    assert (runs[0].settings.masks, runs[0].settings.pair) == (None, "once")
    assert "No such option: --masks" in main_here("replay", "session", "--masks", "x.png")[2]


def test_the_fingerprint_of_a_batch_changes_with_it(tmp_path: Path) -> None:
    masks = tmp_path / "masks.png"
    parts = {band: Part(place=str(tmp_path / band), is_folder=True, files={}) for band in ("visible", "thermal")}
    recording = Recording(name="yard", **parts)

    def fingerprint(**values: object) -> str:
        settings = batch._plain(More(fuser="overlay", masks=masks, **values))
        (made,) = make_jobs([recording], out=str(tmp_path), settings=settings)
        return made.fingerprint

    masks.write_text("one")
    before = fingerprint()
    assert fingerprint() == fingerprint(haze="thin") == before
    assert fingerprint(haze="thick") != before
    masks.write_text("two")
    assert fingerprint() != before


def test_it_reaches_who_takes_it() -> None:
    assert More(haze="thick").arguments("overlay")["density"] == "thick"
    assert load({"masks": "~/masks.png"}, file=None, environ={}).settings.arguments("pairs")["masks"] == (
        Path("~/masks.png").expanduser()
    )
