"""The stamps of a recording, judged by one another."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtfusion.capture.timeline import Timeline, measured_rate_hz
from rtfusion.clock import NS_PER_S

MS = 1_000_000


def placed(stamps_ms: list[float | None], *, rate_hz: float = 10, origin_ms: float | None = None) -> list[float]:
    return place(Timeline(rate_hz=rate_hz), stamps_ms, origin_ms=origin_ms)


def place(timeline: Timeline, stamps_ms: list[float | None], *, origin_ms: float | None = None) -> list[float]:
    frames = [(index, None if stamp is None else round(stamp * MS)) for index, stamp in enumerate(stamps_ms)]
    found = list(timeline.place(frames, origin_ns=None if origin_ms is None else round(origin_ms * MS)))
    assert [index for index, _ in found] == list(range(len(frames)))
    return [stamp / MS for _, stamp in found]


def test_good_stamps_count_from_the_first() -> None:
    assert placed([500, 533, 600, 601, 1800]) == [0, 33, 100, 101, 1300]


def test_the_beginning_may_lie_before_the_first_frame() -> None:
    assert placed([500, 600], origin_ms=300) == [200, 300]


def test_one_stray_stamp_moves_nothing_else() -> None:
    for stray in (50, 150, 200, 9000, None):
        timeline = Timeline(rate_hz=10)
        assert place(timeline, [0, 100, 200, stray, 400, 500]) == [0, 100, 200, 300, 400, 500]
        assert (timeline.strays, timeline.missing, timeline.restarts) == (stray is not None, stray is None, 0)


def test_stamps_that_begin_again_go_on_from_the_last() -> None:
    timeline = Timeline(rate_hz=10)
    assert place(timeline, [0, 100, 200, 0, 50, 100, 40, 90]) == [0, 100, 200, 300, 350, 400, 500, 550]
    assert timeline.restarts == 2
    assert timeline.notes(count=8) == [
        "its stamps begin again 2 times, as where recordings were joined; each part is taken to follow at once"
    ]


def test_no_stamp_at_all_is_the_rate() -> None:
    timeline = Timeline(rate_hz=10)
    assert place(timeline, [None, None, None]) == [0, 100, 200]
    assert timeline.notes(count=3) == ["3 of 3 frames have no stamp; placed at 10 a second (?fps= says another rate)"]


def test_rounds_follow_one_another() -> None:
    timeline = Timeline(rate_hz=10)
    assert place(timeline, [700, 800]) + place(timeline, [700, 800]) == [0, 100, 200, 300]


def test_a_gap_is_true_and_is_told() -> None:
    timeline = Timeline(rate_hz=10)
    assert place(timeline, [0, 100, 5100, 5200]) == [0, 100, 5100, 5200]
    assert timeline.notes(count=4) == ["there is a gap of 5.0 s in its stamps, which is taken as true"]


def test_what_breaks_comes_after_the_frame_before_it() -> None:
    def frames():
        yield "a", 0
        yield "b", 100
        raise OSError("broken")

    coming = Timeline(rate_hz=10).place(frames())
    assert [next(coming)[0], next(coming)[0]] == ["a", "b"]
    with pytest.raises(OSError, match="broken"):
        next(coming)


@given(st.lists(st.none() | st.integers(-1000, 1000), max_size=40), st.sampled_from([1, 9, 30, 29.97]))
def test_any_stamps_become_increasing_ones(stamps: list[int | None], rate_hz: float) -> None:
    given_ms = placed(list(stamps), rate_hz=rate_hz)
    assert all(a < b for a, b in pairwise(given_ms))
    assert given_ms[:1] in ([], [0])


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=40), st.integers(-(10**6), 10**6))
def test_increasing_stamps_stay_as_they_are(steps: list[int], start: int) -> None:
    stamps: list[float | None] = [start + sum(steps[:index]) for index in range(len(steps))]
    timeline = Timeline(rate_hz=30)
    assert place(timeline, stamps) == [stamp - start for stamp in stamps if stamp is not None]
    assert (timeline.strays, timeline.missing, timeline.restarts) == (0, 0, 0)


def ns(stamps_s: list[float]) -> list[int]:
    return [round(stamp * NS_PER_S) for stamp in stamps_s]


@pytest.mark.parametrize(
    ("stamps_s", "claimed_hz", "rate_hz"),
    [
        ([index / 30 for index in range(100)], 25.0, 30.0),
        ([round(index / 29.97, 3) for index in range(100)], 1000.0, 29.97),  # a browser's WebM
        ([round(index / 29.97, 3) for index in range(100)], 30000 / 1001, 30000 / 1001),
        ([index / 30 for index in range(150) if index % 3 != 1], 30.0, 30.0),  # frames missing, here and there
        ([index / 30 for index in range(200) if index % 3 == 1], 30.0, 10.0),  # a header that counts for more
        ([*(index / 30 for index in range(60)), *(index / 30 for index in range(60))], 25.0, 30.0),  # joined
        ([0.2, 0.0, 0.1, 0.5, 0.3, 0.4, 0.8, 0.6, 0.7], None, 10.0),  # in the order of decoding
        ([index / 30 + 0.004 * (-1) ** index for index in range(100)], None, 30.0),
    ],
)
def test_rates_are_those_of_the_stamps(stamps_s: list[float], claimed_hz: float | None, rate_hz: float) -> None:
    assert measured_rate_hz(ns(stamps_s), claimed_hz=claimed_hz) == pytest.approx(rate_hz, rel=0.005)


def test_too_few_stamps_tell_no_rate() -> None:
    assert measured_rate_hz(ns([0.0, 0.1, 0.2])) is None
    assert measured_rate_hz([]) is None
