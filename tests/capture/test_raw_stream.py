"""Streams of thermal cameras that were recorded as they came."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from rtfusion.capture import Source, open_source
from rtfusion.capture.profiles import PROFILES, CountsDecoder, as_words
from rtfusion.errors import CaptureError, ConfigError
from rtfusion.types import Band, PixelFormat
from tests.capture.clips import RATE_HZ, patterns, read_all, write_clip
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
    with pytest.raises(ConfigError, match=r"expected one of p2pro, tc002c.*, seek, seek-pro"):
        opened(f"{tmp_path}/c.mp4?profile=p3pro")


def test_counts_that_a_codec_may_have_damaged_are_told(tmp_path: Path) -> None:
    write_clip(tmp_path / "c.avi", patterns(2, width=256, height=384), codec="mpeg2video", pix_fmt="yuv422p")
    source = opened(f"{tmp_path}/c.avi?profile=p2pro")
    read_all(source)
    assert any("mpeg2video may have damaged them" in note for note in source.notes)


# -- Seek: frames byte by byte as the public driver describes them ------------------------------------------------------

SEEK = {"seek": ((208, 156), (0, 1, 207, 154), 10), "seek-pro": ((342, 260), (1, 4, 320, 240), 2)}
"""Size of a frame, the part that is the picture, the place of the kind of frame."""
START, SHUTTER, SCENE, OTHER = 4, 1, 3, 6
DEAD = [(30, 20), (31, 20), (30, 21), (31, 21), (80, 60), (0, 0)]
"""(x, y) of dead pixels: four in a cluster, one alone, one in a corner."""


class SeekCamera:
    """Counts that differ from pixel to pixel by thousands, and a scene of some dozens of counts on them."""

    def __init__(self, name: str) -> None:
        self.size_px, (self.x, self.y, self.width, self.height), self.kind_at = SEEK[name]
        rng = np.random.default_rng(7)
        self.pattern = rng.integers(3000, 9000, (self.height, self.width))
        self.rng = rng

    def scene(self, number: int) -> np.ndarray:
        """What is to come out, but for what is added to the level of the shutter."""
        rows, columns = np.mgrid[: self.height, : self.width]
        scene = (columns + rows) // 8
        scene[40:60, 50 + 3 * number : 70 + 3 * number] += 150
        return scene

    def frame(self, kind: int, picture: np.ndarray, *, dead: int = 0) -> np.ndarray:
        width, height = self.size_px
        words = self.rng.integers(11, 0x3FFF, (height, width))
        words[0, self.kind_at] = kind
        for x, y in DEAD:
            picture[y, x] = dead
        words[self.y : self.y + self.height, self.x : self.x + self.width] = picture
        return words.astype(np.uint16)

    def start(self) -> np.ndarray:
        """Living pixels are about 5000, and dead ones far below."""
        return self.frame(START, self.around(4951), dead=2000)

    def around(self, least: int) -> np.ndarray:
        """Three of ten pixels are 5000, and the others from this on to 5050."""
        others = self.rng.integers(least, 5051, self.pattern.shape)
        return np.where(self.rng.random(self.pattern.shape) < 0.3, 5000, others)

    def shutter(self, *, later: int = 0) -> np.ndarray:
        return self.frame(SHUTTER, self.pattern + later)

    def picture(self, number: int, *, later: int = 0) -> np.ndarray:
        return self.frame(SCENE, self.pattern + later + self.scene(number))

    def record(self, path: Path, *frames: np.ndarray) -> Path:
        return write_clip(path, list(frames), codec="ffv1", pix_fmt="gray16le", source_format="gray16le")


def is_living(camera: SeekCamera) -> np.ndarray:
    living = np.ones((camera.height, camera.width), bool)
    for x, y in DEAD:
        living[y, x] = False
    return living


@pytest.mark.parametrize("asked", ["", "?profile={}"])
@pytest.mark.parametrize("name", SEEK)
def test_what_a_seek_camera_saw(tmp_path: Path, name: str, asked: str) -> None:
    camera = SeekCamera(name)
    other = camera.frame(OTHER, camera.pattern.copy())
    clip = camera.record(
        tmp_path / "c.mkv",
        *(camera.start(), other, camera.shutter(), camera.picture(0), camera.picture(1)),
        *(other, camera.shutter(later=200), camera.picture(2, later=200)),
    )
    source = opened(f"{clip}{asked.format(name)}")
    frames = read_all(source)
    assert source.info.size_px == (camera.width, camera.height)
    assert [round(frame.timestamp_ns * RATE_HZ / 1e9) for frame in frames] == [3, 4, 6, 7], "each at its own time"
    assert [frame.shutter for frame in frames] == [False, False, True, False]
    assert source.drops == {"corrupt": 0, "no_picture": 4}
    living = is_living(camera)
    for number, frame in enumerate((frames[0], frames[1], frames[3])):
        expected = 0x4000 + camera.scene(number)
        assert (frame.pixel_format, frame.kelvin_per_count) == (PixelFormat.GRAY16, None)
        assert np.array_equal(frame.image[living], expected[living])
        assert np.abs(frame.image[~living].astype(int) - expected[~living]).max() <= 1, "filled from around them"
    assert np.array_equal(frames[2].image, np.full_like(frames[2].image, 0x4000))
    assert [f"of the profile {name}, recorded as it came" in note for note in source.notes] == [True] * (not asked)


def test_the_shutter_of_a_seek_camera_is_bridged(tmp_path: Path) -> None:
    camera = SeekCamera("seek")
    clip = camera.record(
        tmp_path / "c.mkv", camera.start(), camera.shutter(), camera.picture(0), camera.shutter(), camera.picture(1)
    )
    frames = read_all(open_source(str(clip), band=Band.THERMAL))
    assert [frame.shutter for frame in frames] == [False, True, False]
    assert np.array_equal(frames[1].image, frames[0].image)


def test_a_seek_recording_that_begins_midway(tmp_path: Path) -> None:
    camera = SeekCamera("seek-pro")
    clip = camera.record(tmp_path / "c.mkv", camera.picture(0), camera.picture(1), camera.shutter(), camera.picture(2))
    source = opened(clip)
    (frame,) = read_all(source)
    expected = 0x4000 + camera.scene(2)
    living = is_living(camera)
    assert np.array_equal(frame.image[living], expected[living])
    assert np.abs(frame.image[~living].astype(int) - expected[~living]).max() <= 1, "they counted nothing"
    notes = " ".join(source.notes)
    assert "2 pictures before the first one of its shutter were left out" in notes
    assert "it has no frame of the camera's start that tells which pixels are dead" in notes


@pytest.mark.parametrize("query", ["start=0.12", "start=0.12&profile=seek"])
def test_the_beginning_of_a_seek_recording_is_left_out_but_its_shutter_counts(tmp_path: Path, query: str) -> None:
    camera = SeekCamera("seek")
    frames = (camera.start(), camera.shutter(), *(camera.picture(number) for number in range(4)))
    source = opened(f"{camera.record(tmp_path / 'c.mkv', *frames)}?{query}")
    played = read_all(source)
    living = is_living(camera)
    assert len(played) == 2
    assert np.array_equal(played[0].image[living], (0x4000 + camera.scene(2))[living])
    assert source.drops == {"corrupt": 0}


def test_a_seek_recording_without_a_shutter_is_refused(tmp_path: Path) -> None:
    camera = SeekCamera("seek")
    clip = camera.record(tmp_path / "c.mkv", camera.picture(0), camera.picture(1))
    with pytest.raises(CaptureError, match=r"it holds 2 frames, none of which is a picture after one of the shutter"):
        opened(clip)
    assert opened(f"{clip}?profile=y16").info.size_px == (208, 156)
    with pytest.raises(ConfigError, match=r"its frames are 208x156 gray16le; the profile seek-pro has 342x260 in Y16"):
        opened(f"{clip}?profile=seek-pro")


def test_counts_of_the_size_of_a_seek_camera_are_counts(tmp_path: Path) -> None:
    counts = np.random.default_rng(1).integers(2000, 9000, (156, 208), dtype=np.uint16)
    write_clip(tmp_path / "c.mkv", [counts] * 2, codec="ffv1", pix_fmt="gray16le", source_format="gray16le")
    source = opened(tmp_path / "c.mkv")
    assert np.array_equal(read_all(source)[0].image, counts)
    assert source.notes == ()


def test_a_picture_of_the_start_that_tells_nothing_is_not_believed(tmp_path: Path) -> None:
    camera = SeekCamera("seek")
    for start in (np.zeros_like(camera.pattern), camera.around(100)):
        frames = (camera.frame(START, start), camera.shutter(), camera.picture(0))
        source = opened(camera.record(tmp_path / "c.mkv", *frames))
        living = is_living(camera)
        assert np.array_equal(read_all(source)[0].image[living], (0x4000 + camera.scene(0))[living])
        assert any("it has no frame of the camera's start" in note for note in source.notes)


def test_frames_and_nothing_else(tmp_path: Path) -> None:
    camera = SeekCamera("seek")
    frames = [camera.start(), camera.shutter(), camera.picture(0), camera.picture(1)]
    data = b"".join(frame.astype("<u2").tobytes() for frame in frames)
    (tmp_path / "dump.raw").write_bytes(data)
    source = open_source(f"{tmp_path}/dump.raw?profile=seek&fps=9", band=Band.THERMAL, loop=2, shutter="off")
    played = read_all(source)
    assert [round(frame.timestamp_ns * 9 / 1e9) for frame in played] == [2, 3, 5, 6, 7], "of the second round all"
    living = is_living(camera)
    for number, frame in zip((0, 1), played, strict=False):
        assert np.array_equal(frame.image[living], (0x4000 + camera.scene(number))[living])
    assert source.info.rate_hz == 9
    (tmp_path / "cut.bin").write_bytes(data[:-1000])
    source = opened(f"{tmp_path}/cut.bin?profile=seek")
    assert len(read_all(source)) == 1
    assert source.drops == {"corrupt": 1, "no_picture": 2}
    assert any("25 frames a second are assumed; ?fps= says another rate" in note for note in source.notes)


@pytest.mark.parametrize(("profile", "kelvin_per_count"), [("p2pro", 1 / 64), ("lepton", 0.01)])
def test_frames_and_nothing_else_of_other_cameras(tmp_path: Path, profile: str, kelvin_per_count: float) -> None:
    name, size_px = BUFFERS[profile]
    (tmp_path / "dump.raw").write_bytes(stored(name) * 3)
    words = as_words(stored(name), size_px=size_px, stride_bytes=2 * size_px[0])
    frames = read_all(opened(f"{tmp_path}/dump.raw?profile={profile}&fps=25"))
    assert [frame.kelvin_per_count for frame in frames] == [kelvin_per_count] * 3
    assert np.array_equal(frames[2].image, CountsDecoder(PROFILES[profile], size_px)(words).image)
