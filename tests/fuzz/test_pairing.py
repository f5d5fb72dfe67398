"""Pairing: frames in any order and of any times; none is lost, none is used twice, memory stays bounded."""

from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import given

from rtfusion.pairing import LIVE_WINDOW, Pairer
from rtfusion.types import Band
from tests.fuzz.fuzzing import fuzzed, randoms
from tests.support import make_frame

Event = tuple[Band, int | None] | None
"""A frame of a band with its stamp, the end of a band, or (None) a pair that is taken."""


def events_of(random: Random) -> list[Event]:
    """Streams that drift, jitter, jump, stall and end, in any order."""
    now_ns = dict.fromkeys(Band, 0)
    step_ns = {band: random.choice([0, 1, 10**6, 33 * 10**6, 10**9]) for band in Band}
    events: list[Event] = []
    for _ in range(random.randint(0, 60)):
        band, kind = random.choice(list(Band)), random.random()
        if kind < 0.2:
            events.append(None)
        elif kind < 0.23:
            events.append((band, None))
        elif kind < 0.3:
            events.append((band, random.randint(-(2**40), 2**40)))
        else:
            now_ns[band] += random.randint(-step_ns[band] // 4, 2 * step_ns[band])
            events.append((band, now_ns[band]))
    return events


@fuzzed
@given(random=randoms())
def test_any_frames_in_any_order(random: Random) -> None:
    events, live, hold = events_of(random), random.random() < 0.5, random.random() < 0.5
    delay_ns, tolerance_ns = random.randint(-(10**9), 10**9), random.choice([None, 0, 10**6, 10**9])
    rates_hz = random.uniform(0.1, 100), random.uniform(0.1, 100)
    pairer = Pairer(
        live=live,
        rate_hz=dict(zip(Band, rates_hz, strict=True)),
        thermal_delay_ns=delay_ns,
        tolerance_ns=tolerance_ns,
        hold=hold,
    )
    pushed: Counter[Band] = Counter()
    ended: set[Band] = set()
    pairs = []
    for event in events:
        if event is None:
            pair = pairer.take()
            pairs += [pair] if pair is not None else []
            continue
        band, stamp_ns = event
        if band in ended:
            continue
        if stamp_ns is None:
            ended.add(band)
            pairer.end(band)
        else:
            pairer.push(make_frame(band, stamp_ns, sequence=pushed[band]))
            pushed[band] += 1
        assert pairer.wants in Band
        pairer.explain()
        if live:
            assert all(len(waiting) <= LIVE_WINDOW + 1 for waiting in pairer._waiting.values())
    for band in Band:
        pairer.end(band)
    while (pair := pairer.take()) is not None:
        pairs.append(pair)
    assert [pair.sequence for pair in pairs] == list(range(len(pairs)))
    visible = [pair.visible.sequence for pair in pairs]
    thermal = [pair.thermal.sequence for pair in pairs]
    assert len(set(visible)) == len(visible)
    assert len(visible) + sum(pairer.drops[Band.VISIBLE].values()) == pushed[Band.VISIBLE]
    if not hold:
        assert len(set(thermal)) == len(thermal)
        assert len(thermal) + sum(pairer.drops[Band.THERMAL].values()) == pushed[Band.THERMAL]
