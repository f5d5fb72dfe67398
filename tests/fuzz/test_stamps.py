"""Stamps, headers and names of recordings, perturbed as recorders do: nothing is lost, and nothing pairs that is far apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from random import Random

import pytest

from rtfusion.capture.names import match
from rtfusion.capture.timeline import Timeline, measured_rate_hz
from rtfusion.clock import NS_PER_S
from rtfusion.errors import ConfigError
from rtfusion.pairing import Pairer
from rtfusion.types import Band, Frame, FramePair
from tests.support import make_frame
from tests.test_pairing import pair_recorded

RATES_HZ = 9.0, 15.0, 25.0, 29.97, 30.0, 60.0
CLAIMS_HZ = None, 25.0, 30.0, 1000.0, 90_000.0

Recorded = list[tuple[int, int | None]]
"""The number of each frame in the scene, and the stamp that its recorder gave it."""


def recorded(random: Random, *, rate_hz: float, count: int, losses: Sequence[float] = (0.0, 0.1, 0.4)) -> Recorded:
    """Frames of a camera by a recorder that loses some and rounds the stamps of the others."""
    unit_ns = random.choice([1, 1000, 10**6])
    jitter = random.choice([0.0, 0.02, 0.15])
    begin_ns = random.choice([0, random.randint(-(10**12), 10**12)])
    lost = random.choice(losses)
    frames: Recorded = []
    for number in range(count):
        if random.random() >= lost or not number:
            true_ns = (number + random.uniform(-jitter, jitter)) * NS_PER_S / rate_hz
            frames.append((number, begin_ns + round(true_ns / unit_ns) * unit_ns))
    return frames


def strayed(random: Random, frames: Recorded) -> Recorded:
    """Single stamps that are missing or mean nothing; never the first, nor two side by side."""
    found = list(frames)
    place = 1
    while place < len(found) - 1:
        number, stamp = found[place]
        if random.random() < 0.1 and stamp is not None:
            other = random.choice([None, stamp - 10**10, stamp + 10**10, found[place - 1][1]])
            found[place] = number, other
            place += 1
        place += 1
    return found


def perturbed(random: Random, frames: Recorded) -> Recorded:
    """Anything: parts that begin again, leaps, disorder, no stamps at all."""
    found = strayed(random, frames)
    kind = random.randrange(5)
    at = random.randrange(len(found))
    if kind == 0:
        return [
            (number, stamp if index < at or stamp is None else stamp - 10**9)
            for index, (number, stamp) in enumerate(found)
        ]
    if kind == 1:
        return [
            (number, stamp if index < at or stamp is None else stamp + 10**11)
            for index, (number, stamp) in enumerate(found)
        ]
    if kind == 2:
        return [(number, None) for number, _ in found]
    if kind == 3:
        stamps = [stamp for _, stamp in found]
        random.shuffle(stamps)
        return [(number, stamp) for (number, _), stamp in zip(found, stamps, strict=True)]
    return found


def played(band: Band, frames: Recorded, *, claimed_hz: float | None) -> tuple[list[Frame], float]:
    """What a video source makes of it: its frames, numbered as in the scene, and its rate."""
    stamps = [stamp for _, stamp in frames if stamp is not None]
    rate_hz = measured_rate_hz(stamps, claimed_hz=claimed_hz) or claimed_hz or 25.0
    placed = list(Timeline(rate_hz=rate_hz).place(frames))
    assert [number for number, _ in placed] == [number for number, _ in frames]
    assert all(early < late for (_, early), (_, late) in pairwise(placed))
    return [make_frame(band, stamp_ns, sequence=number) for number, stamp_ns in placed], rate_hz


def paired(random: Random, visible: Recorded, thermal: Recorded, *, hold: bool) -> tuple[list[FramePair], Pairer]:
    streams, rates = {}, {}
    for band, frames in zip(Band, (visible, thermal), strict=True):
        streams[band], rates[band] = played(band, frames, claimed_hz=random.choice(CLAIMS_HZ))
    pairer = Pairer(live=False, rate_hz=rates, hold=hold)
    pairs = pair_recorded(streams[Band.VISIBLE], streams[Band.THERMAL], pairer)
    for band in Band:
        used = {id(pair.visible if band is Band.VISIBLE else pair.thermal) for pair in pairs}
        unread = len(streams[band]) - len(used) - sum(pairer.drops[band].values())
        assert unread >= 0
        assert not unread or band.other in pairer._ended, "a frame that was read is in no pair and in no counter"
    assert all(abs(pair.skew_ns) <= pairer.tolerance_ns for pair in pairs)
    return pairs, pairer


def _any_stamps(seed: int) -> None:
    random = Random(seed)
    rates = random.choice(RATES_HZ), random.choice(RATES_HZ)
    frames = [perturbed(random, recorded(random, rate_hz=rate, count=random.randint(1, 16))) for rate in rates]
    paired(random, *frames, hold=random.random() < 0.3)


def _stray_stamps(seed: int) -> None:
    """Two cameras of one rate, stamps strayed here and there: what pairs is of one moment all the same."""
    random = Random(seed)
    rate_hz = random.choice(RATES_HZ)
    frames = [strayed(random, recorded(random, rate_hz=rate_hz, count=20, losses=[0.0])) for _ in Band]
    pairs, _ = paired(random, *frames, hold=False)
    apart = Counter(abs(pair.visible.sequence - pair.thermal.sequence) for pair in pairs)
    assert all(count <= 1 for count in apart), apart


def _any_names(seed: int) -> None:
    random = Random(seed)
    styles = ("{}", "IR_{:04d}", "DJI_{0:03d}_{0}_T", "{:02d}", "1571658{:03d}", "a{}b", "x", "{}.5", "FLIR {} of 9")
    folders: list[Sequence[str]] = []
    for _ in Band:
        style = random.choice(styles)
        names = {style.format(random.randrange(30)) for _ in range(random.randint(1, 12))}
        folders.append(sorted({random.choice(["", "", "", "_"]) + name for name in names}))
    try:
        found = match(*folders, uris=("a", "b"), way=random.choice([None, None, None, "order", "time"]))
    except ConfigError:
        return
    for names, places in zip(folders, (found.first, found.second), strict=True):
        assert sorted(places) == sorted(names)
        assert len(set(places.values())) == len(names)
        assert all(0 <= place <= found.length for place in places.values())


CHECKS = {_any_stamps: 10_000, _stray_stamps: 2_000, _any_names: 10_000}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.strip("_"))
def test_ten_thousand_perturbed_recordings(check) -> None:  # type: ignore[no-untyped-def]
    for seed in range(CHECKS[check]):
        check(seed)
