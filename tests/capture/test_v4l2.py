"""Cameras, without one: a driver written in Python stands behind the calls of the kernel."""

from __future__ import annotations

import errno
import gc
import shutil
import subprocess
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtfusion.capture import v4l2_abi as abi
from rtfusion.capture.buffers import BufferDecoder, JpegRules
from rtfusion.capture.modes import FOURCCS, Asked, choose_mode, lighter_mode
from rtfusion.capture.profiles import PROFILES, recognize
from rtfusion.capture.uri import parse_source
from rtfusion.capture.v4l2 import MAX_AGE_NS, SequenceCounter, TimestampSelector, V4l2Source, open_v4l2
from rtfusion.capture.v4l2_device import Mode, SizeRange, VideoDevice
from rtfusion.clock import NS_PER_MS, NS_PER_S, FakeClock
from rtfusion.errors import CaptureError, CaptureTimeout, ConfigError, EndOfStream, StreamLost
from rtfusion.types import Band, PixelFormat
from tests.rig import pictures
from tests.rig.cameras import FakeCamera, FakeKernel

PERIOD_NS = NS_PER_S // 25
START_NS = 100 * NS_PER_S


def mode(fourcc: str = "GREY", size: tuple[int, int] = (8, 6), *rates_hz: float) -> Mode:
    return Mode(fourcc=fourcc, width_px=size[0], height_px=size[1], rates_hz=rates_hz or (25.0,))


def noise(of: Mode, sequence: int) -> bytes:
    """Another picture for each number, the same for the same one."""
    wide = {"YUYV": 2, "UYVY": 2, "Y16": 2, "NV12": 1.5}.get(of.fourcc, 1)
    count = round(of.width_px * of.height_px * wide)
    return np.random.default_rng(sequence).integers(0, 256, count, dtype=np.uint8).tobytes()


class Bench:
    """One fake camera on /dev/video0, and a clock that only it moves."""

    def __init__(self, *modes: Mode, content: Callable[[Mode, int], bytes] = noise, **fields: Any) -> None:
        self.clock = FakeClock(start_ns=START_NS)
        self.camera = FakeCamera(modes=list(modes) or [mode()], content=content, **fields)
        self.kernel = FakeKernel({"/dev/video0": self.camera}, clock=self.clock)

    def open(self, query: str = "", *, band: Band = Band.THERMAL) -> V4l2Source:
        return open_v4l2(parse_source(f"v4l2:/dev/video0{query}"), band=band, clock=self.clock, kernel=self.kernel)


# -- the kernel's numbers ---------------------------------------------------------------------------------------------


@pytest.mark.skipif(
    shutil.which("cc") is None or not Path("/usr/include/linux/videodev2.h").exists(), reason="no C compiler or headers"
)
def test_requests_and_structures_are_those_of_the_system(tmp_path: Path) -> None:
    requests = [name for name in vars(abi) if name.isupper() and isinstance(getattr(abi, name), int)]
    requests = [name for name in requests if getattr(abi, name) >> 8 & 0xFF == ord("V") and not name.startswith("CAP")]
    offsets = {"timestamp": abi.Buffer.timestamp, "sequence": abi.Buffer.sequence, "m": abi.Buffer.m}
    lines = [f'printf("%lu\\n", (unsigned long)VIDIOC_{name});' for name in requests]
    lines += [f'printf("%zu\\n", offsetof(struct v4l2_buffer, {name}));' for name in offsets]
    lines += ['printf("%zu\\n", offsetof(struct v4l2_format, fmt));']
    program = tmp_path / "numbers.c"
    includes = "#include <stddef.h>\n#include <stdio.h>\n#include <linux/videodev2.h>\n"
    program.write_text(includes + "int main(void) { " + " ".join(lines) + " return 0; }")
    subprocess.run(["cc", "-o", str(tmp_path / "numbers"), str(program)], check=True)
    printed = subprocess.run([str(tmp_path / "numbers")], capture_output=True, text=True, check=True).stdout.split()
    ours = [getattr(abi, name) for name in requests] + [field.offset for field in offsets.values()]
    assert [int(number) for number in printed] == [*ours, abi.Format.fmt.offset]
    assert len(requests) == 15


def test_names_of_pixel_formats() -> None:
    assert abi.fourcc("YUYV") == 0x56595559
    assert abi.fourcc_text(abi.fourcc("Y16")) == "Y16"
    assert abi.fourcc_text(abi.fourcc("Y16-BE")) == "Y16-BE"
    assert abi.fourcc("Y16-BE") == abi.fourcc("Y16") | 1 << 31
    assert abi.fourcc_text(0x00FF_0A41) == "A???"


# -- frames -----------------------------------------------------------------------------------------------------------


def test_gray_buffers_are_taken_as_they_are() -> None:
    bench = Bench()
    source = bench.open()
    assert source.info.pixel_format is PixelFormat.GRAY8
    for _ in range(4):
        frame = source.read(timeout_s=1)
        assert frame.image.tobytes() == noise(mode(), frame.sequence)
    assert source.drops == {"corrupt": 0, "driver": 0, "duplicate": 0}


