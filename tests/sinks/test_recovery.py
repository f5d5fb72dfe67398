"""A run of cameras outlives its outputs: what breaks is given up, tried again with pauses, and taken up again."""

from __future__ import annotations

import errno
import gc
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rtfusion.clock import NS_PER_S
from rtfusion.config import Settings
from rtfusion.errors import ConfigError, SinkError
from rtfusion.pipeline import build
from rtfusion.publish.ring import RingWriter
from rtfusion.publish.sink import ZmqSink
from rtfusion.session.format import load_session
from rtfusion.sinks import SinkContext, open_again, open_sink
from rtfusion.sinks.retry import Retry
from rtfusion.sinks.thread import SinkThread
from rtfusion.telemetry import Telemetry
from rtfusion.types import FusedFrame
from tests.session.test_record import context as session_context
from tests.session.test_record import fused_of

Maker = Callable[..., FusedFrame]


class Hand:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0

    def now_ns(self) -> int:
        return self.now

    def sleep_until_ns(self, deadline_ns: int, *, wake: threading.Event) -> bool:
        return True


class Fragile:
    """A sink that takes frames until it is to break."""

    uri = "fragile:"

    def __init__(self, broken: Callable[[], Exception | None]) -> None:
        self._broken = broken
        self.taken: list[int] = []
        self.closed = 0

    def write(self, frame: FusedFrame) -> None:
        if (error := self._broken()) is not None:
            raise error
        self.taken.append(frame.sequence)

    def close(self, *, aborted: bool) -> None:
        self.closed += 1


def test_pauses_grow_up_to_half_a_minute() -> None:
    clock = Hand()
    retry = Retry(clock)
    tries = []
    for tick in range(200):
        clock.now = tick * NS_PER_S
        if retry.is_due:
            tries.append(tick)
            retry.failed()
    assert tries == [0, 1, 2, 4, 8, 16, 32, 62, 92, 122, 152, 182]
    assert not retry.worked()
    clock.now += 2 * NS_PER_S
    assert retry.worked()
    assert (retry.is_due, retry.failures) == (True, 0)


def test_what_works_for_a_moment_and_fails_again_is_not_tried_at_once() -> None:
    clock = Hand()
    retry = Retry(clock)
    tries = []
    for tick in range(100):
        clock.now = tick * NS_PER_S
        if retry.is_due:
            tries.append(tick)
            retry.worked()
            clock.now += NS_PER_S // 2
            retry.worked()
            retry.failed()
    assert len(tries) < 10
    assert retry.failures == len(tries)


@pytest.mark.parametrize(
    "error", [SinkError("full"), ConfigError("gone"), OSError(errno.EMFILE, "Too many open files")]
)
def test_a_live_run_outlives_a_sink(make_frame: Maker, error: Exception) -> None:
    state: dict[str, Exception | None] = {"error": None}
    opened = [Fragile(lambda: state["error"])]
    telemetry, clock = Telemetry(), Hand()

    def reopen() -> Fragile:
        if state["error"] is not None:
            raise ConfigError("still gone")
        opened.append(Fragile(lambda: state["error"]))
        return opened[-1]

    thread = SinkThread(opened[0], live=True, telemetry=telemetry, stop=lambda: None, reopen=reopen, clock=clock)
    handed: list[int] = []

    def write(number: int) -> None:
        thread._mailbox.put(make_frame(number))
        with pytest.raises(EndOfTheseFrames):
            thread._mailbox.fail(EndOfTheseFrames())
            thread._write_all()
        thread._mailbox._finished, thread._mailbox._error = False, None
        handed.append(number)

    write(0)
    state["error"] = error
    for number in range(1, 5):
        clock.now += NS_PER_S // 10
        write(number)
    assert thread.drops == {"failed": 4}
    assert thread.error is None
    assert opened[0].closed == 1
    state["error"] = None
    clock.now += 60 * NS_PER_S
    write(5)
    assert [sink.taken for sink in opened] == [[0], [5]]
    assert thread.drops == {"failed": 4}
    (note,) = telemetry.notes
    assert note.startswith("fragile:: ")
    assert "The run goes on" in note


class EndOfTheseFrames(Exception):  # noqa: N818 - no failure
    pass


