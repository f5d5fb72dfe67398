"""Two sources as one stream of pairs: cameras, recordings, folders of images, sessions, the synthetic scene.

::

    with rtfusion.open_pairs(ir="thermal.mp4", vis="visible.mp4") as pairs:
        for pair in pairs:
            print(pair.timestamp_ns, pair.skew_ns)
    print(pairs.pairs, pairs.drops)

Every consumer of two sources reads them here, so that there is one rule for what belongs together (`rtfusion.pairing`).
Recordings are pulled: a frame is read when the rule asks for it, nothing is lost, and no thread is needed unless frames shall be
decoded ahead. Each camera is read by its own thread into a mailbox in which the newest frame wins.
"""

from __future__ import annotations

import math
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rtfusion.advice import advice_on_bands, advice_on_lengths, advice_on_rates
from rtfusion.capture import open_pair
from rtfusion.capture.base import Source, StreamInfo
from rtfusion.capture.loss import POLICIES, LossPolicy
from rtfusion.capture.shutter import MODES as SHUTTER_MODES
from rtfusion.capture.thread import CaptureThread, read_counted
from rtfusion.capture.watchdog import watched_sources
from rtfusion.clock import NS_PER_MS, NS_PER_S
from rtfusion.errors import ConfigError, EndOfStream
from rtfusion.mailbox import Closed, Mailbox, Policy, wait_any
from rtfusion.pairing import Pairer
from rtfusion.telemetry import Telemetry
from rtfusion.types import Band, Frame, FramePair

if TYPE_CHECKING:
    from rtfusion.session.source import SessionPairer

TICK_S = 0.1
CLOSE_S = 0.5
LIVE_CAPACITY = 8
RECORDED_CAPACITY, LARGE_CAPACITY = 8, 4
LARGE_PX = 1280 * 1024
"""Of recordings with more pixels fewer frames are read ahead: they take memory."""
UNPAIRED_WARNING_S = 2.0
LEAST_LEFT = 3
"""So many frames after the end of the other recording are worth a word."""
BEYOND_S = 1.0
"""Longest that they are waited for."""
RULES = ("once", "hold")


def open_pairs(
    *,
    ir: str | Path,
    vis: str | Path,
    ir_options: str | None = None,
    vis_options: str | None = None,
    loop: int = 1,
    pace: bool = False,
    pair: str = "once",
    tolerance_ms: float | None = None,
    thermal_delay_ms: float = 0.0,
    on_loss: str = "passthrough",
    shutter: str = "auto",
    max_pairs: int | None = None,
    stop: threading.Event | None = None,
    read_ahead: bool = False,
) -> PairStream:
    """Open a thermal and a visible source as one stream of pairs.

    Args:
        ir: the thermal source: a file, a folder of images, a camera, or a URI (docs/cameras.md).
        vis: the visible source.
        ir_options: parameters of the thermal URI beside it, such as ``rotate=180&half=left`` (docs/sources.md).
        vis_options: those of the visible one.
        loop: how many times recordings are played.
        pace: play recordings at their own speed.
        pair: ``once`` uses each frame at most once, ``hold`` gives every visible frame its nearest thermal frame.
        tolerance_ms: largest difference in time within a pair; None takes it from the frame rates (`rtfusion.pairing`).
        thermal_delay_ms: known delay of the thermal stamps.
        on_loss: what happens while one of two cameras is lost: ``passthrough``, ``hold`` or ``stop``.
        shutter: ``auto`` holds the last thermal picture while the camera is behind its shutter, ``off`` shows what comes.
        max_pairs: the stream ends after this many pairs.
        stop: the iteration ends when this event is set, and so does the opening of cameras.
        read_ahead: decode recordings ahead, in one thread per source; cameras always have one.

    Raises:
        ConfigError: an argument or a URI is wrong, both name the same thing, one is a camera and the other one a recording, or
            two folders have no image name in common.
        CaptureError: a source cannot be opened. Nothing stays open.
        EndOfStream: ``stop`` was set while a camera was opened.
    """
    for name, source in (("ir", ir), ("vis", vis)):
        if not isinstance(source, (str, Path)):
            raise ConfigError(f"{name} is {source!r}; expected a path or a URI as text")
    _check(
        pair=pair, on_loss=on_loss, tolerance_ms=tolerance_ms, thermal_delay_ms=thermal_delay_ms, max_pairs=max_pairs
    )
    if shutter not in SHUTTER_MODES:
        raise ConfigError(f"shutter is {shutter!r}; expected one of {', '.join(SHUTTER_MODES)}")
    visible, thermal = open_pair(
        visible=str(vis),
        thermal=str(ir),
        visible_options=vis_options,
        thermal_options=ir_options,
        loop=loop,
        pace=pace,
        shutter=shutter,
        stop=stop,
    )
    return PairStream(
        visible=visible,
        thermal=thermal,
        pair=pair,
        tolerance_ms=tolerance_ms,
        thermal_delay_ms=thermal_delay_ms,
        on_loss=on_loss,
        max_pairs=max_pairs,
        stop=stop,
        read_ahead=read_ahead,
    )


