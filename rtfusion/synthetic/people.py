"""Walkers of the synthetic scene, seen from the side; they stand on the origin, y downward, heading to the right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rtfusion.synthetic.canvas import Canvas, Color, Paint, smooth
from rtfusion.synthetic.climate import Climate

_Point = tuple[float, float]

_SWING_RAD = 0.46
_THIGH_M, _SHANK_M, _ANKLE_M = 0.44, 0.43, 0.085
_SKIN_CELSIUS = 33.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Person:
    """What one walker looks like."""

    height_m: float
    jacket: Color
    trousers: Color
    hair: Color
    skin: Color
    coat: bool = False
    backpack: Color | None = None
    warmth: float = 0.0
    """Kelvin that the clothes are warmer than the climate says."""

    @property
    def box_m(self) -> tuple[float, float, float, float]:
        """(left, top, right, bottom) of the body in any pose."""
        return -0.42 * self.height_m, -1.06 * self.height_m, 0.42 * self.height_m, 0.14

    @property
    def reach_m(self) -> float:
        """How far body and shadow extend to either side."""
        return self.height_m

    @property
    def cycle_m(self) -> float:
        """Ground covered by one cycle of two steps."""
        return 4.0 * (_THIGH_M + _SHANK_M) * float(np.sin(_SWING_RAD)) * self.height_m / 1.75

    def paint(self, canvas: Canvas, climate: Climate, phase: float) -> None:
        """Paint the body at a phase of its stride in [0, 1), on a canvas in meters."""
        canvas.ellipse(0.0, 0.0, 0.30, 0.03, Paint((0, 0, 0)), opacity=0.45, soft=0.045)
        _Pose(self, climate, 2.0 * np.pi * phase).paint(canvas)
        canvas.round_off(radius=0.045, bgr_loss=0.30, kelvin_loss=4.5)


class _Pose:
    """One pose of a person 1.75 m tall, scaled when painted: joints from the phase, parts from the far arm to the near."""

    def __init__(self, person: Person, climate: Climate, phase_rad: float) -> None:
        self._coat = person.coat
        self._scale = person.height_m / 1.75
        clothes = climate.clothes + person.warmth
        self._jacket = Paint(person.jacket, clothes - 1.0)
        self._trousers = Paint(person.trousers, clothes + 2.0)
        self._skin = Paint(person.skin, _SKIN_CELSIUS)
        self._shoe = Paint((38, 38, 42), clothes - 5.0)
        self._hair = Paint(person.hair, clothes + 4.0)
        self._backpack = None if person.backpack is None else Paint(person.backpack, clothes - 8.0)
        self._legs = [_leg_angles(phase_rad), _leg_angles(phase_rad + np.pi)]
        self._arms = [-0.48 * float(np.sin(phase_rad)), 0.48 * float(np.sin(phase_rad))]
        # The leg that reaches lower stands on the ground and carries the hip.
        reach = max(_THIGH_M * np.cos(thigh) + _SHANK_M * np.cos(shank) for thigh, shank in self._legs)
        self._hip_y = -float(reach) - _ANKLE_M
        self._shoulder = (0.045, self._hip_y - 0.47)

    def paint(self, canvas: Canvas) -> None:
        self._arm(canvas, self._arms[1], 0.72)
        self._leg(canvas, self._legs[1], 0.72)
        self._leg(canvas, self._legs[0], 1.0)
        self._torso(canvas)
        self._head(canvas)
        self._arm(canvas, self._arms[0], 1.06)

    def _limb(self, canvas: Canvas, start: _Point, end: _Point, radii: _Point, paint: Paint) -> None:
        (xa, ya), (xb, yb), (ra, rb) = (np.multiply(pair, self._scale) for pair in (start, end, radii))
        canvas.limb((xa, ya), (xb, yb), (ra, rb), paint)

    def _leg(self, canvas: Canvas, angles: tuple[float, float], light: float) -> None:
        thigh, shank = angles
        knee = (_THIGH_M * np.sin(thigh), self._hip_y + _THIGH_M * np.cos(thigh))
        ankle = (knee[0] + _SHANK_M * np.sin(shank), knee[1] + _SHANK_M * np.cos(shank))
        pitch = 0.75 * min(shank, 0.0) - 0.35 * max(shank, 0.0)
        heel = (ankle[0] - 0.055 * np.cos(pitch), ankle[1] + 0.055 * np.sin(pitch) + 0.035)
        toe = (ankle[0] + 0.165 * np.cos(pitch), ankle[1] - 0.165 * np.sin(pitch) + 0.05)
        self._limb(canvas, heel, toe, (0.047, 0.034), self._shoe.shaded(light))
        self._limb(canvas, (0.0, self._hip_y), knee, (0.098, 0.066), self._trousers.shaded(light))
        self._limb(canvas, knee, ankle, (0.066, 0.046), self._trousers.shaded(0.95 * light))

    def _arm(self, canvas: Canvas, swing: float, light: float) -> None:
        x, y = self._shoulder
        elbow = (x + 0.29 * np.sin(swing), y + 0.06 + 0.29 * np.cos(swing))
        bend = swing + 0.32 + 0.25 * max(swing, 0.0)
        wrist = (elbow[0] + 0.25 * np.sin(bend), elbow[1] + 0.25 * np.cos(bend))
        hand = (wrist[0] + 0.05 * np.sin(bend), wrist[1] + 0.05 * np.cos(bend))
        self._limb(canvas, wrist, hand, (0.036, 0.042), self._skin.shaded(light))
        self._limb(canvas, (x, y + 0.06), elbow, (0.066, 0.052), self._jacket.shaded(light))
        self._limb(canvas, elbow, wrist, (0.052, 0.042), self._jacket.shaded(0.97 * light))

    def _torso(self, canvas: Canvas) -> None:
        top, hip = self._shoulder[1], self._hip_y
        hem, flare = (hip + 0.30, 0.165) if self._coat else (hip + 0.05, 0.125)
        if self._backpack is not None:
            pack = [(-0.10, top + 0.03), (-0.30, top + 0.08), (-0.31, top + 0.40), (-0.10, top + 0.44)]
            canvas.polygon(smooth(pack) * self._scale, self._backpack)
        back = [(-flare, hem), (-0.125, hip - 0.10), (-0.135, top + 0.12), (-0.085, top - 0.02)]
        front = [(0.10, top - 0.03), (0.165, top + 0.12), (0.14, hip - 0.10), (flare, hem)]
        canvas.polygon(smooth(back + front) * self._scale, self._jacket)
        collar = [(-0.05, top - 0.05), (0.09, top - 0.06), (0.10, top), (-0.06, top + 0.01)]
        canvas.polygon(smooth(collar) * self._scale, self._jacket.shaded(0.8))

    def _head(self, canvas: Canvas) -> None:
        x, y = self._shoulder[0] + 0.035, self._shoulder[1] - 0.185
        scale = self._scale
        self._limb(canvas, self._shoulder, (x, y + 0.04), (0.058, 0.052), self._skin.shaded(0.85))
        canvas.ellipse((x + 0.012) * scale, y * scale, 0.088 * scale, 0.118 * scale, self._skin)
        canvas.ellipse((x + 0.098) * scale, (y + 0.022) * scale, 0.018 * scale, 0.022 * scale, self._skin)
        crown = [(0.085, -0.055), (0.07, -0.118), (-0.02, -0.142), (-0.10, -0.09)]
        nape = [(-0.108, 0.02), (-0.07, 0.085), (-0.03, 0.03), (-0.005, -0.045)]
        canvas.polygon(np.add(smooth(crown + nape), (x, y)) * scale, self._hair)


def _leg_angles(phase_rad: float) -> tuple[float, float]:
    """Angles of thigh and shank from the vertical, forward positive; the knee bends while the leg swings forward."""
    thigh = _SWING_RAD * float(np.sin(phase_rad)) + 0.04
    knee = 0.08 + 0.95 * max(0.0, float(np.cos(phase_rad - 0.35))) ** 1.6
    return thigh, thigh - knee
