"""Pictures that kernels are tried with."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from rtfusion.types import Image8

kinds = st.sampled_from(["noise", "extremes", "flat", "ramp"])
hows = st.sampled_from(["dense", "rows apart", "columns apart", "upside down"])


def image(random: np.random.Generator, size_px: tuple[int, int], kind: str) -> Image8:
    width, height = size_px
    made = {
        "noise": lambda: random.integers(0, 256, (height, width)),
        "extremes": lambda: 255 * random.integers(0, 2, (height, width)),
        "flat": lambda: np.full((height, width), random.integers(0, 256)),
        "ramp": lambda: np.add.outer(np.arange(height), np.arange(width)) % 256,
    }[kind]()
    return made.astype(np.uint8)


def strided(array: Image8, how: str) -> Image8:
    """The same pixels, differently in memory."""
    if how == "rows apart":
        wide = np.zeros((array.shape[0], array.shape[1] + 5), np.uint8)
        wide[:, 3:-2] = array
        return wide[:, 3:-2]
    if how == "columns apart":
        return np.repeat(array, 2, axis=1)[:, ::2]
    if how == "upside down":
        return np.ascontiguousarray(array[::-1])[::-1]
    return array
