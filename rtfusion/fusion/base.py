"""What every fuser and every way of fusing luminance is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from rtfusion.registration import Calibration
from rtfusion.types import FramePair, FusedFrame, Image8


class Control(Protocol):
    """What may be changed while frames flow. Any thread may call it; no frame is lost, none has two models or calibrations."""

    @property
    def calibration(self) -> Calibration | None:
        """The one in use, or about to be."""
        ...

    @property
    def scalars(self) -> Mapping[str, float]:
        """The dials of the model, such as ``enhance``, and where they stand; empty for fusers without a model."""
        ...

    @property
    def palette(self) -> str | None:
        """The colors that the fused picture is painted with; None for fusers that paint none."""
        ...

    def change(
        self,
        *,
        calibration: Calibration | None = None,
        model: Path | None = None,
        palette: str | None = None,
        **scalars: float,
    ) -> None:
        """Use these from the next frame on; what is None stays.

        What takes time (loading a model, making the registration) is done here, in the thread that asks, beside the run.

        Raises:
            ConfigError: no such dial or palette, a value out of its range, a fuser without a model or without colors.
                Nothing was changed.
            CalibrationError: it is for cameras of another aspect.
            ModelError, EngineError: the model cannot be used.
        """
        ...


class Fuser(Control, Protocol):
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
