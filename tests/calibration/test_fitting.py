from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rtfusion_calibration.fitting import Average, Model, Votes, area_weights, by_area, fit, fit_average, transformed

from rtfusion.registration.fitting import BEND, all_over, bent

AFFINE = np.array([[1.1, 0.03, 20.0], [-0.02, 1.08, -15.0], [0.0, 0.0, 1.0]])
SQUARE = np.array([[1.1, 0.03, 20.0], [-0.03, 1.1, -15.0], [0.0, 0.0, 1.0]])
HOMOGRAPHY = np.array([[1.1, 0.03, 20.0], [-0.02, 1.08, -15.0], [9e-5, -7e-5, 1.0]])


def votes_of(transform: np.ndarray, *, wrong: float, noise_px: float, seed: int, pairs: int = 1) -> Votes:
    rng = np.random.default_rng(seed)
    thermal = rng.uniform((0, 0), (640, 480), (400, 2))
    visible = transformed(transform, thermal) + rng.normal(0, noise_px, (400, 2))
    bad = rng.random(400) < wrong
    visible[bad] += rng.uniform(-40, 40, (int(bad.sum()), 2))
    return Votes(thermal_px=thermal, visible_px=visible, weights=rng.uniform(0.2, 1, 400), pair=np.arange(400) % pairs)


def error_px(found: np.ndarray, truth: np.ndarray) -> float:
    corners = np.array([(0.0, 0.0), (639.0, 0.0), (639.0, 479.0), (0.0, 479.0)])
    return float(np.linalg.norm(transformed(found, corners) - transformed(truth, corners), axis=1).max())


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), wrong=st.floats(0.0, 0.5))
def test_wrong_votes_do_not_move_the_transform(seed: int, wrong: float) -> None:
    votes = votes_of(AFFINE, wrong=wrong, noise_px=0.5, seed=seed)
    found = fit(votes, model=Model.AFFINE, tolerance_px=3.0)
    assert error_px(found.visible_from_thermal_px, AFFINE) < 0.6  # the largest of 2,000 draws: .45
    assert found.spread_px == pytest.approx(0.5, abs=0.25)


def average(votes: Votes) -> Average:
    """Over a 3 x 3 grid of regions."""
    cells = (votes.thermal_px / (640, 480) * 3).astype(np.int64)
    return fit_average(votes, tolerance_px=3.0, regions=cells[:, 1] * 3 + cells[:, 0])


def test_how_free_the_transform_is_follows_from_the_votes() -> None:
    for truth, model in ((SQUARE, Model.SIMILARITY), (AFFINE, Model.AFFINE), (HOMOGRAPHY, Model.HOMOGRAPHY)):
        found = average(votes_of(truth, wrong=0.2, noise_px=0.5, seed=1, pairs=5))
        assert found.best.model is model
        assert found.shares.sum() == pytest.approx(1.0)
        assert error_px(found.visible_from_thermal_px, truth) < 0.5


def test_one_pair_tells_perspective_where_nothing_else_explains_it() -> None:
    found = average(votes_of(HOMOGRAPHY, wrong=0.2, noise_px=0.5, seed=1))
    assert found.best.model is Model.HOMOGRAPHY
    assert error_px(found.visible_from_thermal_px, HOMOGRAPHY) < 0.6


def test_depth_in_a_few_regions_does_not_stretch_the_picture() -> None:
    """A near object in one corner moves by parallax: however many votes it holds, it is one region of nine."""
    votes = votes_of(np.eye(3), wrong=0.1, noise_px=0.3, seed=2)
    near = (votes.thermal_px > (420, 320)).all(axis=1)
    votes.visible_px[near, 0] += 1.5
    found = average(votes)
    assert found.best.model is Model.SIMILARITY
    assert error_px(found.visible_from_thermal_px, np.eye(3)) < error_px(
        found.fits[1].visible_from_thermal_px, np.eye(3)
    )


