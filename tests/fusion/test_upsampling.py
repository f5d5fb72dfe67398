from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import rtfusion
from rtfusion.fusion.buffers import fresh
from rtfusion.fusion.upsampling import (
    FAR_LEVELS,
    MOST_MEANED,
    Upsampler,
    calmed,
    is_magnified,
    meaned_share,
    measured_noise,
    sharpened,
    smoothed,
)
from rtfusion.registration import Calibration, Warp, register
from rtfusion.telemetry import Telemetry
from rtfusion.types import Band, FramePair, Image, Image8
from tests.support import MS, host_fuser, make_frame

SCENES = ("train/m3svd/ir", "train/msrs/ir", "train/roadscene/ir")


def scaling(*, thermal_px: tuple[int, int], grid_px: tuple[int, int]) -> Warp:
    return register(visible_size_px=grid_px, thermal_size_px=thermal_px, calibration=None).thermal


def turned(*, thermal_px: tuple[int, int], grid_px: tuple[int, int], turn: float = 0.02) -> Warp:
    """A registration that is more than a change of size."""
    scale = grid_px[0] / thermal_px[0]
    calibration = Calibration.from_homography(
        visible_from_thermal_px=np.array([[scale, -turn, 5.3], [turn, scale, -2.1], [0.0, 0.0, 1.0]]),
        visible_size_px=grid_px,
        thermal_size_px=thermal_px,
    )
    return register(visible_size_px=grid_px, thermal_size_px=thermal_px, calibration=calibration).thermal


def enlarged(thermal: Image8, *, warp: Warp, grid_px: tuple[int, int]) -> Image8:
    return Upsampler(still=True)(thermal, warp=warp, size_px=grid_px, timestamp_ns=0, take=fresh)


def blobs(shape: tuple[int, int], *, seed: int = 0) -> Image8:
    """Warm shapes with sharp edges on a cooler ground."""
    rng, picture = np.random.default_rng(seed), np.full(shape, 90, np.uint8)
    for _ in range(12):
        center = (int(rng.integers(shape[1])), int(rng.integers(shape[0])))
        axes = (int(rng.integers(6, 30)), int(rng.integers(10, 50)))
        cv2.ellipse(picture, center, axes, float(rng.integers(180)), 0, 360, int(rng.integers(40, 220)), -1)
    return picture


def shrunk(picture: Image8, size_px: tuple[int, int]) -> Image8:
    """What a sensor of so many pixels, each of them a square, sees of a picture."""
    return cast(Image8, cv2.resize(picture, size_px, interpolation=cv2.INTER_AREA))


def with_noise(picture: Image8, levels: float, rng: np.random.Generator) -> Image8:
    return np.clip(np.rint(picture + rng.normal(0, levels, picture.shape)), 0, 255).astype(np.uint8)


def error(picture: Image, truth: Image) -> float:
    return float(np.sqrt(np.mean((picture.astype(np.float64) - truth) ** 2)))


@pytest.mark.parametrize("noise", [0.0, 2.0, 6.0, 12.0])
@pytest.mark.parametrize("shape", [(60, 80), (120, 160), (240, 320)])
def test_the_noise_of_a_picture_is_measured_beside_its_edges(noise: float, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    noisy = with_noise(shrunk(blobs((480, 640)), shape[::-1]), noise, rng)
    assert measured_noise(noisy) == pytest.approx(noise, rel=0.15, abs=1.0)


@pytest.mark.parametrize("level", [0, 17, 255])
@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (8, 8), (60, 80)])
def test_a_flat_picture_of_any_size_is_flat_and_without_noise(level: int, shape: tuple[int, int]) -> None:
    flat = np.full(shape, level, np.uint8)
    assert measured_noise(flat) == 0
    grid_px = (shape[1] * 4, shape[0] * 4)
    assert (enlarged(flat, warp=scaling(thermal_px=shape[::-1], grid_px=grid_px), grid_px=grid_px) == level).all()


def test_borders_without_a_picture_do_not_hide_the_noise() -> None:
    noisy = np.random.default_rng(2).normal(120, 6, (120, 160)).astype(np.uint8)
    noisy[:, 60:] = 0
    assert measured_noise(noisy) > 4


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), noise=st.floats(0, 40))
def test_no_pixel_leaves_the_range_of_its_neighbors(seed: int, noise: float) -> None:
    """Steeper edges, but no halo beside them."""
    plane = np.random.default_rng(seed).integers(0, 256, (20, 30)).astype(np.float32)
    for made in (sharpened(plane), smoothed(plane, noise_levels=noise)):
        box = np.ones((9, 9) if made.dtype == np.float32 else (3, 3), np.uint8)
        assert (made >= cv2.erode(plane, box) - 0.6).all()
        assert (made <= cv2.dilate(plane, box) + 0.6).all()


