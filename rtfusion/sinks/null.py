"""The sink that keeps nothing: for measuring, and for runs that want only the statistics."""

from __future__ import annotations

from rtfusion.sinks.base import SinkContext
from rtfusion.types import FusedFrame


class NullSink:
    """Counts frames."""

    def __init__(self, target: str, *, uri: str, context: SinkContext) -> None:
        self.uri = uri
        self.frames = 0

    def write(self, frame: FusedFrame) -> None:
        """Count one frame."""
        self.frames += 1

    def close(self, *, aborted: bool) -> None:
        """Nothing to finish."""
