"""Averages with a memory that is counted in seconds, so that they do not depend on the rate of the frames."""

from __future__ import annotations

import math

from rtfusion.clock import NS_PER_S

BEAT_S = 10
"""What is done from time to time is done at stamps that are the same in every stretch of so many seconds. So whoever reads a part
of a recording, or a session whose stamps begin anew, does it at the same frames, as long as the stamps differ by whole beats."""


def beat_ns(timestamp_ns: int) -> int:
    """The last whole beat up to a stamp: what to take off stamps that are to begin anew."""
    return timestamp_ns // (BEAT_S * NS_PER_S) * (BEAT_S * NS_PER_S)


def turn_at(timestamp_ns: int, *, per_beat: int) -> int:
    """The number of a turn, of which ``per_beat`` come in `BEAT_S`: with the first frame of each one its turn has come."""
    return timestamp_ns * per_beat // (BEAT_S * NS_PER_S)


class SmoothingWeight:
    """The weight of a new value in an exponential average with a time constant: 1 - exp(-dt / tau).

    It is 1 at first, when time goes back, and always where ``time_constant_s`` is 0 (unrelated stills).
    """

    def __init__(self, *, time_constant_s: float) -> None:
        self._tau_ns = time_constant_s * NS_PER_S
        self._timestamp_ns: int | None = None

    def advance(self, timestamp_ns: int) -> float:
        """Give the weight of the value at ``timestamp_ns``."""
        last_ns, self._timestamp_ns = self._timestamp_ns, timestamp_ns
        if last_ns is None or self._tau_ns <= 0 or timestamp_ns < last_ns:
            return 1.0
        return 1.0 - math.exp((last_ns - timestamp_ns) / self._tau_ns)

    def reset(self) -> None:
        """Take the next input as it is."""
        self._timestamp_ns = None


class ExponentialAverage:
    """The exponential moving average of a number: v += (1 - exp(-dt / tau)) (x - v).

    The first value is taken as it is, and so is every value when ``time_constant_s`` is 0 (unrelated stills).
    """

    def __init__(self, *, time_constant_s: float) -> None:
        self._weight = SmoothingWeight(time_constant_s=time_constant_s)
        self._value = 0.0

    def follow(self, value: float, *, timestamp_ns: int) -> float:
        """Move towards ``value`` and return where it is now."""
        weight = self._weight.advance(timestamp_ns)
        self._value = value if weight == 1.0 else self._value + weight * (value - self._value)
        return self._value

    def reset(self) -> None:
        """Take the next value as it is."""
        self._weight.reset()
