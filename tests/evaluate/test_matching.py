from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtfusion.evaluate.matching import Outcome, at_score, average_precision, contrast, match, pool
from rtfusion.focus.overlap import overlaps, suppress


def boxes(*corners: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(corners, np.float64).reshape(-1, 4)


def outcome(scores: list[float], hits: list[bool], *, wanted: int) -> Outcome:
    return Outcome(scores=np.array(scores), hits=np.array(hits, bool), wanted=wanted)


OBJECT = (0, 0, 10, 20)
NEAR = (0, 5, 10, 25)  # shares 150 of 250 with OBJECT: 0.6
FAR = (0, 10, 10, 30)  # shares 100 of 300: a third
ELSEWHERE = (100, 100, 110, 120)


def test_intersection_over_union_by_hand() -> None:
    found = overlaps(boxes(OBJECT, NEAR), boxes(OBJECT, FAR, ELSEWHERE))
    assert found == pytest.approx(np.array([[1.0, 1 / 3, 0.0], [0.6, 150 / 250, 0.0]]))
    assert overlaps(boxes(), boxes(OBJECT)).shape == (0, 1)


def test_suppression_keeps_the_best_of_a_cluster() -> None:
    scores = np.array([0.5, 0.9, 0.8, 0.1])
    assert suppress(boxes(OBJECT, NEAR, ELSEWHERE, FAR), scores, iou=0.5) == [1, 2]
    assert suppress(boxes(OBJECT, NEAR), np.array([0.5, 0.9]), iou=0.6) == [1, 0], "exactly the limit stays"
    assert suppress(boxes(), np.empty(0), iou=0.5) == []


def test_an_object_is_found_once_and_by_the_best_score() -> None:
    result = match(
        boxes=boxes(OBJECT, NEAR, ELSEWHERE), scores=np.array([0.5, 0.9, 0.7]), wanted=boxes(OBJECT), ignored=boxes()
    )
    assert result.scores.tolist() == [0.9, 0.7, 0.5]
    assert result.hits.tolist() == [True, False, False], "the looser box has the higher score; the exact one comes late"
    assert result.wanted == 1


def test_a_detection_takes_the_free_object_that_it_overlaps_most() -> None:
    result = match(
        boxes=boxes(OBJECT, OBJECT), scores=np.array([0.9, 0.8]), wanted=boxes(NEAR, OBJECT), ignored=boxes()
    )
    assert result.hits.tolist() == [True, True], "the second one is left with the neighbor, which it overlaps by 0.6"


def test_less_than_half_of_the_union_is_a_miss_and_a_false_alarm() -> None:
    result = match(boxes=boxes(FAR), scores=np.array([0.9]), wanted=boxes(OBJECT), ignored=boxes())
    assert (result.hits.tolist(), result.wanted) == ([False], 1)


def test_ignored_objects_are_neither_missed_nor_false() -> None:
    crowd = (50, 0, 150, 200)
    inside, across, beside = (60, 10, 70, 30), (40, 0, 56, 20), (30, 0, 54, 20)
    result = match(
        boxes=boxes(OBJECT, inside, across, beside),
        scores=np.array([0.9, 0.8, 0.7, 0.6]),
        wanted=boxes(OBJECT),
        ignored=boxes(crowd),
    )
    assert result.scores.tolist() == [0.9, 0.7, 0.6], "only what lies on the crowd by half or more is left out"
    assert result.hits.tolist() == [True, False, False]
    assert result.wanted == 1


def test_an_object_before_an_ignored_one_still_counts() -> None:
    result = match(boxes=boxes(OBJECT), scores=np.array([0.9]), wanted=boxes(OBJECT), ignored=boxes((0, 0, 50, 50)))
    assert result.hits.tolist() == [True]


def test_nothing_to_find_and_nothing_found() -> None:
    empty = match(boxes=boxes(), scores=np.empty(0), wanted=boxes(), ignored=boxes())
    assert at_score(empty, least_score=0.4) == {"precision": None, "recall": None, "f1": None}
    assert average_precision(empty) is None
    blind = match(boxes=boxes(), scores=np.empty(0), wanted=boxes(OBJECT), ignored=boxes())
    assert at_score(blind, least_score=0.4) == {"precision": None, "recall": 0.0, "f1": 0.0}
    assert average_precision(blind) == 0.0


def test_precision_recall_and_f1_by_hand() -> None:
    result = outcome([0.9, 0.8, 0.4, 0.39], [True, False, True, True], wanted=5)
    figures = at_score(result, least_score=0.4)
    assert figures == pytest.approx({"precision": 2 / 3, "recall": 2 / 5, "f1": 2 * 2 / (3 + 5)})


@pytest.mark.parametrize(
    ("hits", "wanted", "area"),
    [
        ([True, True], 2, 1.0),
        ([True, False, True], 2, (1 + 2 / 3) / 2),
        ([True, False, True], 4, (1 + 2 / 3) / 4),  # half of the objects are never found
        ([False, True, True], 2, 2 / 3),  # 1/2 at the first, raised to the 2/3 that comes after it
        ([False], 1, 0.0),
    ],
)
def test_average_precision_by_hand(hits: list[bool], wanted: int, area: float) -> None:
    scores = [0.9 - 0.1 * place for place in range(len(hits))]
    assert average_precision(outcome(scores, hits, wanted=wanted)) == pytest.approx(area)


@given(hits=st.lists(st.booleans(), max_size=12), extra=st.integers(1, 3))
def test_late_false_alarms_cost_no_average_precision(hits: list[bool], extra: int) -> None:
    scores = [1.0 - 0.01 * place for place in range(len(hits))]
    area = average_precision(outcome(scores, hits, wanted=sum(hits) + extra))
    with_more = average_precision(outcome([*scores, 0.1], [*hits, False], wanted=sum(hits) + extra))
    assert area is not None
    assert 0.0 <= area < 1.0
    assert with_more == pytest.approx(area)


def test_pooling_ranks_the_detections_of_all_frames_together() -> None:
    frames = [outcome([0.9, 0.2], [True, True], wanted=2), outcome([0.5], [False], wanted=1)]
    together = pool(frames)
    assert together.wanted == 3
    assert average_precision(together) == pytest.approx((1 + 2 / 3) / 3)
    assert pool([]).wanted == 0


def test_contrast_is_the_difference_of_the_means_of_box_and_ring() -> None:
    gray = np.full((60, 60), 40, np.uint8)
    gray[20:40, 20:40] = 100
    assert contrast(gray, box=(20, 20, 40, 40), others=[]) == pytest.approx(60)
    gray[20:40, 20:40] = 10
    assert contrast(gray, box=(20, 20, 40, 40), others=[]) == pytest.approx(30), "darker counts as brighter does"
    gray[:15] = 255
    assert contrast(gray, box=(20, 20, 40, 40), others=[]) == pytest.approx(30), "the ring is 5 wide and ends at 15"


def test_contrast_leaves_neighbors_out_of_the_surround() -> None:
    gray = np.full((60, 60), 40, np.uint8)
    gray[0:20, 0:40] = 100
    box, neighbor = (0, 0, 20, 20), (20, 0, 40, 20)
    assert contrast(gray, box=box, others=[]) == pytest.approx(100 - (100 * 100 + 125 * 40) / 225)
    assert contrast(gray, box=box, others=[neighbor]) == pytest.approx(60)
    assert contrast(gray, box=box, others=[(0, 0, 60, 60)]) is None
