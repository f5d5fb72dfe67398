"""A bank of sentences with what they ask for, and a classifier that is fitted to it: what the rules' words do not reach."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from rtfusion.files import replacing
from rtfusion.intents.axes import AXES
from rtfusion.intents.rules import Reading, read

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rtfusion.intents.encoders import Encoder

WISHES = tuple(f"{axis}{sign}" for axis in AXES for sign in "+-")
"""The wishes that a sentence can be: one side of an axis."""
KINDS = (*WISHES, "reset", "off")
"""What a sentence can be: a wish, a reset, or nothing that is about the picture."""
BANKS = ("bank.txt", "bank_readers.txt")
_MADE_OF = (*BANKS, "lexicon.txt", "other_words.txt", "words.py", "scope.py", "rules.py", "bank.py")
"""What a fitted classifier depends on."""
_BUCKETS = 16384
_RIDGE = 3.0
_KEPT = 0.92
"""Of the wishes in the bank, so many are taken for one when they are judged by a classifier that did not see them."""
_ENCODED = 2.0
"""Weight of an encoder's vector beside the words."""
_CHINESE = re.compile("[\u3400-\u9fff]")


@dataclass(frozen=True, slots=True)
class Example:
    """A sentence and what it asks for: some of `KINDS`."""

    text: str
    kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Head:
    """Linear scores of a sentence: of its features, and of an encoder's vector where there is one."""

    words: NDArray[np.float32]
    """(buckets, kinds)"""
    encoded: NDArray[np.float32]
    """(dimensions, kinds); without an encoder there are no dimensions."""
    offset: NDArray[np.float32]
    """(kinds,)"""


@dataclass(frozen=True, slots=True)
class Classifier:
    """Gives every one of `KINDS` a score: about 1 where a sentence is of it, about 0 where not."""

    wish: Head
    """Of all kinds, by words alone: so it may judge what the rules found."""
    gate: Head
    """Of "off" alone, by words, their meanings, and what the rules found."""
    center: NDArray[np.float32]
    """(dimensions,): the mean of the encoder's vectors."""
    off_from: float
    """From this score for "off" on, a sentence is no wish for the picture."""

    def scores(self, reading: Reading, vector: NDArray[np.float32] | None = None) -> dict[str, float]:
        """The scores of one sentence, by `KINDS`; with the encoder's vector where it was fitted with one."""
        encoded = None if vector is None else _centered(vector[None], self.center)[0]
        by_kind = dict(zip(KINDS, _applied(self.wish, _buckets(reading, _WORDS), encoded), strict=True))
        (by_kind["off"],) = _applied(self.gate, _buckets(reading, _ALL), encoded)
        return by_kind


@functools.cache
def examples() -> tuple[Example, ...]:
    """The sentences of the bank."""
    found = []
    kinds: tuple[str, ...] = ()
    for line in "\n".join(_text(name) for name in BANKS).splitlines():
        if line.startswith("["):
            kinds = tuple(line.strip("[]").split())
        elif line and not line.startswith("#"):
            found.append(Example(line, kinds))
    return tuple(found)


@functools.cache
def fingerprint() -> str:
    """A hash of all that a fitted classifier depends on, but for the encoder."""
    files = (resources.files(__package__).joinpath(name).read_bytes() for name in _MADE_OF)
    return hashlib.sha256(b"\0".join(files)).hexdigest()


def classifier(encoder: Encoder | None) -> Classifier:
    """The classifier of the bank with this encoder, or without one: as it ships, from the cache, or fitted now and kept there.

    A cache that cannot be written is no error: the next start fits again.
    """
    name = "words" if encoder is None else encoder.name
    made_of = _made_of(encoder)
    for path in (Path(str(resources.files(__package__).joinpath(f"fitted_{name}.npz"))), _cached(made_of)):
        found = _load(path, made_of)
        if found is not None:
            return found
    fresh = fit(encoder)
    try:
        _cached(made_of).parent.mkdir(parents=True, exist_ok=True)
        save(fresh, encoder, _cached(made_of))
    except OSError:
        pass
    return fresh


