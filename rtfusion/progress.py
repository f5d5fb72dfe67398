"""How far long work is: told where it is done, shown by whoever listens. As with logging, nobody has to.

::

    for pair in steps(pairs, "comparing pairs"):        # a loop that says how far it is
        ...
    with part(0.0, 0.4):                                # what is told inside is the first two fifths of the whole
        search(...)

One listener, for the main thread alone: what other threads do is not a person's work in front of a terminal.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import NamedTuple, TypeVar

T = TypeVar("T")


class Step(NamedTuple):
    """How far the work is."""

    doing: str
    """What is done now, for a person: "comparing pairs"."""
    done: int
    total: int | None
    """Steps of what is done now; None where nobody knows."""
    share: float | None
    """Share of the whole that is done, in [0, 1]; None where nobody knows."""


Listener = Callable[[Step | None], None]
"""Gets every step, and None when the whole is over."""

_listeners: list[Listener] = []
_parts: list[tuple[float, float]] = []


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Have this one told of every step, for as long as this lasts."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def steps(items: Iterable[T], doing: str, *, total: int | None = None) -> Iterator[T]:
    """Go through ``items`` and tell how far that is; ``total`` is their number, where they do not know it themselves."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with part(0.0, 1.0):
        done = 0
        for item in items:
            tell(doing, done, total)
            yield item
            done += 1
        tell(doing, done, total)


def tell(doing: str, done: int, total: int | None) -> None:
    """Tell how far the work of this part is, where a loop is not `steps`; inside of `part`."""
    if not _listeners or threading.current_thread() is not threading.main_thread():
        return
    low, high = _parts[-1] if _parts else (0.0, 1.0)
    share = None if not total else low + (high - low) * min(done / total, 1.0)
    _listeners[-1](Step(doing, done, total, share))


@contextlib.contextmanager
def part(begin: float, end: float) -> Iterator[None]:
    """What is told inside goes from the share ``begin`` to the share ``end`` of what is around; the outermost is a whole."""
    if not _listeners or threading.current_thread() is not threading.main_thread():
        yield
        return
    low, high = _parts[-1] if _parts else (0.0, 1.0)
    depth = len(_parts)
    _parts.append((low + (high - low) * begin, low + (high - low) * end))
    try:
        yield
    finally:
        del _parts[depth:]  # also what a loop left behind that nobody went through to its end
        if not _parts and _listeners:
            _listeners[-1](None)
