"""The noise of a camera, measured on its own pictures while it runs."""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from rtfusion.clock import NS_PER_S
from rtfusion.smoothing import SmoothingWeight, turn_at
from rtfusion.types import Image

LOOKS_PER_BEAT = 40
"""Two pictures that are compared lie a quarter of a second apart: what a recursive filter has left is not the same in both."""
STALE_NS = 2 * NS_PER_S
"""Two pictures further apart are not compared: the scene has changed by itself meanwhile."""
LEAST_QUIET_SHARE = 0.05
"""Noise is read where the picture is quietest; of less than this part of its blocks nothing is read."""
RISES = 0.1
"""Noise is a property of the camera: it is more readily believed to be less, since what looks like more may be a pan."""
_QUIET = 0.25
_BLOCK = 8
_QUIET_MEAN = 0.936 * float(np.sqrt(2.0 / np.pi))
"""Mean absolute value of a normal variable of deviation 1, in the quieter quarter of the blocks where all are alike."""
_SECOND_DIFFERENCE_GAIN = float(np.sqrt(6.0))
_SPATIAL_SLACK = 2.0
_NEAR_PX, _FAR_PX = 1, 4
"""Noise of a small sensor that was scaled up is the same in neighboring pixels, but not in those further apart."""

Plane = npt.NDArray[np.float32]


class NoiseLevel:
    """The deviation of a pixel that looks at something still, in the unit of the picture: counts or gray levels.

    Read from the differences of pictures a quarter of a second apart, in the quarter of the blocks of pixels that
    changed least, so that neither what moves nor noise that stands still (a fixed pattern) counts; at most twice what the
    detail of one picture allows, so that a camera that pans does not pass for noisy. The first picture, and each one of
    unrelated stills, is read by its finest detail alone. Noise of rows, of columns and of a sensor that was scaled up counts.

    The variance is averaged with ``time_constant_s``, ten times that where it rises; 0 is for unrelated stills.
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
        turns = turn_at(timestamp_ns, per_beat=LOOKS_PER_BEAT) - turn_at(self._before_ns, per_beat=LOOKS_PER_BEAT)
        if self._before is not None and self._remembers and turns == 0:
            return self.deviation
        plane = _sampled(image)
        follows = self._remembers and 0 < since_ns <= STALE_NS
        if self._before is None or not follows or plane.shape != self._before.shape:
            self._start(image, plane, timestamp_ns)
        else:
            difference = cast(Plane, cv2.absdiff(plane, self._before))
            if cv2.countNonZero(difference):
                self._measure(difference, image, timestamp_ns)
            self._before, self._before_ns = plane, timestamp_ns
        return self.deviation

    def reset(self) -> None:
        """Forget what was measured: the next picture is the first."""
        self._before, self._is_first_guess = None, True
        self._weight.reset()

    def _start(self, image: Image, plane: Plane, timestamp_ns: int) -> None:
        """Take a first picture: its detail is all there is to go by, unless there was something better before."""
        if self._is_first_guess or not self._remembers:
            self._variance = _spatial_variance(image, lags_px=(_NEAR_PX,))
            self._weight.advance(timestamp_ns)
        self._before, self._before_ns = plane, timestamp_ns

    def _measure(self, difference: Plane, image: Image, timestamp_ns: int) -> None:
        allowed = _SPATIAL_SLACK**2 * _spatial_variance(image, lags_px=(_NEAR_PX, _FAR_PX))
        variance = min(_quiet_variance(difference) / 2.0, allowed)
        weight = self._weight.advance(timestamp_ns)
        if self._is_first_guess:  # detail was taken for noise: what time tells is better at once
            weight, self._is_first_guess = 1.0, False
        elif variance > self._variance:
            weight *= RISES
        self._variance += weight * (variance - self._variance)


def _step(image: Image) -> int:
    """Rows and columns from one pixel that is looked at to the next: some twenty thousand pixels are enough."""
    return max(1, int(np.sqrt(image.size / 16_000)))


def _sampled(image: Image) -> Plane:
    step = _step(image)
    return image[::step, ::step].astype(np.float32)


def _quiet_variance(differences: Plane) -> float:
    """The variance of normal noise, of its absolute values (H, W), in the quietest quarter of the blocks that have any."""
    size_px = (max(1, differences.shape[1] // _BLOCK), max(1, differences.shape[0] // _BLOCK))
    blocks = cv2.resize(differences, size_px, interpolation=cv2.INTER_AREA).ravel()
    some = blocks[blocks > 0]  # a part that is saturated or masked out has no noise to read
    if some.size < LEAST_QUIET_SHARE * blocks.size or some.size == 0:
        return 0.0
    return float((np.quantile(some, _QUIET) / _QUIET_MEAN) ** 2)


def _spatial_variance(image: Image, *, lags_px: tuple[int, ...]) -> float:
    """The variance of noise in one picture, by its second differences: the largest over directions and distances of pixels."""
    responses = (_second_difference(image, axis=axis, lag_px=lag_px) for axis in (0, 1) for lag_px in lags_px)
    variances = (_quiet_variance(response) for response in responses if response.size)
    return max(variances, default=0.0) / _SECOND_DIFFERENCE_GAIN**2


def _second_difference(image: Image, *, axis: int, lag_px: int) -> Plane:
    """|a - 2 b + c| of pixels that lie ``lag_px`` apart in a row or a column; empty where the picture is too small."""
    step = _step(image)
    length = image.shape[axis] - 2 * lag_px
    if length < 1:
        return np.empty((0, 0), np.float32)

    def cut(start: int) -> Plane:
        within = slice(start, start + length, step)
        part = image[within, ::step] if axis == 0 else image[::step, within]
        return part.astype(np.float32)

    return np.abs(cut(0) - 2.0 * cut(lag_px) + cut(2 * lag_px))
