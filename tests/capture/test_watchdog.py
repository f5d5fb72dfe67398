"""A camera that goes wrong in every way, on a clock that nobody waits for."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

import numpy as np
import pytest

from rtfusion.capture.shutter import ShutterSource
from rtfusion.capture.uri import parse_source
from rtfusion.capture.v4l2 import open_v4l2
from rtfusion.capture.v4l2_device import Mode
from rtfusion.capture.watchdog import LONGEST_PAUSE_S, SHUTTER_S, RateWatch, WatchedSource
from rtfusion.clock import NS_PER_S, FakeClock
from rtfusion.errors import CaptureError, CaptureTimeout, EndOfStream
from rtfusion.types import Band, Frame, PixelFormat
from tests.capture import layouts
from tests.rig.cameras import FakeCamera, FakeKernel
from tests.support import MS

RATE_HZ = 25.0


def noise(of: Mode, sequence: int) -> bytes:
    count = of.width_px * of.height_px * (2 if of.fourcc == "Y16" else 1)
    return np.random.default_rng(sequence).integers(0, 256, count, dtype=np.uint8).tobytes()


class Rig:
    """A watched camera: 16-bit and thermal, unless said."""

    def __init__(self, *, fourcc: str = "Y16", band: Band = Band.THERMAL, rate_hz: float = RATE_HZ) -> None:
        self.clock = FakeClock(start_ns=100 * NS_PER_S)
        mode = Mode(fourcc=fourcc, width_px=16, height_px=12, rates_hz=(rate_hz,))
        self.camera = FakeCamera(modes=[mode], content=noise)
        self.kernel = FakeKernel({"/dev/video0": self.camera}, clock=self.clock)
        self.opened_ns: list[int] = []
        self.band = band
        self.source = WatchedSource(self._open, clock=self.clock, jitter=lambda: 1.0)

    def _open(self):  # type: ignore[no-untyped-def]
        self.opened_ns.append(self.clock.now_ns())
        camera = open_v4l2(parse_source("/dev/video0"), band=self.band, clock=self.clock, kernel=self.kernel)
        return ShutterSource(camera) if self.band is Band.THERMAL else camera

    def frames(self, count: int) -> list[Frame]:
        return [self.source.read(timeout_s=10) for _ in range(count)]

    def until(self, condition: Callable[[], bool], *, limit_s: float) -> float:
        """Read until something is so; the seconds that it took."""
        start_ns = self.clock.now_ns()
        while not condition():
            with contextlib.suppress(CaptureTimeout):
                self.source.read(timeout_s=0.1)
            passed_s = (self.clock.now_ns() - start_ns) / NS_PER_S
            assert passed_s <= limit_s, f"not within {limit_s} s: {self.source.faults}, {self.source.loss}"
        return (self.clock.now_ns() - start_ns) / NS_PER_S

    def is_lost(self) -> bool:
        return self.source.loss is not None

    def is_back(self) -> bool:
        return self.source.loss is None


def test_a_healthy_camera_is_left_alone() -> None:
    rig = Rig()
    frames = rig.frames(200)
    assert [frame.sequence for frame in frames] == list(range(frames[0].sequence, frames[0].sequence + 200))
    assert rig.source.faults == {}
    assert len(rig.opened_ns) == 1
    assert rig.source.info.live


def test_an_unplugged_camera_is_noticed_at_once_and_comes_back() -> None:
    rig = Rig()
    before = rig.frames(10)[-1]
    rig.camera.plugged = False
    assert rig.until(rig.is_lost, limit_s=0.2) <= 0.1
    assert "unplugged" in str(rig.source.loss)
    with pytest.raises(CaptureTimeout):
        rig.source.read(timeout_s=30)
    rig.camera.plugged = True
    rig.until(rig.is_back, limit_s=LONGEST_PAUSE_S + 1)
    after = rig.source.read(timeout_s=1)
    assert after.sequence > before.sequence
    assert after.timestamp_ns > before.timestamp_ns
    assert rig.source.faults == {"unplugged": 1, "reopened": 1}
    assert rig.kernel.open_count == 1


def test_it_is_tried_again_more_and_more_rarely() -> None:
    rig = Rig()
    rig.frames(1)
    rig.camera.plugged = False
    with pytest.raises(CaptureTimeout):
        rig.source.read(timeout_s=60)
    gaps_s = np.diff(rig.opened_ns[1:]) / NS_PER_S
    assert gaps_s[:5] == pytest.approx([1, 2, 4, 8, 10], abs=0.01)
    assert max(gaps_s) <= LONGEST_PAUSE_S + 0.01


def test_two_cameras_do_not_keep_step() -> None:
    rig = Rig()
    rig.source._jitter = iter([0.0, 1.0, 0.5]).__next__
    rig.frames(1)
    rig.camera.plugged = False
    with pytest.raises(CaptureTimeout):
        rig.source.read(timeout_s=2.5)
    assert np.diff(rig.opened_ns[1:]) / NS_PER_S == pytest.approx(
        [
            1.0,
        ],
        abs=0.01,
    )


@pytest.mark.parametrize("cause", ["silent", "corrupt", "frozen"])
@pytest.mark.parametrize("rate_hz", [25.0, 9.0])
def test_what_is_wrong_is_noticed_within_two_seconds(cause: str, rate_hz: float) -> None:
    rig = Rig(rate_hz=rate_hz)
    rig.frames(100)
    setattr(rig.camera, "broken" if cause == "corrupt" else cause, True)
    took_s = rig.until(rig.is_lost, limit_s=4)
    assert took_s <= (SHUTTER_S + 0.2 if cause == "frozen" else 2.0), "a shutter takes up to three seconds"
    assert rig.source.faults == {cause: 1}
    rig.until(lambda: rig.source.is_closed, limit_s=SHUTTER_S)
    rig.camera.silent = rig.camera.broken = rig.camera.frozen = False
    rig.until(rig.is_back, limit_s=LONGEST_PAUSE_S)
    assert rig.source.faults == {cause: 1, "reopened": 1}


def test_a_slow_camera_is_given_two_periods() -> None:
    rig = Rig(rate_hz=0.5)
    rig.frames(3)
    assert rig.source.limit_s == pytest.approx(4.0)
    assert rig.source.faults == {}


def test_a_thermal_camera_that_repeats_itself_is_thinned() -> None:
    rig = Rig(rate_hz=27.0)
    rig.camera.content = lambda of, sequence: noise(of, sequence // 3)
    frames = rig.frames(60)
    images = [frame.image.tobytes() for frame in frames]
    assert all(a != b for a, b in zip(images, images[1:]))  # noqa: B905, RUF007
    assert frames[-1].sequence - frames[0].sequence == pytest.approx(3 * 59, abs=2)
    assert rig.source.drops["duplicate"] == pytest.approx(2 * 60, abs=6)
    assert rig.source.faults == {}


def test_a_camera_that_says_itself_that_it_repeats_is_frozen() -> None:
    rig = Rig()
    camera = rig.camera
    camera.modes = [Mode(fourcc="Y16", width_px=160, height_px=122, rates_hz=(RATE_HZ,))]
    counter = [0]

    def lepton(of: Mode, sequence: int) -> bytes:
        counter[0] += 1
        image = noise(Mode(fourcc="Y16", width_px=160, height_px=120), sequence)
        return image + layouts.telemetry(320, counter=counter[0], ffc=3, tlinear=True, fine=True)

    camera.content = lepton

    def open_lepton():  # type: ignore[no-untyped-def]
        uri = parse_source("v4l2:/dev/video0?profile=lepton")
        return open_v4l2(uri, band=Band.THERMAL, clock=rig.clock, kernel=rig.kernel)

    rig.source = WatchedSource(open_lepton, clock=rig.clock)
    rig.frames(3)
    camera.frozen = True
    rig.until(rig.is_lost, limit_s=2.0)
    rig.until(lambda: rig.source.is_closed, limit_s=SHUTTER_S)
    assert rig.source.faults == {"frozen": 1}


def test_a_visible_camera_may_repeat_itself() -> None:
    rig = Rig(fourcc="GREY", band=Band.VISIBLE)
    rig.camera.content = lambda of, sequence: noise(of, sequence // 3)
    rig.frames(60)
    assert rig.source.drops.get("duplicate", 0) == 0


def test_a_scene_that_stands_still_is_believed_the_second_time() -> None:
    rig = Rig(fourcc="GREY", band=Band.VISIBLE)
    rig.frames(12)
    rig.camera.content = lambda of, sequence: noise(of, 7)  # a test picture, a street at night after compression
    rig.until(rig.is_lost, limit_s=3)
    rig.until(rig.is_back, limit_s=3)
    rig.frames(250)
    assert rig.source.faults == {"frozen": 1, "reopened": 1}
    rig.camera.content = noise
    rig.frames(25)
    rig.camera.frozen = True
    rig.until(rig.is_lost, limit_s=3)
    assert rig.source.faults["frozen"] == 2


def test_raw_counts_that_stand_still_are_never_believed() -> None:
    rig = Rig()
    rig.frames(10)
    rig.camera.content = lambda of, sequence: noise(of, 7)
    rig.until(rig.is_lost, limit_s=SHUTTER_S + 0.5)
    with pytest.raises(CaptureTimeout):
        rig.source.read(timeout_s=30)
    assert rig.source.faults["frozen"] == 1
    assert rig.source.outages == 1
    assert len(rig.opened_ns) > 3


def test_the_limits_of_a_camera_in_its_shutter_pause_are_not_touched() -> None:
    rig = Rig()
    rig.frames(10)
    picture = np.full((12, 16), 7500, "<u2").tobytes()
    rig.camera.content = lambda of, sequence: picture
    held = rig.frames(50)  # two seconds
    assert all(frame.shutter for frame in held)
    assert rig.source.faults == {}


def test_a_picture_that_stands_still_from_the_beginning_is_what_the_camera_shows() -> None:
    rig = Rig(fourcc="GREY", band=Band.VISIBLE)
    rig.camera.content = lambda of, sequence: noise(of, 7)
    assert len(rig.frames(250)) == 250
    assert rig.source.faults == {}
    assert rig.source.notes[-1].endswith("its picture has not changed since the start: a still, or the camera hangs")
    thermal = Rig(fourcc="GREY")
    thermal.camera.content = lambda of, sequence: noise(of, 7)
    frames = thermal.frames(250)
    assert thermal.source.faults == {}
    assert not any(frame.shutter for frame in frames), "nothing is said of a shutter that was never seen to open"


@pytest.mark.parametrize("what", ["silent", "frozen"])
def test_a_shutter_of_two_and_a_half_seconds_does_not_close_the_camera(what: str) -> None:
    rig = Rig()
    rig.frames(50)
    setattr(rig.camera, what, True)
    end_ns = rig.clock.now_ns() + 2_500 * MS
    held = []
    while rig.clock.now_ns() < end_ns:
        with contextlib.suppress(CaptureTimeout):
            held.append(rig.source.read(timeout_s=0.1))
    setattr(rig.camera, what, False)
    after = rig.frames(5)
    assert len(rig.opened_ns) == 1
    assert rig.source.loss is None
    assert not any(frame.shutter for frame in after)
    if what == "frozen":
        assert rig.source.faults == {}
        assert len(held) > 50
        assert all(frame.shutter for frame in held)
    else:
        assert rig.source.faults == {"silent": 1}, "told in time, all the same"
        assert rig.source.outage_figures()["seconds"] == pytest.approx(2.5, abs=0.1)


def test_time_in_which_nobody_reads_is_not_held_against_the_camera() -> None:
    rig = Rig()
    rig.clock.advance_ns(5 * NS_PER_S)  # the other camera is opened, a model is loaded
    rig.frames(20)
    rig.clock.advance_ns(5 * NS_PER_S)  # the process was stopped
    rig.frames(20)
    assert rig.source.faults == {}
    assert rig.source.outages == 0
    assert len(rig.opened_ns) == 1


def test_another_rate_is_counted_once_and_followed() -> None:
    rig = Rig()
    rig.frames(150)
    rig.camera.rate_hz = 14.0
    rig.frames(150)
    assert rig.source.faults == {"rate": 1}
    rig.camera.rate_hz = 25.0
    rig.frames(200)
    assert rig.source.faults == {"rate": 2}


def test_one_stall_is_no_other_rate() -> None:
    watch = RateWatch(25.0)
    stamps = [i * 40 * MS + (1000 * MS if i > 150 else 0) for i in range(400)]
    assert sum(watch.changed(stamp, sequence=number) for number, stamp in enumerate(stamps)) == 0
    assert NS_PER_S / watch.period_ns == pytest.approx(25, rel=0.02)


def test_frames_that_are_lost_on_the_way_are_no_other_rate() -> None:
    watch = RateWatch(25.0)
    arriving = [*range(200), *range(200, 600, 3)]  # this machine has no time for more
    assert sum(watch.changed(number * 40 * MS, sequence=number) for number in arriving) == 0
    assert NS_PER_S / watch.period_ns == pytest.approx(25)
    slower = [600 * 40 * MS + number * 80 * MS for number in range(200)]
    assert sum(watch.changed(stamp, sequence=600 + number) for number, stamp in enumerate(slower)) == 1


# -- sizes ------------------------------------------------------------------------------------------------------------


class Resizing:
    """A live source whose frames can be of any size."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.size = (64, 48)
        self.number = 0
        self.drops: dict[str, int] = {}
        self.notes: tuple[str, ...] = ()
        self.closed = False

    @property
    def info(self):  # type: ignore[no-untyped-def]
        from rtfusion.capture.base import StreamInfo

        return StreamInfo(
            uri="net:cam",
            band=Band.VISIBLE,
            width_px=self.size[0],
            height_px=self.size[1],
            pixel_format=PixelFormat.BGR8,
            rate_hz=25.0,
            live=True,
        )

    def read(self, *, timeout_s: float) -> Frame:
        self.clock.advance_ns(40 * MS)
        self.number += 1
        width, height = self.size
        image = np.full((height, width, 3), self.number % 256, np.uint8)
        now_ns = self.clock.now_ns()
        return Frame(
            image=image,
            pixel_format=PixelFormat.BGR8,
            band=Band.VISIBLE,
            timestamp_ns=now_ns,
            sequence=self.number,
            received_ns=now_ns,
        )

    def close(self) -> None:
        self.closed = True


