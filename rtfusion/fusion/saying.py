"""A sentence to a run that goes on: understood beside it, and, unless it was refused, followed from the next frame on."""

from __future__ import annotations

from rtfusion.errors import ConfigError
from rtfusion.fusion.base import Change, Control
from rtfusion.intents import Said, say

MAX_CHARACTERS = 500
"""The longest sentence that is read."""


def tell(control: Control, text: str) -> Said:
    """Understand a sentence, and change the picture as it says. What is refused changes nothing.

    Raises:
        ConfigError: it is longer than `MAX_CHARACTERS`, or the fuser takes no intents.
    """
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(f"the sentence has {len(text)} characters; expected {MAX_CHARACTERS} at most")
    current = control.intents
    if current is None:
        raise ConfigError("this fuser takes no intents, so nothing can be said to it")
    said = say(text, current, presets=control.presets)
    if not said.refused:
        control.change(Change(intents=said.intents))
    return said
