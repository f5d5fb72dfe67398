"""Which fused picture is of which pair: told by time, never by position."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress

from rtfusion.capture.base import Source
from rtfusion.clock import NS_PER_S
from rtfusion.errors import EndOfStream
from rtfusion.pairs import PairStream
from rtfusion.types import Frame, FramePair

READ_TIMEOUT_S = 10.0


def frames_of(source: Source) -> Iterator[Frame]:
    """All frames of a recording.

    Raises:
        CaptureError: it broke.
    """
    with suppress(EndOfStream):
        while True:
            yield source.read(timeout_s=READ_TIMEOUT_S)


def with_fused(
    pairs: PairStream, frames: Iterable[Frame], *, starts_ns: int | None
) -> Iterator[tuple[FramePair, Frame | None]]:
    """Every pair of two recordings with the frame of a fused video that is of its moment, None where there is none.

    A pair and a frame belong together if each is the other's nearest in time, and they are at most half a visible period apart.
    The stamps of ``frames`` count from the first of them, which is ``starts_ns`` on the time axis of the pairs; if that is
    not known, the video is taken to begin with the first pair.
    """
    tolerance_ns = NS_PER_S / pairs.visible.rate_hz / 2
    waiting, coming = deque[Frame](), iter(frames)
    for pair, following in _with_following(pairs):
        starts_ns = pair.timestamp_ns if starts_ns is None else starts_ns
        event_ns = pair.timestamp_ns - starts_ns
        next_ns = math.inf if following is None else following.timestamp_ns - starts_ns
        waiting.extend(itertools.islice(coming, 2 - len(waiting)))
        while len(waiting) > 1 and abs(waiting[1].timestamp_ns - event_ns) < abs(waiting[0].timestamp_ns - event_ns):
            waiting.popleft()
            waiting.extend(itertools.islice(coming, 1))
        largest_ns = min(tolerance_ns, abs(next_ns - waiting[0].timestamp_ns)) if waiting else 0.0
        is_of_it = bool(waiting) and abs(waiting[0].timestamp_ns - event_ns) <= largest_ns
        yield pair, waiting.popleft() if is_of_it else None


def _with_following(pairs: PairStream) -> Iterator[tuple[FramePair, FramePair | None]]:
    """Every pair with the one after it; None after the last one."""
    before: FramePair | None = None
    for pair in pairs:
        if before is not None:
            yield before, pair
        before = pair
    if before is not None:
        yield before, None
