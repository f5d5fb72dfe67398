"""The background of the synthetic street, which never moves, from the sky down to the pavement before the camera."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rtfusion.synthetic.canvas import Array, Canvas, Paint, clouds, sample
from rtfusion.synthetic.climate import Climate
from rtfusion.synthetic.houses import paint_houses
from rtfusion.synthetic.layout import (
    CAMERA_UP_M,
    FACADE_Z_M,
    FAR_CURB_Z_M,
    FOCAL,
    HORIZON_Y,
    LAMP_XS_M,
    LAMP_Z_M,
    NEAR_CURB_Z_M,
    NEAR_TREE_X_M,
    NEAR_TREE_Z_M,
    PARKED_Z_M,
    TREE_XS_M,
    TREE_Z_M,
    project,
    scale_at,
)

_FAR_LEFT, _FAR_RIGHT = -1400.0, 1400.0


def paint_street(canvas: Canvas, *, climate: Climate, seed: int) -> None:
    """Paint everything behind what moves, on a canvas in scene units."""
    rng = np.random.default_rng((seed, 11))
    rough, soft = (clouds(rng, width=512, height=512, slope=slope) for slope in (1.0, 1.7))
    _paint_sky(canvas, climate, soft)
    _paint_skyline(canvas, climate, rng, soft)
    lane_top, lane_base = project(0, 60.0)[1], project(0, FACADE_Z_M)[1]
    canvas.rectangle(_FAR_LEFT, lane_top, _FAR_RIGHT, lane_base, Paint((104, 112, 114), climate.pavement - 1.5))
    paint_houses(canvas, climate, seed=seed, textures=(rough, soft))
    _paint_ground(canvas, climate, rough, soft)
    _paint_markings(canvas, climate, rng)
    _paint_shade(canvas, climate, soft)
    for x_m in LAMP_XS_M if climate.lamps_lit else ():
        x, y = project(x_m + 0.55, LAMP_Z_M, 4.35)
        canvas.halo(x, y, (12.0, 12.0), light=(60, 110, 150))


def _draw(rng: np.random.Generator, *ranges: tuple[float, float]) -> list[float]:
    return [float(rng.uniform(*ends)) for ends in ranges]


def _paint_sky(canvas: Canvas, climate: Climate, soft: Array) -> None:
    left, top, right, _ = canvas.box
    box = (left, top, right, HORIZON_Y + 6)
    canvas.rectangle(*box, climate.sky_high)
    _, _, xs, ys = canvas.window(box)
    height = np.clip((HORIZON_Y - ys) / 230.0, 0.0, 1.0)
    canvas.veil(box, 1.0 - height + 0 * xs, climate.sky_low)
    cover = 1.0 / (1.0 + np.exp(-2.6 * (sample(soft, 0.55 * xs + 140, 1.9 * ys + 60) - 0.25)))
    canvas.veil(box, climate.cloud_share * cover, climate.cloud)


def _paint_skyline(canvas: Canvas, climate: Climate, rng: np.random.Generator, soft: Array) -> None:
    """Far houses in the haze, then the crowns of a park before them."""
    blue, green, red = climate.sky_low.bgr or (0.0, 0.0, 0.0)
    for x_m in np.arange(-260.0, 260.0, 9.0):
        z_m, up_m, wide_m, gray = _draw(rng, (95, 130), (8, 26), (6, 12), (0.80, 0.95))
        (left, top), (right, base) = project(x_m, z_m, up_m), project(x_m + wide_m, z_m)
        haze = Paint((gray * blue, 0.97 * gray * green, 0.94 * gray * red), climate.wall - 4.0)
        canvas.rectangle(left, top, right, base, haze)
    for x_m in np.arange(-110.0, 110.0, 0.8):
        z_m, up_m, radius_m, tone = _draw(rng, (40, 52), (1.5, 6.5), (0.8, 1.8), (0.7, 1.15))
        (x, y), radius = project(x_m, z_m, up_m), radius_m * scale_at(z_m)
        crown = Paint((tone * 92, tone * 122, tone * 108), climate.foliage + 2.0 * (tone - 0.9))
        canvas.ellipse(x, y, radius, 0.9 * radius, crown)
    park = Paint((88, 112, 102), climate.foliage, opacity=0.85, soft=3.0)
    canvas.rectangle(_FAR_LEFT, HORIZON_Y, _FAR_RIGHT, HORIZON_Y + 140, park)
    box = (canvas.box[0], HORIZON_Y - 90, canvas.box[2], HORIZON_Y + 140)
    _, _, xs, ys = canvas.window(box)
    canvas.mottle(box, sample(soft, 3 * xs, 3 * ys), bgr_gain=0.04, kelvin=0.4)


def _paint_ground(canvas: Canvas, climate: Climate, rough: Array, soft: Array) -> None:
    """Pavements, curbs and road; textures lie on the ground in perspective."""
    road, stone = climate.road, climate.pavement
    far, near = project(0, FAR_CURB_Z_M)[1], project(0, NEAR_CURB_Z_M)[1]
    for top, base, paint, grain in (
        (project(0, FACADE_Z_M)[1], far, Paint((150, 158, 162), stone), 0.05),
        (far, near, Paint((94, 92, 90), road), 0.085),
        (near, project(0, 2.4)[1], Paint((148, 156, 161), stone), 0.06),
    ):
        box = (canvas.box[0], top, canvas.box[2], base)
        canvas.rectangle(*box, paint)
        _, _, xs, ys = canvas.window(box)
        z_m = FOCAL * CAMERA_UP_M / (ys - HORIZON_Y)
        x_m = xs * z_m / FOCAL
        fine = sample(rough, 60 * x_m, 60 * z_m + 0 * xs) * np.clip(12.0 / z_m, 0.3, 1.0)
        coarse = sample(soft, 28 * x_m + 90, 28 * z_m + 0 * xs)
        canvas.mottle(box, fine + 0.6 * coarse, bgr_gain=grain)
        canvas.mottle(box, 0.3 * fine + coarse, kelvin=0.6 * climate.mottle)
    worn = Paint((104, 102, 100), road + 1.4, opacity=0.35, soft=2.0)
    edge, gutter = Paint((182, 188, 190), stone + 0.8), Paint((64, 66, 68), road - 1.5)
    stripes = [(project(0, z_m)[1], 0.35 * 0.16 * scale_at(z_m)) for z_m in (9.95, 11.05, 12.45, 13.55)]
    for top, base, paint in (
        *((y - reach, y + reach, worn) for y, reach in stripes),
        (far - 1.6, far + 1.0, edge),
        (far + 1.0, far + 4.2, replace(gutter, opacity=0.8)),
        (near - 7.0, near, edge),
        (near - 8.2, near - 6.8, replace(gutter, opacity=0.7)),
        (near - 0.6, near + 0.6, replace(gutter, opacity=0.5)),
    ):
        canvas.rectangle(_FAR_LEFT, top, _FAR_RIGHT, base, paint)


def _paint_markings(canvas: Canvas, climate: Climate, rng: np.random.Generator) -> None:
    """Paint on the road and litter for the visible camera alone; joints of the slabs and warm covers for both."""
    white = Paint((208, 214, 216), opacity=0.72)
    middle_m = (FAR_CURB_Z_M - 2.0 + NEAR_CURB_Z_M) / 2
    for z_m, dash_m, gap_m, width_m in ((middle_m, 2.0, 2.0, 0.14), (FAR_CURB_Z_M - 2.05, 60.0, 0.0, 0.10)):
        for x_m in np.arange(-60.0, 60.0, dash_m + gap_m):
            corners = ((x_m, z_m + width_m), (x_m + dash_m, z_m + width_m), (x_m + dash_m, z_m), (x_m, z_m))
            canvas.polygon([project(*corner) for corner in corners], white)
    across = np.arange(NEAR_CURB_Z_M - 0.5, 2.6, -0.6)
    joints = [(project(-60, z_m), project(60, z_m), 0.010 * scale_at(z_m)) for z_m in across]
    joints += [(project(x, NEAR_CURB_Z_M - 0.35), project(x, 2.6), 1.1) for x in np.arange(-14.4, 14.4, 0.6)]
    canvas.lines(joints, Paint((96, 100, 102), climate.pavement - 1.6, opacity=0.55))
    fine = [(project(x, FACADE_Z_M), project(x, FAR_CURB_Z_M), 0.7) for x in np.arange(-39, 39, 1.0)]
    canvas.lines(fine, Paint((110, 114, 116), climate.pavement - 1.0, opacity=0.4))
    for x_m, z_m, warmth in ((-3.4, 10.6, 5.0), (4.9, 12.9, 7.0), (-13.0, 12.0, 4.0), (15.0, 10.2, 6.0)):
        (x, y), radius = project(x_m, z_m), 0.36 * scale_at(z_m)
        halo = Paint(celsius=climate.road + 0.5 * warmth, opacity=0.6, soft=2.0)
        canvas.ellipse(x, y, 1.5 * radius, 0.45 * radius, halo)
        canvas.ellipse(x, y, radius, 0.3 * radius, Paint((62, 62, 62), climate.road + warmth))
        canvas.ellipse(x, y - 0.4, 0.85 * radius, 0.24 * radius, Paint((84, 84, 82)))
    for _ in range(150):
        x_m, z_m, hue, length = _draw(rng, (-9, 9), (3.5, 9.0), (0, 1), (0.02, 0.05))
        (x, y), size = project(x_m, z_m), length * scale_at(z_m)
        litter = Paint((40 + 20 * hue, 90 + 30 * hue, 120 + 50 * hue), opacity=0.8)
        canvas.ellipse(x, y, size, 0.45 * size, litter)


def _paint_shade(canvas: Canvas, climate: Climate, soft: Array) -> None:
    """Shade of the trees on the ground, speckled where the sun comes through: darker, and cooler; dark under parked cars."""
    shaded = [(x_m, TREE_Z_M, 1.9) for x_m in TREE_XS_M] + [(NEAR_TREE_X_M, NEAR_TREE_Z_M, 1.5)]
    for x_m, z_m, radius_m in shaded:
        (x, y), scale = project(x_m + 2.1, z_m), scale_at(z_m)
        center_y, radius_x, radius_y = y - 0.55 * scale, 1.5 * radius_m * scale, 0.32 * radius_m * scale
        box = (x - 1.4 * radius_x, center_y - 1.4 * radius_y, x + 1.4 * radius_x, center_y + 1.4 * radius_y)
        box = (box[0], max(box[1], project(0, FACADE_Z_M)[1]), box[2], box[3])
        _, _, xs, ys = canvas.window(box)
        reach = np.hypot((xs - x) / radius_x, (ys - center_y) / radius_y)
        leaves = sample(soft, 5.0 * xs, 15.0 * ys) + 0.7 * sample(soft, 8.3 * xs + 100, 24.0 * ys)
        share = 1.0 / (1.0 + np.exp(-4.5 * (0.95 - reach + 0.30 * leaves)))
        canvas.veil(box, 0.8 * climate.shadow * share, Paint((0, 0, 0)))
        canvas.veil(box, 0.8 * climate.shadow / 0.45 * share, Paint(celsius=climate.road - 2.5))
    y = project(0, PARKED_Z_M)[1]
    cool = Paint(celsius=climate.road - 0.8, opacity=0.6, soft=2.0)
    canvas.rectangle(_FAR_LEFT, y - 1, _FAR_RIGHT, y + 2, cool)
