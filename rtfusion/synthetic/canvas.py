"""The tools that paint the synthetic scene: paints that every camera sees in its own way, and a canvas in scene units."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Box = tuple[float, float, float, float]
Color = tuple[float, float, float]
Points = Sequence[tuple[float, float]] | Array

_SUBPIXEL_BITS = 4
_TURN = np.linspace(0.0, 2.0 * np.pi, 36, endpoint=False)
_CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1)
_ARC = np.linspace(-np.pi / 2, np.pi / 2, 9)
_HALF_CIRCLE = np.stack([np.cos(_ARC), np.sin(_ARC)], axis=1)


class Look(enum.Enum):
    """The paint as one band sees it."""

    VISIBLE = 3
    """Reflected color, (B, G, R) from 0 to 255."""
    GLOW = 4
    """Light given off, (B, G, R): lamps, lit windows."""
    THERMAL = 1
    """Apparent temperature in degrees Celsius."""


@dataclass(frozen=True, slots=True)
class Paint:
    """One material. What is None leaves that look untouched: printed text has no temperature, a hidden duct no color."""

    bgr: Color | None = None
    celsius: float | None = None
    glow: Color | None = None
    opacity: float = 1.0
    soft: float = 0.0
    """Units over which edges are blurred."""

    def seen(self, look: Look) -> tuple[float, ...] | None:
        """The numbers it leaves on a canvas of that look; what is visible but gives no light hides the light behind it."""
        if look is Look.THERMAL:
            return None if self.celsius is None else (self.celsius,)
        if look is Look.VISIBLE:
            return self.bgr
        return self.glow if self.glow is not None else (None if self.bgr is None else (0.0, 0.0, 0.0))

    def shaded(self, gain: float) -> Paint:
        """Return this material in more or less light."""
        if self.bgr is None:
            return self
        blue, green, red = (min(255.0, gain * value) for value in self.bgr)
        return replace(self, bgr=(blue, green, red))


class Canvas:
    """Premultiplied float pixels with coverage, addressed in units of the caller (y downward), any part of the plane.

    ``pixels`` is (H, W, planes + 1) float32; the last plane is the coverage in [0, 1].
    """

    def __init__(self, look: Look, *, box: Box, px_per_unit: float) -> None:
        self.look = look
        self.box = box
        self.px_per_unit = px_per_unit
        self.mirrored = False
        self.scale = 1.0
        """Shapes are scaled by it about the origin; softness is not."""
        left, top, right, bottom = box
        self.width_px = max(1, int(np.ceil((right - left) * px_per_unit - 1e-6)))
        self.height_px = max(1, int(np.ceil((bottom - top) * px_per_unit - 1e-6)))
        self.pixels = np.zeros((self.height_px, self.width_px, 2 if look is Look.THERMAL else 4), np.float32)

    def polygon(self, points: Points, paint: Paint) -> None:
        """Fill one polygon."""
        self.polygons([points], paint)

    def polygons(self, shapes: Iterable[Points], paint: Paint) -> None:
        """Fill several polygons as one shape: where they overlap they cover once."""
        if paint.seen(self.look) is None:
            return
        outlines = [np.asarray(points, np.float64) for points in shapes]
        sigma_px = paint.soft * self.px_per_unit
        margin = 2.0 + 3.0 * sigma_px
        corners = self._px_from_unit(np.concatenate(outlines))
        x0, y0 = (int(low) for low in np.maximum(np.floor(corners.min(axis=0) - margin), 0))
        x1, y1 = (int(high) + 1 for high in np.ceil(corners.max(axis=0) + margin))
        x1, y1 = min(x1, self.width_px), min(y1, self.height_px)
        if x1 <= x0 or y1 <= y0:
            return
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        fixed = np.round((corners - (x0, y0)) * (1 << _SUBPIXEL_BITS)).astype(np.int32)
        first = 0
        for outline in outlines:
            cv2.fillPoly(mask, [fixed[first : first + len(outline)]], (255,), cv2.LINE_AA, _SUBPIXEL_BITS)
            first += len(outline)
        if sigma_px > 0.3:
            mask = cv2.GaussianBlur(mask, (0, 0), sigma_px).astype(np.uint8)
        self._cover(mask, x0, y0, paint)

    def mosaic(self, shapes: Array, kinds: Array, paints: Sequence[Paint]) -> None:
        """Fill many small polygons, later over earlier ones, each with the paint of its kind; edges are not smoothed.

        Args:
            shapes: (N, corners, 2) positions.
            kinds: (N,) indices into ``paints``, at most 255 of them.
            paints: every one seen by this look, or none.
        """
        seen = [color for paint in paints if (color := paint.seen(self.look)) is not None]
        if not seen:
            return
        index = np.zeros((self.height_px, self.width_px), np.uint8)
        fixed = np.round(self._px_from_unit(shapes.reshape(-1, 2))).astype(np.int32).reshape(shapes.shape)
        for outline, kind in zip(fixed, kinds, strict=True):
            cv2.fillPoly(index, [outline], (int(kind) + 1,))
        covered = index > 0
        colors = np.column_stack([np.asarray(seen, np.float32), np.ones(len(seen), np.float32)])
        self.pixels[covered] = colors[index[covered].astype(int) - 1]

    def rectangle(self, left: float, top: float, right: float, bottom: float, paint: Paint) -> None:
        """Fill an upright rectangle."""
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], paint)

    def ellipse(self, x: float, y: float, radius_x: float, radius_y: float, paint: Paint) -> None:
        """Fill an upright ellipse."""
        self.polygon(_CIRCLE * (radius_x, radius_y) + (x, y), paint)

    def limb(
        self, start: tuple[float, float], end: tuple[float, float], radii: tuple[float, float], paint: Paint
    ) -> None:
        """Fill a bar with round ends of two radii."""
        angle = math.atan2(end[1] - start[1], end[0] - start[0])
        turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        cap = _HALF_CIRCLE @ turn
        self.polygon(np.concatenate([cap * radii[1] + end, cap * -radii[0] + start]), paint)

    def lines(self, segments: Iterable[tuple[tuple[float, float], tuple[float, float], float]], paint: Paint) -> None:
        """Draw straight lines, each given by its ends and its width."""
        shapes = []
        for (xa, ya), (xb, yb), width in segments:
            length = max(float(np.hypot(xb - xa, yb - ya)), 1e-9)
            dx, dy = -(yb - ya) * width / (2 * length), (xb - xa) * width / (2 * length)
            shapes.append([(xa + dx, ya + dy), (xb + dx, yb + dy), (xb - dx, yb - dy), (xa - dx, ya - dy)])
        self.polygons(shapes, paint)

    def text(self, words: str, x: float, y: float, height: float, paint: Paint) -> None:
        """Write words, centered on x, their capitals ``height`` tall and standing on y."""
        if paint.seen(self.look) is None:
            return
        font, weight = cv2.FONT_HERSHEY_DUPLEX, 3
        (width_px, tall_px), _ = cv2.getTextSize(words, font, 2.0, weight)
        plate = np.zeros((2 * tall_px, width_px + 20), np.uint8)
        cv2.putText(plate, words, (10, round(1.5 * tall_px)), font, 2.0, (255,), weight, cv2.LINE_AA)
        shrink = height * self.px_per_unit / tall_px
        plate = cv2.resize(plate, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA).astype(np.uint8)
        [[center, base]] = self._px_from_unit([(x, y)])
        x0, y0 = round(center - plate.shape[1] / 2), round(base - 1.5 * height * self.px_per_unit)
        self._cover(plate, x0, y0, paint)

    def halo(
        self, x: float, y: float, radii: tuple[float, float], *, light: Color | None = None, kelvin: float | None = None
    ) -> None:
        """Add a soft ball of light, which shows in glow, or of heat, which shows in thermal; it covers nothing."""
        added = kelvin if self.look is Look.THERMAL else light
        if added is None or self.look is Look.VISIBLE:
            return
        center = -x if self.mirrored else x
        reach_x, reach_y = 3.0 * radii[0], 3.0 * radii[1]
        rows, cols, xs, ys = self.window((center - reach_x, y - reach_y, center + reach_x, y + reach_y))
        ball = np.exp(-0.5 * ((xs - center) / radii[0]) ** 2 - 0.5 * ((ys - y) / radii[1]) ** 2)
        self.pixels[rows, cols, :-1] += ball[..., None] * np.asarray(added, np.float32)

    def mottle(self, box: Box, texture: Array, *, bgr_gain: float = 0.0, kelvin: float = 0.0) -> None:
        """Vary what is painted in a box by a texture of zero mean: color by a factor, temperature by a sum."""
        rows, cols, _, _ = self.window(box)
        window = self.pixels[rows, cols]
        if self.look is Look.THERMAL:
            window[..., 0] += kelvin * texture * window[..., 1]
        else:
            window[..., :-1] *= np.maximum(1.0 + bgr_gain * texture, 0.0)[..., None]

    def veil(self, box: Box, share: Array, paint: Paint) -> None:
        """Lay paint over a box with a coverage in [0, 1] of its own for every pixel of the box's `window`."""
        seen = paint.seen(self.look)
        if seen is None or not share.size:
            return
        rows, cols, _, _ = self.window(box)
        window = self.pixels[rows, cols]
        window += share[..., None].astype(np.float32) * (np.asarray((*seen, 1.0), np.float32) - window)

    def window(self, box: Box) -> tuple[slice, slice, Array, Array]:
        """Rows and columns of a box, clipped, and the coordinates of their pixel centers as (1, W) and (H, 1)."""
        left, top, _, _ = self.box
        sides = [(box[0] - left), (box[1] - top), (box[2] - left), (box[3] - top)]
        x0, y0, x1, y1 = (round(side * self.px_per_unit) for side in sides)
        rows = slice(min(max(y0, 0), self.height_px), min(max(y1, 0), self.height_px))
        cols = slice(min(max(x0, 0), self.width_px), min(max(x1, 0), self.width_px))
        xs = (np.arange(cols.start, cols.stop, dtype=np.float32) + 0.5) / self.px_per_unit + left
        ys = (np.arange(rows.start, rows.stop, dtype=np.float32) + 0.5) / self.px_per_unit + top
        return rows, cols, xs[None, :], ys[:, None]

    def round_off(self, *, radius: float, bgr_loss: float, kelvin_loss: float) -> None:
        """Darken and cool everything toward the outline, as round bodies look."""
        coverage = self.pixels[..., -1]
        window = 2 * max(round(radius * self.px_per_unit), 1) + 1
        inside = cv2.blur(cv2.blur(coverage, (window, window)), (window, window))
        rim = np.clip(2.0 * (1.0 - inside), 0.0, 1.0)
        if self.look is Look.THERMAL:
            self.pixels[..., 0] -= kelvin_loss * rim * coverage
        else:
            for plane in range(3):
                self.pixels[..., plane] *= 1.0 - bgr_loss * rim

    def _px_from_unit(self, points: Points) -> Array:
        px = np.asarray(points, np.float64) * (-self.scale if self.mirrored else self.scale, self.scale)
        px -= self.box[:2]
        px *= self.px_per_unit
        px -= 0.5
        return px

    def _cover(self, mask: Array, x0: int, y0: int, paint: Paint) -> None:
        """Lay paint over a part of the canvas through an 8-bit mask."""
        left, top = max(x0, 0), max(y0, 0)
        right, bottom = min(x0 + mask.shape[1], self.width_px), min(y0 + mask.shape[0], self.height_px)
        seen = paint.seen(self.look)
        if seen is None or right <= left or bottom <= top:
            return
        planes = len(seen) + 1
        # Rows of numbers instead of pixels: numpy is many times slower where its innermost axis is as short as a pixel.
        share = np.repeat(mask[top - y0 : bottom - y0, left - x0 : right - x0], planes, axis=1).astype(np.float32)
        share *= np.float32(paint.opacity / 255.0)
        window = self.pixels.reshape(self.height_px, -1)[top:bottom, left * planes : right * planes]
        share *= np.tile(np.asarray((*seen, 1.0), np.float32), right - left) - window
        window += share


