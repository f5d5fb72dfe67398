"""Calibrations from projected boards, held against the rig that they were projected with."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rtfusion_calibration.detect import View
from rtfusion_calibration.evidence import Level, gather, judge
from rtfusion_calibration.solve import Solution, solve

from rtfusion.errors import CalibrationError
from rtfusion.registration import Calibration
from rtfusion.registration.maps import visible_from_thermal
from rtfusion.types import Band
from tests.calibration.rigs import BOARD, Placement, make_rig, make_views, placements


def solved(rig: Calibration, views: list[View], *, distance_m: float = 8.0) -> Solution:
    return solve(
        views,
        board=BOARD,
        visible_size_px=rig.visible.size_px,
        thermal_size_px=rig.thermal.size_px,
        distance_m=distance_m,
    )


def map_error_px(found: Calibration, truth: Calibration) -> float:
    """Root mean square over the thermal picture of how far apart both put its pixels in the visible one."""
    width, height = truth.thermal.size_px
    grid = np.stack(np.meshgrid(np.linspace(0, width - 1, 9), np.linspace(0, height - 1, 7)), axis=-1).reshape(-1, 2)
    off = visible_from_thermal(found, thermal_px=grid) - visible_from_thermal(truth, thermal_px=grid)
    return float(np.sqrt(np.mean(np.sum(off**2, axis=1))))


def pose_errors(found: Calibration, truth: Calibration) -> tuple[float, float]:
    """Of the translation as a share of its length, and of the rotation in degrees."""
    there, here = found.visible_from_thermal, truth.visible_from_thermal
    assert there is not None
    assert here is not None
    length = np.linalg.norm(here.translation_m)
    share = np.linalg.norm(np.array(there.translation_m) - here.translation_m) / length
    turn, _ = cv2.Rodrigues(np.array(there.rotation) @ np.array(here.rotation).T)
    return float(share), float(np.degrees(np.linalg.norm(turn)))


@settings(max_examples=3, deadline=None, derandomize=True)
@given(
    turn_deg=st.tuples(*[st.floats(-3, 3)] * 3),
    baseline_m=st.floats(0.03, 0.15),
    vertical=st.booleans(),
    k1=st.floats(-0.3, 0.1),
    seed=st.integers(0, 99),
)
def test_a_rig_is_recovered(
    turn_deg: tuple[float, float, float], baseline_m: float, vertical: bool, k1: float, seed: int
) -> None:
    translation_m = (0.004, baseline_m, -0.003) if vertical else (baseline_m, 0.004, -0.003)
    truth = make_rig(turn_deg=turn_deg, translation_m=translation_m, thermal_distortion=(k1, 0.05, 0.0, 0.0))
    solution = solved(truth, make_views(truth, placements(12, seed=seed), noise_px=0.05, seed=seed))
    share, degrees = pose_errors(solution.calibration, truth)
    assert share < 0.02
    assert degrees < 0.1
    assert map_error_px(solution.calibration, truth) < 0.3
    assert map_error_px(solution.calibration.at_distance(2.0), truth.at_distance(2.0)) < 0.3


@pytest.mark.parametrize("seed", range(2))
def test_the_uncertainty_that_it_claims_is_the_one_that_it_has(seed: int) -> None:
    truth = make_rig()
    solution = solved(truth, make_views(truth, placements(12, seed=seed), noise_px=0.2, seed=seed))
    quality = solution.calibration.quality
    assert quality is not None
    claimed_px = quality.uncertainty_at_px(8.0)
    assert claimed_px is not None
    assert claimed_px / 4 < map_error_px(solution.calibration, truth) < 4 * claimed_px
    assert quality.epipolar_px is not None
    assert 0.15 < quality.rms_px < 0.35
    assert quality.views == len(solution.used) >= 10


def test_the_lens_model_is_no_larger_than_the_lens() -> None:
    truth = make_rig(visible_distortion=None, thermal_distortion=(-0.25, 0.0, 0.0, 0.0))
    cameras = solved(truth, make_views(truth, placements(12), noise_px=0.1)).cameras
    assert cameras[Band.VISIBLE].fit.lens.name in ("no distortion", "centered, no distortion")
    assert cameras[Band.THERMAL].fit.lens.name in ("k1", "centered, k1")
    held_out_px = cameras[Band.THERMAL].held_out_px
    assert held_out_px["k1"] < 0.5 * held_out_px["no distortion"]


def test_views_that_lie_are_named_and_left_out() -> None:
    truth = make_rig()
    views = make_views(truth, placements(14), noise_px=0.1)
    moved, misread, covered = [index for index, view in enumerate(views) if view.both][2:8:2]
    # the board moved between the two exposures
    views[moved] = replace(
        views[moved], visible=replace(views[moved].visible, points_px=views[moved].visible.points_px + 9.0)
    )
    # a quarter of the board is bent away in the thermal picture
    bent = views[misread].thermal.points_px.copy()
    bent[:, 0] += np.where(np.arange(len(bent)) % 9 > 4, 6.0, 0.0)
    views[misread] = replace(views[misread], thermal=replace(views[misread].thermal, points_px=bent))
    # one corner of it lies under a thumb
    thumb = views[covered].visible.points_px.copy()
    thumb[:3] += 12.0
    views[covered] = replace(views[covered], visible=replace(views[covered].visible, points_px=thumb))
    solution = solved(truth, views)
    assert "did the board move?" in solution.outliers[f"{moved:03d}"]
    assert f"{misread:03d}, thermal" in solution.outliers
    assert solution.outliers[f"{covered:03d}, visible"].startswith("3 of 54 points")
    assert f"{moved:03d}" not in solution.used
    assert f"{covered:03d}" in solution.used
    share, degrees = pose_errors(solution.calibration, truth)
    assert share < 0.02
    assert degrees < 0.15


def test_a_board_read_upside_down_is_turned_back() -> None:
    truth = make_rig()
    views = make_views(truth, placements(7), noise_px=0.05)
    half_turn = BOARD.symmetries[1]
    turned = [
        replace(view, thermal=view.thermal.reordered(half_turn)) if view.thermal is not None and index % 2 else view
        for index, view in enumerate(views)
    ]
    straight, back = solved(truth, views), solved(truth, turned)
    np.testing.assert_allclose(back.calibration.homography_px, straight.calibration.homography_px, rtol=1e-6)


def test_views_of_one_camera_alone_help_its_lens() -> None:
    truth = make_rig()
    views = make_views(truth, placements(12), noise_px=0.1)
    alone = [replace(view, visible=None) if index % 3 == 0 else view for index, view in enumerate(views)]
    solution = solved(truth, alone)
    assert len(solution.cameras[Band.THERMAL].sightings) > len(solution.used)
    assert map_error_px(solution.calibration, truth) < 0.6


def test_few_views_give_a_homography_and_say_so() -> None:
    truth = make_rig(visible_distortion=None, thermal_distortion=None, translation_m=(0.0, 0.0, 0.0))
    views = make_views(truth, placements(2), noise_px=0.05)
    solution = solved(truth, views)
    assert not solution.cameras
    assert solution.calibration.visible_from_thermal is None
    assert "needs 4 or more" in solution.notes[0]
    assert map_error_px(solution.calibration, truth) < 1.0
    evidence = gather(solution.calibration, solution.used_views)
    assert judge(evidence).level is Level.CARE
    with pytest.raises(CalibrationError, match="holds no pose"):
        solution.calibration.at_distance(4.0)


def test_views_all_alike_are_not_sold_as_a_pose() -> None:
    truth = make_rig()
    flat = [Placement((0.5 * index, -0.4 * index, 0.0), (0.01 * index, 0.0, 1.0)) for index in range(8)]
    solution = solved(truth, make_views(truth, flat, noise_px=0.2))
    verdict = judge(gather(solution.calibration, solution.used_views))
    assert verdict.level is Level.BAD or not solution.cameras
    quality = solution.calibration.quality
    assert quality is not None
    assert quality.rms_px < 2.0  # it looks good


def test_no_board_in_both_is_an_error_with_the_counts() -> None:
    truth = make_rig()
    views = [replace(view, thermal=None) for view in make_views(truth, placements(5))]
    seen = sum(view.visible is not None for view in views)
    with pytest.raises(CalibrationError, match=rf"visible {seen}, thermal 0 of 5.*warm enough"):
        solved(truth, views)
