"""Image files as people have them: deep, floating, many in one file, with counts beside the picture."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from rtfusion.capture import Source, open_pair, open_source
from rtfusion.capture.radiometric import Planck, read_radiometric
from rtfusion.errors import CaptureError, ConfigError
from rtfusion.types import Band, Frame, PixelFormat
from tests.capture.clips import patterns, read_all, write_clip
from tests.capture.radiometric_files import PLANCK, dji, flir

COUNTS = np.add.outer(np.arange(48) * 20, np.arange(64) * 40).astype(np.uint16) + 12000
SEEN = np.dstack([np.full((48, 64), level, np.uint8) for level in (10, 120, 200)])


def opened(path: object, band: Band = Band.THERMAL) -> Source:
    return open_source(str(path), band=band, shutter="off")


def only(path: object, band: Band = Band.THERMAL) -> tuple[Frame, Source]:
    source = opened(path, band)
    (frame,) = read_all(source)
    return frame, source


@pytest.mark.parametrize("suffix", ["webp", "pgm", "ppm", "jp2", "PNG"])
def test_other_kinds_of_images(tmp_path: Path, suffix: str) -> None:
    gray = patterns(1, channels=1)[0]
    image = gray if suffix == "pgm" else cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR)
    assert cv2.imwrite(str(tmp_path / f"a.{suffix}"), image, [cv2.IMWRITE_WEBP_QUALITY, 101])
    for path in (tmp_path, tmp_path / f"a.{suffix}"):
        assert np.abs(only(path)[0].image.astype(int) - gray).max() <= 2


# -- many in one file ---------------------------------------------------------------------------------------------------


def stack(path: Path, count: int = 6) -> list[np.ndarray]:
    pages = [COUNTS + np.uint16(index) for index in range(count)]
    assert cv2.imwritemulti(str(path), pages)
    return pages


def test_the_pages_of_a_tiff_are_a_sequence(tmp_path: Path) -> None:
    pages = stack(tmp_path / "thermal.tif")
    source = opened(f"{tmp_path}/thermal.tif?fps=30")
    frames = read_all(source)
    assert [round(frame.timestamp_ns * 30 / 1e9) for frame in frames] == list(range(6))
    assert [frame.name for frame in frames] == [f"thermal-{index:05d}" for index in range(6)]
    assert all(np.array_equal(frame.image, page) for frame, page in zip(frames, pages, strict=True))
    assert (source.info.continuous, source.info.frame_count) == (True, 6)


def test_two_stacks_are_paired_by_their_pages(tmp_path: Path) -> None:
    stack(tmp_path / "ir.tif")
    stack(tmp_path / "vis.tif")
    first, second = open_pair(visible=f"{tmp_path}/vis.tif", thermal=f"{tmp_path}/ir.tif")
    assert [frame.timestamp_ns for frame in read_all(first)] == [frame.timestamp_ns for frame in read_all(second)]


def test_a_smaller_second_page_is_a_preview(tmp_path: Path) -> None:
    assert cv2.imwritemulti(str(tmp_path / "a.tif"), [COUNTS, COUNTS[::4, ::4].copy()])
    assert np.array_equal(only(tmp_path / "a.tif")[0].image, COUNTS)


def test_of_a_damaged_stack_every_page_that_cannot_be_read_is_counted(tmp_path: Path) -> None:
    stack(tmp_path / "1.tif")
    whole = (tmp_path / "1.tif").read_bytes()
    bits = b"\x02\x01\x03\0\x01\0\0\0"  # the field that says how many bits a number has, before its value
    assert whole.count(bits + b"\x10") == 6
    first, second, *rest = whole.split(bits + b"\x10")
    (tmp_path / "2.tif").write_bytes((bits + b"\x10").join([first, second + bits + b"\x05" + rest[0], *rest[1:]]))
    source = opened(tmp_path)
    frames = read_all(source)
    names = [frame.name for frame in frames]
    assert names[:6] == [f"1-{index:05d}" for index in range(6)]
    assert source.drops["corrupt"] == 12 - len(names) > 0


def test_images_without_a_rate_beside_a_video_are_refused(tmp_path: Path) -> None:
    stack(tmp_path / "thermal.tif", 10)
    clip = write_clip(tmp_path / "v.mp4", patterns(10))
    with pytest.raises(ConfigError, match=r"holds 10 images without a rate.* \?fps=30, which would make them as long"):
        open_pair(visible=str(clip), thermal=f"{tmp_path}/thermal.tif")
    with pytest.raises(ConfigError, match=r"holds 10 images without a rate"):
        open_pair(visible=f"{tmp_path}/thermal.tif", thermal=str(clip))


# -- depth and units ----------------------------------------------------------------------------------------------------


def test_visible_images_of_twelve_bits(tmp_path: Path) -> None:
    for name, top in (("0", 900), ("1", 4095), ("2", 2000)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((48, 64), top, np.uint16))
    source = opened(tmp_path, Band.VISIBLE)
    assert [int(frame.image[0, 0]) for frame in read_all(source)] == [56, 255, 125]
    assert "taken for 12 bits" in source.notes[-1]
    assert [int(frame.image[0, 0]) for frame in read_all(opened(f"{tmp_path}?bits=16", Band.VISIBLE))] == [4, 16, 8]


def test_sixteen_bits_stay_sixteen(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((48, 64), 25700, np.uint16))
    frame, source = only(tmp_path, Band.VISIBLE)
    assert (frame.image == 100).all()
    assert source.notes == (f"{tmp_path}: 16-bit visible images were scaled to 8 bits (divided by 257)",)


@pytest.mark.parametrize(
    ("celsius", "query", "unit"), [(False, "", "kelvin"), (True, "", "celsius"), (True, "?unit=celsius", "")]
)
def test_floating_temperatures(tmp_path: Path, celsius: bool, query: str, unit: str) -> None:
    kelvin = np.linspace(263, 420, 48 * 64, dtype=np.float32).reshape(48, 64)
    cv2.imwrite(str(tmp_path / "a.tiff"), kelvin - np.float32(273.15) if celsius else kelvin)
    frame, source = only(f"{tmp_path}/a.tiff{query}")
    assert frame.pixel_format is PixelFormat.GRAY16
    assert frame.kelvin_per_count is not None
    assert np.abs(frame.image * frame.kelvin_per_count - kelvin).max() < 0.011
    assert [f"in {unit} " in note for note in source.notes] == ([True] if unit else [])


@pytest.mark.parametrize(("unit", "kelvin_per_count"), [("kelvin", 1.0), ("decikelvin", 0.1), ("centikelvin", 0.01)])
def test_a_user_may_say_what_counts_are(tmp_path: Path, unit: str, kelvin_per_count: float) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), COUNTS)
    frame, source = only(f"{tmp_path}/a.png?unit={unit}")
    assert np.array_equal(frame.image, COUNTS)
    assert (frame.kelvin_per_count, source.notes) == (kelvin_per_count, ())
    clip = write_clip(tmp_path / "c.mkv", [COUNTS], codec="ffv1", pix_fmt="gray16le", source_format="gray16le")
    assert only(f"{clip}?unit={unit}")[0].kelvin_per_count == kelvin_per_count
    assert only(clip)[0].kelvin_per_count is None


def test_counts_of_whole_degrees(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((48, 64), 37, np.uint16))
    frame, _ = only(f"{tmp_path}/a.png?unit=celsius")
    assert frame.kelvin_per_count is not None
    assert np.abs(frame.image * frame.kelvin_per_count - 310.15).max() < 0.011


def test_floating_levels_are_no_temperatures(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.tiff"), np.linspace(0, 1, 48 * 64, dtype=np.float32).reshape(48, 64))
    frame, source = only(tmp_path)
    assert (int(frame.image.min()), int(frame.image.max()), frame.kelvin_per_count) == (0, 65535, None)
    assert "taken as levels" in source.notes[0]
    with pytest.raises(CaptureError, match="its pixels are float32"):
        opened(tmp_path, Band.VISIBLE)


def test_floating_numbers_that_are_none(tmp_path: Path) -> None:
    image = np.full((48, 64), np.nan, np.float32)
    cv2.imwrite(str(tmp_path / "a.tiff"), image)
    with pytest.raises(CaptureError, match="no finite number"):
        opened(tmp_path)
    image[0, 0] = 300
    cv2.imwrite(str(tmp_path / "a.tiff"), image)
    assert (only(tmp_path)[0].image > 0).sum() == 1


# -- radiometric JPEG ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [{}, {"swapped": False}, {"raw": True}, {"order": "<"}], ids=str)
def test_the_counts_of_a_flir_jpeg(tmp_path: Path, layout: dict) -> None:
    (tmp_path / "a.jpg").write_bytes(flir(COUNTS, **layout))
    frame, source = only(tmp_path)
    assert np.array_equal(frame.image, COUNTS)
    assert (frame.pixel_format, frame.kelvin_per_count) == (PixelFormat.GRAY16, None)
    assert "the counts inside of its radiometric JPEG (FLIR) are used, which mean no temperature" in source.notes[0]


def test_the_constants_of_the_camera_make_temperatures(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(flir(COUNTS, planck=PLANCK))
    frame, _ = only(tmp_path)
    kelvin = 1427.5 / np.log(16528.178 / (0.012258549 * (COUNTS.astype(float) - 1307)) + 1)
    assert frame.kelvin_per_count is not None
    assert 260 < kelvin.min() < kelvin.max() < 360
    assert np.abs(frame.image * frame.kelvin_per_count - kelvin).max() < 0.011


def test_constants_that_were_never_filled_in_make_none(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(flir(COUNTS, planck=dict.fromkeys(PLANCK, 0)))
    assert only(tmp_path)[0].kelvin_per_count is None
    assert not Planck(float("nan"), 1, 1, 1, 1).is_plausible


def test_one_jpeg_holds_both_cameras(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(flir(COUNTS, visible=SEEN))
    visible, thermal = open_pair(visible=f"{tmp_path}?stream=visible", thermal=f"{tmp_path}?stream=thermal")
    (seen,), (counted,) = read_all(visible), read_all(thermal)
    assert np.abs(seen.image.astype(int) - SEEN).max() < 6
    assert np.array_equal(counted.image, COUNTS)
    assert "the visible pictures inside" in visible.notes[0]
    with pytest.raises(ConfigError, match="stream=thermal is given for the visible source"):
        opened(f"{tmp_path}?stream=thermal", Band.VISIBLE)


def test_the_counts_of_a_dji_jpeg(tmp_path: Path) -> None:
    counts = np.add.outer(np.arange(256), np.arange(320)).astype(np.uint16) + 3000
    (tmp_path / "DJI_0001_T.JPG").write_bytes(dji(counts))
    frame, source = only(tmp_path)
    assert np.array_equal(frame.image, counts)
    assert "radiometric JPEG (DJI)" in source.notes[0]


def test_damaged_records_leave_the_picture() -> None:
    whole = flir(COUNTS, planck=PLANCK)
    rng = np.random.default_rng(0)
    at = whole.index(b"FFF\0")
    for _ in range(60):
        data = bytearray(whole)
        for place in rng.integers(at, at + 400, 6):
            data[place] = rng.integers(256)
        found = read_radiometric(bytes(data))
        assert found is None or found.counts.ndim == 2
    for length in range(at, at + 600, 31):
        read_radiometric(whole[:length])
