"""The houses along the synthetic street: walls, windows, shops; what only one of the cameras sees of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rtfusion.synthetic.canvas import Array, Box, Canvas, Color, Look, Paint, sample
from rtfusion.synthetic.climate import Climate
from rtfusion.synthetic.layout import FACADE_Z_M, project, scale_at


@dataclass(frozen=True, slots=True)
class _House:
    left_m: float
    right_m: float
    up_m: float
    wall: Color
    trim: Color
    awning: Color
    sign: str
    brick: bool
    warmth: float
    """Kelvin above the wall temperature of the climate."""


_HOUSES = (
    _House(-46, -33, 9.0, (150, 168, 182), (190, 200, 206), (120, 70, 40), "HOTEL", False, 0.5),
    _House(-32, -15.2, 10.5, (96, 112, 150), (186, 192, 198), (60, 110, 60), "MARKET", True, -0.6),
    _House(-14.6, -4.9, 7.3, (74, 90, 146), (196, 206, 214), (52, 48, 158), "CAFE LUNA", True, 1.2),
    _House(-1.7, 6.3, 8.6, (160, 198, 218), (226, 232, 236), (110, 88, 40), "BOOKS", False, -0.4),
    _House(6.3, 16.4, 6.5, (152, 152, 144), (206, 208, 208), (70, 140, 196), "BAKERY", False, 2.2),
    _House(17.6, 31, 9.5, (92, 120, 158), (180, 192, 200), (50, 40, 110), "THEATER", True, 0.2),
    _House(31, 46, 8.0, (168, 178, 178), (214, 216, 216), (90, 60, 60), "MUSIC", False, -0.3),
)


def paint_houses(canvas: Canvas, climate: Climate, *, seed: int, textures: tuple[Array, Array]) -> None:
    """Paint the houses that the canvas, in scene units, reaches."""
    left, _, right, _ = canvas.box
    meter = scale_at(FACADE_Z_M)
    # Every house has dice of its own, so that it looks the same to a camera that does not see its neighbors.
    seen = [
        (house, np.random.default_rng((seed, 13, number)))
        for number, house in enumerate(_HOUSES)
        if house.right_m * meter > left - 10 and house.left_m * meter < right + 10
    ]
    for house, _ in seen:
        _paint_side_wall(canvas, climate, house)
    for house, rng in seen:
        _paint_wall(canvas, climate, house, textures, rng)
        _paint_floors(canvas, climate, house, rng)
        _paint_shop(canvas, climate, house, rng)
        _paint_cornice(canvas, climate, house)
    base = project(0, FACADE_Z_M)[1]
    shade = Paint((0, 0, 0), opacity=0.30, soft=2.0)
    for house, _ in seen:
        canvas.rectangle(house.left_m * meter, base - 6, house.right_m * meter, base, shade)


def _paint_side_wall(canvas: Canvas, climate: Climate, house: _House) -> None:
    """The wall along the gap beside a house, seen in perspective and in the shade."""
    for x_m, inward in ((house.left_m, 1.0), (house.right_m, -1.0)):
        if x_m * inward < 0:
            continue
        up_m, far_m = house.up_m, 42.0
        corners = [project(x_m, z, up) for z, up in ((FACADE_Z_M, up_m), (far_m, up_m), (far_m, 0), (FACADE_Z_M, 0))]
        canvas.polygon(corners, Paint(house.wall, climate.wall - 3.0).shaded(0.52))
        for sill_m in (1.2, 4.0):
            for z_m in (23.0, 28.0, 34.0):
                edges = ((z_m, sill_m + 1.6), (z_m + 1.5, sill_m + 1.6), (z_m + 1.5, sill_m), (z_m, sill_m))
                canvas.polygon([project(x_m, z, up) for z, up in edges], Paint((84, 70, 60), climate.glass + 2.0))


def _paint_wall(
    canvas: Canvas, climate: Climate, house: _House, textures: tuple[Array, Array], rng: np.random.Generator
) -> None:
    """The front wall: bricks or plaster, weathered, warmer toward the ground."""
    rough, soft = textures
    (left, top), (right, base) = project(house.left_m, FACADE_Z_M, house.up_m), project(house.right_m, FACADE_Z_M)
    box = (left, top, right, base)
    canvas.rectangle(*box, Paint(house.wall, climate.wall + house.warmth))
    _, _, xs, ys = canvas.window(box)
    patches = sample(soft, 2.5 * xs, 2.5 * ys) + 0.7 * sample(rough, 4 * xs, 4 * ys)
    canvas.mottle(box, patches, bgr_gain=0.035, kelvin=0.5 * climate.mottle)
    canvas.mottle(box, (ys - top) / (base - top) - 0.5 + 0 * xs, bgr_gain=-0.10, kelvin=1.6)
    if house.brick:
        _lay_bricks(canvas, box, rng)
    streaks = np.clip(0.5 * sample(soft, 7 * xs, 0.5 * ys), 0, 1) * np.clip(1.2 - (ys - top) / 110.0, 0, 1)
    canvas.veil(box, 0.16 * streaks, Paint((46, 52, 56), climate.wall - 1.0))
    # A heating duct behind the wall: nothing to see, but warm; beside it a cold gutter that both cameras see.
    x = right - 0.55 * scale_at(FACADE_Z_M)
    duct = Paint(celsius=climate.wall + 11.0, opacity=0.8, soft=1.6)
    canvas.rectangle(x - 3.2, top + 28, x + 3.2, base - 26, duct)
    canvas.rectangle(x + 8, top + 14, x + 10.5, base, Paint((112, 112, 108), climate.metal - 2.0))


def _lay_bricks(canvas: Canvas, box: Box, rng: np.random.Generator) -> None:
    """Courses of brick: each brick a little lighter or darker, pale joints between them."""
    tones = rng.uniform(-1.0, 1.0, 4096).astype(np.float32)
    rows, cols, xs, ys = canvas.window(box)
    if canvas.look is not Look.VISIBLE or not xs.size or not ys.size:
        return
    course = np.floor((ys - box[1]) / 4.0)
    along = xs - box[0] + 5.0 * (course % 2)
    tone = tones[((np.floor(along / 10.0) * 131 + course * 977) % 4096).astype(int)]
    joint = ((ys - box[1]) % 4.0 < 0.75) | (along % 10.0 < 0.75)
    canvas.pixels[rows, cols, :-1] *= (1.0 + 0.10 * tone + 0.15 * joint)[..., None]


def _paint_floors(canvas: Canvas, climate: Climate, house: _House, rng: np.random.Generator) -> None:
    floors = max(1, round((house.up_m - 3.6) / 2.6))
    step_m = (house.up_m - 3.7) / floors
    count = max(2, round((house.right_m - house.left_m) / 2.3))
    pitch_m = (house.right_m - house.left_m) / count
    for sill_m in (3.95 + floor * step_m for floor in range(floors)):
        (left, y), (right, _) = (project(x_m, FACADE_Z_M, sill_m - 0.42) for x_m in (house.left_m, house.right_m))
        canvas.rectangle(left, y + 1.8, right, y + 4.0, Paint((0, 0, 0), opacity=0.25))
        ledge = Paint(house.trim, climate.wall + house.warmth - 1.5).shaded(0.92)
        canvas.rectangle(left, y - 1.8, right, y + 1.8, ledge)
        for column in range(count):
            middle_m = house.left_m + (column + 0.5) * pitch_m
            left, top = project(middle_m - 0.5, FACADE_Z_M, sill_m + min(1.55, 0.66 * step_m))
            right, base = project(middle_m + 0.5, FACADE_Z_M, sill_m)
            _paint_window(canvas, climate, house, (left, top, right, base), rng)


def _paint_window(canvas: Canvas, climate: Climate, house: _House, box: Box, rng: np.random.Generator) -> None:
    """Panes that mirror the sky, a curtain, a frame; some are lit at night; heated rooms show in thermal below the sill."""
    left, top, right, base = box
    heated, lit = rng.random() < 0.55, rng.random() < 0.45
    drawn, lamp, tone = (float(value) for value in rng.uniform(0.0, 1.0, 3))
    trim = Paint(house.trim, climate.wall + (3.5 if heated else -0.5))
    glass = climate.glass + (5.0 if heated else 0.0) + 2.0 * tone
    gain = 0.75 + 0.35 * lamp if lit and climate.lamps_lit else 0.0
    if heated:
        radiator = Paint(celsius=climate.wall + 6.5, opacity=0.8, soft=2.0)
        canvas.rectangle(left - 3, base + 1, right + 3, base + 9, radiator)
    canvas.rectangle(left - 2.4, top - 2.4, right + 2.4, base + 2.4, trim)
    canvas.rectangle(*box, Paint((104, 84, 66), glass, (92 * gain, 158 * gain, 214 * gain)))
    mirrored_sky = Paint((188, 170, 148), glass - 2.0, opacity=0.45)
    canvas.polygon([(left, top), (right, top), (left, base)], mirrored_sky)
    if drawn < 0.6:
        width = (0.22 + 0.2 * drawn) * (right - left)
        curtain = Paint((206, 214, 220), None, (100 * gain, 150 * gain, 188 * gain), opacity=0.8)
        curtain = curtain.shaded(0.7 + 0.35 * tone)
        canvas.rectangle(left, top, left + width, base, curtain)
        canvas.rectangle(right - width, top, right, base, curtain)
    middle, bar = (left + right) / 2, top + 0.36 * (base - top)
    canvas.rectangle(middle - 0.8, top, middle + 0.8, base, trim)
    canvas.rectangle(left, bar - 0.7, right, bar + 0.7, trim)
    canvas.rectangle(left, top, right, top + 2.2, Paint((0, 0, 0), opacity=0.35))
    canvas.rectangle(left - 4, base + 2.4, right + 4, base + 5, Paint(house.trim, climate.wall - 1.0).shaded(0.9))


def _paint_shop(canvas: Canvas, climate: Climate, house: _House, rng: np.random.Generator) -> None:
    """The ground floor: show windows, a door, an awning and a sign whose letters only the visible camera reads."""
    gain = 0.95 if climate.lamps_lit else 0.0
    left_m, right_m = house.left_m + 0.6, house.right_m - 1.2
    door_m = left_m + float(rng.uniform(0.42, 0.58)) * (right_m - left_m)
    frame = Paint(house.awning, climate.wall).shaded(0.62)
    for first_m, last_m in ((left_m, door_m - 0.75), (door_m + 0.75, right_m)):
        (left, top), (right, base) = project(first_m, FACADE_Z_M, 2.35), project(last_m, FACADE_Z_M, 0.55)
        canvas.rectangle(left - 2.5, top - 2.5, right + 2.5, base + 13, frame)
        pane = Paint((96, 86, 76), climate.glass + 3.0, (96 * gain, 166 * gain, 216 * gain))
        canvas.rectangle(left, top, right, base, pane)
        _paint_display(canvas, (left, right, base), gain, rng)
        mirror = [(left, top), (left + 0.4 * (right - left), top), (left, base)]
        canvas.polygon(mirror, Paint((196, 182, 166), opacity=0.30))
        for share in (1 / 3, 2 / 3):
            bar = left + share * (right - left)
            canvas.rectangle(bar - 0.8, top, bar + 0.8, base, frame)
    (left, top), (right, base) = project(door_m - 0.5, FACADE_Z_M, 2.3), project(door_m + 0.5, FACADE_Z_M)
    canvas.rectangle(left - 2.5, top - 2.5, right + 2.5, base, frame.shaded(1.25))
    door = Paint((84, 78, 72), climate.glass + 6.0, (70 * gain, 120 * gain, 160 * gain))
    canvas.rectangle(left + 3, top + 3, right - 3, base - 14, door)
    _paint_awning(canvas, climate, house, left_m, right_m)
    middle, y = project((left_m + right_m) / 2, FACADE_Z_M, 3.0)
    half = 8.5 * len(house.sign)
    canvas.rectangle(middle - half, y - 11, middle + half, y + 8, Paint((52, 48, 46), climate.wall - 1.0))
    letters = Paint((214, 236, 244), None, (150 * gain, 190 * gain, 205 * gain))
    canvas.text(house.sign, middle, y + 4.5, 11.0, letters)


def _paint_display(canvas: Canvas, shelf: tuple[float, float, float], gain: float, rng: np.random.Generator) -> None:
    """Goods in a show window: colors behind the glass, which no thermal camera sees through."""
    left, right, base = shelf
    x = left + 4
    while x < right - 8:
        width, tall = float(rng.uniform(4, 10)), float(rng.uniform(6, 24))
        blue, green, red = (float(value) for value in rng.uniform(50, 200, 3))
        glow = (0.5 * gain * blue, 0.6 * gain * green, 0.7 * gain * red)
        canvas.rectangle(x, base - tall, x + width, base, Paint((blue, green, red), None, glow, opacity=0.75))
        x += width + float(rng.uniform(1, 7))


def _paint_awning(canvas: Canvas, climate: Climate, house: _House, left_m: float, right_m: float) -> None:
    """Striped cloth that leans out over the pavement, warmed by the sun, with its shade on the windows."""
    count = round((right_m - left_m) / 0.45)
    width_m = (right_m - left_m) / count
    (left, _), (right, shade) = project(left_m, FACADE_Z_M), project(right_m, FACADE_Z_M, 2.0)
    canvas.rectangle(left, shade - 6, right, shade + 6, Paint((0, 0, 0), opacity=0.35, soft=2.0))
    for stripe in range(count):
        first_m, last_m = left_m + stripe * width_m, left_m + (stripe + 1) * width_m
        color = house.awning if stripe % 2 else (206, 214, 218)
        upper = [project(x_m, FACADE_Z_M, 2.75) for x_m in (first_m, last_m)]
        (x0, y), (x1, _) = (project(x_m, FACADE_Z_M - 1.0, 2.15) for x_m in (first_m, last_m))
        canvas.polygon([*upper, (x1, y), (x0, y)], Paint(color, climate.wall + 3.0 * climate.mottle))
        canvas.rectangle(x0, y - 0.4, x1, y + 4.0, Paint(color, climate.wall).shaded(0.85))


def _paint_cornice(canvas: Canvas, climate: Climate, house: _House) -> None:
    (left, top), (right, _) = project(house.left_m, FACADE_Z_M, house.up_m), project(house.right_m, FACADE_Z_M)
    canvas.rectangle(left, top, right, top + 15, Paint((0, 0, 0), opacity=0.30, soft=1.5))
    ledge = Paint(house.trim, climate.wall - 1.5)
    canvas.rectangle(left - 6, top - 5, right + 6, top + 6, ledge.shaded(0.93))
    canvas.rectangle(left - 6, top - 5, right + 6, top - 2, Paint(house.trim, climate.wall - 3.0))
