"""Cars and vans of the synthetic scene, seen from the side; they stand on the origin, y downward, heading to the right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rtfusion.synthetic.canvas import Canvas, Color, Paint, smooth
from rtfusion.synthetic.climate import Climate

_Points = list[tuple[float, float]]

_WHEEL_RADIUS_M = 0.33
_SPOKES = 5
_BEAM_M = 4.6

# Outlines as (forward, up) in meters.
_SEDAN: _Points = [
    (-2.22, 0.30),
    (-2.27, 0.62),
    (-2.20, 0.93),
    (-1.62, 1.00),
    (-1.02, 1.40),
    (-0.35, 1.49),
    (0.32, 1.45),
]
_SEDAN += [(1.10, 1.02), (1.86, 0.90), (2.18, 0.74), (2.25, 0.46), (2.14, 0.26), (0.0, 0.22), (-2.0, 0.24)]
_SEDAN_PANES: list[_Points] = [
    [(-1.42, 0.99), (-0.95, 1.32), (-0.24, 1.39), (-0.24, 0.98)],
    [(-0.12, 0.98), (-0.12, 1.39), (0.28, 1.36), (0.92, 0.99)],
]
_VAN: _Points = [(-2.52, 0.32), (-2.55, 1.9), (-2.40, 2.14), (-0.6, 2.18), (1.05, 2.12), (1.62, 1.72), (1.98, 1.16)]
_VAN += [(2.42, 0.98), (2.50, 0.50), (2.36, 0.26), (0.0, 0.22), (-2.3, 0.24)]
_VAN_PANES: list[_Points] = [[(0.55, 1.18), (0.55, 1.92), (1.08, 1.92), (1.74, 1.20)]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Vehicle:
    """What one car or van looks like."""

    body: Color
    van: bool = False
    engine: float | None = 36.0
    """Apparent temperature of the hood in degrees Celsius; None: parked long ago, everything cold and dark."""

    @property
    def box_m(self) -> tuple[float, float, float, float]:
        """(left, top, right, bottom) of everything painted, the light of the lamps included."""
        return -3.3, (-2.3 if self.van else -1.6), 3.2 + _BEAM_M, 0.62

    @property
    def reach_m(self) -> float:
        """How far body, light and shadow extend to either side."""
        return 3.2 + _BEAM_M

    @property
    def cycle_m(self) -> float:
        """Ground covered until the spokes of the wheels stand as before."""
        return 2.0 * np.pi * _WHEEL_RADIUS_M / _SPOKES

    def paint(self, canvas: Canvas, climate: Climate, phase: float) -> None:
        """Paint the vehicle with its wheels at a phase in [0, 1), on a canvas in meters."""
        outline, panes = (_VAN, _VAN_PANES) if self.van else (_SEDAN, _SEDAN_PANES)
        canvas.ellipse(0.0, -0.02, 2.3, 0.07, Paint((0, 0, 0)), opacity=0.75, soft=0.07)
        if self.engine is not None:
            canvas.halo(-0.2, 0.05, (1.0, 0.12), kelvin=4.5)  # the road under the engine and the exhaust
        canvas.polygon(_down(smooth(outline)), Paint(self.body, climate.metal))
        self._shade(canvas, climate, outline)
        for pane in panes:
            canvas.polygon(_down(smooth(pane, rounds=1)), Paint((72, 62, 54), climate.glass - 3.0))
            canvas.polygon(_down(pane[:3]), Paint((176, 164, 150)), opacity=0.30)
        if not self.van and self.engine is not None:
            canvas.ellipse(0.28, -1.13, 0.10, 0.13, Paint((60, 72, 92)), opacity=0.6)
        for wheel_x in (-1.62, 1.52) if self.van else (-1.38, 1.36):
            self._wheel(canvas, climate, wheel_x, phase)
        self._lamps(canvas, climate)

    def _shade(self, canvas: Canvas, climate: Climate, outline: _Points) -> None:
        """Light from above on the body, seams; heat of the engine under the hood; the cold sky mirrored by the roof."""
        front, roof = max(x for x, _ in outline), max(up for _, up in outline)
        low = [(x, min(up, 0.60)) for x, up in outline]
        canvas.polygon(_down(smooth(low)), Paint((16, 16, 18)), opacity=0.34, soft=0.05)
        canvas.rectangle(0.25 - front, -0.86, front - 0.35, -0.80, Paint((255, 255, 255)), opacity=0.28, soft=0.02)
        mirrored_sky = Paint(celsius=climate.sky_low_celsius)
        canvas.rectangle(-0.45 * front, 0.05 - roof, 0.14 * front, 0.14 - roof, mirrored_sky, opacity=0.7, soft=0.04)
        for seam in (-1.0, -0.12, 0.86):
            canvas.rectangle(
                seam - 0.011, -0.96, seam + 0.011, -0.34, Paint((10, 10, 12), climate.metal - 0.8), opacity=0.55
            )
        if self.engine is not None:
            canvas.ellipse(front - 0.72, -0.74, 0.42, 0.15, Paint(celsius=self.engine), opacity=0.85, soft=0.11)
            canvas.ellipse(front - 0.16, -0.52, 0.10, 0.12, Paint(celsius=self.engine + 4.0), opacity=0.9, soft=0.04)
            canvas.ellipse(0.30 - front, -0.26, 0.18, 0.06, Paint(celsius=self.engine + 8.0), opacity=0.9, soft=0.04)

    def _wheel(self, canvas: Canvas, climate: Climate, x: float, phase: float) -> None:
        warm = 0.0 if self.engine is None else 1.0
        y, rim = -_WHEEL_RADIUS_M, climate.metal + 14.0 * warm
        canvas.ellipse(x, y - 0.02, 0.40, 0.40, Paint((22, 22, 24), climate.metal + 2.0 * warm))
        canvas.ellipse(x, y, _WHEEL_RADIUS_M, _WHEEL_RADIUS_M, Paint((34, 33, 33), climate.metal + 8.0 * warm))
        canvas.ellipse(x, y, 0.215, 0.215, Paint((142, 142, 142), rim))
        for angle in 2.0 * np.pi * (np.arange(_SPOKES) + phase) / _SPOKES:
            canvas.ellipse(x + 0.15 * np.cos(angle), y + 0.15 * np.sin(angle), 0.045, 0.045, Paint((58, 58, 60)))
        canvas.ellipse(x, y, 0.08, 0.08, Paint((120, 120, 122), climate.metal + 24.0 * warm))

    def _lamps(self, canvas: Canvas, climate: Climate) -> None:
        front = 2.42 if self.van else 2.16
        lit = self.engine is not None and climate.lamps_lit
        canvas.ellipse(front - 0.05, -0.70, 0.10, 0.07, Paint((226, 236, 240), None, (225, 245, 250) if lit else None))
        canvas.ellipse(-front - 0.03, -0.78, 0.06, 0.10, Paint((40, 36, 170), None, (40, 40, 235) if lit else None))
        if not lit:
            return
        canvas.halo(front, -0.70, (0.16, 0.16), light=(150, 180, 200))
        canvas.halo(-front - 0.03, -0.78, (0.14, 0.14), light=(20, 20, 150))
        for reach, strength in ((0.9, 60.0), (1.6, 42.0), (2.3, 24.0)):
            beam = (0.72 * strength, 0.92 * strength, strength)
            canvas.halo(front + reach, 0.10, (0.45 * reach, 0.16), light=beam)


def _down(outline: _Points | npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(forward, up) to canvas coordinates, y downward."""
    return np.asarray(outline, np.float64) * (1.0, -1.0)