@pytest.mark.parametrize("make", [scaling, turned])
@pytest.mark.parametrize("factor", [2, 3.2, 4, 8])
def test_a_small_sensor_comes_nearer_to_the_scene_than_by_interpolation(
    make: Callable[..., Warp], factor: float
) -> None:
    grid_px, thermal_px = (640, 480), (round(640 / factor), round(480 / factor))
    small = shrunk(blobs((480, 640)), thermal_px)
    warp = make(thermal_px=thermal_px, grid_px=grid_px)
    truth = warp.from_resized(grid_px)(blobs((480, 640)))
    assert error(enlarged(small, warp=warp, grid_px=grid_px), truth) < 0.93 * error(warp(small), truth)


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize(("noise", "most"), [(0.0, 1.0), (6.0, 1.1)])
def test_real_pictures_of_a_small_sensor_come_nearer_to_the_truth(
    shared_data: Path, scene: str, noise: float, most: float
) -> None:
    """With much noise some texture goes with it, by a tenth of the error at most."""
    rng = np.random.default_rng(3)
    paths = sorted((shared_data / scene).iterdir())[::40]
    for path in paths:
        picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        assert picture is not None
        truth = cast(Image8, picture)[: picture.shape[0] // 4 * 4, : picture.shape[1] // 4 * 4]
        grid_px = (truth.shape[1], truth.shape[0])
        thermal_px = grid_px[0] // 4, grid_px[1] // 4
        small = with_noise(shrunk(truth, thermal_px), noise, rng)
        warp = scaling(thermal_px=thermal_px, grid_px=grid_px)
        assert error(enlarged(small, warp=warp, grid_px=grid_px), truth) < most * error(warp(small), truth)


@pytest.mark.parametrize(("thermal_px", "steeper"), [((80, 60), 1.25), ((160, 120), 0.99)])
def test_edges_that_are_magnified_a_lot_are_made_steeper_once_more(thermal_px: tuple[int, int], steeper: float) -> None:
    grid_px, small = (640, 480), shrunk(blobs((480, 640)), thermal_px)
    once = sharpened(smoothed(small.astype(np.float32), noise_levels=measured_noise(small)))
    cubic = cv2.resize(once, grid_px, interpolation=cv2.INTER_CUBIC).astype(int)
    made = enlarged(small, warp=scaling(thermal_px=thermal_px, grid_px=grid_px), grid_px=grid_px).astype(int)
    steep = [np.square(np.diff(picture, axis=1)).mean() for picture in (made, cubic)]
    assert steep[0] >= steeper * steep[1]
    assert cubic.min() - 10 <= made.min()  # cubic interpolation leaves the range by itself
    assert made.max() <= cubic.max() + 10


def test_it_lies_where_the_interpolated_picture_lies() -> None:
    """No shift: the middle of a warm spot is where it was."""
    thermal = np.full((60, 80), 50, np.uint8)
    cv2.circle(thermal, (30, 25), 6, 200, -1)
    for warp in (scaling(thermal_px=(80, 60), grid_px=(320, 240)), turned(thermal_px=(80, 60), grid_px=(320, 240))):
        middles = []
        for picture in (warp(thermal), enlarged(thermal, warp=warp, grid_px=(320, 240))):
            weights = np.maximum(picture.astype(np.float64) - 55, 0)
            rows, columns = np.mgrid[:240, :320]
            middles.append([(weights * axis).sum() / weights.sum() for axis in (columns, rows)])
        np.testing.assert_allclose(middles[0], middles[1], atol=0.05)


def test_the_noise_is_remembered_in_a_stream_and_not_between_stills() -> None:
    rng, warp = np.random.default_rng(4), scaling(thermal_px=(80, 60), grid_px=(320, 240))
    noisy, quiet = rng.normal(120, 8, (60, 80)).astype(np.uint8), blobs((60, 80))
    for still in (False, True):
        upsampler = Upsampler(still=still)
        for index, picture in enumerate((noisy, quiet)):
            upsampler(picture, warp=warp, size_px=(320, 240), timestamp_ns=index * 33 * MS, take=fresh)
        assert (upsampler.noise_levels > 6) is not still


def pair(*, thermal: Image8, grid_px: tuple[int, int] = (320, 240)) -> FramePair:
    visible = np.full((grid_px[1], grid_px[0], 3), 80, np.uint8)
    return FramePair(
        visible=make_frame(Band.VISIBLE, 0, image=visible),
        thermal=make_frame(Band.THERMAL, 0, image=thermal),
        sequence=0,
    )


@pytest.mark.parametrize("thermal_px", [(320, 240), (240, 180), (640, 480)])
def test_sensors_that_are_hardly_magnified_are_left_as_they_were(thermal_px: tuple[int, int]) -> None:
    thermal = blobs(thermal_px[::-1])
    telemetry = Telemetry()
    here, there = (
        host_fuser(upsample=upsample, telemetry=telemetry)(pair(thermal=thermal)).thermal
        for upsample in ("auto", "off")
    )
    np.testing.assert_array_equal(here, there)
    assert not any("magnified" in note for note in telemetry.notes)


def test_a_note_says_what_was_done_and_a_setting_leaves_it() -> None:
    thermal = blobs((60, 80))
    for upsample, words in (("auto", "denoised and sharpened"), ("off", "bilinear")):
        telemetry = Telemetry()
        fused = host_fuser(upsample=upsample, telemetry=telemetry)(pair(thermal=thermal))
        (note,) = (note for note in telemetry.notes if "magnified" in note)
        assert note.startswith("thermal 80x60 on 320x240: magnified 4.0 times, ")
        assert words in note
        plain = scaling(thermal_px=(80, 60), grid_px=(320, 240))(thermal)
        assert np.array_equal(fused.thermal, plain) is (upsample == "off")


def test_on_the_grid_of_the_thermal_camera_nothing_is_magnified() -> None:
    telemetry = Telemetry()
    thermal = blobs((60, 80))
    fused = host_fuser(grid="thermal", telemetry=telemetry)(pair(thermal=thermal))
    np.testing.assert_array_equal(fused.thermal, thermal)
    assert telemetry.notes == []


def test_what_magnifies_is_told_from_what_does_not() -> None:
    assert is_magnified(scaling(thermal_px=(160, 120), grid_px=(640, 480)))
    assert not is_magnified(scaling(thermal_px=(640, 480), grid_px=(640, 480)))
    assert not is_magnified(scaling(thermal_px=(1280, 1024), grid_px=(640, 480)))


# -- the base of what is fused --------------------------------------------------------------------------------------------


@example(seed=0, share=0.5, size=(7, 2))
@example(seed=0, share=0.5, size=(1, 1))
@given(seed=st.integers(0, 99), share=st.floats(0.0, 1.0), size=st.tuples(st.integers(1, 90), st.integers(1, 90)))
def test_the_base_goes_a_share_of_the_way_to_that_of_the_mean(seed: int, share: float, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    fused_y, visible_y, thermal = (np.full(size, int(level), np.uint8) for level in rng.integers(20, 235, 3))
    calm = calmed(fused_y=fused_y, visible_y=visible_y, thermal=thermal, share=share, take=fresh)
    levels = fused_y, visible_y, thermal
    fused, visible, heat = (float(plane[0, 0]) for plane in levels)
    wanted = fused + share * np.clip((visible + heat) / 2 - fused, -FAR_LEVELS, FAR_LEVELS)
    np.testing.assert_allclose(calm, wanted, atol=1)


def test_a_bright_sky_stays_bright_above_a_cold_one() -> None:
    sky = np.full((60, 80), 255, np.uint8)
    calm = calmed(fused_y=sky, visible_y=sky, thermal=np.zeros_like(sky), share=MOST_MEANED, take=fresh)
    assert calm.min() >= 225


def test_single_pixels_of_what_is_fused_stay() -> None:
    fused_y = (np.indices((60, 80)).sum(axis=0) % 2 * 40 + 100).astype(np.uint8)
    ground = np.full_like(fused_y, 120)
    calm = calmed(fused_y=fused_y, visible_y=ground, thermal=ground, share=1.0, take=fresh)
    np.testing.assert_array_equal(calm, fused_y)


@pytest.mark.parametrize(
    ("thermal_px", "share"), [(640, 0.0), (480, 0.0), (320, 0.16), (160, 0.48), (80, 0.9), (40, 0.9)]
)
def test_the_more_a_pixel_is_magnified_the_nearer_is_the_base_to_that_of_the_mean(
    thermal_px: int, share: float
) -> None:
    warp = scaling(thermal_px=(thermal_px, thermal_px * 3 // 4), grid_px=(640, 480))
    assert meaned_share(warp) == pytest.approx(share, abs=0.02)


def test_people_of_a_small_sensor_are_raised_less_than_a_network_does_and_more_than_the_mean_does() -> None:
    rng = np.random.default_rng(3)
    visible = cv2.resize(rng.integers(60, 90, (12, 16, 3), dtype=np.uint8), (320, 240), interpolation=cv2.INTER_CUBIC)
    thermal = cv2.resize(rng.integers(60, 90, (6, 8), dtype=np.uint8), (80, 60), interpolation=cv2.INTER_CUBIC)
    thermal[20:40, 36:44] = 180
    raised = {}
    for case, values in {"auto": {}, "off": {"upsample": "off"}, "mean": {"fuser": "average"}}.items():
        with rtfusion.Fuser(**cast(Any, values)) as fuse:
            shown = (
                fuse(visible=visible.astype(np.uint8), thermal=thermal, timestamp_ns=0).astype(np.float32).mean(axis=2)
            )
        raised[case] = shown[90:150, 148:172].mean() - shown[90:150, 100:124].mean()
    assert raised["mean"] + 5 < raised["auto"] < raised["off"] - 5
