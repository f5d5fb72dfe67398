"""What a sentence asks for, by rules: a property of the picture, and which way it is to go. Word order hardly matters."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

from rtfusion.intents.axes import PRESETS, Intents
from rtfusion.intents.scope import DENIALS, scoped
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
    "thermal_look": Property("thermal", 1, -1),
    "dark": Property("brighten", -1, -1),
    "blind": Property("brighten", -1, -1),
    "bright": Property("brighten", 1, 1),
    "daylight": Property("brighten", 1, -1),
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
    "scenery": Property("background", -1, 1),
    "busy": Property("background", -1, -1),
    "calm": Property("background", 1, 1),
}
_NAMES = frozenset(PROPERTIES)
_COMPLAINTS = frozenset(name for name, it in PROPERTIES.items() if it.alone < 0)
_FIGURES = frozenset({"people", "vehicles"})
_SURROUNDINGS = frozenset({"background", "scenery"})
_TARGETS = _FIGURES | {"thermal", "visible_camera", "background", "scenery"}
_LOOKS = frozenset({"dark", "bright", "sharp", "blur", "dull", "calm", "busy", "gray", "garish"})
_ABSORBED: Mapping[str, frozenset[str]] = {
    "glare": _LOOKS | {"vehicles", "background", "people", "color", "visible_camera", "thermal"},
    "plastic": frozenset({"noise", "denoise", "sharp", "blur", "people", "dull"}),
    "dehaze": _LOOKS | {"haze"},
    "haze": _LOOKS | {"background", "thermal", "denoise", "visible_camera"},
    "denoise": frozenset({"noise", "sharp", "thermal", "blur"}),
    "noise": _LOOKS | {"thermal", "visible_camera", "background", "color"},
    "harsh": frozenset({"sharp", "blur", "color", "garish"}),
    "background": _LOOKS | {"color", "noise", "denoise", "thermal"},
    "people": _LOOKS | {"thermal", "background", "visible_camera"},
    "vehicles": _LOOKS | {"thermal", "background"},
    "garish": frozenset({"color", "bright"}),
    "dull": frozenset({"color", "dark", "gray"}),
    "gray": frozenset({"color", "sharp", "dark", "bright"}),
    "color": frozenset({"busy", "bright", "thermal", "dark", "calm", "blur", "visible_camera"}),
    "dark": frozenset({"sharp", "bright", "calm", "thermal"}),
    "bright": frozenset({"visible_camera"}),
    "daylight": frozenset({"dark", "visible_camera"}),
    "sharp": frozenset({"blur", "thermal"}),
    "thermal_look": frozenset({"thermal"}),
}
"""What is no wish of its own beside another property in one clause: the bright of "bright headlights", the dark of "dark fog"."""
_SPOILT_BY: Mapping[str, frozenset[str]] = {"sharp": frozenset({"blur"}), "color": frozenset({"gray", "dull"})}
"""What is denied of a thing is its fault: "don't let the edges get soft"."""
_LESS_PROMINENT = frozenset({"dark", "blur", "gray", "calm", "dull", "denoise"})
_MORE_PROMINENT = frozenset({"bright", "sharp", "color", "busy", "noise", "garish"})
SURE, COMPLAINED, STATED, MENTIONED = 4, 3, 2, 1


@dataclass(frozen=True, slots=True)
class Wish:
    """One axis, how far and which way, and how plainly it was said: an order is `SURE`, a name alone only `MENTIONED`."""

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
    unclear: frozenset[str] = frozenset()
    """Axes of which something is denied, and nothing says which way that goes."""
    denies: bool = False
    """It denies something, by words that always do or by where they stand."""
    doubtful: bool = False
    """It denies by words that always do, and more than faults by their names: "no noise" leaves nothing open."""

    @property
    def axes(self) -> dict[str, float]:
        """The value of every axis that was wished for."""
        return {wish.axis: wish.value for wish in self.wishes}


def read(text: str, presets: Mapping[str, Intents] = PRESETS) -> Reading:
    """Read a sentence; what it says nothing about is not in the answer."""
    words = words_of(text)
    preset = _preset(words, text, presets)
    in_scope = scoped(words, _NAMES)
    clauses = _clauses_of(in_scope)
    chosen = _chosen(_wishes(clauses))
    meant = frozenset().union(*(word.meanings for word in in_scope))
    said_reset = "reset" in meant or (
        "changes" in meant and not chosen and bool(meant & {"less", "neg", "reset", "clear"})
    )
    if said_reset and all(wish.plain < COMPLAINED for wish in chosen):
        chosen = []
    reset = said_reset and not chosen and preset is None
    unclear = frozenset(PROPERTIES[name].axis for clause in clauses for name in clause.unclear)
    denials, resolved = (sum(bool(word.meanings & DENIALS) for word in some) for some in (words, in_scope))
    doubtful = denials > sum(clause.is_fault_denied for clause in clauses)
    return Reading(tuple(chosen), reset, preset, tuple(words), unclear, denials + resolved > 0, doubtful)


def _clauses_of(words: list[Word]) -> list[Clause]:
    """The parts of a sentence, each with what it takes over from the one before."""
    clauses: list[Clause] = []
    last: Clause | None = None
    for part, joined in _clauses(words):
        clause = Clause(part, last, joined=joined)
        if clauses and joined:
            clauses[-1].lead_to(clause)
        clauses.append(clause)
        last = clause if clause.properties or last is None else last
    return clauses


def _wishes(clauses: Iterable[Clause]) -> list[Wish]:
    """What the clauses ask for, one after the other."""
    wishes: list[Wish] = []
    for clause in clauses:
        if not clause.named and clause.has & {"fix", "clear"}:  # "it's dark and grainy, fix both"
            wishes = [replace(wish, plain=max(wish.plain, COMPLAINED)) for wish in wishes]
        wishes += clause.wishes()
    return wishes


def _chosen(wishes: Iterable[Wish]) -> list[Wish]:
    """The plainest word on every axis, and nothing that was only mentioned beside an order or a complaint."""
    best: dict[str, Wish] = {}
    for wish in wishes:
        if wish.axis not in best or wish.plain > best[wish.axis].plain:
            best[wish.axis] = wish
    plainest = max((wish.plain for wish in best.values()), default=0)
    return [wish for wish in best.values() if wish.plain >= min(plainest, COMPLAINED)]


def _clauses(words: list[Word]) -> list[tuple[list[Word], bool]]:
    """Split where one wish may end and another begin; and say of each part if a mere "and" joins it to the one before."""
    parts: list[tuple[list[Word], bool]] = [([], False)]
    for word in words:
        if word.meanings & {"break", "then", "and"}:
            parts.append(([], "and" in word.meanings))
        else:
            parts[-1][0].append(word)
    return [part for part in parts if part[0]]


_TOLD = frozenset({"unseen", "covers", "too", "toofar", "notso", "lack"})
"""What tells by itself which way is out."""
_DOINGS = frozenset({"more", "less", "keep", "neg", "notso", "up", "down", "weak", "strong", "soft", "fix", "clear"})


_MERELY = frozenset({"not", "but not", "by no mean", "不是", "而不是", "不包括"})
_LIKED = frozenset({"glare", "haze", "noise"})
"""Faults that some people want: the glow of lamps, mist, the grain of film."""
_PROCESSES = frozenset({"dehaze", "denoise"})
_FEWER = frozenset({"less", "les", "少", "少点", "少一点", "fewer", "reduc", "weaker", "reduce", "减少"})


class Clause:
    """A part of a sentence with one doing, and the properties that it is done to."""

    def __init__(self, words: list[Word], before: Clause | None, *, joined: bool) -> None:
        self.words = words = words[:-1] if words[-1].text == "too" and len(words) > 1 else words  # "that too"
        self.has = frozenset().union(*(word.meanings for word in words))
        self.inherited: frozenset[str] = frozenset()
        self.joined = joined
        self.properties = self._properties()
        taken = before is not None and bool(before.has & {"less", "fix", "clear", "down"})
        self.spared = taken and self._is_mere_denial()
        if "reset" in self.has and self.properties:
            self.has |= {"more"}  # "the colors back to what they were"
        if {"prefer", "not"} <= self.has:
            self.has |= {"neg"}  # "I'd rather they didn't"
        self.does = bool(self.has & {"less", "keep", "notso", "neg", "fix", "clear", "up", "down"}) or self._says(
            "more"
        )
        known = all(word.meanings - {"unknown", "other"} for word in words)
        if not self.properties and {"clear", "picture"} <= self.has and known:
            self.properties = ["denoise" if any(word.text.startswith(("clean", "清")) for word in words) else "sharp"]
        elif not self.properties and before is not None and before.properties and self.does and known:
            self.properties = before.properties  # "the feed is grainy, clean it up"
        elif before is not None and self._means_those(before):
            self.properties = before.properties
        elif not self.properties and "pronoun" in self.has and (self.does or "unseen" in self.has):
            self.properties = ["people"]
        elif self.properties and before is not None and before.does and joined and self._goes_on(before):
            self.inherited = before.has & _DOINGS  # "highlight people and cars"
            self.has |= self.inherited
            self.does = True

    def lead_to(self, after: Clause) -> None:
        """What is done behind an "and" is done to a mere name before it, too: "people and cars shall pop"."""
        if (
            self.properties
            and self._is_mere_name()
            and after.properties
            and (after.does or after.has & {"too", "lack"})
        ):
            self.inherited = after.has & {*_DOINGS, "too", "lack", "unseen"}
            self.has |= self.inherited
            self.does = after.does

    def _properties(self) -> list[str]:
        named = [name for word in self.words for name in PROPERTIES if name in word.meanings]
        if self.has & {"behind", "except"} and self._stands_before_figure():
            named = ["background", *(name for name in named if name not in _FIGURES)]
        self.named = frozenset(named)
        self.active = frozenset(
            name for word in self.words if "more" in word.meanings for name in word.meanings & self.named
        )
        told = self.active or self._moderated()
        lying = {PROPERTIES[name].axis for name in told}
        named = [name for name in named if name in told or name in _TARGETS or PROPERTIES[name].axis not in lying]
        if "neg" in self.has and not self.active:
            named = [name for name in named if not _SPOILT_BY.get(name, frozenset()) & self.named]
        absorbed = frozenset().union(*(_ABSORBED.get(name, frozenset()) for name in named))
        if "background" in named and "people" in named and self.has & {"busy", "behind"}:
            absorbed = absorbed - {"background"} | _FIGURES
        if "except" in self.has and len(set(named)) > 1:
            absorbed |= _FIGURES
        if set(named) - {"blind"}:
            absorbed |= {"blind"}
        absorbed -= self._victims()
        if "scenery" in named and self.active & _LESS_PROMINENT:
            absorbed |= _LOOKS
        elif set(named) - {"scenery"}:
            absorbed |= {"scenery"}
        return [name for name in dict.fromkeys(named) if name not in absorbed] or named[:1]

    def _moderated(self) -> frozenset[str]:
        """The bright of "not so bright in the dark": what a denial of degree stands before is what is denied."""
        words = [word for word in self.words if word.meanings - {"polite", "be"}]
        return frozenset(
            name for one, after in pairwise(words) if "notso" in one.meanings for name in after.meanings & self.named
        )

    def _victims(self) -> frozenset[str]:
        """The people of "the lamps drown the people"."""
        if "neg" not in self.has or "passive" in self.has:
            return frozenset()
        verb = next((at for at, word in enumerate(self.words) if "covers" in word.meanings), len(self.words))
        return frozenset(name for word in self.words[verb + 1 :] for name in word.meanings & _FIGURES)

    def _stands_before_figure(self) -> bool:
        """True for "whatever is around the car", which is not about the car."""
        words = [word for word in self.words if word.meanings - {"polite"}]
        pairs = pairwise(words)
        return any(one.meanings & {"behind", "except"} and after.meanings & _FIGURES for one, after in pairs)

    def _means_those(self, before: Clause) -> bool:
        """True for "soften them" behind people or vehicles."""
        return "pronoun" in self.has and set(self.properties) <= _LOOKS and bool(_FIGURES & set(before.properties))

    def _goes_on(self, before: Clause) -> bool:
        return self._is_mere_name() and (not self.named & _COMPLAINTS or bool(before.has & {"less", "fix", "clear"}))

    def _is_mere_denial(self) -> bool:
        """True for "not the detail" behind something else; "no noise" asks for itself."""
        first, *others = self.words
        plain = all(word.meanings & {*PROPERTIES, "polite"} and "more" not in word.meanings for word in others)
        return bool(self.properties) and plain and first.text in _MERELY

    @property
    def is_fault_denied(self) -> bool:
        """True for "no noise" and "without any glare", and for nothing longer."""
        said = [word for word in self.words if not word.meanings <= {"polite", "apart"}]
        if len(said) != 2 or "neg" not in said[0].meanings:
            return False
        return self.named <= _COMPLAINTS and bool(self.named) and "more" not in said[1].meanings

    def _is_mere_name(self) -> bool:
        plain = all(word.meanings & {*PROPERTIES, "polite"} for word in self.words)
        return plain and not self.does

    def _says(self, meaning: str) -> bool:
        """True where a doing is named by a word that is more than "want" or "see"."""
        return any(meaning in word.meanings and "soft" not in word.meanings for word in self.words)

    def wishes(self) -> list[Wish]:
        """What this clause asks for."""
        found = []
        for name in self.properties:
            way = self._way(name)
            if way:
                its = PROPERTIES[name]
                found.append(Wish(its.axis, its.side * way * strength(self.words), self._plainness(name)))
        return found

    @property
    def unclear(self) -> frozenset[str]:
        """The properties of which this clause denies something by words that are not known: most likely, less is wanted."""
        at = next((at for at, word in enumerate(self.words) if "neg" in word.meanings), None)
        if at is None or self.has & _TOLD:
            return frozenset()
        behind = self.words[at + 1 :]
        if behind and not any(word.meanings & {"unknown", "other"} for word in behind):
            return frozenset()
        return frozenset(name for name in self.properties if name not in _COMPLAINTS and not self._doing(name))

    def _way(self, name: str) -> int:
        """+1 for more of this property, -1 for less, 0 where nothing tells."""
        if self.spared:
            return 1  # "take out the noise, not the detail"
        denies = "neg" in self.has
        if look := self._look(name):
            return -look if denies and not self.has & {"notso", "too", "busy"} else look
        if self._is_none(name) or (name in _TARGETS and self._denied(name)):
            return -1
        doing = self._doing(name)
        if denies:
            return self._denied_doing(name, doing)
        return self._complained(name, doing) or doing or self._alone(name)

    def _denied_doing(self, name: str, doing: int) -> int:
        """Which way it goes when this doing is denied."""
        lacks = "lack" in self.has and not doing and self._lacks()  # "I don't want the colors gone"
        if lacks or (self.has & {"unseen", "covers"} and name not in _COMPLAINTS):
            return 1  # "don't let me miss anyone"
        if not doing or "notso" in self.has or (name in _COMPLAINTS and self._is_only_seen()):
            return -1  # "I don't want to see any fog"
        lets = "letting" in self.has and name in _COMPLAINTS and not self._is_taken(name)
        return -1 if lets else -doing  # "don't let the lamps blind me"

    def _alone(self, name: str) -> int:
        """What naming this property alone asks for; of surroundings, nothing."""
        return PROPERTIES[name].alone if name not in _SURROUNDINGS else 0

    def _complained(self, name: str, doing: int) -> int:
        """Which way leads out of what is complained of; 0 where nothing is."""
        has = self.has
        if "covers" in has:
            return -1 if self._covers(name) else self._alone(name) or 1
        if "unseen" in has and not self._says("less"):
            return self._alone(name) or 1
        if "toofar" in has or {"too", "past"} <= has:
            return -1 if name in self.active or name in _PROCESSES else -doing or -1
        if has & {"too", "busy"} and doing >= 0:
            return -1
        return 1 if "lack" in has else 0

    def _doing(self, name: str) -> int:
        """What is done, as if nothing were negated: +1 more, -1 less, 0 nothing."""
        has = frozenset().union(*(word.meanings for word in self.words if name not in word.meanings)) | self.inherited
        if name in self.active:
            return -1 if has & {"less", "notso"} else 1
        if name == "dark" and self._raised():
            return self._raised()
        if self._undoes():
            return 1
        if has & {"fix", "clear"} or (name == "haze" and "show" in has and not self._wanted(name)):
            return PROPERTIES[name].alone if name not in _SURROUNDINGS else -1
        if has & {"less", "notso", "down"} or (name in _FIGURES and self._followed(name, "back")):
            return -1
        return 1 if self._gets_more(name, has) else 0

    def _gets_more(self, name: str, has: frozenset[str]) -> bool:
        if has & {"up", "keep"} or self._says("more") or self._is_adjusted(name):
            return True
        if "want" in has and name in _LIKED:
            return True
        return bool(has & {"more", "see"}) and (name not in _COMPLAINTS or self._wanted(name))

    def _wanted(self, name: str) -> bool:
        """True where a fault itself is wanted: "I want to see the smoke", but not "show me who is in the smoke"."""
        words = [word for word in self.words if word.meanings - {"polite"}]
        pairs = pairwise(words)
        return any(one.meanings & {"soft", "show"} and name in after.meanings for one, after in pairs)

    def _undoes(self) -> bool:
        """True for less of a reduction: "less suppression", 少压一点."""
        words = [word for word in self.words if word.meanings - {"polite", "weak", "suffix"}]
        pairs = pairwise(words)
        return any(one.text in _FEWER and "less" in after.meanings for one, after in pairs)

    def _look(self, name: str) -> int:
        """How a target is to look: "darken the background" is less of it, "brighten the people" is more of them."""
        less, more = self.named & _LESS_PROMINENT, self.named & _MORE_PROMINENT
        if name in _SURROUNDINGS and self.named & {"busy", "calm"}:
            return -1
        told = self.has & {"too", "toofar", "lack", "make"} or self.active & (less | more) or "notso" in self.has
        if not (less | more) or not (name in _SURROUNDINGS or (told and name in {*_FIGURES, "glare"})):
            return 0
        way = -1 if less else 1
        doings = frozenset().union(*(word.meanings for word in self.words if not word.meanings & (less | more)))
        if (doings | self.inherited) & {"less", "notso", "fix", "clear", "too", "toofar"}:
            return -way
        if told or self.does or "be" not in self.has:
            return way
        return way * PROPERTIES[min(less or more)].alone

    def _denied(self, name: str) -> bool:
        """True for the heat of "the photo, not the heat"."""
        words = [word for word in self.words if word.meanings - {"polite"}]
        return any(one.text in ("not", "不是") and name in after.meanings for one, after in pairwise(words))

    def _is_none(self, name: str) -> bool:
        """True for the glare of "no more glare off that screen", whatever else is said."""
        words = [word for word in self.words if word.meanings - {"polite"}]
        pairs = pairwise(words)
        return any(one.text in ("no", "no mor") and name in after.meanings - {"more"} for one, after in pairs)

    def _is_taken(self, name: str) -> bool:
        """True where something is taken off it: the glare of "don't lower the glare", not that of "the glare lowers"."""
        verb = next((at for at, word in enumerate(self.words) if word.meanings & {"less", "down"}), len(self.words))
        return any(name in word.meanings for word in self.words[verb + 1 :])

    def _is_only_seen(self) -> bool:
        """True where nothing is done but to look and to want."""
        doings = [word for word in self.words if word.meanings & {"more", "less", "keep", "up", "down", "fix", "clear"}]
        return bool(doings) and all(word.meanings & {"soft", "see", "show"} for word in doings)

    def _lacks(self) -> bool:
        """True where the lack is another word than the denial."""
        return any("lack" in word.meanings and "neg" not in word.meanings for word in self.words)

    def _covers(self, name: str) -> bool:
        """True for what hides something else, and for a fault: it stands before the verb."""
        verb = next(at for at, word in enumerate(self.words) if "covers" in word.meanings)
        before = any(name in word.meanings for word in self.words[:verb])
        return name in _COMPLAINTS or (before and "passive" not in self.has)

    def _raised(self) -> int:
        """Shadows that are brought up or shown get lighter (-1), those that are brought down get darker (+1)."""
        words = [word for word in self.words if "dark" not in word.meanings]
        if any(word.meanings & {"up", "show", "see"} for word in words):
            return -1
        return 1 if any("down" in word.meanings for word in words) else 0

    def _is_adjusted(self, name: str) -> bool:
        """True for "make it dark" and for the adjective of 暗一点, but not for 有点暗."""
        if "make" in self.has and name in ("dark", "blur", "haze", "gray", "dull"):
            return True
        return "too" not in self.has and self._followed(name, "suffix")

    def _followed(self, name: str, meaning: str) -> bool:
        pairs = pairwise(self.words)
        return any(name in one.meanings and meaning in after.meanings for one, after in pairs)

    def _plainness(self, name: str) -> int:
        if name == "blind":
            return MENTIONED
        if self.does or self._is_adjusted(name) or (name in _FIGURES and self._followed(name, "back")):
            return SURE
        if self.has & {"too", "toofar", "lack", "unseen", "not"} and (name not in _TARGETS or "unseen" in self.has):
            return COMPLAINED
        if name in _TARGETS and not self.has & {"more", "see", "too"}:
            return MENTIONED
        return COMPLAINED if self.joined else STATED


def strength(words: Iterable[Word]) -> float:
    """How far these words go: 30 % says it itself, "a bit" and "as much as possible" say it too."""
    words = list(words)
    for word in words:
        if "number" in word.meanings and word.text.endswith("%"):
            return min(float(word.text.rstrip("% ")) / 100, 1.0) or PLAIN
    has = frozenset().union(*(word.meanings for word in words))
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
        kinds = "mode|preset|profile|settings?|模式|预设|档|场景|风格" + ("" if name == "natural" else "|view|look")
        if plain == name.replace("-", " ") or re.fullmatch(pattern, plain):
            return name
        if re.search(rf"(?:{pattern})['s]* *(?:的)? *(?:{kinds})", plain):
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