def test_sixteen_bit_buffers_are_counts_for_thermal_and_scaled_for_visible() -> None:
    sixteen = mode("Y16")
    thermal = Bench(sixteen).open().read(timeout_s=1)
    counts = np.frombuffer(noise(sixteen, thermal.sequence), "<u2").reshape(6, 8)
    assert thermal.pixel_format is PixelFormat.GRAY16
    assert np.array_equal(thermal.image, counts)
    visible = Bench(sixteen).open(band=Band.VISIBLE).read(timeout_s=1)
    assert visible.pixel_format is PixelFormat.GRAY8
    assert np.array_equal(visible.image, np.rint(counts / 257))


def yuv_of(fourcc: str, luma: np.ndarray) -> bytes:
    """Gray in a color format."""
    chroma = np.full_like(luma, 128)
    if fourcc == "NV12":
        return luma.tobytes() + chroma[::2].tobytes()
    planes = [chroma, luma] if fourcc == "UYVY" else [luma, chroma]
    return np.dstack(planes).tobytes()


@pytest.mark.parametrize("fourcc", ["YUYV", "UYVY", "NV12"])
def test_packed_and_planar_color_is_decoded(fourcc: str) -> None:
    luma = np.arange(48, dtype=np.uint8).reshape(6, 8) + 100
    content = lambda of, sequence: yuv_of(fourcc, luma)  # noqa: E731
    thermal = Bench(mode(fourcc), content=content).open().read(timeout_s=1)
    assert np.array_equal(thermal.image, np.rint((luma.astype(float) - 16) * 255 / 219))
    visible = Bench(mode(fourcc), content=content).open(band=Band.VISIBLE).read(timeout_s=1)
    assert visible.pixel_format is PixelFormat.BGR8
    assert np.abs(visible.image - thermal.image[..., None].astype(float)).max() <= 2


def test_uyvy_is_yuyv_with_its_bytes_exchanged() -> None:
    def color(of: Mode, sequence: int) -> bytes:
        data = np.frombuffer(noise(mode("YUYV"), 1), np.uint8).reshape(-1, 2)
        return (data[:, ::-1] if of.fourcc == "UYVY" else data).tobytes()

    frames = [Bench(mode(name), content=color).open(band=Band.VISIBLE).read(timeout_s=1) for name in ("YUYV", "UYVY")]
    assert np.array_equal(frames[0].image, frames[1].image)


COLOR = ["YUYV", "UYVY", "YVYU", "VYUY", "NV12", "NV21", "YU12", "YV12"]


@pytest.mark.parametrize("fourcc", COLOR)
@pytest.mark.parametrize("coding", [{}, {"full_range": True}, {"bt709": True}])
@pytest.mark.parametrize("padding", [0, 16])
def test_color_is_that_of_the_standard_within_a_level(fourcc: str, coding: dict[str, bool], padding: int) -> None:
    y, u, v = pictures.yuv(0, 64, 48)
    data = pictures.packed(y, u, v, fourcc.lower())
    stride = 64 if fourcc[:2] in ("NV", "YU", "YV") and fourcc not in ("YUYV", "YVYU") else 128
    if padding and fourcc not in ("YU12", "YV12"):
        rows = np.frombuffer(data, np.uint8).reshape(-1, stride)
        data = np.pad(rows, ((0, 0), (0, padding))).tobytes()
        stride += padding
    of = Mode(fourcc=fourcc, width_px=64, height_px=48, stride_bytes=stride, **coding)
    image = BufferDecoder(of, profile=None, band=Band.VISIBLE)(data).image
    apart = image - pictures.bgr(y, u, v, **coding)
    assert np.abs(apart).max() <= 1.0
    assert np.abs(apart.mean(axis=(0, 1))).max() < 0.2, "neither darker nor brighter"
    thermal = BufferDecoder(of, profile=None, band=Band.THERMAL)(data).image
    gray = y.astype(float) if coding.get("full_range") else (y.astype(float) - 16) * 255 / 219
    assert np.abs(thermal - gray.clip(0, 255)).max() <= 0.5


@pytest.mark.parametrize("fourcc", ["RGB3", "BGR3"])
def test_three_bytes_a_pixel_are_taken_as_they_are(fourcc: str) -> None:
    planes = pictures.yuv(0, 64, 48)
    of = Mode(fourcc=fourcc, width_px=64, height_px=48)
    image = BufferDecoder(of, profile=None, band=Band.VISIBLE)(pictures.packed(*planes, fourcc.lower())).image
    assert np.array_equal(image, np.rint(pictures.bgr(*planes)))


def test_a_jpeg_is_not_darker_than_it_was() -> None:
    y, u, v = pictures.yuv(0, 160, 120, noisy=False)
    data = pictures.packed(y, u, v, "mjpg")[4:]
    of = Mode(fourcc="MJPG", width_px=160, height_px=120)
    image = BufferDecoder(of, profile=None, band=Band.VISIBLE)(data).image
    reference = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert np.abs((image.astype(float) - reference).mean(axis=(0, 1))).max() < 0.2


