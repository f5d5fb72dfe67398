"""What a viewer wants to see: ten axes, their values, named presets, and the way from a sentence to them."""

from rtfusion.intents.axes import AXES, NEUTRAL, PRESETS, RAMP_FRAMES, Intents, Ramp, with_own
from rtfusion.intents.language import Said, say

__all__ = ["AXES", "NEUTRAL", "PRESETS", "RAMP_FRAMES", "Intents", "Ramp", "Said", "say", "with_own"]
