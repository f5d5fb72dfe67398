"""When to try again what failed while a run goes on."""

from __future__ import annotations

from rtfusion.clock import MONOTONIC, NS_PER_S, Clock

FIRST_NS = 1 * NS_PER_S
MOST_NS = 30 * NS_PER_S
PROVEN_NS = 2 * NS_PER_S
"""It works when it has for so long: an encoder takes frames before it writes one, and a disk keeps later what it took."""


class Retry:
    """Tries at once after the first failure, a second after the next one, and then after twice as long, half a minute at most."""

    def __init__(self, clock: Clock = MONOTONIC) -> None:
        self._clock = clock
        self._due_ns = 0
        self._wait_ns = 0
        self._working_ns: int | None = None
        """Since when it seems to work."""
        self.failures = 0
        """Failures in a row; those after which it worked for less than `PROVEN_NS` count on."""

    @property
    def is_due(self) -> bool:
        """False while it is too early to try again."""
        return self._clock.now_ns() >= self._due_ns

    def failed(self) -> None:
        """It failed, again."""
        self._due_ns = self._clock.now_ns() + self._wait_ns
        self._wait_ns = min(MOST_NS, max(FIRST_NS, 2 * self._wait_ns))
        self._working_ns = None
        self.failures += 1

    def worked(self) -> bool:
        """It worked this time; True once it has for so long that it works."""
        now_ns = self._clock.now_ns()
        if self._working_ns is None:
            self._working_ns = now_ns
        if now_ns - self._working_ns < PROVEN_NS:
            return False
        self._due_ns = self._wait_ns = self.failures = 0
        return True