def in_colors(level: np.ndarray, fourcc: str) -> Callable[[Mode, int], bytes]:
    """A driver that gives gray levels in the colors of the palette jet."""
    image = cv2.applyColorMap(level, cv2.COLORMAP_JET)
    if fourcc == "MJPG":
        data = cv2.imencode(".jpg", image)[1].tobytes()
    elif fourcc in ("RGB3", "BGR3"):
        data = (image if fourcc == "BGR3" else image[..., ::-1]).tobytes()
    else:
        frame = av.VideoFrame.from_ndarray(image, format="bgr24").reformat(format="yuv444p", dst_colorspace="ITU601")
        data = pictures.packed(*frame.to_ndarray(), fourcc.lower())
    return lambda of, sequence: data


LEVELS = np.tile(np.linspace(40, 200, 64), (48, 1)).astype(np.uint8)


@pytest.mark.parametrize("fourcc", [*COLOR, "RGB3", "BGR3", "MJPG"])
def test_the_palette_of_a_thermal_camera_is_undone(fourcc: str) -> None:
    bench = Bench(mode(fourcc, (64, 48)), content=in_colors(LEVELS, fourcc))
    source = bench.open()
    frame = source.read(timeout_s=1)
    assert frame.pixel_format is PixelFormat.GRAY8
    assert np.abs(frame.image.astype(int) - LEVELS).mean() < 3
    assert "v4l2:/dev/video0: its colors are those of the palette jet, undone to gray levels" in source.notes[-1]
    source.close()
    turned = bench.open("?palette=jet-reversed").read(timeout_s=1)
    assert np.abs(255 - turned.image.astype(int) - LEVELS).mean() < 3


@pytest.mark.parametrize("fourcc", ["YUYV", "NV12", "BGR3", "MJPG"])
def test_the_luminance_of_a_colored_thermal_camera_on_request(fourcc: str) -> None:
    source = Bench(mode(fourcc, (64, 48)), content=in_colors(LEVELS, fourcc)).open("?palette=none")
    luminance = cv2.cvtColor(cv2.applyColorMap(LEVELS, cv2.COLORMAP_JET), cv2.COLOR_BGR2GRAY)
    assert np.abs(source.read(timeout_s=1).image.astype(int) - luminance).mean() < 3
    assert source.notes == ()


def test_a_thermal_camera_in_colors_of_no_palette_is_told() -> None:
    source = Bench(mode("YUYV", (64, 48)), content=noise).open()
    assert "it is colored by no palette that is known: its luminance is used" in source.notes[-1]


@pytest.mark.parametrize("size", [(63, 48), (65, 47)])
def test_a_picture_without_color_for_every_pixel_is_gray_and_nothing_else(size: tuple[int, int]) -> None:
    luma = np.tile(np.linspace(16, 235, size[0]).astype(np.uint8), (size[1], 1))
    pairs = np.stack([luma, np.full_like(luma, 200)], axis=2).tobytes()
    source = Bench(mode("YUYV", size), content=lambda of, sequence: pairs).open()
    shown = source.read(timeout_s=1).image
    assert np.array_equal(shown, np.rint((luma.astype(float) - 16) * 255 / 219))
    assert source.notes == ()


def test_gray_of_a_thermal_camera_is_taken_as_it_is_until_it_is_colored() -> None:
    """A user changes the palette while it runs."""
    gray, colored = yuv_of("YUYV", LEVELS), in_colors(LEVELS, "YUYV")(mode(), 0)
    bench = Bench(mode("YUYV", (64, 48)), content=lambda of, sequence: colored if sequence > 40 else gray)
    source = bench.open()
    first = source.read(timeout_s=1)
    assert np.abs(first.image - (LEVELS.astype(float) - 16) * 255 / 219).max() <= 0.5
    assert source.notes == ()
    while first.sequence < 60:
        first = source.read(timeout_s=1)
    assert np.abs(first.image.astype(int) - LEVELS).mean() < 3


@pytest.mark.parametrize(("fourcc", "bits"), [("Y16", 16), ("Y16-BE", 16), ("Y14", 14), ("Y12", 12), ("Y10", 10)])
def test_counts_keep_their_value_in_either_order_of_bytes(fourcc: str, bits: int) -> None:
    counts = np.random.default_rng(0).integers(0, 1 << bits, (6, 8), dtype=np.uint16)
    data = counts.astype(">u2" if fourcc.endswith("BE") else "<u2").tobytes()
    source = Bench(mode(fourcc), content=lambda *_: data).open()
    frame = source.read(timeout_s=1)
    assert frame.pixel_format is PixelFormat.GRAY16
    assert np.array_equal(frame.image, counts)
    assert f"{fourcc} 8x6" in source.info.description
    visible = Bench(mode(fourcc), content=lambda *_: data).open(band=Band.VISIBLE).read(timeout_s=1)
    assert np.abs(visible.image - counts * (255 / ((1 << bits) - 1))).max() <= 1


def jpeg(of: Mode, sequence: int) -> bytes:
    image = np.full((of.height_px, of.width_px, 3), (20 * sequence) % 256, np.uint8)
    return bytes(cv2.imencode(".jpg", image)[1].tobytes())


