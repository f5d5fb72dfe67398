"""What the words of a sentence mean for the picture: text → words with their meanings, in English and Chinese."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources

UNKNOWN = frozenset({"unknown"})
BREAK = frozenset({"break"})
NUMBER = frozenset({"number"})
_PHRASE_WORDS = 6
_CHINESE = "\u3400-\u9fff"
_PIECES = re.compile(rf"\d+(?:\.\d+)?\s*%?|[a-z0-9&/]+(?:['`;][a-z]+)?|[{_CHINESE}]+|[,.;:!?、。\n]|[-\u2013\u2014]+\s")
_PARTICLE = re.compile(
    r"\b(tone|toned|turn|get|drop|dial|pull|bring|take|taken|took|brought|knock|calm|keep|hold|crank|pump|push|fade|scale|rein|boost|lift|cut|clean|clear|"
    r"back|ease|bump|dim|light|open|sharpen|soften|wash|fill|crush|tuck|switch|mute|set|put|strip|drag|blow|blur|filter|"
    r"zoom|point|pick|call|draw|stand|step|lay|roll|thin|move|shut|kill)"
    r"((?:\s+(?!and\b|but\b|or\b|then\b|so\b|to\b)[a-z']+){1,5}?)\s+(down|up|back|out|off|away|through)\b(?!\s+the\b|\s+of\b)"
)


@dataclass(frozen=True, slots=True)
class Word:
    """A word or a phrase of a sentence, with its meanings of lexicon.txt, or ``unknown``, ``break`` or ``number``."""

    text: str
    meanings: frozenset[str]


def words_of(text: str) -> list[Word]:
    """Read a sentence into words with their meanings; a word that the lexicon has misspelt is taken for the one that it has."""
    found: list[Word] = []
    english: list[str] = []
    for piece in _PIECES.findall(normalized(text)):
        if re.match(r"[a-z&]|\d+[a-z]", piece):
            english.append(piece)
            continue
        found += _english(english)
        english = []
        if re.match(rf"[{_CHINESE}]", piece):
            found += _chinese(piece)
        elif piece[0].isdigit():
            found.append(Word(piece, NUMBER))
        else:
            found.append(Word(piece.strip(), _lexicon().get(piece.strip(), frozenset()) | BREAK))
    return [*found, *_english(english)]


def normalized(text: str) -> str:
    """The text as the lexicon has it: lower case, half-width, simplified characters, particles at their verbs."""
    text = unicodedata.normalize("NFKC", text).lower().translate(_QUOTES).translate(_SIMPLIFIED)
    text = re.sub(r"(?<=[a-z])-(?=[a-z])", " ", text)
    text = re.sub(r"([a-z])\1{2,}", r"\1\1", text)  # sooooo
    text = re.sub(r"\bkeeps? (?=[a-z]+ing\b)", "always ", text).replace("x光", "爱克斯光")
    return _PARTICLE.sub(r"\1 \3\2", text)


def stem(word: str) -> str:
    """An English word without its ending, the same for all forms of a regular verb or noun."""
    word = word.removesuffix("'s").replace("colour", "color").replace("grey", "gray")
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-3] + "y" if word.endswith("ies") and len(word) > 4 else word[:-1]
    for ending in ("ing", "ed"):
        rest = word.removesuffix(ending)
        if rest != word and len(rest) > 2 and not word.endswith(("thing", "eed")) and _has_vowel(rest):
            word = _undoubled(rest)
            break
    word = word[:-1] if len(word) > 3 and word.endswith("e") else word
    return word[:-1] + "y" if len(word) > 3 and word.endswith("i") else word


def _has_vowel(word: str) -> bool:
    return re.search("[aeiouy]", word) is not None


def _undoubled(word: str) -> str:
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lsz" else word


def _english(pieces: list[str]) -> Iterator[Word]:
    stems = [_corrected(stem(piece)) for piece in pieces]
    at = 0
    while at < len(stems):
        for length in range(min(_PHRASE_WORDS, len(stems) - at), 0, -1):
            meanings = _meanings(" ".join(pieces[at : at + length]), " ".join(stems[at : at + length]))
            if meanings:
                break
        yield Word(" ".join(stems[at : at + length]), meanings or UNKNOWN)
        at += length


def _meanings(as_written: str, stems: str) -> frozenset[str]:
    """What a phrase means as it is written ("highlights" are lights), else what its plain form does ("highlighting")."""
    lexicon = _lexicon()
    singular = as_written.removesuffix("s")  # "buildings" are none of the forms of "build"
    return lexicon.get(as_written) or lexicon.get(singular) or lexicon.get(stems) or frozenset()


def _chinese(text: str) -> Iterator[Word]:
    lexicon = _lexicon()
    at = 0
    unknown = ""
    while at < len(text):
        for length in range(min(_longest(), len(text) - at), 0, -1):
            part = text[at : at + length]
            if part in lexicon:
                if unknown:
                    yield Word(unknown, UNKNOWN)
                    unknown = ""
                yield Word(part, lexicon[part])
                break
        else:
            length = 1
            unknown += text[at]
        at += length
    if unknown:
        yield Word(unknown, UNKNOWN)


def _corrected(word: str) -> str:
    if len(word) < 5 or word in _parts() or word in _other_words():
        return word
    edits = _swapped(word) if len(word) < 6 else _edits(word)
    return next(filter(_telling().__contains__, edits), word)


def _swapped(word: str) -> Iterator[str]:
    """Every text with two neighboring letters the other way round."""
    yield from (word[:at] + word[at + 1] + word[at] + word[at + 2 :] for at in range(len(word) - 1))


def _edits(word: str) -> Iterator[str]:
    """Every text at one slip of the fingers from a word: letters swapped, lost, doubled or wrong, but not the first."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    splits = [(word[:at], word[at:]) for at in range(1, len(word) + 1)]
    yield from _swapped(word)
    yield from (left + right[1:] for left, right in splits if right)
    yield from (left + letter + right for left, right in splits for letter in letters)
    yield from (left + letter + right[1:] for left, right in splits if right for letter in letters)


