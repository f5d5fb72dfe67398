"""Cameras, without one: the packets are real, the device that hands them over is written here."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtfusion.capture import open_source, v4l2
from rtfusion.capture.v4l2 import MAX_AGE_NS, StampPicker, V4l2Source, raw_image
from rtfusion.clock import NS_PER_MS, NS_PER_S, FakeClock
from rtfusion.errors import CaptureError, CaptureTimeout, ConfigError, EndOfStream, StreamLost
from rtfusion.types import Band, PixelFormat

PERIOD_NS = NS_PER_S // 25
UNPLUGGED = OSError(errno.ENODEV, "No such device")


class Camera:
    """What PyAV gives for an open V4L2 device: one buffer each period of a fake clock, read without blocking."""

    def __init__(
        self,
        buffers: list[bytes | Exception],
        *,
        codec: str = "rawvideo",
        pix_fmt: str = "gray",
        width: int = 8,
        height: int = 6,
        stamp_offset_ns: int = -10 * NS_PER_MS,
    ) -> None:
        self.clock = FakeClock(start_ns=100 * NS_PER_S)
        self.closed = False
        self._buffers = iter(buffers)
        self._start_ns = self.clock.now_ns()
        self._delivered = 0
        self._stamp_offset_ns = stamp_offset_ns
        context = av.CodecContext.create(codec, "r")
        context.width, context.height, context.pix_fmt = width, height, pix_fmt
        stream = SimpleNamespace(codec_context=context, time_base=Fraction(1, 1_000_000), average_rate=Fraction(25))
        self.streams = SimpleNamespace(video=[stream])

    def demux(self, stream: object) -> Iterator[av.Packet]:
        due_ns = self._start_ns + (self._delivered + 1) * PERIOD_NS
        if self.clock.now_ns() < due_ns:
            raise av.error.BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        content = next(self._buffers, None)
        if content is None:
            return
        self._delivered += 1
        if isinstance(content, Exception):
            raise content
        packet = av.Packet(content)
        packet.pts = (due_ns + self._stamp_offset_ns) // 1000
        yield packet

    def close(self) -> None:
        self.closed = True

    def open(self, *, band: Band = Band.THERMAL, asked_size: str | None = None) -> V4l2Source:
        container: Any = self
        return V4l2Source(container, uri="/dev/video0", band=band, asked_size=asked_size, clock=self.clock)


def gray(count: int, *, dtype: type[np.unsignedinteger[Any]] = np.uint8) -> list[npt.NDArray[Any]]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, np.iinfo(dtype).max, (6, 8), dtype=dtype, endpoint=True) for _ in range(count)]


def as_bytes(images: list[npt.NDArray[Any]]) -> list[bytes | Exception]:
    return [image.tobytes() for image in images]


def jpegs(count: int) -> list[bytes | Exception]:
    context = av.CodecContext.create("mjpeg", "w")
    context.width, context.height, context.pix_fmt, context.time_base = 32, 16, "yuvj420p", Fraction(1, 25)
    packets: list[bytes | Exception] = []
    for index in range(count):
        frame = av.VideoFrame.from_ndarray(np.full((16, 32, 3), 20 * index, np.uint8), format="bgr24")
        frame = frame.reformat(format="yuvj420p", src_color_range=2, dst_color_range=2)
        frame.pts = index
        packets += [bytes(packet) for packet in context.encode(frame)]
    return packets


# -- frames -----------------------------------------------------------------------------------------------------------


def test_gray_buffers_are_taken_as_they_are() -> None:
    images = gray(9)
    source = Camera(as_bytes(images)).open()
    assert source.info.pixel_format is PixelFormat.GRAY8
    for sequence, image in enumerate(images[5:], start=5):  # the first five were used to check the stamps
        frame = source.read(timeout_s=1)
        assert np.array_equal(frame.image, image)
        assert frame.sequence == sequence
    assert source.drops == {"corrupt": 0}


def test_sixteen_bit_buffers_are_counts_for_thermal_and_scaled_for_visible() -> None:
    images = gray(7, dtype=np.uint16)
    thermal = Camera(as_bytes(images), pix_fmt="gray16le").open()
    frame = thermal.read(timeout_s=1)
    assert frame.pixel_format is PixelFormat.GRAY16
    assert np.array_equal(frame.image, images[5])
    visible = Camera(as_bytes(images), pix_fmt="gray16le").open(band=Band.VISIBLE)
    frame = visible.read(timeout_s=1)
    assert frame.pixel_format is PixelFormat.GRAY8
    assert np.array_equal(frame.image, np.rint(images[5] / 257))


def test_packed_color_is_decoded() -> None:
    luma = np.arange(48, dtype=np.uint8).reshape(6, 8) + 100
    buffer = np.dstack([luma, np.full((6, 8), 128, np.uint8)]).tobytes()
    thermal = Camera([buffer] * 7, pix_fmt="yuyv422").open().read(timeout_s=1)
    assert np.array_equal(thermal.image, np.rint((luma.astype(float) - 16) * 255 / 219))
    visible = Camera([buffer] * 7, pix_fmt="yuyv422").open(band=Band.VISIBLE).read(timeout_s=1)
    assert visible.pixel_format is PixelFormat.BGR8
    assert np.abs(visible.image - thermal.image[..., None].astype(float)).max() <= 2


def test_motion_jpeg_is_decoded() -> None:
    camera = Camera(jpegs(8), codec="mjpeg", pix_fmt="yuvj420p", width=32, height=16)
    source = camera.open(band=Band.VISIBLE)
    assert source.info.description == "mjpeg yuvj420p by V4L2, stamped by the driver"
    levels = [float(source.read(timeout_s=1).image.mean()) for _ in range(3)]
    assert levels == pytest.approx([100, 120, 140], abs=2)


def test_what_was_negotiated() -> None:
    source = Camera(as_bytes(gray(6))).open(asked_size="640x480")
    info = source.info
    assert (info.width_px, info.height_px, info.rate_hz, info.live, info.frame_count) == (8, 6, 25.0, True, None)
    assert source.notes == ("/dev/video0: asked for 640x480, the camera gives 8x6",)
    assert Camera(as_bytes(gray(6))).open(asked_size="8x6").notes == ()


def test_broken_buffers_are_counted_and_leave_a_gap() -> None:
    images = as_bytes(gray(10))
    damaged = av.error.InvalidDataError(1094995529, "Invalid data")
    source = Camera([*images[:6], b"", images[6][:-1], damaged, images[7]]).open()
    assert [source.read(timeout_s=1).sequence for _ in range(2)] == [5, 9]
    assert source.drops == {"corrupt": 3}


@given(
    width=st.integers(1, 40),
    height=st.integers(1, 30),
    padding=st.integers(0, 9),
    deep=st.booleans(),
    seed=st.integers(0, 99),
)
def test_rows_may_be_padded(width: int, height: int, padding: int, deep: bool, seed: int) -> None:
    dtype = np.uint16 if deep else np.uint8
    image = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (height, width), dtype=dtype)
    rows = image.view(np.uint8).reshape(height, -1)
    buffer = np.pad(rows, ((0, 0), (0, padding))).tobytes()
    pixel_format = PixelFormat.GRAY16 if deep else PixelFormat.GRAY8
    taken = raw_image(buffer, width_px=width, height_px=height, pixel_format=pixel_format)
    assert np.array_equal(taken, image)
    with pytest.raises(ValueError, match=f"{len(buffer) - 1 - padding * height} bytes; expected {height} rows"):
        raw_image(rows.tobytes()[:-1], width_px=width, height_px=height, pixel_format=pixel_format)


# -- stamps -----------------------------------------------------------------------------------------------------------


def test_the_stamps_of_the_driver_are_used() -> None:
    camera = Camera(as_bytes(gray(8)))
    source = camera.open()
    assert source.info.description == "rawvideo gray by V4L2, stamped by the driver"
    frame = source.read(timeout_s=1)
    assert frame.timestamp_ns == 100 * NS_PER_S + 6 * PERIOD_NS - 10 * NS_PER_MS
    assert 0 <= frame.received_ns - (100 * NS_PER_S + 6 * PERIOD_NS) <= 2 * NS_PER_MS


@pytest.mark.parametrize("offset_ns", [-MAX_AGE_NS - NS_PER_S, 5 * NS_PER_S, 10**18])
def test_stamps_of_another_clock_are_not(offset_ns: int) -> None:
    source = Camera(as_bytes(gray(8)), stamp_offset_ns=offset_ns).open()
    assert source.info.description.endswith("stamped on arrival (the driver's stamps are not usable)")
    frame = source.read(timeout_s=1)
    assert frame.timestamp_ns == frame.received_ns


def picked(stamps: list[tuple[int | None, int]], *, check: int) -> tuple[list[int], str]:
    picker = StampPicker()
    result = []
    for index, (driver_ns, arrived_ns) in enumerate(stamps):
        if index == check:
            picker.decide()
        result.append(picker.pick(driver_ns, arrived_ns=arrived_ns))
    return result, picker.description


def test_stamps_that_stand_still_or_are_missing_are_not_used() -> None:
    for driver in ([7, 7, 7, 7], [None] * 4, [0, 0, 0, 0]):
        stamps, description = picked([(one, 10 + index) for index, one in enumerate(driver)], check=3)
        assert stamps[3] == 13
        assert "on arrival" in description


def test_one_bad_stamp_of_a_good_driver_is_replaced() -> None:
    stamps, description = picked([(10, 11), (20, 21), (30, 31), (5, 41), (50, 51), (70, 61)], check=3)
    assert stamps == [10, 20, 30, 41, 50, 61]
    assert description == "stamped by the driver"


@given(st.lists(st.tuples(st.none() | st.integers(0, 10**10), st.integers(0, 10**8)), max_size=30), st.integers(0, 9))
def test_stamps_always_increase(steps: list[tuple[int | None, int]], check: int) -> None:
    arrived_ns, stamps = 0, []
    for driver_ns, step in steps:
        arrived_ns += step
        stamps.append((driver_ns, arrived_ns))
    result, _ = picked(stamps, check=check)
    assert all(a < b for a, b in zip(result, result[1:]))  # noqa: B905, RUF007


def test_what_queued_up_before_the_first_read_is_dropped() -> None:
    camera = Camera(as_bytes(gray(40)))
    source = camera.open()
    camera.clock.advance_ns(10 * PERIOD_NS)  # a model is loaded meanwhile
    opened_ns = camera.clock.now_ns()
    assert source.read(timeout_s=1).timestamp_ns > opened_ns - 10 * NS_PER_MS
    camera.clock.advance_ns(3 * PERIOD_NS)  # from here on nothing is dropped
    stamps = [source.read(timeout_s=1).timestamp_ns for _ in range(4)]
    assert set(np.diff(stamps)) == {PERIOD_NS}


# -- what goes wrong --------------------------------------------------------------------------------------------------


def test_a_camera_that_pauses_times_out_and_goes_on() -> None:
    camera = Camera(as_bytes(gray(8)))
    source = camera.open()
    started_ns = camera.clock.now_ns()
    with pytest.raises(CaptureTimeout, match=r"/dev/video0: no frame within 0.01 s"):
        source.read(timeout_s=0.01)
    assert camera.clock.now_ns() - started_ns == 10 * NS_PER_MS
    assert source.read(timeout_s=1).sequence == 5


def test_an_unplugged_camera_is_lost() -> None:
    source = Camera([*as_bytes(gray(6)), UNPLUGGED]).open()
    source.read(timeout_s=1)
    with pytest.raises(StreamLost, match=r"the camera was unplugged or its driver failed \(No such device\)"):
        source.read(timeout_s=1)


def test_a_camera_that_ends_is_lost() -> None:
    source = Camera(as_bytes(gray(6))).open()
    source.read(timeout_s=1)
    with pytest.raises(StreamLost, match="the camera stopped delivering"):
        source.read(timeout_s=1)


def test_a_camera_that_delivers_nothing_of_use_cannot_be_opened() -> None:
    with pytest.raises(CaptureError, match=r"opened but delivers no frames \(125 broken buffers\)"):
        Camera([b""] * 500).open()


def test_close_wakes_a_read() -> None:
    camera = Camera(as_bytes(gray(5)))
    source = camera.open()
    waiting = threading.Event()

    class Waiting(FakeClock):
        def sleep_until_ns(self, deadline_ns: int, *, wake: threading.Event) -> bool:
            waiting.set()
            return not wake.wait(10)

    source._clock = Waiting(start_ns=camera.clock.now_ns())
    outcome: list[BaseException] = []

    def read() -> None:
        try:
            source.read(timeout_s=3600)
        except EndOfStream as error:
            outcome.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    assert waiting.wait(10)
    source.close()
    reader.join(10)
    assert len(outcome) == 1
    assert camera.closed
    source.close()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (av.error.FileNotFoundError(errno.ENOENT, "x"), "no such camera; `rtfusion devices` lists"),
        (OSError(errno.ENODEV, "x"), "no such camera"),
        (av.error.PermissionError(errno.EACCES, "x"), r"no permission; run `sudo usermod -aG video \$USER` and log in"),
        (OSError(errno.EBUSY, "x"), "another program uses the camera; `fuser /dev/video0` shows which"),
        (OSError(errno.ENOTTY, "x"), "not a camera"),
        (av.error.ArgumentError(errno.EINVAL, "x"), "the camera has no such mode.* `v4l2-ctl --device /dev/video0"),
        (OSError(errno.ENOSPC, "x"), "not enough USB bandwidth; try .format=mjpeg"),
        (av.error.ExitError(1414092869, "x"), "the camera opened but delivered no frame within 5 s"),
        (OSError(errno.EIO, "Input/output error"), r"the camera cannot be opened \(Input/output error\)"),
    ],
)
def test_what_to_do_about_a_camera_that_cannot_be_opened(
    monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(v4l2.av, "open", refuse)
    with pytest.raises(CaptureError, match=f"^/dev/video0: {message}"):
        open_source("/dev/video0", band=Band.THERMAL)


def test_the_mode_is_asked_of_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = Camera(as_bytes(gray(6, dtype=np.uint16)), pix_fmt="gray16le")
    asked: dict[str, Any] = {}

    def grant(path: str, **options: Any) -> Camera:
        asked.update(options, path=path)
        return camera

    monkeypatch.setattr(v4l2.av, "open", grant)
    uri = "v4l2:/dev/video2?size=160x120&fps=9&format=y16"
    source = open_source(uri, band=Band.THERMAL, clock=camera.clock)
    assert asked["path"] == "/dev/video2"
    assert asked["format"] == "v4l2"
    assert asked["container_options"] == {
        "video_size": "160x120",
        "framerate": "9.0",
        "input_format": "gray16le",
        "fflags": "+4",
    }
    assert source.info.uri == uri


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("size=big", "size=big: expected WIDTHxHEIGHT in pixels, such as 640x480"),
        ("size=0x480", "size=0x480: expected"),
        ("format=rgb", "format=rgb: expected one of yuyv422, mjpeg, gray, y16"),
        ("fps=0", "fps=0: expected frames per second"),
        ("sise=640x480", r"unknown parameter 'sise'; did you mean size\? it takes format, fps, size"),
    ],
)
def test_parameters_are_strict(query: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_source(f"v4l2:/dev/video0?{query}", band=Band.THERMAL)


def test_a_file_that_is_no_camera(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(CaptureError, match="not a camera"):
        open_source(f"v4l2:{tmp_path}/file", band=Band.THERMAL)
