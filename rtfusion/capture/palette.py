"""Pseudo-color thermal pictures: the palette that colored them is recognized, and undone to one gray level per color.

The luminance of many palettes does not rise with temperature: in a rainbow the hottest is darker than the warm around it. A color
is undone to the place in its palette of the color nearest to it, so that noise and compression do little.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from rtfusion.types import Band, Frame, Image8

Colors = npt.NDArray[np.uint8]

AUTO, NONE = "auto", "none"
REVERSED = "-reversed"
COLORED = 24
"""A pixel is colored where its largest and its smallest channel differ by more."""
COLORED_SHARE = 0.1
"""A picture is colored where this share of its pixels is."""
NEAR = 40.0
"""Distance in BGR at which a color is one of the palette, up to compression and to how the camera's differs from ours."""
NEAR_SHARE = 0.9
"""A palette is recognized when this share of the colors are near; the rest may be drawn over the picture."""
STILL_NEAR_SHARE = 0.6
"""And it fits no longer when fewer are."""
FIRST_PICTURES, CHECK_EVERY = 60, 30
SAMPLES = 1000
_CELL_BITS = 6

# (place, red, green, blue) of palettes that cameras draw and no library has
_STOPS: Mapping[str, tuple[tuple[float, int, int, int], ...]] = {
    "ironbow": (
        (0.00, 0, 0, 10),
        (0.10, 20, 0, 90),
        (0.20, 70, 0, 145),
        (0.30, 120, 0, 157),
        (0.40, 165, 10, 147),
        (0.50, 200, 38, 105),
        (0.60, 226, 75, 40),
        (0.70, 242, 112, 8),
        (0.80, 251, 155, 4),
        (0.90, 255, 206, 40),
        (1.00, 255, 252, 230),
    ),
    "rainbow": (
        (0.00, 0, 0, 255),
        (0.25, 0, 255, 255),
        (0.50, 0, 255, 0),
        (0.75, 255, 255, 0),
        (1.00, 255, 0, 0),
    ),
    "arctic": (
        (0.00, 0, 0, 40),
        (0.25, 0, 30, 200),
        (0.45, 0, 180, 220),
        (0.60, 150, 150, 150),
        (0.80, 240, 150, 20),
        (1.00, 255, 235, 120),
    ),
}
_OF_OPENCV = {
    "jet": cv2.COLORMAP_JET,
    "turbo": cv2.COLORMAP_TURBO,
    "hot": cv2.COLORMAP_HOT,
    "inferno": cv2.COLORMAP_INFERNO,
    "magma": cv2.COLORMAP_MAGMA,
    "plasma": cv2.COLORMAP_PLASMA,
    "viridis": cv2.COLORMAP_VIRIDIS,
    "cividis": cv2.COLORMAP_CIVIDIS,
    "parula": cv2.COLORMAP_PARULA,
}
NAMES = (*_STOPS, *_OF_OPENCV)


def palette_name(text: str) -> str:
    """Read the name of a palette; ValueError: it is none."""
    if text in (AUTO, NONE) or text.removesuffix(REVERSED) in NAMES:
        return text
    raise ValueError(f"expected {AUTO}, {NONE}, or {', '.join(NAMES)}, each also with {REVERSED} at its end")


@cache
def colors_of(name: str) -> Colors:
    """The 256 colors of a palette, (256, 3) BGR, cold first."""
    plain = name.removesuffix(REVERSED)
    if plain in _STOPS:
        places, *channels = zip(*_STOPS[plain], strict=True)
        red, green, blue = (np.interp(np.linspace(0, 1, 256), places, channel) for channel in channels)
        colors: Any = np.rint(np.stack([blue, green, red], axis=1)).astype(np.uint8)
    else:
        colors = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], _OF_OPENCV[plain])[:, 0]
    return np.ascontiguousarray(colors[::-1] if name.endswith(REVERSED) else colors)


def is_colored(sample: npt.NDArray[Any]) -> bool:
    """True for a picture, or a sample of its pixels, (..., 3), that is more than gray."""
    spread = sample.max(axis=-1).astype(np.int16) - sample.min(axis=-1)
    return bool(np.count_nonzero(spread > COLORED) > COLORED_SHARE * spread.size)


def recognize(image: Image8) -> str | None:
    """The palette that colored a BGR picture; None where none fits."""
    pixels = _sample(image)
    found = {name: _distances(pixels, colors_of(name)) for name in NAMES}
    fitting = {name: far for name, far in found.items() if np.mean(far < NEAR) >= NEAR_SHARE}
    return min(fitting, key=lambda name: float(np.mean(np.minimum(fitting[name], NEAR))), default=None)


