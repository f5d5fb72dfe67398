"""Things of the synthetic scene that stand still and may hide what moves; painted in meters, standing on the origin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from rtfusion.synthetic import layout
from rtfusion.synthetic.canvas import Box, Canvas, Paint, smooth
from rtfusion.synthetic.climate import Climate
from rtfusion.synthetic.movers import Figure, vehicle


@dataclass(frozen=True, slots=True)
class Prop:
    """A thing: where it stands, how large it is, and what paints it."""

    x_m: float
    z_m: float
    box_m: Box
    painter: Callable[[Canvas], None]


def street_props(climate: Climate, *, seed: int) -> list[Prop]:
    """Everything that stands in the street."""
    lamp, tree = partial(_paint_lamp, climate=climate), partial(_paint_tree, climate=climate)
    far_tree = partial(tree, crown_m=1.9, trunk_m=2.6, leaves=1800)
    near_tree = partial(tree, seed=seed + 50, crown_m=1.5, trunk_m=3.3, leaves=4500)
    return [
        *(Prop(x_m, layout.LAMP_Z_M, (-0.5, -5.2, 1.6, 0.1), lamp) for x_m in layout.LAMP_XS_M),
        *(
            Prop(x_m, layout.TREE_Z_M, (-2.6, -6.8, 2.6, 0.2), partial(far_tree, seed=seed + number))
            for number, x_m in enumerate(layout.TREE_XS_M)
        ),
        Prop(layout.NEAR_TREE_X_M, layout.NEAR_TREE_Z_M, (-2.2, -6.8, 2.2, 0.2), near_tree),
        Prop(layout.LANTERN_X_M, layout.LANTERN_Z_M, (-1.3, -5.0, 1.3, 0.2), partial(_paint_lantern, climate=climate)),
        Prop(-0.9, 9.0, (-0.6, -1.6, 0.8, 0.2), partial(_paint_bin, climate=climate)),
        Prop(3.6, 8.95, (-1.2, -1.1, 1.4, 0.2), partial(_paint_bench, climate=climate)),
        _parked(2.2, vehicle((150, 120, 92)), climate),
        _parked(10.8, vehicle((60, 58, 120)), climate),
        _parked(-6.6, vehicle((206, 208, 208), van=True), climate),
    ]


def _parked(x_m: float, figure: Figure, climate: Climate) -> Prop:
    painter = partial(figure.paint, climate=climate, phase=0.0, mirrored=True)
    return Prop(x_m, layout.PARKED_Z_M, figure.shadowed_box_m(climate, mirrored=True), painter)


def _paint_lamp(canvas: Canvas, climate: Climate) -> None:
    """A street lamp of 4.5 m with an arm to the right."""
    iron = Paint((62, 66, 60), climate.metal)
    canvas.limb((0, -0.1), (0, -4.4), (0.065, 0.042), iron)
    canvas.rectangle(-0.11, -0.55, 0.11, 0.0, iron.shaded(0.85))
    canvas.limb((0, -4.4), (0.5, -4.5), (0.04, 0.035), iron)
    hood = [(0.34, -4.56), (0.86, -4.56), (0.92, -4.44), (0.30, -4.44)]
    canvas.polygon(smooth(hood, rounds=1), iron.shaded(1.2))
    warmth, glow = (28.0, (170, 226, 255)) if climate.lamps_lit else (3.0, None)
    canvas.ellipse(0.6, -4.42, 0.22, 0.06, Paint((206, 222, 226), climate.metal + warmth, glow))


def _paint_lantern(canvas: Canvas, climate: Climate) -> None:
    """An old lantern of 4 m, close to the camera: what people walk behind."""
    iron = Paint((52, 62, 50), climate.metal)
    for top, half in ((-0.42, 0.16), (-0.62, 0.12), (-0.80, 0.085)):
        canvas.rectangle(-half, top, half, 0.0, iron.shaded(0.9))
    canvas.limb((0, -0.6), (0, -3.35), (0.068, 0.048), iron)
    canvas.rectangle(-0.05, -3.2, -0.022, -0.8, Paint((150, 160, 150), opacity=0.45))
    for up in (1.25, 2.9, 3.3):
        canvas.ellipse(0, -up, 0.085, 0.035, iron.shaded(1.25))
    canvas.limb((-0.34, -3.12), (0.34, -3.12), (0.02, 0.02), iron)
    warmth, glow = (24.0, (160, 222, 255)) if climate.lamps_lit else (1.0, None)
    glass = Paint((198, 212, 216), climate.metal + warmth, glow)
    if climate.lamps_lit:
        canvas.halo(0, -3.6, (0.34, 0.34), light=(70, 120, 155))
    canvas.polygon([(-0.14, -3.38), (0.14, -3.38), (0.21, -3.85), (-0.21, -3.85)], glass)
    for x in (-0.175, 0.0, 0.175):
        canvas.limb((0.67 * x, -3.38), (x, -3.85), (0.014, 0.014), iron)
    roof = [(-0.27, -3.84), (0.27, -3.84), (0.08, -4.06), (0.0, -4.16), (-0.08, -4.06)]
    canvas.polygon(smooth(roof, rounds=1), iron)


def _paint_tree(
    canvas: Canvas, climate: Climate, *, seed: int, crown_m: float, trunk_m: float, leaves: int, tones: int = 40
) -> None:
    """A tree: trunk, branches, and tufts of leaves from the dark inside to the side lit from the upper left."""
    rng = np.random.default_rng((seed, 23))
    bark = Paint((58, 72, 84), climate.foliage + 1.5)
    canvas.limb((0, 0.02), (0.03, -trunk_m - 0.6), (0.17, 0.10), bark)
    canvas.rectangle(-0.15, -trunk_m, -0.07, 0.0, Paint((120, 134, 142), opacity=0.3, soft=0.03))
    middle = -trunk_m - 0.75 * crown_m
    for x, y in ((-0.8, 0.3), (0.85, 0.2), (-0.3, -0.4), (0.4, -0.3)):
        canvas.limb((0.02, 0.1 - trunk_m), (0.7 * x * crown_m, middle + 0.6 * y * crown_m), (0.075, 0.03), bark)
    # Boughs are balls within the crown, tufts lie in the boughs: so the outline is uneven and the light has relief.
    bough = rng.uniform(-0.68, 0.68, (34, 2)) * (1.0, 0.85)
    bough = bough[np.hypot(*bough.T) < 0.72]
    owner = rng.integers(len(bough), size=leaves)
    turn, reach = rng.uniform(0, 2 * np.pi, leaves), 0.34 * np.sqrt(rng.uniform(0, 1, leaves))
    inside = np.stack([reach * np.cos(turn), reach * np.sin(turn)], axis=1)
    place = bough[owner] + inside
    light = 0.86 - 0.22 * place[:, 1] - 0.12 * place[:, 0] - 0.75 * inside[:, 1] - 0.45 * inside[:, 0]
    light += 0.12 * bough[owner, 1] + rng.normal(0, 0.10, leaves)
    radius = rng.uniform(0.045, 0.085, leaves) * (crown_m / 1.9) ** 0.5
    circle = np.linspace(0, 2 * np.pi, 7, endpoint=False)
    leaf = np.stack([1.35 * np.cos(circle), np.sin(circle)], axis=1)
    outlines = (place * crown_m + (0.0, middle))[:, None, :] + radius[:, None, None] * leaf * 1.25
    order = np.argsort(light + rng.normal(0, 0.12, leaves))
    steps = np.sort(light)[:: leaves // tones].clip(0.38, 1.35)
    paints = []
    for tone, hue in zip(steps.tolist(), rng.uniform(-1, 1, len(steps)).tolist(), strict=True):
        warmth = climate.mottle * (3.0 * (tone - 0.9) + 0.5 * hue)
        paints.append(Paint((44 + 6 * hue, 104, 78 + 14 * hue), climate.foliage + warmth).shaded(tone))
    canvas.mosaic(outlines[order], np.arange(leaves) * len(steps) // leaves, paints)


def _paint_bin(canvas: Canvas, climate: Climate) -> None:
    """A dustbin; where there is a fire, it burns in here."""
    steel = Paint((66, 74, 66), climate.metal + (14.0 if climate.fire else 0.0))
    canvas.polygon(smooth([(-0.24, -0.80), (0.24, -0.80), (0.20, 0.0), (-0.20, 0.0)], rounds=1), steel)
    for up in (0.2, 0.42, 0.62):
        canvas.rectangle(-0.22, -up - 0.012, 0.22, -up + 0.012, Paint((40, 46, 40), opacity=0.6))
    canvas.ellipse(0, -0.81, 0.255, 0.06, Paint((38, 40, 38), climate.metal + (32.0 if climate.fire else -0.5)))
    if climate.fire:
        canvas.ellipse(0.02, -0.98, 0.13, 0.22, Paint(celsius=45.0, opacity=0.9, soft=0.06))


def _paint_bench(canvas: Canvas, climate: Climate) -> None:
    """A wooden bench seen from behind."""
    wood, iron = Paint((66, 102, 142), climate.pavement - 1.5), Paint((48, 50, 48), climate.metal)
    for x in (-0.72, 0.72):
        canvas.rectangle(x - 0.035, -0.82, x + 0.035, 0.0, iron)
    for up in (0.50, 0.64, 0.78):
        canvas.rectangle(-0.85, -up - 0.05, 0.85, -up + 0.05, wood.shaded(0.85 + 0.25 * (up - 0.4)))
    canvas.rectangle(-0.85, -0.44, 0.85, -0.38, wood.shaded(0.6))
