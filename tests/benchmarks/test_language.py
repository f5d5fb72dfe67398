"""The suite of language: what it counts, on sentences that nobody wrote for the rules, without an encoder."""

from __future__ import annotations

import pytest

from benchmarks.intents import language
from benchmarks.intents.language import Asked, rows_of
from rtfusion.intents import say


@pytest.fixture(scope="module")
def figures() -> dict[str, float]:
    rows = rows_of(language.asked("none"), "no encoder", right_bar=0.75)
    return {row["figure"]: row["value"] for row in rows}


def test_there_are_sentences_of_every_kind_in_both_languages() -> None:
    answers = language.asked("none")
    assert len(answers) == 500
    for kind in (*language.KINDS, "offtopic"):
        assert {one.lang for one in answers if one.kind == kind} == {"en", "zh"}


def test_what_was_measured_holds(figures: dict[str, float]) -> None:
    """A little below the committed figures, which are in docs/language.md."""
    assert figures[language.RIGHT] >= 0.75
    assert figures[language.TURNED] <= 0.02
    assert figures[language.TAKEN] >= 0.89
    assert figures[language.REFUSED] >= 0.94


def test_of_sentences_that_deny_few_are_turned() -> None:
    answers = language.asked("none", language.DENIED)
    assert len(answers) == 197
    assert {one.lang for one in answers} == {"en", "zh"}
    figures = {row["figure"]: row["value"] for row in language.denied_rows(answers, "no encoder")}
    assert figures[language.TURNED] <= 0.02
    assert figures[language.TAKEN] >= 0.7


def test_an_axis_too_many_or_turned_is_not_right() -> None:
    said = say("more color", encoder="none")
    assert Asked("en", "plain", {"color": 1}, said).is_right
    assert not Asked("en", "plain", {"color": 1, "people": 1}, said).is_right
    turned = Asked("en", "negated", {"color": -1}, said)
    assert not turned.is_right
    assert turned.is_turned