def _sample(image: Image8) -> npt.NDArray[Any]:
    pixels = image.reshape(-1, 3)
    return pixels[:: max(1, len(pixels) // SAMPLES)]


def _distances(pixels: npt.NDArray[Any], colors: Colors) -> npt.NDArray[np.float32]:
    """Distance of each pixel to the color of the palette that is nearest to it."""
    return np.sqrt(_squares(pixels, colors).min(axis=1))


def _squares(pixels: npt.NDArray[Any], colors: Colors) -> npt.NDArray[np.float32]:
    """Squared distance of each pixel to each color: channel by channel, since a product of such thin matrices wakes threads."""
    squares = np.zeros((len(pixels), len(colors)), np.float32)
    for points, places in zip(pixels.T.astype(np.float32), colors.T.astype(np.float32), strict=True):
        step = np.subtract.outer(points, places)
        squares += np.square(step, out=step)
    return squares


@cache
def _levels_of_cells(name: str) -> Image8:
    """The place in the palette for each small cube of colors, by its blue, green and red in 6 bits each."""
    colors = colors_of(name)
    center = np.arange(1 << _CELL_BITS) * (256 >> _CELL_BITS) + (128 >> _CELL_BITS)
    green_red = np.stack(np.meshgrid(center, center, indexing="ij"), axis=-1).reshape(-1, 2)
    rows = []
    for blue in center:
        cell = np.column_stack([np.full(len(green_red), blue), green_red])
        rows.append(_squares(cell, colors).argmin(axis=1).astype(np.uint8))
    return np.concatenate(rows)


def undo(image: Image8, name: str) -> Image8:
    """Gray levels of a BGR picture that a palette colored: 0 its coldest color, 255 its hottest."""
    shift = 8 - _CELL_BITS
    cells = image.astype(np.uint32) >> shift
    index = (cells[..., 0] << 2 * _CELL_BITS) | (cells[..., 1] << _CELL_BITS) | cells[..., 2]
    levels: Image8 = _levels_of_cells(name)[index]
    return levels


class ThermalColors:
    """The colors of one thermal source, as gray levels. The first colored picture decides, until its palette fits no longer."""

    def __init__(self, asked: str = AUTO, *, mark: str = "?", check_every: int = CHECK_EVERY) -> None:
        """``asked``: the name of a palette, ``auto`` to recognize it, or ``none`` for the luminance. ``mark`` begins parameters.

        After each ``check_every`` pictures it is seen whether the palette still fits: users change it while they record.
        """
        self._asked, self._mark = asked, mark
        self._check_every = check_every
        self._pictures = 0
        self._used: list[str] = []
        self.palette: str | None = None if asked in (AUTO, NONE) else asked
        self.is_unknown = False
        """True for colors that no known palette made: those of a scene, it may be."""

    @property
    def decided(self) -> bool:
        """True while it is known what to do with color."""
        return self._asked != AUTO or self.palette is not None or self.is_unknown

    @property
    def are_of_use(self) -> bool:
        """False while it is known that the luminance is taken."""
        return not self.decided or self.palette is not None

    def is_to_look(self) -> bool:
        """Count a picture; True for one of which it is worth a look whether it is colored, while all before were gray."""
        self._pictures += 1
        return self._pictures < FIRST_PICTURES or self._pictures % self._check_every == 0

    def look(self, image: Image8) -> None:
        """Decide by a BGR picture, or a part of its pixels, unless it is gray."""
        if not is_colored(image):
            self.palette, self.is_unknown = None, False
            return
        self.palette = recognize(image)
        self.is_unknown = self.palette is None
        if self.palette is not None and self.palette not in self._used:
            self._used.append(self.palette)

    def gray(self, image: Image8) -> Image8 | None:
        """Gray levels of a BGR picture; None where its luminance is to be used."""
        self._pictures += 1
        if self._asked == AUTO and (
            not self.decided or (not self._pictures % self._check_every and not self._fits(image))
        ):
            self.look(image)
        return None if self.palette is None else undo(image, self.palette)

    def _fits(self, image: Image8) -> bool:
        """True while the palette that was recognized is still that of the picture."""
        if self.palette is None:
            return False
        return bool(np.mean(_distances(_sample(image), colors_of(self.palette)) < NEAR) >= STILL_NEAR_SHARE)

    @property
    def note(self) -> str | None:
        """What was assumed; None where nothing was."""
        if self._used:
            later = "".join(f", then {name}" for name in self._used[1:])
            return (
                f"its colors are those of the palette {self._used[0]}{later}, undone to gray levels; {self._mark}palette=none "
                f"takes their luminance, {self._mark}palette={self._used[0]}{REVERSED} the other end as hot"
            )
        if self.is_unknown:
            return (
                "it is colored by no palette that is known: its luminance is used, which may not rise with temperature; "
                f"{self._mark}palette= names one"
            )
        return None


def looks_like(frame: Frame, colors: ThermalColors) -> Band | None:
    """The band that the first picture of a source seems to be of; None where that cannot be told.

    A thermal picture in colors of no palette looks visible; a visible one that is gray, or in a palette, looks thermal.
    """
    if frame.band is Band.THERMAL:
        return Band.VISIBLE if colors.is_unknown else None
    if frame.image.ndim == 2 or not is_colored(frame.image[::4, ::4]):
        return Band.THERMAL
    image: Any = frame.image
    return None if recognize(image) is None else Band.THERMAL
