"""The presentation stamps of a recording as nanoseconds since its beginning. Pure: numbers in, numbers out.

A recording's own stamps are believed as far as they agree with one another; each is judged by the ones before and after it:

=================================== ==============================================================================
it lies between its neighbors       it stays as it is
it does not, they go on without it  it is a stray: placed in the middle between the two
it goes back, and they go on there  the stamps begin again (joined segments): anchored one period after the last
there is none                       in the middle between the two, or one measured period after the last
=================================== ==============================================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TypeVar

from rtfusion.clock import NS_PER_S

T = TypeVar("T")

GAP_S = 1.0
GAP_PERIODS = 10
"""A gap is worth a word when it is longer than both."""
LEAST_GAPS = 4
"""So many gaps are needed to measure a rate."""
OFF_PERIOD, MOSTLY, MANY = 0.1, 0.8, 0.2
"""Gaps are periods of a rate when so many of them are whole ones, to so much of one, and so many single ones."""


class Timeline:
    """Places the frames of a recording in time: strictly increasing, also over loops, from 0 on."""

    def __init__(self, *, rate_hz: float) -> None:
        self.rate_hz = rate_hz
        self.period_ns = max(round(NS_PER_S / rate_hz), 1)
        self.missing = 0
        """Frames without a stamp."""
        self.strays = 0
        """Frames whose stamp fits nowhere."""
        self.restarts = 0
        """Times that the stamps began again."""
        self.longest_gap_ns = 0
        self._last_ns: int | None = None
        self._last_raw: int | None = None

    @property
    def next_ns(self) -> int:
        """The stamp of a next frame that keeps to the rate."""
        return 0 if self._last_ns is None else self._last_ns + self.period_ns

    def place(self, frames: Iterable[tuple[T, int | None]], *, origin_ns: int | None = None) -> Iterator[tuple[T, int]]:
        """Each of ``frames``, given with its own stamp in nanoseconds from any origin, with its stamp since the beginning.

        One round of the recording; the next round follows one period later. ``origin_ns`` is the frames' own stamp of the
        beginning, where the first frames of the recording could not be decoded; by default that of the first frame.
        """
        self._last_raw = None
        begin_ns, coming = self.next_ns, iter(frames)
        waiting: list[tuple[T, int | None]] = []
        broken: Exception | None = None
        while True:
            try:
                waiting.append(next(coming))
            except StopIteration:
                break
            except Exception as error:  # noqa: BLE001 - raised below, once the frame before has been given out
                broken = error
                break
            if len(waiting) == 2:
                frame, raw = waiting.pop(0)
                yield frame, self._placed(raw, waiting[0][1], begin_ns, origin_ns)
        for frame, raw in waiting:
            yield frame, self._placed(raw, None, begin_ns, origin_ns)
        if broken is not None:
            raise broken

    def _placed(self, raw: int | None, following: int | None, begin_ns: int, origin_ns: int | None) -> int:
        last_raw, last_ns = self._last_raw, self._last_ns
        if raw is None:
            self.missing += 1
            return self._between(following)
        if last_raw is None or last_ns is None:
            # the first with a stamp; frames before it that had none have been placed already
            since_ns = max(raw - origin_ns, 0) if origin_ns is not None else 0
            return self._take(max(begin_ns + since_ns, self.next_ns), raw)
        if raw > last_raw and self._is_believed(raw, last_raw, following):
            self.longest_gap_ns = max(self.longest_gap_ns, raw - last_raw)
            return self._take(last_ns + raw - last_raw, raw)
        if following is not None and following > raw and following <= last_raw:
            self.restarts += 1
            return self._take(self.next_ns, raw)
        self.strays += 1
        return self._between(following)

    def _is_believed(self, raw: int, last_raw: int, following: int | None) -> bool:
        """True for a stamp that goes on; where the next one lies before it, the better one of the two is believed."""
        if following is None or following >= raw or following <= last_raw:
            return True
        expected = last_raw + self.period_ns
        return abs(raw - expected) <= abs(following - expected)

    def _between(self, following: int | None) -> int:
        """Place a frame by its neighbors alone."""
        if self._last_ns is None or self._last_raw is None or following is None or following <= self._last_raw:
            return self._take(self.next_ns, None)
        return self._take(self._last_ns + max((following - self._last_raw) // 2, 1), None)

    def _take(self, placed_ns: int, raw: int | None) -> int:
        """Remember where a frame was placed, and by which stamp of its own; without one the frames go on from the last."""
        if raw is not None:
            self._last_raw = raw
        elif self._last_raw is not None and self._last_ns is not None:
            self._last_raw += placed_ns - self._last_ns
        self._last_ns = placed_ns
        return placed_ns

    def notes(self, *, count: int) -> list[str]:
        """What is to be said of the stamps of ``count`` frames."""
        notes = []
        if self.missing:
            notes.append(
                f"{self.missing} of {count} frames have no stamp; placed at {self.rate_hz:g} a second (?fps= says another rate)"
            )
        if self.strays:
            notes.append(
                f"{self.strays} of {count} stamps fit nowhere between the others; placed between their neighbors"
            )
        if self.restarts:
            times = "once" if self.restarts == 1 else f"{self.restarts} times"
            notes.append(
                f"its stamps begin again {times}, as where recordings were joined; each part is taken to follow at once"
            )
        gap_s = self.longest_gap_ns / NS_PER_S
        if gap_s > max(GAP_S, GAP_PERIODS / self.rate_hz):
            notes.append(f"there is a gap of {gap_s:.1f} s in its stamps, which is taken as true")
        return notes


def measured_rate_hz(stamps_ns: Sequence[int], *, claimed_hz: float | None = None) -> float | None:
    """Frames per second of stamps in the order of decoding; None where there are too few to tell.

    The usual gap counts, so that missing frames change nothing; stamps that begin again start a new stretch. A rate that is
    claimed is believed where the gaps are its periods, many of them single ones: the stamps themselves may be rounded.
    """
    gaps: list[int] = []
    for stretch in _stretches(stamps_ns):
        gaps += [late - early for early, late in pairwise(sorted(set(stretch)))]
    if len(gaps) < LEAST_GAPS:
        return None
    if claimed_hz is not None and _are_periods(gaps, NS_PER_S / claimed_hz):
        return claimed_hz
    usual = sorted(gaps)[len(gaps) // 4]  # up to three in four may be of frames that are missing
    alike = [gap for gap in gaps if 0.6 * usual < gap < 1.75 * usual]  # not the double ones, nor what jitter halves
    return NS_PER_S * len(alike) / sum(alike)


def _are_periods(gaps: Sequence[int], period_ns: float) -> bool:
    counts = [gap / period_ns for gap in gaps]
    whole = sum(abs(count - round(count)) < OFF_PERIOD and count > OFF_PERIOD for count in counts)
    single = sum(abs(count - 1) < OFF_PERIOD for count in counts)
    return whole >= MOSTLY * len(gaps) and single >= MANY * len(gaps)


def _stretches(stamps_ns: Sequence[int]) -> Iterator[list[int]]:
    """Parts between two that begin again: going back by more than the reordering of a codec does."""
    stretch: list[int] = []
    for stamp in stamps_ns:
        if len(stretch) > REORDERED and stamp < min(stretch[-REORDERED:]):
            yield stretch
            stretch = []
        stretch.append(stamp)
    yield stretch


REORDERED = 16
"""No codec shows a frame before so many frames that were decoded earlier."""
