"""Keys and sentences of the window become intents, and the title says which."""

from __future__ import annotations

from rtfusion.intents import AXES, PRESETS, Intents
from rtfusion.window.viewer import Action, Pictures, Screen
from rtfusion.window.wishes import Wisher
from tests.support import RecordingControl


def test_keys_move_an_axis_and_go_through_the_presets() -> None:
    control = RecordingControl()
    wisher = Wisher(control)
    for key in ("i", ".", ".", "x", "left"):
        wisher.press(key)
    assert (control.intents, wisher.caption) == (Intents.of({AXES[1]: 0.5}), f"{AXES[1]} +0.50")
    for _ in range(10):
        wisher.press(",")
    assert control.intents == Intents.of({AXES[1]: -1.0})
    wisher.press("p")
    name = [*PRESETS][1]
    assert (control.intents, wisher.caption) == (PRESETS[name], f"preset {name}")
    wisher.press("0")
    assert (control.intents, wisher.caption) == (Intents(), "as it is")


def test_a_sentence_is_followed_and_told() -> None:
    control = RecordingControl()
    wisher = Wisher(control)
    wisher.say("make people stand out")
    assert control.intents is not None
    assert control.intents.people > 0
    assert wisher.caption.startswith("make people stand out: people +")
    wisher.say("what time does the bakery open")
    assert "not understood, nothing changes; nearest: " in wisher.caption
    control.intents = None
    for take in (wisher.press, wisher.say):
        take(".")
        assert "takes no intents" in wisher.caption


def test_a_sentence_is_typed_in_the_title() -> None:
    screen = Screen(nudges=True)
    assert screen.press("t") is Action.NONE
    for key in ("M", "o", "r", "e", " ", "q", "x", "\b", "left", "", "."):
        assert screen.press(key) is Action.NONE
    assert screen.title.startswith("say: More q._")
    assert screen.press("\r") is Action.SAY
    assert (screen.sentence, screen.typed) == ("More q.", None)
    screen.press("t")
    assert screen.press("\r") is Action.NONE
    screen.press("t")
    assert screen.press("\x1b") is Action.NONE
    assert (screen.typed, screen.press("t"), screen.press("q"), screen.typed) == (None, Action.NONE, Action.NONE, "q")
    assert Screen().press("t") is Action.NONE
    assert Screen().typed is None


def test_the_title_tells_what_is_asked_for() -> None:
    import numpy as np

    screen = Screen(nudges=True)
    screen.take(Pictures(fused=np.zeros((2, 2, 3), np.uint8), caption="color -0.50"))
    assert "|  color -0.50  |" in screen.title
