"""The common part of every source that stands before another one and changes what comes from it."""

from __future__ import annotations

from rtfusion.capture.base import Source, StreamInfo
from rtfusion.types import Frame


class WrappedSource:
    """A source as another one gives it; who changes something overrides `changed`, or `read` where frames are left out."""

    def __init__(self, source: Source, *, info: StreamInfo | None = None) -> None:
        """Take an open source; ``info`` describes what becomes of it, where that is another thing."""
        self._source = source
        self.info: StreamInfo = source.info if info is None else info

    @property
    def drops(self) -> dict[str, int]:
        """Frames lost inside the source, by cause."""
        return self._source.drops

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the user about the source."""
        return self._source.notes

    def read(self, *, timeout_s: float) -> Frame:
        """The next frame of the source, changed; raises as the source."""
        return self.changed(self._source.read(timeout_s=timeout_s))

    def changed(self, frame: Frame) -> Frame:
        """What becomes of one frame."""
        return frame

    def close(self) -> None:
        """Close the source."""
        self._source.close()
