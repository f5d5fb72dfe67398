from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtfusion.pairing import LIVE_WINDOW, Pairer, RateEstimator
from rtfusion.types import Band, Frame, FramePair
from tests.support import MS, make_frame, stream

RATES_30 = {Band.VISIBLE: 30.0, Band.THERMAL: 30.0}


def pair_recorded(visible: list[Frame], thermal: list[Frame], pairer: Pairer) -> list[FramePair]:
    """Drive a pairer as the pipeline does: read only what it asks for."""
    streams = {Band.VISIBLE: iter(visible), Band.THERMAL: iter(thermal)}
    pairs = []
    while not pairer.finished:
        band = pairer.wants
        frame = next(streams[band], None)
        if frame is None:
            pairer.end(band)
        else:
            pairer.push(frame)
        while (pair := pairer.take()) is not None:
            pairs.append(pair)
    return pairs


def recorded(rates: dict[Band, float] = RATES_30, **options: object) -> Pairer:
    return Pairer(live=False, rate_hz=rates, **options)  # type: ignore[arg-type]


def stamps(pairs: list[FramePair]) -> list[tuple[float, float]]:
    return [(pair.visible.timestamp_ns / MS, pair.thermal.timestamp_ns / MS) for pair in pairs]


def grid(count: int, period_ms: float, start_ms: float = 0.0) -> list[float]:
    return [start_ms + i * period_ms for i in range(count)]


def test_equal_streams_pair_one_to_one() -> None:
    pairs = pair_recorded(
        stream(Band.VISIBLE, grid(100, 33.3)), stream(Band.THERMAL, grid(100, 33.3, start_ms=4)), recorded()
    )
    assert len(pairs) == 100
    assert {pair.skew_ns for pair in pairs} == {4 * MS}
    assert [pair.sequence for pair in pairs] == list(range(100))


def test_a_frame_missing_in_one_stream_costs_only_its_partner() -> None:
    visible = grid(20, 33.0)
    thermal = [stamp for i, stamp in enumerate(visible) if i not in (5, 6, 13)]
    pairer = recorded()
    pairs = pair_recorded(stream(Band.VISIBLE, visible), stream(Band.THERMAL, thermal), pairer)
    assert stamps(pairs) == [(stamp, stamp) for stamp in thermal]
    assert pairer.drops[Band.VISIBLE]["no_partner"] == 3
    assert sum(pairer.drops[Band.THERMAL].values()) == 0


def test_the_slower_stream_sets_the_rate_of_once() -> None:
    pairer = recorded({Band.VISIBLE: 30.0, Band.THERMAL: 9.0})
    visible, thermal = grid(90, 1000 / 30), grid(27, 1000 / 9, start_ms=7)
    pairs = pair_recorded(stream(Band.VISIBLE, visible), stream(Band.THERMAL, thermal), pairer)
    assert len(pairs) == 27
    assert max(abs(pair.skew_ns) for pair in pairs) <= 1000 / 60 * MS
    assert pairer.drops[Band.VISIBLE]["no_partner"] + pairer.drops[Band.VISIBLE]["other_ended"] <= 63


def test_hold_gives_every_visible_frame_its_nearest_thermal_frame() -> None:
    pairer = recorded({Band.VISIBLE: 30.0, Band.THERMAL: 9.0}, hold=True)
    visible, thermal = grid(90, 1000 / 30), grid(27, 1000 / 9, start_ms=7)
    pairs = pair_recorded(stream(Band.VISIBLE, visible), stream(Band.THERMAL, thermal), pairer)
    assert len(pairs) == 90
    for pair in pairs:
        nearest_ms = min(abs(pair.timestamp_ns / MS - stamp) for stamp in thermal)
        assert abs(pair.skew_ns) / MS == pytest.approx(nearest_ms, abs=1e-3)


def test_the_known_delay_is_taken_out() -> None:
    visible, thermal = grid(50, 33.0), grid(50, 33.0, start_ms=80)
    without = pair_recorded(stream(Band.VISIBLE, visible), stream(Band.THERMAL, thermal), recorded())
    known = pair_recorded(
        stream(Band.VISIBLE, visible), stream(Band.THERMAL, thermal), recorded(thermal_delay_ns=80 * MS)
    )
    assert len(known) == 50
    assert all(pair.skew_ns == 80 * MS for pair in known)
    assert len(without) < 50


