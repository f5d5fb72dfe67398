"""Sentences: what they change, what is refused, and how the answer looks."""

from __future__ import annotations

import rtfusion
from rtfusion.intents import NEUTRAL, PRESETS, Intents, say


def test_two_wishes_in_one_sentence() -> None:
    said = say("make people stand out and reduce the glare")
    assert set(said.axes) == {"people", "tame_glare"}
    assert said.intents.people > 0
    assert not said.refused


def test_a_wish_is_a_step_from_where_the_axes_stand() -> None:
    assert say("a bit more color", Intents(color=0.5, people=0.4)).intents == Intents(color=0.8, people=0.4)


def test_what_is_not_understood_changes_nothing() -> None:
    stands = Intents(color=0.5)
    said = say("sing me a song", stands)
    assert said.refused
    assert said.axes == {}
    assert said.intents == stands
    assert len(said.nearest) == 3


def test_reset_and_presets() -> None:
    assert say("back to normal", Intents(color=1)).intents == NEUTRAL
    assert say("恢复默认", Intents(color=1)).reset
    assert say("firefighter mode").intents == PRESETS["firefighter"]


def test_the_answer_has_these_keys() -> None:
    answer = rtfusion.say("太暗了").as_dict()
    assert list(answer) == ["text", "axes", "reset", "refused", "resolved_by", "confidence", "nearest"]
