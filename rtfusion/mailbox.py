"""Bounded hand-off between two threads."""

from __future__ import annotations

import enum
import threading
import time
from collections import deque
from typing import Generic, TypeVar

from rtfusion.errors import EndOfStream

T = TypeVar("T")


class Policy(enum.Enum):
    """The rule of a full mailbox for one more item."""

    BLOCK = "block"
    """The writer waits until half of it was taken: nothing is lost. For recordings."""
    LATEST = "latest"
    """The oldest item is dropped and counted: the reader is never behind. For live streams."""


class Closed(Exception):  # noqa: N818 - a state, not a failure
    """The other end went away."""


class Mailbox(Generic[T]):
    """A bounded queue with a named policy, a drop counter and a `close` that wakes both ends.

    One writer puts, then calls `finish` (no more items) or `fail` (an error for the reader); one reader gets.
    Mailboxes may share one condition, so that a reader can wait for any of them (`wait_any`).
    """

    def __init__(self, *, capacity: int, policy: Policy, condition: threading.Condition | None = None) -> None:
        if capacity < 1:
            raise ValueError(f"capacity is {capacity}; expected 1 or more")
        self._items: deque[T] = deque()
        self._capacity = capacity
        self._awaited = 0
        """So many items the reader waits for, beside those that it takes."""
        self._policy = policy
        self._condition = condition if condition is not None else threading.Condition()
        self._finished = False
        self._error: BaseException | None = None
        self._closed = False
        self.dropped = 0

    def put(self, item: T, *, timeout_s: float | None = None) -> bool:
        """Hand over one item; blocks or drops the oldest when full, as the policy says. False when no room came in time.

        Raises:
            Closed: the mailbox was closed by the reader or from outside.
        """
        with self._condition:
            if self._policy is Policy.BLOCK and not self._await_room(timeout_s):
                return False
            if self._closed:
                raise Closed
            if len(self._items) >= self._capacity:
                self._items.popleft()
                self.dropped += 1
            self._items.append(item)
            self._condition.notify_all()
            return True

    def finish(self) -> None:
        """Say that no more items come; the reader drains what is left, then gets `EndOfStream`."""
        with self._condition:
            self._finished = True
            self._condition.notify_all()

    def fail(self, error: BaseException) -> None:
        """Say that the writer broke; the reader drains what is left, then gets ``error``."""
        with self._condition:
            self._error = None if self._closed else error
            self._finished = True
            self._condition.notify_all()

    def close(self) -> None:
        """Wake both ends for good and discard what is left; may be called from anywhere, any number of times."""
        with self._condition:
            self._closed = True
            self._items.clear()
            # Its traceback holds the writer, who may hold this mailbox: only a garbage collection would free them.
            self._error = None
            self._condition.notify_all()

    def get(self, *, timeout_s: float | None = None) -> T | None:
        """Take the oldest item, or None when none came in time.

        Raises:
            EndOfStream: the writer finished and everything was taken.
            Closed: the mailbox was closed.
            BaseException: whatever the writer passed to `fail`.
        """
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        with self._condition:
            while not self._ready():
                remaining_s = None if deadline_s is None else deadline_s - time.monotonic()
                if remaining_s is not None and remaining_s <= 0:
                    return None
                self._condition.wait(remaining_s)
            if self._closed:
                raise Closed
            if self._items:
                item = self._items.popleft()
                if self._is_drained():
                    self._condition.notify_all()
                return item
            if self._error is not None:
                raise self._error
            raise EndOfStream("no more items")

    def await_items(self, count: int, *, timeout_s: float) -> None:
        """Wait until so many items are there, or no more will come; they stay."""
        with self._condition:
            self._awaited = count
            self._condition.notify_all()
            self._condition.wait_for(lambda: len(self._items) >= count or self._finished or self._closed, timeout_s)
            self._awaited = 0

    @property
    def closed(self) -> bool:
        """True once the mailbox was closed."""
        return self._closed

    def _await_room(self, timeout_s: float | None) -> bool:
        """Wait, where it is full, until half of it was taken: whoever is woken for every item hardly does anything else."""
        return self._has_room() or self._condition.wait_for(self._is_drained, timeout_s) or self._has_room()

    def _has_room(self) -> bool:
        return len(self._items) < self._capacity or self._closed

    def _is_drained(self) -> bool:
        waiting = len(self._items)
        return waiting <= self._capacity // 2 or waiting < min(self._awaited, self._capacity) or self._closed

    def _ready(self) -> bool:
        return bool(self._items) or self._finished or self._closed

    def __len__(self) -> int:
        return len(self._items)


def wait_any(first: Mailbox[T], *others: Mailbox[T], timeout_s: float) -> bool:
    """Wait until one of several mailboxes that share a condition has something to say; False when none did in time."""
    condition = first._condition  # noqa: SLF001 - same module
    if any(other._condition is not condition for other in others):  # noqa: SLF001
        raise ValueError("the mailboxes do not share a condition; make all with condition=...")
    with condition:
        return condition.wait_for(lambda: any(one._ready() for one in (first, *others)), timeout_s)  # noqa: SLF001
