"""Video files, all made here; the pixels, the stamps and the ways a file can be broken."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import pytest

from rtfusion.capture import open_source, video
from rtfusion.capture.pixels import PixelConverter
from rtfusion.capture.video import VideoSource
from rtfusion.clock import NS_PER_S, FakeClock
from rtfusion.errors import CaptureError, CaptureTimeout, ConfigError, EndOfStream, StreamLost
from rtfusion.types import Band, Frame, PixelFormat
from tests.capture.clips import RATE_HZ, overwrite, packets_of, patterns, read_all, write_clip

PERIOD_NS = NS_PER_S // RATE_HZ
LOSSLESS = {"crf": "0", "preset": "ultrafast"}


def open_video(path: Path, *, band: Band = Band.VISIBLE, **options: Any) -> VideoSource:
    return VideoSource(path, uri=path.name, band=band, **options)


# -- frames and stamps ------------------------------------------------------------------------------------------------


def test_every_frame_comes_once_and_in_order(tmp_path: Path) -> None:
    source = open_video(write_clip(tmp_path / "clip.mp4", patterns(20)))
    frames = read_all(source)
    assert [frame.sequence for frame in frames] == list(range(20))
    assert [frame.timestamp_ns for frame in frames] == [index * NS_PER_S // RATE_HZ for index in range(20)]
    assert all(a.received_ns <= b.received_ns for a, b in pairwise(frames))
    assert {frame.band for frame in frames} == {Band.VISIBLE}
    with pytest.raises(EndOfStream):
        source.read(timeout_s=0)
    assert source.drops == {"corrupt": 0}
    assert source.notes == ()


def test_what_is_known_of_a_file(tmp_path: Path) -> None:
    info = open_video(write_clip(tmp_path / "clip.mp4", patterns(20)), loop=3).info
    assert (info.uri, info.width_px, info.height_px, info.rate_hz) == ("clip.mp4", 64, 48, 30.0)
    assert (info.pixel_format, info.live, info.continuous, info.frame_count) == (PixelFormat.BGR8, False, True, 60)
    assert info.description == "h264 yuv420p in mp4"


def test_stamps_are_presentation_times_from_the_first_frame(tmp_path: Path) -> None:
    stamps = [500, 533, 600, 601, 1800]
    path = write_clip(tmp_path / "clip.mkv", patterns(5), codec="ffv1", stamps=stamps, time_base=Fraction(1, 1000))
    frames = read_all(open_video(path))
    assert [frame.timestamp_ns for frame in frames] == [(stamp - 500) * 1_000_000 for stamp in stamps]


def test_frames_stored_out_of_order_come_in_the_order_they_are_shown(tmp_path: Path) -> None:
    images = [np.full((48, 64, 3), 10 * index, np.uint8) for index in range(20)]
    path = write_clip(tmp_path / "clip.mp4", images, options={"crf": "1", "bf": "3", "b-adapt": "0"})
    with av.open(str(path)) as container:
        decoding_order = [packet.pts for packet in container.demux(video=0) if packet.size]
    assert decoding_order != sorted(decoding_order)
    levels = [int(frame.image.mean()) for frame in read_all(open_video(path))]
    assert levels == pytest.approx([10 * index for index in range(20)], abs=4)


def test_a_file_without_stamps_is_played_at_its_nominal_rate(tmp_path: Path) -> None:
    source = open_video(write_clip(tmp_path / "clip.h264", patterns(6)))
    assert [frame.timestamp_ns for frame in read_all(source)] == [index * round(NS_PER_S / 30) for index in range(6)]
    assert source.notes == ("clip.h264: 6 of 6 frames have no stamp; placed at 30 a second (?fps= says another rate)",)


# -- pixels -----------------------------------------------------------------------------------------------------------

CODECS = [
    ("mp4", "libx264", "yuv420p", LOSSLESS),
    ("ts", "libx264", "yuv420p", LOSSLESS),
    ("avi", "mpeg4", "yuv420p", {"b": "8000000"}),
    ("mkv", "mjpeg", "yuvj420p", {"b": "8000000"}),
    ("mkv", "ffv1", "yuv420p", {}),
    ("mkv", "ffv1", "yuv420p10le", {}),
    ("mkv", "ffv1", "bgr0", {}),
    ("avi", "rawvideo", "yuyv422", {}),
    ("avi", "rawvideo", "bgr24", {}),
]


@pytest.mark.parametrize(("suffix", "codec", "pix_fmt", "options"), CODECS)
def test_visible_pixels_come_back(
    tmp_path: Path, suffix: str, codec: str, pix_fmt: str, options: dict[str, str]
) -> None:
    images = patterns(4)
    path = write_clip(tmp_path / f"clip.{suffix}", images, codec=codec, pix_fmt=pix_fmt, options=options)
    frames = read_all(open_video(path))
    assert len(frames) == 4
    for frame, image in zip(frames, images, strict=True):
        assert frame.pixel_format is PixelFormat.BGR8
        assert np.abs(frame.image.astype(int) - image).mean() < 3


@pytest.mark.parametrize(("suffix", "codec", "pix_fmt", "options"), CODECS)
def test_thermal_in_color_becomes_luminance_of_full_range(
    tmp_path: Path, suffix: str, codec: str, pix_fmt: str, options: dict[str, str]
) -> None:
    gray = np.repeat(np.linspace(0, 255, 256).astype(np.uint8)[None, :], 64, axis=0)
    images = [np.dstack([gray, gray, gray])] * 3
    path = write_clip(tmp_path / f"clip.{suffix}", images, codec=codec, pix_fmt=pix_fmt, options=options)
    for frame in read_all(open_video(path, band=Band.THERMAL)):
        assert frame.pixel_format is PixelFormat.GRAY8
        assert frame.image.shape == (64, 256)
        assert np.abs(frame.image.astype(int) - gray).max() <= 3
        assert frame.image.min() <= 1
        assert frame.image.max() >= 254


def test_video_range_is_expanded_and_full_range_is_kept(tmp_path: Path) -> None:
    luma = np.repeat(np.arange(256, dtype=np.uint8)[None, :], 64, axis=0)
    planes = np.vstack([luma, np.full((32, 256), 128, np.uint8)])
    expected = np.clip(np.rint((np.arange(256) - 16) * 255 / 219), 0, 255)
    for name, color_range, values in (("tv", 1, expected), ("untagged", 0, expected), ("pc", 2, np.arange(256))):
        path = write_clip(
            tmp_path / f"{name}.mp4", [planes], source_format="yuv420p", options=LOSSLESS, color_range=color_range
        )
        (frame,) = read_all(open_video(path, band=Band.THERMAL))
        assert np.array_equal(frame.image, np.repeat(values[None, :], 64, axis=0)), name


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "bits"),
    [
        ("clip.mkv", "ffv1", "gray16le", 16),
        ("clip.mkv", "ffv1", "gray14le", 14),
        ("clip.mkv", "ffv1", "gray12le", 12),
        ("clip.mkv", "ffv1", "gray10le", 10),
        ("clip.mov", "png", "gray16be", 16),
    ],
)
def test_thermal_counts_are_kept(tmp_path: Path, name: str, codec: str, pix_fmt: str, bits: int) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 2**bits, (48, 64), dtype=np.uint16) for _ in range(3)]
    path = write_clip(tmp_path / name, images, codec=codec, pix_fmt=pix_fmt, source_format=pix_fmt)
    source = open_video(path, band=Band.THERMAL)
    assert source.info.pixel_format is PixelFormat.GRAY16
    for frame, image in zip(read_all(source), images, strict=True):
        assert np.array_equal(frame.image, image)


def test_gray_visible_stays_gray(tmp_path: Path) -> None:
    gray = patterns(2, channels=1)
    path = write_clip(tmp_path / "8.mkv", gray, codec="ffv1", pix_fmt="gray")
    for frame, image in zip(read_all(open_video(path)), gray, strict=True):
        assert frame.pixel_format is PixelFormat.GRAY8
        assert np.array_equal(frame.image, image)
    deep = [image.astype(np.uint16) * 257 for image in gray]
    path = write_clip(tmp_path / "16.mkv", deep, codec="ffv1", pix_fmt="gray16le", source_format="gray16le")
    for frame, image in zip(read_all(open_video(path)), gray, strict=True):
        assert np.array_equal(frame.image, image)


def yuv444(y: int, u: int, v: int, *, width: int = 64, height: int = 48) -> av.VideoFrame:
    planes = np.stack([np.full((height, width), value, np.uint8) for value in (y, u, v)])
    return av.VideoFrame.from_ndarray(planes, format="yuv444p")


def bgr_of(y: int, u: int, v: int, *, matrix: str, full: bool) -> list[float]:
    """BT.601 and BT.709 as their texts define them."""
    red, blue = {"601": (0.299, 0.114), "709": (0.2126, 0.0722)}[matrix]
    luma = y / 255 if full else (y - 16) / 219
    pb, pr = ((u - 128) / (255 if full else 224), (v - 128) / (255 if full else 224))
    r, b = luma + 2 * (1 - red) * pr, luma + 2 * (1 - blue) * pb
    g = (luma - red * r - blue * b) / (1 - red - blue)
    return [min(max(255 * value, 0), 255) for value in (b, g, r)]


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(
    ("tag", "height", "matrix"),
    [(1, 48, "709"), (5, 48, "601"), (6, 1080, "601"), (2, 48, "601"), (2, 576, "601"), (2, 720, "709")],
)
def test_the_color_matrix_is_that_of_the_tag_or_of_the_size(tag: int, height: int, matrix: str, full: bool) -> None:
    convert = PixelConverter(Band.VISIBLE)
    for y, u, v in ((16, 128, 128), (235, 128, 128), (126, 128, 128), (81, 90, 240), (145, 54, 34), (41, 240, 110)):
        frame = yuv444(y, u, v, height=height)
        frame.colorspace, frame.color_range = tag, 2 if full else 1
        image, _ = convert(frame)
        assert image[20, 20] == pytest.approx(bgr_of(y, u, v, matrix=matrix, full=full), abs=2)


def test_the_tags_of_a_file_are_used(tmp_path: Path) -> None:
    planes = np.stack([np.full((48, 64), value, np.uint8) for value in (81, 90, 240)])
    for tag, matrix in ((1, "709"), (5, "601")):
        path = write_clip(
            tmp_path / f"{tag}.mp4",
            [planes],
            pix_fmt="yuv444p",
            source_format="yuv444p",
            options=LOSSLESS,
            color_range=1,
            colorspace=tag,
        )
        (frame,) = read_all(open_video(path))
        assert frame.image[20, 20] == pytest.approx(bgr_of(81, 90, 240, matrix=matrix, full=False), abs=2)


@pytest.mark.parametrize(("width", "height"), [(33, 17), (1, 1), (641, 3)])
@pytest.mark.parametrize("band", Band)
def test_odd_sizes(tmp_path: Path, width: int, height: int, band: Band) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(2)]
    path = write_clip(tmp_path / "clip.mkv", images, codec="ffv1", pix_fmt="bgr0")
    for frame, image in zip(read_all(open_video(path, band=band)), images, strict=True):
        assert frame.size_px == (width, height)
        assert frame.image.flags.c_contiguous
        if band is Band.VISIBLE:
            assert np.array_equal(frame.image, image)


def test_odd_sizes_of_subsampled_color(tmp_path: Path) -> None:
    images = patterns(2, width=35, height=19)
    path = write_clip(tmp_path / "clip.avi", images, codec="mpeg4")
    for frame in read_all(open_video(path)):
        assert frame.image.shape == (19, 35, 3)
        assert frame.image.flags.c_contiguous


def test_frames_are_not_overwritten_by_later_ones(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", patterns(30))
    for band in Band:
        kept = read_all(open_video(path, band=band))
        again = open_video(path, band=band)
        for frame in kept:
            assert np.array_equal(frame.image, again.read(timeout_s=1).image)


def test_rows_stored_from_the_bottom_are_put_right(tmp_path: Path) -> None:
    images = patterns(2)
    path = write_clip(tmp_path / "clip.avi", images, codec="rawvideo", pix_fmt="bgr24")
    data = bytearray(path.read_bytes())
    height_at = data.index(b"strf") + 16  # of the BITMAPINFOHEADER; positive means that the last row comes first
    assert int.from_bytes(data[height_at : height_at + 4], "little", signed=True) == -48
    data[height_at : height_at + 4] = (48).to_bytes(4, "little")
    path.write_bytes(data)
    for frame, image in zip(read_all(open_video(path)), images, strict=True):
        assert np.array_equal(frame.image, image[::-1])
    thermal = read_all(open_video(path, band=Band.THERMAL))
    assert np.abs(thermal[0].image.astype(int) - images[0][::-1].mean(axis=2)).mean() < 20


# a, b, c, d of the display matrix: x' = a x + c y, y' = b x + d y -> what a viewer sees of the stored image
TURNS = {
    (0, 1, -1, 0): lambda image: np.rot90(image, -1),
    (0, -1, 1, 0): lambda image: np.rot90(image, 1),
    (-1, 0, 0, -1): lambda image: np.rot90(image, 2),
    (-1, 0, 0, 1): lambda image: image[:, ::-1],
    (1, 0, 0, -1): lambda image: image[::-1],
    (0, 1, 1, 0): lambda image: np.swapaxes(image, 0, 1),
}


def write_display_matrix(path: Path, turn: tuple[int, int, int, int]) -> None:
    """Into the track header of an MP4: nine numbers, where the identity stands so far."""

    def numbers(a: int, b: int, c: int, d: int) -> bytes:
        values = (a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
        return b"".join(value.to_bytes(4, "big", signed=True) for value in values)

    data = path.read_bytes()
    track = data.index(b"tkhd")
    at = data.index(numbers(1, 0, 0, 1), track)
    path.write_bytes(data[:at] + numbers(*turn) + data[at + 36 :])


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("band", Band)
def test_turned_and_mirrored_video_is_put_upright(tmp_path: Path, turn: tuple[int, int, int, int], band: Band) -> None:
    path = write_clip(tmp_path / "clip.mp4", patterns(2), options=LOSSLESS)
    stored = read_all(open_video(path, band=band))
    write_display_matrix(path, turn)
    source = open_video(path, band=band)
    shown = read_all(source)
    for frame, original in zip(shown, stored, strict=True):
        assert np.array_equal(frame.image, TURNS[turn](original.image))
        assert frame.image.flags.c_contiguous
    assert (source.info.width_px, source.info.height_px) == shown[0].size_px
    assert not any("angle" in note for note in source.notes)


def test_an_oblique_angle_is_left_and_said(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", patterns(1), options=LOSSLESS)
    write_display_matrix(path, (1, 1, -1, 1))
    source = open_video(path)
    assert source.read(timeout_s=1).size_px == (64, 48)
    assert source.notes == ("clip.mp4: it asks to be shown at an angle that is not a right one; shown as stored",)


def test_a_size_that_changes_in_mid_stream(tmp_path: Path) -> None:
    sizes = [(64, 48), (32, 80)]
    parts = []
    for width, height in sizes:
        part = tmp_path / f"{width}.mjpeg"
        write_clip(part, patterns(3, width=width, height=height), codec="mjpeg", pix_fmt="yuvj420p")
        parts.append(part.read_bytes())
    path = tmp_path / "both.mjpeg"
    path.write_bytes(b"".join(parts))
    for band in Band:
        frames = read_all(open_video(path, band=band))
        assert [frame.size_px for frame in frames] == [sizes[0]] * 3 + [sizes[1]] * 3


# -- looping, pacing, closing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["mp4", "ts", "h264"])
def test_loops_go_on_where_the_file_ended(tmp_path: Path, suffix: str) -> None:
    source = open_video(write_clip(tmp_path / f"clip.{suffix}", patterns(5), options=LOSSLESS), loop=3)
    frames = read_all(source)
    assert [frame.sequence for frame in frames] == list(range(15))
    assert [frame.timestamp_ns for frame in frames] == pytest.approx([k * PERIOD_NS for k in range(15)], abs=40)
    for index in range(5):
        assert np.array_equal(frames[index].image, frames[10 + index].image)


def test_a_file_that_vanishes_between_two_rounds_is_lost(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", patterns(3))
    source = open_video(path, loop=2)
    path.unlink()
    for _ in range(3):
        source.read(timeout_s=1)
    with pytest.raises(
        StreamLost, match=r"clip.mp4: no such file.*\(when it was opened once more at frame 3, 0.10 s\)"
    ):
        source.read(timeout_s=1)


def test_loops_do_not_grow(tmp_path: Path) -> None:
    source = open_video(write_clip(tmp_path / "clip.mp4", patterns(3, width=320, height=240)), loop=150)
    process = psutil.Process()
    for _ in range(3 * 50):
        source.read(timeout_s=1)
    before = process.memory_info().rss
    assert len(read_all_discarding(source)) == 3 * 100
    assert process.memory_info().rss - before < 8 * 2**20


def read_all_discarding(source: VideoSource) -> list[int]:
    stamps = []
    try:
        while True:
            stamps.append(source.read(timeout_s=1).timestamp_ns)
    except EndOfStream:
        return stamps


def test_pace_holds_frames_back_until_they_are_due(tmp_path: Path) -> None:
    clock = FakeClock(start_ns=5 * NS_PER_S)
    source = open_video(write_clip(tmp_path / "clip.mp4", patterns(4)), pace=True, clock=clock)
    clock.advance_ns(NS_PER_S)  # opened long before it is read
    for index in range(4):
        frame = source.read(timeout_s=1)
        assert clock.now_ns() == frame.received_ns == 6 * NS_PER_S + index * NS_PER_S // RATE_HZ


def test_a_paced_frame_that_is_not_due_yet_is_not_lost(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "c.mkv", patterns(2), codec="ffv1", stamps=[0, 1000], time_base=Fraction(1, 1000))
    source = open_video(path, pace=True, clock=FakeClock())
    source.read(timeout_s=0.3)
    for _ in range(3):
        with pytest.raises(CaptureTimeout, match=r"no frame within 0.3 s"):
            source.read(timeout_s=0.3)
    assert source.read(timeout_s=0.3).timestamp_ns == NS_PER_S


def test_a_late_reader_catches_up(tmp_path: Path) -> None:
    clock = FakeClock()
    source = open_video(write_clip(tmp_path / "clip.mp4", patterns(4)), pace=True, clock=clock)
    source.read(timeout_s=1)
    clock.advance_ns(10 * PERIOD_NS)
    for _ in range(3):
        source.read(timeout_s=0)
    assert clock.now_ns() == 10 * PERIOD_NS


def test_unpaced_frames_are_received_when_they_are_read(tmp_path: Path) -> None:
    clock = FakeClock()
    source = open_video(write_clip(tmp_path / "clip.mp4", patterns(4)), clock=clock)
    for now_ns in (7, 14, 21):
        clock.advance_ns(7)
        assert source.read(timeout_s=1).received_ns == now_ns


def test_close_wakes_a_paced_read(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "c.mkv", patterns(2), codec="ffv1", stamps=[0, 3600], time_base=Fraction(1, 1))
    source = open_video(path, pace=True)
    source.read(timeout_s=1)
    ended = threading.Event()

    def read() -> None:
        with pytest.raises(EndOfStream, match="closed"):
            source.read(timeout_s=3600)
        ended.set()

    reader = threading.Thread(target=read)
    reader.start()
    source.close()
    reader.join(timeout=10)
    assert ended.is_set()
    source.close()


def test_a_closed_source_is_over_and_leaves_no_file_open(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", patterns(4))
    source = open_video(path)
    source.read(timeout_s=1)
    assert path in open_files()
    source.close()
    assert path not in open_files()
    with pytest.raises(EndOfStream, match="the source was closed"):
        source.read(timeout_s=1)


def open_files() -> set[Path]:
    return {Path(file.path) for file in psutil.Process().open_files()}


# -- broken files -----------------------------------------------------------------------------------------------------


def test_corrupt_packets_are_skipped_and_counted(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", patterns(10), gop=1, options={"x264-params": "keyint=1"})
    packets = packets_of(path)
    overwrite(path, [packets[3], packets[7]])
    source = open_video(path)
    frames = read_all(source)
    assert [frame.sequence for frame in frames] == [0, 1, 2, 4, 5, 6, 8, 9]
    assert [frame.timestamp_ns * RATE_HZ // NS_PER_S for frame in frames] == pytest.approx(
        [frame.sequence for frame in frames], abs=1
    )
    assert source.drops == {"corrupt": 2}
    assert source.notes == ("clip.mp4: 2 corrupt packets or frames were skipped",)


def test_a_file_that_stays_corrupt_is_lost(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", patterns(60), gop=1, options={"x264-params": "keyint=1"})
    overwrite(path, packets_of(path)[20:])
    source = open_video(path)
    for _ in range(20):
        source.read(timeout_s=1)
    for _ in range(2):  # it stays lost
        with pytest.raises(StreamLost, match=r"clip.mp4: 31 packets in a row cannot be decoded at frame 51, 0.63 s"):
            source.read(timeout_s=1)
    assert source.drops == {"corrupt": 31}


def test_a_file_with_nothing_to_decode_cannot_be_opened(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", patterns(40), gop=1, options={"x264-params": "keyint=1"})
    overwrite(path, packets_of(path))
    with pytest.raises(CaptureError, match="not one frame of its h264 stream can be decoded") as caught:
        open_video(path)
    assert not isinstance(caught.value, StreamLost)


class FailingContainer:
    """A container on a disk that fails after some packets."""

    def __init__(self, path: Path, *, packets: int) -> None:
        self._container = av.open(str(path))
        self._packets = packets

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def demux(self, stream: av.VideoStream) -> Iterator[Any]:
        for index, packet in enumerate(self._container.demux(stream)):
            if index == self._packets:
                raise OSError(5, "Input/output error")
            yield packet


def test_a_disk_that_fails_ends_the_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_clip(tmp_path / "clip.mkv", patterns(10), codec="ffv1")
    monkeypatch.setattr(video, "open_container", lambda path, **how: FailingContainer(path, packets=6))
    source = open_video(path)
    for _ in range(6):
        source.read(timeout_s=1)
    with pytest.raises(StreamLost, match=r"reading stopped at frame 6, 0.17 s: Input/output error"):
        source.read(timeout_s=1)


@pytest.mark.parametrize(
    ("name", "codec", "container_options", "message"),
    [
        ("clip.mkv", "libx264", {}, "the file ended after .* s although it declares 2.00 s; it seems to be cut off"),
        ("clip.mp4", "libx264", {"movflags": "faststart"}, "although it declares 2.00 s; it seems to be cut off"),
        ("clip.avi", "mpeg4", {}, "although it declares .*; it seems to be cut off"),
        ("clip.ts", "libx264", {}, None),  # a transport stream declares no length
    ],
)
def test_half_a_file_gives_its_readable_frames(
    tmp_path: Path, name: str, codec: str, container_options: dict[str, str], message: str | None
) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (48, 64, 3), dtype=np.uint8) for _ in range(60)]
    path = write_clip(tmp_path / name, images, codec=codec, gop=12, container_options=container_options)
    whole = read_all(open_video(path))
    assert len(whole) == 60
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    source = open_video(path)
    half: list[Frame] = []
    with pytest.raises(EndOfStream if message is None else StreamLost, match=message):
        while True:
            half.append(source.read(timeout_s=5.0))
    assert 20 <= len(half) <= 40
    for frame, original in zip(half[:-1], whole, strict=False):
        assert np.array_equal(frame.image, original.image)
        assert frame.timestamp_ns == original.timestamp_ns


def test_a_recording_without_its_index_says_so(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", patterns(30))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CaptureError, match=r"an MP4 file without its index: the recording .* was cut off"):
        open_video(path)


def write_sound(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test_what_is_not_a_video_is_refused_with_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("Nothing to see.\n" * 100)
    (tmp_path / "folder.mp4").mkdir()
    write_sound(tmp_path / "sound.wav")
    for name, message in (
        ("missing.mp4", "no such file"),
        ("empty.mp4", r"the file is empty \(0 bytes\); expected a video file"),
        ("text.mp4", r"not a video that can be read \(.*\); expected a video file such as .mp4"),
        ("folder.mp4", "not a regular file; expected a video file"),
        ("sound.wav", "no video stream that can be decoded; it holds audio"),
    ):
        with pytest.raises(CaptureError, match=f"^{name}: {message}"):
            open_video(tmp_path / name)


@pytest.mark.parametrize("name", ["http:clip.mkv", "what?fps=3.mkv", "50%20.mkv", "clip%03d.mkv", "a b#c&d.mkv"])
def test_a_name_is_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "clip.mkv", patterns(2)).rename(name)
    assert len(read_all(open_source(name, band=Band.VISIBLE))) == 2


def test_a_playlist_cannot_reach_for_the_network(tmp_path: Path) -> None:
    path = tmp_path / "list.m3u8"
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/clip.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(CaptureError):
        open_video(path)


def test_a_parameter_that_videos_do_not_take(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", patterns(1))
    with pytest.raises(ConfigError, match="unknown parameter 'size'; it takes "):
        open_source(f"{path}?size=3", band=Band.VISIBLE)


def test_nothing_is_printed_about_a_broken_file(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mkv", patterns(30), codec="libx264")
    overwrite(path, [(position, 20) for position, _ in packets_of(path)[5:15]])
    program = (
        "import sys; from pathlib import Path; from rtfusion.capture.video import VideoSource; "
        "from rtfusion.types import Band; source = VideoSource(Path(sys.argv[1]), uri='x', band=Band.VISIBLE)\n"
        "try:\n    while True: source.read(timeout_s=1)\nexcept Exception: pass"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


# -- real recordings --------------------------------------------------------------------------------------------------


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "count"), [("m3svd_0111_1716", 151), ("m3svd_0113_1714", 560), ("m3svd_0117_1605", 407)]
)
def test_real_recordings_give_exactly_their_frames(shared_data: Path, name: str, count: int) -> None:
    for file, band in (("ir.mp4", Band.THERMAL), ("vi.mp4", Band.VISIBLE)):
        source = open_video(shared_data / "video" / name / file, band=band)
        stamps = read_all_discarding(source)
        assert len(stamps) == source.info.frame_count == count
        assert stamps == [index * NS_PER_S // 30 for index in range(count)]
        assert (source.notes, source.drops) == ((), {"corrupt": 0})


@pytest.mark.shared
def test_the_luminance_of_a_real_thermal_recording(shared_data: Path) -> None:
    path = shared_data / "video" / "m3svd_0117_1605" / "ir.mp4"
    thermal, color = open_video(path, band=Band.THERMAL), open_video(path, band=Band.VISIBLE)
    for _ in range(10):
        gray, bgr = thermal.read(timeout_s=1).image.astype(int), color.read(timeout_s=1).image.astype(int)
        blue, green, red = np.moveaxis(bgr, 2, 0)
        luminance = 0.114 * blue + 0.587 * green + 0.299 * red
        assert np.abs(gray - luminance).mean() < 1.5
    assert (gray.min(), gray.max()) == (0, 255)