@pytest.mark.parametrize(("live", "broken_at_the_end"), [(True, True), (True, False), (False, True)])
def test_what_is_broken_at_the_end_is_an_error_of_a_run(make_frame: Maker, live: bool, broken_at_the_end: bool) -> None:
    """Exit code 5, and not that of a wrong setting, whatever the sink raised."""
    errors: Iterator[Exception | None] = iter([None, ConfigError("no descriptors"), *[None] * 9])
    sink = Fragile(lambda: next(errors))

    def reopen() -> Fragile:
        if broken_at_the_end:
            raise ConfigError("no descriptors")
        return sink

    thread = SinkThread(sink, live=live, telemetry=Telemetry(), stop=lambda: None, reopen=reopen)
    thread._mailbox._capacity = 10
    for number in range(4):
        thread.put(make_frame(number), timeout_s=1)
    thread.finish()
    thread.start()
    assert thread.join(timeout_s=20)
    if broken_at_the_end:
        assert type(thread.error) is SinkError
        assert str(thread.error) == "fragile:: no descriptors"
    else:
        assert thread.error is None
        assert sink.taken == [0, 2, 3]


def test_frames_that_an_encoder_took_and_never_wrote_are_lost_frames(make_frame: Maker) -> None:
    """Each attempt takes ten frames and then breaks: none of them is called written, and the pauses grow."""
    clock, telemetry, opened = Hand(), Telemetry(), []

    class Buffering(Fragile):
        def write(self, frame: FusedFrame) -> None:
            if len(self.taken) >= (10 if self is not opened[0] else 1):
                raise SinkError("full")
            super().write(frame)

    def reopen() -> Fragile:
        opened.append(Buffering(lambda: None))
        return opened[-1]

    thread = SinkThread(reopen(), live=True, telemetry=telemetry, stop=lambda: None, reopen=reopen, clock=clock)
    frames = 300
    thread._mailbox._capacity = frames
    waiting = iter([make_frame(number) for number in range(frames)])

    def get() -> FusedFrame | None:
        clock.now += NS_PER_S // 30
        return next(waiting, None)

    thread._mailbox.get = get  # type: ignore[assignment, method-assign]
    thread._write_all()
    kept = len(opened[-1].taken) if thread._sink is not None else 0
    assert telemetry.written["fragile:"] == 1 + kept
    assert thread.drops == {"failed": frames - 1 - kept}
    assert len(opened) <= 6, "the pauses grow"
    assert len(telemetry.notes) == 1


@pytest.mark.parametrize("live", [False, True])
def test_frames_that_went_with_a_file_are_not_called_written(make_frame: Maker, live: bool) -> None:
    """A sink that took five frames and holds two of them when it breaks."""
    telemetry = Telemetry()

    class Buffering(Fragile):
        lost = 0

        def close(self, *, aborted: bool) -> None:
            self.lost = max(0, len(self.taken) - 2)
            super().close(aborted=aborted)

    state: list[Exception | None] = [None]
    sink = Buffering(lambda: state[0])

    def reopen() -> Buffering:
        raise ConfigError("still full")

    thread = SinkThread(sink, live=live, telemetry=telemetry, stop=lambda: None, reopen=reopen)
    thread._mailbox._capacity = 10
    for number in range(5):
        thread._write(sink, make_frame(number))
    state[0] = SinkError("full")
    thread.put(make_frame(5), timeout_s=1.0)
    thread.start()
    thread.finish()
    assert thread.join(timeout_s=30.0)
    assert telemetry.written["fragile:"] == 2
    assert thread.drops == {"lost": 3, **({"failed": 1} if live else {})}


