"""What every sink is: write, close."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from rtfusion.types import FusedFrame


@dataclass(frozen=True, kw_only=True, slots=True)
class SinkContext:
    """What a sink may need to know of the run before its first frame."""

    rate_hz: float
    """Nominal frames per second of the run."""
    live: bool
    session: str
    """A random name of this run; subscribers see a restart by it."""
    overwrite: bool = False
    drops: Callable[[], Mapping[str, int]] | None = None
    """Frames lost so far in the run before the sinks, by cause, for sinks that tell their readers; called per frame."""


class Sink(Protocol):
    """One destination. All calls come from one thread of its own, made for it by the pipeline."""

    @property
    def uri(self) -> str:
        """As given by the user; names the sink in tables and messages."""
        ...

    def write(self, frame: FusedFrame) -> None:
        """Take one frame.

        Raises:
            SinkError: the destination broke.
            StopRequested: the user asked here to stop the run (a window was closed).
        """
        ...

    def close(self, *, aborted: bool) -> None:
        """Finish the output; with ``aborted`` an error ended the run and what is there so far is kept playable.

        Raises:
            SinkError: the output could not be finished.
        """
        ...


class StopRequested(Exception):  # noqa: N818 - a wish, not a failure
    """The user asked a sink to end the run."""
