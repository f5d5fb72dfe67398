"""Which fused picture is of which pair: told by time, never by position."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from rtfusion.capture.base import Source, StreamInfo
from rtfusion.clock import NS_PER_S
from rtfusion.errors import ConfigError, EndOfStream
from rtfusion.pairs import PairStream
from rtfusion.types import Frame, FramePair

READ_TIMEOUT_S = 10.0
OFF_TICK = 0.1
"""Share of a tick that a frame may be beside it, as stamps are rounded."""


def frames_of(source: Source) -> Iterator[Frame]:
    """All frames of a recording.

    Raises:
        CaptureError: it broke.
    """
    with suppress(EndOfStream):
        while True:
            yield source.read(timeout_s=READ_TIMEOUT_S)


def with_fused(
    pairs: PairStream, frames: Iterable[Frame], *, info: StreamInfo
) -> Iterator[tuple[FramePair, Frame | None]]:
    """Every pair of two recordings with the frame of a fused video that is of its moment, None where there is none.

    A pair and a frame belong together if each is the other's nearest in time, and they are at most half a visible period apart.
    The stamps of ``frames`` count from the first of them. When that was on the time axis of the pairs is told by ``info``, which
    describes the video; if it is not, the video is taken to begin with the first pair.

    Raises:
        ConfigError: the video is the AVI of a run, which holds no times, and the pairs are not at the ticks of its rate.
    """
    starts_ns = info.starts_ns
    tolerance_ns = NS_PER_S / pairs.visible.rate_hz / 2
    waiting, coming = deque[Frame](), iter(frames)
    end: tuple[Any, ...] = (None,)
    for pair, following in itertools.pairwise(itertools.chain(pairs, end)):
        starts_ns = pair.timestamp_ns if starts_ns is None else starts_ns
        event_ns = pair.timestamp_ns - starts_ns
        _check_ticks(info, event_ns)
        next_ns = math.inf if following is None else following.timestamp_ns - starts_ns
        waiting.extend(itertools.islice(coming, 2 - len(waiting)))
        while len(waiting) > 1 and abs(waiting[1].timestamp_ns - event_ns) < abs(waiting[0].timestamp_ns - event_ns):
            waiting.popleft()
            waiting.extend(itertools.islice(coming, 1))
        largest_ns = min(tolerance_ns, abs(next_ns - waiting[0].timestamp_ns)) if waiting else 0.0
        is_of_it = bool(waiting) and abs(waiting[0].timestamp_ns - event_ns) <= largest_ns
        yield pair, waiting.popleft() if is_of_it else None


def _check_ticks(info: StreamInfo, event_ns: int) -> None:
    """Refuse an AVI of a run with frames between the ticks of its rate: the sink puts them at any tick that is free."""
    ticks = event_ns * info.rate_hz / NS_PER_S
    is_ours = info.starts_ns is not None and info.description.endswith(" in avi")
    if is_ours and abs(ticks - round(ticks)) > OFF_TICK:
        raise ConfigError(
            f"{info.uri}: an AVI file holds no times, and the run had frames between its {info.rate_hz:.4g} ticks a second, "
            "so no picture can be told to be of one moment; write .mp4 or .mkv"
        )
