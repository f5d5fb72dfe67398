"""What the delivery of a network stream is: packets by `rtfusion.capture.packets`, images by `rtfusion.capture.http_camera`."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from av.packet import Packet
from av.video.stream import VideoStream

from rtfusion.capture.stamps import PtsClock

ASSUMED_RATE_HZ = 25.0
"""Of a stream that does not say."""


@dataclass(slots=True)
class Delivered:
    """What came: a packet of a stream, or an image."""

    data: Packet[VideoStream] | bytes
    arrived_ns: int
    """When it was here; of an image, when the first of it was."""
    passed_over: int = 0
    """Images that were here before it and are older."""
    is_repeated: bool = False
    """It is the very image that came before."""


class Delivery(Protocol):
    """Where a stream comes from. One thread reads and releases; any may close, which ends a read soon."""

    description: str
    rate_hz: float
    rate_is_told: bool
    """The rate is not merely assumed."""
    stamps: PtsClock

    @property
    def is_jpeg(self) -> bool:
        """Each that is delivered is an image by itself."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the user."""
        ...

    def read(self) -> Delivered | None:
        """The next that comes, None after a moment without; raises StreamLost."""
        ...

    def captured(self, pts: int | None, time_base: Fraction | None) -> tuple[int | None, int | None]:
        """(the presentation time, the time of capture where that is known) of a decoded frame."""
        ...

    def close(self) -> None:
        """End reading, from any thread."""
        ...

    def release(self) -> None:
        """Give back what is open."""
        ...