def test_frames_of_another_size_are_scaled_to_the_first_one() -> None:
    clock = FakeClock()
    camera = Resizing(clock)
    source = WatchedSource(lambda: camera, clock=clock)
    source.read(timeout_s=1)
    for size in ((128, 96), (32, 24)):
        camera.size = size
        frame = source.read(timeout_s=1)
        assert frame.size_px == (64, 48)
        assert frame.image[0, 0, 0] == camera.number
    assert source.faults == {"size": 2}
    assert source.notes == (
        "net:cam: it delivers 128x96 instead of 64x48; its frames are scaled",
        "net:cam: it delivers 32x24 instead of 64x48; its frames are scaled",
    )
    assert source.info.width_px == 64


def test_frames_of_another_aspect_are_not_shown() -> None:
    clock = FakeClock()
    camera = Resizing(clock)
    source = WatchedSource(lambda: camera, clock=clock)
    source.read(timeout_s=1)
    camera.size = (64, 36)
    with pytest.raises(CaptureTimeout):
        source.read(timeout_s=5)
    assert "frames of 64x36 instead of 64x48" in str(source.loss)
    camera.size = (64, 48)
    assert source.read(timeout_s=15).size_px == (64, 48)
    assert source.loss is None
    assert source.faults["size"] == 2


