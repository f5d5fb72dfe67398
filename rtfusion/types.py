"""The data that flows: Frame, FramePair, FusedFrame. Frozen, checked when made; arrays inside are read-only by agreement."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
Image8 = npt.NDArray[np.uint8]
InputValue: TypeAlias = float | npt.NDArray[Any]
"""A value for a named input of a model: a number, or for a map an array over the picture, (h, w) or (C, h, w), of any size."""


class Band(str, enum.Enum):
    """Which camera a frame is from."""

    VISIBLE = "visible"
    THERMAL = "thermal"

    @property
    def other(self) -> Band:
        """The other band of the pair."""
        return Band.THERMAL if self is Band.VISIBLE else Band.VISIBLE


class PixelFormat(str, enum.Enum):
    """The meaning of the numbers of an image."""

    GRAY8 = "gray8"
    GRAY16 = "gray16"
    """Raw thermal counts; never called a temperature unless the camera is radiometric."""
    BGR8 = "bgr8"

    @property
    def dtype(self) -> np.dtype[Any]:
        """The array type that carries this format."""
        return np.dtype(np.uint16 if self is PixelFormat.GRAY16 else np.uint8)

    @property
    def channels(self) -> int:
        """1 or 3."""
        return 3 if self is PixelFormat.BGR8 else 1


@dataclass(frozen=True, kw_only=True, slots=True, eq=False, repr=False)
class Frame:
    """One image of one camera, as delivered."""

    image: Image
    """(H, W) for GRAY8 and GRAY16, (H, W, 3) for BGR8."""
    pixel_format: PixelFormat
    band: Band
    timestamp_ns: int
    """Best estimate of mid-exposure: CLOCK_MONOTONIC for live sources, presentation time for recordings."""
    sequence: int
    """The driver's counter; a gap is a drop upstream."""
    received_ns: int
    """CLOCK_MONOTONIC when the driver or file handed it over, before any conversion."""
    name: str | None = None
    """Stem of the file it came from, where it came from a folder."""
    kelvin_per_count: float | None = None
    """Temperature of a count, for radiometric thermal cameras: kelvin = counts x this. None: counts mean no temperature."""
    shutter: bool = False
    """The thermal camera is behind its closed shutter. The sources of `rtfusion.capture` then hold the last image from before,
    unless that was turned off."""
    noise_levels: float = 0.0
    """Standard deviation of the camera's noise in gray levels, where it was averaged over time: what moves still has it."""

    def __post_init__(self) -> None:
        expected_ndim = 3 if self.pixel_format is PixelFormat.BGR8 else 2
        if self.image.ndim != expected_ndim or (expected_ndim == 3 and self.image.shape[2] != 3):
            raise ValueError(
                f"{self.pixel_format.value} image has shape {self.image.shape}; expected "
                f"{'(H, W, 3)' if expected_ndim == 3 else '(H, W)'}"
            )
        if self.image.dtype != self.pixel_format.dtype:
            raise ValueError(
                f"{self.pixel_format.value} image has dtype {self.image.dtype}; expected {self.pixel_format.dtype}"
            )
        if 0 in self.image.shape:
            raise ValueError(f"empty image of shape {self.image.shape}")
        if self.sequence < 0:
            raise ValueError(f"sequence is {self.sequence}; expected 0 or more")

    @property
    def width_px(self) -> int:
        """Columns."""
        return int(self.image.shape[1])

    @property
    def height_px(self) -> int:
        """Rows."""
        return int(self.image.shape[0])

    @property
    def size_px(self) -> tuple[int, int]:
        """(width, height)."""
        return self.width_px, self.height_px

    def __repr__(self) -> str:
        return (
            f"Frame({self.band.value} #{self.sequence} {self.width_px}x{self.height_px} {self.pixel_format.value} "
            f"t={self.timestamp_ns / 1e6:.3f} ms)"
        )


class Degraded(str, enum.Enum):
    """The way in which a fused frame is made while one camera is lost."""

    NO_VISIBLE = "no-visible"
    """The thermal picture alone."""
    NO_THERMAL = "no-thermal"
    """The visible picture alone."""
    HELD_VISIBLE = "held-visible"
    """Fused with the last visible frame there was."""
    HELD_THERMAL = "held-thermal"
    """Fused with the last thermal frame there was."""

    @property
    def lost(self) -> Band:
        """The camera that is lost."""
        return Band.VISIBLE if self in (Degraded.NO_VISIBLE, Degraded.HELD_VISIBLE) else Band.THERMAL

    @property
    def held(self) -> bool:
        """True when the lost camera's last frame stands in for it."""
        return self in (Degraded.HELD_VISIBLE, Degraded.HELD_THERMAL)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False, repr=False)