def test_motion_jpeg_is_decoded() -> None:
    source = Bench(mode("MJPG", (32, 16)), content=jpeg).open(band=Band.VISIBLE)
    assert source.info.description == "MJPG 32x16 25 Hz by V4L2, stamped by the driver at the start of exposure"
    levels = {frame.sequence: float(frame.image.mean()) for frame in (source.read(timeout_s=1) for _ in range(3))}
    assert levels == {number: pytest.approx(20 * number, abs=2) for number in levels}


@pytest.mark.parametrize("fourcc", ["GREY", "Y16", "MJPG", "YUYV"])
def test_a_decoder_is_freed_at_once(fourcc: str) -> None:
    """Each time that a camera is opened makes one; they must not pile up until a full garbage collection."""
    decode = BufferDecoder(Mode(fourcc=fourcc, width_px=4, height_px=2), profile=None, band=Band.VISIBLE)
    freed = weakref.ref(decode)
    gc.disable()
    try:
        del decode
        assert freed() is None
    finally:
        gc.enable()


def test_a_camera_whose_every_jpeg_breaks_a_rule_is_shown_all_the_same() -> None:
    source = Bench(mode("MJPG", (320, 240)), content=without_a_rule).open(band=Band.VISIBLE)
    assert source.read(timeout_s=1).size_px == (320, 240)
    assert source.drops["corrupt"] == JpegRules.STRICT_TRIES - 1
    assert "every JPEG image breaks a rule" in source.notes[-1]


def without_a_rule(of: Mode, sequence: int) -> bytes:
    """All there, but for some bytes of the scan: the decoder runs into the mark of the end."""
    data = jpeg(of, 1)
    return data[:-42] + data[-2:]


def test_an_image_that_lacks_its_end_is_damaged_even_if_it_is_the_first() -> None:
    half = Bench(mode("MJPG", (320, 240)), content=lambda of, sequence: jpeg(of, 1)[:-40])
    with pytest.raises(CaptureError, match=r"delivers no frames \(\d+ broken buffers\)"):
        half.open(band=Band.VISIBLE)


def test_a_camera_that_once_sent_whole_images_is_held_to_that_when_it_is_opened_again() -> None:
    bench, rules = Bench(mode("MJPG", (320, 240)), content=jpeg), JpegRules()

    def opened() -> V4l2Source:
        uri = parse_source("v4l2:/dev/video0")
        return open_v4l2(uri, band=Band.VISIBLE, clock=bench.clock, kernel=bench.kernel, jpeg=rules)

    opened().close()
    bench.camera.content = without_a_rule
    with pytest.raises(CaptureError, match="delivers no frames"):
        opened()


def test_a_camera_that_begins_to_keep_the_rules_is_held_to_them() -> None:
    bench = Bench(mode("MJPG", (320, 240)), content=without_a_rule)
    source = bench.open(band=Band.VISIBLE)
    bench.camera.content = jpeg
    source.read(timeout_s=1)
    assert source.notes == ()
    bench.camera.content = without_a_rule
    with pytest.raises(CaptureTimeout):
        source.read(timeout_s=1)


@given(width=st.integers(1, 40), height=st.integers(1, 30), padding=st.integers(0, 9), deep=st.booleans())
def test_rows_may_be_padded(width: int, height: int, padding: int, deep: bool) -> None:
    of = mode("Y16" if deep else "GREY", (width, height))
    rows = np.frombuffer(noise(of, 1), np.uint8).reshape(height, -1)
    buffer = np.pad(rows, ((0, 0), (0, padding))).tobytes()
    bench = Bench(of, content=lambda *_: buffer, stride_bytes=rows.shape[1] + padding)
    assert bench.open().read(timeout_s=1).image.tobytes() == rows.tobytes()


def test_broken_buffers_are_counted_and_leave_a_gap() -> None:
    bench = Bench()
    source = bench.open()
    before = source.read(timeout_s=1).sequence
    bench.camera.broken = True
    with pytest.raises(CaptureTimeout):
        source.read(timeout_s=0.09)
    bench.camera.broken, bench.camera.damage = False, lambda data: data[:-1]
    with pytest.raises(CaptureTimeout):
        source.read(timeout_s=0.05)
    bench.camera.damage = None
    after = source.read(timeout_s=1).sequence
    assert source.drops["corrupt"] == after - before - 1 == 3


def test_gaps_in_the_drivers_numbers_are_counted() -> None:
    bench = Bench()
    source = bench.open()
    before = source.read(timeout_s=1)
    bench.clock.advance_ns(20 * PERIOD_NS)  # nobody gives buffers back: the driver has four
    after = source.read(timeout_s=1)
    assert source.drops["driver"] == after.sequence - before.sequence - 1 > 10


@given(st.lists(st.integers(0, 1 << 33), max_size=40))
def test_numbers_always_increase(driver: list[int]) -> None:
    counter = SequenceCounter()
    numbers = [counter.next(number % (1 << 32)) for number in driver]
    sequence, lost_in_all = [n for n, _ in numbers], sum(lost for _, lost in numbers)
    assert all(a < b for a, b in zip(sequence, sequence[1:]))  # noqa: B905, RUF007
    if sequence:
        assert sequence[-1] == len(sequence) - 1 + lost_in_all