@functools.cache
def _lexicon() -> dict[str, frozenset[str]]:
    """What every word and phrase means, as it is written; and English ones by their stems, after the shortest form."""
    found: dict[str, frozenset[str]] = {}
    for line in resources.files(__package__).joinpath("lexicon.txt").read_text(encoding="utf-8").splitlines():
        meanings, _, phrases = ("" if line.startswith("#") else line).partition(":")
        for phrase in filter(None, map(str.strip, phrases.split(","))):
            key = re.sub(r"(?<=[a-z])-(?=[a-z])", " ", phrase)
            found[key] = found.get(key, frozenset()) | frozenset(meanings.split())
    for key in sorted(found, key=len):
        found.setdefault(" ".join(map(stem, key.split())), found[key])
    return found


@functools.cache
def _longest() -> int:
    return max(len(key) for key in _lexicon() if re.match(rf"[{_CHINESE}]", key))


@functools.cache
def _parts() -> frozenset[str]:
    """Every English word that stands in the lexicon, alone or in a phrase."""
    return frozenset(part for key in _lexicon() for part in key.split())


@functools.cache
def _telling() -> frozenset[str]:
    """English words that a misspelling may have been: those that say something about the picture by themselves."""
    silent = {"polite", "be", "and", "then", "ask", "mode"}
    return frozenset(
        key for key, meanings in _lexicon().items() if len(key) > 3 and " " not in key and meanings - silent
    )


@functools.cache
def _other_words() -> frozenset[str]:
    """Right words that mean nothing here, and must not be taken for misspelt ones."""
    text = resources.files(__package__).joinpath("other_words.txt").read_text(encoding="utf-8")
    return frozenset(stem(word) for line in text.splitlines() if not line.startswith("#") for word in line.split())


_QUOTES = {0x2018: "'", 0x2019: "'", 0xB4: "'"}
_SIMPLIFIED = str.maketrans(
    "車輛霧煙塵熱紅外線圖畫麵亮強燈閃銳細節邊緣輪廓顏彩飽黑環境後圍復還重調減顯樣點讓們這個裡裏麼過會開關請幫濾噪雜訊顆粒陰陽曝僅淺濃淡對邊緣見聽說門問間東語號壓縮",
    "车辆雾烟尘热红外线图画面亮强灯闪锐细节边缘轮廓颜彩饱黑环境后围复还重调减显样点让们这个里里么过会开关请帮滤噪杂讯颗粒阴阳曝仅浅浓淡对边缘见听说门问间东语号压缩",
)
"""Traditional characters that the lexicon's words have, and the simplified ones."""
