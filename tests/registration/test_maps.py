from __future__ import annotations

import cv2
import numpy as np
import pytest

from rtfusion.registration import Calibration, CameraModel, Registration, register
from rtfusion.types import Image8


def texture(width: int, height: int, seed: int = 0) -> Image8:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 8 + 2, width // 8 + 2)).astype(np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def shifted(dx: float, dy: float) -> Calibration:
    return Calibration.from_homography(
        visible_from_thermal_px=np.array([[1.0, 0.0, dx], [0.0, 1.0, dy], [0.0, 0.0, 1.0]]),
        visible_size_px=(160, 120),
        thermal_size_px=(160, 120),
    )


def test_same_view_and_size_is_the_identity_and_costs_nothing() -> None:
    registration = register(visible_size_px=(64, 48), thermal_size_px=(64, 48), calibration=None)
    image = texture(64, 48)
    assert registration.thermal(image) is image
    assert registration.visible(image) is image
    assert registration.valid is None


def test_same_view_scales_as_resize_does() -> None:
    """cv2.resize has the half-pixel term; so has the registration."""
    image = texture(80, 60)
    registration = register(visible_size_px=(160, 120), thermal_size_px=(80, 60), calibration=None)
    expected = cv2.resize(image, (160, 120), interpolation=cv2.INTER_LINEAR)
    # remap works in steps of 1/32 px
    assert np.abs(registration.thermal(image).astype(int) - expected).max() <= 4
    assert np.abs(registration.thermal(image).astype(int) - expected).mean() < 0.5
    assert registration.valid is None


def test_a_whole_shift_moves_pixels_exactly_and_marks_what_is_not_seen() -> None:
    image = texture(160, 120)
    registration = register(visible_size_px=(160, 120), thermal_size_px=(160, 120), calibration=shifted(10, -5))
    moved = registration.thermal(image)
    np.testing.assert_array_equal(moved[:115, 10:], image[5:, :150])
    assert registration.valid is not None
    assert (registration.valid[:115, 10:] == 255).all()
    assert not registration.valid[:, :10].any()
    assert not registration.valid[115:].any()


def test_the_border_of_the_valid_area_is_soft() -> None:
    registration = register(visible_size_px=(160, 120), thermal_size_px=(160, 120), calibration=shifted(40, 0))
    assert registration.weights is not None
    inside, outside = registration.weights
    np.testing.assert_allclose(inside + outside, 1.0, atol=1e-6)
    row = inside[60]
    assert row[39] == 0.0
    assert row[60] == 1.0
    assert np.all(np.diff(row[39:60]) >= 0)
    assert 0.0 < row[42] < 1.0
    assert row[159] == 1.0, "the edge of the visible picture itself is no border"


@pytest.mark.parametrize("grid", ["visible", "thermal"])
def test_both_grids_agree_on_where_a_point_is(grid: str) -> None:
    homography = np.array([[2.02, 0.03, 8.0], [-0.02, 1.98, -6.0], [1e-5, 2e-5, 1.0]])
    calibration = Calibration.from_homography(
        visible_from_thermal_px=homography, visible_size_px=(640, 480), thermal_size_px=(320, 240)
    )
    thermal = np.zeros((240, 320), np.uint8)
    cv2.circle(thermal, (150, 110), 6, 255, -1, cv2.LINE_AA)
    visible = cv2.warpPerspective(thermal, homography, (640, 480))
    registration = register(visible_size_px=(640, 480), thermal_size_px=(320, 240), calibration=calibration, grid=grid)
    fixed, moved = (
        (visible, registration.thermal(thermal)) if grid == "visible" else (thermal, registration.visible(visible))
    )
    assert registration.size_px == ((640, 480) if grid == "visible" else (320, 240))

    def centroid(image: Image8) -> np.ndarray:
        m = cv2.moments(image)
        return np.array([m["m10"], m["m01"]]) / m["m00"]

    np.testing.assert_allclose(centroid(fixed), centroid(moved), atol=0.1)


def test_a_large_reduction_averages_instead_of_aliasing() -> None:
    """Stripes finer than the thermal grid must become gray, not a false pattern."""
    visible = np.zeros((960, 1280), np.uint8)
    visible[:, ::2] = 255
    registration = register(visible_size_px=(1280, 960), thermal_size_px=(160, 120), calibration=None, grid="thermal")
    small = registration.visible(visible)
    assert small.shape == (120, 160)
    assert small.std() < 2
    assert abs(float(small.mean()) - 127.5) < 2


