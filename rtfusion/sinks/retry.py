"""When to try again what failed while a run goes on."""

from __future__ import annotations

from rtfusion.clock import MONOTONIC, NS_PER_S, Clock

FIRST_NS = 1 * NS_PER_S
MOST_NS = 30 * NS_PER_S


class Retry:
    """Tries at once after the first failure, a second after the next one, and then after twice as long, half a minute at most."""

    def __init__(self, clock: Clock = MONOTONIC) -> None:
        self._clock = clock
        self._due_ns = 0
        self._wait_ns = 0
        self.failures = 0
        """Failures in a row."""

    @property
    def is_due(self) -> bool:
        """False while it is too early to try again."""
        return self._clock.now_ns() >= self._due_ns

    def failed(self) -> None:
        """It failed, again."""
        self._due_ns = self._clock.now_ns() + self._wait_ns
        self._wait_ns = min(MOST_NS, max(FIRST_NS, 2 * self._wait_ns))
        self.failures += 1

    def succeeded(self) -> None:
        """It works."""
        self._due_ns = self._wait_ns = self.failures = 0
