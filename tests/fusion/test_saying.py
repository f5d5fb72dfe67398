"""Sentences to a run that goes on: followed from the next frame on, or refused without a trace."""

from __future__ import annotations

import numpy as np
import pytest

import rtfusion
from rtfusion.config import Settings
from rtfusion.errors import ConfigError
from rtfusion.fusion.saying import MAX_CHARACTERS, tell
from rtfusion.intents import Intents
from tests.support import host_fuser

VISIBLE, THERMAL = np.full((48, 64, 3), 90, np.uint8), np.full((48, 64), 60, np.uint8)
OFF_TOPIC = "what time does the bakery open"


def test_a_sentence_changes_a_running_fuser() -> None:
    fuse = host_fuser("pyramid")
    said = tell(fuse, "make people stand out")
    assert not said.refused
    assert fuse.intents == said.intents
    assert said.intents.people > 0
    assert tell(fuse, OFF_TOPIC).refused
    assert fuse.intents == said.intents
    with pytest.raises(ConfigError, match=f"expected {MAX_CHARACTERS} at most"):
        tell(fuse, "brighter " * 100)
    with pytest.raises(ConfigError, match="takes no intents"):
        tell(host_fuser("overlay"), "brighter")


def test_a_run_begins_with_what_is_said() -> None:
    settings = Settings(intent="color=-0.5", say="make people stand out", fuser="pyramid")
    assert settings.said is not None
    assert settings.said.intents.color == -0.5
    assert settings.said.intents.people > 0
    with pytest.raises(
        ConfigError, match=rf"say is '{OFF_TOPIC}', which is not understood, nothing changes; nearest: "
    ):
        Settings(say=OFF_TOPIC)
    with pytest.raises(ConfigError, match="intents are for the fusers pyramid and learned, and the fuser is overlay"):
        Settings(say="make people stand out", fuser="overlay")


def test_in_python_a_fuser_is_told_too() -> None:
    with rtfusion.Fuser(fuser="pyramid", intent="color=-1") as fuser:
        assert fuser.frame(visible=VISIBLE, thermal=THERMAL).intents == {"color": -1.0}
        said = fuser.say("back to normal")
        assert said.reset
        frames = [fuser.frame(visible=VISIBLE, thermal=THERMAL) for _ in range(9)]
        assert frames[-1].intents == {}
        fuser.change(intents={"detail": 0.5})
        frames = [fuser.frame(visible=VISIBLE, thermal=THERMAL) for _ in range(9)]
        assert (frames[-1].intents, frames[-1].intents_version) == ({"detail": 0.5}, 2)
        for wrong in (3, 0.5):
            with pytest.raises(ConfigError, match="expected a text, a mapping or Intents"):
                fuser.change(intents=wrong)
        with pytest.raises(ConfigError, match="expected text"):
            fuser.say(3)
    image = rtfusion.fuse(visible=VISIBLE, thermal=THERMAL, fuser="pyramid", intent=str(Intents(brighten=1.0)))
    assert image.mean() != rtfusion.fuse(visible=VISIBLE, thermal=THERMAL, fuser="pyramid").mean()
