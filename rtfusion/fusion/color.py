"""Luminance, and putting a fused luminance back under the colors of the visible image.

Convention: full-range BT.601, as OpenCV: Y = 0.299 R + 0.587 G + 0.114 B.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from rtfusion.fusion.buffers import fresh
from rtfusion.types import Displacement, Image8

Take = Callable[[tuple[int, ...]], Image8]
"""Gives an array of a shape, with any pixels in it: `rtfusion.fusion.buffers.fresh`, or a pool's."""

PALETTES = ("inferno", "ironbow", "white-hot", "black-hot", "rainbow")
REVERSED = "-reversed"
"""At the end of the name of a palette: cold has the colors of hot."""

NEARER_BGR, FARTHER_BGR = (0, 140, 255), (255, 120, 0)
"""Orange and blue: of the nearest and of the farthest thing that parallax looks for."""

MEAN_SIGMA_PX = 3.0
"""Structure smaller than this is detail."""

SEEN_CELL_PX, SEEN_WINDOW, SEEN_SOFT = 8, 9, 7
"""Whether the visible camera sees is judged by cells, in windows of so many cells a side; the share fades over so many."""
SEEN_FLOOR_LEVELS = 3.0
"""Structure that no camera is free of: where neither band shows more, as in a sky, colors stay."""
SEEN_CHROMA, SEEN_VIVID_LEVELS = 4.0, 5.5
"""Colors that differ from their surround count so many times, and vivid ones, from about this deviation on, with the fourth
power: the red of a car is to be kept, the drifting tint of smoke is not."""
BLIND_SHARE, BLIND_REACH = 0.5, 9
"""The visible camera is blind where it sees less than this share, and color fades about there within so many cells."""
BLIND_AROUND, BLIND_GAIN = 25, 4.0
"""And it is gone where the visible camera is blind in a quarter of a window of so many cells a side: whoever stands in gray
before colors is overlooked, and what little the visible camera shows between clouds of smoke has their cast."""
SEEN_GAIN = 1.15
"""Colors are whole where the visible structure is about seven times what the thermal one has, as a variance."""

_IRONBOW_BGR = np.array(
    [
        (0, 0, 0),
        (110, 0, 32),
        (140, 0, 110),
        (120, 0, 175),
        (60, 40, 215),
        (0, 100, 240),
        (0, 160, 253),
        (40, 220, 255),
        (245, 250, 255),
    ],
    dtype=np.float64,
)


def luminance(visible: Image8, *, take: Take = fresh) -> Image8:
    """(H, W, 3) BGR or (H, W) gray to (H, W) luminance, in an array that ``take`` gives; gray is returned as it is."""
    if visible.ndim == 2:
        return visible
    return cast(Image8, cv2.cvtColor(visible, cv2.COLOR_BGR2GRAY, take(visible.shape[:2])))


def as_bgr(image: Image8) -> Image8:
    """(H, W) gray to (H, W, 3); a BGR image is returned as it is."""
    return image if image.ndim == 3 else cast(Image8, cv2.cvtColor(image, cv2.COLOR_GRAY2BGR))


def color_kept(*, visible: Image8, thermal: Image8, valid: Image8 | None = None) -> Image8:
    """The share of the color that is worth showing, 0 to 255, (h, w) in cells of `SEEN_CELL_PX`.

    In smoke, at night and in glare the visible camera still gives a color, but of nothing: a cast on what the thermal camera
    sees, and about it. Seen is `SEEN_GAIN` v / (v + t), at most 1, of the variances in windows: v of the visible luminance, of
    its colors and of the floor, t of the thermal picture. Below `BLIND_SHARE` of that it is blind, and color fades about there
    and with the part of the surroundings that is blind.
    No window is judged by the rest of the picture.

    Args:
        visible: (H, W, 3) BGR.
        thermal: (H, W).
        valid: (H, W), 255 where both cameras see; elsewhere color is kept.
    """
    height, width = thermal.shape
    size_px = max(1, round(width / SEEN_CELL_PX)), max(1, round(height / SEEN_CELL_PX))
    seen = _seen(visible=visible, thermal=thermal, size_px=size_px)
    blind = np.clip(1 - seen / BLIND_SHARE, 0, 1)
    about = cv2.dilate(blind, np.ones((BLIND_REACH, BLIND_REACH), np.uint8))
    around = np.minimum(BLIND_GAIN * cv2.blur(blind, (BLIND_AROUND, BLIND_AROUND)), 1)
    color = np.minimum(seen, 1 - np.maximum(cv2.blur(about, (BLIND_REACH, BLIND_REACH)), around))
    if valid is not None:
        whole = cv2.resize(valid, size_px, interpolation=cv2.INTER_AREA) == 255
        outside = cv2.erode(whole.astype(np.uint8), np.ones((3, 3), np.uint8)) == 0  # shares are interpolated
        color[outside] = 1
    return np.rint(255 * color).astype(np.uint8)


