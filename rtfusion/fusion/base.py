"""What every fuser and every way of fusing luminance is."""

from __future__ import annotations

from typing import Protocol

from rtfusion.types import FramePair, FusedFrame, Image8


class Fuser(Protocol):
    """Owns the pixels from the raw pair to the fused frame, on one device."""

    @property
    def name(self) -> str:
        """For tables and headers."""
        ...

    @property
    def engine(self) -> str | None:
        """What runs the network, where there is one."""
        ...

    def __call__(self, pair: FramePair) -> FusedFrame:
        """Register, tone, fuse and compose one pair."""
        ...

    def close(self) -> None:
        """Release the device."""
        ...


class Luminance(Protocol):
    """One way to fuse two registered luminance images."""

    def __call__(self, *, visible_y: Image8, thermal: Image8, timestamp_ns: int) -> Image8:
        """(H, W) uint8 twice in, (H, W) uint8 out: a fresh array or one that stays valid until the next call."""
        ...

    def close(self) -> None:
        """Release what it holds."""
        ...
