"""A memory of the scene that lets go of what is no longer there: at a cut, when the light is switched on, out of a tunnel."""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from rtfusion.fusion.color import luminance
from rtfusion.smoothing import SmoothingWeight
from rtfusion.types import Image8

CELLS = 16, 12
"""Columns and rows in which a scene is remembered."""
LARGEST_STEP = 4
"""Cells are averaged over every fourth row and column, or more in small images."""
CHANGED_LEVELS = 10.0
"""A cell is another one when its mean differs by more than noise and the motion of small things do, ..."""
CHANGED_IN_THE_DARK, BRIGHT_LEVEL = 0.4, 60.0
"""... and in the dark by less, down to that part of it: between a tunnel and its lamps there are but few levels."""
OF_THE_SCENE, ANOTHER_SCENE = 0.35, 0.6
"""Share of changed cells up to which something moves in the scene, and from which on it is another one."""


class SceneMemory:
    """Says how far a memory of a scene has to move to the present one: slowly, but at once where most of it has changed.

    The weight of a new value is that of an exponential average, 1 - exp(-dt / tau), or more: from a third to six tenths of the
    picture changed against what is remembered it rises to 1. One hot object that enters changes few cells, whatever its
    temperature, and so re-tones nothing; a cut, a lamp or the end of a tunnel changes most of them.

    Args:
        time_constant_s: 0 for unrelated stills: the weight is always 1.
    """

    def __init__(self, *, time_constant_s: float) -> None:
        self._smoothing = SmoothingWeight(time_constant_s=time_constant_s)
        self._cells: npt.NDArray[np.float32] | None = None

    def weight(self, image: Image8, *, timestamp_ns: int) -> float:
        """Remember the scene of an (H, W) or (H, W, 3) BGR image, and give the weight of its values against the older ones."""
        weight = self._smoothing.advance(timestamp_ns)
        cells = _cells(image)
        if self._cells is None or weight == 1.0:
            self._cells = cells
            return 1.0
        step = cells - self._cells
        bright = np.minimum(np.maximum(cells, self._cells) / BRIGHT_LEVEL, 1.0)
        levels = CHANGED_LEVELS * (CHANGED_IN_THE_DARK + (1.0 - CHANGED_IN_THE_DARK) * bright)
        weight = max(weight, _another(np.count_nonzero(np.abs(step) > levels) / step.size))
        self._cells += weight * step
        return weight


class SceneMean:
    """The mean of a band, remembered with its scene (`SceneMemory`), in units of the caller."""

    def __init__(self, *, time_constant_s: float) -> None:
        self._memory = SceneMemory(time_constant_s=time_constant_s)
        self._value = 0.0

    def follow(self, value: float, *, image: Image8, timestamp_ns: int) -> float:
        """Move towards ``value``, that of the (H, W) image, and give where it is now."""
        weight = self._memory.weight(image, timestamp_ns=timestamp_ns)
        self._value = value if weight == 1.0 else self._value + weight * (value - self._value)
        return self._value


def _cells(image: Image8) -> npt.NDArray[np.float32]:
    per_cell = min(side // count for side, count in zip(image.shape[1::-1], CELLS, strict=True))
    step = min(max(per_cell // LARGEST_STEP, 1), LARGEST_STEP)
    sampled = image[::step, ::step]
    cells = cast(Image8, cv2.resize(sampled, CELLS, interpolation=cv2.INTER_AREA))
    return cast(npt.NDArray[np.float32], luminance(cells).astype(np.float32))


def _another(changed: float) -> float:
    """How much of another scene it is, 0 to 1, by the share of changed cells."""
    return min(max((changed - OF_THE_SCENE) / (ANOTHER_SCENE - OF_THE_SCENE), 0.0), 1.0)
