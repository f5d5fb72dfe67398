"""Moving the registration of a running fuser by hand: shifted, turned and scaled a little at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rtfusion.errors import ConfigError
from rtfusion.fusion.base import Control
from rtfusion.registration import Calibration, scale_px
from rtfusion.types import Band

MAX_SHIFT_PX, MAX_TURN_DEG, MAX_SCALE = 1000.0, 45.0, 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Nudge:
    """How far the thermal picture is to move in the visible one: scaled and turned about its middle, then shifted.

    Raises:
        ConfigError: more than `MAX_SHIFT_PX`, `MAX_TURN_DEG` or `MAX_SCALE`, or less than its inverse: no step but a mistake.
    """

    right_px: float = 0.0
    """In visible pixels of the stream."""
    down_px: float = 0.0
    turn_deg: float = 0.0
    """Clockwise."""
    scale: float = 1.0

    def __post_init__(self) -> None:
        shift_px = max(abs(self.right_px), abs(self.down_px))
        if not (shift_px <= MAX_SHIFT_PX and abs(self.turn_deg) <= MAX_TURN_DEG):
            raise ConfigError(f"a nudge goes no farther than {MAX_SHIFT_PX:.0f} pixels and {MAX_TURN_DEG:.0f} degrees")
        if not 1 / MAX_SCALE <= self.scale <= MAX_SCALE:
            raise ConfigError(f"a nudge scales by {1 / MAX_SCALE:g} to {MAX_SCALE:g}")


class Placement:
    """Where the thermal picture lies in the visible one of a running fuser, and where it lay when this was made."""

    def __init__(self, control: Control, *, sizes_px: Mapping[Band, tuple[int, int]]) -> None:
        """Of what ``control`` uses; ``sizes_px`` are (width, height) of the streams."""
        self._control = control
        self._sizes_px = sizes_px
        self.start = control.calibration or self._same_view()
        """The calibration of the beginning; of a run without one, that both cameras have the same view."""

    @property
    def calibration(self) -> Calibration:
        """The calibration in use."""
        return self._control.calibration or self._same_view()

    def nudged(self, nudge: Nudge) -> Calibration:
        """The calibration in use, moved."""
        now = self.calibration
        # a calibration may be of a larger picture than the stream's
        step_px = now.visible.width_px / self._sizes_px[Band.VISIBLE][0]
        shift_px = nudge.right_px * step_px, nudge.down_px * step_px
        return now.nudged(shift_px=shift_px, turn_deg=nudge.turn_deg, scale=nudge.scale)

    def _same_view(self) -> Calibration:
        """The registration of a run without a calibration."""
        visible_size_px, thermal_size_px = self._sizes_px[Band.VISIBLE], self._sizes_px[Band.THERMAL]
        return Calibration.from_homography(
            visible_from_thermal_px=scale_px(from_px=thermal_size_px, to_px=visible_size_px),
            visible_size_px=visible_size_px,
            thermal_size_px=thermal_size_px,
        )
