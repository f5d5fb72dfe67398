"""Averaging over shifts: a network of stride s prints a grid of period s; the mean over shifted inputs does not.

The picture is moved by (y, x) px, fused, and moved back, for shifts that take every row phase and every column phase equally
often. A pattern that is fixed to the network's grid is then averaged to its mean, and all else stays where it is.
"""

from __future__ import annotations

import numpy as np

from rtfusion.types import Image8
from rtfusion_trainer.teachers.network import Constants, FloatImage, Teacher


class ShiftAveraged:
    """A teacher averaged over 2 ``stride_px`` shifts, or over all stride_px^2 with ``full``.

    The few shifts are (i, 3 i + k) for i = 0 .. stride - 1 and k = 0, 1, modulo the stride: each row phase and each column
    phase twice. They remove all that repeats along rows or columns and the checkerboard of single pixels, and of the diagonal
    patterns all but those few that run along the lattice.
    """

    def __init__(self, teacher: Teacher, *, stride_px: int = 8, full: bool = False) -> None:
        self._teacher = teacher
        self.stride_px = stride_px
        self.shifts_px = lattice(stride_px, full=full)
        self.name = f"{teacher.name}-{len(self.shifts_px)}shifts"
        shifts = ",".join(f"{y}/{x}" for y, x in self.shifts_px)
        self.constants: Constants = {**teacher.constants, "shifts": shifts}

    def __call__(self, *, visible: Image8, thermal: Image8) -> FloatImage:
        """Fuse a pair that is larger than the stride; borders are mirrored for the shifts."""
        height, width = visible.shape
        total = np.zeros((height, width), np.float64)
        for y, x in self.shifts_px:
            margins = ((y, self.stride_px - y), (x, self.stride_px - x))
            moved = [np.pad(image, margins, mode="reflect") for image in (visible, thermal)]
            fused = self._teacher(visible=moved[0], thermal=moved[1])
            total += fused[y : y + height, x : x + width]
        return (total / len(self.shifts_px)).astype(np.float32)


def lattice(stride_px: int, *, full: bool) -> tuple[tuple[int, int], ...]:
    """The shifts (y, x) in px."""
    columns = range(stride_px) if full else range(2)
    return tuple((y, (3 * y + k) % stride_px) for y in range(stride_px) for k in columns)


def grid_peak_db(image: FloatImage, *, period_px: int = 8) -> float:
    """Height of a grid of this period above the picture's spectrum, in dB; about 0 for a picture without one.

    Mean power at the multiples of 1 / period (Hann-windowed Fourier transform, both axes and diagonals, without the constant),
    over the median power of the bins around each of them. Pictures at least 16 periods high and wide.
    """
    height, width = (length // period_px * period_px for length in image.shape)
    if min(height, width) < 16 * period_px:
        raise ValueError(f"the image is {image.shape}; a grid of {period_px} px needs {16 * period_px} px at least")
    part = image[:height, :width].astype(np.float64)
    window = np.hanning(height + 1)[:-1, None] * np.hanning(width + 1)[None, :-1]
    power = np.abs(np.fft.fft2((part - part.mean()) * window)) ** 2
    ratios = []
    for i in range(period_px):
        for j in range(period_px):
            if i or j:
                rows = np.arange(-5, 6) + i * height // period_px
                columns = np.arange(-5, 6) + j * width // period_px
                around = power[rows[:, None] % height, columns % width]
                ratios.append(around[5, 5] / np.median(around))
    return float(10 * np.log10(np.mean(ratios)))