def _seen(*, visible: Image8, thermal: Image8, size_px: tuple[int, int]) -> npt.NDArray[np.float32]:
    # every fourth pixel of a row and of a column tells as much, in a fifth of the time
    twice = 2 * size_px[0], 2 * size_px[1]
    cells = cv2.resize(
        cv2.resize(visible, twice, interpolation=cv2.INTER_NEAREST), size_px, interpolation=cv2.INTER_AREA
    )
    heat = _averaged(thermal, size_px)
    bands = cv2.merge([cv2.cvtColor(cells, cv2.COLOR_BGR2YCrCb), heat])
    values, window = bands.astype(np.float32), (SEEN_WINDOW, SEEN_WINDOW)
    mean = cv2.blur(values, window)
    variance = cv2.blur(cv2.multiply(values, values, values), window, values)
    variance = np.maximum(cv2.subtract(variance, cv2.multiply(mean, mean, mean), variance), 0, out=mean)
    chroma = variance[..., 1] + variance[..., 2]
    vivid = SEEN_CHROMA + chroma / SEEN_VIVID_LEVELS**2
    seen = variance[..., 0] + vivid * chroma + SEEN_FLOOR_LEVELS**2
    share = np.minimum(SEEN_GAIN * seen / (seen + variance[..., 3]), 1)
    # no edge of a window shows in the picture
    return cast(npt.NDArray[np.float32], cv2.blur(share, (SEEN_SOFT, SEEN_SOFT)))


def _averaged(image: Image8, size_px: tuple[int, int]) -> Image8:
    """An image averaged down to (width, height): by halves as far as that goes, in half of the time."""
    height, width = image.shape[:2]
    while width % 2 == 0 and height % 2 == 0 and width >= 4 * size_px[0]:
        width, height = width // 2, height // 2
        image = cast(Image8, cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))
    return cast(Image8, cv2.resize(image, size_px, interpolation=cv2.INTER_AREA))


def compose(
    *, visible: Image8, visible_y: Image8, fused_y: Image8, kept: Image8 | None = None, take: Take = fresh
) -> Image8:
    """Fused luminance with the chroma of the visible image: (H, W, 3) BGR, in arrays that ``take`` gives.

    In Y'CbCr, changing Y with Cb and Cr kept adds the same step to R, G and B; so that step is added to the visible image
    directly, which skips two conversions and their rounding of the chroma. A gray visible image gives a gray result.
    ``kept`` is the share of the color to keep, as `color_kept` gives it; None keeps it everywhere, at a third of the cost.
    """
    plane, color = fused_y.shape, (*fused_y.shape, 3)
    if visible.ndim == 2:
        return cast(Image8, cv2.cvtColor(fused_y, cv2.COLOR_GRAY2BGR, take(color)))
    if kept is not None and (share := share_of_color(kept, shape=plane, take=take)) is not None:
        return _with_share(visible=visible, visible_y=visible_y, fused_y=fused_y, share=share, take=take)
    # Up and down are 8-bit steps that saturate, one of them 0 at every pixel: exact, and half the time of one 16-bit step.
    up = cv2.cvtColor(cv2.subtract(fused_y, visible_y, take(plane)), cv2.COLOR_GRAY2BGR, take(color))
    down = cv2.cvtColor(cv2.subtract(visible_y, fused_y, take(plane)), cv2.COLOR_GRAY2BGR, take(color))
    return cast(Image8, cv2.subtract(cv2.add(visible, up, up), down, up))


def share_of_color(kept: Image8, *, shape: tuple[int, int], take: Take) -> Image8 | None:
    """The share of the color to keep, (h, w) in cells, for every pixel of a ``shape``; None where all of it is kept."""
    if kept.min() == 255:
        return None
    return cast(Image8, cv2.resize(kept, shape[::-1], take(shape), interpolation=cv2.INTER_LINEAR))


