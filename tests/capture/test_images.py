"""Folders of images: what is taken, in which order, as what pixels."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtfusion.capture import Source, open_source
from rtfusion.capture.names import match, natural_key
from rtfusion.capture.stills import decode_image
from rtfusion.clock import NS_PER_S, FakeClock
from rtfusion.errors import CaptureError, CaptureTimeout, ConfigError, EndOfStream
from rtfusion.types import Band, PixelFormat
from tests.capture.clips import patterns, read_all


def save(path: Path, image: npt.NDArray[np.generic]) -> Path:
    path.parent.mkdir(exist_ok=True)
    assert cv2.imwrite(str(path), image)
    return path


def open_images(path: Path | str, *, band: Band = Band.VISIBLE, **options: object) -> Source:
    return open_source(str(path), band=band, **options)  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three numbered frames among things that are none."""
    for number, image in zip((10, 2, 1), patterns(3), strict=True):
        save(tmp_path / "frames" / f"frame{number}.png", image)
    frames = tmp_path / "frames"
    save(frames / ".hidden.png", patterns(1)[0])
    (frames / "notes.txt").write_text("x")
    (frames / "Thumbs.db").write_text("x")
    (frames / "sub.png").mkdir()
    return frames


def test_images_come_in_natural_order_with_their_names(folder: Path) -> None:
    frames = read_all(open_images(folder))
    assert [frame.name for frame in frames] == ["frame1", "frame2", "frame10"]
    assert [frame.sequence for frame in frames] == [0, 1, 2]
    assert [frame.timestamp_ns for frame in frames] == [0, 40_000_000, 80_000_000]


def test_without_a_rate_they_are_stills_and_with_one_a_video(folder: Path) -> None:
    stills, video = open_images(folder).info, open_images(f"{folder}?fps=10").info
    assert (stills.continuous, stills.rate_hz, stills.frame_count, stills.description) == (False, 25.0, 3, "3 stills")
    assert (video.continuous, video.rate_hz, video.description) == (True, 10.0, "3 images")
    assert [frame.timestamp_ns for frame in read_all(open_images(f"{folder}?fps=10"))] == [0, 10**8, 2 * 10**8]


def test_a_single_image_is_a_folder_of_one(folder: Path) -> None:
    source = open_images(folder / "frame2.png")
    assert (source.info.frame_count, source.info.width_px, source.info.height_px) == (1, 64, 48)
    assert [frame.name for frame in read_all(source)] == ["frame2"]


@pytest.mark.parametrize("suffix", ["png", "tif", "tiff", "bmp", "jpg", "jpeg", "PNG"])
def test_eight_bit_images(tmp_path: Path, suffix: str) -> None:
    color, gray = patterns(1)[0], patterns(1, channels=1)[0]
    exact = not suffix.startswith("jp")
    for name, image in (("color", color), ("gray", gray)):
        path = save(tmp_path / f"{name}.{suffix}", image)
        (visible,) = read_all(open_images(path))
        assert visible.pixel_format is (PixelFormat.BGR8 if name == "color" else PixelFormat.GRAY8)
        assert np.abs(visible.image.astype(int) - image).max() <= (0 if exact else 40)
        (thermal,) = read_all(open_images(path, band=Band.THERMAL))
        assert thermal.pixel_format is PixelFormat.GRAY8
        luminance = image if name == "gray" else image @ [0.114, 0.587, 0.299]
        assert np.abs(thermal.image.astype(float) - luminance).mean() < 2


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bit_images(tmp_path: Path, suffix: str) -> None:
    counts = np.random.default_rng(0).integers(0, 2**16, (48, 64), dtype=np.uint16)
    path = save(tmp_path / f"gray.{suffix}", counts)
    (thermal,) = read_all(open_images(path, band=Band.THERMAL))
    assert thermal.pixel_format is PixelFormat.GRAY16
    assert np.array_equal(thermal.image, counts)
    source = open_images(path)
    (visible,) = read_all(source)
    assert visible.pixel_format is PixelFormat.GRAY8
    assert np.array_equal(visible.image, np.rint(counts / 257))
    assert source.notes == (f"{path}: 16-bit visible images were scaled to 8 bits (divided by 257)",)


