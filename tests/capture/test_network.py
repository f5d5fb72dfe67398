"""Network cameras on the loopback interface: MJPEG over HTTP, MPEG-TS over UDP, and what they do wrong."""

from __future__ import annotations

import base64
import contextlib
import gc
import itertools
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtfusion.capture import open_source
from rtfusion.capture.http_camera import JpegSplitter
from rtfusion.capture.network import NetworkSource, open_network
from rtfusion.capture.stamps import PtsClock
from rtfusion.capture.uri import parse_source
from rtfusion.capture.watchdog import WatchedSource
from rtfusion.clock import MONOTONIC, NS_PER_S
from rtfusion.errors import CaptureError, CaptureTimeout, ConfigError, EndOfStream, StreamLost
from rtfusion.pairs import open_pairs
from rtfusion.types import Band, Frame, PixelFormat
from tests.capture.rtsp_server import RtspServer
from tests.capture.timed_rtsp import TimedRtspServer
from tests.rig import pictures
from tests.rig.cameras import MjpegServer
from tests.support import MS


def jpeg(number: int) -> bytes:
    image = np.full((48, 64, 3), 10 + number % 20 * 10, np.uint8)
    return bytes(cv2.imencode(".jpg", image)[1].tobytes())


@pytest.fixture
def server() -> Iterator[MjpegServer]:
    camera = MjpegServer(jpeg, rate_hz=100.0)
    yield camera
    camera.close()


@pytest.fixture(autouse=True)
def no_thread_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("rtfusion.capture.network.READ_TIMEOUT_S", 2.0)
    yield
    for thread in threading.enumerate():
        if thread.name.startswith("network-"):
            thread.join(30)
            assert not thread.is_alive()


@contextlib.contextmanager
def opened(url: str, *, band: Band = Band.VISIBLE) -> Iterator[NetworkSource]:
    source = open_network(parse_source(url), band=band)
    try:
        yield source
    finally:
        source.close()


def read_until(source: WatchedSource | NetworkSource, condition: Callable[[], bool], *, limit_s: float) -> list[Frame]:
    frames: list[Frame] = []
    end_ns = MONOTONIC.now_ns() + round(limit_s * NS_PER_S)
    while not condition():
        assert MONOTONIC.now_ns() < end_ns
        with contextlib.suppress(CaptureTimeout):
            frames.append(source.read(timeout_s=0.1))
    return frames


# -- MJPEG over HTTP --------------------------------------------------------------------------------------------------


def test_motion_jpeg_over_http(server: MjpegServer) -> None:
    with opened(server.url) as source:
        assert (source.info.width_px, source.info.height_px, source.info.live) == (64, 48, True)
        assert source.info.pixel_format is PixelFormat.BGR8
        assert source.info.description == "mjpeg over http, stamped on arrival"
        frames = [source.read(timeout_s=2) for _ in range(10)]
    levels = np.array([float(frame.image.mean()) for frame in frames])
    assert np.abs(levels - 10 * np.round(levels / 10)).max() <= 1, "each is one of the pictures that were sent"
    assert len(set(np.round(levels))) > 3
    for before, after in zip(frames, frames[1:]):  # noqa: B905, RUF007
        assert after.timestamp_ns > before.timestamp_ns
        assert after.sequence > before.sequence
    assert 0 <= MONOTONIC.now_ns() - frames[-1].received_ns < 5 * NS_PER_S


