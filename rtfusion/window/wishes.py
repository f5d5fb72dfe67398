"""Saying in the window what the picture is to show: an axis after the other, presets, and sentences that are typed.

``i`` chooses the next axis, ``,`` and ``.`` move it down and up by a quarter, ``p`` goes to the next preset, ``0`` back to the
picture as it is; ``t`` begins a sentence, which Enter sends.
"""

from __future__ import annotations

from rtfusion.errors import ConfigError
from rtfusion.fusion.base import Change, Control
from rtfusion.fusion.saying import tell
from rtfusion.intents import AXES, NEUTRAL

STEP = 0.25
STEPS = {",": -1, ".": 1}
NEXT_AXIS, NEXT_PRESET, AS_IT_IS = "i", "p", "0"


class Wisher:
    """Turns keys and sentences into intents. What is to be told of it stands in ``caption``."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._axis = 0
        self._preset = 0
        self.caption = ""
        """For the title of the window: the axis and where it stands, or what a sentence was taken for."""

    def press(self, key: str) -> None:
        """Take one key; keys of no meaning here are passed over."""
        current = self._control.intents
        if key not in (*STEPS, NEXT_AXIS, NEXT_PRESET, AS_IT_IS):
            return
        if current is None:
            self.caption = "this fuser takes no intents"
            return
        if key == NEXT_AXIS:
            self._axis = (self._axis + 1) % len(AXES)
        name = AXES[self._axis]
        if key in STEPS:
            value = getattr(current, name) + STEP * STEPS[key]
            self._control.change(Change(intents={name: min(max(value, -1.0), 1.0)}))
        elif key == NEXT_PRESET:
            presets = [*self._control.presets]
            self._preset = (self._preset + 1) % len(presets)
            self._control.change(Change(intents=self._control.presets[presets[self._preset]]))
            self.caption = f"preset {presets[self._preset]}"
            return
        elif key == AS_IT_IS:
            self._control.change(Change(intents=NEUTRAL))
            self.caption = "as it is"
            return
        self.caption = f"{name} {getattr(self._control.intents, name):+.2f}"

    def say(self, text: str) -> None:
        """Take a sentence that was typed."""
        try:
            self.caption = f"{text}: {tell(self._control, text)}"
        except ConfigError as error:
            self.caption = str(error)
