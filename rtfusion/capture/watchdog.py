"""Keeps a camera alive: notices what goes wrong with it, opens it again for as long as it takes, and counts.

============ =========================================================================== ===================================
cause        noticed when                                                                then
============ =========================================================================== ===================================
unplugged    the device or the connection is gone                                        opened again
silent       no frame for `limit_s`: two periods, and at least 1.7 s                     opened again, after `patience_s`
corrupt      nothing but damaged frames for as long                                      opened again, after `patience_s`
frozen       the same picture for `patience_s`                                           opened again
size         frames of another size; of the same aspect they are scaled to the first one  opened again where the aspect differs
rate         another rate than before, by a third and for four seconds                   goes on
============ =========================================================================== ===================================

`patience_s` is `limit_s`, and of a thermal camera a little more than the 3 s that a shutter may take: some cameras repeat their
last picture meanwhile, or send none, and are none the better for being closed.

Only a camera that was seen to live can freeze: the last pictures before all differed. A picture that stands still from the
beginning, a test picture or the screen of a recorder, is what the camera shows. When a camera of 8 bits shows the very same
picture once it was opened again, it is taken as such until it changes. The noise of raw counts never stands still, so there this
is not believed.

A thermal frame that repeats the one before (a 9 Hz sensor in a 27 Hz stream) is counted as ``duplicate`` and not passed on. What
repeats for longer than any sensor is slow is passed on: marked as behind the shutter, if the camera had lived before.

Time in which nobody reads is nobody's fault, and does not count.
"""

from __future__ import annotations

import logging
import random
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import cv2

from rtfusion.capture.base import Source
from rtfusion.capture.shutter import LONGEST_NS as LONGEST_SHUTTER_NS
from rtfusion.clock import MONOTONIC, NS_PER_S, Clock
from rtfusion.errors import CaptureError, CaptureTimeout, EndOfStream, StreamLost
from rtfusion.types import Band, Frame, Image, PixelFormat

_log = logging.getLogger(__name__)