def test_damaged_images_are_counted(server: MjpegServer) -> None:
    with opened(server.url) as source:
        source.read(timeout_s=2)
        server.damage = lambda data: data[: len(data) // 2]
        with pytest.raises(CaptureTimeout):
            for _ in range(20):
                source.read(timeout_s=0.3)
        server.damage = None
        source.read(timeout_s=2)
        assert source.drops["corrupt"] > 5


def test_a_server_that_goes_away_ends_the_stream(server: MjpegServer) -> None:
    with opened(server.url) as source:
        server.unplug()
        with pytest.raises(StreamLost, match=r"127.0.0.1.*: (the camera ended the stream|the stream broke)"):
            for _ in range(1000):
                source.read(timeout_s=2)


def test_a_server_that_falls_silent_is_noticed(server: MjpegServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtfusion.capture.network.READ_TIMEOUT_S", 1.0)
    with opened(server.url) as source:
        server.silent = True
        started_ns = MONOTONIC.now_ns()
        with pytest.raises(StreamLost, match="does not answer in time; it is silent"):
            read_until(source, lambda: False, limit_s=10)
        assert MONOTONIC.now_ns() - started_ns >= 0.9 * NS_PER_S, "the last image came a little before"


def test_a_lost_network_camera_comes_back(server: MjpegServer) -> None:
    source = open_source(server.url, band=Band.VISIBLE)
    assert isinstance(source, WatchedSource)
    try:
        before = source.read(timeout_s=2)
        server.unplug()
        read_until(source, lambda: source.loss is not None, limit_s=5)
        server.plug()
        read_until(source, lambda: source.loss is None, limit_s=10)
        after = source.read(timeout_s=2)
        assert after.timestamp_ns > before.timestamp_ns
        assert after.sequence > before.sequence
        assert source.faults == {"unplugged": 1, "reopened": 1}
    finally:
        source.close()


@pytest.mark.parametrize("end", ["the server goes away", "closed"])
def test_a_stream_that_ended_is_freed_at_once(server: MjpegServer, end: str) -> None:
    """A camera that comes and goes must not pile up decoders and frames until a full garbage collection."""
    gc.collect()
    gc.disable()
    try:
        source = open_network(parse_source(server.url), band=Band.VISIBLE)
        thread = next(thread for thread in threading.enumerate() if thread.name == "network-visible")
        source.read(timeout_s=5)
        if end == "the server goes away":
            server.unplug()
            with pytest.raises(StreamLost):
                read_until(source, lambda: False, limit_s=10)
        source.close()
        thread.join(30)
        freed = weakref.ref(source)
        del source
        assert freed() is None
    finally:
        gc.enable()


def test_a_backlog_is_passed_over(server: MjpegServer) -> None:
    server.rate_hz = 1e6  # far more than can be decoded: the buffers of the system fill up
    with opened(server.url) as source:
        read_until(source, lambda: source.drops["behind"] > 100, limit_s=60)
        server.rate_hz = 5.0
        behind = [0]

        def has_caught_up() -> bool:
            before, behind[0] = behind[0], source.drops["behind"]
            return behind[0] == before

        read_until(source, has_caught_up, limit_s=60)
        assert source.read(timeout_s=10).size_px == (64, 48)


def test_the_size_may_change_in_mid_stream(server: MjpegServer) -> None:
    source = open_source(server.url, band=Band.VISIBLE)
    assert isinstance(source, WatchedSource)
    try:
        source.read(timeout_s=2)
        server.image = lambda number: bytes(cv2.imencode(".jpg", np.full((96, 128, 3), 77, np.uint8))[1].tobytes())
        frames = read_until(source, lambda: source.faults["size"] == 1, limit_s=5)
        frames.append(source.read(timeout_s=2))
        assert {frame.size_px for frame in frames} == {(64, 48)}
        assert abs(float(frames[-1].image.mean()) - 77) < 2
    finally:
        source.close()


def test_exchanged_cameras_and_untold_rates_are_told_of_http_too(caplog: pytest.LogCaptureFixture) -> None:
    """The visible camera shows gray pictures, the thermal one a colorful scene; neither says how fast."""
    rng = np.random.default_rng(3)
    scene = cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), (64, 48), interpolation=cv2.INTER_CUBIC)

    def colorful(number: int) -> bytes:
        return bytes(cv2.imencode(".jpg", np.roll(scene, number, axis=1))[1].tobytes())

    cameras = MjpegServer(jpeg, rate_hz=50.0), MjpegServer(colorful, rate_hz=50.0)
    try:
        with open_pairs(vis=cameras[0].url, ir=cameras[1].url) as pairs:
            assert not pairs.visible.rate_is_told
            pairs.telemetry.sources = {Band.VISIBLE: pairs.visible, Band.THERMAL: pairs.thermal}
            assert pairs.telemetry.snapshot()["sources"]["visible"]["rate_hz"] is None
            while Band.VISIBLE not in pairs.measured_hz:
                pairs.poll(timeout_s=0.1)
    finally:
        for camera in cameras:
            camera.close()
    assert any(note.startswith("the two may be exchanged") for note in pairs.notes)
    assert any(record.getMessage().startswith("the two may be exchanged") for record in caplog.records)
    assert any("#palette= names one" in note for note in pairs.notes)