class FramePair:
    """A visible and a thermal frame of one moment."""

    visible: Frame
    thermal: Frame
    sequence: int
    """Counts pairs from 0."""
    degraded: Degraded | None = None
    """One of the two cameras is lost, and what stands in for it."""
    intents: Mapping[str, float] | None = None
    """The intents that the picture of this pair was made with when it was recorded, those that were not at 0; None for others."""
    thermal_delay_ns: int = 0
    """The part of `skew_ns` that is known and was taken off when the two were paired."""

    def __post_init__(self) -> None:
        if self.visible.band is not Band.VISIBLE or self.thermal.band is not Band.THERMAL:
            raise ValueError(f"bands are swapped: visible={self.visible.band.value}, thermal={self.thermal.band.value}")

    @property
    def timestamp_ns(self) -> int:
        """The stamp of the visible frame: it is the reference. While the visible camera is lost, that of the thermal one."""
        if self.degraded is not None and self.degraded.lost is Band.VISIBLE:
            return self.thermal.timestamp_ns
        return self.visible.timestamp_ns

    @property
    def skew_ns(self) -> int:
        """Thermal stamp minus `timestamp_ns`, signed, known delay included."""
        return self.thermal.timestamp_ns - self.timestamp_ns

    @property
    def received_ns(self) -> int:
        """The time at which the later of the two was handed over."""
        return max(self.visible.received_ns, self.thermal.received_ns)

    def __repr__(self) -> str:
        return f"FramePair(#{self.sequence} {self.visible!r}, {self.thermal!r}, skew={self.skew_ns / 1e6:+.3f} ms)"


class Displacement(NamedTuple):
    """Where what is nearer or farther than the registration is set for lies in the thermal image.

    Of a rig whose pose is not known it is not known either which side is nearer: the two ends are alike.
    """

    cells_px: npt.NDArray[np.float32]
    """(rows, columns), the picture in cells: by how many pixels what is there lies elsewhere, along the direction of the rig."""
    farthest_px: float
    nearest_px: float
    """Those of the farthest and the nearest thing that is looked for; 0 is as registered."""
    direction: tuple[float, float] = (1.0, 0.0)
    """Unit vector (right, down) of the rig on the visible grid."""
    doubt_px: npt.NDArray[np.float32] | None = None
    """(rows, columns) by cells: by how many pixels that may be wrong; None where it is not known."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False, repr=False)
class FusedFrame:
    """A fused image with everything that the outputs may tell of it."""

    image: Image8
    """(H, W, 3) BGR, on the grid asked for (the visible camera's unless said)."""
    visible: Image8
    """(H, W, 3) BGR or (H, W): the visible image on the same grid."""
    thermal: Image8
    """(H, W): the tone-mapped, registered thermal image on the same grid."""
    timestamp_ns: int
    thermal_timestamp_ns: int
    received_ns: int
    sequence: int
    fuser: str
    """Name of the fuser that made it."""
    model_id: str | None = None
    calibration_id: str | None = None
    thermal_state: Mapping[str, Any] = field(default_factory=dict)
    """Gain control: ``gain`` (its mode), ``low_counts`` and ``high_counts``; empty where the camera toned the picture itself.
    ``shutter`` is true while the thermal image is held; ``noise_levels`` and ``denoised`` stand there while it is denoised; with
    units also ``spot``, ``min`` and ``max``."""
    name: str | None = None
    """Stem of the visible file, where it came from a folder."""
    degraded: Degraded | None = None
    """One of the two cameras is lost, and what stands in for it."""
    intents: Mapping[str, float] = field(default_factory=dict)
    """The intents it was made with (`rtfusion.intents`), those that are not at 0, on the way to a new wish as far as they are."""
    intents_version: int = 0
    """How often the intents were changed before this frame, since the run began."""
    thermal_delay_ns: int = 0
    """The part of `skew_ns` that is known."""
    pair: FramePair | None = None
    """The frames it was made of, as the cameras gave them: for recording them."""
    targets: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    """Where people, vehicles and whatever else was looked for are (`rtfusion.focus`): from 0 to 1, (ceil(H / 4), ceil(W / 4)), by
    the name of the target; empty where nothing was looked for."""
    displacement: Displacement | None = None
    """By how much the thermal image was moved for what is nearer or farther; None without parallax, and until it is known."""

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            raise ValueError(f"fused image is {self.image.shape} {self.image.dtype}; expected (H, W, 3) uint8")

    @property
    def skew_ns(self) -> int:
        """Thermal stamp minus visible stamp."""
        return self.thermal_timestamp_ns - self.timestamp_ns

    @property
    def skew_after_delay_ns(self) -> int:
        """What is left of `skew_ns` without the known delay of the thermal stamps."""
        return self.skew_ns - self.thermal_delay_ns

    @property
    def width_px(self) -> int:
        """Columns."""
        return int(self.image.shape[1])

    @property
    def height_px(self) -> int:
        """Rows."""
        return int(self.image.shape[0])

    def __repr__(self) -> str:
        return f"FusedFrame(#{self.sequence} {self.width_px}x{self.height_px} t={self.timestamp_ns / 1e6:.3f} ms by {self.fuser})"
