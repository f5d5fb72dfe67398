"""What moves: people and vehicles with the shadows they throw."""

from __future__ import annotations

import cv2
import numpy as np

from rtfusion.synthetic.canvas import Canvas, Look
from rtfusion.synthetic.climate import Climate
from rtfusion.synthetic.people import Person
from rtfusion.synthetic.vehicles import Vehicle

Figure = Person | Vehicle

_SHADOW_RIGHT, _SHADOW_AWAY = 0.55, 0.16


def figure_box(figure: Figure, climate: Climate, *, mirrored: bool) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) in meters of everything painted, with room for a shadow to the right when the sun shines."""
    left, top, right, bottom = figure.box_m
    if mirrored:
        left, right = -right, -left
    return left, top, right - (_SHADOW_RIGHT * top if climate.shadow > 0 else 0.0), bottom


def paint_figure(canvas: Canvas, *, figure: Figure, climate: Climate, phase: float, mirrored: bool) -> None:
    """Paint a figure with its shadow; mirrored it heads to the left, but the sun stays where it is."""
    canvas.mirrored = mirrored
    figure.paint(canvas, climate, phase)
    if canvas.look is Look.VISIBLE and climate.shadow > 0:
        _throw_shadow(canvas, climate.shadow)


def _throw_shadow(canvas: Canvas, opacity: float) -> None:
    """Lay the shadow of what is painted onto the ground: to the right, and a little away from the camera."""
    body = canvas.pixels[..., -1]
    ground = -canvas.box[1] * canvas.px_per_unit - 0.5
    along_sun = np.array(
        [[1.0, -_SHADOW_RIGHT, _SHADOW_RIGHT * ground], [0.0, _SHADOW_AWAY, (1 - _SHADOW_AWAY) * ground]]
    )
    thrown = cv2.blur(cv2.warpAffine(body, along_sun, (canvas.width_px, canvas.height_px)), (5, 5))
    body += opacity * (1.0 - body) * thrown