def test_thermal_network_cameras_are_gray(server: MjpegServer) -> None:
    with opened(server.url, band=Band.THERMAL) as source:
        assert source.read(timeout_s=2).pixel_format is PixelFormat.GRAY8


def test_the_palette_of_a_thermal_network_camera_is_undone() -> None:
    level = np.tile(np.linspace(40, 200, 64), (48, 1)).astype(np.uint8)
    image = bytes(cv2.imencode(".jpg", cv2.applyColorMap(level, cv2.COLORMAP_JET))[1].tobytes())
    camera = MjpegServer(lambda number: image, rate_hz=100.0)
    with opened(camera.url, band=Band.THERMAL) as source:
        assert np.abs(source.read(timeout_s=2).image.astype(int) - level).mean() < 6
        assert "the palette jet" in source.notes[-1]
    with opened(f"{camera.url}#palette=none", band=Band.THERMAL) as source:
        assert source.read(timeout_s=2).pixel_format is PixelFormat.GRAY8
        assert source.notes == ()
    camera.close()


def test_close_ends_a_waiting_read(server: MjpegServer) -> None:
    with opened(server.url) as source:
        server.silent = True
        outcome: list[BaseException] = []

        def read() -> None:
            try:
                while True:
                    source.read(timeout_s=30)
            except EndOfStream as error:
                outcome.append(error)

        reader = threading.Thread(target=read)
        reader.start()
        source.close()
        reader.join(10)
        assert len(outcome) == 1


# -- what servers of MJPEG do ----------------------------------------------------------------------------------------------


def test_parts_without_a_type_or_a_length_after_text_and_another_boundary_are_read(server: MjpegServer) -> None:
    server.preamble = b"Welcome to the camera\r\n\r\n"
    server.head = lambda data: b"--other\r\n\r\n"
    with opened(server.url) as source:
        frames = [source.read(timeout_s=5) for _ in range(5)]
    levels = np.array([float(frame.image.mean()) for frame in frames])
    assert np.abs(levels - 10 * np.round(levels / 10)).max() <= 1


def test_an_image_without_a_length_is_not_held_until_the_next_one(server: MjpegServer) -> None:
    """Its stamp would be a whole period late."""
    server.rate_hz, server.head = 4.0, lambda data: b"--frame\r\nContent-Type: image/jpeg\r\n\r\n"
    with opened(server.url) as source:
        late_ms = []
        for _ in range(5):
            frame = source.read(timeout_s=5)
            late_ms.append((frame.timestamp_ns - server.sent_ns[frame.sequence + 1]) / MS)
    assert np.median(late_ms) < 125, "half a period"


def test_a_snapshot_is_fetched_again_and_again(server: MjpegServer) -> None:
    for address in (f"{server.snapshot_url}?x=1#poll_hz=20", f"{server.snapshot_url}?x=1&poll_hz=20"):
        with opened(address) as source:
            assert source.info.rate_hz == 20
            assert source.info.description == "snapshots over http, stamped on arrival"
            assert source.notes[0].endswith("a snapshot: it is fetched 20 times a second (#poll_hz=)")
            frames = [source.read(timeout_s=5) for _ in range(4)]
        assert [a.timestamp_ns < b.timestamp_ns for a, b in itertools.pairwise(frames)] == [True] * 3
    assert server.asked[-1] == "/snap.jpg?x=1", "what is for us is not sent to the camera"


def test_a_snapshot_that_stays_the_same_is_a_duplicate_and_is_not_fetched_when_closed(server: MjpegServer) -> None:
    server.image = lambda number: jpeg(1)
    with opened(f"{server.snapshot_url}#poll_hz=100") as source:
        read_until(source, lambda: source.drops["duplicate"] > 3, limit_s=10)
        assert source.drops["behind"] == 0
        server.image = lambda number: jpeg(2)
        frame = source.read(timeout_s=5)
        assert frame.sequence > 3, "each that was fetched is counted"
        server.image = lambda number: jpeg(3)
        source.read(timeout_s=5)
        source.close()
        source._thread.join(10)
        assert not source._thread.is_alive()


def test_a_page_is_no_stream(server: MjpegServer) -> None:
    server.content_type, server.image, server.head = "text/html", lambda number: b"<html></html>", lambda data: b""
    with pytest.raises(CaptureError, match="not a video stream but text/html"):
        open_network(parse_source(server.url), band=Band.VISIBLE)


