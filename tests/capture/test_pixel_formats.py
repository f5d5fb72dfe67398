"""The table of pixel formats: what a gray ramp becomes in each, as thermal and as visible frame."""

from __future__ import annotations

import av
import numpy as np
import pytest

from rtfusion.capture.pixels import PixelConverter
from rtfusion.types import Band, PixelFormat

WIDTH, HEIGHT = 256, 16
RAMP = np.tile(np.arange(WIDTH, dtype=np.uint8), (HEIGHT, 1))
LIMITED = np.clip(np.rint((RAMP.astype(float) - 16) * 255 / 219), 0, 255).astype(int)
"""Video range, expanded."""

PLANAR = ("yuv420p", "yuv422p", "yuv444p", "yuv411p", "yuv440p", "yuva420p", "yuvj420p", "yuvj422p", "yuvj444p")
SEMI_PLANAR = ("nv12", "nv21", "nv16", "nv24")
PACKED = {"yuyv422": 0, "yvyu422": 0, "uyvy422": 1}
"""Where the luma of a pixel of two bytes is."""
DEEP_PLANAR = {"yuv420p10le": 10, "yuv422p10le": 10, "yuv444p10le": 10, "yuv420p12le": 12, "yuv422p12le": 12}
GRAY = {"gray": 8, "gray10le": 10, "gray12le": 12, "gray14le": 14, "gray16le": 16, "gray16be": 16}
RGB = {"rgb24": 3, "bgr24": 3, "rgba": 4, "bgra": 4, "argb": 4, "abgr": 4, "rgb0": 4, "bgr0": 4}
"""Bytes of a pixel; every one is the level, the alpha as well."""
FORMATS = (*PLANAR, *SEMI_PLANAR, *PACKED, *DEEP_PLANAR, *GRAY, *RGB, "gbrp", "rgb48le")


def put(frame: av.VideoFrame, plane: int, values: np.ndarray) -> None:
    """Write rows into a plane, which pads them."""
    target = frame.planes[plane]
    data = np.ascontiguousarray(values).view(np.uint8).reshape(target.height, -1)
    rows = np.zeros((target.height, target.line_size), np.uint8)
    rows[:, : data.shape[1]] = data
    target.update(rows.tobytes())


def ramp_in(name: str) -> av.VideoFrame:
    """The ramp, byte by byte as the format is defined, without chroma."""
    frame = av.VideoFrame(WIDTH, HEIGHT, name)
    if name in PLANAR or name == "gbrp":
        for index, plane in enumerate(frame.planes):
            is_level = index == 0 or name == "gbrp"
            level = RAMP if is_level else np.full((plane.height, plane.width), 255 if index == 3 else 128, np.uint8)
            put(frame, index, level)
    elif name in SEMI_PLANAR:
        put(frame, 0, RAMP)
        put(frame, 1, np.full((frame.planes[1].height, frame.planes[1].line_size), 128, np.uint8))
    elif name in PACKED:
        pairs = np.full((HEIGHT, WIDTH, 2), 128, np.uint8)
        pairs[..., PACKED[name]] = RAMP
        put(frame, 0, pairs)
    elif name in DEEP_PLANAR:
        shift = DEEP_PLANAR[name] - 8
        for index, plane in enumerate(frame.planes):
            level = (
                RAMP.astype("<u2") << shift if index == 0 else np.full((plane.height, plane.width), 128 << shift, "<u2")
            )
            put(frame, index, level.astype("<u2"))
    elif name in GRAY:
        put(frame, 0, RAMP if GRAY[name] == 8 else counts_of(name).astype(">u2" if name.endswith("be") else "<u2"))
    elif name == "rgb48le":
        put(frame, 0, np.repeat((RAMP.astype(np.uint16) * 257).astype("<u2")[..., None], 3, axis=2))
    else:
        put(frame, 0, np.repeat(RAMP[..., None], RGB[name], axis=2))
    return frame


def counts_of(name: str) -> np.ndarray:
    """The ramp in all bits of a deep gray format."""
    return np.rint(RAMP.astype(float) * ((1 << GRAY[name]) - 1) / 255).astype(np.uint16)


def is_limited(name: str) -> bool:
    return name.startswith(("yuv", "nv", "yuyv", "yvyu", "uyvy")) and not name.startswith("yuvj")


def test_thirty_formats_are_in_the_table() -> None:
    assert len(set(FORMATS)) >= 30


@pytest.mark.parametrize("name", FORMATS)
def test_thermal(name: str) -> None:
    image, pixel_format = PixelConverter(Band.THERMAL)(ramp_in(name))
    if GRAY.get(name, 8) > 8:
        assert pixel_format is PixelFormat.GRAY16
        assert np.array_equal(image, counts_of(name))
        return
    assert pixel_format is PixelFormat.GRAY8
    expected = LIMITED if is_limited(name) else RAMP.astype(int)
    # more than 8 bits are rounded on the way
    assert np.abs(image.astype(int) - expected).max() <= (2 if name in (*DEEP_PLANAR, "rgb48le") else 0)


@pytest.mark.parametrize("name", FORMATS)
def test_visible(name: str) -> None:
    image, pixel_format = PixelConverter(Band.VISIBLE)(ramp_in(name))
    expected = LIMITED if is_limited(name) else RAMP.astype(int)
    if name in GRAY:
        assert pixel_format is PixelFormat.GRAY8
        assert np.array_equal(image, expected)
        return
    assert pixel_format is PixelFormat.BGR8
    assert np.abs(image.astype(int) - expected[..., None]).max() <= 2
    assert np.abs(image.astype(int) - expected[..., None]).mean() < 1
