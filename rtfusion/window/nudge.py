"""Moving the registration by hand while the run goes on, key by key, and keeping it in a file.

Arrows shift the thermal picture by a visible pixel, + and - scale it, [ and ] turn it; r goes back to the beginning, w writes a
calibration file. A key that is held down repeats.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from rtfusion.errors import CalibrationError
from rtfusion.fusion.base import Change, Control
from rtfusion.fusion.nudging import Nudge, Placement
from rtfusion.types import Band

_log = logging.getLogger(__name__)

SHIFT_PX = 1.0
TURN_DEG = 0.1
SCALE = 1.002
"""Half a pixel at the edge of a picture 500 pixels wide."""
SHIFTS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
TURNS = {"[": -1, "]": 1}
SCALES = {"-": -1, "+": 1, "=": 1}
RESET, SAVE = "r", "w"


class Nudger:
    """Gathers keys and applies them together: a registration takes longer to make than a key to repeat."""

    def __init__(
        self, control: Control, *, sizes_px: Mapping[Band, tuple[int, int]], folder: Path | None = None
    ) -> None:
        """Nudge what ``control`` uses; files go to ``folder``, by default the current one."""
        self._control = control
        self._placement = Placement(control, sizes_px=sizes_px)
        self._folder = Path() if folder is None else folder
        self._shift = np.zeros(2)
        self._turns = self._scales = 0
        self._reset = self._save = False

    def press(self, key: str) -> None:
        """Take one key; keys of no meaning here are passed over."""
        if key in SHIFTS:
            self._shift += SHIFTS[key]
        self._turns += TURNS.get(key, 0)
        self._scales += SCALES.get(key, 0)
        if key == RESET:
            self._shift, self._turns, self._scales, self._reset = np.zeros(2), 0, 0, True
        self._save |= key == SAVE

    def apply(self) -> None:
        """Do what was asked for since the last time."""
        try:
            self._move()
        except CalibrationError as error:  # such as of parallax, which needs the pose that a nudge gives up
            _log.warning("the registration was not moved: %s", error)
        if self._save:
            self._write()
        self._shift, self._turns, self._scales, self._reset, self._save = np.zeros(2), 0, 0, False, False

    def _move(self) -> None:
        if self._reset:
            self._control.change(Change(calibration=self._placement.start))
        if self._shift.any() or self._turns or self._scales:
            right_px, down_px = (float(steps) * SHIFT_PX for steps in self._shift)
            turn_deg, scale = TURN_DEG * self._turns, SCALE**self._scales
            nudge = Nudge(right_px=right_px, down_px=down_px, turn_deg=turn_deg, scale=scale)
            self._control.change(Change(calibration=self._placement.nudged(nudge)))

    def _write(self) -> None:
        """Keep the registration in a new file; none that is there is touched."""
        path = self._folder / time.strftime("calibration-%Y%m%d-%H%M%S.json")
        try:
            self._placement.calibration.save(path)
        except CalibrationError as error:  # a full disk is no reason to end the run
            _log.warning("the registration could not be saved: %s", error)
        else:
            _log.info("registration saved: use it with --calibration %s", path)
