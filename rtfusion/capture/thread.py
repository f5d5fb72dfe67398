"""One thread per source: read frames, hand them to the mailbox."""

from __future__ import annotations

import threading

from rtfusion.capture.base import Source
from rtfusion.clock import MONOTONIC, Clock
from rtfusion.errors import CaptureTimeout, EndOfStream
from rtfusion.mailbox import Closed, Mailbox
from rtfusion.telemetry import Telemetry
from rtfusion.types import Frame

READ_TIMEOUT_S = 0.5


class CaptureThread:
    """Moves frames from a source to a mailbox until the source ends, breaks or is closed."""

    def __init__(
        self, source: Source, mailbox: Mailbox[Frame], *, telemetry: Telemetry, clock: Clock = MONOTONIC
    ) -> None:
        self._source = source
        self._mailbox = mailbox
        self._telemetry = telemetry
        self._clock = clock
        self._thread = threading.Thread(target=self._run, name=f"capture-{source.info.band.value}", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def close(self) -> None:
        """Ask the thread to end: close the mailbox and the source."""
        self._mailbox.close()
        self._source.close()

    def join(self, *, timeout_s: float) -> bool:
        """Wait for the thread; False when it did not end in time."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while True:
                frame = read_counted(
                    self._source, telemetry=self._telemetry, timeout_s=READ_TIMEOUT_S, clock=self._clock
                )
                if frame is not None:
                    self._mailbox.put(frame)
        except Closed:
            pass
        except EndOfStream:
            self._mailbox.finish()
        except BaseException as error:  # noqa: BLE001 - carried to the main thread, which raises it
            self._mailbox.fail(error)


def read_counted(source: Source, *, telemetry: Telemetry, timeout_s: float, clock: Clock = MONOTONIC) -> Frame | None:
    """The next frame, counted with the time since it was handed over; None if none came within ``timeout_s``.

    None is no failure: a recording paces itself, and a camera that is lost comes back, which its watchdog says.

    Raises:
        EndOfStream: the recording is over, or the source was closed.
        StreamLost: the source broke.
    """
    try:
        frame = source.read(timeout_s=timeout_s)
    except CaptureTimeout:
        return None
    telemetry.frame_read(frame.band, decode_ns=clock.now_ns() - frame.received_ns)
    return frame
