"""What both bands say of a teacher's picture: the picture without its faults, for a student to learn from.

A language-driven teacher amplifies noise, prints a grid, and puts halos around hot things. None of that is in the two bands.
So its picture T is fitted, about every pixel, by an affine function of both of them::

    T ~ a visible + b thermal + c      least squares in windows of `WINDOW_PX`, a^2 + b^2 weighted by `NOISE`^2

which keeps how bright it makes things and how much contrast it gives to what a band shows there, and cannot hold what no band
shows. Where neither band has details above `NOISE`, a and b go to 0, and with them the teacher's noise. What is left of a dip
or a glow beside hot things, beyond those of both bands, is taken out at last.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from rtfusion.types import Image8
from rtfusion_trainer.teachers.cache import FULL_SCALE, CachedPictures, Image16
from rtfusion_trainer.teachers.faithful import distance_to_hot_px
from rtfusion_trainer.teachers.network import FloatImage

WINDOW_PX = 9
NOISE = 4 / 255
"""Deviation of details that count half, in units of full scale."""
NEAR_PX, AROUND_PX = 8, 40
"""A dip is the mean over a window of the one side less that over one of the other, of pixels that are not hot ..."""
REACH_PX = (12, 20)
"""... near, and beyond the first of these. A halo is taken out in full up to the first, from the second on not at all."""


@dataclass(frozen=True)
class Explained:
    """The pictures of a cache as both bands explain them."""

    pictures: CachedPictures

    @property
    def identity(self) -> str:
        """The teacher, for the record."""
        return f"{self.pictures.identity}-explained"

    def __call__(self, *, visible: Image8, thermal: Image8) -> Image16:
        """The explained picture of the pair, (H, W) of 0 to `FULL_SCALE`.

        Raises:
            ConfigError: the teacher was not asked for this pair, or the file is damaged.
        """
        picture = self.pictures(visible=visible, thermal=thermal).astype(np.float32) / np.float32(FULL_SCALE)
        found = explained(picture, visible=visible, thermal=thermal)
        return np.rint(found * FULL_SCALE).astype(np.uint16)


def explained(picture: FloatImage, *, visible: Image8, thermal: Image8) -> FloatImage:
    """The part of a teacher's picture, (H, W) in [0, 1], that both bands say; in [0, 1]."""
    bands = [band.astype(np.float32) / np.float32(255) for band in (visible, thermal)]
    fitted = _fitted(picture, *bands)
    cleaned = _without_halo(fitted, *bands, distance_px=distance_to_hot_px(thermal))
    return np.clip(cleaned, 0, 1, dtype=np.float32)


def _fitted(picture: FloatImage, first: FloatImage, second: FloatImage) -> FloatImage:
    """The guided filter with two guides: coefficients of windows, averaged over the windows about a pixel."""

    def mean(values: FloatImage) -> FloatImage:
        return _mean(values, WINDOW_PX)

    means = mean(first), mean(second), mean(picture)
    var_1 = mean(first * first) - means[0] ** 2 + NOISE**2
    var_2 = mean(second * second) - means[1] ** 2 + NOISE**2
    both = mean(first * second) - means[0] * means[1]
    with_1 = mean(picture * first) - means[2] * means[0]
    with_2 = mean(picture * second) - means[2] * means[1]
    determinant = np.maximum(var_1 * var_2 - both * both, NOISE**4)
    a, b = (var_2 * with_1 - both * with_2) / determinant, (var_1 * with_2 - both * with_1) / determinant
    fitted: FloatImage = mean(a) * first + mean(b) * second + mean(means[2] - a * means[0] - b * means[1])
    return fitted


def _without_halo(
    picture: FloatImage, visible: FloatImage, thermal: FloatImage, *, distance_px: FloatImage
) -> FloatImage:
    """The picture less what its dip beside hot pixels is beyond those of both bands."""
    cold, away = ((distance_px > limit_px).astype(np.float32) for limit_px in (0, REACH_PX[0]))
    cold_share, away_share = _mean(cold, NEAR_PX), _mean(away, AROUND_PX)

    def dip(image: FloatImage) -> FloatImage:
        near = _mean(cold * image, NEAR_PX) / np.maximum(cold_share, 1e-3)
        around = _mean(away * image, AROUND_PX) / np.maximum(away_share, 1e-3)
        return np.asarray(near - around, np.float32)

    found, *of_bands = (dip(image) for image in (picture, visible, thermal))
    beyond = found - np.clip(found, np.minimum(*of_bands), np.maximum(*of_bands))
    near = np.clip((REACH_PX[1] - distance_px) / (REACH_PX[1] - REACH_PX[0]), 0, 1) * (away_share > 0.02) * cold
    return np.asarray(picture - near * beyond, np.float32)


def _mean(values: FloatImage, side_px: int) -> FloatImage:
    return np.asarray(cv2.blur(values, (side_px, side_px), borderType=cv2.BORDER_REFLECT), np.float32)
