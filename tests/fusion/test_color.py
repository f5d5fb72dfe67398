from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtfusion.fusion.color import (
    BLIND_AROUND,
    BLIND_REACH,
    PALETTES,
    as_bgr,
    color_kept,
    colorize,
    compose,
    luminance,
    palette_bgr,
    rebase_on_mean,
)


def reference_compose(visible: np.ndarray, fused_y: np.ndarray) -> np.ndarray:
    """Through Y'CbCr in float64: replace Y, keep Cb and Cr (BT.601, full range)."""
    b, g, r = (visible[..., i].astype(np.float64) for i in range(3))
    y = 0.299 * r + 0.587 * g + 0.114 * b
    cb, cr = (b - y) / 1.772, (r - y) / 1.402
    red = fused_y + 1.402 * cr
    blue = fused_y + 1.772 * cb
    green = (fused_y - 0.299 * red - 0.114 * blue) / 0.587
    return np.clip(np.rint(np.stack([blue, green, red], axis=-1)), 0, 255).astype(np.uint8)


@given(st.integers(0, 2**32 - 1))
def test_compose_is_ycbcr_with_another_luminance(seed: int) -> None:
    rng = np.random.default_rng(seed)
    visible = rng.integers(0, 256, (16, 20, 3)).astype(np.uint8)
    fused_y = rng.integers(0, 256, (16, 20)).astype(np.uint8)
    composed = compose(visible=visible, visible_y=luminance(visible), fused_y=fused_y)
    # the luminance of the visible image is rounded to a whole level before the step is taken
    assert np.abs(composed.astype(int) - reference_compose(visible, fused_y)).max() <= 1


def test_unchanged_luminance_gives_the_visible_image_back_exactly() -> None:
    visible = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    y = luminance(visible)
    np.testing.assert_array_equal(compose(visible=visible, visible_y=y, fused_y=y), visible)


def test_gray_visible_gives_three_equal_channels() -> None:
    gray = np.random.default_rng(0).integers(0, 256, (16, 16)).astype(np.uint8)
    fused_y = 255 - gray
    composed = compose(visible=gray, visible_y=gray, fused_y=fused_y)
    for channel in range(3):
        np.testing.assert_array_equal(composed[..., channel], fused_y)


def test_gray_stored_as_color_gets_no_cast() -> None:
    gray = np.random.default_rng(0).integers(0, 256, (16, 16)).astype(np.uint8)
    composed = compose(visible=as_bgr(gray), visible_y=luminance(as_bgr(gray)), fused_y=255 - gray)
    np.testing.assert_array_equal(composed, as_bgr(255 - gray))


@given(st.integers(0, 2**32 - 1))
def test_with_all_color_kept_nothing_changes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    visible = rng.integers(0, 256, (24, 40, 3)).astype(np.uint8)
    bands = {"visible": visible, "visible_y": luminance(visible)}
    fused_y = rng.integers(0, 256, (24, 40)).astype(np.uint8)
    kept = np.full((3, 5), 255, np.uint8)
    np.testing.assert_array_equal(compose(**bands, fused_y=fused_y, kept=kept), compose(**bands, fused_y=fused_y))
    none = compose(**bands, fused_y=fused_y, kept=np.zeros((3, 5), np.uint8))
    np.testing.assert_array_equal(none, as_bgr(fused_y))


def street() -> np.ndarray:
    """Colored blocks, each 20 pixels a side."""
    cells = np.random.default_rng(5).integers(30, 226, (12, 16, 3)).astype(np.uint8)
    return cv2.resize(cells, (320, 240), interpolation=cv2.INTER_NEAREST)


PEOPLE_CELLS = slice(11, 22)
"""The rows of the cells where there are people all around."""


def people() -> np.ndarray:
    thermal = np.full((240, 320), 60, np.uint8)
    for left in range(20, 320, 60):
        thermal[60:200, left : left + 25] = 230
    return thermal


def test_color_is_kept_where_the_visible_camera_sees() -> None:
    assert color_kept(visible=street(), thermal=people()).mean() > 200
    assert color_kept(visible=street(), thermal=np.full((240, 320), 60, np.uint8)).min() == 255


@pytest.mark.parametrize("cast", [(150, 140, 110), (8, 4, 3), (255, 255, 255)], ids=["smoke", "night", "glare"])
def test_a_color_of_nothing_is_no_color(cast: tuple[int, int, int]) -> None:
    blind = np.full((240, 320, 3), cast, np.uint8)
    kept = color_kept(visible=blind, thermal=people())
    assert kept[PEOPLE_CELLS].max() < 40
    composed = compose(visible=blind, visible_y=luminance(blind), fused_y=people(), kept=kept).astype(int)
    assert np.ptp(composed[92:172], axis=2).max() <= 8


def test_a_sky_without_structure_in_either_band_keeps_its_blue() -> None:
    sky = np.full((240, 320, 3), (230, 190, 150), np.uint8)
    cold = np.random.default_rng(6).normal(20, 4, (240, 320)).astype(np.uint8)
    assert color_kept(visible=sky, thermal=cold).min() == 255


