"""Pictures of one made-up scene in two bands, with a known transform between them."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from rtfusion_calibration.search import GrayPair

from rtfusion.registration.structure import equalized

SIZE_PX = (320, 240)
MARGIN_PX = 120


def scene(seed: int, *, shapes: int = 90) -> Any:
    """(H, W, 2) float32: reflectance and warmth of the same shapes, on a canvas larger than the picture."""
    rng = np.random.default_rng(seed)
    width, height = (side + 2 * MARGIN_PX for side in SIZE_PX)
    canvas = np.full((height, width, 2), 110.0, np.float32)
    for _ in range(shapes):
        center = rng.uniform((0, 0), (width, height))
        corners = center + rng.uniform(-28, 28, (int(rng.integers(3, 6)), 2))
        layer = np.ascontiguousarray(canvas)
        cv2.fillConvexPoly(layer, cv2.convexHull(np.round(corners).astype(np.int32)), rng.uniform(20, 230, 2).tolist())
        canvas = layer
    return canvas


def view(canvas: Any, visible_from_thermal_px: Any | None, *, noise: float = 2.0, seed: int = 0) -> Any:
    """(H, W) uint8: the warmth seen through a transform to the visible picture, or without one the reflectance."""
    middle = np.array([[1.0, 0.0, -MARGIN_PX], [0.0, 1.0, -MARGIN_PX], [0.0, 0.0, 1.0]])
    transform, band = middle, 0
    if visible_from_thermal_px is not None:
        transform, band = np.linalg.inv(visible_from_thermal_px) @ middle, 1
    smooth = cv2.GaussianBlur(canvas[..., band], (0, 0), 1.0)
    picture = cv2.warpPerspective(smooth, transform, SIZE_PX, flags=cv2.INTER_LINEAR)
    rng = np.random.default_rng((seed, band))
    return np.clip(picture + rng.normal(0.0, noise, picture.shape), 0, 255).astype(np.uint8)


def gray_pair(seed: int, visible_from_thermal_px: Any, **options: Any) -> GrayPair:
    canvas = scene(seed, **options)
    return GrayPair(
        visible=equalized(view(canvas, None, seed=seed)),
        thermal=equalized(view(canvas, visible_from_thermal_px, seed=seed)),
    )


def similarity(*, shift_px: tuple[float, float], turn_deg: float = 0.0, scale: float = 1.0) -> Any:
    """(3, 3) about the middle of the picture."""
    middle = (np.array(SIZE_PX) - 1) / 2
    cos, sin = scale * np.cos(np.deg2rad(turn_deg)), scale * np.sin(np.deg2rad(turn_deg))
    matrix = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    matrix[:2, 2] = middle - matrix[:2, :2] @ middle + shift_px
    return matrix