def test_the_counter_wraps() -> None:
    counter = SequenceCounter()
    assert [counter.next(number) for number in (2**32 - 1, 0, 3)] == [(0, 0), (1, 0), (4, 2)]


# -- negotiation ------------------------------------------------------------------------------------------------------


def test_what_was_negotiated() -> None:
    source = Bench().open("?size=640x480&fps=10")
    info = source.info
    assert (info.width_px, info.height_px, info.rate_hz, info.live, info.frame_count) == (8, 6, 25.0, True, None)
    assert source.notes == (
        "v4l2:/dev/video0?size=640x480&fps=10: asked for 640x480, the camera gives 8x6",
        "v4l2:/dev/video0?size=640x480&fps=10: asked for 10 frames a second, the camera gives 25",
    )
    assert Bench().open("?size=8x6").notes == ()


WEBCAM = [
    mode("MJPG", (1920, 1080), 30.0),
    mode("MJPG", (640, 480), 30.0),
    mode("YUYV", (1280, 720), 10.0),
    mode("YUYV", (640, 480), 30.0, 15.0),
    mode("H264", (1920, 1080), 30.0),
]


@pytest.mark.parametrize(
    ("asked", "chosen"),
    [
        (Asked(), "YUYV 640x480 30 Hz"),
        (Asked(fourcc="MJPG"), "MJPG 640x480 30 Hz"),
        (Asked(size_px=(1920, 1080)), "MJPG 1920x1080 30 Hz"),
        (Asked(size_px=(1280, 720)), "YUYV 1280x720 10 Hz"),
        (Asked(size_px=(800, 600)), "YUYV 800x600"),
    ],
)
def test_the_mode_of_a_visible_camera(asked: Asked, chosen: str) -> None:
    assert str(choose_mode(WEBCAM, asked, band=Band.VISIBLE, usb_id=None)[0]) == chosen


def test_a_slow_format_gives_way_to_one_that_keeps_up() -> None:
    modes = [mode("YUYV", (1280, 720), 10.0), mode("MJPG", (1280, 720), 30.0)]
    chosen, rate_hz = choose_mode(modes, Asked(), band=Band.VISIBLE, usb_id=None)
    assert (chosen.fourcc, rate_hz) == ("MJPG", 30.0)
    chosen, rate_hz = choose_mode(modes, Asked(rate_hz=10.0), band=Band.VISIBLE, usb_id=None)
    assert (chosen.fourcc, rate_hz) == ("YUYV", 10.0)


def test_a_thermal_camera_is_asked_for_all_of_its_counts() -> None:
    lepton = [mode(name, size, 9.0) for size in ((160, 120), (160, 122)) for name in ("UYVY", "Y16", "GREY")]
    chosen, _ = choose_mode(lepton, Asked(), band=Band.THERMAL, usb_id="1e4e:0100")
    assert (chosen.fourcc, chosen.size_px) == ("Y16", (160, 122))
    p2pro = [mode("YUYV", (256, 192), 25.0), mode("YUYV", (256, 384), 25.0)]
    assert choose_mode(p2pro, Asked(), band=Band.THERMAL, usb_id="0bda:5830")[0].size_px == (256, 384)
    gray = Asked(profile=PROFILES["gray8"], fourcc="GREY")
    assert choose_mode(lepton, gray, band=Band.THERMAL, usb_id="1e4e:0100")[0].fourcc == "GREY"


def test_formats_that_are_not_offered() -> None:
    with pytest.raises(CaptureError, match="has no mode Y16; it offers MJPG 1920x1080 30 Hz, MJPG 640x480"):
        choose_mode(WEBCAM, Asked(fourcc="Y16"), band=Band.THERMAL, usb_id=None)
    with pytest.raises(CaptureError, match="no mode of profile p2pro; it offers"):
        choose_mode(WEBCAM, Asked(profile=PROFILES["p2pro"]), band=Band.THERMAL, usb_id=None)
    with pytest.raises(CaptureError, match="no mode that can be decoded; it offers H264"):
        choose_mode(WEBCAM[-1:], Asked(), band=Band.VISIBLE, usb_id=None)


def test_of_a_range_the_usual_size_and_rate_are_taken() -> None:
    sizes = SizeRange(least_px=(32, 32), most_px=(2592, 1944), step_px=(2, 2))
    camera = [
        Mode(fourcc=name, width_px=2592, height_px=1944, rates_hz=(90.0, 1.0), any_rate=True, sizes=sizes)
        for name in ("YU12", "YUYV", "MJPG")
    ]
    for band in Band:
        chosen, rate_hz = choose_mode(camera, Asked(), band=band, usb_id=None)
        assert (chosen.fourcc, chosen.size_px, rate_hz) == ("YUYV", (640, 480), 30.0)
    chosen, rate_hz = choose_mode(camera, Asked(size_px=(1920, 1080), rate_hz=25), band=Band.VISIBLE, usb_id=None)
    assert (chosen.size_px, rate_hz) == ((1920, 1080), 25)
    assert sizes.nearest((33, 5000)) == (32, 1944)