def test_stills_never_pair_with_a_neighbor() -> None:
    # stems a and c only in visible, b and d only in thermal: ranks 0..3 of the union at 25 per second
    pairer = recorded({Band.VISIBLE: 25.0, Band.THERMAL: 25.0})
    pairs = pair_recorded(stream(Band.VISIBLE, [0, 80]), stream(Band.THERMAL, [40, 120]), pairer)
    assert pairs == []
    assert sum(pairer.drops[Band.VISIBLE].values()) == 2


def test_unequal_lengths_end_with_the_shorter_one() -> None:
    pairer = recorded()
    pairs = pair_recorded(stream(Band.VISIBLE, grid(10, 33.0)), stream(Band.THERMAL, grid(25, 33.0)), pairer)
    assert len(pairs) == 10


def test_a_stamp_that_goes_back_is_dropped_and_counted() -> None:
    pairer = recorded()
    pairs = pair_recorded(stream(Band.VISIBLE, [0, 33, 20, 66]), stream(Band.THERMAL, [0, 33, 66]), pairer)
    assert len(pairs) == 3
    assert pairer.drops[Band.VISIBLE]["out_of_order"] == 1


@st.composite
def jittery_stream(draw: st.DrawFn, *, count: int = 60) -> list[float]:
    """A regular stream with drops and jitter below half a period, so that the order holds."""
    period_ms = draw(st.sampled_from([1000 / 60, 1000 / 30, 1000 / 25, 1000 / 9]))
    start_ms = draw(st.floats(0, period_ms))
    kept = draw(st.lists(st.booleans(), min_size=count, max_size=count).filter(any))
    jitter = draw(st.lists(st.floats(-0.3, 0.3), min_size=count, max_size=count))
    return [start_ms + (i + jitter[i]) * period_ms + period_ms for i in range(count) if kept[i]]


def _rate(stamps_ms: list[float]) -> float:
    gaps = [b - a for a, b in itertools.pairwise(stamps_ms)]
    return 1000 / min(gaps) if gaps else 30.0


@given(jittery_stream(), jittery_stream(), st.floats(-100, 100))
def test_recorded_pairs_are_mutual_nearest_and_every_frame_is_accounted_for(
    visible_ms: list[float], thermal_ms: list[float], delay_ms: float
) -> None:
    thermal_ms = [stamp + delay_ms + 200 for stamp in thermal_ms]
    visible_ms = [stamp + 200 for stamp in visible_ms]
    visible, thermal = stream(Band.VISIBLE, visible_ms), stream(Band.THERMAL, thermal_ms)
    pairer = recorded(
        {Band.VISIBLE: _rate(visible_ms), Band.THERMAL: _rate(thermal_ms)}, thermal_delay_ns=round(delay_ms * MS)
    )
    pairs = pair_recorded(visible, thermal, pairer)

    used_visible = [pair.visible.sequence for pair in pairs]
    used_thermal = [pair.thermal.sequence for pair in pairs]
    assert used_visible == sorted(set(used_visible))
    assert used_thermal == sorted(set(used_thermal))
    for pair in pairs:
        gap_ns = abs(pair.skew_ns - round(delay_ms * MS))
        assert gap_ns <= pairer.tolerance_ns
        event_ns = pair.thermal.timestamp_ns - round(delay_ms * MS)
        assert gap_ns == min(abs(frame.timestamp_ns - event_ns) for frame in visible)
        assert gap_ns == min(
            abs(frame.timestamp_ns - round(delay_ms * MS) - pair.visible.timestamp_ns) for frame in thermal
        )
    # nobody who could have been paired was left out: mutual nearest within the tolerance means paired
    for frame in visible:
        partner = min(thermal, key=lambda t: abs(t.timestamp_ns - round(delay_ms * MS) - frame.timestamp_ns))
        event_ns = partner.timestamp_ns - round(delay_ms * MS)
        gap_ns = abs(event_ns - frame.timestamp_ns)
        others = [abs(f.timestamp_ns - event_ns) for f in visible if f is not frame]
        if gap_ns <= pairer.tolerance_ns and all(gap_ns < other for other in others):
            assert frame.sequence in used_visible
    read_visible = len(pairs) + sum(pairer.drops[Band.VISIBLE].values())
    assert read_visible <= len(visible)
    assert max(used_visible, default=-1) < read_visible


