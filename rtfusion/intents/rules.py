"""What a sentence asks for, by rules: a property of the picture, and which way it is to go. Word order hardly matters."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from rtfusion.intents.axes import PRESETS, Intents
from rtfusion.intents.words import Word, words_of

WEAK, PLAIN, STRONG, EXTREME = 0.3, 0.6, 0.8, 1.0
"""How far a wish goes: "a bit", no word about it, "a lot", "as much as possible"."""


@dataclass(frozen=True, slots=True)
class Property:
    """Something that a picture has: the axis it lies on, the side of that axis, and what naming it alone asks for."""

    axis: str
    side: int
    alone: int
    """+1: who names it wants more of it ("color!"), -1: less ("noise!")."""


PROPERTIES: Mapping[str, Property] = {
    "people": Property("people", 1, 1),
    "vehicles": Property("vehicles", 1, 1),
    "thermal": Property("thermal", 1, 1),
    "visible_camera": Property("thermal", -1, 1),
    "dark": Property("brighten", -1, -1),
    "bright": Property("brighten", 1, 1),
    "glare": Property("tame_glare", -1, -1),
    "haze": Property("clear_haze", -1, -1),
    "dehaze": Property("clear_haze", 1, 1),
    "noise": Property("denoise", -1, -1),
    "denoise": Property("denoise", 1, 1),
    "plastic": Property("denoise", 1, -1),
    "sharp": Property("detail", 1, 1),
    "blur": Property("detail", -1, -1),
    "harsh": Property("detail", 1, -1),
    "color": Property("color", 1, 1),
    "gray": Property("color", -1, 1),
    "dull": Property("color", -1, -1),
    "garish": Property("color", 1, -1),
    "background": Property("background", -1, 1),
    "busy": Property("background", -1, -1),
    "calm": Property("background", 1, 1),
}
_COMPLAINTS = frozenset(name for name, it in PROPERTIES.items() if it.alone < 0)
_TARGETS = frozenset({"people", "vehicles", "thermal", "visible_camera", "background"})
_ABSORBED: Mapping[str, frozenset[str]] = {
    "glare": frozenset({"vehicles", "bright", "dark", "background", "busy", "sharp", "people"}),
    "plastic": frozenset({"noise", "denoise", "sharp", "blur", "people"}),
    "dehaze": frozenset({"haze", "sharp", "bright", "dark"}),
    "haze": frozenset({"gray", "dull", "sharp", "blur", "bright", "dark", "background", "calm", "thermal", "denoise"}),
    "denoise": frozenset({"noise", "sharp", "thermal", "blur"}),
    "noise": frozenset(
        {"dark", "bright", "busy", "thermal", "calm", "visible_camera", "denoise", "sharp", "background"}
    ),
    "harsh": frozenset({"sharp", "blur", "color"}),
    "background": frozenset(
        {"busy", "calm", "dark", "bright", "blur", "sharp", "color", "gray", "dull", "noise", "denoise"}
    ),
    "people": frozenset({"bright", "sharp", "thermal", "background", "dark", "blur", "busy", "calm"}),
    "vehicles": frozenset({"bright", "sharp", "thermal", "background", "dark", "blur", "busy", "calm"}),
    "garish": frozenset({"color", "bright"}),
    "dull": frozenset({"color", "dark", "gray"}),
    "gray": frozenset({"color", "sharp", "dark", "bright"}),
    "color": frozenset({"bright", "thermal", "dark", "calm", "blur"}),
    "dark": frozenset({"sharp", "bright", "background", "calm", "thermal"}),
    "bright": frozenset({"thermal", "visible_camera"}),
    "thermal": frozenset({"sharp", "visible_camera"}),
}
"""What is no wish of its own beside another property in one clause: the bright of "bright headlights", the dark of "dark fog"."""
_LESS_PROMINENT = frozenset({"dark", "blur", "gray", "calm", "dull", "denoise"})
_MORE_PROMINENT = frozenset({"bright", "sharp", "color", "busy", "noise"})
SURE, LIKELY, MENTIONED = 3, 2, 1


@dataclass(frozen=True, slots=True)
class Wish:
    """One axis, how far and which way, and how plainly it was said: `SURE`, `LIKELY` (a complaint), or only `MENTIONED`."""

    axis: str
    value: float
    plain: int


@dataclass(frozen=True, slots=True)
class Reading:
    """What the rules make of a sentence."""

    wishes: tuple[Wish, ...]
    reset: bool
    preset: str | None
    words: tuple[Word, ...]

    @property
    def axes(self) -> dict[str, float]:
        """The value of every axis that was wished for."""
        return {wish.axis: wish.value for wish in self.wishes}


def read(text: str, presets: Mapping[str, Intents] = PRESETS) -> Reading:
    """Read a sentence; what it says nothing about is not in the answer."""
    words = words_of(text)
    preset = _preset(words, text, presets)
    wishes: list[Wish] = []
    last: Clause | None = None
    for part in _clauses(words):
        clause = Clause(part, last)
        wishes += clause.wishes()
        last = clause if clause.properties or last is None else last
    chosen = _chosen(wishes)
    reset = not chosen and preset is None and any("reset" in word.meanings for word in words)
    return Reading(tuple(chosen), reset, preset, tuple(words))


def _chosen(wishes: Iterable[Wish]) -> list[Wish]:
    """The plainest word on every axis, and nothing that was only mentioned beside a plain word."""
    best: dict[str, Wish] = {}
    for wish in wishes:
        if wish.axis not in best or wish.plain > best[wish.axis].plain:
            best[wish.axis] = wish
    plainest = max((wish.plain for wish in best.values()), default=0)
    return [wish for wish in best.values() if wish.plain == plainest]


def _clauses(words: list[Word]) -> list[list[Word]]:
    """Split where one wish may end and another begin; a clause without a property or a doing stays with its neighbor."""
    parts: list[list[Word]] = [[]]
    for word in words:
        if word.meanings & {"break", "then", "and"}:
            parts.append([])
        else:
            parts[-1].append(word)
    return [part for part in parts if part]


class Clause:
    """A part of a sentence with one doing, and the properties that it is done to."""

    def __init__(self, words: list[Word], before: Clause | None) -> None:
        self.words = words
        self.meanings = frozenset().union(*(word.meanings for word in words))
        named = [name for word in words for name in PROPERTIES if name in word.meanings]
        self.named = frozenset(named)
        absorbed = frozenset().union(*(_ABSORBED.get(name, frozenset()) for name in named))
        self.properties = [name for name in dict.fromkeys(named) if name not in absorbed] or named[:1]
        self.does = bool(self.meanings & {"more", "less", "keep", "notso", "neg"})
        if not self.properties and before is not None and self.does and self._points_back():
            self.properties = before.properties
        elif self.properties and not self.does and before is not None and self._goes_on(before):
            self.meanings |= before.meanings & {
                "more",
                "less",
                "keep",
                "neg",
                "notso",
                "up",
                "down",
                "weak",
                "strong",
                "soft",
            }
            self.does = True

    def _points_back(self) -> bool:
        """True where "it", or nothing at all, stands for what was spoken of before: "the feed is grainy, clean it up"."""
        return all(word.meanings - {"unknown"} for word in self.words)

    def _goes_on(self, before: Clause) -> bool:
        """True where a mere name follows, which is meant like the one before: "highlight people and cars"."""
        plain = all(word.meanings & {*PROPERTIES, "polite"} for word in self.words)
        return before.does and plain and not self.named & _COMPLAINTS

    def wishes(self) -> list[Wish]:
        """What this clause asks for."""
        found = []
        for name in self.properties:
            way = self._way(name)
            if way:
                its = PROPERTIES[name]
                found.append(Wish(its.axis, its.side * way * self._strength(), self._plainness(name)))
        return found

    def _way(self, name: str) -> int:
        """+1 for more of this property, -1 for less, 0 where nothing tells."""
        if name == "background":
            return self._way_of_background()
        if name in ("people", "vehicles") and self.named & {"dark", "bright", "blur", "sharp"} and not self.does:
            return 1
        return self._turned(name, self._doing(name))

    def _way_of_background(self) -> int:
        less, more = self.named & _LESS_PROMINENT, self.named & _MORE_PROMINENT
        if less or more:
            name = next(iter(sorted(less or more)))
            return self._turned(name, self._doing(name)) * (-1 if less else 1)
        if not self.meanings & {"more", "less", "keep", "too", "lack", "neg", "notso", "unseen", "see"}:
            return 0
        return self._turned("background", self._doing("background"))

    def _doing(self, name: str) -> int:
        """What is done, as if nothing were negated: +1 more, -1 less, 0 nothing."""
        has = self.meanings
        if name == "dark" and self._doing_to_dark():
            return self._doing_to_dark()
        if name == "haze" and "show" in has:
            return -1
        if "less" in has or "notso" in has:
            return -1
        if has & {"more", "keep", "see"} and not (name in _COMPLAINTS and "soft" in has and not self._says_more()):
            return 1
        return 0

    def _says_more(self) -> bool:
        return any("more" in word.meanings and "soft" not in word.meanings for word in self.words)

    def _doing_to_dark(self) -> int:
        """Shadows that are brought up or shown get lighter, those that are brought down get darker."""
        words = [word for word in self.words if "dark" not in word.meanings]
        if any(word.meanings & {"up", "show"} for word in words):
            return -1
        return 1 if any("down" in word.meanings for word in words) else 0

    def _turned(self, name: str, doing: int) -> int:
        """The doing with its negations, and what is asked for where nothing is done."""
        has, alone = self.meanings, PROPERTIES[name].alone
        if "neg" in has:
            return -1 if "notso" in has or not doing else -doing
        if "unseen" in has and not doing:
            return alone
        if "too" in has and doing >= 0:
            return 1 if name in _TARGETS and "unseen" in has else -1
        if "lack" in has:
            return 1
        if "not" in has and doing:
            return doing if name in _COMPLAINTS else -doing
        return doing or alone

    def _plainness(self, name: str) -> int:
        if self.does:
            return SURE
        if self.meanings & {"too", "lack", "unseen", "not", "see"}:
            return SURE if name not in _TARGETS else LIKELY
        return LIKELY if name not in _TARGETS else MENTIONED

    def _strength(self) -> float:
        for word in self.words:
            if "number" in word.meanings and word.text.endswith("%"):
                return min(float(word.text.rstrip("% ")) / 100, 1.0) or PLAIN
        has = self.meanings
        if "extreme" in has:
            return EXTREME
        if "weak" in has:
            return WEAK
        return STRONG if "strong" in has else PLAIN


_PRESET_WORDS: Mapping[str, str] = {
    "night-drive": r"night[ -]?driv\w*|driving at night|夜间驾驶|夜间行车|夜驾|夜里开车|晚上开车|夜间开车|夜行",
    "search-and-rescue": r"search[ -]+(?:and|&|n)[ -]+rescue|\bsar\b|搜救|搜索救援|救援搜索",
    "firefighter": r"fire[ -]?fight\w*|fire[ -]?(?:men|man)|fire (?:brigade|crew)|消防员?|救火|火场",
    "surveillance": r"surveillance|security|guard|监控|安防|监视|保安|值守",
    "natural": r"natural|自然",
    "thermographer": r"thermograph\w*|热像师|测温|热成像师|热像分析",
}


def _preset(words: list[Word], text: str, presets: Mapping[str, Intents]) -> str | None:
    """The preset that a sentence names: alone, or together with a word such as mode."""
    plain = " ".join(text.lower().replace("-", " ").split())
    plain = re.sub(r"[ .!。!]+$", "", plain)
    for name in presets:
        pattern = _PRESET_WORDS.get(name, re.escape(name.replace("-", " ")))
        if plain == name.replace("-", " ") or re.fullmatch(pattern, plain):
            return name
        if re.search(
            rf"(?:{pattern})['s]* *(?:的)? *(?:mode|preset|profile|settings?|view|look|模式|预设|档|场景|风格)", plain
        ):
            return name
        if re.search(rf"(?:mode|preset|profile|模式|预设)(?: to| for| of| as|:|=|为|成|到|换)? *(?:{pattern})", plain):
            return name
    return None


def merged(wishes: Iterable[Wish], current: Intents) -> Intents:
    """Where these wishes lead from where the axes stand: each is a step."""
    values = dict(current)
    for wish in wishes:
        values[wish.axis] = step(values[wish.axis], wish.value)
    return Intents(**values)


def step(stands: float, value: float) -> float:
    """Where an axis goes: the wish is a step on from here, in [-1, 1]."""
    return round(max(-1.0, min(1.0, stands + value)), 3)


__all__ = ["PROPERTIES", "Clause", "Reading", "Wish", "merged", "read", "replace", "step"]