def test_sixteen_bit_color(tmp_path: Path) -> None:
    color = patterns(1)[0]
    path = save(tmp_path / "color.png", color.astype(np.uint16) * 257)
    (visible,) = read_all(open_images(path))
    assert np.array_equal(visible.image, color)
    (thermal,) = read_all(open_images(path, band=Band.THERMAL))
    assert thermal.pixel_format is PixelFormat.GRAY16
    assert np.abs(thermal.image - 257 * (color @ [0.114, 0.587, 0.299])).max() <= 2


def test_gray_that_is_stored_as_color_keeps_its_values(tmp_path: Path) -> None:
    gray = patterns(1, channels=1)[0]
    path = save(tmp_path / "gray.png", np.dstack([gray, gray, gray]))
    (thermal,) = read_all(open_images(path, band=Band.THERMAL))
    assert np.array_equal(thermal.image, gray)


def test_transparency_is_dropped_and_orientation_applied(tmp_path: Path) -> None:
    color = patterns(1)[0]
    path = save(tmp_path / "alpha.png", np.dstack([color, color[..., 0]]))
    (frame,) = read_all(open_images(path))
    assert np.array_equal(frame.image, color)
    data = cv2.imencode(".jpg", color)[1].tobytes()
    # EXIF with a single entry: orientation 6, the camera was held upright
    tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    exif = b"Exif\0\0" + tiff
    turned = data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]
    assert np.array_equal(decode_image(turned), np.rot90(decode_image(data), -1))