def clouds(rng: np.random.Generator, *, width: int, height: int, slope: float) -> Array:
    """A texture (height, width) float32 of zero mean and unit deviation that repeats at its borders.

    Its amplitude falls with the frequency to the power ``slope``: 1 looks like asphalt, 2 like smoke.
    """
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    frequency[0, 0] = np.inf
    phase = rng.uniform(0.0, 2.0 * np.pi, frequency.shape)
    texture = np.fft.irfft2(frequency**-slope * np.exp(1j * phase), s=(height, width))
    return ((texture - texture.mean()) / texture.std()).astype(np.float32)


def sample(texture: Array, x: Array, y: Array) -> Array:
    """Look a repeating texture up at broadcastable pixel positions."""
    height, width = texture.shape
    places = np.broadcast_arrays(np.mod(x, width), np.mod(y, height))
    map_x, map_y = (np.ascontiguousarray(place, np.float32) for place in places)
    if not map_x.size:
        return np.zeros(map_x.shape, np.float32)
    return np.asarray(cv2.remap(texture, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP))


def outline(numbers: str) -> Array:
    """A polygon, (N, 2), from its coordinates ``x y  x y  ...``."""
    return np.array(numbers.split(), np.float64).reshape(-1, 2)


def smooth(points: Points, *, rounds: int = 2) -> Array:
    """Round the corners of a closed corners by cutting them."""
    corners = np.asarray(points, np.float64)
    for _ in range(rounds):
        following = np.roll(corners, -1, axis=0)
        cuts = [0.75 * corners + 0.25 * following, 0.25 * corners + 0.75 * following]
        corners = np.stack(cuts, axis=1).reshape(-1, 2)
    return corners
