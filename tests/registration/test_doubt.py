from __future__ import annotations

import numpy as np
import pytest

from rtfusion.registration import Calibration, Quality, register
from rtfusion.registration.doubt import KNOWN_FRAMES, NEW_PX, of_displacement, told
from rtfusion.registration.parallax import YOUNG

SIZE_PX = (320, 240)


def rig(quality: Quality | None) -> Calibration:
    return Calibration.from_homography(
        visible_from_thermal_px=np.eye(3), visible_size_px=SIZE_PX, thermal_size_px=SIZE_PX
    ).model_copy(update={"quality": quality})


def by_distance(*pairs: tuple[float, float]) -> Quality:
    return Quality(rms_px=0.3, views=20, uncertainty_px=pairs)


@pytest.mark.parametrize(
    ("quality", "doubt_px"),
    [
        (None, None),
        (Quality(rms_px=0.3, views=20), None),
        (by_distance((2.0, 1.5), (4.0, 1.5), (8.0, 1.5)), 1.5),
        (Quality(rms_px=0.3, views=4, standard_deviations={"picture_px": 2.5, "corner_px": 4.0}), 2.5),
    ],
)
def test_a_calibration_tells_its_own_doubt_or_nothing(quality: Quality | None, doubt_px: float | None) -> None:
    found = told(rig(quality), width_px=SIZE_PX[0])
    assert (None if found is None else float(found[0, 0])) == (
        None if doubt_px is None else pytest.approx(doubt_px, abs=1e-3)
    )


@pytest.mark.parametrize(("grid", "factor"), [("visible", 1.0), ("thermal", 0.5)])
def test_it_is_told_in_pixels_of_the_grid(grid: str, factor: float) -> None:
    quality = Quality(rms_px=0.3, views=4, standard_deviations={"picture_px": 2.0})
    made = register(visible_size_px=(640, 480), thermal_size_px=SIZE_PX, calibration=rig(quality), grid=grid)
    assert made.doubt_px is not None
    assert made.doubt_px.shape == (1, 1)
    assert float(made.doubt_px[0, 0]) == pytest.approx(4.0 * factor, rel=0.01)


def test_a_map_is_in_doubt_where_it_changes_where_it_has_to_go_and_where_something_is_new() -> None:
    flat, age = np.full((20, 30), 3.0, np.float32), np.full((20, 30), 100.0, np.float32)
    assert of_displacement(flat, goal_px=flat, age_frames=age).max() == 0
    step = flat.copy()
    step[:, 15:] = 13.0
    doubt_px = of_displacement(step, goal_px=step, age_frames=age)
    assert doubt_px[:, 13:17].min() > 5
    assert doubt_px[:, :12].max() == doubt_px[:, 18:].max() == 0
    goal_px = flat.copy()
    goal_px[4, 5] = -1.0
    assert of_displacement(flat, goal_px=goal_px, age_frames=age)[4, 5] == 4.0
    age[7, 8] = 0
    doubt_px = of_displacement(flat, goal_px=flat, age_frames=age)
    assert doubt_px[7, 8] == pytest.approx(NEW_PX)
    assert of_displacement(flat, goal_px=flat, age_frames=None).max() == 0, (
        "of stills nothing is older than the picture"
    )
    assert KNOWN_FRAMES == YOUNG
