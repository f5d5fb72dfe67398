"""The kernels in NumPy, float32 step by float32 step: what `kernels.cu` must give, bit by bit, on any machine."""

from __future__ import annotations

from typing import cast

import numpy as np
import numpy.typing as npt

from rtfusion.types import Image, Image8

Plane = npt.NDArray[np.float32]

_ONE, _HALF, _WHITE = np.float32(1), np.float32(0.5), np.float32(255)


def prepare(
    *,
    visible: Image8,
    thermal: Image,
    levels: Image8,
    source: tuple[Plane, Plane] | None,
    padded_shape: tuple[int, int],
) -> tuple[Plane, Plane, Image8, tuple[int, int]]:
    """Luminance and registered thermal for the network, the registered thermal as gray levels, and the sums of both.

    Args:
        visible: (H, W, 3) BGR or (H, W).
        thermal: (h, w), uint8 or uint16.
        levels: the gray level of every count.
        source: x and y, each (H, W), in the thermal image; None where it lies on the visible grid.
        padded_shape: (rows, columns) of the planes.
    """
    height, width = visible.shape[:2]
    grid = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    x, y = grid if source is None else source
    left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    right_part, lower_part = x - left.astype(np.float32), y - top.astype(np.float32)
    rows = [np.clip(top + i, 0, thermal.shape[0] - 1) for i in (0, 1)]
    columns = [np.clip(left + i, 0, thermal.shape[1] - 1) for i in (0, 1)]
    corner = [levels[thermal[row, column]].astype(np.float32) for row in rows for column in columns]
    upper = (_ONE - right_part) * corner[0] + right_part * corner[1]
    lower = (_ONE - right_part) * corner[2] + right_part * corner[3]
    registered = ((_ONE - lower_part) * upper + lower_part * lower + _HALF).astype(np.uint8)
    visible_y = luminance(visible)
    margins = (0, padded_shape[0] - height), (0, padded_shape[1] - width)
    planes = [np.pad(band.astype(np.float32) / _WHITE, margins, mode="edge") for band in (visible_y, registered)]
    return planes[0], planes[1], registered, (int(visible_y.sum()), int(registered.sum()))


def scene(*, means: Plane, sums: tuple[int, int], pixels: int, share: float) -> Plane:
    """The two means after one more frame: ``means`` (2,), moved by ``share`` of the way to what the frame has."""
    present = np.array([total / pixels / 255.0 for total in sums], np.float32)
    return present if share >= 1.0 else means + np.float32(share) * (present - means)


def compose(*, visible: Image8, fused_y: Plane, inside: Plane | None) -> Image8:
    """The fused (H, W, 3) BGR image; ``fused_y`` may be padded, ``inside`` (H, W) is 1 where both cameras see."""
    height, width = visible.shape[:2]
    before = luminance(visible).astype(np.int32)
    with np.errstate(invalid="ignore"):
        fused = np.rint(np.fmin(np.fmax(fused_y[:height, :width] * _WHITE, np.float32(0)), _WHITE))
    if inside is not None:
        fused = np.rint(inside * fused + (_ONE - inside) * before.astype(np.float32))
    color = visible if visible.ndim == 3 else np.repeat(visible[..., None], 3, axis=2)
    return np.clip(color + (fused.astype(np.int32) - before)[..., None], 0, 255).astype(np.uint8)


def luminance(visible: Image8) -> Image8:
    """Full-range BT.601 in 15-bit fixed point, as OpenCV; a gray image is its own."""
    if visible.ndim == 2:
        return visible
    blue, green, red = (visible[..., channel].astype(np.int32) for channel in range(3))
    return cast(Image8, ((3735 * blue + 19235 * green + 9798 * red + 16384) >> 15).astype(np.uint8))