def test_a_thermal_camera_is_known_by_its_name_where_its_identity_is_not() -> None:
    lepton = [mode(name, size, 9.0) for size in ((160, 120), (160, 122)) for name in ("UYVY", "Y16")]
    name = "PureThermal (fw:v1.3.0): PureThe"
    chosen, _ = choose_mode(lepton, Asked(), band=Band.THERMAL, usb_id=None, name=name)
    assert (chosen.fourcc, chosen.size_px) == ("Y16", (160, 122))
    assert recognize(fourcc="Y16", size_px=(160, 122), usb_id=None, name=name).name == "lepton"
    assert recognize(fourcc="Y16", size_px=(320, 256), usb_id=None, name="FLIR Video: FLIR Video").name == "boson"
    assert recognize(fourcc="Y16", size_px=(320, 256), usb_id=None, name="Webcam").name == "y16"


def test_every_mode_is_listed() -> None:
    bench = Bench(*WEBCAM)
    device = VideoDevice("/dev/video0", kernel=bench.kernel)
    assert sorted(map(str, device.modes())) == sorted(map(str, WEBCAM))
    assert device.name == "Fake camera"
    device.close()
    assert bench.kernel.open_count == 0


# -- stamps -----------------------------------------------------------------------------------------------------------


def test_the_stamps_of_the_driver_are_used() -> None:
    source = Bench().open()
    frame = source.read(timeout_s=1)
    assert frame.timestamp_ns == START_NS + (frame.sequence + 1) * PERIOD_NS - 10 * NS_PER_MS
    assert 0 <= frame.received_ns - (frame.timestamp_ns + 10 * NS_PER_MS) <= 2 * NS_PER_MS
    at_the_end = Bench(stamp_flags=abi.FLAG_TIMESTAMP_MONOTONIC).open()
    assert at_the_end.info.description.endswith("stamped by the driver at the end of the frame")


@pytest.mark.parametrize("offset_ns", [-MAX_AGE_NS - NS_PER_S, 5 * NS_PER_S, 10**18])
def test_stamps_of_another_clock_are_not(offset_ns: int) -> None:
    source = Bench(stamp_offset_ns=offset_ns).open()
    assert source.info.description.endswith("stamped on arrival (the driver's stamps are not usable)")
    frame = source.read(timeout_s=1)
    assert frame.timestamp_ns == frame.received_ns


def test_stamps_that_the_driver_does_not_call_monotonic_are_not() -> None:
    assert "stamped on arrival" in Bench(stamp_flags=0).open().info.description


def picked(stamps: list[tuple[int | None, int]], *, check: int) -> tuple[list[int], str]:
    picker = TimestampSelector()
    result = []
    for index, (driver_ns, arrived_ns) in enumerate(stamps):
        if index == check:
            picker.decide()
        result.append(picker.select(driver_ns, arrived_ns=arrived_ns))
    return result, picker.description


def test_stamps_that_stand_still_or_are_missing_are_not_used() -> None:
    for driver in ([7, 7, 7, 7], [None] * 4, [0, 0, 0, 0]):
        stamps, description = picked([(one, 10 + index) for index, one in enumerate(driver)], check=3)
        assert stamps[3] == 13
        assert "on arrival" in description


def test_one_bad_stamp_of_a_good_driver_is_replaced() -> None:
    stamps, description = picked([(10, 11), (20, 21), (30, 31), (5, 41), (50, 51), (70, 61)], check=3)
    assert stamps == [10, 20, 30, 40, 50, 60], "by the arrival, less what frames usually take"
    assert description.startswith("stamped by the driver")


def test_frames_that_waited_through_a_suspend_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    asleep = [0]
    monkeypatch.setattr("rtfusion.capture.v4l2.suspended_ns", lambda: asleep[0])
    bench = Bench()
    source = bench.open()
    source.read(timeout_s=1)
    bench.clock.advance_ns(
        4 * PERIOD_NS
    )  # four buffers are filled; then the machine sleeps, and no clock of ours goes on
    asleep[0] = 3600 * NS_PER_S
    woke_ns = bench.clock.now_ns()
    frame = source.read(timeout_s=1)
    assert frame.timestamp_ns + 10 * NS_PER_MS > woke_ns, "taken after it woke"
    assert source.drops["driver"] == 0