@given(st.data())
def test_images_are_found_wherever_the_pieces_end(data: st.DataObject) -> None:
    images = [jpeg(number) for number in range(4)]
    stream = b"HTTP text\xff\r\n" + b"".join(b"--frame\r\n\r\n" + image + b"\r\n" for image in images)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    splitter, found = JpegSplitter(), []
    for start, end in itertools.pairwise([0, *cuts, len(stream)]):
        found += [image for image, _ in splitter.feed(stream[start:end], arrived_ns=0)]
    assert found == images


@given(
    st.lists(
        st.binary(max_size=60) | st.sampled_from([b"\xff\xd8\xff\xe0", b"\xff\xda\x00\x04", b"\xff\xd9"]), max_size=30
    )
)
def test_any_bytes_are_taken(pieces: list[bytes]) -> None:
    splitter = JpegSplitter()
    for piece in pieces:
        for image, _ in splitter.feed(piece, arrived_ns=0):
            assert image.startswith(b"\xff\xd8\xff")
    assert len(splitter._data) <= sum(map(len, pieces))


def test_a_server_that_ends_before_it_is_known_what_it_sends_cannot_be_opened(server: MjpegServer) -> None:
    def end(number: int) -> bytes:
        server.unplug()
        return b""

    server.content_type, server.image, server.head = "x/y", end, lambda data: b""
    with pytest.raises(CaptureError, match="the camera ended the stream") as caught:
        open_network(parse_source(server.url), band=Band.VISIBLE)
    assert caught.value.exit_code == 3, "not one that broke while running"


# -- credentials ------------------------------------------------------------------------------------------------------


def test_name_and_password_are_sent_and_never_shown(server: MjpegServer) -> None:
    server.credentials = "Basic " + base64.b64encode(b"me:s3cret").decode()
    with opened(server.url.replace("//", "//me:s3cret@")) as source:
        assert "s3cret" not in repr(source.info)
        assert source.info.uri == server.url.replace("//", "//***@")


@pytest.mark.parametrize("fault", ["wrong password", "refused", "no answer"])
def test_no_error_quotes_a_password(
    server: MjpegServer, fault: str, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rtfusion.capture.network.OPEN_TIMEOUT_S", 1.0)
    monkeypatch.setattr("rtfusion.capture.network.READ_TIMEOUT_S", 0.5)
    server.credentials = "Basic " + base64.b64encode(b"me:other").decode()
    url = server.url.replace("//", "//me:s3cret@")
    if fault == "refused":
        url = f"http://me:s3cret@127.0.0.1:{free_port}/?token=s3cret"
    if fault == "no answer":
        server.credentials, server.silent = None, True
    expected = {"wrong password": "another name or password", "refused": "refused", "no answer": "in time"}[fault]
    with pytest.raises(CaptureError, match=expected) as caught:
        open_network(parse_source(url), band=Band.VISIBLE)
    error: BaseException | None = caught.value
    while error is not None:
        assert "s3cret" not in f"{error} {error!r} {getattr(error, 'filename', '')}"
        error = error.__cause__ or error.__context__


def test_parameters_follow_after_a_hash() -> None:
    with pytest.raises(ConfigError, match="transport=tpc: expected tcp or udp"):
        open_network(parse_source("rtsp://camera/1#transport=tpc"), band=Band.VISIBLE)
    with pytest.raises(
        ConfigError, match="unknown parameter 'transport'; it takes crop, flip, half, mask, palette, poll_hz, rotate"
    ):
        open_network(parse_source("http://camera/1?transport=7#transport=tcp"), band=Band.VISIBLE)


# -- MPEG-TS over UDP -------------------------------------------------------------------------------------------------


def send_mpegts(port: int, stop: threading.Event) -> None:
    with av.open(f"udp://127.0.0.1:{port}?pkt_size=1316", "w", format="mpegts") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 64, 48, "yuv420p", 5
        stream.codec_context.time_base = Fraction(1, 25)
        for number in range(1000):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), number * 7 % 256, np.uint8), format="bgr24")
            frame.pts = number
            container.mux(stream.encode(frame))
            if stop.wait(0.01):
                return


def test_mpegts_over_udp(free_port: int) -> None:
    stop = threading.Event()
    sender = threading.Thread(target=send_mpegts, args=(free_port, stop))
    sender.start()
    try:
        with opened(f"udp://127.0.0.1:{free_port}") as source:
            assert source.info.description == "mpeg2video yuv420p over udp, stamped by its presentation times"
            frames = [source.read(timeout_s=5) for _ in range(10)]
        stamps = [frame.timestamp_ns for frame in frames]
        assert stamps == sorted(set(stamps))
        assert all(frame.timestamp_ns <= frame.received_ns for frame in frames)
    finally:
        stop.set()
        sender.join(10)