def test_a_video_goes_on_in_a_file_of_its_own(tmp_path: Path, make_context, make_frame: Maker) -> None:
    uri, context = f"video:{tmp_path}/out.mkv?crf=30", make_context(overwrite=True)
    for number, open_it in enumerate((open_sink, open_again, open_again)):
        sink = open_it(uri, context=context)
        sink.write(make_frame(number))
        sink.close(aborted=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out-2.mkv", "out-3.mkv", "out.mkv"]


def test_images_go_on_in_their_folder(tmp_path: Path, make_context, make_frame: Maker) -> None:
    for number, open_it in enumerate((open_sink, open_again)):
        sink = open_it(f"images:{tmp_path}/out", context=make_context())
        sink.write(make_frame(number))
        sink.close(aborted=False)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["000000.png", "000001.png"]


def test_a_ring_without_room_costs_frames_and_no_subscriber(
    tmp_path: Path, make_frame: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: list[str] = []
    context = SinkContext(rate_hz=30, live=True, session="run", note=notes.append)
    monkeypatch.setattr(ZmqSink, "has_subscribers", lambda self: True)
    sink = open_sink("zmq:tcp://127.0.0.1:*?encoding=shm", context=context)
    assert isinstance(sink, ZmqSink)
    folder = tmp_path / "shm"
    sink._ring = RingWriter(folder=tmp_path)
    sink._ring._folder = folder
    try:
        for number in range(3):
            sink.write(make_frame(number))
        assert dict(sink.drops) == {"failed": 3}
        folder.mkdir()
        sink.write(make_frame(3))
        assert dict(sink.drops) == {"failed": 3}
        assert len(list(folder.iterdir())) == 1
        assert len(notes) == 1
        assert "no ring can be made" in notes[0]
    finally:
        sink.close(aborted=True)


def test_of_recordings_a_ring_without_room_is_an_error(tmp_path: Path, make_frame: Maker) -> None:
    ring = RingWriter(folder=tmp_path)
    ring._folder = tmp_path / "gone"
    with pytest.raises(SinkError, match="no ring can be made"):
        ring.put(make_frame(0).image)


# -- a session --------------------------------------------------------------------------------------------------------


def move(source: Path, target: Path) -> None:
    source.rename(target)


@pytest.mark.parametrize("what", ["folder", "folder removed", "descriptors"])
def test_recording_never_ends_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    import os
    import shutil

    clock, notes = Hand(), []
    sink = open_sink(f"record:{tmp_path}/sessions?reserve_mb=1&segment_s=1", context=session_context(note=notes.append))
    sink._retry = Retry(clock)  # type: ignore[attr-defined]
    original = os.open

    def no_more(path, *arguments, **keywords):
        raise OSError(errno.EMFILE, "Too many open files")

    for number in range(90):
        clock.now += NS_PER_S // 3
        if number == 20:
            if what == "descriptors":
                monkeypatch.setattr(os, "open", no_more)
            elif what == "folder":
                (tmp_path / "sessions").rename(tmp_path / "away")
            else:
                shutil.rmtree(tmp_path / "sessions")
        if number == 50:
            monkeypatch.setattr(os, "open", original)
            if what == "folder":
                (tmp_path / "away").rename(tmp_path / "sessions")
            else:
                (tmp_path / "sessions").mkdir(exist_ok=True)
        sink.write(fused_of(number))
    sink.close(aborted=False)
    failed = sink.drops["failed"]  # type: ignore[attr-defined]
    assert 10 <= failed < 70
    recorded = [pair.sequence for pair in load_session(tmp_path / "sessions").pairs()]
    assert recorded[-1] == 89
    assert len(recorded) == 90 - failed - (20 if what == "folder removed" else 0)
    assert len(notes) <= 2
    assert "recording was interrupted, fusing goes on" in notes[-1]


def test_a_disk_that_takes_everything_and_keeps_nothing_gets_no_segment_a_second(tmp_path: Path) -> None:
    """What was written is refused when it is brought to the disk, half a second later, each time."""
    clock, notes = Hand(), []
    sink = open_sink(
        f"record:{tmp_path}?reserve_mb=1&segment_s=3600&sync_s=0", context=session_context(note=notes.append)
    )
    sink._retry = Retry(clock)  # type: ignore[attr-defined]
    for number in range(600):
        clock.now += NS_PER_S // 10
        if number % 5 == 4:
            sink._sync.error = OSError(errno.EIO, "Input/output error")  # type: ignore[attr-defined]
        sink.write(fused_of(number % 3))
    sink.close(aborted=True)
    assert len(list(sink.folder.glob("*.jsonl"))) < 10  # type: ignore[attr-defined]
    assert notes == [f"{sink.uri}: recording was interrupted, fusing goes on: Input/output error"]


def test_a_disk_that_failed_once_is_recorded_on_again(tmp_path: Path) -> None:
    clock = Hand()
    sink = open_sink(f"record:{tmp_path}?reserve_mb=1&segment_s=3600&sync_s=0", context=session_context())
    sink._retry = Retry(clock)  # type: ignore[attr-defined]
    for number in range(60):
        clock.now += NS_PER_S // 10
        if number == 5:
            sink._sync.error = OSError(errno.ENOENT, "No such file or directory")  # type: ignore[attr-defined]
        sink.write(fused_of(number))
    sink.close(aborted=False)
    assert sink.drops == {"failed": 1}  # type: ignore[attr-defined]


def test_a_segment_that_failed_is_let_go_of_at_once(tmp_path: Path) -> None:
    """Its encoders hold memory and threads, and a garbage collection may be long in coming."""
    sink = open_sink(f"record:{tmp_path}?reserve_mb=1&segment_s=3600&sync_s=0", context=session_context())
    sink.write(fused_of(0))
    gc.collect()
    gc.disable()
    try:
        segment = weakref.ref(sink._segment)  # type: ignore[attr-defined]
        for video in segment()._videos.values():  # type: ignore[union-attr]
            os.close(video._file._file)
            video._file._file = os.open("/dev/full", os.O_RDWR)
        sink.write(fused_of(1))
        sink._end_segment(finished=True)  # type: ignore[attr-defined]
        assert sink.drops["failed"] == 1  # type: ignore[attr-defined]
        assert segment() is None
    finally:
        gc.enable()
    sink.close(aborted=True)


def test_another_disk_in_the_place_of_the_first_is_not_written_to(tmp_path: Path) -> None:
    clock = Hand()
    sink = open_sink(f"record:{tmp_path}/sessions?reserve_mb=1", context=session_context())
    sink._retry = Retry(clock)  # type: ignore[attr-defined]
    sink.write(fused_of(0))
    move(tmp_path / "sessions", tmp_path / "away")
    (tmp_path / "sessions").mkdir()
    sink._device += 1  # type: ignore[attr-defined]
    sink._end_segment(finished=True)  # type: ignore[attr-defined]
    for number in range(1, 9):
        clock.now += 40 * NS_PER_S
        sink.write(fused_of(number))
    with pytest.raises(SinkError, match="recording did not go on; 8 pairs were not recorded"):
        sink.close(aborted=False)
    assert sink.drops["failed"] == 8  # type: ignore[attr-defined]
    assert list((tmp_path / "sessions").iterdir()) == []


def test_a_whole_run_goes_on_when_its_folder_goes(tmp_path: Path) -> None:
    camera = "synthetic:?live=true&fps=20&size=64x48&frames=80"
    sinks = (
        f"images:{tmp_path}/images",
        f"{tmp_path}/out.mkv",
        f"record:{tmp_path}/sessions?reserve_mb=1&segment_s=1",
        "null:",
    )
    pipeline = build(Settings(ir=camera, vis=camera, sink=sinks, fuser="average"))
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        ticks += 1
        if ticks == 5:
            (tmp_path / "images").rename(tmp_path / "away")
            (tmp_path / "images").write_bytes(b"in the way")
        if ticks == 11:
            (tmp_path / "images").unlink()
            (tmp_path / "away").rename(tmp_path / "images")

    pipeline.run(on_tick=tick)
    telemetry = pipeline.telemetry
    assert telemetry.written["null:"] >= 40
    assert telemetry.drops["sinks"][f"images:{tmp_path}/images"]["failed"] >= 3
    assert (tmp_path / "images" / f"{telemetry.fused - 1:06d}.png").exists()
    assert any("The run goes on" in note for note in telemetry.notes)


class Slow(Fragile):
    """One that keeps every frame, and takes its time."""

    uri = "record:/tmp/x?keep=7d"
    keeps_all = True

    def __init__(self, gate: threading.Semaphore) -> None:
        super().__init__(lambda: None)
        self._gate = gate

    def write(self, frame: FusedFrame) -> None:
        self._gate.acquire(timeout=30)
        super().write(frame)


def test_an_output_that_is_too_slow_for_cameras_is_told_once_while_it_lasts(
    make_frame: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    gate, clock, telemetry = threading.Semaphore(0), Hand(), Telemetry()
    thread = SinkThread(Slow(gate), live=True, telemetry=telemetry, stop=lambda: None, clock=clock)
    thread.start()
    for number in range(10):
        thread.put(make_frame(number), timeout_s=1)
    gate.release(100)
    while telemetry.written[thread.uri] < 2:
        time.sleep(0.01)
    assert thread.drops["slow"] >= 6
    clock.now += 60 * NS_PER_S
    thread.put(make_frame(11), timeout_s=1)
    thread.finish()
    assert thread.join(timeout_s=30)
    told = "record:/tmp/x: it is slower than the cameras, and loses frames"
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [told]
    assert telemetry.notes == [told]