def test_a_reduction_keeps_positions() -> None:
    visible = np.zeros((960, 1280), np.uint8)
    cv2.circle(visible, (803, 405), 40, 255, -1)
    registration = register(visible_size_px=(1280, 960), thermal_size_px=(160, 120), calibration=None, grid="thermal")
    m = cv2.moments(registration.visible(visible))
    assert m["m10"] / m["m00"] == pytest.approx((803 + 0.5) / 8 - 0.5, abs=0.02)
    assert m["m01"] / m["m00"] == pytest.approx((405 + 0.5) / 8 - 0.5, abs=0.02)


def test_lens_distortion_of_both_cameras_is_taken_out() -> None:
    """Straight lines of the scene, drawn through each camera's own lens, must meet after registration."""
    intrinsics = ((300.0, 0.0, 159.5), (0.0, 300.0, 119.5), (0.0, 0.0, 1.0))
    visible = CameraModel(width_px=320, height_px=240, intrinsics=intrinsics, distortion=(-0.12, 0.03, 0.0, 0.0))
    thermal = CameraModel(width_px=320, height_px=240, intrinsics=intrinsics, distortion=(0.15, 0.0, 0.001, 0.0))
    calibration = Calibration(
        visible=visible,
        thermal=thermal,
        visible_from_thermal_px=((1.0, 0.0, 6.0), (0.0, 1.0, -4.0), (0.0, 0.0, 1.0)),
    )
    points = np.array([[40.0, 50.0], [160.0, 120.0], [260.0, 60.0], [90.0, 190.0], [250.0, 180.0]])  # ideal thermal px

    def through_lens(ideal: np.ndarray, camera: CameraModel) -> np.ndarray:
        k = np.array(intrinsics)
        rays = np.linalg.inv(k) @ np.vstack([ideal.T, np.ones(len(ideal))])
        return cv2.projectPoints(rays.T[:, None], np.zeros(3), np.zeros(3), k, np.array(camera.distortion))[0][:, 0]

    image = np.zeros((240, 320), np.uint8)
    for x, y in through_lens(points, thermal):
        cv2.circle(image, (round(x * 16), round(y * 16)), 3 * 16, 255, -1, cv2.LINE_AA, shift=4)
    registered = register(visible_size_px=(320, 240), thermal_size_px=(320, 240), calibration=calibration).thermal(
        image
    )
    for x, y in through_lens(points + np.array([6.0, -4.0]), visible):
        window = registered[round(y) - 8 : round(y) + 9, round(x) - 8 : round(x) + 9]
        m = cv2.moments(window)
        assert m["m10"] / m["m00"] + round(x) - 8 == pytest.approx(x, abs=0.2)
        assert m["m01"] / m["m00"] + round(y) - 8 == pytest.approx(y, abs=0.2)


@pytest.mark.parametrize("grid", ["visible", "thermal"])
def test_a_moved_registration_is_that_of_the_moved_rig(grid: str) -> None:
    rig = np.array([[1.98, 0.02, 12.0], [-0.02, 1.98, -7.0], [1e-5, -2e-5, 1.0]])
    motion = np.array([[1.001, -0.004, 5.0], [0.004, 1.001, -3.0], [0.0, 0.0, 1.0]])

    def registration(visible_from_thermal_px: np.ndarray) -> Registration:
        calibration = Calibration.from_homography(
            visible_from_thermal_px=visible_from_thermal_px, visible_size_px=(640, 480), thermal_size_px=(320, 240)
        )
        return register(visible_size_px=(640, 480), thermal_size_px=(320, 240), calibration=calibration, grid=grid)

    # pixel x of the moved grid shows what was at motion x
    moved = registration(np.linalg.inv(motion) @ rig if grid == "visible" else rig @ motion)
    quick = registration(rig).moved(motion, grid=grid)
    expected, found = (getattr(r, "thermal" if grid == "visible" else "visible").maps for r in (moved, quick))
    inside = moved.valid == 255 if moved.valid is not None else np.ones(expected[0].shape, dtype=bool)
    for axis in range(2):
        assert np.abs(found[axis] - expected[axis])[inside].max() < 0.1
    assert moved.valid is not None
    assert quick.valid is not None
    assert np.mean(moved.valid != quick.valid) < 0.002


def test_two_equal_views_can_be_moved_too() -> None:
    same = register(visible_size_px=(64, 48), thermal_size_px=(64, 48), calibration=None)
    shift = np.array([[1.0, 0.0, 3.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    moved = same.moved(shift, grid="visible")
    picture = np.arange(64 * 48, dtype=np.uint16).reshape(48, 64)
    assert np.array_equal(moved.thermal(picture)[:, :61], picture[:, 3:])
    assert moved.valid is not None
    assert moved.valid[:, :61].all()
    assert not moved.valid[:, 61:].any()
    assert same.thermal.is_identity
