"""A second opinion on a registration: mutual information of the two pictures, which is highest where they fit.

It counts pairs of gray levels and knows nothing of edges, patches or votes, so that it errs in other ways than the estimate. It
is coarse (a pixel or so), and silent where the bands have no gray levels in common.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from rtfusion_calibration.search import GrayPair, size_px

from rtfusion.registration.calibration import Matrix

REACH_PX, LEVELS = 5, 24


def witness_px(pair: GrayPair, visible_from_thermal_px: Matrix) -> float | None:
    """Measure how far the picture lies from where mutual information is highest; None where that is beyond `REACH_PX`."""
    grid_px = size_px(pair.visible)
    warped = cv2.warpPerspective(pair.thermal, visible_from_thermal_px, grid_px, borderMode=cv2.BORDER_REPLICATE)
    inside = cv2.warpPerspective(np.full_like(pair.thermal, 255), visible_from_thermal_px, grid_px)
    inside = cv2.erode(inside, np.ones((2 * REACH_PX + 3,) * 2, np.uint8))
    step = 2 if inside.size > 200_000 else 1
    core = np.s_[REACH_PX:-REACH_PX:step, REACH_PX:-REACH_PX:step]
    here = inside[core] > 254
    visible, thermal = (
        cv2.GaussianBlur(image, (0, 0), 1.0).astype(np.int64) * LEVELS // 256 for image in (pair.visible, warped)
    )
    fixed = visible[core][here] * LEVELS
    shifts = range(-REACH_PX, REACH_PX + 1)
    scores = np.array(
        [[_information(fixed + np.roll(thermal, (-y, -x), axis=(0, 1))[core][here]) for x in shifts] for y in shifts]
    )
    row, column = (int(index) for index in np.unravel_index(int(scores.argmax()), scores.shape))
    if not (0 < row < 2 * REACH_PX and 0 < column < 2 * REACH_PX):
        return None
    top = [_vertex(scores[row, column - 1 : column + 2]), _vertex(scores[row - 1 : row + 2, column])]
    return float(np.hypot(column - REACH_PX + top[0], row - REACH_PX + top[1]))


def _information(joint: npt.NDArray[np.int64]) -> float:
    """Mutual information, in nats, of pairs of gray levels that are numbered visible * LEVELS + thermal."""
    shares = np.bincount(joint, minlength=LEVELS**2).reshape(LEVELS, LEVELS) / max(len(joint), 1)
    entropies = [
        -float((part[part > 0] * np.log(part[part > 0])).sum()) for part in (shares.sum(0), shares.sum(1), shares)
    ]
    return entropies[0] + entropies[1] - entropies[2]


def _vertex(values: npt.NDArray[np.float64]) -> float:
    before, at, after = values
    return float(0.5 * (before - after) / min(before - 2.0 * at + after, -1e-12))
