"""Buffers of cameras: any bytes are a picture of the negotiated size, or refused."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtfusion.capture.buffers import BufferDecoder, JpegDecoder
from rtfusion.capture.modes import FOURCCS
from rtfusion.capture.profiles import PROFILES
from rtfusion.capture.v4l2_device import Mode
from rtfusion.types import Band
from tests.capture import layouts
from tests.fuzz.fuzzing import damaged, fuzzed

JPEG = bytes(cv2.imencode(".jpg", np.arange(768, dtype=np.uint8).reshape(16, 16, 3))[1].tobytes())
FIXTURES = {name: make() for name, make in layouts.FIXTURES.items()}


@fuzzed
@given(
    fourcc=st.sampled_from(FOURCCS),
    width=st.integers(1, 20),
    height=st.integers(1, 20),
    stride=st.integers(0, 60),
    band=st.sampled_from(Band),
    data=st.binary(max_size=2000),
)
def test_any_bytes_in_any_format(fourcc: str, width: int, height: int, stride: int, band: Band, data: bytes) -> None:
    mode = Mode(fourcc=fourcc, width_px=width, height_px=height, stride_bytes=stride)
    decode = BufferDecoder(mode, profile=None, band=band)
    try:
        picture = decode(data)
    except ValueError:
        return
    if fourcc != "MJPG":
        assert picture.image.shape[:2] == (height, width)
    assert picture.image.dtype == picture.pixel_format.dtype


@pytest.mark.parametrize("fixture", FIXTURES)
def test_layouts_with_damage(fixture: str) -> None:
    width, height = map(int, fixture.rpartition("_")[2].split("x"))
    name = fixture.partition("_")[0]
    profile = PROFILES[name]
    fourcc = profile.fourccs[0] if profile.fourccs else "GREY"
    decode = BufferDecoder(Mode(fourcc=fourcc, width_px=width, height_px=height), profile=profile, band=Band.THERMAL)

    @fuzzed
    @given(data=damaged(FIXTURES[fixture]) | st.binary(max_size=100))
    def check(data: bytes) -> None:
        try:
            picture = decode(data)
        except ValueError as error:
            assert "expected" in str(error)
            return
        assert picture.image.shape[::-1] == profile.image_size_px((width, height))

    check()


@fuzzed
@given(st.lists(damaged(JPEG) | st.binary(max_size=60) | st.just(JPEG), min_size=1, max_size=3))
def test_damaged_jpeg_images(images: list[bytes]) -> None:
    decode = JpegDecoder()
    for data in images:
        try:
            frame = decode(data)
        except ValueError:
            continue
        assert frame.width > 0
