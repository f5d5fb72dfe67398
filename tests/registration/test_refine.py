from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from rtfusion.clock import NS_PER_S
from rtfusion.fusion.color import luminance
from rtfusion.registration import Calibration, Registration, register
from rtfusion.registration.refine import Refiner
from rtfusion.synthetic import Scene
from rtfusion.types import Band
from tests.calibration.pictures import SIZE_PX, scene, similarity, view

RATE_HZ = 25
CANVAS = scene(1, shapes=140)
VISIBLE = view(CANVAS, None)
STARTED = similarity(shift_px=(4.0, -3.0), turn_deg=1.0, scale=1.02)


def rig(truth: np.ndarray, *, grid: str = "visible") -> Registration:
    calibration = Calibration.from_homography(
        visible_from_thermal_px=truth, visible_size_px=SIZE_PX, thermal_size_px=SIZE_PX
    )
    return register(visible_size_px=SIZE_PX, thermal_size_px=SIZE_PX, calibration=calibration, grid=grid)


def off_px(registration: Registration, truth: np.ndarray, *, grid: str = "visible") -> float:
    """Median distance, in grid pixels, between where the thermal and the visible picture put the same thing."""
    x, y = (registration.thermal if grid == "visible" else registration.visible).maps or (None, None)
    assert x is not None
    assert y is not None
    rows, columns = np.mgrid[20:220:10, 20:300:10]
    source = np.stack([x[rows, columns].ravel(), y[rows, columns].ravel(), np.ones(rows.size)])
    there = (truth if grid == "visible" else np.linalg.inv(truth)) @ source
    gaps = there[:2] / there[2] - np.stack([columns.ravel(), rows.ravel()])
    return float(np.median(np.linalg.norm(gaps, axis=0)))


def watch(
    refiner: Refiner,
    base: Registration,
    thermal: np.ndarray,
    *,
    seconds: float,
    begin_s: float = 0.0,
    grid: str = "visible",
) -> Iterator[Registration]:
    """What the refiner gives for every frame of a still scene."""
    for index in range(round(seconds * RATE_HZ)):
        timestamp_ns = round((begin_s + index / RATE_HZ) * NS_PER_S)
        registration = refiner.registration(base, timestamp_ns=timestamp_ns)
        refiner.observe(
            visible=registration.visible(VISIBLE), thermal=registration.thermal(thermal), timestamp_ns=timestamp_ns
        )
        yield registration


@pytest.mark.parametrize("grid", ["visible", "thermal"])
def test_a_knock_is_followed_within_three_seconds_and_without_a_jump(grid: str) -> None:
    base, refiner = rig(STARTED, grid=grid), Refiner(grid=grid)
    *_, before = watch(refiner, base, view(CANVAS, STARTED), seconds=3.0, grid=grid)
    assert before is base  # nothing was wrong, so nothing moved, not even by a rounding
    knocked = similarity(shift_px=(9.0, 0.3), turn_deg=1.0, scale=1.02)
    steps = list(watch(refiner, base, view(CANVAS, knocked), seconds=3.0, begin_s=3.0, grid=grid))
    assert off_px(steps[0], knocked, grid=grid) > 5.5
    assert off_px(steps[-1], knocked, grid=grid) < 0.5
    offs = [off_px(step, knocked, grid=grid) for step in steps]
    assert np.abs(np.diff(offs)).max() < 0.4
    assert refiner.state["state"] in {"watching", "moving"}
    assert np.hypot(*refiner.state["shift_px"]) == pytest.approx(6.0, abs=0.6)


def test_what_is_left_of_a_knock_is_less_than_the_bands_differ_by_in_the_coarse_look() -> None:
    """A street: its bands do not show the same edges, as those of one drawing do."""
    street, size_px = Scene(seed=3), (640, 480)
    visible = luminance(street.render(Band.VISIBLE, 1.0))
    knock = np.array([[1.0, 0.0, 5.2], [0.0, 1.0, 3.0]])
    thermal = cv2.warpAffine(street.render(Band.THERMAL, 1.0), knock, size_px, borderMode=cv2.BORDER_REPLICATE)
    same = Calibration.from_homography(
        visible_from_thermal_px=np.eye(3), visible_size_px=size_px, thermal_size_px=size_px
    )
    base, refiner = (
        register(visible_size_px=size_px, thermal_size_px=size_px, calibration=same),
        Refiner(grid="visible"),
    )
    for index in range(round(3.0 * RATE_HZ)):
        timestamp_ns = round(index / RATE_HZ * NS_PER_S)
        registered = refiner.registration(base, timestamp_ns=timestamp_ns).thermal(np.asarray(thermal, np.uint8))
        refiner.observe(visible=visible, thermal=np.asarray(registered, np.uint8), timestamp_ns=timestamp_ns)
    x_px, y_px = refiner.state["shift_px"]
    assert np.hypot(x_px + 5.2, y_px + 3.0) < 0.4


