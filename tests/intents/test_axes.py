"""Intents: what can be written, what is refused, and the way from one wish to the next."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtfusion.errors import ConfigError
from rtfusion.intents import AXES, NEUTRAL, PRESETS, RAMP_FRAMES, Intents, Ramp

wishes = st.fixed_dictionaries(
    {name: st.floats(-1, 1, allow_subnormal=False).map(lambda value: float(f"{value:g}")) for name in AXES}
).map(Intents.of)


@given(wishes)
def test_what_is_written_is_read(wish: Intents) -> None:
    assert Intents.parse(str(wish)) == wish


def test_the_picture_as_it_is_says_nothing() -> None:
    assert not NEUTRAL
    assert str(NEUTRAL) == ""
    assert Intents.parse(" ") == NEUTRAL == PRESETS["natural"]


def test_a_preset_can_be_changed_by_what_follows() -> None:
    wish = Intents.parse("firefighter, color=0.25")
    assert wish.color == 0.25
    assert wish.clear_haze == PRESETS["firefighter"].clear_haze


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("peple=1", "did you mean people"),
        ("people", "has no value; write people=1"),
        ("people=much", "expected a number"),
        ("people=nan", "expected a number"),
        ("people=1.5", "expected -1 to 1"),
        ("night-drvie", "did you mean night-drive"),
        ("x=1", "there are thermal, people"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_a_hint(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Intents.parse(text)


@given(wishes, wishes)
def test_a_ramp_begins_with_the_next_frame_and_ends_at_the_wish(start: Intents, end: Intents) -> None:
    ramp = Ramp(start)
    assert ramp.step() == start
    ramp.turn(end)
    seen = [ramp.step() for _ in range(RAMP_FRAMES)]
    assert seen[-1] == end == ramp.target == ramp.step()
    if start != end:
        assert seen[0] != start
    for name in AXES:
        way = [getattr(start, name), *(getattr(wish, name) for wish in seen)]
        assert way == pytest.approx(sorted(way, reverse=way[0] > way[-1]))


def test_a_wish_that_changes_on_the_way_starts_from_the_picture_that_is_shown() -> None:
    ramp = Ramp()
    ramp.turn(Intents(people=1.0))
    shown = [ramp.step() for _ in range(4)][-1]
    ramp.turn(NEUTRAL)
    assert 0 < ramp.step().people < shown.people
