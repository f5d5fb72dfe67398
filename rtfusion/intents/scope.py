"""How far a denial reaches: the words of a sentence → the same words, parted where a contrast begins, with every denial resolved.

"Not the cars but the people" and "brighter without the glare" deny one part and ask for the other; "don't stop removing noise"
denies nothing. Here such turns become plain parts and plain denials, so that the rules see at most one of them in a clause.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from rtfusion.intents.words import BREAK, Word

DENIALS = frozenset({"neg", "notso", "letting", "cannot", "avert", "reject", "sooner", "takesback", "unsure"})
"""Meanings of words that turn what is said, or may turn it."""
_ENDS = frozenset({"break", "then", "and"})
_DOINGS = frozenset({"more", "less", "keep", "up", "down", "fix"})
_PERCEIVED = frozenset({"soft", "see", "show"})
_TAKEN = frozenset({"less", "unseen", "lack", "down", "covers"})
_PROCESSES = frozenset({"dehaze", "denoise"})
_SILENT = frozenset({"polite", "be"})
_SPEAKERS = ("i", "we", "我", "我们", "咱们")
_SO = ("so", "this", "that", "as", "too", "quit", "quite", "overly", "太", "这么", "那么", "过", "过于")
_IS_NOT = ("不是", "并不是", "not", "is not", "isn't")
_ARE_NOT = ("isn't", "is not", "aren't", "are not", "不是")
_CHINESE_NO = ("不", "没", "没有")
_WANTED = frozenset({"soft", "want", "see"})
_KEPT = Word("keep", frozenset({"keep"}))
_NEG = frozenset({"neg"})
_LETS = ("let", "mak", "hav", "让")
_INCONSPICUOUS = ("不突出", "不显眼", "不明显", "不醒目")
"""Behind 让 these alone are ordered: 让人看不清 is what one says of a fog."""
_HIDDEN = frozenset({"less"})
_DENIED = Word("not", _NEG)
_PAUSE = Word(",", BREAK)


def scoped(words: list[Word], properties: frozenset[str]) -> list[Word]:
    """Part a sentence at its contrasts and resolve its denials; `properties` are the meanings that name one."""
    words = _cancelled(_unjoined(words))
    words = _preferred(words)
    words = _rejected(words, properties)
    words = _apart(words)
    words = _raised(_hidden(words, properties), properties)
    return [_resolved(words, at, properties) for at in range(len(words))]


def _unjoined(words: list[Word]) -> list[Word]:
    """Behind a denial neither "with" nor "again" begins anything: 不该跟山融成一片, 不用再提亮."""
    found = words[:1]
    for word, after in pairwise(words):
        inside = "neg" in word.meanings and (after.text == "再" or {"and", "polite"} <= after.meanings)
        found.append(Word(after.text, frozenset({"polite"})) if inside else after)
    return found


def _cancelled(words: list[Word]) -> list[Word]:
    """Two denials in a row ask to go on: "don't stop", 不能没有, 不是不要. "Don't want no noise" is one."""
    found: list[Word] = []
    for word in words:
        at = _last(found)
        before = found[at] if at is not None else _PAUSE
        stops = "stops" in word.meanings or word.text in _CHINESE_NO
        if at is not None and (
            (before.meanings & {"neg", "cannot"} and stops) or (before.text in _IS_NOT and "neg" in word.meanings)
        ):
            found[at:] = [_KEPT]
        else:
            found.append(word)
    return found


def _preferred(words: list[Word]) -> list[Word]:
    """Keep the one and deny the other of "rather noise than blur"."""
    first = next((at for at, word in enumerate(words) if "sooner" in word.meanings), None)
    if first is None:
        return words
    for at in range(first + 1, len(words)):
        if words[at].text == "than":
            return [*words[:first], _KEPT, *words[first + 1 : at], _PAUSE, _DENIED, *words[at + 1 :]]
        if "neg" in words[at].meanings and not words[first].text.isascii():
            return [*words[:first], _KEPT, *words[first + 1 : at], _PAUSE, *words[at:]]
    return words


def _rejected(words: list[Word], properties: frozenset[str]) -> list[Word]:
    """Deny what "instead of" names, up to the next thing that is asked for: "instead of the cars show people"."""
    found: list[Word] = []
    rejects = named = False
    for word in words:
        if "reject" in word.meanings:
            found += [_PAUSE, _DENIED]
            rejects, named = True, False
            continue
        if word.meanings & _ENDS:
            rejects = False
        elif rejects and named and word.meanings & _DOINGS and not word.meanings & properties:
            found.append(_PAUSE)
            rejects = False
        named = named or bool(word.meanings & properties)
        found.append(word)
    return found


def _apart(words: list[Word]) -> list[Word]:
    """Begin a part of its own at "without" and "but not"."""
    found: list[Word] = []
    for word in words:
        if "apart" in word.meanings:
            found.append(_PAUSE)
        found.append(word)
    return found


def _hidden(words: list[Word], properties: frozenset[str]) -> list[Word]:
    """Order what "the people are not seen" complains of, where it is ordered: "let the people not be seen", 让人不突出."""
    found: list[Word] = []
    part: list[Word] = []
    for word in words:
        part = [] if word.meanings & _ENDS else part
        ordered = part and part[0].text in _LETS and any(one.meanings & properties for one in part)
        is_meant = "unseen" in word.meanings and (word.text.isascii() or word.text in _INCONSPICUOUS)
        found.append(Word(word.text, _HIDDEN) if ordered and is_meant else word)
        part = [*part, word] if part or not word.meanings <= _SILENT or word.text in _LETS else part
    return found


def _raised(words: list[Word], properties: frozenset[str]) -> list[Word]:
    """Take "as bright as possible" for what it orders: brighter, with nothing left out."""
    found = list(words)
    for at, word in enumerate(words[2:], start=2):
        before = words[at - 1]
        if word.text.startswith("as ") and "extreme" in word.meanings and words[at - 2].text == "as":
            raised = before.meanings | {"more"} if before.meanings & properties else before.meanings
            found[at - 1] = Word(before.text, raised)
    return found


@dataclass(frozen=True, slots=True)
class _Place:
    """A word with what stands around it."""

    word: Word
    before: list[Word]
    ahead: list[Word]
    """What follows in the same part, without what only makes it polite; at least one word."""
    beside: list[Word]
    """What follows, polite or not."""


def _resolved(words: list[Word], at: int, properties: frozenset[str]) -> Word:
    """One word as what stands around it makes it: a denial, one of degree, or none."""
    place = _Place(words[at], words[:at], _ahead(words, at), words[at + 1 :])
    turns = (turn(place, properties) for turn in _TURNS) if place.ahead else iter(())
    return next((word for word in turns if word is not None), words[at])


def _prohibits(place: _Place, _: frozenset[str]) -> Word | None:
    """For "This fog can't stay", but not "I can't keep" or "you can't brighten it enough"."""
    word = place.word
    does = _does(place.ahead[0]) or (word.text == "不能" and any(map(_does, place.ahead)))
    speaks = bool(place.before) and place.before[-1].text in _SPEAKERS
    if "cannot" not in word.meanings or not does or speaks or _has("enough", place.ahead):
        return None
    return Word(word.text, word.meanings - {"not"} | {"neg"})


def _denies(place: _Place, properties: frozenset[str]) -> Word | None:
    """For "Not more color", "make it not bright"."""
    after = place.ahead[0]
    makes = _has("make", place.before) and after.meanings & properties
    not_ = place.word.text == "not" and (_does(after) or makes)
    is_not = place.word.text == "不是" and after.meanings & _DOINGS
    return Word(place.word.text, _NEG) if not_ or is_not else None


def _is_not_too(place: _Place, _: frozenset[str]) -> Word | None:
    """For "There isn't too much color" complains of nothing."""
    stated = "too" in place.word.meanings and place.before and place.before[-1].text in _ARE_NOT
    return Word(place.word.text, place.word.meanings - {"too"}) if stated else None


def _averts(place: _Place, _: frozenset[str]) -> Word | None:
    """For "Prevent the people from vanishing", but not "avoid glare"."""
    averts = "avert" in place.word.meanings and any(one.meanings & _TAKEN for one in place.ahead)
    return Word(place.word.text, _NEG) if averts else None


def _takes_back(place: _Place, properties: frozenset[str]) -> Word | None:
    """For "Undo the brightening", but not "undo everything"."""
    takes = "takesback" in place.word.meanings and any(_is_done(one, properties) for one in place.ahead)
    return Word(place.word.text, _NEG) if takes else None


def _lets_go(place: _Place, _: frozenset[str]) -> Word | None:
    """For "Don't let the mist vanish", but not "don't let the lamps blind me"."""
    goes = "letting" in place.word.meanings and "less" in place.ahead[-1].meanings
    return Word(place.word.text, _NEG) if goes else None


def _spares(place: _Place, _: frozenset[str]) -> Word | None:
    """For "Don't touch the colors"."""
    return _KEPT if "neg" in place.word.meanings and "touch" in place.ahead[0].meanings else None


def _falls_short(place: _Place, _: frozenset[str]) -> Word | None:
    """For "Not as bright as I want"."""
    wanted = any(one.meanings & _WANTED for one in place.ahead[1:])
    return Word(place.word.text, frozenset({"lack"})) if "notso" in place.word.meanings and wanted else None


def _moderates(place: _Place, properties: frozenset[str]) -> Word | None:
    """For "Shouldn't be so deep": less of it, as in "not so deep"."""
    behind = [word for word in place.beside[:5] if word.text in _SO or not word.meanings <= _SILENT]
    so = len(behind) > 1 and behind[0].text in _SO and behind[1].meanings & properties
    return Word(place.word.text, place.word.meanings | {"notso"}) if "neg" in place.word.meanings and so else None


_TURNS = (_prohibits, _denies, _is_not_too, _averts, _takes_back, _lets_go, _spares, _falls_short, _moderates)


def _has(meaning: str, words: list[Word]) -> bool:
    return any(meaning in word.meanings for word in words)


def _does(word: Word) -> bool:
    """True where something is done, and not only looked at or wanted."""
    return bool(word.meanings & (_DOINGS | _PROCESSES)) and not word.meanings & _PERCEIVED


def _is_done(word: Word, properties: frozenset[str]) -> bool:
    """True for what somebody does to a picture, with its property or without: brightening, removing."""
    brought = "more" in word.meanings and bool(word.meanings & properties)
    return brought or bool(word.meanings & (_PROCESSES | {"less", "down"}))


def _ahead(words: list[Word], at: int) -> list[Word]:
    """What follows in the same part, without what only makes it polite."""
    found = []
    for word in words[at + 1 :]:
        if word.meanings & _ENDS:
            break
        if not word.meanings <= _SILENT:
            found.append(word)
    return found


def _last(words: list[Word]) -> int | None:
    """Where the last word stands that is more than polite."""
    return next((at for at in range(len(words) - 1, -1, -1) if not words[at].meanings <= _SILENT), None)
