"""Who moves through the synthetic street: walkers on both pavements, vehicles in both lanes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from rtfusion.synthetic.canvas import Color
from rtfusion.synthetic.figures import Figure
from rtfusion.synthetic.layout import FAR_WALKERS_Z_M, LANES_Z_M, NEAR_WALKERS_Z_M, project, scale_at
from rtfusion.synthetic.people import Person
from rtfusion.synthetic.vehicles import Vehicle

_JACKETS: tuple[Color, ...] = (
    (44, 40, 150),
    (120, 78, 40),
    (60, 66, 62),
    (36, 120, 176),
    (168, 164, 158),
    (92, 60, 96),
    (70, 96, 52),
    (48, 44, 46),
    (150, 120, 70),
    (84, 104, 190),
)
_TROUSERS: tuple[Color, ...] = ((92, 66, 48), (48, 46, 46), (112, 124, 134), (70, 58, 52), (60, 72, 86))
_HAIR: tuple[Color, ...] = ((28, 30, 36), (38, 56, 84), (70, 110, 150), (120, 124, 126), (24, 34, 60))
_SKIN: tuple[Color, ...] = ((140, 168, 214), (120, 150, 204), (86, 118, 172), (60, 84, 124))
_BODIES: tuple[Color, ...] = (
    (52, 44, 158),
    (150, 148, 146),
    (128, 84, 40),
    (222, 222, 220),
    (56, 54, 54),
    (110, 128, 64),
)

_PERSON_POSES, _VEHICLE_POSES = 24, 4


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
    poses: int

    @property
    def scene_per_m(self) -> float:
        """Size at its distance."""
        return scale_at(self.z_m)

    @property
    def ground_y(self) -> float:
        """Where it stands in the scene."""
        return project(0.0, self.z_m)[1]

    def places(self, time_s: float, left: float, right: float) -> Iterator[tuple[int, float]]:
        """Its poses and positions between two borders of the scene."""
        covered = self.start + self.speed * time_s
        pose = int(np.copysign(covered, covered * self.speed) / self.cycle % 1.0 * self.poses) % self.poses
        reach = self.scene_per_m * self.figure.reach_m
        first = covered % self.span
        copy = int(np.ceil((left - reach - first) / self.span))
        while (x := first + copy * self.span) <= right + reach:
            yield pose, x
            copy += 1


def populate(seed: int, *, scene_width: float, period_s: int) -> tuple[Mover, ...]:
    """Everybody, farthest first; positions and poses repeat exactly after ``period_s``."""
    rng = np.random.default_rng((seed, 5))
    crowd: list[tuple[Figure, _Way]] = []
    for row, span in ((FAR_WALKERS_Z_M, 1.35 * scene_width), (NEAR_WALKERS_Z_M, 1.5 * scene_width)):
        order = rng.permutation(len(row))
        for index, z_m in enumerate(row):
            speed = float(rng.uniform(1.1, 1.5)) * (1.0 if rng.random() < 0.5 else -1.0)
            start = (order[index] + float(rng.uniform(0.2, 0.8))) / len(row)
            crowd.append((_person(rng), _Way(z_m, start, speed, max(span, 800.0))))
    for z_m, heading in zip(LANES_Z_M, (1.0, -1.0), strict=True):
        speed = heading * float(rng.uniform(5.0, 6.5))
        for index in range(2):
            start = (index + float(rng.uniform(0.1, 0.6))) / 2
            crowd.append((_vehicle(rng), _Way(z_m, start, speed, max(2.2 * scene_width, 1500.0))))
    movers = [_send(identity, figure, way, period_s) for identity, (figure, way) in enumerate(crowd)]
    return tuple(sorted(movers, key=lambda mover: -mover.z_m))


@dataclass(frozen=True, slots=True)
class _Way:
    """Where somebody goes: distance, start as a share of the span, speed in m/s, span in scene units."""

    z_m: float
    start: float
    speed_m_per_s: float
    span: float


def _send(identity: int, figure: Figure, way: _Way, period_s: int) -> Mover:
    """Speed and stride are rounded so that whole laps and whole strides fit: nothing jumps when the scene repeats."""
    scale = scale_at(way.z_m)
    laps = max(1, round(abs(way.speed_m_per_s) * scale * period_s / way.span))
    cycles = max(1, round(way.span / (figure.cycle_m * scale)))
    return Mover(
        identity=identity,
        figure=figure,
        z_m=way.z_m,
        start=way.start * way.span,
        speed=float(np.copysign(way.span * laps / period_s, way.speed_m_per_s)),
        span=way.span,
        cycle=way.span / cycles,
        poses=_PERSON_POSES if isinstance(figure, Person) else _VEHICLE_POSES,
    )


def _pick(rng: np.random.Generator, colors: tuple[Color, ...]) -> Color:
    return colors[int(rng.integers(len(colors)))]


def _person(rng: np.random.Generator) -> Person:
    return Person(
        height_m=float(rng.uniform(1.58, 1.88)),
        jacket=_pick(rng, _JACKETS),
        trousers=_pick(rng, _TROUSERS),
        hair=_pick(rng, _HAIR),
        skin=_pick(rng, _SKIN),
        coat=bool(rng.random() < 0.4),
        backpack=_pick(rng, _JACKETS) if rng.random() < 0.3 else None,
        warmth=float(rng.uniform(-1.5, 2.0)),
    )


def _vehicle(rng: np.random.Generator) -> Vehicle:
    return Vehicle(body=_pick(rng, _BODIES), van=bool(rng.random() < 0.3), engine=float(rng.uniform(32.0, 38.0)))