def test_a_clock_that_jumps_is_not_followed() -> None:
    frames = [(i * 66 * NS_PER_MS, 12 * NS_PER_MS) for i in range(1, 200)]
    jumped = [(at - (300 * NS_PER_MS if i // 30 % 2 else 0), at + lag) for i, (at, lag) in enumerate(frames)]
    stamps, description = picked(jumped, check=5)
    assert description.startswith("stamped by the driver")
    assert np.abs(np.array(stamps) - [at for at, _ in frames]).max() <= NS_PER_MS
    dark = [(at - min(i, 60) * 6 * NS_PER_MS, at + lag) for i, (at, lag) in enumerate(frames)]  # the exposure grows
    stamps, _ = picked(dark, check=5)
    assert stamps == [driver_ns for driver_ns, _ in dark]


@given(st.lists(st.tuples(st.none() | st.integers(0, 10**10), st.integers(0, 10**8)), max_size=30), st.integers(0, 9))
def test_stamps_always_increase(steps: list[tuple[int | None, int]], check: int) -> None:
    arrived_ns, stamps = 0, []
    for driver_ns, step in steps:
        arrived_ns += step
        stamps.append((driver_ns, arrived_ns))
    result, _ = picked(stamps, check=check)
    assert all(a < b for a, b in zip(result, result[1:]))  # noqa: B905, RUF007


def test_what_queued_up_before_the_first_read_is_dropped() -> None:
    bench = Bench()
    source = bench.open()
    bench.clock.advance_ns(10 * PERIOD_NS)  # a model is loaded meanwhile
    opened_ns = bench.clock.now_ns()
    assert source.read(timeout_s=1).timestamp_ns > opened_ns - 10 * NS_PER_MS
    assert source.drops["driver"] == 0
    bench.clock.advance_ns(3 * PERIOD_NS)  # from here on nothing is dropped
    stamps = [source.read(timeout_s=1).timestamp_ns for _ in range(4)]
    assert set(np.diff(stamps)) == {PERIOD_NS}


def test_a_frame_that_waited_keeps_its_own_time() -> None:
    bench = Bench()
    source = bench.open()
    before = source.read(timeout_s=1)
    bench.clock.advance_ns(10 * NS_PER_S)  # the process was stopped; the driver filled its buffers and then had none
    waited = [source.read(timeout_s=1) for _ in range(4)]
    steps = np.diff([before.timestamp_ns, *(frame.timestamp_ns for frame in waited)])
    assert steps[0] >= PERIOD_NS
    assert set(steps[1:]) == {PERIOD_NS}
    assert all(frame.timestamp_ns == START_NS + (frame.sequence + 1) * PERIOD_NS - 10 * NS_PER_MS for frame in waited)
    after = source.read(timeout_s=1)
    assert bench.clock.now_ns() - after.timestamp_ns < PERIOD_NS


# -- what goes wrong --------------------------------------------------------------------------------------------------


def test_a_camera_that_pauses_times_out_and_goes_on() -> None:
    bench = Bench()
    source = bench.open()
    source.read(timeout_s=1)
    bench.camera.silent = True
    started_ns = bench.clock.now_ns()
    with pytest.raises(CaptureTimeout, match=r"/dev/video0: no frame within 0.01 s"):
        source.read(timeout_s=0.01)
    assert 10 * NS_PER_MS <= bench.clock.now_ns() - started_ns <= 12 * NS_PER_MS
    bench.camera.silent = False
    assert source.read(timeout_s=1).sequence == 6


def test_an_unplugged_camera_is_lost() -> None:
    bench = Bench()
    source = bench.open()
    source.read(timeout_s=1)
    bench.camera.plugged = False
    with pytest.raises(StreamLost, match=r"the camera was unplugged or its driver failed \(No such device\)"):
        source.read(timeout_s=1)
    source.close()
    assert bench.kernel.open_count == 0


def test_a_frame_that_the_driver_lost_is_no_reason_to_give_up() -> None:
    bench = Bench()
    source = bench.open()
    source.read(timeout_s=1)
    bench.camera.refuses[abi.DQBUF] = errno.EIO
    with pytest.raises(CaptureTimeout):
        source.read(timeout_s=0.2)
    bench.camera.refuses.clear()
    source.read(timeout_s=1)
    assert source.drops["corrupt"] > 0


def test_a_camera_that_delivers_nothing_of_use_cannot_be_opened() -> None:
    bench = Bench(broken=True)
    with pytest.raises(CaptureError, match=r"opened but delivers no frames \(12\d broken buffers\)"):
        bench.open()
    assert bench.kernel.open_count == 0


def test_close_wakes_a_read() -> None:
    bench = Bench()
    source = bench.open()
    bench.camera.silent = True
    waiting = threading.Event()

    class Waiting(FakeClock):
        def sleep_until_ns(self, deadline_ns: int, *, wake: threading.Event) -> bool:
            waiting.set()
            return super().sleep_until_ns(deadline_ns, wake=wake)

    bench.kernel._clock = source._clock = Waiting(start_ns=bench.clock.now_ns())
    outcome: list[BaseException] = []

    def read() -> None:
        try:
            source.read(timeout_s=1e9)
        except EndOfStream as error:
            outcome.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    assert waiting.wait(10)
    source.close()
    reader.join(10)
    assert len(outcome) == 1
    assert bench.kernel.open_count == 0
    source.close()


@pytest.mark.parametrize(
    ("request_number", "number", "message"),
    [
        (0, errno.ENOENT, "no such camera; `rtfusion devices` lists"),
        (0, errno.EACCES, r"no permission; run `sudo usermod -aG video \$USER` and log in"),
        (abi.QUERYCAP, errno.ENOTTY, "not a camera"),
        (abi.S_FMT, errno.EBUSY, "another program uses the camera; `fuser /dev/video0` shows which"),
        (abi.S_FMT, errno.EINVAL, "the camera refuses this mode"),
        (abi.REQBUFS, errno.EBUSY, "another program uses the camera"),
        (
            abi.STREAMON,
            errno.ENOSPC,
            "not enough USB bandwidth for GREY 8x6 25 Hz; use a port of another USB controller",
        ),
        (abi.STREAMON, errno.ENODEV, "no such camera"),
        (abi.STREAMON, errno.EPROTO, r"the camera did not answer over USB, twice \(refused\); unplug it"),
        (abi.STREAMON, errno.ETIMEDOUT, r"the camera did not answer over USB, twice"),
        (abi.S_FMT, errno.EIO, r"the camera did not answer over USB, twice"),
        (abi.STREAMON, errno.ENOMEM, r"the camera cannot be opened \(refused\)"),
    ],
)
def test_what_to_do_about_a_camera_that_cannot_be_opened(request_number: int, number: int, message: str) -> None:
    bench = Bench()
    bench.camera.refuses[request_number] = number
    with pytest.raises(CaptureError, match=f"^v4l2:/dev/video0: {message}"):
        bench.open()
    assert bench.kernel.open_count == 0


def test_a_camera_that_does_not_answer_is_asked_once_more() -> None:
    bench = Bench()
    bench.camera.refuses[abi.STREAMON] = errno.EPROTO
    sleeps = bench.clock.sleep_until_ns

    def recovered(deadline_ns: int, *, wake: threading.Event) -> bool:
        bench.camera.refuses.clear()
        return sleeps(deadline_ns, wake=wake)

    bench.clock.sleep_until_ns = recovered  # type: ignore[method-assign]
    source = bench.open()
    assert source.read(timeout_s=1).size_px == (8, 6)
    source.close()
    assert bench.kernel.open_count == 0


def test_advice_is_what_the_camera_can_follow() -> None:
    yuyv, mjpg = mode("YUYV", (640, 480), 30.0), mode("MJPG", (640, 480), 30.0)
    small, h264 = mode("YUYV", (320, 240), 30.0), mode("H264", (320, 240), 30.0)
    for modes, advice in (
        ([yuyv, mjpg, small], "ask for less, with ?format=mjpeg, or use a port"),
        ([yuyv, small], "ask for less, with ?size=320x240, or use a port"),
        ([yuyv, h264], "not enough USB bandwidth for YUYV 640x480 30 Hz; use a port"),
    ):
        bench = Bench(*modes)
        bench.camera.refuses[abi.STREAMON] = errno.ENOSPC
        with pytest.raises(CaptureError) as caught:
            bench.open(band=Band.VISIBLE)
        assert advice in str(caught.value)
    silent = Bench(yuyv, broken=True)
    with pytest.raises(CaptureError, match=r"plug it in again$"):
        silent.open(band=Band.VISIBLE)
    for name in ("YUYV", "UYVY"):  # a thermal camera is not told to send color
        assert "?" not in lighter_mode(
            [mode("Y16", (160, 120), 9.0), mode(name, (80, 60), 9.0)], mode("Y16", (160, 120), 9.0), band=Band.THERMAL
        )


def test_a_driver_that_hangs_holds_nobody() -> None:
    bench = Bench()
    source = bench.open()
    hangs, goes_on = threading.Event(), threading.Event()
    ioctl = bench.kernel.ioctl

    def hang(fd: int, request: int, argument: Any) -> None:
        if request == abi.STREAMOFF:
            hangs.set()
            goes_on.wait(60)
        ioctl(fd, request, argument)

    bench.kernel.ioctl = hang  # type: ignore[method-assign]
    source.close()
    assert hangs.is_set()
    assert bench.kernel.open_count == 1
    goes_on.set()
    for thread in threading.enumerate():
        if thread.name == "releasing":
            thread.join(10)
    assert bench.kernel.open_count == 0


def test_a_thermal_camera_as_the_visible_one_is_said() -> None:
    bench = Bench(mode("YUYV"), name="FLIR Boson")
    source = bench.open(band=Band.VISIBLE)
    assert source.notes == ("v4l2:/dev/video0: it is FLIR Boson, a thermal camera, and is read as the visible one",)


def test_a_node_without_images_is_no_camera() -> None:
    with pytest.raises(CaptureError, match="not a camera; `rtfusion devices` lists the cameras"):
        Bench(capabilities=abi.CAP_STREAMING).open()


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("size=big", "size=big: expected WIDTHxHEIGHT in pixels, such as 640x480"),
        ("size=0x480", "size=0x480: expected"),
        (
            "format=rgb",
            "format=rgb: expected one of yuyv, uyvy, yvyu, vyuy, nv12, nv21, yu12, yv12, bgr3, rgb3, mjpeg, jpeg, gray, y16",
        ),
        ("profile=leptons", "profile=leptons: expected one of p2pro, tc002c, ht301, lepton, boson, y16, gray8"),
        ("fps=0", "fps=0: expected frames per second"),
        ("sise=640x480", r"unknown parameter 'sise'; did you mean size\? it takes crop, flip, format, fps"),
    ],
)
def test_parameters_are_strict(query: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Bench().open(f"?{query}")


def test_every_format_that_is_decoded_can_be_asked_for() -> None:
    from rtfusion.capture.v4l2 import FORMATS

    assert set(FORMATS.values()) == set(FOURCCS)
