from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from rtfusion.errors import ConfigError, EngineError, SinkError, StreamLost
from rtfusion.fusion import open_method
from rtfusion.pairs import PairStream
from rtfusion.pipeline import Pipeline
from rtfusion.sinks.base import StopRequested
from rtfusion.telemetry import Telemetry
from rtfusion.types import Band, Frame, FramePair, FusedFrame
from tests.support import MS, CollectingSink, ScriptedSource, host_fuser, make_frame, stream

RATE_HZ = 30.0


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = [thread.name for thread in threading.enumerate() if thread not in before and thread.is_alive()]
    assert left == []


def grid(count: int) -> list[float]:
    return [i * 1000 / RATE_HZ for i in range(count)]


def assemble(
    visible: ScriptedSource,
    thermal: ScriptedSource,
    sinks: list[CollectingSink],
    *,
    fuser: object = None,
    max_frames: int | None = None,
) -> Pipeline:
    telemetry = Telemetry()
    return Pipeline(
        pairs=PairStream(visible=visible, thermal=thermal, read_ahead=True, max_pairs=max_frames, telemetry=telemetry),
        fuser=fuser  # type: ignore[arg-type]
        or host_fuser(
            "average",
            method=open_method("average", still=False),
            telemetry=telemetry,
        ),
        sinks=sinks,  # type: ignore[arg-type]
    )


def recorded(count: int = 50) -> tuple[ScriptedSource, ScriptedSource]:
    return (
        ScriptedSource(Band.VISIBLE, stream(Band.VISIBLE, grid(count))),
        ScriptedSource(Band.THERMAL, stream(Band.THERMAL, grid(count))),
    )


def test_a_recording_reaches_every_sink_whole_and_in_order() -> None:
    visible, thermal = recorded(80)
    sinks = [CollectingSink(), CollectingSink()]
    pipeline = assemble(visible, thermal, sinks)
    pipeline.run()
    for sink in sinks:
        assert [frame.sequence for frame in sink.frames] == list(range(80))
        assert sink.closed == [False]
    snapshot = pipeline.telemetry.snapshot()
    assert snapshot["frames_read"] == {"visible": 80, "thermal": 80}
    assert snapshot["pairs"] == snapshot["fused"] == 80
    assert snapshot["skew_ms"]["max"] == 0
    assert visible.closed
    assert thermal.closed


def test_a_slow_sink_makes_a_recording_wait_and_loses_nothing() -> None:
    gate = threading.Event()
    slow = CollectingSink(gate=gate)
    fast = CollectingSink()
    threading.Timer(0.2, gate.set).start()
    assemble(*recorded(60), [slow, fast]).run()
    assert len(slow.frames) == len(fast.frames) == 60


def test_a_slow_sink_never_slows_a_live_stream() -> None:
    """The gate of the slow sink opens only after the fast one has everything: a run that waited would never end."""
    gate, stop = threading.Event(), threading.Event()

    class Fast(CollectingSink):
        def write(self, frame: FusedFrame) -> None:
            super().write(frame)
            for permit in permits.values():
                permit.release()
            if frame.visible[0, 0, 0] == 40:
                stop.set()
                gate.set()

    slow, fast = CollectingSink(gate=gate), Fast()
    slow.uri, fast.uri = "slow:", "fast:"  # drops are told apart by them
    permits = {band: threading.Semaphore(1) for band in Band}

    def script(band: Band) -> list[Frame | Callable[[], None]]:
        steps: list[Frame | Callable[[], None]] = []
        for i in range(1, 41):
            image = np.full((48, 64, 3) if band is Band.VISIBLE else (48, 64), i, np.uint8)
            # each frame is sent only when the fast sink wrote the one before it, as a camera slower than that sink would
            steps += [
                lambda: permits[band].acquire(timeout=10) and None,
                make_frame(band, round(i * 1000 / RATE_HZ * MS), sequence=i, image=image),
            ]
        return steps

    pipeline = assemble(
        ScriptedSource(Band.VISIBLE, script(Band.VISIBLE), live=True),
        ScriptedSource(Band.THERMAL, script(Band.THERMAL), live=True),
        [slow, fast],
    )
    pipeline.run(stop=stop)
    snapshot = pipeline.telemetry.snapshot()
    assert snapshot["fused"] == 40
    assert snapshot["drops"]["sinks"]["slow:"] == {"slow": 40 - len(slow.frames)}
    assert len(slow.frames) < 40


@pytest.mark.parametrize("band", list(Band))
def test_a_broken_source_ends_the_run_with_its_error_after_what_came_before(band: Band) -> None:
    sources = {
        b: ScriptedSource(
            b, [*stream(b, grid(20)), *([StreamLost("cable")] if b is band else stream(b, grid(40))[20:])]
        )
        for b in Band
    }
    sink = CollectingSink()
    with pytest.raises(StreamLost, match="cable"):
        assemble(sources[Band.VISIBLE], sources[Band.THERMAL], [sink]).run()
    assert 19 <= len(sink.frames) <= 20
    assert sink.closed == [False], "what was fused before is finished as an ordinary output"


def test_a_broken_sink_ends_the_run_and_the_other_outputs_are_finished() -> None:
    broken = CollectingSink(fail_at=5, error=SinkError("disk full"))
    healthy = CollectingSink()
    with pytest.raises(SinkError, match="disk full"):
        assemble(*recorded(500), [broken, healthy]).run()
    assert broken.closed == [True]
    assert healthy.closed == [False]
    assert len(healthy.frames) >= 5