LEAST_LIMIT_S = 1.7
"""So that it is known within 2 s, with the time that it takes to be heard of on a busy machine."""
SHUTTER_S = LONGEST_SHUTTER_NS / NS_PER_S + 0.3
HELD_NS = NS_PER_S // 4
"""A picture that repeats for so long, and more often than `USUAL_REPEATS`, is held by the camera: no sensor is so slow."""
USUAL_REPEATS = 3
LIVELY = 10
"""A camera lives when so many pictures in a row were different ones."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 10.0
SAME_ASPECT = 0.02
RATE_STEP = 1 / 3
SMALL_BYTES = 1 << 17


@dataclass(slots=True, eq=False)
class Outage:
    """One time at which a camera was lost."""

    cause: str
    """``unplugged``, ``silent``, ``corrupt``, ``frozen`` or ``size``."""
    error: StreamLost
    since_ns: int
    """The time of the last that was heard of it."""
    until_ns: int | None = None
    """None while it lasts."""


class WatchedSource:
    """A camera that comes back: a `Source` whose frames keep to one size, one count and one clock over all interruptions.

    ``open_source`` opens the camera; it is called again, from within `read`, whenever the camera is lost, after a pause that
    grows from 0.5 s to 10 s and is never the same for two cameras. An opening may take longer than a read was to.
    """

    def __init__(
        self,
        open_source: Callable[[], Source],
        *,
        clock: Clock = MONOTONIC,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Open the camera for the first time.

        Raises:
            CaptureError: it cannot be opened. (What fails now would fail for ever; only what once worked is waited for.)
        """
        self._open_source = open_source
        self._clock = clock
        self._jitter = jitter
        self._closed = threading.Event()
        self._source: Source | None = open_source()
        self.info = self._source.info
        """The stream as the camera was first opened: the rest of the run is made for its size, format and rate."""
        self._drops: Counter[str] = Counter()
        self._notes: list[str] = []
        self.faults: Counter[str] = Counter()
        """Times that each cause was noticed, and ``reopened``."""
        self.outage: Outage | None = None
        """The last time at which the camera was lost."""
        self.outages = 0
        """Times that it was lost."""
        self._lost_ns = 0
        self._next_sequence = self._base = 0
        self._attempts = 0
        self._retry_ns = 0
        self._picture = PictureWatch()
        self._held_told = self._still_told = False
        self._left_ns = clock.now_ns()
        self._rate = RateWatch(self.info.rate_hz)
        self._sizes_told: set[tuple[int, int]] = set()
        self._scaled_from_px = self.info.size_px
        self._restart()

    @property
    def drops(self) -> dict[str, int]:
        """Frames lost, by cause, over all openings."""
        drops = Counter(self._drops)
        source = self._source
        if source is not None:
            drops.update(source.drops)
        return dict(drops)

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the user about this camera."""
        source = self._source
        return tuple(dict.fromkeys((*self._notes, *(source.notes if source is not None else ()))))

    @property
    def loss(self) -> StreamLost | None:
        """Why the camera is lost; None while it delivers."""
        outage = self.outage
        return None if outage is None or outage.until_ns is not None else outage.error

    @property
    def is_closed(self) -> bool:
        """True while it is lost and was closed, to be opened again; before that it may come back by itself."""
        return self._source is None

    def outage_figures(self) -> dict[str, Any]:
        """Times and seconds that it was lost, and what is so now: JSON-able."""
        outage, now_ns = self.outage, self._clock.now_ns()
        figures: dict[str, Any] = {"times": self.outages, "seconds": self._lost_ns / NS_PER_S, "now": None}
        if outage is not None and outage.until_ns is None:
            seconds = (now_ns - outage.since_ns) / NS_PER_S
            figures["seconds"] += seconds
            figures["now"] = {"cause": outage.cause, "reason": str(outage.error), "seconds": seconds}
        return figures

    @property
    def limit_s(self) -> float:
        """Seconds for which it may be silent or damaged before it counts as lost."""
        return max(2 * self._rate.period_ns / NS_PER_S, LEAST_LIMIT_S)

    @property
    def patience_s(self) -> float:
        """Seconds for which it may be silent, damaged or frozen before it is closed, to be opened again."""
        return max(self.limit_s, SHUTTER_S) if self.info.band is Band.THERMAL else self.limit_s

    def read(self, *, timeout_s: float) -> Frame:
        """The next frame, as `Source.read`; but a lost camera is only late, and `loss` says why."""
        now_ns = self._clock.now_ns()
        self._forgive(now_ns - self._left_ns)
        try:
            return self._read(now_ns + round(timeout_s * NS_PER_S), timeout_s)
        finally:
            self._left_ns = self._clock.now_ns()

    def _forgive(self, unread_ns: int) -> None:
        """Leave out time in which nobody read: the camera may have delivered all the while."""
        self._heard_ns += unread_ns
        self._picture.since_ns += unread_ns

    def _read(self, deadline_ns: int, timeout_s: float) -> Frame:
        while not self._closed.is_set():
            source = self._source
            if source is None:
                self._reopen(deadline_ns)
            else:
                frame = self._watched(source, deadline_ns)
                if frame is not None:
                    return frame
            if self._clock.now_ns() >= deadline_ns:
                raise CaptureTimeout(f"{self.info.uri}: no frame within {timeout_s:g} s")
        raise EndOfStream("the source was closed")

    def close(self) -> None:
        """Release the camera, from any thread. Idempotent."""
        self._closed.set()
        source = self._source
        if source is not None:
            source.close()

    def _watched(self, source: Source, deadline_ns: int) -> Frame | None:
        """The next frame, or None: none in time, a repeated one, or the camera was lost."""
        now_ns = self._clock.now_ns()
        is_told = self.loss is not None
        next_ns = self._heard_ns + round((self.patience_s if is_told else self.limit_s) * NS_PER_S)
        try:
            frame = source.read(timeout_s=max(min(deadline_ns, next_ns) - now_ns, 0) / NS_PER_S)
        except CaptureTimeout:
            if self._clock.now_ns() >= next_ns:
                self._miss(source)
            return None
        except EndOfStream:
            if not self._closed.is_set():
                self._lose("unplugged", "the stream ended")
            return None
        except StreamLost as error:
            self._lose("unplugged", str(error).removeprefix(f"{self.info.uri}: "))
            return None
        return self._judged(frame, source)

    def _miss(self, source: Source) -> None:
        """Nothing came for too long: say so, and close the camera once it had the time of a shutter."""
        silent_s = (self._clock.now_ns() - self._heard_ns) / NS_PER_S
        cause, reason = self._cause(source), f"no whole and new frame for {silent_s:.1f} s"
        if silent_s >= self.patience_s:
            self._lose(cause, reason)
        else:
            self._note_loss(cause, reason)

    def _cause(self, source: Source) -> str:
        """Why nothing came: by what the source itself dropped meanwhile."""
        dropped = Counter(source.drops) - self._dropped_before
        return "corrupt" if dropped["corrupt"] else "frozen" if dropped["duplicate"] else "silent"

    def _judged(self, frame: Frame, source: Source) -> Frame | None:
        """The frame as it is passed on, or None for one that is not."""
        self._heard_ns = self._clock.now_ns()
        self._dropped_before = Counter(source.drops)
        repeated = self._picture.repeats(frame, now_ns=self._heard_ns)
        held_s = (self._heard_ns - self._picture.since_ns) / NS_PER_S
        if repeated and self._picture.may_be_frozen and held_s >= self.patience_s:
            self._picture.froze()
            self._lose("frozen", f"the same picture for {held_s:.1f} s", since_ns=self._picture.since_ns)
            return None
        is_held = self.loss is None and self._picture.is_held(self._heard_ns)
        if repeated and frame.band is Band.THERMAL and not is_held:
            self._drops["duplicate"] += 1
            return None
        is_still = repeated and held_s >= self.limit_s and not self._picture.may_be_frozen
        if is_still and not self._still_told:
            self._still_told = True
            self._notes.append(
                f"{self.info.uri}: its picture has not changed since the start: a still, or the camera hangs"
            )
        fitted = self._fitted(frame)
        if fitted is None:
            return None
        if self._rate.changed(frame.timestamp_ns, sequence=frame.sequence):
            self.faults["rate"] += 1
        self._recover()
        self._attempts = 0
        is_shutter = frame.shutter or (repeated and frame.band is Band.THERMAL and self._picture.may_be_frozen)
        self._tell_held(is_shutter and repeated, held_s)
        sequence = self._base + frame.sequence
        self._next_sequence = sequence + 1
        return replace(fitted, sequence=sequence, shutter=is_shutter)

    def _tell_held(self, is_held: bool, held_s: float) -> None:
        """Say once, in time, that a thermal camera repeats its picture for longer than most shutters take."""
        if is_held and held_s >= self.limit_s and not self._held_told:
            _log.warning(
                "%s: the same picture for %.1f s: its shutter is closed, or it froze; at %.1f s it is opened again",
                self.info.uri, held_s, self.patience_s,
            )  # fmt: skip
        self._held_told = is_held and held_s >= self.limit_s

    def _fitted(self, frame: Frame) -> Frame | None:
        """The frame in the size of the first one, or None when it has another aspect."""
        if frame.size_px != self._scaled_from_px:
            self._scaled_from_px = frame.size_px
            self.faults["size"] += 1
        if frame.size_px == self.info.size_px:
            return frame
        (width, height), (old_width, old_height) = frame.size_px, self.info.size_px
        told = f"{width}x{height} instead of {old_width}x{old_height}"
        if abs(width * old_height / (height * old_width) - 1) > SAME_ASPECT:
            self._tell(frame.size_px, f"it delivers {told}, which is another view; it is lost until that ends")
            self._lose("size", f"frames of {told}", count=False)
            return None
        self._tell(frame.size_px, f"it delivers {told}; its frames are scaled")
        shrinks = width > old_width
        image = cv2.resize(
            frame.image, self.info.size_px, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        )
        return replace(frame, image=cast(Image, image))

    def _tell(self, size_px: tuple[int, int], note: str) -> None:
        if size_px not in self._sizes_told:
            self._sizes_told.add(size_px)
            self._notes.append(f"{self.info.uri}: {note}")

    def _note_loss(self, cause: str, reason: str, *, since_ns: int | None = None, count: bool = True) -> None:
        """The camera is lost from now on, if it is not already; each cause is counted once."""
        error = StreamLost(f"{self.info.uri}: {reason}")
        lasting = self.outage if self.loss is not None else None
        if count and (lasting is None or lasting.cause != cause):
            self.faults[cause] += 1
        if lasting is not None:
            lasting.cause, lasting.error = cause, error
            return
        self.outages += 1
        self.outage = Outage(cause, error, self._heard_ns if since_ns is None else since_ns)

    def _recover(self) -> None:
        outage = self.outage
        if outage is not None and outage.until_ns is None:
            outage.until_ns = self._clock.now_ns()
            self._lost_ns += outage.until_ns - outage.since_ns

    def _lose(self, cause: str, reason: str, *, since_ns: int | None = None, count: bool = True) -> None:
        """Let go of the camera, to open it again."""
        self._note_loss(cause, reason, since_ns=since_ns, count=count)
        source, self._source = self._source, None
        if source is not None:
            source.close()
            self._drops.update(source.drops)
            self._notes += [note for note in source.notes if note not in self._notes]
        self._pause()

    def _pause(self) -> None:
        """Wait longer after each attempt; between half and the whole of it, so that two cameras do not keep step."""
        pause_s = min(FIRST_PAUSE_S * 2**self._attempts, LONGEST_PAUSE_S)
        self._attempts = min(self._attempts + 1, 16)
        self._retry_ns = self._clock.now_ns() + round(pause_s * (0.5 + 0.5 * self._jitter()) * NS_PER_S)

    def _reopen(self, deadline_ns: int) -> None:
        """Wait for the next attempt, at most until the deadline, and make it."""
        if not self._clock.sleep_until_ns(min(self._retry_ns, deadline_ns), wake=self._closed):
            return
        if self._clock.now_ns() < self._retry_ns:
            return
        try:
            source = self._open_source()
        except CaptureError as error:
            if self.outage is not None:
                self.outage.error = StreamLost(str(error))
            self._pause()
            return
        self._source = source
        if self._closed.is_set():  # `close` may have looked for a source before there was one
            source.close()
            return
        self.faults["reopened"] += 1
        self._base = self._next_sequence
        self._restart()

    def _restart(self) -> None:
        """Begin to watch a camera that was just opened."""
        self._heard_ns = self._clock.now_ns()
        self._dropped_before = Counter(self._source.drops if self._source is not None else {})
        self._picture.restart(now_ns=self._heard_ns)
        self._rate.restart()


class PictureWatch:
    """Tells by a checksum of a part of their pixels when pictures no longer change, and whether that is strange."""

    def __init__(self) -> None:
        self.since_ns = 0
        """The time at which the present picture came first."""
        self._checksum: int | None = None
        self._frozen_at: int | None = None
        self._still = False
        self._repeats = 0
        self._different = 0
        self._was_lively = False

    @property
    def may_be_frozen(self) -> bool:
        """The pictures before the present one differed from each other, or it is the one at which the camera froze."""
        return self._was_lively or (self._checksum is not None and self._checksum == self._frozen_at)

    def repeats(self, frame: Frame, *, now_ns: int) -> bool:
        """True when the frame shows the picture of the one before, and that means something."""
        if frame.shutter:  # held on purpose
            self.since_ns = now_ns
            return False
        checksum = _checksum(frame.image)
        if checksum != self._checksum:
            is_frozen_still = self._checksum is None and checksum == self._frozen_at
            may_stand_still = frame.pixel_format is not PixelFormat.GRAY16
            self._still = is_frozen_still and may_stand_still
            self._different = 0 if self.is_held(now_ns) else self._different + 1
            self._was_lively = self._different >= LIVELY
            self._checksum, self.since_ns, self._repeats = checksum, now_ns, 0
            return is_frozen_still and not may_stand_still
        self._repeats += 1
        return not self._still

    def is_held(self, now_ns: int) -> bool:
        """True when the present picture has repeated for longer than by a slow sensor."""
        return self._repeats > USUAL_REPEATS and now_ns - self.since_ns > HELD_NS

    def froze(self) -> None:
        """Remember the present picture as the one that the camera froze at."""
        self._frozen_at = self._checksum

    def restart(self, *, now_ns: int) -> None:
        """Take the next picture as the first one of a camera just opened."""
        self._checksum, self._still, self.since_ns, self._repeats = None, False, now_ns, 0


def _checksum(image: Image) -> int:
    part = image if image.nbytes <= SMALL_BYTES else image[::4, ::4]
    return zlib.crc32(part.tobytes())


class RateWatch:
    """The rate that a camera really has; it has changed when two windows in a row agree that it did.

    Frames that are missing in its numbers count: they were lost here or on the way, and the camera made them all the same.
    """

    WINDOW_NS = 2 * NS_PER_S
    LEAST_FRAMES = 6

    FOLLOWS = 0.1
    """A window of which half was at another rate must not pass for the usual one."""

    def __init__(self, nominal_hz: float) -> None:
        self.period_ns = NS_PER_S / nominal_hz
        """The mean period in the last window."""
        self._usual_ns: float | None = None
        self._suspected_ns: float | None = None
        self._began: tuple[int, int] | None = None
        """Stamp and number of the first frame of the present window."""

    def changed(self, timestamp_ns: int, *, sequence: int) -> bool:
        """Take the stamp and the number of the next frame; True at the end of the window that confirms another rate."""
        if self._began is None:
            self._began = timestamp_ns, sequence
        span_ns, periods = timestamp_ns - self._began[0], sequence - self._began[1]
        if span_ns < self.WINDOW_NS or periods < self.LEAST_FRAMES:
            return False
        period_ns = span_ns / periods
        self._began = timestamp_ns, sequence
        self.period_ns = period_ns
        if self._usual_ns is None:
            self._usual_ns = period_ns
        if _alike(period_ns, self._usual_ns):
            self._usual_ns += self.FOLLOWS * (period_ns - self._usual_ns)
            self._suspected_ns = None
            return False
        if self._suspected_ns is None or not _alike(period_ns, self._suspected_ns):
            self._suspected_ns = period_ns
            return False
        self._usual_ns, self._suspected_ns = period_ns, None
        return True

    def restart(self) -> None:
        """Begin a new window: what comes next does not follow on what came before."""
        self._began = self._suspected_ns = None


def _alike(first_ns: float, second_ns: float) -> bool:
    return 1 - RATE_STEP < first_ns / second_ns < 1 / (1 - RATE_STEP)


def watched_sources(sources: Mapping[Band, Source]) -> dict[Band, WatchedSource]:
    """Pick the sources that are watched: cameras, not recordings."""
    return {band: source for band, source in sources.items() if isinstance(source, WatchedSource)}
