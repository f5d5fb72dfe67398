"""The common part of all recordings: playing at their own speed, closing from another thread."""

from __future__ import annotations

import threading
from collections.abc import Generator
from dataclasses import replace
from fractions import Fraction

from rtfusion.capture.base import StreamInfo
from rtfusion.clock import NS_PER_S, Clock
from rtfusion.errors import CaptureError, CaptureTimeout, EndOfStream
from rtfusion.types import Frame

CLOSE_TIMEOUT_S = 2.0
"""Longest wait of `Playback.close` for a read in progress, which only a file system that hangs can use up."""


def pts_to_ns(pts: int, time_base: Fraction) -> int:
    """Convert a presentation time in units of ``time_base`` seconds, rounded down."""
    return pts * time_base.numerator * NS_PER_S // time_base.denominator


class Playback:
    """A recording as a `Source`: its frames as fast as they are asked for or, with ``pace``, not before they are due.

    A frame is due its timestamp after the first read. A frame that was held back counts as received when it was due.
    Each kind of recording gives the generator of its frames, sets `info` and counts into `drops`.
    """

    info: StreamInfo

    def __init__(self, frames: Generator[Frame, None, None], *, pace: bool, clock: Clock) -> None:
        self.drops: dict[str, int] = {}
        """Frames that the recording lost, by cause; ``corrupt``: not to be decoded."""
        self.notes: tuple[str, ...] = ()
        """Sentences for the user about this recording; complete once it has ended or was closed."""
        self._frames = frames
        self._pace = pace
        self._clock = clock
        self._reading = threading.Lock()
        self._closed = threading.Event()
        self._waiting: Frame | None = None
        self._peeked: Frame | None = None
        self._anchor_ns: int | None = None
        self._error: CaptureError | None = None

    def peek(self) -> Frame:
        """The first frame, which the first read returns again; raises as `read`."""
        if self._peeked is None:
            self._peeked = self._waiting = self._advance()
        return self._peeked

    def read(self, *, timeout_s: float) -> Frame:
        """The next frame, as `Source.read`. A frame that is not due in time stays the next one; what broke once raises again."""
        with self._reading:
            if self._closed.is_set():
                raise EndOfStream("the source was closed")
            if self._waiting is None:
                self._waiting = self._advance()
            frame = self._waiting
            if self._pace:
                handed_over_ns = self._hold_back(frame, timeout_s=timeout_s)
            else:
                handed_over_ns = self._clock.now_ns() if frame is self._peeked else 0
            self._waiting = self._peeked = None
        return frame if frame.received_ns >= handed_over_ns else replace(frame, received_ns=handed_over_ns)

    def close(self) -> None:
        """End the playback and release the files, from any thread. Idempotent."""
        self._closed.set()
        if self._reading.acquire(timeout=CLOSE_TIMEOUT_S):
            try:
                self._frames.close()
            finally:
                self._reading.release()

    def _advance(self) -> Frame:
        if self._error is not None:
            raise self._error
        try:
            return next(self._frames)
        except StopIteration:
            raise EndOfStream("the recording is over") from None
        except CaptureError as error:
            self._error = error
            raise

    def _hold_back(self, frame: Frame, *, timeout_s: float) -> int:
        """Wait until the frame is due; return that moment."""
        now_ns = self._clock.now_ns()
        if self._anchor_ns is None:
            self._anchor_ns = now_ns - frame.timestamp_ns
        due_ns = self._anchor_ns + frame.timestamp_ns
        limit_ns = now_ns + round(timeout_s * NS_PER_S)
        if not self._clock.sleep_until_ns(min(due_ns, limit_ns), wake=self._closed):
            raise EndOfStream("the source was closed")
        if due_ns > limit_ns:
            raise CaptureTimeout(f"no frame within {timeout_s:g} s; the next one is due later")
        return due_ns
