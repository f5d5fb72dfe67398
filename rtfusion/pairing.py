"""Two streams of frames in, pairs of one moment out. Pure: no threads, no clock.

The rule
--------
*Event time* is the stamp of a visible frame, and the stamp of a thermal frame minus the known thermal delay.

``once`` (default): every frame is used at most once.

- Recordings: a visible and a thermal frame are a pair when each is the other's nearest in event time. Nothing is
  lost: every frame ends in a pair or in a drop counter.
- Live streams: the first partner within the tolerance makes the pair, at once. With the default tolerance (0.6 of the
  faster stream's period) no frame still to come could be nearer by more than a fifth of that period, so waiting for it
  would only add delay. Of several pairs that are ready together the newest wins.

``hold``: every visible frame gets the nearest thermal frame, which may serve several visible frames (a 9 Hz thermal camera
beside a 30 Hz visible one). Live, nothing waits: the nearest thermal frame that is there is taken.

Every frame that finds no pair is counted with its cause:

============== ==================================================================================================
no_partner     the other stream has no frame of that moment
tolerance      its nearest partner is farther away than the tolerance
other_ended    the other stream is over
superseded     live only: a newer pair was ready
out_of_order   its stamp is not later than that of the frame before it
============== ==================================================================================================
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping

from rtfusion.clock import NS_PER_MS, NS_PER_S
from rtfusion.types import Band, Frame, FramePair

TOLERANCE_PERIODS = 0.6
"""Default tolerance of ``once`` in periods of the faster stream: half a period, and a tenth for jitter."""
HOLD_PERIODS = 2.0
"""Default tolerance of ``hold`` in periods of the thermal stream."""
LIVE_WINDOW = 16
"""Unpaired frames kept per live stream: covers a partner that is delivered late, as B-frames of a network camera are by 400 ms,
and bounds memory."""


OUTAGE_NS, OUTAGE_PERIODS = NS_PER_S, 5
"""A gap that is longer than both is no period: nothing came."""


class RateEstimator:
    """Frames per second of a live stream: a count over a span, since a mean of gaps swings when frames come in bursts.

    The time of an outage is in no span. A camera that is slow from then on is measured by its second gap and those after it.
    """

    def __init__(self, *, nominal_hz: float, span: int = 64, least: int = 8) -> None:
        self._known_period_ns = NS_PER_S / nominal_hz
        self._stamps_ns: deque[int] = deque(maxlen=span)
        self._least = least
        self.is_measured = False
        """Enough frames came to tell the period."""

    def push(self, timestamp_ns: int) -> None:
        """Take the stamp of one more frame."""
        if len(self._stamps_ns) > 1 and timestamp_ns - self._stamps_ns[-1] > max(
            OUTAGE_NS, OUTAGE_PERIODS * self._mean_gap_ns
        ):
            self._known_period_ns = self.period_ns
            self._stamps_ns.clear()
        self._stamps_ns.append(timestamp_ns)
        self.is_measured = self.is_measured or len(self._stamps_ns) >= self._least

    @property
    def period_ns(self) -> float:
        """Measured period; until enough frames came, the nominal one, and after an outage the one from before."""
        return self._mean_gap_ns if len(self._stamps_ns) >= self._least else self._known_period_ns

    @property
    def _mean_gap_ns(self) -> float:
        return (self._stamps_ns[-1] - self._stamps_ns[0]) / (len(self._stamps_ns) - 1)


class Pairer:
    """Makes pairs by the rule at the top of this module.

    Push frames as they come, say `end` when a recording is over, and `take` pairs until there is none. For recordings
    `wants` names the stream to read next, so that neither runs ahead of the other.
    """

    def __init__(
        self,
        *,
        live: bool,
        rate_hz: Mapping[Band, float],
        thermal_delay_ns: int = 0,
        tolerance_ns: int | None = None,
        hold: bool = False,
    ) -> None:
        self._live = live
        self._hold = hold
        self._delay_ns = {Band.VISIBLE: 0, Band.THERMAL: thermal_delay_ns}
        self._tolerance_ns = tolerance_ns
        self._rates = {band: RateEstimator(nominal_hz=rate_hz[band]) for band in Band}
        self._waiting: dict[Band, deque[Frame]] = {band: deque() for band in Band}
        self._ended: set[Band] = set()
        self._last_ns: dict[Band, int | None] = dict.fromkeys(Band)
        self._ready: deque[Mapping[Band, Frame]] = deque()
        self._held: Frame | None = None
        self._held_used = True
        self.pairs = 0
        self.drops: dict[Band, Counter[str]] = {band: Counter() for band in Band}

    @property
    def tolerance_ns(self) -> float:
        """Largest difference in event time within a pair, now."""
        if self._tolerance_ns is not None:
            return self._tolerance_ns
        if self._hold:
            return HOLD_PERIODS * self._rates[Band.THERMAL].period_ns
        return TOLERANCE_PERIODS * min(rate.period_ns for rate in self._rates.values())

    @property
    def wants(self) -> Band:
        """The recorded stream that must be read before the next decision can be made."""
        visible, thermal = self._waiting[Band.VISIBLE], self._waiting[Band.THERMAL]
        if not visible and Band.VISIBLE not in self._ended:
            return Band.VISIBLE
        if not thermal and Band.THERMAL not in self._ended:
            return Band.THERMAL
        if visible and thermal:
            earlier = self._earlier()
            if earlier not in self._ended:
                return earlier
        return Band.VISIBLE if Band.VISIBLE not in self._ended else Band.THERMAL

    @property
    def goes_on(self) -> Band | None:
        """The stream that was not over when the other one, and so the pairs, ended."""
        alone = set(Band) - self._ended
        return next(iter(alone)) if len(alone) == 1 and self.finished else None

    def measured_hz(self, band: Band) -> float | None:
        """The rate of a live stream, once enough frames came to tell it."""
        rate = self._rates[band]
        return NS_PER_S / rate.period_ns if rate.is_measured else None

    def last_ns(self, band: Band) -> int | None:
        """The last stamp of a stream."""
        return self._last_ns[band]

    @property
    def finished(self) -> bool:
        """True when no further pair can come."""
        over = any(band in self._ended and not self._waiting[band] for band in Band)
        if self._live and len(self._ended) == len(Band):
            over = True  # what still waits found no partner when it came
        if self._hold and Band.VISIBLE not in self._ended and self._held is not None:
            over = False
        over = over or (self._live and any(self._is_left_behind(band) for band in self._ended))
        return over and not self._ready

    def _is_left_behind(self, band: Band) -> bool:
        """True when the other stream has gone so far beyond the last frame of this one that none of them can pair any more."""
        last_ns, other_ns = self._last_ns[band], self._last_ns[band.other]
        if last_ns is None or other_ns is None:
            return False
        since_ns = (other_ns - self._delay_ns[band.other]) - (last_ns - self._delay_ns[band])
        return since_ns > self.tolerance_ns

    def push(self, frame: Frame) -> None:
        """Take one frame; frames of one band come in order of their stamps."""
        band = frame.band
        last_ns = self._last_ns[band]
        if last_ns is not None and frame.timestamp_ns <= last_ns:
            self.drops[band]["out_of_order"] += 1
            return
        self._last_ns[band] = frame.timestamp_ns
        if self._live:
            self._rates[band].push(frame.timestamp_ns)
        self._waiting[band].append(frame)
        self._match(frame)
        if self._ended and self.finished:
            self._drop_rest()

    def end(self, band: Band) -> None:
        """Say that a stream has no further frames."""
        self._ended.add(band)
        self._match()
        if self.finished:
            self._drop_rest()

    def take(self) -> FramePair | None:
        """The next pair, or None. Live, the newest; older ones that were ready too are counted as superseded."""
        if not self._ready:
            return None
        if self._live:
            for band in Band:
                self.drops[band]["superseded"] += len(self._ready) - 1
            matched = self._ready.pop()
            self._ready.clear()
        else:
            matched = self._ready.popleft()
        if self.finished:
            self._drop_rest()
        return FramePair(visible=matched[Band.VISIBLE], thermal=matched[Band.THERMAL], sequence=self.count())

    def count(self) -> int:
        """The number of the next pair; for pairs that are made elsewhere, while a camera is lost."""
        self.pairs += 1
        return self.pairs - 1

    def explain(self) -> str:
        """One sentence on where both streams are, for the case that nothing pairs."""

        def state(band: Band) -> str:
            last_ns = self._last_ns[band]
            stamp = "no frame yet" if last_ns is None else f"last stamp {last_ns / NS_PER_MS:.1f} ms"
            return f"{band.value}: {stamp}, {NS_PER_S / self._rates[band].period_ns:.1f} Hz"

        return (
            f"{state(Band.VISIBLE)}; {state(Band.THERMAL)}; thermal delay {self._delay_ns[Band.THERMAL] / NS_PER_MS:.1f} ms, "
            f"tolerance {self.tolerance_ns / NS_PER_MS:.1f} ms"
        )

    # -- the rule ---------------------------------------------------------------------------------------------------

    def _match(self, newest: Frame | None = None) -> None:
        """Decide all that can be decided now that ``newest`` came, or a stream ended."""
        if self._live and not self._hold:
            if newest is not None:
                self._once_live(newest)
            return
        recorded = self._hold_recorded if self._hold else self._once_recorded
        step = self._hold_live if self._live else recorded
        while step():
            pass

    def _event_ns(self, frame: Frame) -> int:
        return frame.timestamp_ns - self._delay_ns[frame.band]

    def _gap_ns(self, first: Frame, second: Frame) -> int:
        return abs(self._event_ns(first) - self._event_ns(second))

    def _earlier(self) -> Band:
        visible, thermal = self._waiting[Band.VISIBLE][0], self._waiting[Band.THERMAL][0]
        return Band.VISIBLE if self._event_ns(visible) <= self._event_ns(thermal) else Band.THERMAL

    def _drop_first(self, band: Band, cause: str) -> None:
        self._waiting[band].popleft()
        self.drops[band][cause] += 1

    def _emit(self, first: Frame, second: Frame) -> None:
        self._ready.append({first.band: first, second.band: second})

    def _once_recorded(self) -> bool:
        """Decide about the earlier of the two heads; False when more frames are needed first."""
        if not all(self._waiting.values()):
            return False
        band = self._earlier()
        mine, theirs = self._waiting[band], self._waiting[band.other]
        if len(mine) < 2 and band not in self._ended:
            return False  # its successor may be nearer to the other head
        gap_ns = self._gap_ns(mine[0], theirs[0])
        if len(mine) > 1 and self._gap_ns(mine[1], theirs[0]) < gap_ns:
            self._drop_first(band, "no_partner")
        elif gap_ns > self.tolerance_ns:
            self._drop_first(band, "tolerance")
        else:
            self._emit(mine.popleft(), theirs.popleft())
        return True

    def _once_live(self, newest: Frame) -> None:
        """Pair the frame that just came with its nearest waiting partner, if one is within the tolerance."""
        mine, theirs = self._waiting[newest.band], self._waiting[newest.band.other]
        partner = min(range(len(theirs)), key=lambda i: self._gap_ns(theirs[i], newest), default=None)
        if partner is None or self._gap_ns(theirs[partner], newest) > self.tolerance_ns:
            if len(mine) > LIVE_WINDOW:
                self._drop_first(newest.band, "no_partner")
            return
        for _ in range(len(mine) - 1):
            self._drop_first(newest.band, "no_partner")
        for _ in range(partner):
            self._drop_first(newest.band.other, "no_partner")
        self._emit(mine.popleft(), theirs.popleft())

    def _hold_recorded(self) -> bool:
        """Give the first waiting visible frame its nearest thermal frame, once that is known."""
        visible, thermal = self._waiting[Band.VISIBLE], self._waiting[Band.THERMAL]
        if not visible:
            return False
        if thermal and (
            self._held is None or self._gap_ns(thermal[0], visible[0]) <= self._gap_ns(self._held, visible[0])
        ):
            self._hold_next()
            return True
        if not thermal and Band.THERMAL not in self._ended:
            return False  # the next thermal frame may be nearer
        self._emit_held(visible.popleft())
        return True

    def _hold_live(self) -> bool:
        """Give the first waiting visible frame the nearest thermal frame that is there."""
        visible, thermal = self._waiting[Band.VISIBLE], self._waiting[Band.THERMAL]
        if not visible:
            while len(thermal) > LIVE_WINDOW:
                self._hold_next()
            return False
        while thermal and (
            self._held is None or self._gap_ns(thermal[0], visible[0]) <= self._gap_ns(self._held, visible[0])
        ):
            self._hold_next()
        self._emit_held(visible.popleft())
        return True

    def _hold_next(self) -> None:
        if not self._held_used:
            self.drops[Band.THERMAL]["no_partner"] += 1
        self._held, self._held_used = self._waiting[Band.THERMAL].popleft(), False

    def _emit_held(self, visible: Frame) -> None:
        if self._held is None:
            self.drops[Band.VISIBLE]["no_partner"] += 1
        elif self._gap_ns(self._held, visible) > self.tolerance_ns:
            self.drops[Band.VISIBLE]["tolerance"] += 1
        else:
            self._emit(visible, self._held)
            self._held_used = True

    def _drop_rest(self) -> None:
        for band in Band:
            self.drops[band]["other_ended"] += len(self._waiting[band])
            self._waiting[band].clear()
        if self._hold and not self._held_used:
            self.drops[Band.THERMAL]["no_partner"] += 1
            self._held_used = True
