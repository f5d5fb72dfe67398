"""A bank of sentences with what they ask for, and a classifier that is fitted to it: what the rules' words do not reach."""

from __future__ import annotations

import functools
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import pairwise
from typing import TYPE_CHECKING

from rtfusion.intents.axes import AXES
from rtfusion.intents.rules import Reading, read

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KINDS = (*(f"{axis}{sign}" for axis in AXES for sign in "+-"), "reset", "off")
"""What a sentence can be: a wish on one side of an axis, a reset, or no wish for the picture."""
_BUCKETS = 4096
_RIDGE = 0.3
_CHINESE = re.compile("[\u3400-\u9fff]")


@dataclass(frozen=True, slots=True)
class Example:
    """A sentence and what it asks for: some of `KINDS`."""

    text: str
    kinds: tuple[str, ...]


@functools.cache
def examples() -> tuple[Example, ...]:
    """The sentences of bank.txt."""
    found = []
    kinds: tuple[str, ...] = ()
    for line in resources.files(__package__).joinpath("bank.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            kinds = tuple(line.strip("[]").split())
        elif line and not line.startswith("#"):
            found.append(Example(line, kinds))
    return tuple(found)


class Classifier:
    """Gives every one of `KINDS` a score: about 1 where a sentence is of it, about 0 where not. Ridge regression, no randomness."""

    def __init__(self, features: NDArray[np.float32], targets: NDArray[np.float32]) -> None:
        import numpy as np

        self._mean = targets.mean(axis=0)
        kernel = features @ features.T
        kernel[np.diag_indices_from(kernel)] += _RIDGE
        self._weights = features.T @ np.linalg.solve(kernel, targets - self._mean)

    def scores(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores of shape (sentences, kinds) for features of shape (sentences, features)."""
        return features @ self._weights + self._mean


def targets_of(known: Sequence[Example]) -> NDArray[np.float32]:
    """What a classifier is fitted to: (sentences, kinds), 1 where a sentence is of a kind."""
    import numpy as np

    return np.array([[kind in example.kinds for kind in KINDS] for example in known], np.float32)


def features_of(readings: Sequence[Reading]) -> NDArray[np.float32]:
    """Words, pieces of words, their meanings and the wishes of the rules, as numbers: (sentences, features)."""
    import numpy as np

    found = np.zeros((len(readings), _BUCKETS), np.float32)
    for row, reading in zip(found, readings, strict=True):
        for weight, names in _named_features(reading):
            buckets = [zlib.crc32(name.encode()) % _BUCKETS for name in names]
            if buckets:
                row[buckets] += weight / len(buckets) ** 0.5
    return found


@functools.cache
def fitted() -> Classifier:
    """The classifier of the whole bank, fitted once."""
    known = examples()
    return Classifier(features_of([read(example.text) for example in known]), targets_of(known))


def _named_features(reading: Reading) -> Iterator[tuple[float, list[str]]]:
    """Groups of features by name, each with its weight."""
    words = [word for word in reading.words if "break" not in word.meanings]
    texts = [word.text for word in words]
    yield (
        1.0,
        [f"word {text}" for text in texts] + [f"words {one} {two}" for one, two in pairwise(texts)],
    )
    yield 0.7, sorted(set(_pieces(reading)))
    meant = [sorted(word.meanings - {"polite"}) for word in words if word.meanings - {"polite"}]
    singles = [f"means {meaning}" for meanings in meant for meaning in meanings]
    pairs = [f"means {a} {b}" for one, two in pairwise(meant) for a in one for b in two]
    yield 1.0, singles + pairs
    yield 1.5, [f"rule {wish.axis} {wish.value > 0} {wish.plain}" for wish in reading.wishes] or ["rule none"]
    yield 1.0, list(_form(reading))


def _pieces(reading: Reading) -> Iterator[str]:
    """Chinese in runs of one to three characters, English words in runs of four letters."""
    text = "".join(word.text for word in reading.words if _CHINESE.search(word.text))
    yield from (f"run {text[at : at + size]}" for size in (1, 2, 3) for at in range(len(text) - size + 1))
    for word in reading.words:
        if word.text.isascii():
            padded = f" {word.text} "
            yield from (f"run {padded[at : at + 4]}" for at in range(len(padded) - 3))


def _form(reading: Reading) -> Iterator[str]:
    """How much of a sentence is known, and if it asks a question."""
    content = [
        word
        for word in reading.words
        if not word.meanings & {"break", "polite", "be", "number", "place"} or len(word.meanings) > 1
    ]
    foreign = sum(1 for word in content if word.meanings & {"unknown", "other", "command", "fact"})
    share = foreign / len(content) if content else 0.0
    yield f"foreign share {round(share * 4)}"
    yield f"foreign {min(foreign, 5)}"
    yield f"content {min(len(content), 8)}"
    if "?" in (word.text for word in reading.words):
        yield "question mark"
    if reading.words and "ask" in reading.words[0].meanings:
        yield "asks first"
    for meaning in ("ask", "fact", "command", "other", "place"):
        times = sum(meaning in word.meanings for word in reading.words)
        if times:
            yield meaning
            yield f"{meaning} {min(times, 3)}"
    if reading.words:
        yield from (f"first {meaning}" for meaning in sorted(reading.words[0].meanings))
    yield f"wishes {len(reading.wishes)}"
    yield f"plain {max((wish.plain for wish in reading.wishes), default=0)}"
    yield f"reset {reading.reset}"
