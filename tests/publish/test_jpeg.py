"""JPEG images from anybody: what a decoder would make gigabytes of is refused before, and what is whole is taken."""

from __future__ import annotations

import time

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtfusion.errors import WireError
from rtfusion.publish import subscriber
from rtfusion.publish.jpeg import jpeg_frame
from rtfusion.publish.ring import RingReader
from rtfusion.publish.wire import decode, encode_header
from rtfusion.types import FusedFrame
from tests.fuzz.fuzzing import damaged


def jpeg(size_px: tuple[int, int] = (64, 48), *, channels: int = 3, flat: bool = False, **settings: int) -> bytes:
    shape = (size_px[1], size_px[0], channels)[: 2 if channels == 1 else 3]
    image = np.zeros(shape, np.uint8) if flat else np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    options = [item for name, value in settings.items() for item in (getattr(cv2, f"IMWRITE_JPEG_{name}"), value)]
    return bytes(cv2.imencode(".jpg", image, options)[1].tobytes())


def claiming(data: bytes, size_px: tuple[int, int]) -> bytes:
    """The same image with another size in its frame header."""
    at = 2
    while data[at + 1] not in (0xC0, 0xC2):
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    size = size_px[1].to_bytes(2, "big") + size_px[0].to_bytes(2, "big")
    return data[: at + 5] + size + data[at + 9 :]


def received(data: bytes, size_px: tuple[int, int]) -> np.ndarray:
    image = np.zeros((2, 2, 3), np.uint8)
    frame = FusedFrame(image=image, visible=image, thermal=image[:, :, 0], timestamp_ns=0, thermal_timestamp_ns=0, received_ns=0,
                       sequence=0, fuser="f")  # fmt: skip
    import msgpack

    header = msgpack.unpackb(encode_header(frame, session="s", encoding="jpeg", published_ns=0,
                                           published_unix_ns=time.time_ns(), live=True, drops={}))  # fmt: skip
    header |= {"width_px": size_px[0], "height_px": size_px[1]}
    message = decode([b"rtfusion", msgpack.packb(header), data])
    return subscriber._decoded_image(message, RingReader())


@pytest.mark.parametrize("size_px", [(64, 48), (1, 1), (17, 33), (1920, 1080)])
@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize(
    "settings",
    [{}, {"QUALITY": 1}, {"QUALITY": 100}, {"PROGRESSIVE": 1}, {"OPTIMIZE": 1, "QUALITY": 1}, {"RST_INTERVAL": 1}],
)
def test_every_whole_image_is_taken(size_px: tuple[int, int], flat: bool, settings: dict[str, int]) -> None:
    assert received(jpeg(size_px, flat=flat, **settings), size_px).shape == (size_px[1], size_px[0], 3)
    assert received(jpeg(size_px, channels=1, flat=flat, **settings), size_px).shape == (size_px[1], size_px[0], 3)


@pytest.mark.parametrize("size_px", [(30_000, 30_000), (40_000, 40_000), (65_535, 65_535), (65_535, 100), (9000, 9000)])
@pytest.mark.parametrize("progressive", [0, 1])
def test_two_thousand_bytes_are_no_large_image(size_px: tuple[int, int], progressive: int) -> None:
    with pytest.raises(WireError):
        received(claiming(jpeg(PROGRESSIVE=progressive), size_px), size_px)


def test_no_image_is_larger_than_a_message_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    size_px = (30_000, 30_000)
    data = claiming(jpeg(), size_px)
    monkeypatch.setattr("rtfusion.publish.wire.jpeg_frame", lambda payload: (size_px, 0))
    with pytest.raises(WireError, match="pixels at most"):
        received(data, size_px)


def test_decoders_do_not_take_it_for_another_one() -> None:
    whole, huge = jpeg(), claiming(jpeg(), (30_000, 30_000))
    at = huge.index(b"\xff\xc0")
    for between in (b"\xff", b"\xff\xff", b"\xff\xd0", b"\xff\x01", b"\xff\xd8", b"\x00"):
        hidden = huge[:2] + between + huge[at : at + 19] + whole[2:]
        assert jpeg_frame(memoryview(hidden)) is None
    assert jpeg_frame(memoryview(whole[:-2])) is None  # cut off
    assert jpeg_frame(memoryview(huge[:at])) is None


def test_orientation_is_not_applied() -> None:
    data = jpeg((32, 64))
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    turned = data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]
    assert received(turned, (32, 64)).shape == (64, 32, 3)


def test_what_the_decoder_refuses_is_a_wire_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise cv2.error("pixels < CV_IO_MAX_IMAGE_PIXELS")

    monkeypatch.setattr(cv2, "imdecode", refuse)
    with pytest.raises(WireError, match="cannot be decoded"):
        received(jpeg(), (64, 48))


@given(damaged(jpeg()) | st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    jpeg_frame(memoryview(data))
