"""Stripes of thermal sensors: columns that stay, rows that change with each frame. Each is measured where the scene agrees.

A stripe is an offset of a whole line. Of the picture, averaged along the lines over 8 pixels, the part that is high-pass across
them is averaged over each of five segments of every line: what the scene does to a line it does in some segments, a stripe
offsets all. So the variance of the stripes is the covariance of the segments, and the offset of a line the median of its
segments, weighed by that variance against their disagreement.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from rtfusion.types import Image

SEGMENTS = 5
REACH_PX = 17
"""Offsets are told from the scene by their difference to the mean of about as many lines."""
ALONG_PX = 8
LEAST_SIDE_PX = 2 * REACH_PX
CLIP = 3.0
"""Structure counts with at most as many times the spread that the picture has across its lines."""

Profile = npt.NDArray[np.float32]
"""(SEGMENTS, lines): the high-pass mean of each line in each segment, in gray levels or counts."""


def profile(image: Image, *, columns: bool) -> Profile:
    """The profile of the columns of an (H, W) image, or of its rows; see the head of this module."""
    height, width = image.shape
    if columns:
        lines = cv2.resize(image, (width, max(SEGMENTS, height // ALONG_PX)), interpolation=cv2.INTER_AREA)
    else:
        lines = cv2.resize(image, (max(SEGMENTS, width // ALONG_PX), height), interpolation=cv2.INTER_AREA).T
    lines = np.ascontiguousarray(lines, np.float32)
    high = lines - cv2.blur(lines, (REACH_PX, 1))
    limit = CLIP * 1.4826 * float(np.median(np.abs(high[::2, ::2])))
    np.clip(high, -limit, limit, out=high)
    per_segment = len(high) // SEGMENTS * SEGMENTS
    return np.asarray(high[:per_segment].reshape(SEGMENTS, -1, high.shape[1]).mean(axis=1))


def spread(of: Profile) -> float:
    """The standard deviation of the stripes of a profile: the root of the covariance of its segments, 0 where they disagree."""
    # stripes differ from line to line, the structure of a scene seldom does: of steps of white noise the variance is twofold
    steps = np.diff(of, axis=1)
    products = (steps.sum(axis=0) ** 2 - (steps**2).sum(axis=0)) / (2 * SEGMENTS * (SEGMENTS - 1))
    # a few lines with structure from end to end, such as a horizon or a mast, are no noise
    limit = 9.0 * float(np.median(np.abs(products)))
    return math.sqrt(max(0.0, float(np.clip(products, -limit, limit).mean())))


def offsets(of: Profile, *, spread: float) -> npt.NDArray[np.float32]:
    """(lines,): the offset of each line, for stripes of this standard deviation."""
    middle = np.median(of, axis=0)
    apart = ((of - middle) ** 2).mean(axis=0) / SEGMENTS
    variance = spread**2
    wanted = middle * (variance / (variance + apart + 1e-6))
    # what is far beyond the stripes that there are is of the scene
    limit = 4.0 * spread
    return np.asarray(np.where(np.abs(wanted) <= limit, wanted, 0.0), np.float32)