def _with_share(*, visible: Image8, visible_y: Image8, fused_y: Image8, share: Image8, take: Take) -> Image8:
    """Give fused + share (visible - its luminance), as steps up and down."""
    color = visible.shape
    shares = cv2.cvtColor(share, cv2.COLOR_GRAY2BGR, take(color))
    gray = cv2.cvtColor(visible_y, cv2.COLOR_GRAY2BGR, take(color))
    up = cv2.subtract(visible, gray, take(color))
    down = cv2.subtract(gray, visible, gray)
    cv2.multiply(up, shares, up, 1 / 255)
    cv2.multiply(down, shares, down, 1 / 255)
    fused = cv2.cvtColor(fused_y, cv2.COLOR_GRAY2BGR, shares)
    return cast(Image8, cv2.subtract(cv2.add(fused, up, up), down, up))


def rebase_on_mean(*, fused_y: Image8, visible_y: Image8, thermal: Image8, take: Take = fresh) -> Image8:
    """Detail of the fused luminance over the base of the plain mean of both bands, all (H, W).

    fused + G (mean - fused), with G a Gaussian blur of `MEAN_SIGMA_PX`: what a detector finds most in (docs/visibility.md).
    """
    mean = cv2.addWeighted(visible_y, 0.5, thermal, 0.5, 0.0, take(fused_y.shape))
    step = cv2.GaussianBlur(cv2.subtract(mean, fused_y, dtype=cv2.CV_16S), (0, 0), MEAN_SIGMA_PX)
    return cast(Image8, cv2.add(fused_y, step, mean, dtype=cv2.CV_8U))


def is_palette(name: str) -> bool:
    """True for the name of a palette, as it is or reversed."""
    return name.removesuffix(REVERSED) in PALETTES


def palette_bgr(name: str) -> Image8:
    """The (256, 1, 3) BGR table of a palette, cold first."""
    if name.endswith(REVERSED):
        return cast(Image8, np.ascontiguousarray(palette_bgr(name.removesuffix(REVERSED))[::-1]))
    ramp = np.arange(256, dtype=np.uint8)[:, None]
    if name == "white-hot":
        return as_bgr(ramp)
    if name == "black-hot":
        return as_bgr(255 - ramp)
    if name == "ironbow":
        stops = np.linspace(0.0, 255.0, len(_IRONBOW_BGR))
        channels = [np.interp(np.arange(256), stops, _IRONBOW_BGR[:, channel]) for channel in range(3)]
        return np.round(np.stack(channels, axis=1)[:, None]).astype(np.uint8)
    code = {"inferno": cv2.COLORMAP_INFERNO, "rainbow": cv2.COLORMAP_RAINBOW}[name]
    table = cv2.applyColorMap(ramp, code)
    # OpenCV's rainbow runs from red to violet: turned round, so that hot is red
    return cast(Image8, np.ascontiguousarray(table[::-1]) if name == "rainbow" else table)


def displacement_bgr(displacement: Displacement) -> Image8:
    """(rows, columns, 3) BGR, by cells: gray as registered, to `NEARER_BGR` what is nearer, to `FARTHER_BGR` what is farther.

    The colors are those of the rig's own ends, so that they do not change from frame to frame.
    """
    cells_px = displacement.cells_px
    nearer, farther = (
        np.clip(cells_px / end_px, 0, 1)[..., None] if abs(end_px) > 0 else np.zeros((*cells_px.shape, 1), np.float32)
        for end_px in (displacement.nearest_px, displacement.farthest_px)
    )
    colors = 128 + nearer * (np.array(NEARER_BGR) - 128) + farther * (np.array(FARTHER_BGR) - 128)
    return np.rint(colors).astype(np.uint8)


def laid_over(visible: Image8, cells_bgr: Image8) -> Image8:
    """(H, W, 3) BGR: the gray of a picture, (H, W) or (H, W, 3), under colors of its cells, (rows, columns, 3)."""
    gray = as_bgr(luminance(visible))
    colors = cv2.resize(cells_bgr, visible.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return cast(Image8, cv2.addWeighted(gray, 0.5, colors, 0.5, 0))


def colorize(gray: Image8, table_bgr: Image8) -> Image8:
    """(H, W) uint8 to (H, W, 3) BGR by a palette table."""
    return cast(Image8, cv2.applyColorMap(gray, table_bgr))
