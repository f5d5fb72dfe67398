"""What is shown while one of two cameras is lost: in the policy alone, and in a run."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from rtfusion.capture.loss import LossPolicy
from rtfusion.capture.watchdog import WatchedSource
from rtfusion.clock import MONOTONIC, NS_PER_S
from rtfusion.errors import CaptureError, StreamLost
from rtfusion.fusion import open_method
from rtfusion.pairs import PairStream
from rtfusion.pipeline import Pipeline
from rtfusion.telemetry import Telemetry
from rtfusion.types import Band, Degraded, Frame, FusedFrame
from tests.support import CollectingSink, ScriptedSource, host_fuser, make_frame

VISIBLE = np.full((48, 64, 3), 60, np.uint8)
THERMAL = np.full((48, 64), 180, np.uint8)


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert [thread.name for thread in threading.enumerate() if thread not in before and thread.is_alive()] == []


class LiveCamera(ScriptedSource):
    """Gives a frame every 5 ms until it is told to break."""

    def __init__(self, band: Band) -> None:
        super().__init__(band, [], live=True, rate_hz=200.0)
        self.unplugged = threading.Event()
        self._number = 0

    def read(self, *, timeout_s: float) -> Frame:
        if self.unplugged.wait(0.005):
            raise StreamLost(f"{self.info.uri}: unplugged")
        if self.closed:
            return super().read(timeout_s=timeout_s)
        self._number += 1
        image = VISIBLE.copy() if self.info.band is Band.VISIBLE else THERMAL.copy()
        image[0, 0] = self._number % 256  # noise, so that it is not taken for frozen
        return make_frame(self.info.band, MONOTONIC.now_ns(), sequence=self._number, image=image)


class Rig:
    """Two watched cameras; each can be unplugged, and plugged in again by `plug`."""

    def __init__(self) -> None:
        self.camera = {band: LiveCamera(band) for band in Band}
        self.present = dict.fromkeys(Band, True)
        self.sources = {band: WatchedSource(self._opener(band), jitter=lambda: 0.0) for band in Band}

    def _opener(self, band: Band) -> Callable[[], LiveCamera]:
        def open_camera() -> LiveCamera:
            if not self.present[band]:
                raise CaptureError("no such camera")
            return self.camera[band]

        return open_camera

    def unplug(self, band: Band) -> None:
        self.present[band] = False
        self.camera[band].unplugged.set()

    def plug(self, band: Band) -> None:
        self.camera[band] = LiveCamera(band)
        self.present[band] = True


class Watching(CollectingSink):
    """Calls back with every frame."""

    def __init__(self, watch: Callable[[FusedFrame], None]) -> None:
        super().__init__()
        self._watch = watch

    def write(self, frame: FusedFrame) -> None:
        super().write(frame)
        self._watch(frame)


def pipeline_of(rig: Rig, sink: CollectingSink, *, on_loss: str) -> Pipeline:
    telemetry = Telemetry()
    host = host_fuser(
        "average",
        method=open_method("average", still=False),
        telemetry=telemetry,
    )
    return Pipeline(
        pairs=PairStream(
            visible=rig.sources[Band.VISIBLE],
            thermal=rig.sources[Band.THERMAL],
            tolerance_ms=50,
            on_loss=on_loss,
            telemetry=telemetry,
        ),
        fuser=host,
        sinks=[sink],  # type: ignore[list-item]
    )


@pytest.mark.parametrize(
    ("policy", "lost", "degraded", "level"),
    [
        ("passthrough", Band.THERMAL, Degraded.NO_THERMAL, 60),
        ("passthrough", Band.VISIBLE, Degraded.NO_VISIBLE, 180),
        ("hold", Band.THERMAL, Degraded.HELD_THERMAL, 120),
        ("hold", Band.VISIBLE, Degraded.HELD_VISIBLE, 120),
    ],
)
def test_a_lost_camera_is_stood_in_for_and_marked(policy: str, lost: Band, degraded: Degraded, level: int) -> None:
    rig = Rig()
    stop = threading.Event()
    phase = ["both"]

    def watch(frame: FusedFrame) -> None:
        if phase[0] == "both" and frame.degraded is None and frame.sequence >= 5:
            phase[0] = "lost"
            rig.unplug(lost)
        elif phase[0] == "lost" and frame.degraded is not None:
            phase[0] = "back"
            rig.plug(lost)
        elif phase[0] == "back" and frame.degraded is None:
            stop.set()

    sink = Watching(watch)
    pipeline = pipeline_of(rig, sink, on_loss=policy)
    pipeline.run(stop=stop)
    marks = [frame.degraded for frame in sink.frames]
    assert set(marks) == {None, degraded}
    assert marks.index(degraded) >= 5
    alone = sink.frames[marks.index(degraded)]
    assert int(alone.image[20, 20, 0]) == level
    assert [frame.sequence for frame in sink.frames] == sorted({frame.sequence for frame in sink.frames})
    snapshot = pipeline.telemetry.snapshot()
    assert snapshot["degraded"][degraded.value] >= 1
    assert snapshot["sources"][lost.value]["faults"] == {"unplugged": 1, "reopened": 1}
    assert snapshot["sources"][lost.value]["lost"] is None
    outages = snapshot["sources"][lost.value]["outages"]
    assert (outages["times"], outages["now"]) == (1, None)
    assert outages["seconds"] > 0
    assert snapshot["sources"][lost.other.value]["faults"] == {}
    assert snapshot["skew_ms"]["max"] <= 50


def test_stop_ends_the_run_with_the_reason() -> None:
    rig = Rig()
    sink = Watching(lambda frame: rig.unplug(Band.THERMAL))
    with pytest.raises(StreamLost, match="script:thermal: unplugged"):
        pipeline_of(rig, sink, on_loss="stop").run()
    assert sink.closed == [False]
    assert all(frame.degraded is None for frame in sink.frames)


def test_while_both_are_lost_the_run_waits() -> None:
    rig = Rig()
    stop = threading.Event()
    unplugged_ns: list[int] = []

    def watch(frame: FusedFrame) -> None:
        if not unplugged_ns:
            for band in Band:
                rig.unplug(band)
            unplugged_ns.append(MONOTONIC.now_ns())

    pipeline = pipeline_of(rig, Watching(watch), on_loss="passthrough")

    def tick() -> None:
        if unplugged_ns and MONOTONIC.now_ns() - unplugged_ns[0] > NS_PER_S // 2:
            stop.set()

    pipeline.run(stop=stop, on_tick=tick)
    lost = {band: source["lost"] for band, source in pipeline.telemetry.snapshot()["sources"].items()}
    assert all(reason is not None for reason in lost.values())


def test_a_camera_that_never_gave_a_frame_is_black() -> None:
    rig = Rig()
    rig.sources[Band.THERMAL]._lose("unplugged", "gone")
    policy = LossPolicy("hold", rig.sources)
    policy.refresh()
    frame = make_frame(Band.VISIBLE, 5)
    assert policy.is_alone(frame)
    pair = policy.pair(frame, sequence=7)
    assert (pair.degraded, pair.thermal.image.max(), pair.thermal.size_px) == (Degraded.HELD_THERMAL, 0, (64, 48))
    assert pair.sequence == 7
    assert not policy.is_alone(make_frame(Band.THERMAL, 5))


def test_a_loss_is_told_as_it_begins_and_as_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    policy = LossPolicy("passthrough", rig.sources)
    with caplog.at_level("INFO", logger="rtfusion"):
        policy.refresh()
        assert policy.shown is None
        rig.sources[Band.THERMAL]._lose("unplugged", "gone")
        policy.refresh()
        policy.refresh()
        assert policy.shown == "visible alone"
        rig.sources[Band.VISIBLE]._lose("silent", "nothing came")
        policy.refresh()
        assert policy.shown == "nothing is shown"
        for source in rig.sources.values():
            source._recover()
        policy.refresh()
        rig.sources[Band.VISIBLE]._lose("silent", "again")  # between two looks
        rig.sources[Band.VISIBLE]._recover()
        policy.refresh()
    lines = [re.sub(r"\d\d:\d\d:\d\d|\d+\.\d", "T", record.getMessage()) for record in caplog.records]
    assert lines == [
        "the thermal camera is lost since T (unplugged): script:thermal: gone; visible alone",
        "the visible camera is lost since T (silent): script:visible: nothing came; nothing is shown",
        "the visible camera is back, after T s",
        "the thermal camera is back, after T s",
        "the visible camera is lost since T (silent): script:visible: again; both are shown again",
        "the visible camera is back, after T s",
    ]


def test_stop_waits_for_a_camera_that_may_come_back_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    policy, thermal = LossPolicy("stop", rig.sources), rig.sources[Band.THERMAL]
    thermal._note_loss("silent", "nothing came")  # it may be behind its shutter
    policy.refresh()
    assert "visible alone, and the run ends if it does not come back" in caplog.text
    frame = make_frame(Band.VISIBLE, 5)
    assert policy.is_alone(frame)
    assert policy.pair(frame, sequence=0).degraded is Degraded.NO_THERMAL
    thermal._recover()
    policy.refresh()
    thermal._lose("silent", "nothing came")
    with pytest.raises(StreamLost, match="nothing came"):
        policy.refresh()


def test_who_holds_the_last_picture_says_so() -> None:
    rig = Rig()
    policy = LossPolicy("hold", rig.sources)
    rig.sources[Band.VISIBLE]._lose("unplugged", "gone")
    policy.refresh()
    assert policy.shown == "thermal with the last visible picture"


def test_what_the_marks_say() -> None:
    assert {mark: (mark.lost, mark.held) for mark in Degraded} == {
        Degraded.NO_VISIBLE: (Band.VISIBLE, False),
        Degraded.NO_THERMAL: (Band.THERMAL, False),
        Degraded.HELD_VISIBLE: (Band.VISIBLE, True),
        Degraded.HELD_THERMAL: (Band.THERMAL, True),
    }