# -- ending -----------------------------------------------------------------------------------------------------------


def test_what_cannot_be_opened_at_first_is_an_error() -> None:
    def refuse() -> WatchedSource:
        raise CaptureError("no such camera")

    with pytest.raises(CaptureError, match="no such camera"):
        WatchedSource(refuse)


def test_close_ends_the_wait_for_a_lost_camera() -> None:
    rig = Rig()
    rig.frames(3)
    rig.camera.plugged = False
    rig.until(rig.is_lost, limit_s=1)
    waiting = threading.Event()

    class Waiting(FakeClock):
        def sleep_until_ns(self, deadline_ns: int, *, wake: threading.Event) -> bool:
            waiting.set()
            return not wake.wait(10)

    rig.source._clock = Waiting(start_ns=rig.clock.now_ns())
    outcome: list[BaseException] = []

    def read() -> None:
        try:
            rig.source.read(timeout_s=3600)
        except EndOfStream as error:
            outcome.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    assert waiting.wait(10)
    rig.source.close()
    reader.join(10)
    assert len(outcome) == 1
    assert rig.kernel.open_count == 0
    with pytest.raises(EndOfStream):
        rig.source.read(timeout_s=1)


def test_a_camera_that_comes_back_while_it_is_closed_is_released() -> None:
    rig = Rig()
    rig.frames(3)
    opened = rig.source._open_source

    def closing():  # type: ignore[no-untyped-def]
        rig.source._closed.set()  # as `close` does from another thread, just now
        return opened()

    rig.source._open_source = closing
    rig.camera.plugged = False
    rig.until(rig.is_lost, limit_s=1)
    rig.camera.plugged = True
    with pytest.raises(EndOfStream):
        rig.source.read(timeout_s=5)
    assert rig.kernel.open_count == 0
