"""Opening several sources at the same time, in threads that nobody has to wait for: a driver may hang for as long as it likes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from rtfusion.capture.base import Source
from rtfusion.errors import EndOfStream

POLL_S = 0.05
REST_S = 8.0
"""Longest wait for the other sources when one cannot be opened, so that nothing stays open behind the error."""
STOPPED_S = 0.3
"""Longest wait for them after a request to stop; what is opened later is closed at once."""


class _Opening:
    """One source that is being opened."""

    def __init__(self, opener: Callable[[], Source]) -> None:
        self._opener = opener
        self._lock = threading.Lock()
        self._abandoned = False
        self.source: Source | None = None
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, name="opening", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            source = self._opener()
        except BaseException as error:  # noqa: BLE001 - carried to the thread that asked
            self.error = error
            return
        with self._lock:
            self.source = source
            abandoned = self._abandoned
        if abandoned:
            source.close()

    def abandon(self) -> None:
        """Close the source, or have it closed as soon as it is open."""
        with self._lock:
            self._abandoned = True
            source = self.source
        if source is not None:
            source.close()


def open_together(openers: Sequence[Callable[[], Source]], *, stop: threading.Event | None = None) -> list[Source]:
    """Open sources at the same time, all or none, in the order of the openers.

    Raises:
        EndOfStream: ``stop`` was set meanwhile.
        Exception: what the first of them that failed raised.
    """
    openings = [_Opening(opener) for opener in openers]
    patience_s = STOPPED_S
    try:
        _wait(openings, stop)
        patience_s = REST_S
        error = next((opening.error for opening in openings if opening.error is not None), None)
        if error is None:
            return [opening.source for opening in openings if opening.source is not None]
    except BaseException as stopped:  # noqa: BLE001 - raised again below, once nothing is left open
        error = stopped
    end_s = time.monotonic() + patience_s
    for opening in openings:
        opening.thread.join(max(0.0, end_s - time.monotonic()))
        opening.abandon()
    raise error


def _wait(openings: Sequence[_Opening], stop: threading.Event | None) -> None:
    """Wait until all are open, or one cannot be."""
    while any(opening.thread.is_alive() for opening in openings) and not any(opening.error for opening in openings):
        if stop is not None and stop.is_set():
            raise EndOfStream("the sources were still being opened")
        next(opening.thread for opening in openings if opening.thread.is_alive() or opening is openings[-1]).join(
            POLL_S
        )