def fit(encoder: Encoder | None) -> Classifier:
    """Fit a classifier to the bank. Ridge regression, the same every time; of an encoder it takes a vector a sentence."""
    import numpy as np

    known = examples()
    readings = [read(example.text) for example in known]
    wanted = np.array([[kind in example.kinds for kind in KINDS] for example in known], np.float32)
    vectors, center = np.zeros((len(known), 0), np.float32), np.zeros(0, np.float32)
    if encoder is not None:
        raw = encoder.encode([example.text for example in known])
        center = raw.mean(axis=0)
        vectors = _centered(raw, center)
    words = features_of(readings, _WORDS)
    wish, _ = _ridge(words, vectors, wanted)
    # the rules know the sentences of the bank better than those that come: every second one is seen without their help
    seen = np.where((np.arange(len(known)) % 2 == 0)[:, None], features_of(readings, _ALL), words)
    off = wanted[:, KINDS.index("off") :]
    gate, unseen = _ridge(seen, vectors, off)
    return Classifier(wish, gate, center, float(np.quantile(unseen[off == 0], _KEPT)))


def save(fitted: Classifier, encoder: Encoder | None, path: Path) -> None:
    """Write a classifier into a file of NumPy, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    import numpy as np

    heads = {f"{head} {name}": getattr(getattr(fitted, head), name) for head in _HEADS for name in _PARTS}
    half = {name: array.astype(np.float16) for name, array in {**heads, "center": fitted.center}.items()}
    with replacing(path) as part, part.open("wb") as stream:
        np.savez_compressed(stream, made_of=_made_of(encoder), off_from=fitted.off_from, **half)


def features_of(readings: Sequence[Reading], groups: Sequence[str]) -> NDArray[np.float32]:
    """These groups of features as numbers: (sentences, buckets)."""
    import numpy as np

    found = np.zeros((len(readings), _BUCKETS), np.float32)
    for row, reading in zip(found, readings, strict=True):
        for weight, buckets in _buckets(reading, groups):
            np.add.at(row, buckets, weight)
    return found


def _applied(head: Head, groups: Iterator[tuple[float, list[int]]], encoded: NDArray[np.float32] | None) -> list[float]:
    score = head.offset.copy()
    for weight, buckets in groups:
        score += weight * head.words[buckets].sum(axis=0)
    if encoded is not None:
        score += encoded @ head.encoded
    return score.tolist()


def _ridge(
    words: NDArray[np.float32], vectors: NDArray[np.float32], wanted: NDArray[np.float32]
) -> tuple[Head, NDArray[np.float32]]:
    """A head, and the scores of every sentence by the head that did not see it."""
    import numpy as np

    features = np.hstack([words, vectors])
    offset = wanted.mean(axis=0)
    kernel = features @ features.T
    kernel[np.diag_indices_from(kernel)] += _RIDGE
    inverse = np.linalg.inv(kernel.astype(np.float64))
    dual = inverse @ (wanted - offset)
    unseen = wanted - dual / np.diag(inverse)[:, None]
    weights = (features.T @ dual).astype(np.float32)
    return Head(weights[:_BUCKETS], weights[_BUCKETS:], offset), unseen


def _centered(vectors: NDArray[np.float32], center: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors about their mean, of length `_ENCODED`: what all sentences share tells nothing."""
    import numpy as np

    apart = vectors - center
    return _ENCODED * apart / np.maximum(np.linalg.norm(apart, axis=1, keepdims=True), 1e-6)


def _made_of(encoder: Encoder | None) -> str:
    return f"{fingerprint()} {'' if encoder is None else encoder.fingerprint}"


def _cached(made_of: str) -> Path:
    cache = os.environ.get("XDG_CACHE_HOME")
    folder = (Path(cache) if cache else Path.home() / ".cache") / "rtfusion" / "language"
    return folder / f"{hashlib.sha256(made_of.encode()).hexdigest()[:32]}.npz"


