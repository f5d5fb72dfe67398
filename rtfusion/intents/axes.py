"""The ten axes along which a picture can be asked for, and a point on them: `Intents`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace

from rtfusion.errors import ConfigError
from rtfusion.text import did_you_mean

RAMP_FRAMES = 8
"""A wish is reached in this many frames, so that the picture glides and does not jump."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Intents:
    """A wish for the picture: a value in [-1, 1] on every axis, where 0 is the picture as it is without a wish.

    Raises:
        ConfigError: a value is no number, or out of its range.
    """

    thermal: float = 0.0
    """More of the thermal camera, or less."""
    people: float = 0.0
    """People stand out, or step back."""
    vehicles: float = 0.0
    """Vehicles stand out, or step back."""
    brighten: float = 0.0
    """Dark places are lifted, or left darker."""
    tame_glare: float = 0.0
    """What is blinding is held back, or let through."""
    clear_haze: float = 0.0
    """Haze and smoke are seen through, or softened."""
    denoise: float = 0.0
    """Noise is taken out more strongly, or left alone."""
    detail: float = 0.0
    """Fine detail is crisper, or softer."""
    color: float = 0.0
    """More color, or less: -1 is gray."""
    background: float = 0.0
    """What is around people and vehicles is dimmer and calmer, or clearer."""

    def __post_init__(self) -> None:
        for name in AXES:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not -1 <= value <= 1:
                raise ConfigError(f"the intent {name} is {value!r}; expected -1 to 1")

    @classmethod
    def parse(cls, text: str, *, presets: Mapping[str, Intents] | None = None) -> Intents:
        """Read intents from a text such as ``people=0.8,color=-0.3``, or the name of one of the presets, by default `PRESETS`.

        Parts follow each other, separated by commas; a later one wins. Empty text is the picture as it is.

        Raises:
            ConfigError: an unknown name, a value that is no number, or one that is out of its range.
        """
        wish, known = NEUTRAL, PRESETS if presets is None else presets
        for part in filter(None, map(str.strip, text.split(","))):
            name, is_axis, value = (word.strip() for word in part.partition("="))
            wish = wish.changed({name: _number(name, value)} if is_axis else _preset(name, known).values)
        return wish

    @classmethod
    def of(cls, values: Mapping[str, float]) -> Intents:
        """Intents with these values, and 0 on all other axes.

        Raises:
            ConfigError: an unknown name, or a value that is no number or out of its range.
        """
        return NEUTRAL.changed(values)

    @property
    def values(self) -> dict[str, float]:
        """The axes that are not at 0, and where they stand."""
        return {} if self is NEUTRAL else {name: value for name, value in self if value}

    def changed(self, values: Mapping[str, float]) -> Intents:
        """The same with other values on some axes.

        Raises:
            ConfigError: an unknown name, or a value that is no number or out of its range.
        """
        for name in values:
            if name not in AXES:
                raise ConfigError(f"there is no intent {name!r}{did_you_mean(name, AXES) or f'; there are {_AXES}'}")
        return replace(self, **values)

    def __iter__(self) -> Iterator[tuple[str, float]]:
        """Every axis in its order, and where it stands."""
        return ((name, getattr(self, name)) for name in AXES)

    def __bool__(self) -> bool:
        """False for the picture as it is."""
        return self is not NEUTRAL and any(value for _, value in self)

    def __str__(self) -> str:
        """As `parse` reads it; empty for the picture as it is."""
        return ",".join(f"{name}={value:g}" for name, value in self.values.items())


AXES = tuple(field.name for field in fields(Intents))
"""The names of the axes, in their order."""
_AXES = ", ".join(AXES)
NEUTRAL = Intents()
"""The picture as it is without a wish."""
PRESETS: Mapping[str, Intents] = {
    "natural": NEUTRAL,
    "night-drive": Intents(people=0.8, vehicles=0.4, brighten=0.5, tame_glare=0.8, denoise=0.3),
    "search-and-rescue": Intents(thermal=0.6, people=1.0, clear_haze=0.5, background=0.5),
    "firefighter": Intents(thermal=0.8, people=1.0, clear_haze=1.0, color=-0.6),
    "surveillance": Intents(people=0.7, vehicles=0.7, brighten=0.4, denoise=0.5),
    "thermographer": Intents(thermal=1.0, detail=0.5, color=-1.0),
}
"""Intents that have a name."""
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")


def with_own(presets: Iterable[str]) -> dict[str, Intents]:
    """The `PRESETS`, and own ones that are written as ``NAME: people=0.8,color=-0.3``; an own one may name those before it.

    Raises:
        ConfigError: a text is none of that form, or its name is taken.
    """
    known = dict(PRESETS)
    for text in presets:
        name, is_named, wish = (part.strip() for part in text.partition(":"))
        if not is_named or not _NAME.fullmatch(name):
            raise ConfigError(f"the preset {text!r} has no name; expected NAME: people=0.8,color=-0.3")
        if name in known or name in AXES:
            raise ConfigError(f"the name {name} of a preset is taken; choose another one")
        known[name] = Intents.parse(wish, presets=known)
    return known


class Ramp:
    """Glides from one wish to the next, a step a frame. For one thread."""

    def __init__(self, start: Intents = NEUTRAL, *, frames: int = RAMP_FRAMES) -> None:
        self._from = self._to = start
        self._frames = frames
        self._step = frames

    @property
    def target(self) -> Intents:
        """The wish that is being reached, or has been."""
        return self._to

    def turn(self, wish: Intents) -> None:
        """Go to this wish from where the picture is now."""
        if wish != self._to:
            self._from, self._to, self._step = self.at(self._step), wish, 0

    def step(self) -> Intents:
        """What the next frame is made with: the first frame after `turn` already differs."""
        self._step = min(self._step + 1, self._frames)
        return self.at(self._step)

    def at(self, step: int) -> Intents:
        """What the frame is made with this many steps after the turn."""
        if step >= self._frames:
            return self._to
        share = step / self._frames
        start, end = dict(self._from), dict(self._to)
        return Intents(**{name: start[name] + share * (end[name] - start[name]) for name in AXES})


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ConfigError(f"the intent {name} is {text!r}; expected a number from -1 to 1")
    return value


def _preset(name: str, presets: Mapping[str, Intents]) -> Intents:
    if name in presets:
        return presets[name]
    if name in AXES:
        raise ConfigError(f"the intent {name} has no value; write {name}=1, or any number from -1 to 1")
    names = ", ".join(presets)
    raise ConfigError(f"there is no preset {name!r}{did_you_mean(name, presets) or f'; there are {names}'}")
