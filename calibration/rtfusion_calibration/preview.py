"""A window for the person who holds the board: the pictures of a collection, shown without holding it up."""

from __future__ import annotations

import threading
import uuid
from types import TracebackType

from rtfusion.pairs import PairStream
from rtfusion.sinks import SinkContext, open_sink
from rtfusion.sinks.thread import SinkThread
from rtfusion.types import FramePair, FusedFrame, Image8

FINISH_S = 2.0


class Preview:
    """Shows the newest picture in a window; who closes the window sets ``stop``. A context manager."""

    def __init__(self, uri: str, *, pairs: PairStream, stop: threading.Event) -> None:
        """Open the window, which shows pictures made of ``pairs``.

        Raises:
            ConfigError: there is no window here.
        """
        rate_hz = min(pairs.visible.rate_hz, pairs.thermal.rate_hz)
        context = SinkContext(rate_hz=rate_hz, live=pairs.live, session=uuid.uuid4().hex)
        sink = open_sink(uri, context=context)
        self._thread = SinkThread(sink, live=pairs.live, telemetry=pairs.telemetry, stop=stop.set)

    def show(self, picture: Image8, *, pair: FramePair) -> None:
        """Show the (H, W, 3) BGR picture that was made of a pair.

        Raises:
            SinkError: the window broke.
        """
        if self._thread.error is not None:
            raise self._thread.error
        frame = FusedFrame(
            image=picture,
            visible=picture,
            thermal=picture[:, :, 1],
            timestamp_ns=pair.timestamp_ns,
            thermal_timestamp_ns=pair.thermal.timestamp_ns,
            received_ns=pair.received_ns,
            sequence=pair.sequence,
            fuser="calibrate",
        )
        self._thread.put(frame, timeout_s=FINISH_S)

    def __enter__(self) -> Preview:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.finish()
        if not self._thread.join(timeout_s=FINISH_S):
            self._thread.discard()
