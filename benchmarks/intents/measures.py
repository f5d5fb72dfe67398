"""What each axis is measured by: one number of a picture, higher where more of what is asked for can be seen.

Where something is, is said by the two bands and the labels, never by the picture that is measured: a measure looks at the same
pixels whatever the wish.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from rtfusion.evaluate.matching import brighter_by
from rtfusion.fusion.color import luminance
from rtfusion.types import Image8

Plane = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Boxes = Sequence[tuple[int, int, int, int]]
"""Left, top, width and height in pixels."""

LEAST_SHARE = 0.005
"""A measure of a place that is a smaller part of the picture says nothing."""
DARK_SHARE, DARK_LEVEL = 1 / 3, 80
GLARING_LEVEL = 235
HAZY_LEVEL, HAZY_DEVIATION = 80, 18.0
"""Hazy is where the darkest visible channel is brighter than this, and the visible luminance deviates by less."""
WINDOW_PX = 41
WARM_LEVELS = 20.0
"""So much warmer than its surroundings is foreground, where nothing is labeled."""
SIGNAL_SHARE = 0.2
"""Share of the pixels with the strongest gradient in either band."""
FITTED = 7
"""Every seventh pixel tells how both bands are mixed."""
COLOR_LEVELS = 2.0
"""A visible picture with less chroma than this, on the mean, has no color."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """What a picture is measured against."""

    visible: Image8
    """(H, W, 3) BGR or (H, W)."""
    thermal: Image8
    """(H, W)."""
    people: Boxes = ()
    vehicles: Boxes = ()

    @cached_property
    def visible_y(self) -> Image8:
        """(H, W): the visible luminance."""
        return luminance(self.visible)

    @cached_property
    def hazy(self) -> Mask:
        """Where the visible band is hazy."""
        darkest = self.visible if self.visible.ndim == 2 else self.visible.min(axis=2)
        return (_blur(darkest) > HAZY_LEVEL) & (_deviation(self.visible_y) < HAZY_DEVIATION)

    @cached_property
    def signal(self) -> Mask:
        """Where either band has edges."""
        strength = np.maximum(_gradient(self.visible_y), _gradient(self.thermal))
        return np.asarray(strength >= np.quantile(strength, 1 - SIGNAL_SHARE))

    @cached_property
    def foreground(self) -> Mask:
        """People and vehicles, where they are labeled; else what is warmer than its surroundings."""
        boxes = [*self.people, *self.vehicles]
        if not boxes:
            warm = self.thermal.astype(np.float32)
            return np.asarray(warm - cv2.GaussianBlur(warm, (0, 0), 64.0) > WARM_LEVELS)
        mask = np.zeros(self.thermal.shape, bool)
        for left, top, width, height in boxes:
            mask[max(top, 0) : top + height, max(left, 0) : left + width] = True
        return mask


Measure = Callable[[Image8, Scene], float | None]
"""A number of a (H, W, 3) picture; None where the scene has nothing to measure by."""


def thermal(picture: Image8, scene: Scene) -> float | None:
    """Correlation with the thermal band less that with the visible one."""
    bands = {"visible": scene.visible_y, "thermal": scene.thermal}
    gray = luminance(picture)
    if min(band.std() for band in (*bands.values(), gray)) < 1:
        return None
    with_thermal, with_visible = (_correlation(gray, band) for band in (bands["thermal"], bands["visible"]))
    return with_thermal - with_visible


def people(picture: Image8, scene: Scene) -> float | None:
    """Contrast of labeled people to what is around them beyond what the mix of both bands gives them, gray levels."""
    return _outstanding(picture, scene.people, scene)


def vehicles(picture: Image8, scene: Scene) -> float | None:
    """The same of labeled vehicles."""
    return _outstanding(picture, scene.vehicles, scene)


def brighten(picture: Image8, scene: Scene) -> float | None:
    """Median level of the darkest third of the visible picture, where that is dark."""
    level = scene.visible_y
    dark = level <= np.quantile(level, DARK_SHARE)
    return float(np.median(luminance(picture)[dark])) if np.median(level[dark]) < DARK_LEVEL else None


def tame_glare(picture: Image8, scene: Scene) -> float | None:
    """Levels below white where the visible band is near white."""
    return _mean(255 - luminance(picture).astype(np.float32), scene.visible_y >= GLARING_LEVEL)


def clear_haze(picture: Image8, scene: Scene) -> float | None:
    """Local contrast where the visible band is hazy: deviation over mean in windows."""
    gray = luminance(picture)
    return _mean(_deviation(gray) / (_blur(gray) + 10), scene.hazy)


def detail(picture: Image8, scene: Scene) -> float | None:
    """Energy of the finest band against that of the next coarser one, where either band has edges, as a logarithm."""
    gray = luminance(picture).astype(np.float32)
    near = cv2.GaussianBlur(gray, (0, 0), 1.0)
    far = cv2.GaussianBlur(near, (0, 0), 3.0)
    finest, coarser = (float((part[scene.signal] ** 2).mean()) for part in (gray - near, near - far))
    return float(np.log((finest + 1) / (coarser + 1)))


def color(picture: Image8, scene: Scene) -> float | None:
    """Mean chroma."""
    if scene.visible.ndim == 2 or _chroma(scene.visible) < COLOR_LEVELS:
        return None
    return _chroma(picture)


def background(picture: Image8, scene: Scene) -> float | None:
    """Level and local contrast of what is neither foreground nor hazy: the geometric mean of both, as a negative logarithm."""
    outside = ~(scene.foreground | scene.hazy)
    if outside.mean() < LEAST_SHARE:
        return None
    gray = luminance(picture)
    level, deviation = float(gray[outside].mean()), float(_deviation(gray)[outside].mean())
    return -float(np.log((level + 1) * (deviation + 1))) / 2


MEASURES: Mapping[str, Measure] = {
    "thermal": thermal,
    "people": people,
    "vehicles": vehicles,
    "brighten": brighten,
    "tame_glare": tame_glare,
    "clear_haze": clear_haze,
    "detail": detail,
    "color": color,
    "background": background,
}
"""By axis; `denoise` is measured by what is left of noise that is added (`benchmarks.intents.axes`)."""


def contrast_of(picture: Image8, boxes: Boxes, scene: Scene) -> float | None:
    """The mean contrast of boxes to what is around them, gray levels; None without any."""
    known = [abs(value) for value in _contrasts(luminance(picture), boxes, scene) if value is not None]
    return float(np.mean(known)) if known else None


def _outstanding(picture: Image8, boxes: Boxes, scene: Scene) -> float | None:
    """The contrast of boxes less the one that they have in the mix of both bands that fits the rest of the picture best.

    It is the root of the mean square of the pixels of a box less the mean of the ring around it: what is brighter and what is
    darker than the ring both stand out.
    """
    outside = ~scene.foreground
    gray, bands = luminance(picture), (scene.thermal, scene.visible_y)
    terms = np.stack([*(band[outside][::FITTED] for band in bands), np.ones(len(gray[outside][::FITTED]))], axis=1)
    shares = np.linalg.lstsq(terms.astype(np.float64), gray[outside][::FITTED].astype(np.float64), rcond=None)[0]
    mixed = np.asarray(shares[0] * scene.thermal + shares[1] * scene.visible_y, np.float32)
    found = [(_rms(gray, box, scene), _rms(mixed, box, scene)) for box in boxes]
    known = [shown - of_mix for shown, of_mix in found if shown is not None and of_mix is not None]
    return float(np.mean(known)) if known else None


def _rms(image: Image8 | Plane, box: tuple[int, int, int, int], scene: Scene) -> float | None:
    left, top, width, height = box
    part = image[max(top, 0) : top + height, max(left, 0) : left + width].astype(np.float32)
    (brighter,) = _contrasts(image, [box], scene)
    return None if brighter is None else float(np.hypot(part.std(), brighter))


def _contrasts(gray: Image8 | Plane, boxes: Boxes, scene: Scene) -> list[float | None]:
    """By how many levels each box is brighter than the ring around it; None where other boxes cover that."""
    others = [(left, top, left + width, top + height) for left, top, width, height in (*scene.people, *scene.vehicles)]
    plane = cast(Image8, gray)  # of any numbers
    return [brighter_by(plane, box=(x, y, x + w, y + h), others=others) for x, y, w, h in boxes]


def _correlation(one: Image8, other: Image8) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def _mean(values: Plane, where: Mask) -> float | None:
    return float(values[where].mean()) if where.mean() >= LEAST_SHARE else None


def _blur(image: Image8 | Plane) -> Plane:
    return np.asarray(cv2.blur(image.astype(np.float32), (WINDOW_PX, WINDOW_PX)))


def _deviation(image: Image8) -> Plane:
    plane = image.astype(np.float32)
    return np.sqrt(np.maximum(_blur(plane * plane) - _blur(plane) ** 2, 0))


def _gradient(image: Image8) -> Plane:
    soft = cv2.GaussianBlur(image.astype(np.float32), (0, 0), 1.5)
    return np.hypot(cv2.Sobel(soft, cv2.CV_32F, 1, 0), cv2.Sobel(soft, cv2.CV_32F, 0, 1))


def _chroma(image: Image8) -> float:
    parts = cv2.cvtColor(image, cv2.COLOR_BGR2YCrCb)[..., 1:].astype(np.float32) - 128
    return float(np.hypot(parts[..., 0], parts[..., 1]).mean())
