"""Streams of thermal cameras that were recorded as they came."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from rtfusion.capture import Source, open_source
from rtfusion.capture.profiles import PROFILES, CountsDecoder, as_words
from rtfusion.errors import ConfigError
from rtfusion.types import Band, PixelFormat
from tests.capture.clips import patterns, read_all, write_clip
from tests.capture.layouts import stored

BUFFERS = {
    "p2pro": ("p2pro_256x384", (256, 384)),
    "tc002c": ("tc002c_512x484", (512, 484)),
    "ht301": ("ht301_384x292", (384, 292)),
    "lepton": ("lepton_160x122", (160, 122)),
}


def recorded(path: Path, profile: str, *, codec: str = "ffv1", pix_fmt: str = "yuv422p") -> np.ndarray:
    """Write the buffer of a camera as a video of three frames; its counts."""
    name, size_px = BUFFERS[profile]
    words = as_words(stored(name), size_px=size_px, stride_bytes=2 * size_px[0])
    if pix_fmt == "gray16le":
        write_clip(path, [words] * 3, codec=codec, pix_fmt=pix_fmt, source_format=pix_fmt)
    else:
        packed = np.ascontiguousarray(words).view(np.uint8).reshape(size_px[1], size_px[0], 2)
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=25)
            stream.width, stream.height, stream.pix_fmt = *size_px, pix_fmt
            for index in range(3):
                frame = av.VideoFrame.from_ndarray(packed, format="yuyv422")
                if pix_fmt == "yuv422p":  # bytes to planes, without a conversion of their range
                    planes = av.VideoFrame(*size_px, pix_fmt)
                    for plane, values in zip(
                        planes.planes, (packed[..., 0], packed[:, 0::2, 1], packed[:, 1::2, 1]), strict=True
                    ):
                        rows = np.zeros((plane.height, plane.line_size), np.uint8)
                        rows[:, : values.shape[1]] = values
                        plane.update(rows.tobytes())
                    frame = planes
                frame.pts = index
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    return CountsDecoder(PROFILES[profile], size_px)(words).image


def opened(path: object, band: Band = Band.THERMAL) -> Source:
    return open_source(str(path), band=band, shutter="off")


@pytest.mark.parametrize("asked", ["", "?profile={}"])
@pytest.mark.parametrize(
    ("profile", "name", "codec", "pix_fmt", "kelvin_per_count"),
    [
        ("p2pro", "c.mkv", "ffv1", "yuv422p", 1 / 64),
        ("p2pro", "c.avi", "rawvideo", "yuyv422", 1 / 64),
        ("tc002c", "c.mkv", "ffv1", "yuv422p", 1 / 16),
        ("ht301", "c.avi", "rawvideo", "yuyv422", None),
        ("ht301", "c.mkv", "ffv1", "gray16le", None),
        ("lepton", "c.mkv", "ffv1", "gray16le", 0.01),
    ],
)
def test_the_counts_of_a_recorded_stream(
    tmp_path: Path, asked: str, profile: str, name: str, codec: str, pix_fmt: str, kelvin_per_count: float | None
) -> None:
    counts = recorded(tmp_path / name, profile, codec=codec, pix_fmt=pix_fmt)
    source = opened(f"{tmp_path / name}{asked.format(profile)}")
    frames = read_all(source)
    assert len(frames) == 3
    for frame in frames:
        assert (frame.pixel_format, frame.kelvin_per_count) == (PixelFormat.GRAY16, kelvin_per_count)
        assert np.array_equal(frame.image, counts)
    assert source.info.size_px == counts.shape[::-1]
    assert [f"of the profile {profile}, recorded as it came" in note for note in source.notes] == [True] * (not asked)


def test_a_picture_of_the_size_of_a_camera_is_a_picture(tmp_path: Path) -> None:
    images = patterns(3, width=256, height=384)
    write_clip(tmp_path / "c.mkv", images, codec="ffv1", pix_fmt="yuv422p")
    source = opened(tmp_path / "c.mkv")
    assert source.info.size_px == (256, 384)
    assert source.info.pixel_format is PixelFormat.GRAY8
    recorded(tmp_path / "raw.mkv", "p2pro")
    assert opened(f"{tmp_path}/raw.mkv?profile=gray8").info.size_px == (256, 384)
    assert opened(tmp_path / "raw.mkv", Band.VISIBLE).info.size_px == (256, 384)


def test_a_profile_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    write_clip(tmp_path / "c.mp4", patterns(2))
    with pytest.raises(ConfigError, match=r"its frames are 64x48 yuv420p; the profile p2pro has 256x384 in YUYV"):
        opened(f"{tmp_path}/c.mp4?profile=p2pro")
    with pytest.raises(ConfigError, match="expected one of p2pro, tc002c"):
        opened(f"{tmp_path}/c.mp4?profile=p3pro")


def test_counts_that_a_codec_may_have_damaged_are_told(tmp_path: Path) -> None:
    write_clip(tmp_path / "c.avi", patterns(2, width=256, height=384), codec="mpeg2video", pix_fmt="yuv422p")
    source = opened(f"{tmp_path}/c.avi?profile=p2pro")
    read_all(source)
    assert any("mpeg2video may have damaged them" in note for note in source.notes)