def _load(path: Path, made_of: str) -> Classifier | None:
    import zipfile

    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["made_of"]) != made_of:
                return None
            heads = {
                head: Head(**{name: file[f"{head} {name}"].astype(np.float32) for name in _PARTS}) for head in _HEADS
            }
            return Classifier(**heads, center=file["center"].astype(np.float32), off_from=float(file["off_from"]))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None


def _text(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _buckets(reading: Reading, groups: Sequence[str]) -> Iterator[tuple[float, list[int]]]:
    for group in groups:
        weight, named = _GROUPS[group]
        names = list(named(reading))
        if names:
            yield weight / len(names) ** 0.5, [zlib.crc32(name.encode()) % _BUCKETS for name in names]


def _words(reading: Reading) -> Iterator[str]:
    texts = [word.text for word in reading.words if "break" not in word.meanings]
    yield from (f"word {text}" for text in texts)
    yield from (f"words {one} {two}" for one, two in pairwise(texts))


def _meanings(reading: Reading) -> Iterator[str]:
    words = [word for word in reading.words if "break" not in word.meanings]
    meant = [sorted(word.meanings - {"polite"}) for word in words if word.meanings - {"polite"}]
    yield from (f"means {meaning}" for meanings in meant for meaning in meanings)
    yield from (f"means {a} {b}" for one, two in pairwise(meant) for a in one for b in two)


def _ruled(reading: Reading) -> Iterator[str]:
    yield from (f"rule {wish.axis} {wish.value > 0} {wish.plain}" for wish in reading.wishes)
    yield f"wishes {len(reading.wishes)}"
    yield f"plain {max((wish.plain for wish in reading.wishes), default=0)}"
    yield f"reset {reading.reset}"


def _pieces(reading: Reading) -> Iterator[str]:
    """Chinese in runs of one to three characters, English words in runs of four letters."""
    yield from sorted(set(_runs(reading)))


def _runs(reading: Reading) -> Iterator[str]:
    text = "".join(word.text for word in reading.words if _CHINESE.search(word.text))
    yield from (f"run {text[at : at + size]}" for size in (1, 2, 3) for at in range(len(text) - size + 1))
    for word in reading.words:
        if word.text.isascii():
            padded = f" {word.text} "
            yield from (f"run {padded[at : at + 4]}" for at in range(len(padded) - 3))


def _form(reading: Reading) -> Iterator[str]:
    """How much of a sentence is known, and if it asks a question."""
    silent = {"break", "polite", "be", "number", "place"}
    content = [word for word in reading.words if not word.meanings & silent or len(word.meanings) > 1]
    foreign = sum(1 for word in content if word.meanings & {"unknown", "other", "command", "fact"})
    share = foreign / len(content) if content else 0.0
    yield f"foreign share {round(share * 4)}"
    yield f"foreign {min(foreign, 5)}"
    yield f"content {min(len(content), 8)}"
    if "?" in (word.text for word in reading.words):
        yield "question mark"
    for meaning in ("ask", "fact", "command", "other", "place"):
        times = sum(meaning in word.meanings for word in reading.words)
        if times:
            yield meaning
            yield f"{meaning} {min(times, 3)}"
    if reading.words:
        yield from (f"first {meaning}" for meaning in sorted(reading.words[0].meanings))


_GROUPS: Mapping[str, tuple[float, Callable[[Reading], Iterator[str]]]] = {
    "words": (1.0, _words),
    "pieces": (1.0, _pieces),
    "meanings": (1.0, _meanings),
    "rules": (1.5, _ruled),
    "form": (1.0, _form),
}
"""Groups of features, each with its weight."""
_WORDS = ("words", "pieces")
_ALL = tuple(_GROUPS)
_HEADS = ("wish", "gate")
_PARTS = ("words", "encoded", "offset")
