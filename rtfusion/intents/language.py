"""From a sentence to intents: `say`. What is not understood changes nothing, and says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from rtfusion.intents.axes import AXES, NEUTRAL, PRESETS, Intents
from rtfusion.intents.rules import PROPERTIES, Reading, merged, read

Resolver = Literal["rules", "bank", "encoder", "clip"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """What a sentence was taken for.

    A sentence that is refused leaves the picture as it is: ``axes`` is empty and ``intents`` are those from before.
    """

    text: str
    """The sentence as it was said."""
    axes: Mapping[str, float]
    """How far the sentence moves each axis that it speaks of, in [-1, 1]; of a preset, where it puts them."""
    reset: bool
    """It asks for the picture as it is without a wish."""
    refused: bool
    """It was not understood, or is no wish for the picture."""
    resolved_by: Resolver
    """What decided: the rules, the bank of sentences, or an encoder beside them."""
    confidence: float
    """How likely the sentence is a wish for the picture and understood, in [0, 1]."""
    nearest: tuple[str, ...]
    """The three axes that come nearest to it, the nearest first."""
    intents: Intents
    """What the picture is to be made with from here on."""

    def __str__(self) -> str:
        """For a person: what changes, or that nothing does."""
        if self.refused:
            return f"not understood, nothing changes; nearest: {', '.join(self.nearest)}"
        changes = ", ".join(f"{name} {value:+g}" for name, value in self.axes.items()) or "back to normal"
        return f"{changes}  ({self.resolved_by}, {self.confidence:.2f})"

    def as_dict(self) -> dict[str, Any]:
        """The answer as `rtfusion say --json` gives it: all but the resulting intents."""
        return {
            "text": self.text,
            "axes": dict(self.axes),
            "reset": self.reset,
            "refused": self.refused,
            "resolved_by": self.resolved_by,
            "confidence": self.confidence,
            "nearest": list(self.nearest),
        }


def say(
    text: str, current: Intents = NEUTRAL, *, presets: Mapping[str, Intents] = PRESETS, encoder: str = "auto"
) -> Said:
    """Understand what a sentence, in English or Chinese, wants to see.

    Args:
        text: the sentence, such as "make people stand out, keep the colors" or "太暗了".
        current: where the axes stand; a wish is a step from there.
        presets: intents that can be asked for by name ("firefighter mode").
        encoder: what helps beside rules and bank.
    """
    reading = read(text, presets)
    nearest = _nearest(reading)
    if reading.preset is not None:
        preset = presets[reading.preset]
        return Said(
            text=text,
            axes=preset.values,
            reset=not preset,
            refused=False,
            resolved_by="rules",
            confidence=1.0,
            nearest=nearest,
            intents=preset,
        )
    if reading.reset:
        return Said(
            text=text,
            axes={},
            reset=True,
            refused=False,
            resolved_by="rules",
            confidence=1.0,
            nearest=nearest,
            intents=NEUTRAL,
        )
    refused = not reading.wishes
    return Said(
        text=text,
        axes=reading.axes,
        reset=False,
        refused=refused,
        resolved_by="rules",
        confidence=0.0 if refused else 0.9,
        nearest=nearest,
        intents=merged(reading.wishes, current),
    )


def _nearest(reading: Reading) -> tuple[str, ...]:
    named = [PROPERTIES[name].axis for word in reading.words for name in PROPERTIES if name in word.meanings]
    return tuple(dict.fromkeys([*reading.axes, *named, *AXES]))[:3]
