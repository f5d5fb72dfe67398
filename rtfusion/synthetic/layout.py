"""The plan of the synthetic street, and its projection onto the picture plane.

Two coordinate systems. *Street*: meters, x to the right, z away from the camera, up from the ground. *Scene*: the picture
plane, 480 units high, x from the middle, y downward from the center of the top row; for a visible image of 480 rows a scene
unit is a pixel.
"""

from __future__ import annotations

SCENE_HEIGHT = 480.0
HORIZON_Y = 172.0
FOCAL = 560.0
CAMERA_UP_M = 3.6

FACADE_Z_M = 20.0
FAR_CURB_Z_M = 16.4
NEAR_CURB_Z_M = 9.2
PARKED_Z_M = 15.4
LANES_Z_M = (10.5, 13.0)
FAR_WALKERS_Z_M = (17.3, 17.8, 18.3, 18.8, 19.2)
NEAR_WALKERS_Z_M = (7.05, 7.45, 7.9, 8.3, 8.75)

LAMP_XS_M = (-17.4, -8.4, 0.6, 9.6, 18.6)
LAMP_Z_M = 16.9
LANTERN_X_M, LANTERN_Z_M = 2.15, 6.9
TREE_XS_M = (-22.0, -13.2, -3.3, 5.4, 13.6, 23.0)
TREE_Z_M = 16.75
NEAR_TREE_X_M, NEAR_TREE_Z_M = -3.62, 6.6
WALKWAY_UP_M = 2.1
"""Those who walk at distances of one's own choice do so on walkways, so high that they are in the picture from 2 m on."""


def scale_at(z_m: float) -> float:
    """Scene units per meter at a distance."""
    return FOCAL / z_m


def parallax(z_m: float, *, baseline_m: float) -> float:
    """By how many scene units a camera so far to the right sees a thing farther left than the camera of the scene does."""
    return FOCAL * baseline_m / z_m


def ground_z_m(y: float) -> float:
    """The distance of the background in a row of the scene: of the ground, and from the foot of the houses up of those."""
    return min(FACADE_Z_M, FOCAL * CAMERA_UP_M / max(y - HORIZON_Y, 1e-6))


def project(x_m: float, z_m: float, up_m: float = 0.0) -> tuple[float, float]:
    """Scene position of a point of the street."""
    return FOCAL * x_m / z_m, HORIZON_Y + FOCAL * (CAMERA_UP_M - up_m) / z_m
