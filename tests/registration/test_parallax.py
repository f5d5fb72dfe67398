from __future__ import annotations

import cv2
import numpy as np
import pytest

from rtfusion.errors import CalibrationError
from rtfusion.registration import Calibration, CameraModel, Pose, Registration, register
from rtfusion.registration.parallax import (
    Lines,
    Parallax,
    lines_of,
    open_parallax,
)
from rtfusion.synthetic import Scene
from rtfusion.types import Band

SIZE_PX = (320, 240)
FOCAL_PX, BASELINE_M, SET_M = 280.0, 0.12, 8.0
START_S = 1.6
FRAME_NS = 33_333_333


def rig(distance_m: float = SET_M, translation_m: tuple[float, float, float] = (BASELINE_M, 0, 0)) -> Calibration:
    intrinsics = ((FOCAL_PX, 0, 159.5), (0, FOCAL_PX, 85.75), (0, 0, 1))
    camera = CameraModel(width_px=SIZE_PX[0], height_px=SIZE_PX[1], intrinsics=intrinsics)
    pose = Pose(rotation=((1, 0, 0), (0, 1, 0), (0, 0, 1)), translation_m=translation_m)
    return Calibration.from_pose(visible=camera, thermal=camera, pose=pose, distance_m=distance_m, provenance={})


def registered(calibration: Calibration | None) -> Registration:
    return register(visible_size_px=SIZE_PX, thermal_size_px=SIZE_PX, calibration=calibration)


def shown(scene: Scene, parallax: Parallax, base: Registration, *, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """By how much the thermal picture is displaced after some frames, (H, W) px, and the distances of what is seen."""
    for index in range(frames):
        seconds = START_S + index * FRAME_NS / 1e9
        pictures = {band.value: scene.render(band, seconds) for band in Band}
        result = parallax.registration(base, **pictures, timestamp_ns=index * FRAME_NS)
    assert base.thermal.maps is not None
    assert result.thermal.maps is not None
    return base.thermal.maps[0] - result.thermal.maps[0], scene.distances_m(seconds)


def true_px(distance_m: float | np.ndarray) -> float | np.ndarray:
    return FOCAL_PX * BASELINE_M * (1 / distance_m - 1 / SET_M)


@pytest.fixture(scope="module")
def street() -> Scene:
    return Scene(visible_size_px=SIZE_PX, baseline_m=BASELINE_M, walkers_m=(5.0,))


def test_the_lines_of_a_rig_are_those_of_its_pose() -> None:
    lines = lines_of(rig(), registered(rig()))
    assert lines.direction == pytest.approx((-1.0, 0.0), abs=1e-6)
    assert lines.least_px == pytest.approx(true_px(1e9), abs=1e-2)
    assert lines.most_px == pytest.approx(true_px(1.5), abs=1e-2)
    above = rig(translation_m=(0, 0.1, 0))
    assert lines_of(above, registered(above)).direction == pytest.approx((0.0, -1.0), abs=1e-6)


@pytest.mark.parametrize("kind", ["dense", "layers"])
def test_people_at_other_distances_come_to_their_places(street: Scene, kind: str) -> None:
    base = registered(rig())
    parallax = open_parallax(kind, calibration=rig(), base=base, still=False)
    moved_px, distances_m = shown(street, parallax, base, frames=15)
    for distance_m, bound_px in ((5.0, 1.5), (16.75, 1.6)):
        there = np.abs(distances_m - distance_m) < 0.1
        assert there.sum() > 200
        off_px = np.median(np.abs(moved_px[there] - true_px(distance_m)))
        assert off_px < bound_px < abs(true_px(distance_m)) + 0.2
    assert parallax.state["kind"] == kind
    assert parallax.state["measured"] >= 4
    assert parallax.state["in_use_px"][1] > 1.0


def test_a_rig_without_a_pose_tells_along_which_axis_its_cameras_lie() -> None:
    wide = Scene(visible_size_px=SIZE_PX, baseline_m=0.3, walkers_m=(5.0,))
    base = registered(rig(translation_m=(0.3, 0, 0)))
    parallax = open_parallax("layers", calibration=None, base=base, still=False)
    assert parallax.state["direction"] is None
    moved_px, distances_m = shown(wide, parallax, base, frames=30)
    assert parallax.state["direction"] == [1.0, 0.0]
    assert abs(np.median(moved_px[np.abs(distances_m - 16.75) < 0.1])) > 2.0


def test_once_the_axis_is_known_nothing_jumps_to_its_place() -> None:
    rng = np.random.default_rng(6)
    texture = rng.integers(0, 255, (40, 54), np.uint8).repeat(6, axis=0).repeat(6, axis=1)
    beside = np.roll(texture, 6, axis=1)
    base = register(visible_size_px=(324, 240), thermal_size_px=(324, 240), calibration=None)
    parallax = Parallax(dense=True)
    before, steps = np.zeros((1, 1), np.float32), []
    for index in range(60):
        parallax.registration(base, visible=texture, thermal=beside, timestamp_ns=index * FRAME_NS)
        now = parallax.displacement_px
        assert now is not None
        steps.append(float(np.percentile(np.abs(now - before), 98)))
        before = now.copy()
    assert parallax.state["direction"] == [1.0, 0.0]
    assert max(steps) <= 0.5
    assert np.median(before) == pytest.approx(6.0, abs=1.0)


def test_of_cameras_of_one_view_no_axis_is_told_and_nothing_is_moved() -> None:
    same = Scene(visible_size_px=SIZE_PX, walkers_m=(5.0,))
    base = registered(None)
    parallax = open_parallax("layers", calibration=None, base=base, still=False)
    for index in range(22):
        pictures = {band.value: same.render(band, START_S + index / 30) for band in Band}
        result = parallax.registration(base, **pictures, timestamp_ns=index * FRAME_NS)
    assert parallax.state["direction"] is None
    assert result is base


def test_nothing_moves_where_neither_band_tells() -> None:
    base = registered(None)
    parallax = Parallax(dense=True, lines=Lines(direction=(1.0, 0.0), least_px=-5, most_px=15))
    blank = np.full(SIZE_PX[::-1], 90, np.uint8)
    for index in range(8):
        result = parallax.registration(base, visible=blank, thermal=blank, timestamp_ns=index * FRAME_NS)
    assert result.thermal.maps is not None
    columns = np.arange(SIZE_PX[0], dtype=np.float32)
    assert np.abs(result.thermal.maps[0] - columns).max() < 0.05


def test_what_has_been_seen_moves_by_a_bounded_step_a_frame() -> None:
    """A still scene whose thermal camera is pushed aside: all of it is displaced at once, and follows slowly."""
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 255, (40, 54), np.uint8).repeat(6, axis=0).repeat(6, axis=1)
    pushed = np.roll(texture, -8, axis=1)
    base = register(visible_size_px=(324, 240), thermal_size_px=(324, 240), calibration=None)
    parallax = Parallax(dense=True, lines=Lines(direction=(1.0, 0.0), least_px=-12, most_px=12))
    before, steps = None, []
    for index in range(80):
        thermal = texture if index < 20 else pushed
        parallax.registration(base, visible=texture, thermal=thermal, timestamp_ns=index * FRAME_NS)
        now = parallax.displacement_px
        assert now is not None
        if before is not None:
            steps.append(float(np.percentile(np.abs(now - before), 98)))
        before = now.copy()
    assert max(steps) <= 0.5
    assert np.median(before) == pytest.approx(-8.0, abs=1.0)


