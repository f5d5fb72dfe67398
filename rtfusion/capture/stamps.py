"""The clocks of network streams: when a frame was captured, by what its stream says and by when it arrived."""

from __future__ import annotations

import threading
import time
from collections import deque

from rtfusion.clock import NS_PER_MS, NS_PER_S, Clock

CLOCKS = ("auto", "arrival", "reports")
"""Values of ``clock`` of a network address: what ties the presentation times of its stream to CLOCK_MONOTONIC."""
AGREES_NS = 250 * NS_PER_MS
"""A camera whose reports make its frames older than this on arrival has a clock of its own, and not ours."""
AHEAD_NS = 20 * NS_PER_MS
"""Two clocks set by the network differ by less than this."""


class PtsClock:
    """Presentation times on CLOCK_MONOTONIC: pts + the smallest (arrival - pts) of the last seconds, never after the arrival.

    `observe` is told of every packet, when the first of its data arrived; `stamp` places the frames that are decoded of them. So
    neither what a parser holds back nor the order in which an encoder sends is taken for the network's. A presentation time that
    jumps (the camera started anew) begins a new window. Stamps always increase.
    """

    WINDOW_NS = 10 * NS_PER_S
    JUMP_NS = NS_PER_S

    def __init__(self, *, trust_pts: bool) -> None:
        self._trust_pts = trust_pts
        self.description = "by its presentation times" if trust_pts else "on arrival"
        self._delays: deque[tuple[int, int]] = deque()
        """(arrival, arrival - pts), the second rising: the first entry is the smallest of the window."""
        self._last_ns = 0

    @property
    def delay_ns(self) -> int | None:
        """The smallest (arrival - pts) of the last seconds."""
        return self._delays[0][1] if self._delays else None

    def observe(self, pts_ns: int | None, *, arrived_ns: int) -> None:
        """Take the presentation time of a packet, and when the first of it was here."""
        if not self._trust_pts or pts_ns is None:
            return
        delay_ns = arrived_ns - pts_ns
        if self._delays and abs(delay_ns - self._delays[0][1]) > self.JUMP_NS:
            self._delays.clear()
        while self._delays and self._delays[-1][1] >= delay_ns:
            self._delays.pop()
        self._delays.append((arrived_ns, delay_ns))
        while arrived_ns - self._delays[0][0] > self.WINDOW_NS:
            self._delays.popleft()

    def stamp(self, pts_ns: int | None, *, arrived_ns: int, captured_ns: int | None = None) -> int:
        """Return the stamp of the next frame; ``captured_ns`` is its time where that is known better, by `ReportClock`."""
        stamp_ns = arrived_ns
        if captured_ns is not None:
            stamp_ns = min(arrived_ns, captured_ns)
        elif self._trust_pts and pts_ns is not None and self._delays:
            delay_ns = self._delays[0][1]
            is_near = abs(arrived_ns - pts_ns - delay_ns) < self.JUMP_NS
            stamp_ns = min(arrived_ns, pts_ns + delay_ns) if is_near else arrived_ns
        self._last_ns = max(stamp_ns, self._last_ns + 1)
        return self._last_ns


class _OneClock:
    """The time of day of cameras that share a clock which is not ours, tied to CLOCK_MONOTONIC by the quickest delivery."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._offset_ns: int | None = None

    def offset_ns(self, offset_ns: int) -> int:
        """Take the smallest (arrival - time of day) of a stream; return the smallest one of all streams."""
        with self._lock:
            if self._offset_ns is None or abs(offset_ns - self._offset_ns) > NS_PER_S:
                self._offset_ns = offset_ns  # the clock was set
            self._offset_ns = min(self._offset_ns, offset_ns)
            return self._offset_ns


ONE_CLOCK = _OneClock()


class ReportClock:
    """The time of day at which frames were captured, as the camera's sender reports (RTCP) say, on CLOCK_MONOTONIC.

    With ``auto`` the reports are believed while the camera's clock is that of this machine: frames are a little older than their
    arrival, by `AGREES_NS` at most. With ``reports`` they are believed whatever its clock says, as one that all cameras share.
    """

    def __init__(self, rule: str, *, clock: Clock) -> None:
        self._rule = rule
        self._clock = clock
        self.is_used: bool | None = None
        """Whether the reports are believed; None before the first one."""
        self.age_ns = 0
        """How old frames are on arrival, by the reports."""

    def captured_ns(self, unix_of_zero_ns: int | None, pts_ns: int | None, *, delay_ns: int | None) -> int | None:
        """The time of a frame, None where the reports do not tell it.

        ``unix_of_zero_ns`` is the time of day of the presentation time 0, None before the first report; ``delay_ns`` is the
        smallest (arrival - pts) that was seen.
        """
        if self._rule == "arrival" or unix_of_zero_ns is None or pts_ns is None or delay_ns is None:
            return None
        if self._rule == "reports":
            self.is_used = True
            return unix_of_zero_ns + pts_ns + ONE_CLOCK.offset_ns(delay_ns - unix_of_zero_ns)
        ours_ns = unix_of_zero_ns - (time.time_ns() - self._clock.now_ns())
        self.age_ns = delay_ns - ours_ns
        self.is_used = -AHEAD_NS <= self.age_ns <= AGREES_NS
        return ours_ns + pts_ns if self.is_used else None
