"""A registered pair: both pictures of one moment on one grid, made once and read by everything that comes later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from rtfusion.registration.maps import Registration
from rtfusion.types import Band, FramePair, Image, Image8

if TYPE_CHECKING:
    from rtfusion.capture.base import StreamInfo


class PairShape(NamedTuple):
    """The array shapes of a pair: what registrations, buffers and networks are made for."""

    visible: tuple[int, ...]
    """(H, W, 3) or (H, W)."""
    thermal: tuple[int, ...]
    """(h, w)."""
    thermal_bytes: int
    """1 for gray levels, 2 for counts."""

    @classmethod
    def of(cls, pair: FramePair) -> PairShape:
        """The shape of a pair that came."""
        return cls(pair.visible.image.shape, pair.thermal.image.shape, pair.thermal.image.itemsize)

    @classmethod
    def of_streams(cls, *, visible: StreamInfo, thermal: StreamInfo) -> PairShape:
        """The shape that pairs of two streams are going to have."""
        channels = (visible.pixel_format.channels,) if visible.pixel_format.channels > 1 else ()
        return cls(
            (visible.height_px, visible.width_px, *channels),
            (thermal.height_px, thermal.width_px),
            thermal.pixel_format.dtype.itemsize,
        )

    def size_px(self, band: Band) -> tuple[int, int]:
        """(width, height) of the images of a band."""
        height, width = (self.visible if band is Band.VISIBLE else self.thermal)[:2]
        return width, height


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class RegisteredPair:
    """A pair on one grid, as fusing, marking and measuring read it. Arrays are read-only by agreement."""

    pair: FramePair
    """The frames as the cameras gave them."""
    visible: Image8
    """(H, W, 3) BGR or (H, W): the visible image on the grid."""
    thermal: Image8
    """(H, W): the thermal image on the grid, tone-mapped."""
    registration: Registration
    """The registration that made both pictures, refined where the run refines it."""
    targets: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    """Where people, vehicles and whatever else is looked for are: maps as of `rtfusion.focus`, by the name of the target."""

    @property
    def valid(self) -> Image8 | None:
        """(H, W) uint8, 255 where both cameras see; None where they do everywhere."""
        return self.registration.valid

    @cached_property
    def counts(self) -> Image:
        """(H, W): the thermal image on the grid before tone mapping, in raw counts where the camera gives them."""
        return self.registration.thermal(self.pair.thermal.image)
