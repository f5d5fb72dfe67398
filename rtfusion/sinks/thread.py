"""One thread per sink, so that no sink can slow the run, nor another sink, nor end a run of cameras."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable

from rtfusion.clock import MONOTONIC, NS_PER_S, Clock
from rtfusion.errors import ConfigError, EndOfStream, FusionError, SinkError
from rtfusion.mailbox import Closed, Mailbox, Policy
from rtfusion.sinks.base import Sink, StopRequested
from rtfusion.sinks.retry import Retry
from rtfusion.telemetry import Telemetry
from rtfusion.text import output_name
from rtfusion.types import FusedFrame

_log = logging.getLogger(__name__)

RECORDED_CAPACITY = 4
LIVE_CAPACITY = 2
KEEPS_UP_NS = 10 * NS_PER_S
"""An output that lost nothing for so long keeps up again."""


class SinkThread:
    """Writes frames to one sink. Live, a slow sink loses frames, counted; from recordings it makes the run wait.

    Live, a sink that breaks is given up and opened again by ``reopen``, for as long as it takes (`Retry`), and the frames that it
    misses are counted as ``failed``. Otherwise, and where it is still broken at the end, ``error`` holds what broke it; the run
    looks at it between frames.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        live: bool,
        telemetry: Telemetry,
        stop: Callable[[], None],
        reopen: Callable[[], Sink] | None = None,
        clock: Clock = MONOTONIC,
    ) -> None:
        self.uri = sink.uri
        self._sink: Sink | None = sink
        self._live = live
        self._telemetry = telemetry
        self._stop = stop
        self._reopen = reopen if live else None
        self._retry = Retry(clock)
        self._broken: Exception | None = None
        self._broken_ns = 0
        self._unproven = 0
        """Frames that a sink took since it was opened again, as long as it may be broken still."""
        self._failed = 0
        self._keeps_all = live and getattr(sink, "keeps_all", False)
        self._lost_ns: int | None = None
        """The last frame that was lost because it is slow; None while it keeps up."""
        self._told_dropped = 0
        self._drops_before: Counter[str] = Counter()
        """Of sinks that were given up."""
        self._clock = clock
        capacity = getattr(sink, "capacity_frames", LIVE_CAPACITY) if live else RECORDED_CAPACITY
        self._mailbox: Mailbox[FusedFrame] = Mailbox(capacity=capacity, policy=Policy.LATEST if live else Policy.BLOCK)
        self._thread = threading.Thread(target=self._run, name=f"sink-{sink.uri}", daemon=True)
        self.error: BaseException | None = None

    @property
    def dropped(self) -> int:
        """Frames lost because the sink was slower than the live stream."""
        return self._mailbox.dropped

    @property
    def drops(self) -> dict[str, int]:
        """All frames lost at this sink, by cause; zeros are left out."""
        drops = Counter(self._drops_before)
        drops.update(dict(getattr(self._sink, "drops", {})))  # a copy: the sink counts on
        drops.update(slow=self.dropped, failed=self._failed)
        return {cause: count for cause, count in drops.items() if count}

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def put(self, frame: FusedFrame, *, timeout_s: float) -> bool:
        """Hand over one frame; False when the sink of a recording had no room in time, so try again.

        Does nothing once the sink is gone (`error` says why).
        """
        try:
            return self._mailbox.put(frame, timeout_s=timeout_s)
        except Closed:
            return True

    def finish(self) -> None:
        """No more frames: the sink writes what waits, then finishes its output. Returns at once."""
        self._mailbox.finish()

    def discard(self) -> None:
        """Drop what waits and let the sink finish its output. Returns at once."""
        self._mailbox.close()

    def join(self, *, timeout_s: float) -> bool:
        """Wait for the output to be finished; False when it was not in time."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._write_all()
        except (EndOfStream, Closed):
            pass
        except StopRequested:
            self._stop()
        except BaseException as error:  # noqa: BLE001 - carried to the main thread, which raises it
            self.error = error
        finally:
            self._mailbox.close()
            self._close()

    def _write_all(self) -> None:
        while (frame := self._mailbox.get()) is not None:  # without a timeout it gives an item or raises
            try:
                sink = self._open_again() if self._sink is None else self._sink
                if sink is not None:
                    self._write(sink, frame)
                    continue
            except (FusionError, OSError) as error:
                if self._reopen is None:
                    raise
                self._give_up(error)
            self._failed += 1

    def _write(self, sink: Sink, frame: FusedFrame) -> None:
        started_ns = self._clock.now_ns()
        is_left_out = sink.write(frame) is False
        ended_ns = self._clock.now_ns()
        self._watch_pace(ended_ns)
        if is_left_out:
            return
        captured_ns = frame.timestamp_ns if self._live else frame.received_ns
        self._telemetry.sink_wrote(self.uri, age_ns=ended_ns - captured_ns, write_ns=ended_ns - started_ns)
        if self._broken is None:
            return
        self._unproven += 1
        if self._retry.worked():
            seconds = (ended_ns - self._broken_ns) / NS_PER_S
            _log.info("%s works again after %.0f s; %d frames were lost", self.uri, seconds, self._failed)
            self._broken, self._unproven = None, 0

    def _watch_pace(self, now_ns: int) -> None:
        """Say once, for as long as it lasts, that an output that is to keep everything is too slow for the cameras."""
        if not self._keeps_all:
            return
        dropped = self._mailbox.dropped
        if dropped > self._told_dropped:
            if self._lost_ns is None:
                self._telemetry.warn(f"{output_name(self.uri)}: it is slower than the cameras, and loses frames")
            self._told_dropped, self._lost_ns = dropped, now_ns
        elif self._lost_ns is not None and now_ns - self._lost_ns > KEEPS_UP_NS:
            _log.info("%s keeps up again; it lost %d frames", output_name(self.uri), dropped)
            self._lost_ns = None

    def _open_again(self) -> Sink | None:
        """The sink, opened anew; None while it is too early to try that."""
        if self._reopen is None or not self._retry.is_due:
            return None
        self._sink = self._reopen()
        return self._sink

    def _give_up(self, error: Exception) -> None:
        """Let go of a sink that broke, or that could not be opened again, until the next attempt."""
        if self._broken is None:
            self._broken, self._broken_ns = error, self._clock.now_ns()
            self._telemetry.warn(f"{_told(error, self.uri)}. The run goes on, and the output is tried again")
        self._retry.failed()
        unproven, self._unproven = self._unproven, 0
        self._failed += unproven
        self._telemetry.written[self.uri] -= unproven
        sink, self._sink = self._sink, None
        if sink is not None:
            try:
                sink.close(aborted=True)
            except (FusionError, OSError) as also:
                _log.debug("%s: closing failed too: %s", self.uri, also)
            self._drops_before.update(getattr(sink, "drops", {}))
            self._count_lost(sink, already=unproven)

    def _count_lost(self, sink: Sink, *, already: int = 0) -> None:
        """Frames that were written and went with a failure are not written; ``already`` so many of them are known to be lost."""
        lost = getattr(sink, "lost", 0) - already
        if lost > 0:
            self._telemetry.written[self.uri] -= lost
            self._drops_before["lost"] += lost

    def _close(self) -> None:
        try:
            if self._sink is not None:
                self._sink.close(aborted=self.error is not None)
                self._broken = None
        except BaseException as error:  # noqa: BLE001 - carried to the main thread; the first error is the cause
            if self.error is None:
                self.error = error
        if self._sink is not None:
            self._count_lost(self._sink)
        if self.error is None:
            self.error = self._broken
        if isinstance(self.error, ConfigError) or (
            isinstance(self.error, OSError) and not isinstance(self.error, FusionError)
        ):
            self.error = SinkError(_told(self.error, self.uri))  # it broke while running


def _told(error: Exception, uri: str) -> str:
    """What went wrong, with the name of the output in it."""
    text = str(getattr(error, "strerror", None) or error)
    return text if uri in text else f"{uri}: {text}"