def test_a_broken_fuser_ends_the_run() -> None:
    class Broken:
        name, engine, closed = "broken", None, 0

        def __call__(self, pair: FramePair) -> FusedFrame:
            raise EngineError("enqueue refused")

        def close(self) -> None:
            self.closed += 1

    fuser, sink = Broken(), CollectingSink()
    with pytest.raises(EngineError, match="enqueue refused"):
        assemble(*recorded(500), [sink], fuser=fuser).run()
    assert fuser.closed == 1
    assert sink.closed == [False]


def test_stop_ends_an_endless_live_run_and_finishes_the_outputs() -> None:
    stop = threading.Event()
    sink = CollectingSink()
    ticks: list[int] = []

    def on_tick() -> None:
        ticks.append(1)
        if len(ticks) == 3:
            stop.set()

    visible = ScriptedSource(Band.VISIBLE, stream(Band.VISIBLE, grid(5)), live=True)
    thermal = ScriptedSource(Band.THERMAL, stream(Band.THERMAL, grid(5)), live=True)
    assemble(visible, thermal, [sink]).run(stop=stop, on_tick=on_tick)
    assert len(ticks) == 3
    assert sink.closed == [False]


def test_a_sink_may_ask_for_the_end() -> None:
    stop = threading.Event()
    window = CollectingSink(fail_at=3, error=StopRequested())
    other = CollectingSink()
    assemble(*recorded(5000), [window, other]).run(stop=stop)
    assert stop.is_set()
    assert len(window.frames) == 3
    assert 3 <= len(other.frames) < 5000


def test_stop_is_heard_while_a_sink_hangs() -> None:
    gate, stop = threading.Event(), threading.Event()
    hung = CollectingSink(gate=gate)
    ticks: list[int] = []

    def on_tick() -> None:
        ticks.append(1)
        if len(ticks) == 5:
            stop.set()

    pipeline = assemble(*recorded(500), [hung])
    pipeline.run(stop=stop, on_tick=on_tick)
    assert any("did not finish in time" in note for note in pipeline.telemetry.snapshot()["notes"])
    gate.set()
    for thread in threading.enumerate():
        if thread.name.startswith("sink-"):
            thread.join(10)


def test_max_frames() -> None:
    sink = CollectingSink()
    assemble(*recorded(50), [sink], max_frames=7).run()
    assert len(sink.frames) == 7


def test_one_recording_ends_early() -> None:
    visible = ScriptedSource(Band.VISIBLE, stream(Band.VISIBLE, grid(30)))
    thermal = ScriptedSource(Band.THERMAL, stream(Band.THERMAL, grid(12)))
    sink = CollectingSink()
    pipeline = assemble(visible, thermal, [sink])
    pipeline.run()
    assert len(sink.frames) == 12


def test_nothing_pairs_is_explained() -> None:
    visible = ScriptedSource(Band.VISIBLE, stream(Band.VISIBLE, grid(10)))
    thermal = ScriptedSource(Band.THERMAL, stream(Band.THERMAL, [stamp + 5000 for stamp in grid(10)]))
    sink = CollectingSink()
    pipeline = assemble(visible, thermal, [sink])
    with pytest.raises(StreamLost, match=r"no pair was made, so there is nothing: visible: last stamp") as caught:
        pipeline.run()
    assert caught.value.exit_code == 5
    assert sink.closed == [False]
    notes = pipeline.telemetry.snapshot()["notes"]
    assert any("no pair was made" in note and "thermal: last stamp" in note for note in notes)


def test_a_source_that_ignores_close_does_not_hang_the_run() -> None:
    release = threading.Event()
    stuck = ScriptedSource(Band.THERMAL, [lambda: release.wait(30) and None])
    visible = ScriptedSource(Band.VISIBLE, stream(Band.VISIBLE, grid(3)))
    stop = threading.Event()
    pipeline = assemble(visible, stuck, [CollectingSink()])
    pipeline.run(stop=stop, on_tick=stop.set)
    assert any("left behind" in note for note in pipeline.telemetry.snapshot()["notes"])
    release.set()
    for thread in threading.enumerate():
        if thread.name == "capture-thermal":
            thread.join(10)


def test_a_pipeline_runs_once() -> None:
    pipeline = assemble(*recorded(5), [CollectingSink()])
    pipeline.run()
    with pytest.raises(ConfigError, match=r"this pipeline has run; a pipeline runs once: build another one"):
        pipeline.run()
    pipeline.close()


def test_a_pipeline_without_a_sink_says_so() -> None:
    pipeline = assemble(*recorded(5), [])
    with pytest.raises(ConfigError, match="no sink, so its frames would go nowhere"):
        pipeline.run()
    pipeline.close()


def test_a_closed_pipeline_has_released_everything_and_says_so() -> None:
    visible, thermal = recorded(5)
    sink = CollectingSink()
    pipeline = assemble(visible, thermal, [sink])
    pipeline.close()
    pipeline.close()
    assert (visible.closed, thermal.closed, sink.closed, sink.frames) == (True, True, [False], [])
    with pytest.raises(ConfigError, match="this pipeline was closed"):
        pipeline.run()


def test_closing_a_pipeline_that_runs_stops_it() -> None:
    sink = CollectingSink()
    pipeline = assemble(*(Endless(band) for band in Band), [sink])
    pipeline.run(on_tick=pipeline.close)
    assert sink.closed == [False]


class Endless(ScriptedSource):
    """A recording without an end."""

    def __init__(self, band: Band) -> None:
        super().__init__(band, (make_frame(band, index * MS) for index in itertools.count()))
