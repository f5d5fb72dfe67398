"""What a teacher is: a pair in, a fused luminance out, and a name that says how it was made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt

from rtfusion.types import Image8

FloatImage = npt.NDArray[np.float32]
Constants = Mapping[str, str | int | float]


class Teacher(Protocol):
    """Fuses one pair; two teachers of equal name and constants give equal pictures."""

    @property
    def name(self) -> str:
        """Short, fit for a file name."""

    @property
    def constants(self) -> Constants:
        """Everything that the output depends on besides the pair: weights' checksum, recipe, shifts."""

    def __call__(self, *, visible: Image8, thermal: Image8) -> FloatImage:
        """(H, W) uint8 luminance and thermal in, (H, W) float32 in [0, 1] out."""
