from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch: pip install -e '.[train]'")

from rtfusion_trainer.config import Variation  # noqa: E402
from rtfusion_trainer.pairs import FAR_PX, Pair, distance_to_hot_px  # noqa: E402
from rtfusion_trainer.variation import LARGEST_ZOOM, vary  # noqa: E402

NEVER = Variation(toned=0, equalized_visible=0, equalized_thermal=0, partner=0, inverted=0, exchanged=0, zoomed=0)


def pair(seed, *, height=48, width=64):
    random = np.random.default_rng(seed)
    visible, thermal = (random.integers(0, 256, (height, width), np.uint8) for _ in range(2))
    distance_px = random.integers(0, FAR_PX, (height, width)).astype(np.uint8)
    return Pair(f"p{seed}", visible, thermal, distance_px, None, visible.astype(np.uint16) * 257, None)


def varied(seed=0, **shares):
    return vary(np.random.default_rng(seed), pair(1), pair(2), replace(NEVER, **shares))


def test_nothing_happens_without_a_share():
    out, unchanged = varied()
    assert unchanged
    assert np.array_equal(out.visible, pair(1).visible)
    assert np.array_equal(out.thermal, pair(1).thermal)


def test_tones_keep_the_order_of_levels_and_are_of_each_band():
    out, unchanged = varied(toned=1.0)
    assert not unchanged
    for before, after in ((pair(1).visible, out.visible), (pair(1).thermal, out.thermal)):
        order = np.argsort(before, axis=None, kind="stable")
        assert (np.diff(after.ravel()[order].astype(int)) >= 0).all()
        assert not np.array_equal(before, after)


def test_equalized_contrast_is_of_one_band_and_finds_the_hot_places_anew():
    out, unchanged = varied(equalized_thermal=1.0)
    assert not unchanged
    assert np.array_equal(out.visible, pair(1).visible)
    assert not np.array_equal(out.thermal, pair(1).thermal)
    assert np.array_equal(out.distance_px, distance_to_hot_px(out.thermal))


def test_a_partner_gives_its_heat_and_its_hot_places():
    out, unchanged = varied(partner=1.0)
    assert not unchanged
    assert np.array_equal(out.visible, pair(1).visible)
    assert np.array_equal(out.thermal, pair(2).thermal)
    assert np.array_equal(out.distance_px, pair(2).distance_px)


def test_a_partner_of_another_size_is_left_alone():
    out, unchanged = vary(np.random.default_rng(0), pair(1), pair(2, width=80), replace(NEVER, partner=1.0))
    assert unchanged
    assert np.array_equal(out.thermal, pair(1).thermal)


@pytest.mark.parametrize("share", ["inverted", "exchanged"])
def test_where_cold_is_bright_no_place_is_hot(share):
    out, unchanged = varied(**{share: 1.0})
    assert not unchanged
    assert (out.distance_px == FAR_PX).all()
    expected = 255 - pair(1).thermal if share == "inverted" else pair(1).visible
    assert np.array_equal(out.thermal, expected)


def test_a_zoom_keeps_all_planes_together_and_the_teacher():
    sizes = set()
    for seed in range(8):
        out, unchanged = varied(seed, zoomed=1.0)
        assert unchanged
        assert out.visible.shape == out.thermal.shape == out.distance_px.shape == out.faithful_target.shape
        assert out.distance_px.max() <= FAR_PX
        sizes.add(out.visible.shape[1] / 64)
    assert len(sizes) > 4
    assert 1 / LARGEST_ZOOM - 0.02 <= min(sizes) <= max(sizes) <= LARGEST_ZOOM + 0.02
