"""The one time base: integer nanoseconds of CLOCK_MONOTONIC."""

from __future__ import annotations

import threading
import time
from typing import Protocol

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000


class Clock(Protocol):
    """The clock that paces sources and stamps frames; tests pass a `FakeClock`."""

    def now_ns(self) -> int:
        """Nanoseconds of CLOCK_MONOTONIC."""
        ...

    def sleep_until_ns(self, deadline_ns: int, *, wake: threading.Event) -> bool:
        """Wait until ``deadline_ns`` or until ``wake`` is set; True when the deadline was reached."""
        ...


class MonotonicClock:
    """The real clock."""

    def now_ns(self) -> int:
        """Nanoseconds of CLOCK_MONOTONIC."""
        return time.monotonic_ns()

    def sleep_until_ns(self, deadline_ns: int, *, wake: threading.Event) -> bool:
        """Wait until ``deadline_ns`` or until ``wake`` is set; True when the deadline was reached."""
        remaining_ns = deadline_ns - time.monotonic_ns()
        if remaining_ns <= 0:
            return not wake.is_set()
        return not wake.wait(remaining_ns / NS_PER_S)


class FakeClock:
    """A clock that moves only when told, or when somebody sleeps on it."""

    def __init__(self, start_ns: int = 0) -> None:
        self._now_ns = start_ns

    def now_ns(self) -> int:
        """The time it was last moved to."""
        return self._now_ns

    def advance_ns(self, step_ns: int) -> None:
        """Move the time forward."""
        self._now_ns += step_ns

    def sleep_until_ns(self, deadline_ns: int, *, wake: threading.Event) -> bool:
        """Jump to the deadline at once."""
        self._now_ns = max(self._now_ns, deadline_ns)
        return not wake.is_set()


MONOTONIC = MonotonicClock()
