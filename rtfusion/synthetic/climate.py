"""The climates of the synthetic street: color of the light, temperatures, lamps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rtfusion.synthetic.canvas import Array, Color, Paint
from rtfusion.synthetic.layout import LAMP_XS_M, LAMP_Z_M, LANTERN_X_M, LANTERN_Z_M, project


@dataclass(frozen=True, kw_only=True, slots=True)
class Climate:
    """The weather of a scene. Temperatures are apparent ones, in degrees Celsius."""

    sky_high: Paint
    sky_low: Paint
    cloud: Paint
    cloud_share: float
    ambient: Color
    """Light that falls everywhere, as a factor on (B, G, R)."""
    shadow: float
    """Opacity of the shadows thrown by the sun."""
    lamps_lit: bool
    fire: bool
    """Something burns, and smoke fills the street."""
    wall: float
    glass: float
    road: float
    pavement: float
    foliage: float
    metal: float
    clothes: float
    mottle: float
    """How much surfaces vary, in kelvin."""


_KINDS = ("day", "night", "smoke")
_VALUES: dict[str, tuple[Any, Any, Any]] = {
    "sky_high": (Paint((206, 150, 88), -10.0), Paint((40, 24, 14), -10.0), Paint((186, 176, 164), -8.0)),
    "sky_low": (Paint((236, 222, 202), -2.0), Paint((74, 52, 42), -5.0), Paint((208, 204, 198), 0.0)),
    "cloud": (Paint((250, 248, 244), -1.0), Paint((66, 52, 46), -4.0), Paint((222, 220, 216), 1.0)),
    "cloud_share": (0.75, 0.5, 0.6),
    "ambient": ((1.0, 1.0, 1.0), (0.20, 0.148, 0.118), (0.90, 0.91, 0.92)),
    "shadow": (0.45, 0.0, 0.0),
    "lamps_lit": (False, True, False),
    "fire": (False, False, True),
    "wall": (10.5, 5.5, 7.5),
    "glass": (3.0, 2.0, 2.5),
    "road": (12.0, 4.5, 7.0),
    "pavement": (13.5, 3.5, 8.0),
    "foliage": (6.0, 1.5, 4.5),
    "metal": (8.0, 0.0, 5.0),
    "clothes": (24.0, 20.0, 22.5),
    "mottle": (1.3, 0.9, 1.0),
}
CLIMATES = {
    kind: Climate(**{name: values[index] for name, values in _VALUES.items()}) for index, kind in enumerate(_KINDS)
}


class Light:
    """How much light falls where in the scene, as a factor on (B, G, R): the ambient light and pools under the lamps."""

    def __init__(self, climate: Climate) -> None:
        self._ambient = np.asarray(climate.ambient, np.float32)
        pools: list[tuple[float, ...]] = []  # x, y, radius x, radius y, then the gains of B, G, R
        if climate.lamps_lit:
            for x_m in LAMP_XS_M:
                x, base = project(x_m, LAMP_Z_M)
                pools += [(x, base + 14, 95, 34, 0.36, 0.58, 0.78), (x, base - 82, 84, 84, 0.21, 0.35, 0.48)]
            x, base = project(LANTERN_X_M, LANTERN_Z_M)
            pools += [(x, base - 10, 190, 62, 0.40, 0.62, 0.80), (x, base - 260, 60, 70, 0.30, 0.46, 0.60)]
        self._pools = np.asarray(pools, np.float32).reshape(-1, 7)

    def at(self, x: Array, y: Array) -> Array:
        """(H, W, 3) factors at positions x of shape (1, W) and y of shape (H, 1)."""
        across = np.exp(-0.5 * ((x.T - self._pools[:, 0]) / self._pools[:, 2]) ** 2)
        down = np.exp(-0.5 * ((y - self._pools[:, 1]) / self._pools[:, 3]) ** 2)
        planes = [(down * gain) @ across.T for gain in self._pools[:, 4:].T]
        return np.minimum(np.stack(planes, axis=2) + self._ambient, 1.15).astype(np.float32)