class PairStream:
    """Pairs of two sources: an iterator and a context manager. Made by `open_pairs`, or of two sources that are open.

    A ``for`` loop that ends, by ``break`` too, closes the stream. Who wants single pairs calls ``next(pairs)``, who does
    other things between them `poll`. One thread iterates; any thread may call `close` and read the counters.
    """

    def __init__(
        self,
        *,
        visible: Source,
        thermal: Source,
        pair: str = "once",
        tolerance_ms: float | None = None,
        thermal_delay_ms: float = 0.0,
        on_loss: str = "passthrough",
        max_pairs: int | None = None,
        stop: threading.Event | None = None,
        read_ahead: bool = False,
        telemetry: Telemetry | None = None,
    ) -> None:
        """Take two open sources, which are closed with the stream.

        The arguments are those of `open_pairs`; ``telemetry`` takes the counters in place of one of the stream's own.
        """
        self.visible: StreamInfo = visible.info
        self.thermal: StreamInfo = thermal.info
        self.live = visible.info.live or thermal.info.live
        """True when one of the sources is a camera."""
        self._thermal_delay_ns = round(thermal_delay_ms * NS_PER_MS)
        self._max_pairs = max_pairs
        self._stop = stop if stop is not None else threading.Event()
        self.telemetry = telemetry if telemetry is not None else Telemetry()
        """Counts frames read, pairs, and how far apart in time they are."""
        self._sources: Mapping[Band, Source] = {Band.VISIBLE: visible, Band.THERMAL: thermal}
        self._loss = LossPolicy(on_loss, self._sources)
        self._pairer = self._open_pairer(pair, tolerance_ms=tolerance_ms)
        largest_px = max(width * height for width, height in (visible.info.size_px, thermal.info.size_px))
        self._mailboxes = _mailboxes(live=self.live, largest_px=largest_px) if self.live or read_ahead else {}
        self._delivering = dict(self._mailboxes)
        self._captures: list[CaptureThread] = [
            CaptureThread(self._sources[band], mailbox, telemetry=self.telemetry)
            for band, mailbox in self._mailboxes.items()
        ]
        self._in_pairs: Counter[Band] = Counter()
        self._last_paired: dict[Band, Frame] = {}
        self._started = False
        self._paired_s: float | None = 0.0
        releasing = ExitStack()
        closings: list[Callable[[], None]] = [capture.close for capture in self._captures]
        for closing in closings or [visible.close, thermal.close]:
            releasing.callback(closing)
        self._release = weakref.finalize(self, releasing.close)
        self._release.atexit = False
        self._lengths_are_told = False
        if not self.thermal.uri.startswith("session:"):
            on_lengths = advice_on_lengths(visible=self.visible, thermal=self.thermal)
            self._lengths_are_told = on_lengths is not None
            for sentence in (on_lengths, advice_on_rates(visible=self.visible, thermal=self.thermal, pair=pair)):
                if sentence is not None:
                    self.telemetry.note(sentence)
            if (exchanged := advice_on_bands(visible=self.visible, thermal=self.thermal)) is not None:
                self.telemetry.warn(exchanged)

    # -- counters ---------------------------------------------------------------------------------------------------

    @property
    def pairs(self) -> int:
        """Number of pairs so far."""
        return self._pairer.pairs

    @property
    def frames_read(self) -> Mapping[Band, int]:
        """Number of frames that each source delivered so far."""
        return {band: self.telemetry.frames_read[band] for band in Band}

    @property
    def drops(self) -> Mapping[Band, Mapping[str, int]]:
        """Number of frames that came into no pair, by cause: of the pairing, of the source, and of a full mailbox."""
        return {
            band: {
                **self._pairer.drops[band],
                **source.drops,
                "queue_full": self._mailboxes[band].dropped if self._mailboxes else 0,
                "left_over": self._left_over(band),
            }
            for band, source in self._sources.items()
        }

    def _left_over(self, band: Band) -> int:
        """Frames that were read ahead, and that nobody needed any more when the stream was closed."""
        if not self.closed:
            return 0
        queue_full = self._mailboxes[band].dropped if self._mailboxes else 0
        accounted = self._in_pairs[band] + sum(self._pairer.drops[band].values()) + queue_full
        return max(self.telemetry.frames_read[band] - accounted, 0)

    @property
    def faults(self) -> Mapping[Band, Mapping[str, int]]:
        """Faults of watched cameras, by cause (`rtfusion.capture.watchdog`)."""
        return {band: dict(watched.faults) for band, watched in watched_sources(self._sources).items()}

    @property
    def lost(self) -> Mapping[Band, str | None]:
        """Why a watched camera is lost now; None while it delivers."""
        watched = watched_sources(self._sources)
        return {band: None if source.loss is None else str(source.loss) for band, source in watched.items()}

    @property
    def outages(self) -> Mapping[Band, Mapping[str, Any]]:
        """Times and seconds that each watched camera was lost; ``now`` has cause, reason, seconds, and what is shown."""
        found = {band: watched.outage_figures() for band, watched in watched_sources(self._sources).items()}
        for figures in found.values():
            if figures["now"] is not None:
                figures["now"]["shown"] = self._loss.shown
        return found

    @property
    def measured_hz(self) -> Mapping[Band, float]:
        """The rates of cameras, once enough frames came to tell them."""
        if not isinstance(self._pairer, Pairer):
            return {}
        rates = {band: self._pairer.measured_hz(band) for band in Band}
        return {band: rate for band, rate in rates.items() if rate is not None}

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences that a person should know of this stream; only ever appended to."""
        for source in self._sources.values():
            for note in source.notes:
                self.telemetry.note(note)
        return tuple(self.telemetry.notes)

    @property
    def closed(self) -> bool:
        """True once the stream was closed, or a loop over it ended."""
        return not self._release.alive

    def explain(self) -> str:
        """One sentence on where both streams are, for the case that nothing pairs."""
        return self._pairer.explain()

    # -- pairs ------------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[FramePair]:
        if self.closed:
            raise ConfigError(f"the pairs of {self.visible.uri} and {self.thermal.uri} were closed; open them again")
        return self._each()

    def _each(self) -> Iterator[FramePair]:
        with self:
            while (pair := next(self, None)) is not None:
                yield pair

    def __next__(self) -> FramePair:
        """The next pair, for which this waits."""
        while not self._stop.is_set():
            try:
                pair = self.poll(timeout_s=TICK_S)
            except EndOfStream:
                break
            if pair is not None:
                return pair
        raise StopIteration

    def poll(self, *, timeout_s: float) -> FramePair | None:
        """The next pair, or None if one step of reading, which waits at most ``timeout_s``, did not complete one.

        Raises:
            EndOfStream: no further pair comes, or the stream was closed.
            StreamLost: a source broke; live, a camera is lost and the policy is to stop.
        """
        if self._is_over():
            self._look_beyond()
            raise EndOfStream("no further pair comes")
        if not self._started:
            self._start()
        try:
            pair = self._poll_live(timeout_s) if self.live else self._poll_recorded(timeout_s)
        except Closed:
            raise EndOfStream("the stream of pairs was closed") from None
        if pair is not None:
            self._count_frames(pair)
            self.telemetry.paired(pair, thermal_delay_ns=self._thermal_delay_ns, tolerance_ns=self._pairer.tolerance_ns)
            if self._thermal_delay_ns:
                pair = replace(pair, thermal_delay_ns=self._thermal_delay_ns)
        return pair

    def _count_frames(self, pair: FramePair) -> None:
        """Count the frames of a pair; one that is held for several pairs, once."""
        for frame in (pair.visible, pair.thermal):
            if self._last_paired.get(frame.band) is not frame:
                self._last_paired[frame.band] = frame
                self._in_pairs[frame.band] += 1

    def _is_over(self) -> bool:
        return self.closed or self._pairer.finished or (self._max_pairs is not None and self.pairs >= self._max_pairs)

    def _look_beyond(self) -> None:
        """Let the recording that goes on be read as far as is worth a word: it may be just behind."""
        longer = self._pairer.goes_on if isinstance(self._pairer, Pairer) else None
        if longer is not None and self._mailboxes and not self._lengths_are_told and not self.closed:
            self._mailboxes[longer].await_items(LEAST_LEFT, timeout_s=BEYOND_S)

    def _start(self) -> None:
        self._started = True
        self._paired_s = time.monotonic()
        for capture in self._captures:
            capture.start()

    def _poll_recorded(self, timeout_s: float) -> FramePair | None:
        """Take what is ready, or read the stream that the rule asks for, so that neither runs ahead of the other."""
        if (pair := self._pairer.take()) is not None:
            return pair
        band = self._pairer.wants
        try:
            frame = self._read(band, timeout_s)
        except EndOfStream:
            if self.closed:
                raise
            self._pairer.end(band)
        else:
            if frame is not None:
                self._pairer.push(frame)
        return self._pairer.take()

    def _read(self, band: Band, timeout_s: float) -> Frame | None:
        if self._mailboxes:
            return self._mailboxes[band].get(timeout_s=timeout_s)
        return read_counted(self._sources[band], telemetry=self.telemetry, timeout_s=timeout_s)

    def _poll_live(self, timeout_s: float) -> FramePair | None:
        """The newest pair, as soon as there is one; while a camera is lost, each frame of the other one."""
        if self._delivering:
            wait_any(*self._delivering.values(), timeout_s=timeout_s)
        self._loss.refresh()
        alone: Frame | None = None
        for band in Band:
            for frame in self._arrived(band):
                if not self._loss.is_alone(frame):
                    self._pairer.push(frame)
                    continue
                if alone is not None:
                    self._pairer.drops[band]["superseded"] += 1
                alone = frame
        pair = self._pairer.take() if alone is None else self._loss.pair(alone, sequence=self._pairer.count())
        self._watch_pairing(pair)
        return pair

    def _arrived(self, band: Band) -> Iterator[Frame]:
        """Take the frames that wait in the mailbox of a band."""
        if band not in self._delivering:
            return
        try:
            while (frame := self._delivering[band].get(timeout_s=0.0)) is not None:
                yield frame
        except EndOfStream:
            del self._delivering[band]  # it would always be ready, and nothing would wait any more
            self._pairer.end(band)

    def _watch_pairing(self, pair: FramePair | None) -> None:
        """Note, once in every stretch without pairs, that nothing pairs."""
        now_s = time.monotonic()
        if pair is not None:
            self._paired_s = now_s
        elif self._paired_s is not None and now_s - self._paired_s > UNPAIRED_WARNING_S and not self._loss.any_lost:
            self.telemetry.warn(f"no pair for {UNPAIRED_WARNING_S:.0f} s: {self.explain()}")
            self._paired_s = None

    # -- the end ----------------------------------------------------------------------------------------------------

    def end(self) -> None:
        """Ask both sources to end, without waiting for their threads. Idempotent."""
        self._release()

    def close(self) -> None:
        """End every thread and release both sources. Idempotent.

        A source that does not close within half a second is left behind, and a note says so.
        """
        self.end()
        for capture in self._captures:
            if not capture.join(timeout_s=CLOSE_S):
                self.telemetry.note("a source did not close in time and was left behind")
        if self._started and not self.live:
            self._note_ending()

    def _note_ending(self) -> None:
        if self.pairs == 0:
            self.telemetry.note(f"no pair was made: {self.explain()}")
        if self._lengths_are_told or not isinstance(self._pairer, Pairer) or (longer := self._pairer.goes_on) is None:
            return
        drops, end_ns = self.drops[longer], self._pairer.last_ns(longer.other)
        if end_ns is not None and drops["other_ended"] + drops["left_over"] >= LEAST_LEFT:
            long, short = (self._sources[band].info.uri for band in (longer, longer.other))
            self.telemetry.note(
                f"{long} goes on after {end_ns / NS_PER_S:.1f} s, where {short} ended: the rest was not read"
            )

    def __enter__(self) -> PairStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open_pairer(self, pair: str, *, tolerance_ms: float | None) -> Pairer | SessionPairer:
        """The rule; the pairs of a recorded session stay as they were."""
        if self.thermal.uri.startswith("session:"):
            from rtfusion.session.source import SessionPairer, SessionSource

            visible, thermal = self._sources[Band.VISIBLE], self._sources[Band.THERMAL]
            if isinstance(visible, SessionSource) and isinstance(thermal, SessionSource):
                return SessionPairer(thermal.session)
        return Pairer(
            live=self.live,
            rate_hz={band: source.info.rate_hz for band, source in self._sources.items()},
            thermal_delay_ns=self._thermal_delay_ns,
            tolerance_ns=None if tolerance_ms is None else round(tolerance_ms * NS_PER_MS),
            hold=pair == "hold",
        )


def _mailboxes(*, live: bool, largest_px: int) -> Mapping[Band, Mailbox[Frame]]:
    """A mailbox for each band; those of cameras with one condition, so that one wait hears both."""
    if not live:  # what one recording gives must not wake the thread that reads the other one
        capacity = RECORDED_CAPACITY if largest_px <= LARGE_PX else LARGE_CAPACITY
        return {band: Mailbox(capacity=capacity, policy=Policy.BLOCK) for band in Band}
    arrival = threading.Condition()
    return {band: Mailbox(capacity=LIVE_CAPACITY, policy=Policy.LATEST, condition=arrival) for band in Band}


def _check(
    *, pair: str, on_loss: str, tolerance_ms: float | None, thermal_delay_ms: float, max_pairs: int | None
) -> None:
    if pair not in RULES:
        raise ConfigError(f"pair is {pair!r}; expected one of {', '.join(RULES)}")
    if on_loss not in POLICIES:
        raise ConfigError(f"on_loss is {on_loss!r}; expected one of {', '.join(POLICIES)}")
    if tolerance_ms is not None and not 0 <= tolerance_ms < math.inf:
        raise ConfigError(f"tolerance_ms is {tolerance_ms}; expected 0 or more")
    if not math.isfinite(thermal_delay_ms):
        raise ConfigError(f"thermal_delay_ms is {thermal_delay_ms}; expected a finite number")
    if max_pairs is not None and max_pairs < 1:
        raise ConfigError(f"max_pairs is {max_pairs}; expected 1 or more")
