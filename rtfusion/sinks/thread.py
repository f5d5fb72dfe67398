"""One thread per sink, so that no sink can slow the run, nor another sink."""

from __future__ import annotations

import threading
from collections.abc import Callable

from rtfusion.clock import MONOTONIC, Clock
from rtfusion.errors import EndOfStream
from rtfusion.mailbox import Closed, Mailbox, Policy
from rtfusion.sinks.base import Sink, StopRequested
from rtfusion.telemetry import Telemetry
from rtfusion.types import FusedFrame

RECORDED_CAPACITY = 4
LIVE_CAPACITY = 2


class SinkThread:
    """Writes frames to one sink. Live, a slow sink loses frames, counted; from recordings it makes the run wait.

    ``error`` holds what broke the sink, if anything did; the run looks at it between frames.
    """

    def __init__(
        self, sink: Sink, *, live: bool, telemetry: Telemetry, stop: Callable[[], None], clock: Clock = MONOTONIC
    ) -> None:
        self.uri = sink.uri
        self._sink = sink
        self._live = live
        self._telemetry = telemetry
        self._stop = stop
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
        drops: dict[str, int] = {"slow": self.dropped, **getattr(self._sink, "drops", {})}
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
            started_ns = self._clock.now_ns()
            self._sink.write(frame)
            ended_ns = self._clock.now_ns()
            captured_ns = frame.timestamp_ns if self._live else frame.received_ns
            self._telemetry.sink_wrote(self.uri, age_ns=ended_ns - captured_ns, write_ns=ended_ns - started_ns)

    def _close(self) -> None:
        try:
            self._sink.close(aborted=self.error is not None)
        except BaseException as error:  # noqa: BLE001 - carried to the main thread; the first error is the cause
            if self.error is None:
                self.error = error
