"""Everybody who moves through the synthetic street, and the ways they go.

Walkers and vehicles are seen from the side; they stand on the origin, y downward, and head to the right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np

from rtfusion.synthetic.canvas import Array, Box, Canvas, Color, Look, Paint, outline, smooth
from rtfusion.synthetic.climate import Climate
from rtfusion.synthetic.layout import (
    FAR_WALKERS_Z_M,
    LANES_Z_M,
    NEAR_WALKERS_Z_M,
    WALKWAY_UP_M,
    project,
    scale_at,
)

_SHADOW_RIGHT, _SHADOW_AWAY = 0.55, 0.16


def _palette(codes: str) -> tuple[Color, ...]:
    """Colors from RRGGBB."""
    return tuple((blue, green, red) for red, green, blue in map(bytes.fromhex, codes.split()))


_JACKETS = _palette("96282c 284e78 3e423c b07824 9ea4a8 603c5c 346046 2e2c30 467896 be6854")
_TROUSERS = _palette("30425c 2e2e30 867c70 343a46 56483c")
_HAIR = _palette("241e1c 543826 966e46 7e7c78 3c2218")
_SKIN = _palette("d6a88c cc9678 ac7656 7c543c")
_BODIES = _palette("9e2c34 929496 285480 dcdede 363638 40806e")

_SWING_RAD = 0.46
_THIGH_M, _SHANK_M, _ANKLE_M = 0.44, 0.43, 0.085


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Figure:
    """One walker or vehicle."""

    kind: str
    """``person`` or ``vehicle``."""
    poses: int
    box_m: Box
    """(left, top, right, bottom) of everything that is drawn, in meters."""
    reach_m: float
    """How far it extends to either side, light and shadow included."""
    cycle_m: float
    """Ground covered by one cycle of poses."""
    draw: Callable[[Canvas, Climate, float], None]
    """Draws it at a phase of its cycle in [0, 1), on a canvas in meters."""

    def shadowed_box_m(self, climate: Climate, *, mirrored: bool) -> Box:
        """The box with room for a shadow to the right when the sun shines."""
        left, top, right, bottom = self.box_m
        if mirrored:
            left, right = -right, -left
        return left, top, right - (_SHADOW_RIGHT * top if climate.shadow > 0 else 0.0), bottom

    def paint(self, canvas: Canvas, *, climate: Climate, phase: float, mirrored: bool) -> None:
        """Draw it with its shadow; mirrored it heads to the left, but the sun stays where it is."""
        canvas.mirrored = mirrored
        self.draw(canvas, climate, phase)
        if canvas.look is not Look.VISIBLE or climate.shadow <= 0:
            return
        body = canvas.pixels[..., -1]
        ground = -canvas.box[1] * canvas.px_per_unit - 0.5
        along_sun = np.array(
            [[1.0, -_SHADOW_RIGHT, _SHADOW_RIGHT * ground], [0.0, _SHADOW_AWAY, (1 - _SHADOW_AWAY) * ground]]
        )
        thrown = cv2.blur(cv2.warpAffine(body, along_sun, (canvas.width_px, canvas.height_px)), (5, 5))
        body += climate.shadow * (1.0 - body) * thrown


def _walker(rng: np.random.Generator) -> Figure:
    height_m = float(rng.uniform(1.58, 1.88))
    draw = partial(
        _draw_walker,
        height_m=height_m,
        colors=[_pick(rng, palette) for palette in (_JACKETS, _TROUSERS, _HAIR, _SKIN)],
        coat=bool(rng.random() < 0.4),
        backpack=_pick(rng, _JACKETS) if rng.random() < 0.3 else None,
        warmth=float(rng.uniform(-1.5, 2.0)),
    )
    return Figure(
        kind="person",
        poses=24,
        box_m=(-0.42 * height_m, -1.06 * height_m, 0.42 * height_m, 0.14),
        reach_m=height_m,
        cycle_m=4.0 * (_THIGH_M + _SHANK_M) * float(np.sin(_SWING_RAD)) * height_m / 1.75,
        draw=draw,
    )


def _draw_walker(
    canvas: Canvas,
    climate: Climate,
    phase: float,
    *,
    height_m: float,
    colors: list[Color],
    coat: bool,
    backpack: Color | None,
    warmth: float,
) -> None:
    """From the far arm to the near one, 1.75 m tall and scaled; clothes are warmer by ``warmth`` than the climate says."""
    canvas.ellipse(0.0, 0.0, 0.30, 0.03, Paint((0, 0, 0), opacity=0.45, soft=0.045))
    canvas.scale = height_m / 1.75
    clothes, phase_rad = climate.clothes + warmth, 2.0 * np.pi * phase
    celsius = (clothes - 1.0, clothes + 2.0, clothes + 4.0, 33.5)
    jacket, trousers, hair, skin = map(Paint, colors, celsius)
    shoe = Paint((38, 38, 42), clothes - 5.0)
    legs, swing = [_leg_angles(phase_rad), _leg_angles(phase_rad + np.pi)], 0.48 * float(np.sin(phase_rad))
    # The leg that reaches lower stands on the ground and carries the hip.
    reach = max(_THIGH_M * np.cos(thigh) + _SHANK_M * np.cos(shank) for thigh, shank in legs)
    hip = -float(reach) - _ANKLE_M
    top = hip - 0.47
    _draw_arm(canvas, top, swing, jacket, skin, light=0.72)
    _draw_leg(canvas, hip, legs[1], trousers, shoe, light=0.72)
    _draw_leg(canvas, hip, legs[0], trousers, shoe, light=1.0)
    if backpack is not None:
        pack = [(-0.10, top + 0.03), (-0.30, top + 0.08), (-0.31, top + 0.40), (-0.10, top + 0.44)]
        canvas.polygon(smooth(pack), Paint(backpack, clothes - 8.0))
    hem, flare = (hip + 0.30, 0.165) if coat else (hip + 0.05, 0.125)
    back = [(-flare, hem), (-0.125, hip - 0.10), (-0.135, top + 0.12), (-0.085, top - 0.02)]
    front = [(0.10, top - 0.03), (0.165, top + 0.12), (0.14, hip - 0.10), (flare, hem)]
    canvas.polygon(smooth(back + front), jacket)
    collar = [(-0.05, top - 0.05), (0.09, top - 0.06), (0.10, top), (-0.06, top + 0.01)]
    canvas.polygon(smooth(collar), jacket.shaded(0.8))
    x, y = 0.045 + 0.035, top - 0.185
    canvas.limb((0.045, top), (x, y + 0.04), (0.058, 0.052), skin.shaded(0.85))
    canvas.ellipse(x + 0.012, y, 0.088, 0.118, skin)
    canvas.ellipse(x + 0.098, y + 0.022, 0.018, 0.022, skin)
    canvas.polygon(np.add(_HAIR_OUTLINE, (x, y)), hair)
    _draw_arm(canvas, top, -swing, jacket, skin, light=1.06)
    canvas.scale = 1.0
    canvas.round_off(radius=0.045, bgr_loss=0.30, kelvin_loss=4.5)


_HAIR_OUTLINE = smooth(
    outline("0.085 -0.055  0.07 -0.118  -0.02 -0.142  -0.10 -0.09  -0.108 0.02  -0.07 0.085  -0.03 0.03  -0.005 -0.045")
)


def _leg_angles(phase_rad: float) -> tuple[float, float]:
    """Angles of thigh and shank from the vertical, forward positive; the knee bends while the leg swings forward."""
    thigh = _SWING_RAD * float(np.sin(phase_rad)) + 0.04
    knee = 0.08 + 0.95 * max(0.0, float(np.cos(phase_rad - 0.35))) ** 1.6
    return thigh, thigh - knee


def _draw_leg(
    canvas: Canvas, hip_y: float, angles: tuple[float, float], trousers: Paint, shoe: Paint, *, light: float
) -> None:
    thigh, shank = angles
    knee = (_THIGH_M * np.sin(thigh), hip_y + _THIGH_M * np.cos(thigh))
    ankle = (knee[0] + _SHANK_M * np.sin(shank), knee[1] + _SHANK_M * np.cos(shank))
    pitch = 0.75 * min(shank, 0.0) - 0.35 * max(shank, 0.0)
    heel = (ankle[0] - 0.055 * np.cos(pitch), ankle[1] + 0.055 * np.sin(pitch) + 0.035)
    toe = (ankle[0] + 0.165 * np.cos(pitch), ankle[1] - 0.165 * np.sin(pitch) + 0.05)
    canvas.limb(heel, toe, (0.047, 0.034), shoe.shaded(light))
    canvas.limb((0.0, hip_y), knee, (0.098, 0.066), trousers.shaded(light))
    canvas.limb(knee, ankle, (0.066, 0.046), trousers.shaded(0.95 * light))


def _draw_arm(canvas: Canvas, shoulder_y: float, swing: float, jacket: Paint, skin: Paint, *, light: float) -> None:
    x, y = 0.045, shoulder_y + 0.06
    elbow = (x + 0.29 * np.sin(swing), y + 0.29 * np.cos(swing))
    bend = swing + 0.32 + 0.25 * max(swing, 0.0)
    wrist = (elbow[0] + 0.25 * np.sin(bend), elbow[1] + 0.25 * np.cos(bend))
    hand = (wrist[0] + 0.05 * np.sin(bend), wrist[1] + 0.05 * np.cos(bend))
    canvas.limb(wrist, hand, (0.036, 0.042), skin.shaded(light))
    canvas.limb((x, y), elbow, (0.066, 0.052), jacket.shaded(light))
    canvas.limb(elbow, wrist, (0.052, 0.042), jacket.shaded(0.97 * light))


_WHEEL_RADIUS_M = 0.33
_SPOKES = 5
_BEAM_M = 4.6


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Model:
    """The shape of a kind of vehicle, y downward, in meters."""

    body: Array
    panes: tuple[Array, ...]
    top_m: float
    wheels_m: tuple[float, float]
    lamps_m: float


_SEDAN = _Model(
    body=outline(
        "-2.22 -0.30  -2.27 -0.62  -2.20 -0.93  -1.62 -1.00  -1.02 -1.40  -0.35 -1.49  0.32 -1.45  1.10 -1.02  1.86 -0.90"
        "  2.18 -0.74  2.25 -0.46  2.14 -0.26  0.0 -0.22  -2.0 -0.24"
    ),
    panes=(
        outline("-1.42 -0.99  -0.95 -1.32  -0.24 -1.39  -0.24 -0.98"),
        outline("-0.12 -0.98  -0.12 -1.39  0.28 -1.36  0.92 -0.99"),
    ),
    top_m=-1.6,
    wheels_m=(-1.38, 1.36),
    lamps_m=2.16,
)
_VAN = _Model(
    body=outline(
        "-2.52 -0.32  -2.55 -1.9  -2.40 -2.14  -0.6 -2.18  1.05 -2.12  1.62 -1.72  1.98 -1.16  2.42 -0.98  2.50 -0.50"
        "  2.36 -0.26  0.0 -0.22  -2.3 -0.24"
    ),
    panes=(outline("0.55 -1.18  0.55 -1.92  1.08 -1.92  1.74 -1.20"),),
    top_m=-2.3,
    wheels_m=(-1.62, 1.52),
    lamps_m=2.42,
)


def vehicle(body: Color, *, van: bool = False, engine: float | None = None) -> Figure:
    """A car or van; ``engine`` is the temperature of its hood in degrees Celsius, None where it was parked long ago."""
    model = _VAN if van else _SEDAN
    return Figure(
        kind="vehicle",
        poses=4,
        box_m=(-3.3, model.top_m, 3.2 + _BEAM_M, 0.62),
        reach_m=3.2 + _BEAM_M,
        cycle_m=2.0 * np.pi * _WHEEL_RADIUS_M / _SPOKES,
        draw=partial(_draw_vehicle, model=model, body=body, engine=engine),
    )


def _draw_vehicle(
    canvas: Canvas, climate: Climate, phase: float, *, model: _Model, body: Color, engine: float | None
) -> None:
    metal = climate.metal
    canvas.ellipse(0.0, -0.02, 2.3, 0.07, Paint((0, 0, 0), opacity=0.75, soft=0.07))
    if engine is not None:
        canvas.halo(-0.2, 0.05, (1.0, 0.12), kelvin=4.5)  # the road under the engine and the exhaust
    canvas.polygon(smooth(model.body), Paint(body, metal))
    # Light from above on the body, seams; the cold sky mirrored by the roof; heat of the engine under the hood.
    front, roof = float(model.body[:, 0].max()), -float(model.body[:, 1].min())
    canvas.polygon(smooth(model.body.clip(min=(-np.inf, -0.60))), Paint((16, 16, 18), opacity=0.34, soft=0.05))
    canvas.rectangle(0.25 - front, -0.86, front - 0.35, -0.80, Paint((255, 255, 255), opacity=0.28, soft=0.02))
    mirrored_sky = Paint(celsius=climate.sky_low.celsius, opacity=0.7, soft=0.04)
    canvas.rectangle(-0.45 * front, 0.05 - roof, 0.14 * front, 0.14 - roof, mirrored_sky)
    for x in (-1.0, -0.12, 0.86):
        canvas.rectangle(x - 0.011, -0.96, x + 0.011, -0.34, Paint((10, 10, 12), metal - 0.8, opacity=0.55))
    if engine is not None:
        canvas.ellipse(front - 0.72, -0.74, 0.42, 0.15, Paint(celsius=engine, opacity=0.85, soft=0.11))
        canvas.ellipse(front - 0.16, -0.52, 0.10, 0.12, Paint(celsius=engine + 4.0, opacity=0.9, soft=0.04))
        canvas.ellipse(0.30 - front, -0.26, 0.18, 0.06, Paint(celsius=engine + 8.0, opacity=0.9, soft=0.04))
    for pane in model.panes:
        canvas.polygon(smooth(pane, rounds=1), Paint((72, 62, 54), climate.glass - 3.0))
        canvas.polygon(pane[:3], Paint((176, 164, 150), opacity=0.30))
    if model is _SEDAN and engine is not None:
        canvas.ellipse(0.28, -1.13, 0.10, 0.13, Paint((60, 72, 92), opacity=0.6))
    for x in model.wheels_m:
        _draw_wheel(canvas, x, metal, 0.0 if engine is None else 1.0, phase)
    _draw_lamps(canvas, model.lamps_m, lit=engine is not None and climate.lamps_lit)


def _draw_wheel(canvas: Canvas, x: float, metal: float, warm: float, phase: float) -> None:
    y = -_WHEEL_RADIUS_M
    canvas.ellipse(x, y - 0.02, 0.40, 0.40, Paint((22, 22, 24), metal + 2.0 * warm))
    canvas.ellipse(x, y, _WHEEL_RADIUS_M, _WHEEL_RADIUS_M, Paint((34, 33, 33), metal + 8.0 * warm))
    canvas.ellipse(x, y, 0.215, 0.215, Paint((142, 142, 142), metal + 14.0 * warm))
    for angle in 2.0 * np.pi * (np.arange(_SPOKES) + phase) / _SPOKES:
        canvas.ellipse(x + 0.15 * np.cos(angle), y + 0.15 * np.sin(angle), 0.045, 0.045, Paint((58, 58, 60)))
    canvas.ellipse(x, y, 0.08, 0.08, Paint((120, 120, 122), metal + 24.0 * warm))


def _draw_lamps(canvas: Canvas, front: float, *, lit: bool) -> None:
    canvas.ellipse(front - 0.05, -0.70, 0.10, 0.07, Paint((226, 236, 240), None, (225, 245, 250) if lit else None))
    canvas.ellipse(-front - 0.03, -0.78, 0.06, 0.10, Paint((40, 36, 170), None, (40, 40, 235) if lit else None))
    if not lit:
        return
    canvas.halo(front, -0.70, (0.16, 0.16), light=(150, 180, 200))
    canvas.halo(-front - 0.03, -0.78, (0.14, 0.14), light=(20, 20, 150))
    for reach, strength in ((0.9, 60.0), (1.6, 42.0), (2.3, 24.0)):
        beam = (0.72 * strength, 0.92 * strength, strength)
        canvas.halo(front + reach, 0.10, (0.45 * reach, 0.16), light=beam)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Mover:
    """One person or vehicle that crosses the scene again and again, once in every ``span`` of it."""

    identity: int
    figure: Figure
    z_m: float
    start: float
    """Scene units covered at time 0."""
    speed: float
    """Scene units per second, positive to the right."""
    span: float
    cycle: float
    """Scene units covered by one cycle of poses."""
    up_m: float = 0.0
    """Height above the street of what it goes on."""

    @property
    def scene_per_m(self) -> float:
        """Size at its distance."""
        return scale_at(self.z_m)

    @property
    def ground_y(self) -> float:
        """The height in the scene at which it stands."""
        return project(0.0, self.z_m, self.up_m)[1]

    def places(self, time_s: float, left: float, right: float) -> Iterator[tuple[int, float]]:
        """Its poses and positions between two borders of the scene."""
        covered = self.start + self.speed * time_s
        poses = self.figure.poses
        pose = int(np.copysign(covered, covered * self.speed) / self.cycle % 1.0 * poses) % poses
        reach = self.scene_per_m * self.figure.reach_m
        first = covered % self.span
        copy = int(np.ceil((left - reach - first) / self.span))
        while (x := first + copy * self.span) <= right + reach:
            yield pose, x
            copy += 1


def populate(seed: int, *, scene_width: float, period_s: int, walkers_m: Sequence[float] = ()) -> tuple[Mover, ...]:
    """Everybody, farthest first; positions and poses repeat exactly after ``period_s``.

    At each of ``walkers_m`` meters from the camera one more person walks, on a walkway.
    """
    rng = np.random.default_rng((seed, 5))
    movers: list[Mover] = []

    def send(figure: Figure, z_m: float, *, start: float, speed_m_per_s: float, span: float, up_m: float = 0.0) -> None:
        """Round speed and stride so that whole laps and whole strides fit: nothing jumps when the scene repeats."""
        scale = scale_at(z_m)
        laps = max(1, round(abs(speed_m_per_s) * scale * period_s / span))
        cycles = max(1, round(span / (figure.cycle_m * scale)))
        speed = float(np.copysign(span * laps / period_s, speed_m_per_s))
        way = {"start": start * span, "speed": speed, "span": span, "cycle": span / cycles}
        movers.append(Mover(identity=len(movers), figure=figure, z_m=z_m, up_m=up_m, **way))

    for row, span in ((FAR_WALKERS_Z_M, 1.35 * scene_width), (NEAR_WALKERS_Z_M, 1.5 * scene_width)):
        order = rng.permutation(len(row))
        for index, z_m in enumerate(row):
            speed = float(rng.uniform(1.1, 1.5)) * (1.0 if rng.random() < 0.5 else -1.0)
            start = (order[index] + float(rng.uniform(0.2, 0.8))) / len(row)
            send(_walker(rng), z_m, start=start, speed_m_per_s=speed, span=max(span, 800.0))
    for z_m, heading in zip(LANES_Z_M, (1.0, -1.0), strict=True):
        speed = heading * float(rng.uniform(5.0, 6.5))
        for index in range(2):
            start = (index + float(rng.uniform(0.1, 0.6))) / 2
            body, is_van, engine = _pick(rng, _BODIES), bool(rng.random() < 0.3), float(rng.uniform(32.0, 38.0))
            car = vehicle(body, van=is_van, engine=engine)
            send(car, z_m, start=start, speed_m_per_s=speed, span=max(2.2 * scene_width, 1500.0))
    for z_m in walkers_m:
        way = {"start": float(rng.random()), "speed_m_per_s": float(rng.choice((-1.2, 1.2))), "up_m": WALKWAY_UP_M}
        send(_walker(rng), z_m, span=max(scene_width, 2.5 * scale_at(z_m)), **way)
    return tuple(sorted(movers, key=lambda mover: -mover.z_m))


def _pick(rng: np.random.Generator, colors: tuple[Color, ...]) -> Color:
    return colors[int(rng.integers(len(colors)))]