@given(jittery_stream(), jittery_stream())
def test_hold_pairs_every_visible_frame_or_says_why(visible_ms: list[float], thermal_ms: list[float]) -> None:
    visible, thermal = stream(Band.VISIBLE, visible_ms), stream(Band.THERMAL, thermal_ms)
    pairer = recorded({Band.VISIBLE: _rate(visible_ms), Band.THERMAL: _rate(thermal_ms)}, hold=True)
    pairs = pair_recorded(visible, thermal, pairer)
    assert len(pairs) + sum(pairer.drops[Band.VISIBLE].values()) == len(visible)
    for pair in pairs:
        nearest_ns = min(abs(frame.timestamp_ns - pair.timestamp_ns) for frame in thermal)
        assert abs(pair.skew_ns) == nearest_ns


@given(
    jittery_stream(count=40),
    jittery_stream(count=40),
    st.floats(0, 150),
    st.floats(0, 150),
)
def test_live_pairs_within_the_tolerance_with_bounded_memory(
    visible_ms: list[float], thermal_ms: list[float], visible_latency_ms: float, thermal_latency_ms: float
) -> None:
    rates = {Band.VISIBLE: _rate(visible_ms), Band.THERMAL: _rate(thermal_ms)}
    pairer = Pairer(live=True, rate_hz=rates)
    arrivals = sorted(
        [
            (stamp + visible_latency_ms, 0, frame)
            for stamp, frame in zip(visible_ms, stream(Band.VISIBLE, visible_ms), strict=True)
        ]
        + [
            (stamp + thermal_latency_ms, 1, frame)
            for stamp, frame in zip(thermal_ms, stream(Band.THERMAL, thermal_ms), strict=True)
        ],
        key=lambda arrival: arrival[:2],
    )
    pairs: list[FramePair] = []
    for _, _, frame in arrivals:
        pairer.push(frame)
        tolerance_ns = pairer.tolerance_ns
        if (pair := pairer.take()) is not None:
            assert pair.visible is frame or pair.thermal is frame, "a pair is made the moment its second frame comes"
            assert abs(pair.skew_ns) <= tolerance_ns
            pairs.append(pair)
        assert all(len(waiting) <= LIVE_WINDOW for waiting in pairer._waiting.values())
    for band in Band:
        used = [(pair.visible if band is Band.VISIBLE else pair.thermal).sequence for pair in pairs]
        assert used == sorted(set(used))
        waiting = len(pairer._waiting[band])
        total = len(visible_ms) if band is Band.VISIBLE else len(thermal_ms)
        assert len(pairs) + sum(pairer.drops[band].values()) + waiting == total


def test_live_equal_rates_lose_nothing_at_any_phase() -> None:
    for phase_ms in (0.0, 5.0, 12.0, 16.6, 20.0, 33.0):
        pairer = Pairer(live=True, rate_hz=RATES_30)
        visible, thermal = grid(100, 1000 / 30), grid(100, 1000 / 30, start_ms=phase_ms)
        count = 0
        for frame in sorted(
            stream(Band.VISIBLE, visible) + stream(Band.THERMAL, thermal), key=lambda f: f.timestamp_ns
        ):
            pairer.push(frame)
            count += pairer.take() is not None
        assert count >= 98, phase_ms


def test_live_takes_the_newest_of_several_pairs_and_counts_the_others() -> None:
    pairer = Pairer(live=True, rate_hz=RATES_30)
    for visible, thermal in zip(stream(Band.VISIBLE, grid(4, 33)), stream(Band.THERMAL, grid(4, 33)), strict=True):
        pairer.push(visible)
        pairer.push(thermal)
    pair = pairer.take()
    assert pair is not None
    assert pair.visible.sequence == 3
    assert pairer.take() is None
    assert pairer.drops[Band.VISIBLE]["superseded"] == pairer.drops[Band.THERMAL]["superseded"] == 3


