"""A window for the person who holds the board: the pictures of a collection, shown without holding it up."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rtfusion.pairs import PairStream
from rtfusion.sinks import SinkContext, open_sink
from rtfusion.sinks.thread import SinkThread
from rtfusion.types import FramePair, FusedFrame, Image8

FINISH_S = 2.0


@contextmanager
def preview(uri: str, *, pairs: PairStream, stop: threading.Event) -> Iterator[Callable[[Image8, FramePair], None]]:
    """Give a function that shows the (H, W, 3) BGR picture made of a pair; who closes the window sets ``stop``.

    Raises:
        ConfigError: there is no window here.
        SinkError: the window broke; from the function.
    """
    rate_hz = min(pairs.visible.rate_hz, pairs.thermal.rate_hz)
    sink = open_sink(uri, context=SinkContext(rate_hz=rate_hz, live=pairs.live, session=uuid.uuid4().hex))
    thread = SinkThread(sink, live=pairs.live, telemetry=pairs.telemetry, stop=stop.set)

    def show(picture: Image8, pair: FramePair) -> None:
        if thread.error is not None:
            raise thread.error
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
        thread.put(frame, timeout_s=FINISH_S)

    thread.start()
    try:
        yield show
    finally:
        thread.finish()
        if not thread.join(timeout_s=FINISH_S):
            thread.discard()