def test_nobody_sends(free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtfusion.capture.network.OPEN_TIMEOUT_S", 0.5)
    with pytest.raises(CaptureError, match=r"does not answer in time|not a video stream"):
        open_network(parse_source(f"udp://127.0.0.1:{free_port}"), band=Band.VISIBLE)


# -- stamps -----------------------------------------------------------------------------------------------------------


def placed(clock: PtsClock, pts_ns: int | None, *, arrived_ns: int) -> int:
    """The stamp of a packet that is a frame."""
    clock.observe(pts_ns, arrived_ns=arrived_ns)
    return clock.stamp(pts_ns, arrived_ns=arrived_ns)


def test_the_jitter_of_the_network_is_taken_off() -> None:
    clock = PtsClock(trust_pts=True)
    rng = np.random.default_rng(0)
    delays = 20 * MS + rng.exponential(15 * MS, 300)
    stamps = [placed(clock, i * 40 * MS, arrived_ns=10 * NS_PER_S + i * 40 * MS + int(delays[i])) for i in range(300)]
    steps = np.diff(stamps[50:]) / MS
    assert np.abs(steps - 40).max() < 3
    late = np.array(stamps[50:]) - (10 * NS_PER_S + np.arange(50, 300) * 40 * MS)
    assert late.max() < 25 * MS


def test_a_camera_that_starts_its_times_anew_is_followed() -> None:
    clock = PtsClock(trust_pts=True)
    placed(clock, 3600 * NS_PER_S, arrived_ns=10 * NS_PER_S)
    assert placed(clock, 0, arrived_ns=11 * NS_PER_S) == 11 * NS_PER_S
    assert placed(clock, 40 * MS, arrived_ns=11 * NS_PER_S + 60 * MS) == 11 * NS_PER_S + 40 * MS


@given(
    st.lists(st.tuples(st.none() | st.integers(-(2**62), 2**62), st.integers(0, NS_PER_S)), max_size=60), st.booleans()
)
def test_stamps_increase_and_are_never_of_the_future(steps: list[tuple[int | None, int]], trust: bool) -> None:
    clock = PtsClock(trust_pts=trust)
    arrived_ns, last_ns = NS_PER_S, 0
    for pts_ns, step_ns in steps:
        arrived_ns += step_ns
        stamp_ns = placed(clock, pts_ns, arrived_ns=arrived_ns)
        assert last_ns < stamp_ns <= max(arrived_ns, last_ns + 1)
        last_ns = stamp_ns


# -- RTSP -------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def timed(codec: str, *, fragment: str = "", **how: Any) -> Iterator[tuple[TimedRtspServer, NetworkSource]]:
    server = TimedRtspServer(codec, **how)
    try:
        with opened(server.url + fragment) as source:
            yield server, source
    finally:
        server.close()


def errors_ms(server: TimedRtspServer, source: NetworkSource, *, frames: int = 24) -> tuple[float, float]:
    """How late stamps and arrivals are, by the time that is drawn into the frames: (the median of stamps, of arrivals)."""
    for _ in range(8):
        source.read(timeout_s=10)
    read = [source.read(timeout_s=10) for _ in range(frames)]
    true_ms = np.array([pictures.read_code(frame.image[4:44]) for frame in read])
    return tuple(
        float(np.median([(ns - server.epoch_ns) / MS for ns in times] - true_ms))
        for times in ([frame.timestamp_ns for frame in read], [frame.received_ns for frame in read])
    )  # type: ignore[return-value]


SLOW = pytest.mark.slow
PERIOD_MS = 20.0
"""Of `TimedRtspServer`."""


@pytest.mark.parametrize(
    ("codec", "fragment"), [("h264", ""), pytest.param("h264", "#transport=udp", marks=SLOW), ("hevc", "")]
)
def test_stamps_are_true_though_the_parser_holds_each_frame_back(codec: str, fragment: str) -> None:
    with timed(codec, fragment=fragment) as (server, source):
        stamp_ms, arrival_ms = errors_ms(server, source)
        assert abs(stamp_ms) < 5
        assert arrival_ms > 0.9 * PERIOD_MS, "a period, which the age tells"
    assert "cannot be known from here; `rtfusion calibrate delay` measures it" in source.notes[0]


def test_stamps_of_b_frames_are_true_within_a_period_and_their_delay_is_said() -> None:
    with timed("h264b") as (server, source):
        stamp_ms, arrival_ms = errors_ms(server, source)
        assert abs(stamp_ms) < PERIOD_MS + 10, "a period, and what a busy machine adds"
        assert arrival_ms > 3 * PERIOD_MS
        assert any("B-frames" in note for note in source.notes)


@pytest.mark.parametrize("codec", ["h264", pytest.param("h264b", marks=SLOW)])
def test_sender_reports_give_the_time_of_capture(codec: str) -> None:
    with timed(codec, reports=True) as (server, source):
        assert abs(errors_ms(server, source)[0]) < 5
        assert any("by the camera's own clock, which its reports (RTCP) give" in note for note in source.notes)


@SLOW
def test_a_camera_whose_clock_is_wrong_is_not_believed_unless_it_is_asked_for() -> None:
    with timed("h264", reports=True, clock_error_s=7.0) as (server, source):
        assert abs(errors_ms(server, source)[0]) < 5
        assert any("clock is +7.0" in note and "#clock=reports" in note for note in source.notes)
    with timed("h264", reports=True, clock_error_s=7.0, fragment="#clock=reports") as (server, source):
        assert abs(errors_ms(server, source)[0]) < 5
        assert any("by the camera's own clock" in note for note in source.notes)


def test_a_server_that_sends_nothing_is_called_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtfusion.capture.network.OPEN_TIMEOUT_S", 0.5)
    server = TimedRtspServer()
    server.silent = True
    try:
        with pytest.raises(CaptureError, match="the camera answers, but sends no pictures: it is silent"):
            open_network(parse_source(server.url), band=Band.VISIBLE)
    finally:
        server.close()


def test_close_waits_for_the_thread_that_reads() -> None:
    with timed("h264") as (server, source):
        source.read(timeout_s=10)
        server.silent = True
        source.close()
        assert not source._thread.is_alive()


def test_frames_of_the_start_up_are_no_drops() -> None:
    with timed("h264") as (_, source):
        while source._mailbox.dropped < 10:
            source._thread.join(0.05)
        assert source.drops["network_queue"] == 0
        frame = source.read(timeout_s=5)
        assert source.drops["network_queue"] == 0
        assert MONOTONIC.now_ns() - frame.received_ns < NS_PER_S


LEFT_OPEN = """
import sys, rtfusion.capture
from rtfusion.types import Band
source = rtfusion.capture.open_source(sys.argv[1], band=Band.VISIBLE)
source.read(timeout_s=10)
"""


def test_a_script_that_closes_nothing_ends_in_order(child_environment: dict[str, str]) -> None:
    server = TimedRtspServer()
    try:
        words = [sys.executable, "-c", LEFT_OPEN, server.url]
        done = subprocess.run(words, env=child_environment, capture_output=True, text=True, timeout=60, check=False)
    finally:
        server.close()
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def rtsp() -> Iterator[RtspServer]:
    server = RtspServer(credentials="me:s3cret")
    yield server
    server.close()


def test_rtsp_with_a_password(rtsp: RtspServer) -> None:
    with opened(f"rtsp://me:s3cret@{rtsp.address}") as source:
        assert source.info.uri == f"rtsp://***@{rtsp.address}"
        assert source.info.description == "mpeg2video yuv420p over rtsp, stamped by its presentation times"
        frames = [source.read(timeout_s=5) for _ in range(10)]
    stamps = [frame.timestamp_ns for frame in frames]
    assert stamps == sorted(set(stamps))
    assert frames[-1].image.mean() > frames[0].image.mean()


def test_rtsp_with_a_wrong_password(rtsp: RtspServer) -> None:
    with pytest.raises(CaptureError, match="another name or password") as caught:
        open_network(parse_source(f"rtsp://me:wrong-s3cret@{rtsp.address}"), band=Band.VISIBLE)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__context__ is None


def test_an_rtsp_server_that_goes_away(rtsp: RtspServer) -> None:
    with opened(f"rtsp://me:s3cret@{rtsp.address}") as source:
        source.read(timeout_s=5)
        rtsp.close()
        with pytest.raises(StreamLost):
            read_until(source, lambda: False, limit_s=20)