def test_every_part_of_the_picture_counts_alike_however_many_votes_are_there() -> None:
    """Votes crowd in a band, as along a horizon, and that band lies elsewhere by more than a transform can follow."""
    rng = np.random.default_rng(8)
    everywhere, crowd = rng.uniform((0, 0), (640, 480), (180, 2)), rng.uniform((0, 200), (640, 280), (600, 2))
    thermal = np.concatenate([everywhere, crowd])
    in_band = (thermal[:, 1] > 200) & (thermal[:, 1] < 280)
    visible = thermal + rng.normal(0, 0.3, thermal.shape)
    visible[in_band, 0] += 2.0
    votes = Votes(thermal_px=thermal, visible_px=visible, weights=np.ones(780), pair=np.zeros(780, np.int64))
    alike = by_area(votes, (640, 480))
    weights = area_weights(thermal, (640, 480))
    assert weights.mean() == pytest.approx(1.0)
    assert alike.weights[in_band].sum() / alike.weights.sum() == pytest.approx(1 / 3, abs=0.05)
    off_px = [
        float(np.median(np.linalg.norm(transformed(found.visible_from_thermal_px, everywhere) - everywhere, axis=1)))
        for found in (average(votes), average(alike))
    ]
    assert off_px[1] < off_px[0] / 2


def test_few_votes_of_a_part_do_not_count_as_much_as_many() -> None:
    """A single vote, which may be wrong, has no more than a third of what a part of the picture has."""
    thermal = np.concatenate([np.full((1, 2), 10.0), np.full((30, 2), 600.0)])
    weights = area_weights(thermal, (640, 480))
    assert weights[0] == pytest.approx(weights[1:].sum() / 3)


def test_others_weigh_as_much_together_as_is_said() -> None:
    ours, theirs = (votes_of(AFFINE, wrong=0.1, noise_px=0.5, seed=seed) for seed in (4, 5))
    both = ours.and_others(theirs, weighing=0.2)
    assert both.weights[:400].tolist() == ours.weights.tolist()
    assert both.weights[400:].sum() == pytest.approx(0.2 * ours.weights.sum())
    none = theirs.only(np.zeros(400, np.bool_))
    assert len(ours.and_others(none)) == 400


def test_the_draw_is_always_the_same() -> None:
    votes = votes_of(AFFINE, wrong=0.4, noise_px=1.0, seed=3)
    first, second = (fit(votes, model=Model.HOMOGRAPHY, tolerance_px=3.0) for _ in range(2))
    assert np.array_equal(first.visible_from_thermal_px, second.visible_from_thermal_px)


def test_votes_that_agree_on_nothing_are_no_fault() -> None:
    rng = np.random.default_rng(9)
    thermal, visible = rng.uniform((0, 0), (640, 480), (2, 12, 2))
    votes = Votes(thermal_px=thermal, visible_px=visible * 40, weights=np.ones(12), pair=np.zeros(12, np.int64))
    found = fit_average(votes, tolerance_px=1e-9, regions=np.zeros(12, np.int64))
    assert found.shares.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("model", list(Model))
@pytest.mark.parametrize("times", [-3.0, 0.0, 2.0])
def test_a_lens_in_the_middle_does_not_stretch_the_edges(model: Model, times: float) -> None:
    """Votes do not reach the edges, where a lens bends most: what they tell of it says where the edges are."""
    size_px, rng = (640, 480), np.random.default_rng(4)

    def seen(thermal: np.ndarray) -> np.ndarray:
        return transformed(SQUARE, thermal + times * (bent(thermal, size_px) - thermal))

    thermal = rng.uniform((90, 70), (550, 410), (400, 2))
    visible = seen(thermal) + rng.normal(0, 0.5, (400, 2))
    votes = Votes(thermal_px=thermal, visible_px=visible, weights=np.ones(400), pair=np.zeros(400, np.int64))
    everywhere = all_over(size_px)
    off_px = []
    for picture_px in (None, size_px):
        found = fit(votes, model=model, tolerance_px=3.0, picture_px=picture_px)
        gaps = transformed(found.visible_from_thermal_px, everywhere) - seen(everywhere)
        off_px.append(float(np.sqrt(np.square(gaps).sum(axis=1).mean())))
    assert off_px[1] < 0.7 * off_px[0] if times else off_px[1] < 0.4


def test_a_point_is_bent_with_the_cube_of_its_distance() -> None:
    middle, edge = np.array([[319.5, 239.5]]), np.array([[319.5 + 320.0, 239.5]])
    assert bent(middle, (640, 480)) == pytest.approx(middle)
    assert bent(edge, (640, 480)) - edge == pytest.approx(np.array([[320.0 * BEND, 0.0]]))
    half = (edge + middle) / 2
    assert bent(half, (640, 480)) - half == pytest.approx((bent(edge, (640, 480)) - edge) / 8)
