"""An edge that both bands show, some pixels apart, is shown once where the registration is in doubt; all else stays."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from rtfusion.fusion.doubt import LEAST_PX, Deghoster
from rtfusion.registration import Calibration, Quality
from rtfusion.registration.doubt import everywhere
from rtfusion.types import Image8
from tests.fusion.test_host import pair_of
from tests.support import host_fuser

SIZE = 480, 640
OFF_PX = 5
SQUARE = slice(180, 300), slice(260, 380)


def square(*, ground: int, level: int, right_px: int = 0) -> Image8:
    image = np.full(SIZE, ground, np.uint8)
    image[SQUARE[0], SQUARE[1].start + right_px : SQUARE[1].stop + right_px] = level
    return cv2.GaussianBlur(image, (0, 0), 0.8).astype(np.uint8)


FAR_OFF = np.full((120, 160), 8.0, np.float32)
"""Doubt of a map."""
VISIBLE, THERMAL = square(ground=140, level=40), square(ground=60, level=160, right_px=OFF_PX)


def deghosted(visible_y: Image8, thermal: Image8, doubt_px: np.ndarray | None) -> Image8:
    return Deghoster()(visible_y=visible_y, thermal=thermal, doubt_px=doubt_px)


def steepest(image: Image8, column: int) -> float:
    """The largest step between two neighbors within two pixels of a column, halfway down the square."""
    row = image[240, column - 2 : column + 3].astype(np.float32)
    return float(np.abs(np.diff(row)).max())


@pytest.mark.parametrize("doubt_px", [None, everywhere(0.0), everywhere(LEAST_PX), np.zeros((60, 80), np.float32)])
def test_without_doubt_nothing_is_done(doubt_px: np.ndarray | None) -> None:
    assert deghosted(VISIBLE, THERMAL, doubt_px) is THERMAL


def test_an_edge_that_both_bands_show_goes_where_the_visible_one_has_it() -> None:
    shown = deghosted(VISIBLE, THERMAL, FAR_OFF)
    edge, ghost = SQUARE[1].stop, SQUARE[1].stop + OFF_PX
    assert steepest(THERMAL, ghost) > 20
    assert steepest(shown, ghost) < 0.3 * steepest(THERMAL, ghost)
    assert steepest(shown, edge) > 2 * steepest(shown, ghost)


def test_what_is_warm_stays_as_warm() -> None:
    shown = deghosted(VISIBLE, THERMAL, FAR_OFF).astype(np.float32)
    inside = shown[200:280, 290:350].mean()
    assert abs(inside - 160) < 3
    assert abs(shown[20:100].mean() - 60) < 3
    assert abs(shown.mean() - THERMAL.mean()) < 1


@pytest.mark.parametrize("doubt_px", [2.5, 6.0])
def test_what_is_much_warmer_than_the_visible_edge_is_strong_stays_where_all_is_in_doubt(doubt_px: float) -> None:
    faint = square(ground=100, level=80)
    shown = deghosted(faint, THERMAL, everywhere(doubt_px))
    assert steepest(shown, SQUARE[1].stop + OFF_PX) > 0.8 * steepest(THERMAL, SQUARE[1].stop + OFF_PX)
    assert (deghosted(VISIBLE, THERMAL, everywhere(doubt_px)) != THERMAL).any()


@pytest.mark.parametrize("noise", [0, 3])
def test_what_only_the_thermal_camera_sees_stays_as_it_is(noise: int) -> None:
    rng = np.random.default_rng(0)
    dark = np.clip(30 + rng.normal(0, noise, SIZE), 0, 255).astype(np.uint8)
    shown = deghosted(dark, THERMAL, FAR_OFF)
    assert np.abs(shown.astype(np.int16) - THERMAL).max() <= 2


def test_it_is_done_where_there_is_doubt_alone() -> None:
    doubt_px = np.zeros((120, 160), np.float32)
    doubt_px[:, 80:] = 8.0
    shown = deghosted(VISIBLE, THERMAL, doubt_px)
    np.testing.assert_array_equal(shown[:, :310], THERMAL[:, :310])
    assert steepest(shown, SQUARE[1].stop + OFF_PX) < 0.3 * steepest(THERMAL, SQUARE[1].stop + OFF_PX)


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (33, 640), (480, 641)])
@pytest.mark.parametrize("doubt_px", [everywhere(2.0), everywhere(9.0), np.full((3, 4), 5.0, np.float32)])
def test_every_size_is_taken(size: tuple[int, int], doubt_px: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    visible_y, thermal = (rng.integers(0, 256, size, dtype=np.uint8) for _ in range(2))
    shown = deghosted(visible_y, thermal, doubt_px)
    assert shown.shape == size
    assert shown.dtype == np.uint8


def test_a_calibration_that_is_sure_changes_no_bit_and_one_that_is_not_is_told() -> None:
    visible = cv2.cvtColor(VISIBLE, cv2.COLOR_GRAY2BGR).astype(np.uint8)
    pair, made = pair_of(visible, THERMAL), {}
    for name, deviation_px, trust in (
        ("none", None, True),
        ("sure", 0.9, True),
        ("not", 3.0, True),
        ("off", 3.0, False),
    ):
        quality = None
        if deviation_px is not None:
            quality = Quality(rms_px=0.5, views=4, standard_deviations={"picture_px": deviation_px})
        calibration = Calibration.from_homography(
            visible_from_thermal_px=np.array([[1.0, 0, 1], [0, 1, 0], [0, 0, 1]]),
            visible_size_px=SIZE[::-1],
            thermal_size_px=SIZE[::-1],
        ).model_copy(update={"quality": quality})
        fuser = host_fuser("pyramid", calibration=calibration, trust=trust)
        made[name] = fuser(pair).image
        assert dict(fuser._telemetry.mistrusted) == ({"registration in doubt": 1} if name == "not" else {})
    np.testing.assert_array_equal(made["sure"], made["none"])
    np.testing.assert_array_equal(made["off"], made["none"])
    assert (made["not"] != made["none"]).any()
