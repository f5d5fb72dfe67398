"""The noise of a camera, measured on its own pictures while it runs."""

from __future__ import annotations

from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt

from rtfusion.clock import NS_PER_S
from rtfusion.smoothing import SmoothingWeight
from rtfusion.types import Image

INTERVAL_NS = NS_PER_S // 4
"""Two pictures that are compared lie at least this far apart: what a recursive filter has left is not the same in both."""
STALE_NS = 2 * NS_PER_S
"""Two pictures further apart are not compared: the scene has changed by itself meanwhile."""
LEAST_QUIET_SHARE = 0.05
"""Noise is read where the picture is quietest; of less than this part of its blocks nothing is read."""
_QUIET = 0.25
_BLOCK = 8
_QUIET_MEAN = 0.936 * float(np.sqrt(2.0 / np.pi))
"""Mean absolute value of a normal variable of deviation 1, in the quieter quarter of the blocks where all are alike."""
_LAPLACIAN_GAIN = 6.0
_SPATIAL_SLACK = 2.0

Plane = npt.NDArray[np.float32]


class NoiseLevel:
    """The deviation of a pixel that looks at something still, in the unit of the picture: counts or gray levels.

    Read from the differences of pictures at least a quarter of a second apart, in the quarter of the blocks of pixels that
    changed least, so that neither what moves nor noise that stands still (a fixed pattern) counts; at most twice what the
    finest detail of one picture allows (J. Immerkær, Fast noise variance estimation, 1996), so that a camera that pans does
    not pass for noisy. The first picture, and each one of unrelated stills, is read by its fine detail alone.

    The variance is averaged with ``time_constant_s``; 0 is for unrelated stills.
    """

    def __init__(self, *, time_constant_s: float) -> None:
        self._remembers = time_constant_s > 0
        self._weight = SmoothingWeight(time_constant_s=time_constant_s)
        self._before: Plane | None = None
        self._before_ns = 0
        self._variance = 0.0
        self._is_first_guess = True

    @property
    def deviation(self) -> float:
        """What was measured up to now; 0 before the first picture, and of pictures without noise."""
        return float(np.sqrt(self._variance))

    def follow(self, image: Image, *, timestamp_ns: int) -> float:
        """Measure an (H, W) uint8 or uint16 picture, where its turn has come, and give the deviation.

        A picture that repeats the one before in every pixel says nothing and is left out.
        """
        since_ns = timestamp_ns - self._before_ns
        if self._before is not None and self._remembers and 0 <= since_ns < INTERVAL_NS:
            return self.deviation
        plane = _sampled(image)
        follows = self._remembers and INTERVAL_NS <= since_ns <= STALE_NS
        if self._before is None or not follows or plane.shape != self._before.shape:
            self._start(image, plane, timestamp_ns)
        else:
            difference = cast(Plane, cv2.absdiff(plane, self._before))
            if cv2.countNonZero(difference):
                self._measure(difference, image, timestamp_ns)
            self._before, self._before_ns = plane, timestamp_ns
        return self.deviation

    def reset(self) -> None:
        """Forget the pictures: the next one is the first."""
        self._before = None
        self._weight.reset()

    def _start(self, image: Image, plane: Plane, timestamp_ns: int) -> None:
        """Take a first picture: its detail is all there is to go by, unless there was something better before."""
        if self._is_first_guess or not self._remembers:
            self._variance = _spatial_variance(image)
            self._weight.advance(timestamp_ns)
        self._before, self._before_ns = plane, timestamp_ns

    def _measure(self, difference: Plane, image: Image, timestamp_ns: int) -> None:
        variance = min(_quiet_variance(difference) / 2.0, _SPATIAL_SLACK**2 * _spatial_variance(image))
        weight = self._weight.advance(timestamp_ns)
        if self._is_first_guess:  # detail was taken for noise: what time tells is better at once
            weight, self._is_first_guess = 1.0, False
        self._variance += weight * (variance - self._variance)


def _step(image: Image) -> int:
    """Rows and columns from one pixel that is looked at to the next: some twenty thousand pixels are enough."""
    return max(1, int(np.sqrt(image.size / 16_000)))


def _sampled(image: Image) -> Plane:
    step = _step(image)
    return image[::step, ::step].astype(np.float32)


def _quiet_variance(difference: Plane) -> float:
    """The variance of normal noise, of its absolute values (H, W), in the quietest quarter of the blocks that have any."""
    size = (max(1, difference.shape[1] // _BLOCK), max(1, difference.shape[0] // _BLOCK))
    blocks = cv2.resize(difference, size, interpolation=cv2.INTER_AREA).ravel()
    some = blocks[blocks > 0]  # a part that is saturated or masked out has no noise to read
    if some.size < LEAST_QUIET_SHARE * blocks.size or some.size == 0:
        return 0.0
    return float((np.quantile(some, _QUIET) / _QUIET_MEAN) ** 2)


def _spatial_variance(image: Image) -> float:
    """The variance of white noise in one picture, by the response to a difference of two Laplacians, which lines pass."""
    if min(image.shape) < 3:
        return 0.0
    step = _step(image)
    top, middle, bottom = (_cut(image, row, step) for row in range(3))
    response = np.abs(_across(top) - 2.0 * _across(middle) + _across(bottom))
    return _quiet_variance(response) / _LAPLACIAN_GAIN**2


def _cut(image: Image, row: int, step: int) -> tuple[Any, Any, Any]:
    """Three neighboring columns of a row of every neighborhood that is looked at."""
    height, width = image.shape[0] - 2, image.shape[1] - 2
    rows = image[row : row + height : step]
    return tuple(rows[:, column : column + width : step].astype(np.float32) for column in range(3))  # type: ignore[return-value]


def _across(columns: tuple[Any, Any, Any]) -> Any:
    left, middle, right = columns
    return left - 2.0 * middle + right