def test_focus_and_turn_are_followed_too() -> None:
    base, refiner = rig(STARTED), Refiner(grid="visible")
    turned = similarity(shift_px=(5.0, -2.0), turn_deg=2.0, scale=1.04)
    *_, last = watch(refiner, base, view(CANVAS, turned), seconds=4.0)
    assert off_px(last, turned) < 0.5
    assert refiner.state["turn_deg"] == pytest.approx(1.0, abs=0.25)
    assert refiner.state["scale"] == pytest.approx(1.04 / 1.02, abs=0.004)


@pytest.mark.parametrize("picture", ["blank", "another place", "noise"])
def test_a_scene_that_cannot_tell_moves_nothing(picture: str) -> None:
    thermal = {
        "blank": np.full(SIZE_PX[::-1], 90, np.uint8),
        "another place": view(scene(5, shapes=140), STARTED),
        "noise": np.random.default_rng(1).integers(0, 255, SIZE_PX[::-1], dtype=np.uint8),
    }[picture]
    base, refiner = rig(STARTED), Refiner(grid="visible")
    *_, last = watch(refiner, base, thermal, seconds=4.0)
    assert last is base
    state = refiner.state
    assert state["state"] == "frozen"
    assert state["reason"]
    assert state["shift_px"] == [0.0, 0.0]


def test_one_odd_measurement_moves_nothing() -> None:
    base, refiner = rig(STARTED), Refiner(grid="visible")
    right, wrong = view(CANVAS, STARTED), view(CANVAS, similarity(shift_px=(12.0, -3.0), turn_deg=1.0, scale=1.02))
    list(watch(refiner, base, right, seconds=1.0))
    list(watch(refiner, base, wrong, seconds=0.4, begin_s=1.0))
    *_, last = watch(refiner, base, right, seconds=2.0, begin_s=1.4)
    assert last is base


def test_the_correction_is_bounded() -> None:
    base, refiner = rig(np.eye(3)), Refiner(grid="visible")
    for turn in range(4):  # each knock is again within reach of the patches
        knocked = similarity(shift_px=(5.0 * (turn + 1), 0.0))
        *_, last = watch(refiner, base, view(CANVAS, knocked), seconds=3.0, begin_s=3.0 * turn)
    assert refiner.state["state"] == "bounded"
    assert np.hypot(*refiner.state["shift_px"]) == pytest.approx(0.05 * SIZE_PX[0], abs=0.5)
    assert off_px(last, knocked) > 3.0


def test_another_registration_starts_afresh() -> None:
    refiner = Refiner(grid="visible")
    knocked = similarity(shift_px=(9.0, -3.0), turn_deg=1.0, scale=1.02)
    *_, moved = watch(refiner, rig(STARTED), view(CANVAS, knocked), seconds=4.0)
    assert off_px(moved, knocked) < 0.5
    nudged = rig(knocked)
    assert refiner.registration(nudged, timestamp_ns=9 * NS_PER_S) is nudged
    assert refiner.state["shift_px"] == [0.0, 0.0]


def test_how_far_off_it_is_is_known_once_it_was_measured_and_while_it_moves() -> None:
    base, refiner = rig(STARTED), Refiner(grid="visible")
    assert refiner.off_px is None
    list(watch(refiner, base, view(CANVAS, STARTED), seconds=3.0))
    assert refiner.off_px == 0.0
    knocked = similarity(shift_px=(9.0, -3.0), turn_deg=1.0, scale=1.02)
    told_px = [refiner.off_px for _ in watch(refiner, base, view(CANVAS, knocked), seconds=4.0, begin_s=3.0)]
    assert max(told_px, default=0.0) == pytest.approx(5.0, abs=1.0)
    assert told_px[-1] == 0.0
