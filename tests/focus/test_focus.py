"""Boxes, the maps that are made of them, and the providers put together."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pytest

from rtfusion.errors import ConfigError
from rtfusion.focus import Box, Focus, Maps, map_shape
from rtfusion.focus.boxes import MAX_BOXES, painted
from rtfusion.focus.given import FRESH_NS, GONE_NS
from rtfusion.fusion.base import Change
from rtfusion.registration import PairShape, RegisteredPair, register
from rtfusion.telemetry import Telemetry
from rtfusion.types import Band, FramePair
from tests.support import MS, host_fuser, make_frame

SHAPE = (50, 64)
HALF = {"left": 0.25, "top": 0.25, "right": 0.75, "bottom": 0.75}


def pair(timestamp_ns: int = 0, *, shape: tuple[int, int] = SHAPE) -> FramePair:
    rows = np.arange(shape[0], dtype=np.uint8)[:, None] + np.zeros(shape, np.uint8)
    return FramePair(
        visible=make_frame(Band.VISIBLE, timestamp_ns, image=np.stack([rows + 60] * 3, axis=2)),
        thermal=make_frame(Band.THERMAL, timestamp_ns, image=rows + 90),
        sequence=0,
    )


def registered(timestamp_ns: int = 0, *, shape: tuple[int, int] = SHAPE) -> RegisteredPair:
    frames = pair(timestamp_ns, shape=shape)
    sizes = PairShape.of(frames)
    registration = register(
        visible_size_px=sizes.size_px(Band.VISIBLE),
        thermal_size_px=sizes.size_px(Band.THERMAL),
        calibration=None,
        grid="visible",
    )
    return RegisteredPair(
        pair=frames, visible=frames.visible.image, thermal=frames.thermal.image, registration=registration
    )


class Knowing:
    """A provider that knows one target everywhere, as sure as it is told."""

    def __init__(self, target: str, sure: float) -> None:
        self.name = f"knows {target}"
        self.targets: Collection[str] = (target,)
        self.sure = sure
        self.runs = 0
        self.age_ns: int | None = 5 * MS
        self.closed = False

    def maps(self, registered: RegisteredPair) -> Maps:
        self.runs += 1
        return {name: np.full(map_shape(registered.thermal.shape), self.sure, np.float32) for name in self.targets}

    def close(self) -> None:
        self.closed = True


def test_a_box_is_filled_softly_and_nothing_far_from_it() -> None:
    made = painted([Box(target="people", **HALF)], shape=SHAPE)["people"]
    assert made.shape == (13, 16)
    assert made.dtype == np.float32
    assert made[6, 8] == 1
    assert made[0].max() == made[:, 0].max() == 0
    assert 0 < made[3, 4] < 1, "the corner is rounded and soft"
    assert (np.abs(np.diff(made, axis=1)) < 0.8).all()


def test_a_small_box_is_not_lost_between_cells_and_one_at_the_border_is_whole() -> None:
    small = Box(target="people", left=0.501, top=0.5, right=0.503, bottom=0.504)
    at_border = Box(target="vehicles", left=0.0, top=0.9, right=0.2, bottom=1.0)
    made = painted([small, at_border], shape=SHAPE)
    assert made["people"].max() > 0.5
    assert made["vehicles"][-1, 0] > 0.99


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"left": 0.8}, "is empty"),
        ({"left": float("nan")}, "left of a box of people is nan"),
        ({"bottom": 1.01}, "bottom of a box"),
        ({"top": True}, "top of a box"),
        ({"weight": -0.1}, "weight of a box"),
        ({"target": "People!"}, "no name of a target"),
        ({"target": ""}, "no name of a target"),
    ],
)
def test_a_box_that_is_none_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Box(**{"target": "people", **HALF, **values})


def test_nothing_is_asked_while_nothing_is_wanted() -> None:
    people = Knowing("people", 0.5)
    focus = Focus(telemetry=Telemetry(), providers=[people])
    assert focus.maps(registered()) == {}
    assert people.runs == 0
    assert focus.maps(registered(), wanted=["people"])["people"].max() == 0.5
    focus.close()
    assert people.closed


def test_the_surest_provider_counts_and_each_is_told_of_in_the_table() -> None:
    telemetry = Telemetry()
    providers = [Knowing("people", 0.5), Knowing("people", 0.75), Knowing("vehicles", 1.0)]
    focus = Focus(telemetry=telemetry, providers=providers, always=["people"], still=True)
    assert focus.maps(registered())["people"].min() == 0.75
    told = telemetry.snapshot()["focus"]
    assert told["knows people"]["frames"] == 2
    assert told["knows people"]["age_ms"]["max"] == 5
    assert "knows vehicles" not in told


def test_a_target_that_nobody_looks_for_is_said_once() -> None:
    telemetry = Telemetry()
    focus = Focus(telemetry=telemetry, providers=[Knowing("people", 1.0)])
    for step in range(3):
        focus.maps(registered(step * 33 * MS), wanted=["people", "vehicles"])
    (note,) = telemetry.notes
    assert "nothing here looks for vehicles" in note
    assert "--focus-detector" in note


def test_maps_glide_and_start_anew_after_a_gap_and_with_another_size() -> None:
    people = Knowing("people", 0.0)
    focus = Focus(telemetry=Telemetry(), providers=[people], always=["people"])
    focus.maps(registered(0))
    people.sure = 1.0
    levels = [float(focus.maps(registered(step * 33 * MS))["people"].mean()) for step in range(1, 30)]
    assert 0.1 < levels[0] < 0.5
    assert levels == sorted(levels)
    assert levels[-1] > 0.99
    people.sure = 0.0
    assert focus.maps(registered(30 * 33 * MS))["people"].max() > 0.5
    assert focus.maps(registered(5000 * MS))["people"].max() == 0
    people.sure = 1.0
    assert focus.maps(registered(5033 * MS, shape=(40, 40)))["people"].min() == 1


def test_stills_remember_nothing() -> None:
    people = Knowing("people", 0.0)
    focus = Focus(telemetry=Telemetry(), providers=[people], always=["people"], still=True)
    focus.maps(registered(0))
    people.sure = 1.0
    assert focus.maps(registered(33 * MS))["people"].min() == 1


def test_what_is_drawn_stays_and_what_is_reported_fades() -> None:
    focus = Focus(telemetry=Telemetry(), still=True)
    focus.draw([Box(target="that", **HALF)])
    focus.report([Box(target="dogs", **HALF)], timestamp_ns=0)
    peaks = {
        age_ns: {name: float(one.max()) for name, one in focus.maps(registered(age_ns)).items()}
        for age_ns in (FRESH_NS, (FRESH_NS + GONE_NS) // 2, GONE_NS)
    }
    assert [peak.get("that") for peak in peaks.values()] == [1, 1, 1]
    assert [peak.get("dogs") for peak in peaks.values()] == [1, pytest.approx(0.5), None]
    focus.draw([])
    assert focus.maps(registered(GONE_NS)) == {}


def test_too_many_boxes_are_refused_and_change_nothing() -> None:
    focus = Focus(telemetry=Telemetry(), still=True)
    focus.draw([Box(target="that", **HALF)])
    many = [Box(target="that", **HALF)] * (MAX_BOXES + 1)
    with pytest.raises(ConfigError, match="64 at most"):
        focus.draw(many)
    with pytest.raises(ConfigError, match="64 at most"):
        focus.report(many, timestamp_ns=0)
    assert len(focus.regions) == 1


def test_a_rectangle_brings_out_what_is_in_it_and_nothing_else() -> None:
    telemetry = Telemetry()
    fuse = host_fuser("pyramid", telemetry=telemetry, focus=Focus(telemetry=telemetry, still=True))
    before = fuse(pair())
    fuse.change(Change(regions=[Box(target="that", left=0.25, top=0.5, right=0.75, bottom=0.75)]))
    after = fuse(pair())
    assert [box.target for box in fuse.regions] == ["that"]
    changed = (before.image != after.image).any(axis=2)
    assert changed[28:34, 24:40].any()
    assert not changed[:20].any()
    assert not changed[:, :8].any()
    assert set(after.targets) == {"that"}
    fuse.change(Change(regions=[]))
    assert np.array_equal(fuse(pair()).image, before.image)


def test_boxes_of_somebody_else_bring_out_what_is_in_them_while_they_are_fresh() -> None:
    telemetry = Telemetry()
    fuse = host_fuser("pyramid", telemetry=telemetry, focus=Focus(telemetry=telemetry, still=True))
    before = fuse(pair())
    fuse.report([Box(target="dogs", **HALF)], timestamp_ns=before.timestamp_ns)
    assert not np.array_equal(fuse(pair(100 * MS)).image, before.image)
    assert np.array_equal(fuse(pair(GONE_NS)).image, before.image)
    told = telemetry.snapshot()["focus"]["subscriber"]
    assert (told["runs"], told["age_ms"]["max"]) == (1, 100), "what is gone has no age"


def test_a_painting_fuser_takes_no_rectangles() -> None:
    telemetry = Telemetry()
    fuse = host_fuser("overlay", telemetry=telemetry, focus=Focus(telemetry=telemetry))
    with pytest.raises(ConfigError, match="the fuser is overlay"):
        fuse.change(Change(regions=[Box(target="that", **HALF)]))