def test_live_hold_never_waits_for_the_slower_camera() -> None:
    pairer = Pairer(live=True, rate_hz={Band.VISIBLE: 30.0, Band.THERMAL: 9.0}, hold=True)
    frames = sorted(
        stream(Band.VISIBLE, grid(90, 1000 / 30)) + stream(Band.THERMAL, grid(27, 1000 / 9, start_ms=-1)),
        key=lambda f: f.timestamp_ns,
    )
    paired = 0
    for frame in frames:
        pairer.push(frame)
        pair = pairer.take()
        assert (pair is not None) == (frame.band is Band.VISIBLE)
        paired += pair is not None
    assert paired == 90


@pytest.mark.parametrize("late_ms", [90, 400])
def test_live_late_thermal_still_finds_its_moment(late_ms: float) -> None:
    """A thermal camera whose frames are delivered late, with right stamps: 400 ms are B-frames of a network camera."""
    pairer = Pairer(live=True, rate_hz=RATES_30)
    arrivals = [
        (stamp, frame) for stamp, frame in zip(grid(60, 33.0), stream(Band.VISIBLE, grid(60, 33.0)), strict=True)
    ]
    arrivals += [
        (stamp + late_ms, frame)
        for stamp, frame in zip(grid(60, 33.0), stream(Band.THERMAL, grid(60, 33.0)), strict=True)
    ]
    skews = []
    for _, frame in sorted(arrivals, key=lambda arrival: arrival[0]):
        pairer.push(frame)
        if (pair := pairer.take()) is not None:
            skews.append(pair.skew_ns)
    assert len(skews) >= 56
    assert set(skews) == {0}


def test_explain_names_both_streams() -> None:
    pairer = Pairer(live=True, rate_hz=RATES_30, thermal_delay_ns=5 * MS)
    pairer.push(make_frame(Band.VISIBLE, 1234 * MS))
    text = pairer.explain()
    assert "visible: last stamp 1234.0 ms" in text
    assert "thermal: no frame yet" in text
    assert "delay 5.0 ms" in text


def test_rate_is_a_count_over_a_span() -> None:
    rate = RateEstimator(nominal_hz=25.0)
    assert rate.period_ns == 40 * MS
    for i in range(50):  # bursts of two: the mean gap swings between 0 and 66 ms, the span does not
        rate.push(round((i // 2) * 2 * 33.3 * MS + (i % 2) * MS))
    assert math.isclose(rate.period_ns, 33.3 * MS, rel_tol=0.03)


def test_an_outage_is_no_period() -> None:
    """Two cameras of 15 Hz, gone for 14 s: the tolerance stays what the rate says, however soon it is asked for."""
    pairer = Pairer(live=True, rate_hz={Band.VISIBLE: 15.0, Band.THERMAL: 15.0})
    seen: set[int] = set()
    for stamp_ms in [
        *grid(80, 1000 / 15),
        *grid(80, 1000 / 15, start_ms=19_300),
        *grid(80, 1000 / 15, start_ms=40_000),
    ]:
        for band in Band:
            pairer.push(make_frame(band, round(stamp_ms * MS)))
        seen.add(round(pairer.tolerance_ns / MS))
    assert seen == {40}


def test_a_camera_that_became_slow_is_measured_as_slow() -> None:
    rate = RateEstimator(nominal_hz=30.0)
    for stamp_ms in (*grid(30, 1000 / 30), *grid(30, 2000.0, start_ms=3000)):
        rate.push(round(stamp_ms * MS))
    assert math.isclose(rate.period_ns, 2000 * MS, rel_tol=1e-6)


@pytest.mark.parametrize("hold", [False, True])
@pytest.mark.parametrize("ended", list(Band))
def test_live_it_is_over_when_the_other_stream_has_left_the_last_frames_behind(hold: bool, ended: Band) -> None:
    pairer = Pairer(live=True, rate_hz=RATES_30, hold=hold)
    for frame in stream(ended, grid(5, 33)):
        pairer.push(frame)
    pairer.end(ended)
    assert not pairer.finished or (hold and ended is Band.VISIBLE)
    for frame in stream(ended.other, grid(5, 33, start_ms=60_000)):
        pairer.push(frame)
        assert pairer.take() is None
    assert pairer.finished
    assert sum(pairer.drops[ended].values()) == 5
