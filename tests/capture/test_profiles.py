"""What thermal cameras send, on buffers that are made byte by byte in `layouts.py` and committed as files."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtfusion.capture.buffers import BufferDecoder
from rtfusion.capture.devices import guess_band
from rtfusion.capture.profiles import PROFILES, recognize
from rtfusion.capture.shutter import LONGEST_NS, ShutterHold
from rtfusion.capture.v4l2_device import Mode
from rtfusion.types import Band, PixelFormat
from tests.capture import layouts
from tests.support import MS

LEPTON, BOSON = "1e4e:0100", "09cb:4007"
KNOWN = [
    # fixture, fourcc, USB identity, profile, size of the image, count at (0, 0), step, kelvin per count
    ("y16_160x120", "Y16", None, "y16", (160, 120), 7000, None),
    ("lepton_160x122", "Y16", LEPTON, "lepton", (160, 120), 29000, 0.01),
    ("lepton_80x63", "Y16", LEPTON, "lepton", (80, 60), 29000, 0.1),
    ("boson_320x256", "Y16", BOSON, "boson", (320, 256), 12000, None),
    ("p2pro_256x384", "YUYV", "0bda:5830", "p2pro", (256, 192), 19000, 1 / 64),
    ("tc002c_512x484", "YUYV", "2bdf:0102", "tc002c", (256, 192), 4700, 1 / 16),
    ("ht301_384x292", "YUYV", None, "ht301", (384, 288), 5000, None),
]


def size_of(fixture: str) -> tuple[int, int]:
    width, height = fixture.rpartition("_")[2].split("x")
    return int(width), int(height)


def decoder(fixture: str, fourcc: str, usb_id: str | None, *, stride_bytes: int = 0) -> BufferDecoder:
    width, height = size_of(fixture)
    profile = recognize(fourcc=fourcc, size_px=(width, height), usb_id=usb_id)
    mode = Mode(fourcc=fourcc, width_px=width, height_px=height, stride_bytes=stride_bytes)
    return BufferDecoder(mode, profile=profile, band=Band.THERMAL)


@pytest.mark.parametrize("name", layouts.FIXTURES)
def test_fixtures_are_what_their_layouts_say(name: str) -> None:
    assert layouts.stored(name) == layouts.FIXTURES[name]()


@pytest.mark.parametrize(("fixture", "fourcc", "usb_id", "profile", "size", "base", "kelvin"), KNOWN)
def test_counts_are_found(fixture, fourcc, usb_id, profile, size, base, kelvin) -> None:  # type: ignore[no-untyped-def]
    assert recognize(fourcc=fourcc, size_px=size_of(fixture), usb_id=usb_id).name == profile
    picture = decoder(fixture, fourcc, usb_id)(layouts.stored(fixture))
    assert picture.pixel_format is PixelFormat.GRAY16
    height, width = picture.image.shape
    assert (width, height) == size
    y, x = np.mgrid[:height, :width]
    expected = base + x + 2 * y
    expected[7, 10] += 900
    expected[11, 20] -= 700
    assert np.array_equal(picture.image, expected)
    assert picture.kelvin_per_count == kelvin
    assert not picture.shutter


def test_what_the_camera_toned_itself_is_luminance() -> None:
    picture = decoder("gray8_32x24", "GREY", None)(layouts.stored("gray8_32x24"))
    assert picture.pixel_format is PixelFormat.GRAY8
    assert picture.image.tobytes() == layouts.stored("gray8_32x24")


@pytest.mark.parametrize(
    ("fourcc", "size", "usb_id", "name"),
    [
        ("Y16", (160, 120), LEPTON, "lepton"),
        ("Y16", (160, 120), None, "y16"),
        ("Y16", (640, 514), BOSON, "boson"),
        ("YUYV", (256, 192), "0bda:5830", "gray8"),
        ("MJPG", (256, 384), "0bda:5830", "gray8"),
        ("Y16", (256, 196), None, "ht301"),
        ("GREY", (160, 122), LEPTON, "gray8"),
    ],
)
def test_cameras_are_recognized(fourcc: str, size: tuple[int, int], usb_id: str | None, name: str) -> None:
    assert recognize(fourcc=fourcc, size_px=size, usb_id=usb_id).name == name


@pytest.mark.parametrize(("fixture", "fourcc", "usb_id"), [entry[:3] for entry in KNOWN])
def test_short_buffers_are_refused_and_padding_is_left_out(fixture: str, fourcc: str, usb_id: str | None) -> None:
    data = layouts.stored(fixture)
    with pytest.raises(ValueError, match="bytes; expected"):
        decoder(fixture, fourcc, usb_id)(data[:-1])
    width, height = size_of(fixture)
    rows = np.frombuffer(data, np.uint8).reshape(height, 2 * width)
    padded = np.pad(rows, ((0, 0), (0, 6))).tobytes()
    expected = decoder(fixture, fourcc, usb_id)(data).image
    got = decoder(fixture, fourcc, usb_id, stride_bytes=2 * width + 6)(padded).image
    assert np.array_equal(got, expected)


# -- Lepton telemetry -------------------------------------------------------------------------------------------------


def test_the_lepton_says_when_its_shutter_is_closed() -> None:
    decode = decoder("lepton_160x122", "Y16", LEPTON)
    states = [decode(layouts.lepton3(counter=n, ffc=ffc)).shutter for n, ffc in enumerate((0, 1, 2, 3))]
    assert states == [False, False, True, False]


def test_the_lepton_says_when_it_repeats_itself() -> None:
    decode = decoder("lepton_160x122", "Y16", LEPTON)
    counters = (65535, 65535, 65536, 65536, 65536, 65537)
    assert [decode(layouts.lepton3(counter=n)).repeated for n in counters] == [False, True, False, True, True, False]


def test_counts_without_tlinear_are_no_temperatures() -> None:
    decode = decoder("lepton_160x122", "Y16", LEPTON)
    assert decode(layouts.lepton3(counter=1, tlinear=False)).kelvin_per_count is None
    assert decode(layouts.lepton3(counter=2, fine=False)).kelvin_per_count == 0.1


def test_rows_that_are_no_telemetry_say_nothing() -> None:
    decode = decoder("lepton_160x122", "Y16", LEPTON)
    image, rest = layouts.lepton3()[: 160 * 120 * 2], b"\xff" * 640
    picture = decode(image + rest)
    assert (picture.shutter, picture.repeated, picture.kelvin_per_count) == (False, False, None)
    assert decoder("lepton_160x120", "Y16", LEPTON)(image).image.tobytes() == image


# -- any bytes --------------------------------------------------------------------------------------------------------


@given(data=st.data(), name=st.sampled_from(sorted(PROFILES)))
def test_any_bytes_of_the_right_size_decode(data: st.DataObject, name: str) -> None:
    profile = PROFILES[name]
    size = data.draw(st.sampled_from(sorted(profile.sizes))) if profile.sizes else (8, 6)
    fourcc = profile.fourccs[0] if profile.fourccs else "GREY"
    mode = Mode(fourcc=fourcc, width_px=size[0], height_px=size[1])
    wide = 1 if fourcc == "GREY" else 2
    seed = data.draw(st.integers(0, 2**32 - 1))
    content = np.random.default_rng(seed).integers(0, 256, size[0] * size[1] * wide, dtype=np.uint8).tobytes()
    picture = BufferDecoder(mode, profile=profile, band=Band.THERMAL)(content)
    assert picture.image.shape[::-1] == profile.image_size_px(size)


# -- shutter ----------------------------------------------------------------------------------------------------------


def scene(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(7000, 8000, (60, 80)).astype(np.uint16)


def closed(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(7490, 7510, (60, 80)).astype(np.uint16)


def test_the_last_image_is_held_while_the_camera_says_that_its_shutter_is_closed() -> None:
    hold = ShutterHold(by_picture=False)
    before = scene(1)
    assert hold(before, closed=False, timestamp_ns=0) == (before, False)
    for number in range(5):
        image, held = hold(closed(number), closed=True, timestamp_ns=(number + 1) * 40 * MS)
        assert held
        assert image is before
    after = scene(2)
    assert hold(after, closed=False, timestamp_ns=300 * MS) == (after, False)


def test_the_shutter_is_told_from_the_picture() -> None:
    hold = ShutterHold(by_picture=True)
    images = [scene(1), scene(2), closed(3), closed(4), scene(5)]
    results = [hold(image, closed=False, timestamp_ns=i * 40 * MS) for i, image in enumerate(images)]
    assert [held for _, held in results] == [False, False, True, True, False]
    assert results[3][0] is images[1]


def test_a_wall_is_no_shutter_for_long() -> None:
    hold = ShutterHold(by_picture=True)
    hold(scene(1), closed=False, timestamp_ns=0)
    stamps = range(40 * MS, LONGEST_NS + 1000 * MS, 40 * MS)
    held = [hold(closed(7), closed=False, timestamp_ns=stamp)[1] for stamp in stamps]
    assert held[0]
    assert not any(held[-20:])
    fading = [np.linspace(7000, 7000 + 1000 / n, 4800).astype(np.uint16).reshape(60, 80) for n in range(1, 12)]
    slow = ShutterHold(by_picture=True)
    assert not any(slow(image, closed=False, timestamp_ns=i * MS)[1] for i, image in enumerate(fading))


def test_at_the_start_there_is_nothing_to_hold() -> None:
    image = closed(1)
    assert ShutterHold(by_picture=False)(image, closed=True, timestamp_ns=0) == (image, True)


def test_a_camera_of_a_profile_is_known_to_be_thermal() -> None:
    usb_ids = [usb_id for profile in PROFILES.values() for usb_id in profile.usb_ids]
    assert len(usb_ids) == 5
    assert all(guess_band(name="USB camera", usb_id=usb_id) is Band.THERMAL for usb_id in usb_ids)
