"""The generated street: one scene in two pictures, and its truth."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from rtfusion.synthetic import COUNTS_PER_LEVEL, PERIOD_S, Scene, Target, scaling
from rtfusion.types import Band

SIZE = (640, 480)
TURNED = np.array([[1.06, -0.03, -9.0], [0.025, 1.05, -14.0], [2e-5, -1e-5, 1.0]])


@cache
def street(kind: str = "day", *, empty: bool = False) -> Scene:
    return Scene(kind=kind, seed=7, visible_size_px=SIZE, empty=empty)


def apart(target: Target, others: tuple[Target, ...], margin: float = 6.0) -> bool:
    left, top, right, bottom = target.box_px
    return all(
        other is target
        or other.box_px[0] > right + margin
        or other.box_px[2] < left - margin
        or other.box_px[1] > bottom + margin
        or other.box_px[3] < top - margin
        for other in others
    )


def clear_people(scene: Scene, time_s: float) -> list[Target]:
    """Walkers in full view, with nobody beside, before or behind them."""
    targets = scene.targets(time_s)
    return [t for t in targets if t.kind == "person" and t.hidden < 0.005 and apart(t, targets)]


def test_the_thermal_centroid_of_a_person_lies_where_the_truth_says() -> None:
    scene = street("night")
    alone = street("night", empty=True).render(Band.THERMAL, 0.0).astype(np.float64)
    rows, columns = np.indices(alone.shape)
    checked = 0
    for time_s in np.arange(0.0, 40.0, 4.0):
        # With 40 levels as full cover, clothes, skin and shoes weigh nearly the same, as in an outline.
        warmth = np.clip(scene.render(Band.THERMAL, time_s) - alone, 0.0, 40.0)
        for target in clear_people(scene, time_s):
            left, top, right, bottom = target.box_px
            if target.distance_m < 10 and left > 5 and right < SIZE[0] - 5:
                inside = (columns > left - 3) & (columns < right + 3) & (rows > top - 3) & (rows < bottom + 3)
                weight = warmth * inside
                center = np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
                assert np.hypot(*(center - target.centroid_px)) < 1.0
                checked += 1
    assert checked >= 5


@pytest.mark.parametrize(
    ("thermal_size", "matrix"),
    [
        ((320, 240), scaling(dst_size_px=SIZE, src_size_px=(320, 240))),
        ((512, 400), TURNED @ scaling(dst_size_px=SIZE, src_size_px=(512, 400))),
    ],
    ids=["half size", "turned, slanted, other aspect"],
)
def test_thermal_pixels_map_through_the_homography(
    thermal_size: tuple[int, int], matrix: npt.NDArray[np.float64]
) -> None:
    window = cv2.createHanningWindow(thermal_size, cv2.CV_32F)
    moved = {"visible_size_px": SIZE, "thermal_size_px": thermal_size, "visible_from_thermal_px": matrix}

    def offset_px(expected: npt.NDArray[np.float32], found: npt.NDArray[np.float32]) -> float:
        """How far the picture of the moved camera lies from the other one, warped to it; in thermal pixels."""
        blurred = cv2.GaussianBlur(expected, (0, 0), 1.5)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        shift, _ = cv2.phaseCorrelate(cv2.warpPerspective(blurred, matrix, thermal_size, flags=flags), found, window)
        return float(np.hypot(*shift))

    empty = [street("night", empty=True), Scene(kind="night", empty=True, **moved)]  # type: ignore[arg-type]
    alone = [scene.render(Band.THERMAL, 0.0).astype(np.float32) for scene in empty]
    assert offset_px(*alone) < 0.12  # a missing half pixel would be 0.35
    scenes = [street("night"), Scene(kind="night", **moved)]  # type: ignore[arg-type]
    for time_s in (0.0, 8.0):
        people = [
            np.clip(scene.render(Band.THERMAL, time_s) - empty, 0, 40)
            for scene, empty in zip(scenes, alone, strict=True)
        ]
        assert offset_px(*people) < 0.3


def test_a_person_stands_at_the_same_place_in_the_visible_picture() -> None:
    scene = street()
    alone = street(empty=True).render(Band.VISIBLE, 0.0).astype(int)
    checked = 0
    for time_s in np.arange(0.0, 32.0, 4.0):
        changed = np.abs(scene.render(Band.VISIBLE, time_s) - alone).max(axis=2) > 24
        for target in clear_people(scene, time_s):
            left, top, right, bottom = (round(side) for side in target.box_px)
            if target.distance_m > 10:
                continue
            rows = np.flatnonzero(changed[:, left:right].mean(axis=1) > 0.08)
            assert abs(rows[rows >= top - 4][0] - top) <= 2
            upper = changed[top : top + (bottom - top) // 2, left:right]  # above the shadow on the ground
            columns = np.flatnonzero(upper.any(axis=0))
            assert abs(left + (columns[0] + columns[-1]) / 2 - target.centroid_px[0]) < 0.12 * (bottom - top)
            checked += 1
    assert checked >= 3


def test_the_scene_depends_on_parameters_and_time_alone() -> None:
    first, second = (Scene(kind="night", seed=3, visible_size_px=(160, 120)) for _ in range(2))
    times = (0.0, 1.7, 250.25)
    forward = [first.render(band, time_s) for band in Band for time_s in times]
    backward = [second.render(band, time_s) for band in reversed(Band) for time_s in reversed(times)]
    for one, other in zip(forward, reversed(backward), strict=True):
        np.testing.assert_array_equal(one, other)
    assert first.targets(1.7) == second.targets(1.7)


def test_another_seed_is_another_scene() -> None:
    first, second = (Scene(seed=seed, visible_size_px=(160, 120)) for seed in (1, 2))
    assert np.abs(first.render(Band.VISIBLE, 0.0).astype(int) - second.render(Band.VISIBLE, 0.0)).mean() > 2
    assert first.targets(0.0) != second.targets(0.0)


def test_the_scene_repeats_after_its_period_without_a_seam() -> None:
    scene = street()
    for before, after in zip(scene.targets(2.5), scene.targets(2.5 + PERIOD_S), strict=True):
        assert before.identity == after.identity
        assert after.centroid_px == pytest.approx(before.centroid_px, abs=0.01)


def test_everybody_moves_smoothly() -> None:
    scene = street()
    here = {t.identity: t for t in scene.targets(5.0)}
    later = {t.identity: t for t in scene.targets(5.0 + 1 / 30)}
    kept = here.keys() & later.keys()
    assert len(kept) >= 4
    for identity in kept:
        step = np.subtract(later[identity].centroid_px, here[identity].centroid_px)
        assert 0.5 < abs(step[0]) < 16
        assert abs(step[1]) < 4


def test_targets_tell_box_kind_and_distance() -> None:
    targets = street().targets(0.0)
    assert {t.kind for t in targets} == {"person", "vehicle"}
    assert [t.distance_m for t in targets] == sorted(t.distance_m for t in targets)
    for t in targets:
        left, top, right, bottom = t.box_px
        assert left < t.centroid_px[0] < right
        assert top < t.centroid_px[1] < bottom
        assert 0.0 <= t.hidden <= 1.0
        tall_m = (bottom - top) * t.distance_m / 560.0
        assert 1.4 < tall_m < 2.0 if t.kind == "person" else 1.2 < tall_m < 2.4


def test_the_lantern_hides_part_of_a_walker() -> None:
    scene = street()
    lantern_x = 560.0 * 2.15 / 6.9 + 319.5
    behind = [
        target
        for time_s in np.arange(0.0, 40.0, 0.5)
        for target in scene.targets(time_s)
        if target.kind == "person" and 6.9 < target.distance_m < 10 and abs(target.centroid_px[0] - lantern_x) < 5
    ]
    assert behind
    assert all(0.08 < target.hidden < 0.9 for target in behind)


def test_thermal_levels_follow_a_constant_law() -> None:
    size = (160, 120)
    eight, sixteen = (Scene(visible_size_px=size, thermal_bits=bits) for bits in (8, 16))
    levels, counts = eight.render(Band.THERMAL, 1.0), sixteen.render(Band.THERMAL, 1.0)
    assert levels.dtype == np.uint8
    assert counts.dtype == np.uint16
    assert 6800 < counts.min() < 7300
    assert 8900 < counts.max() < 10000
    open_range = (levels > 5) & (levels < 250)
    zero = np.median(counts[open_range] - COUNTS_PER_LEVEL * levels[open_range])
    error = np.abs(counts[open_range] - COUNTS_PER_LEVEL * levels[open_range] - zero)
    assert np.percentile(error, 95) < 1.5 * COUNTS_PER_LEVEL  # but for edges against the sky, which 8 bits cut off


def test_people_are_the_warm_ones() -> None:
    for kind in ("day", "night", "smoke"):
        picture = street(kind).render(Band.THERMAL, 0.0)
        for target in clear_people(street(kind), 0.0):
            left, top, right, bottom = (round(side) for side in target.box_px)
            person = picture[top:bottom, left:right]
            around = picture[top:bottom, max(left - 15, 0) : left]
            assert np.percentile(person, 90) > np.median(around) + 50


def test_smoke_hides_people_from_the_visible_camera_and_not_from_the_thermal_one() -> None:
    clear, smoke = street("day"), street("smoke")
    ratios: dict[Band, list[float]] = {Band.VISIBLE: [], Band.THERMAL: []}
    for time_s in (0.0, 3.0, 6.0, 9.0):
        for band, found in ratios.items():
            plain, hidden = clear.render(band, time_s), smoke.render(band, time_s)
            for target in clear_people(clear, time_s):
                if target.distance_m < 10:
                    left, top, right, bottom = (round(side) for side in target.box_px)
                    window = slice(top, bottom), slice(left, right)
                    found.append(float(np.std(hidden[window]) / np.std(plain[window])))
    assert len(ratios[Band.VISIBLE]) >= 3
    assert np.mean(ratios[Band.VISIBLE]) < 0.2
    assert max(ratios[Band.VISIBLE]) < 0.35
    assert min(ratios[Band.THERMAL]) > 0.7


def test_smoke_drifts() -> None:
    sky = np.s_[200:260, :]
    pictures = [street("smoke").render(Band.VISIBLE, time_s)[sky].astype(int) for time_s in (0.0, 2.0)]
    assert np.abs(pictures[0] - pictures[1]).mean() > 1


def test_night_is_dark_but_for_the_lamps() -> None:
    night, day = (cv2.cvtColor(street(kind).render(Band.VISIBLE, 0.0), cv2.COLOR_BGR2GRAY) for kind in ("night", "day"))
    assert night.mean() < 0.55 * day.mean()
    assert night.max() > 230


def test_letters_are_for_the_visible_camera_and_heat_for_the_thermal_one() -> None:
    visible, thermal = (street().render(band, 0.0) for band in Band)
    sign = np.s_[180:196, 350:400]
    assert visible[sign].std() > 50
    assert thermal[sign].std() < 3
    duct, wall = np.s_[72:92, 479:482], np.s_[72:92, 408:436]
    assert abs(visible[duct].mean() - visible[wall].mean()) < 12
    assert thermal[duct].mean() > thermal[wall].mean() + 30


def test_a_thermal_camera_that_looks_past_the_street_still_sees_something() -> None:
    wide = np.array([[2.5, 0.0, -700.0], [0.0, 2.5, -330.0], [0.0, 0.0, 1.0]])
    picture = Scene(visible_size_px=SIZE, visible_from_thermal_px=wide).render(Band.THERMAL, 0.0)
    ground = picture[240:].reshape(15, 16, 40, 16).mean(axis=(1, 3))
    assert ground.min() > 40


@pytest.mark.parametrize("size", [(64, 48), (161, 97), (320, 180)])
def test_any_size_is_filled(size: tuple[int, int]) -> None:
    scene = Scene(visible_size_px=size)
    assert scene.render(Band.VISIBLE, 0.0).shape == (size[1], size[0], 3)
    assert scene.render(Band.THERMAL, 0.0).shape == (size[1], size[0])
    assert scene.render(Band.VISIBLE, 0.0)[-1].min() > 0


# -- two places -------------------------------------------------------------------------------------------------------


def test_a_camera_beside_the_other_sees_what_is_near_elsewhere_as_far_as_its_distance_says() -> None:
    """The thermal picture, brought back by the true displacement, is the one that is seen from the place of the other camera."""
    given = {"visible_size_px": (320, 240), "walkers_m": (3.0,)}
    beside, same = Scene(baseline_m=0.1, **given), Scene(**given)
    away, here = (scene.render(Band.THERMAL, 1.0).astype(np.float32) for scene in (beside, same))
    displaced_px = np.asarray(beside.displacement_px(beside.distances_m(1.0)), np.float32)
    columns, rows = np.meshgrid(np.arange(320, dtype=np.float32), np.arange(240, dtype=np.float32))
    back = cv2.remap(away, columns - displaced_px, rows, cv2.INTER_LINEAR)
    inside = np.s_[:, 20:]
    assert np.abs(back - here)[inside].mean() < 0.4 * np.abs(away - here)[inside].mean()
    assert np.array_equal(beside.render(Band.VISIBLE, 1.0), same.render(Band.VISIBLE, 1.0))
    assert beside.displacement_px(3.0) == pytest.approx(280 * 0.1 / 3.0)


def test_distances_are_those_of_whoever_is_seen() -> None:
    scene = Scene(visible_size_px=(320, 240), walkers_m=(3.0, 6.0))
    distances_m = scene.distances_m(1.5)
    chosen = [target for target in scene.targets(1.5) if target.distance_m in (3.0, 6.0)]
    assert sorted(target.distance_m for target in chosen) == [3.0, 6.0]
    for target in chosen:
        assert target.hidden < 0.1, "seen as a whole"
        x, y = (round(value) for value in target.centroid_px)
        assert distances_m[y, x] == pytest.approx(target.distance_m)
    assert distances_m[0, 0] == pytest.approx(20.0), "the houses"
    assert distances_m[-1].max() < 8.0, "the ground before the camera"


def test_whoever_walks_by_choice_changes_nobody_else() -> None:
    plain, more = Scene(visible_size_px=(320, 240)), Scene(visible_size_px=(320, 240), walkers_m=(20.0,))
    others = [target for target in more.targets(0.5) if target.distance_m != 20.0]
    assert [target.box_px for target in others] == [target.box_px for target in plain.targets(0.5)]
    changed = (plain.render(Band.THERMAL, 0.5) != more.render(Band.THERMAL, 0.5)).mean()
    assert changed < 0.05