def test_somebody_narrow_who_walks_comes_to_another_place_by_bounded_steps() -> None:
    """All of him is beside an outline, where a wall is that lies elsewhere."""
    rng = np.random.default_rng(5)
    wall = rng.integers(0, 90, (40, 54), np.uint8).repeat(6, axis=0).repeat(6, axis=1)
    narrow = rng.integers(150, 255, (60, 5), np.uint8).repeat(4, axis=0).repeat(4, axis=1)
    base = register(visible_size_px=(324, 240), thermal_size_px=(324, 240), calibration=None)
    parallax = Parallax(dense=True, lines=Lines(direction=(1.0, 0.0), least_px=-12, most_px=12))
    his_px = []
    for index in range(36):
        visible, thermal = wall.copy(), wall.copy()
        left = 10 + 6 * index
        seen_at = left + (6 if index < 18 else 4)
        visible[:, left : left + 20] = narrow
        thermal[:, seen_at : seen_at + 20] = narrow
        parallax.registration(base, visible=visible, thermal=thermal, timestamp_ns=index * FRAME_NS)
        now = parallax.displacement_px
        assert now is not None
        his_px.append(np.median(now[20:100, left // 2 + 2 : left // 2 + 8], axis=0))
    settled, later = his_px[12:18], his_px[30:]
    assert np.median(settled) == pytest.approx(6.0, abs=1.0)
    assert np.median(later) == pytest.approx(4.0, abs=1.0)
    assert np.abs(np.diff(his_px[12:], axis=0)).max() < 0.5


def test_what_appears_is_in_its_place_and_what_stands_beside_it_does_not_move() -> None:
    """A near thing is there from one frame to the next, in front of a wall that stays."""
    rng = np.random.default_rng(2)
    wall, near = (
        rng.integers(*ends, (40, 54), np.uint8).repeat(6, axis=0).repeat(6, axis=1) for ends in ((0, 90), (150, 255))
    )
    base = register(visible_size_px=(324, 240), thermal_size_px=(324, 240), calibration=None)
    parallax = Parallax(dense=True, lines=Lines(direction=(1.0, 0.0), least_px=-12, most_px=12))
    found, beside = [], []
    for index in range(20):
        visible, thermal = wall.copy(), wall.copy()
        if index >= 6:
            visible[60:180, 100:220] = near[60:180, 100:220]
            thermal[60:180, 108:228] = near[60:180, 100:220]
        parallax.registration(base, visible=visible, thermal=thermal, timestamp_ns=index * FRAME_NS)
        now = parallax.displacement_px
        assert now is not None
        found.append(float(np.median(now[35:85, 55:105])))
        beside.append(now[35:85, 125:155].copy())
    assert abs(found[5]) < 1.0
    assert found[6] == pytest.approx(8.0, abs=1.5)
    assert found[-1] == pytest.approx(8.0, abs=1.0)
    assert max(float(np.abs(np.diff(beside, axis=0)).max(axis=0).max()) for beside in [beside]) < 0.5


def test_what_somebody_hid_is_in_its_place_as_soon_as_it_is_seen_again() -> None:
    """A near thing passes in front of a wall that lies 8 px beside what is registered."""
    rng = np.random.default_rng(3)
    wall, near = (
        rng.integers(*ends, (40, 54), np.uint8).repeat(6, axis=0).repeat(6, axis=1) for ends in ((0, 90), (150, 255))
    )
    base = register(visible_size_px=(324, 240), thermal_size_px=(324, 240), calibration=None)
    parallax = Parallax(dense=True, lines=Lines(direction=(1.0, 0.0), least_px=-12, most_px=12))
    off_px = []
    for index in range(36):
        visible, thermal = wall.copy(), np.roll(wall, 8, axis=1)
        left = 8 * (index - 16)
        if left > 0:
            visible[60:180, left : left + 80] = near[60:180, :80]
            thermal[60:180, left : left + 80] = near[60:180, :80]
        parallax.registration(base, visible=visible, thermal=thermal, timestamp_ns=index * FRAME_NS)
        now = parallax.displacement_px
        assert now is not None
        if left > 32:  # what it leaves behind from this frame to the next
            off_px.append(float(np.median(np.abs(now[35:85, (left - 8) // 2 : left // 2] - 8.0))))
    assert np.median(off_px) < 3.0


def test_what_the_thermal_camera_does_not_see_tells_nothing() -> None:
    """Its picture ends in the middle of the visible one: beyond, what the registration says stays."""
    rng = np.random.default_rng(4)
    texture = rng.integers(0, 255, (40, 54), np.uint8).repeat(6, axis=0).repeat(6, axis=1)
    half = Calibration.from_homography(
        visible_from_thermal_px=np.eye(3), visible_size_px=(324, 240), thermal_size_px=(162, 240)
    )
    base = register(visible_size_px=(324, 240), thermal_size_px=(162, 240), calibration=half)
    parallax = Parallax(dense=True, lines=Lines(direction=(1.0, 0.0), least_px=-12, most_px=12))
    thermal = np.ascontiguousarray(np.roll(texture, 8, axis=1)[:, :162])
    parallax.registration(base, visible=texture, thermal=thermal, timestamp_ns=0)
    now = parallax.displacement_px
    assert now is not None
    assert np.median(now[:, 8:60]) == pytest.approx(8.0, abs=1.0)
    assert np.abs(now[:, 120:]).max() < 0.1


def test_after_a_gap_it_starts_anew_and_stills_have_no_memory() -> None:
    rng = np.random.default_rng(1)
    texture = rng.integers(0, 255, (40, 54), np.uint8).repeat(6, axis=0).repeat(6, axis=1)
    base = register(visible_size_px=(324, 240), thermal_size_px=(324, 240), calibration=None)
    lines = Lines(direction=(1.0, 0.0), least_px=-12, most_px=12)
    for parallax, gap_ns in (
        (Parallax(dense=True, lines=lines), 10**9),
        (Parallax(dense=True, lines=lines, still=True), 1),
    ):
        parallax.registration(base, visible=texture, thermal=texture, timestamp_ns=0)
        parallax.registration(base, visible=texture, thermal=np.roll(texture, 6, axis=1), timestamp_ns=gap_ns)
        assert parallax.displacement_px is not None
        assert np.median(parallax.displacement_px) == pytest.approx(6.0, abs=1.0), "at once: it is another picture"


def test_what_cannot_be_is_refused() -> None:
    base = registered(None)
    with pytest.raises(CalibrationError, match="holds no pose"):
        open_parallax("dense", calibration=None, base=base, still=False)
    one_place = rig(translation_m=(0.0001, 0, 0))
    with pytest.raises(CalibrationError, match="leave --parallax out"):
        open_parallax("layers", calibration=one_place, base=registered(one_place), still=False)


def test_the_map_is_in_doubt_at_the_outlines_of_somebody_near_and_not_within_him(street: Scene) -> None:
    base = registered(rig())
    parallax = open_parallax("dense", calibration=rig(), base=base, still=False)
    _, distances_m = shown(street, parallax, base, frames=30)
    known = parallax.displacement
    assert known is not None
    assert known.direction == parallax._lines.direction  # type: ignore[union-attr]
    assert known.doubt_px is not None
    assert known.doubt_px.shape == known.cells_px.shape
    body = cv2.resize(
        (np.abs(distances_m - 5.0) < 0.1).astype(np.uint8), known.doubt_px.shape[::-1], interpolation=cv2.INTER_AREA
    )
    square = np.ones((5, 5), np.uint8)
    outline = cv2.dilate(body, square) > cv2.erode(body, square)
    far = cv2.dilate(body, np.ones((31, 31), np.uint8)) == 0
    assert known.doubt_px[outline].mean() > 2 * np.median(known.doubt_px[far])
    assert base.doubt_px is None