def test_smoke_on_one_side_takes_nothing_from_the_other() -> None:
    """No place is judged by what is beyond the reach of what is blind, so nothing pulses when a cloud drifts in."""
    clear, thermal = np.tile(street(), (1, 3, 1)), np.tile(people(), (1, 3))
    half = clear.copy()
    half[:, :100] = (150, 140, 110)
    there, here = (color_kept(visible=picture, thermal=thermal) for picture in (clear, half))
    reach = 20 + max(BLIND_REACH - 1, BLIND_AROUND // 2)
    assert reach < there.shape[1] - 20
    np.testing.assert_array_equal(there[:, reach:], here[:, reach:])
    assert here[PEOPLE_CELLS, :7].max() < 40


def test_color_fades_with_the_blind_part_of_the_surroundings() -> None:
    """A cloud in the way takes the colors beside it, beyond its border too; a small one takes hardly any."""
    clear, thermal = np.tile(street(), (1, 2, 1)), np.tile(people(), (1, 2))
    kept = []
    for smoke in (slice(0, 0), slice(150, 190), slice(60, 312)):
        picture = clear.copy()
        picture[:, smoke] = (150, 140, 110)
        kept.append(float(color_kept(visible=picture, thermal=thermal)[PEOPLE_CELLS, 42:46].mean()))
    assert kept[0] > 200
    assert kept[1] > 0.85 * kept[0]
    assert kept[2] < 0.75 * kept[0]


def test_where_the_visible_image_stands_alone_it_keeps_its_colors() -> None:
    blind, valid = np.full((240, 320, 3), (150, 140, 110), np.uint8), np.zeros((240, 320), np.uint8)
    valid[:, 100:] = 255
    kept = color_kept(visible=blind, thermal=people(), valid=valid)
    composed = compose(visible=blind, visible_y=luminance(blind), fused_y=luminance(blind), kept=kept)
    np.testing.assert_array_equal(composed[:, :100], blind[:, :100])


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (48, 64)])
def test_pictures_of_any_size_have_a_share(size: tuple[int, int]) -> None:
    visible = np.random.default_rng(7).integers(0, 256, (*size, 3)).astype(np.uint8)
    kept = color_kept(visible=visible, thermal=luminance(visible))
    assert compose(visible=visible, visible_y=luminance(visible), fused_y=luminance(visible), kept=kept).shape == (
        *size,
        3,
    )


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (48, 64)).astype(np.uint8)


def test_over_the_mean_is_the_formula() -> None:
    fused_y, visible_y, thermal = noise(0), noise(1), noise(2)
    fused, mean = fused_y.astype(np.float64), (visible_y.astype(np.float64) + thermal) / 2
    expected = fused + cv2.GaussianBlur(mean - fused, (0, 0), 3.0)
    got = rebase_on_mean(fused_y=fused_y, visible_y=visible_y, thermal=thermal)
    assert np.abs(got - np.clip(expected, 0, 255)).max() <= 1.5


def test_the_mean_over_the_mean_is_the_mean() -> None:
    visible_y, thermal = noise(1), noise(2)
    mean = cv2.addWeighted(visible_y, 0.5, thermal, 0.5, 0.0)
    np.testing.assert_array_equal(rebase_on_mean(fused_y=mean, visible_y=visible_y, thermal=thermal), mean)


def test_an_edge_stays_sharp_over_a_flat_mean() -> None:
    flat = np.full((48, 64), 100, np.uint8)
    fused_y = flat.copy()
    fused_y[:, 32:] = 160
    got = rebase_on_mean(fused_y=fused_y, visible_y=flat, thermal=flat).astype(int)
    assert got[24, 32] - got[24, 31] > 50
    np.testing.assert_array_equal(got[24, [4, 60]], [100, 100])


def test_luminance_is_bt601() -> None:
    for bgr, expected in (((255, 0, 0), 29), ((0, 255, 0), 150), ((0, 0, 255), 76), ((255, 255, 255), 255)):
        assert luminance(np.full((2, 2, 3), bgr, dtype=np.uint8))[0, 0] == expected


@pytest.mark.parametrize("name", PALETTES)
def test_palettes_run_from_cold_to_hot(name: str) -> None:
    table = palette_bgr(name)
    assert table.shape == (256, 1, 3)
    assert table.dtype == np.uint8
    brightness = cv2.cvtColor(table, cv2.COLOR_BGR2GRAY).ravel().astype(int)
    if name == "black-hot":
        assert brightness[0] == 255
        assert brightness[-1] == 0
    elif name == "rainbow":
        assert table[0, 0, 0] > table[0, 0, 2], "cold is blue"
        assert table[-1, 0, 2] > table[-1, 0, 0], "hot is red"
    else:
        assert np.all(np.diff(brightness) >= -1)
        assert brightness[-1] > brightness[0] + 150
    gray = np.arange(256, dtype=np.uint8)[None]
    np.testing.assert_array_equal(colorize(gray, table)[0], table[:, 0])
