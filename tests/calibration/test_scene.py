from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import pytest
from rtfusion_calibration import scene
from rtfusion_calibration.fitting import Votes, fit_average, regions_of, transformed
from rtfusion_calibration.scene import AGREED_PX, SceneEstimate, _kind, _misfit, _opinion, _plainness, estimate_scene
from rtfusion_calibration.search import SCALES, TURNS_DEG, GrayPair

from rtfusion.errors import CalibrationError
from rtfusion.registration import Calibration
from rtfusion.registration.fitting import all_over, bent
from rtfusion.registration.structure import equalized
from rtfusion.synthetic import Scene
from rtfusion.types import Band, Image8
from tests.calibration.pictures import SIZE_PX, gray_pair, similarity


@pytest.fixture
def searched_nearby(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search looks only at scales of 0.87 to 1.14 and turns of up to 6 degrees: an eighth of the work."""
    monkeypatch.setattr("rtfusion_calibration.search.SCALES", SCALES[8:13])
    monkeypatch.setattr("rtfusion_calibration.search.TURNS_DEG", TURNS_DEG[2:7])


def error_px(estimate: SceneEstimate, truth: np.ndarray) -> float:
    """Root mean square over the picture, edges included."""
    grid = np.stack(np.meshgrid(np.arange(0, SIZE_PX[0], 20.0), np.arange(0, SIZE_PX[1], 20.0)), axis=2).reshape(-1, 2)
    gaps = transformed(estimate.visible_from_thermal_px, grid) - transformed(truth, grid)
    return float(np.sqrt(np.square(gaps).sum(axis=1).mean()))


def test_one_pair_tells_where_the_thermal_picture_lies() -> None:
    truth = similarity(shift_px=(23.4, -17.7), turn_deg=4.0, scale=1.12)
    estimate = estimate_scene([gray_pair(1, truth)])
    assert error_px(estimate, truth) < 0.5
    assert 0.8 < estimate.uncertainty_px < 1.2
    assert estimate.corner_uncertainty_px < 4.0
    assert not estimate.is_rough
    assert (estimate.pairs, estimate.disagreement_px) == (1, 0.0)


@pytest.mark.usefixtures("searched_nearby")
def test_several_pairs_tell_perspective_to_a_third_of_a_pixel() -> None:
    truth = similarity(shift_px=(-12.3, 8.6), turn_deg=-2.0, scale=0.94)
    truth[2, :2] = 1.5e-4, -1e-4
    estimate = estimate_scene([gray_pair(seed, truth) for seed in range(4)])
    assert estimate.model.name == "HOMOGRAPHY"
    assert error_px(estimate, truth) < 0.3
    assert estimate.disagreement_px < 0.3
    calibration = estimate.calibration(visible_size_px=SIZE_PX, thermal_size_px=SIZE_PX, thermal_delay_ns=7)
    assert calibration.quality is not None
    assert calibration.quality.views == 4
    assert calibration.thermal_delay_ns == 7
    assert "homography from" in calibration.provenance["estimate"]
    assert isinstance(calibration, Calibration)


@pytest.mark.parametrize("near_px", [0.0, 3.0])
def test_what_lies_at_another_distance_is_part_of_the_uncertainty(near_px: float) -> None:
    """The lower third of the picture is near, and displaced by parallax."""
    rng = np.random.default_rng(5)
    thermal = rng.uniform((0, 0), SIZE_PX, (400, 2))
    visible = thermal + rng.normal(0, 0.3, (400, 2))
    visible[thermal[:, 1] > SIZE_PX[1] * 2 / 3, 0] += near_px
    votes = Votes(thermal_px=thermal, visible_px=visible, weights=np.ones(400), pair=np.zeros(400, np.int64))
    regions = regions_of(votes, SIZE_PX)
    best = fit_average(votes, tolerance_px=3.0, regions=regions)
    misfit_px = _misfit(votes, best, regions, tolerance_px=AGREED_PX)
    assert misfit_px < 0.2 if near_px == 0.0 else 0.5 < misfit_px < near_px


def exact_votes(transform: np.ndarray) -> Votes:
    thermal = np.random.default_rng(6).uniform((0, 0), SIZE_PX, (400, 2))
    noise_px = np.random.default_rng(7).normal(0, 0.2, (400, 2))
    return Votes(
        thermal_px=thermal,
        visible_px=transformed(transform, thermal) + noise_px,
        weights=np.ones(400),
        pair=np.zeros(400, np.int64),
    )


def test_where_the_matcher_alone_would_put_the_picture_is_part_of_the_uncertainty() -> None:
    votes = exact_votes(np.eye(3))
    best = fit_average(votes, tolerance_px=3.0, regions=regions_of(votes, SIZE_PX))
    for off_px in (0.0, 4.0):
        learned = exact_votes(similarity(shift_px=(off_px, 0.0)))
        median_px, corner_px = _opinion(learned, best, np.eye(3), thermal_px=SIZE_PX, scale=1.0)
        assert median_px == pytest.approx(off_px, abs=0.3)
        assert corner_px == pytest.approx(off_px, abs=0.5)


def test_a_slanted_picture_is_told_from_one_that_is_turned() -> None:
    slanted = np.eye(3)
    slanted[2, :2] = 3e-4, -2e-4
    for truth, plain in ((similarity(shift_px=(5.0, 2.0), turn_deg=3.0), 1.0), (slanted, 0.0)):
        votes = exact_votes(truth)
        best = fit_average(votes, tolerance_px=3.0, regions=regions_of(votes, SIZE_PX))
        assert _plainness(best, thermal_px=SIZE_PX, width_px=SIZE_PX[0]) == pytest.approx(plain, abs=0.05)


def test_more_perspective_than_two_cameras_have_is_refused() -> None:
    """A part of a picture that agrees by chance bends the rest of it; sides of other scales are no perspective."""
    width_px, height_px = SIZE_PX
    corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], np.float32) * np.array(
        (width_px - 1, height_px - 1), np.float32
    )

    def keystone(share: float) -> np.ndarray:
        moved = corners + np.array([(1, 1), (-1, 1), (1, -1), (-1, -1)], np.float32) * np.float32(share * width_px)
        moved[2:] = corners[2:]
        return np.asarray(cv2.getPerspectiveTransform(corners, moved), np.float64)

    assert _kind(keystone(0.05), SIZE_PX, width_px).name == "HOMOGRAPHY"
    assert _kind(np.diag([1.3, 0.8, 1.0]), SIZE_PX, width_px).name == "AFFINE"
    with pytest.raises(CalibrationError, match="px of perspective, more than two cameras"):
        _kind(keystone(0.2), SIZE_PX, width_px)


@pytest.mark.parametrize("slant", [0.0, 0.00001, 0.00002, 0.00004])
def test_a_wide_picture_asks_for_no_freer_kind_than_the_same_one_at_640_pixels(slant: float) -> None:
    onto_640 = np.diag([640 / SIZE_PX[0], 640 / SIZE_PX[0], 1.0])
    onto_640[2, 0] = slant
    onto_1920 = np.diag([3.0, 3.0, 1.0]) @ onto_640
    assert _kind(onto_1920, SIZE_PX, 1920) is _kind(onto_640, SIZE_PX, 640)


def test_pictures_of_two_places_are_refused() -> None:
    one, other = gray_pair(1, np.eye(3)), gray_pair(2, np.eye(3))
    with pytest.raises(CalibrationError, match="does not determine the registration"):
        estimate_scene([GrayPair(visible=one.visible, thermal=other.thermal)])


def test_pictures_of_nothing_are_refused() -> None:
    blank = np.full(SIZE_PX[::-1], 128, np.uint8)
    with pytest.raises(CalibrationError, match="only 0 patches have structure"):
        estimate_scene([GrayPair(visible=blank, thermal=blank)])
    with pytest.raises(CalibrationError, match="no pair"):
        estimate_scene([])


@pytest.mark.usefixtures("searched_nearby")
def test_a_few_things_in_one_corner_do_not_make_a_registration() -> None:
    pair = gray_pair(3, np.eye(3))
    visible, thermal = pair.visible.copy(), pair.thermal.copy()
    for picture in (visible, thermal):
        picture[100:] = 128
        picture[:, 110:] = 128
    with pytest.raises(CalibrationError, match="does not determine"):
        estimate_scene([GrayPair(visible=visible, thermal=thermal)])


@pytest.mark.usefixtures("searched_nearby")
def test_a_camera_that_moves_between_the_pairs_is_noticed() -> None:
    places = [similarity(shift_px=(x, 0.0)) for x in (0.0, 0.0, 9.0, 9.0)]
    try:
        estimate = estimate_scene([gray_pair(seed, place) for seed, place in enumerate(places)])
    except CalibrationError as refusal:
        assert "differ" in str(refusal) or "does not determine" in str(refusal)
    else:
        assert estimate.disagreement_px > 3.0
        assert estimate.uncertainty_px > 1.5, "what the pairs differ by is part of it"


@pytest.mark.usefixtures("searched_nearby")
def test_the_pair_that_is_of_another_moment_is_named() -> None:
    usual, odd = similarity(shift_px=(4.0, 0.0)), similarity(shift_px=(14.0, 3.0))
    pairs = [gray_pair(seed, odd if seed == 2 else usual) for seed in range(4)]
    estimate = estimate_scene(pairs)
    assert estimate.outliers == (2,)
    assert error_px(estimate, usual) < 0.5


@pytest.mark.usefixtures("searched_nearby")
@pytest.mark.parametrize("seeds", [2, pytest.param(8, marks=pytest.mark.slow)])  # eight take four seconds
def test_the_stated_uncertainty_covers_the_error(seeds: int) -> None:
    """On made-up pairs of known truth."""
    ratios = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        truth = similarity(
            shift_px=tuple(rng.uniform(-20, 20, 2)), turn_deg=rng.uniform(-4, 4), scale=rng.uniform(0.9, 1.1)
        )
        estimate = estimate_scene([gray_pair(seed, truth)])
        ratios.append(error_px(estimate, truth) / estimate.uncertainty_px)
        assert ratios[-1] < 2.0
    assert np.sqrt(np.mean(np.square(ratios))) < 1.0


@pytest.mark.usefixtures("searched_nearby")
def test_lenses_that_bend_the_pictures_differently_do_not_stretch_them() -> None:
    """Patches do not reach the edges; what they tell of the lens in the middle does not move the edges as far as it would."""
    truth, times = similarity(shift_px=(6.0, -4.0), turn_deg=1.5, scale=1.03), 3.0
    straight = gray_pair(3, truth)

    def seen(points: np.ndarray) -> np.ndarray:
        return points - times * (bent(points, SIZE_PX) - points)

    grid = np.stack(np.meshgrid(*(np.arange(side, dtype=np.float64) for side in SIZE_PX)), axis=2)
    places = seen(grid.reshape(-1, 2)).reshape(grid.shape).astype(np.float32)
    thermal = cv2.remap(straight.thermal, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    estimate = estimate_scene([GrayPair(visible=straight.visible, thermal=cast(Image8, thermal))])
    points = all_over(SIZE_PX)
    nearest = cv2.findHomography(points, transformed(truth, seen(points)), 0)[0]
    off_px = np.linalg.norm(
        transformed(estimate.visible_from_thermal_px, points) - transformed(nearest, points), axis=1
    )
    assert np.median(off_px) < 0.9  # 1.25 px where lenses are not asked


@pytest.mark.shared
@pytest.mark.parametrize("name", ["01", "05", "07"])
def test_real_pairs_come_within_two_pixels(shared_data: Path, name: str) -> None:
    folder = shared_data / "calibration" / "misaligned_affine_gt"
    truth = json.loads((folder / "gt.json").read_text())[name]
    visible, thermal = (equalized(cv2.imread(str(folder / band / f"{name}.png"))) for band in ("vi", "ir"))
    estimate = estimate_scene([GrayPair(visible=visible, thermal=thermal)])
    found = transformed(estimate.visible_from_thermal_px, np.array(truth["landmarks_ir"]))
    off_px = np.median(np.linalg.norm(found - np.array(truth["landmarks_vi"]), axis=1))
    assert off_px < min(2.0, 2 * estimate.uncertainty_px)


@pytest.mark.shared
@pytest.mark.usefixtures("searched_nearby")
def test_registered_pairs_stay_where_they_are(shared_data: Path) -> None:
    folder = shared_data / "train" / "m3svd"
    names = sorted(path.name for path in (folder / "vi").glob("0115_1834*"))[::10]
    pairs = [
        GrayPair(
            visible=equalized(cv2.imread(str(folder / "vi" / n))), thermal=equalized(cv2.imread(str(folder / "ir" / n)))
        )
        for n in names
    ]
    estimate = estimate_scene(pairs)
    grid = np.stack(np.meshgrid(np.arange(0, 640, 32.0), np.arange(0, 480, 32.0)), axis=2).reshape(-1, 2)
    assert np.median(np.linalg.norm(transformed(estimate.visible_from_thermal_px, grid) - grid, axis=1)) < 2.0


def test_a_place_that_the_matcher_is_sure_of_has_no_rival(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere as many patches agree, or none do anywhere: the matcher decides, where it is sure, and else none does."""
    near, far = similarity(shift_px=(3.0, 2.0)), similarity(shift_px=(150.0, 0.0))
    pair = gray_pair(1, np.eye(3))
    votes = {agreed: exact_votes(np.eye(3)).only(np.arange(400) < agreed) for agreed in (0, 100)}
    monkeypatch.setattr(scene, "search", lambda pairs, keep: [far])
    for agreed, reason in ((100, "two places"), (0, "nothing in one picture")):
        monkeypatch.setattr(
            scene, "follow", lambda pairs, start, levels, a=agreed: (start, moved_votes(votes[a], start))
        )
        with pytest.raises(CalibrationError, match=reason):
            scene._place([pair], [near], [])
        assert np.array_equal(scene._place([pair], [near], [near]), near)


def moved_votes(votes: Votes, transform: np.ndarray) -> Votes:
    return replace(votes, visible_px=transformed(transform, votes.thermal_px))


def test_pairs_of_a_scene_that_stands_are_one_observation_of_it() -> None:
    rng = np.random.default_rng(0)
    once = rng.uniform(0, 300, (40, 2))
    many = np.tile(once, (6, 1))
    votes = Votes(visible_px=many, thermal_px=many, weights=np.ones(240), pair=np.repeat(np.arange(6), 40))
    counts = scene._counted_once(votes)
    assert counts.sum() == pytest.approx(40)
    assert counts[votes.pair == 2].sum() == pytest.approx(40 / 6)


def test_a_mirrored_picture_is_refused_and_named_however_many_pairs_there_are() -> None:
    street = Scene(visible_size_px=(480, 360))
    visible, thermal = (equalized(street.render(band, 2.0)) for band in (Band.VISIBLE, Band.THERMAL))
    mirrored = GrayPair(visible=visible, thermal=np.ascontiguousarray(thermal[:, ::-1]))
    with pytest.raises(CalibrationError, match=r"mirrored or turned.*\?flip=h"):
        estimate_scene([mirrored] * 5)
