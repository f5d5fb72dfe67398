"""What the cameras of the rig see: pictures made by arithmetic, in the bytes of every format that cameras send.

The visible picture is brighter on its left half, the thermal one above, so that they cannot be taken for one another
(`tests.rig.disk.is_of_band`); in both something moves, and the pixels are noisy.
"""

from __future__ import annotations

import re
from typing import Any

import cv2
import numpy as np

FRAMES = 12
NOISE = 6


def content(name: str) -> bytes:
    """The frames of a file named like ``visible160x120.yuyv``, one after the other."""
    match = re.fullmatch(r"(visible|thermal|flat)(\d+)x(\d+)\.(\w+)", name)
    assert match is not None, name
    kind, width, height, layout = match[1], int(match[2]), int(match[3]), match[4]
    if kind == "thermal":
        return b"".join(thermal_buffer(number, width, height, layout) for number in range(FRAMES))
    frames = 1 if kind == "flat" else FRAMES
    return b"".join(packed(*yuv(number, width, height, noisy=kind == "visible"), layout) for number in range(frames))


def yuv(number: int, width: int, height: int, *, noisy: bool = True) -> tuple[Any, Any, Any]:
    """A frame of the visible camera, video range: Y (H, W), and U, V (H, W) that are equal in blocks of two by two."""
    y = np.full((height, width), 90, np.int16)
    y[:, : width // 2] += 80
    x = number * width // FRAMES // 2
    y[height // 3 : height // 2, x : x + width // 6] = 40
    if noisy:
        y += np.random.default_rng(number).integers(-NOISE, NOISE + 1, y.shape, dtype=np.int16)
    u = np.linspace(100, 150, width // 2, dtype=np.uint8)[None, :].repeat(height // 2, axis=0)
    v = np.linspace(150, 110, height // 2, dtype=np.uint8)[:, None].repeat(width // 2, axis=1)
    doubled = [plane.repeat(2, axis=0).repeat(2, axis=1) for plane in (u, v)]
    return y.astype(np.uint8), *doubled


def bgr(y: Any, u: Any, v: Any, *, full_range: bool = False, bt709: bool = False) -> Any:
    """The exact color of a frame by the definition of BT.601 or BT.709: (H, W, 3) float64, 0 to 255."""
    luma, blue, red = (y.astype(float), u.astype(float) - 128, v.astype(float) - 128)
    if not full_range:
        luma, blue, red = (luma - 16) * 255 / 219, blue * 255 / 224, red * 255 / 224
    k_red, k_blue = (0.2126, 0.0722) if bt709 else (0.299, 0.114)
    r, b = luma + 2 * (1 - k_red) * red, luma + 2 * (1 - k_blue) * blue
    g = (luma - k_red * r - k_blue * b) / (1 - k_red - k_blue)
    return np.clip(np.dstack([b, g, r]), 0, 255)


def packed(y: Any, u: Any, v: Any, layout: str) -> bytes:
    """A frame in the bytes of a format: yuyv, uyvy, yvyu, vyuy, nv12, nv21, yu12, yv12, rgb3, bgr3, grey or mjpg."""
    if layout in ("yuyv", "uyvy", "yvyu", "vyuy"):
        planes = {"u": u[:, ::2], "v": v[:, ::2]}
        lumas = iter((y[:, ::2], y[:, 1::2]))
        return np.stack([planes[c] if c in planes else next(lumas) for c in layout], axis=2).tobytes()
    thin_u, thin_v = u[::2, ::2], v[::2, ::2]
    color = np.rint(bgr(y, u, v)).astype(np.uint8)
    if layout == "mjpg":  # each with its length before it, as the driver wants it
        data = cv2.imencode(".jpg", color, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
        return len(data).to_bytes(4, "little") + data
    planes_of = {
        "nv12": [y, np.dstack([thin_u, thin_v])],
        "nv21": [y, np.dstack([thin_v, thin_u])],
        "yu12": [y, thin_u, thin_v],
        "yv12": [y, thin_v, thin_u],
        "rgb3": [color[..., ::-1]],
        "bgr3": [color],
        "grey": [y],
    }
    return b"".join(plane.tobytes() for plane in planes_of[layout])


def counts(number: int, width: int, height: int, *, low: int = 29_500) -> Any:
    """A frame of the thermal camera, (H, W) counts."""
    picture = np.full((height, width), low, np.int32)
    picture[: height // 2] += 700
    x = number * width // FRAMES // 2
    picture[height // 4 : height // 2, x : x + width // 8] += 600
    picture += np.random.default_rng(1000 + number).integers(-NOISE, NOISE + 1, picture.shape, dtype=np.int32)
    return picture.astype("<u2")


def thermal_buffer(number: int, width: int, height: int, layout: str) -> bytes:
    """A frame of the thermal camera as cameras send it: y16, y16be, or yuyv (256x384: counts below a picture)."""
    if layout == "yuyv" and height == 384:
        return _toned(number, width, 192) + counts(number, width, 192, low=19_000).tobytes()
    if layout == "yuyv":
        return _toned(number, width, height)
    rows = {122: 120, 63: 60}.get(height, height)  # telemetry below is written by the driver
    whole = np.zeros((height, width), "<u2")
    whole[:rows] = counts(number, width, rows)
    return whole.astype(">u2" if layout == "y16be" else "<u2").tobytes()


def _toned(number: int, width: int, height: int) -> bytes:
    gray = ((counts(number, width, height).astype(np.int32) - 29_400) // 10).clip(16, 235).astype(np.uint8)
    return np.dstack([gray, np.full_like(gray, 128)]).tobytes()


BLOCKS = 18


def draw_code(image: Any, value: int) -> None:
    """Draw a number of 16 bits into the upper part of a picture, between a light and a dark block."""
    height, width = image.shape[:2]
    levels = [1, *(value >> (15 - bit) & 1 for bit in range(16)), 0]
    for block, level in enumerate(levels):
        image[: height // 2, block * width // BLOCKS : (block + 1) * width // BLOCKS] = 220 if level else 20


def read_code(strip: Any) -> int:
    """The number in the rows of a picture into which it was drawn."""
    line = (strip if strip.ndim == 2 else strip[..., 1]).astype(float).mean(axis=0)
    edges = [-(-block * len(line) // BLOCKS) for block in range(BLOCKS + 1)]
    levels = [line[first + 2 : last - 2].mean() for first, last in zip(edges, edges[1:])]  # noqa: B905, RUF007
    middle = (levels[0] + levels[-1]) / 2
    return sum(1 << (15 - bit) for bit in range(16) if levels[1 + bit] > middle)
