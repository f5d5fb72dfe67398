"""The interface of every source of frames: read with a timeout, close, info."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from rtfusion.types import Band, Frame, PixelFormat


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamInfo:
    """All that is known of a stream once it is open."""

    uri: str
    """The source as it was given, credentials removed."""
    band: Band
    width_px: int
    height_px: int
    pixel_format: PixelFormat
    rate_hz: float
    """Nominal frames per second; an assumption where `rate_is_told` is False."""
    live: bool
    """True for a camera: newest wins. False for a recording: nothing is lost."""
    rate_is_told: bool = True
    """False for a camera that does not say at which rate it sends: it is measured."""
    continuous: bool = True
    """False for a folder of unrelated stills: nothing is remembered from one image to the next."""
    frame_count: int | None = None
    """Frames to come, where the source knows."""
    duration_s: float | None = None
    """Length of a recording, where the source knows."""
    looks_like: Band | None = None
    """The band of which its first picture seems to be, where that can be told."""
    starts_ns: int | None = None
    """The time of the first frame in the run that made the file, where the file says so. Its own stamps count from 0."""
    description: str = ""
    """One line for a person: codec, container, driver."""

    @property
    def size_px(self) -> tuple[int, int]:
        """(width, height)."""
        return self.width_px, self.height_px

    @classmethod
    def like(cls, frame: Frame, **known: Any) -> StreamInfo:
        """Describe the stream that begins with ``frame``; ``known`` are the fields that a frame does not tell."""
        return cls(
            band=frame.band,
            width_px=frame.width_px,
            height_px=frame.height_px,
            pixel_format=frame.pixel_format,
            **known,
        )


class Source(Protocol):
    """One camera or recording. `read` is called by one thread; `close` may come from another and wakes it."""

    @property
    def info(self) -> StreamInfo:
        """The properties of the stream."""
        ...

    @property
    def drops(self) -> dict[str, int]:
        """Frames lost inside the source so far, by cause (``corrupt``, ``driver`` ...)."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the user about this source; only ever appended to."""
        ...

    def read(self, *, timeout_s: float) -> Frame:
        """The next frame.

        Raises:
            EndOfStream: the recording is over, or the source was closed.
            CaptureTimeout: no frame within ``timeout_s``.
            StreamLost: the source broke.
        """
        ...

    def close(self) -> None:
        """Release everything, from any thread. Idempotent."""
        ...