def test_an_unreadable_image_in_the_middle_is_skipped_counted_and_named(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = (folder / "frame2.png").read_bytes()
    (folder / "frame2.png").write_bytes(whole[: len(whole) // 2])
    (folder / "frame3.jpg").write_bytes(b"")
    (folder / "frame4.bmp").write_bytes(b"no image")
    source = open_images(folder)
    frames = read_all(source)
    assert [frame.name for frame in frames] == ["frame1", "frame10"]
    assert [frame.sequence for frame in frames] == [0, 4]
    assert [frame.timestamp_ns for frame in frames] == [0, 4 * 40_000_000]
    assert source.drops == {"corrupt": 3}
    assert source.notes == (
        f"{folder}: 3 images could not be read and were skipped: frame2.png, frame3.jpg, frame4.bmp",
    )
    assert capfd.readouterr() == ("", "")


def test_an_image_that_vanishes_is_skipped(folder: Path) -> None:
    source = open_images(folder)
    (folder / "frame2.png").unlink()
    assert [frame.name for frame in read_all(source)] == ["frame1", "frame10"]
    assert source.drops == {"corrupt": 1}


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp"])
def test_half_an_image_is_none(tmp_path: Path, suffix: str) -> None:
    rng = np.random.default_rng(0)
    data = cv2.imencode(f".{suffix}", rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))[1].tobytes()
    decode_image(data)
    with pytest.raises(ValueError, match=r"cut off|not an image"):
        decode_image(data[: len(data) // 2])


def test_a_jpeg_with_something_behind_it_is_whole() -> None:
    data = cv2.imencode(".jpg", patterns(1)[0])[1].tobytes()
    assert np.array_equal(decode_image(data + b"maker's notes" * 100), decode_image(data))


def test_floating_point_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "celsius.tif", np.zeros((4, 4), np.float32))
    with pytest.raises(CaptureError, match=r"celsius.tif: its pixels are float32; expected 8 or 16 bits"):
        open_images(path)


def test_folders_that_cannot_be_opened(tmp_path: Path) -> None:
    empty, other, twice = tmp_path / "empty", tmp_path / "other", tmp_path / "twice"
    empty.mkdir()
    other.mkdir()
    for number in range(12):
        (other / f"{number}.npy").touch()
    for suffix in ("png", "jpg"):
        save(twice / f"a.{suffix}", patterns(1)[0])
    for path, message in (
        (empty, r"no images in this folder \(it is empty\); expected .bmp, .jp2, .jpe, .jpeg, .jpg, .pgm"),
        (other, r"no images in this folder \(it holds 0.npy, 1.npy, 2.npy, 3.npy, 4.npy and 7 more\)"),
        (twice, "a.jpg and a.png have one name; keep one of them"),
    ):
        with pytest.raises(CaptureError, match=message):
            open_images(path)
    with pytest.raises(CaptureError, match="no such folder or image"):
        open_source(f"images:{tmp_path}/gone", band=Band.VISIBLE)


def test_parameters_are_strict(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown parameter 'rate'.*it takes bits, crop, flip, fps"):
        open_images(f"{folder}?rate=3")


def test_loops_go_on(folder: Path) -> None:
    source = open_images(f"{folder}?fps=10", loop=3)
    frames = read_all(source)
    assert source.info.frame_count == 9
    assert [frame.timestamp_ns for frame in frames] == [index * 10**8 for index in range(9)]
    assert [frame.sequence for frame in frames] == list(range(9))
    assert [frame.name for frame in frames] == ["frame1", "frame2", "frame10"] * 3


def test_pace_honors_the_rate(folder: Path) -> None:
    clock = FakeClock()
    source = open_images(f"{folder}?fps=2", pace=True, clock=clock)
    times = []
    for _ in range(3):
        source.read(timeout_s=1)
        times.append(clock.now_ns())
    assert times == [0, NS_PER_S // 2, NS_PER_S]
    source = open_images(f"{folder}?fps=2", pace=True, clock=FakeClock())
    source.read(timeout_s=0)
    with pytest.raises(CaptureTimeout):
        source.read(timeout_s=0.4)


def test_a_closed_source_is_over(folder: Path) -> None:
    source = open_images(folder)
    source.read(timeout_s=1)
    source.close()
    source.close()
    with pytest.raises(EndOfStream):
        source.read(timeout_s=1)


@given(st.lists(st.integers(0, 10**6), unique=True))
def test_numbers_sort_as_numbers(numbers: list[int]) -> None:
    names = [f"img{number}" for number in numbers]
    assert sorted(names, key=natural_key) == [f"img{number}" for number in sorted(numbers)]


@given(st.lists(st.text(max_size=8), unique=True))
def test_any_names_have_one_order(names: list[str]) -> None:
    backwards = names[::-1]
    assert sorted(names, key=natural_key) == sorted(backwards, key=natural_key)


STEMS = st.sets(st.integers(0, 30).map(str), min_size=1)


@given(STEMS, STEMS)
def test_the_axis_is_the_union(first: set[str], second: set[str]) -> None:
    own, other = sorted(first, key=int), sorted(second, key=int)
    if first.isdisjoint(second):
        with pytest.raises(ConfigError, match="no image name in common"):
            match(own, other, uris=("a", "b"))
        return
    found = match(own, other, uris=("a", "b"))
    union = sorted(first | second, key=int)
    assert found.length == len(union)
    assert found.first == {stem: union.index(stem) for stem in own}
    assert found.second == {stem: union.index(stem) for stem in other}
    assert len(found.notes) == (not first <= second) + (not second <= first)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["tno_nato_camp", "tno_duine"])
def test_real_sequences(shared_data: Path, name: str) -> None:
    count = {"tno_nato_camp": 32, "tno_duine": 23}[name]
    for part, band in (("ir", Band.THERMAL), ("vi", Band.VISIBLE)):
        frames = read_all(open_images(shared_data / "video" / name / part, band=band))
        assert [frame.name for frame in frames] == [f"{index:05}" for index in range(count)]
        assert {frame.size_px for frame in frames} == {(360, 270)}
        assert {frame.pixel_format for frame in frames} == {PixelFormat.GRAY8}
