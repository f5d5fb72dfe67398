"""Recordings as people have them: what their headers say is held against what they hold, and users may put them right."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from rtfusion.capture import Source, open_pair, open_source
from rtfusion.errors import CaptureError, ConfigError, StreamLost
from rtfusion.types import Band, Frame, PixelFormat
from tests.capture.clips import patterns, read_all, write_clip

MS = 1_000_000
NO_SCENE_CUTS = {"bf": "0", "x264-params": "scenecut=0"}


def numbered(count: int, *, first: int = 0, size_px: tuple[int, int] = (64, 48)) -> list[np.ndarray]:
    """Pictures that carry their own number: eight stripes are its bits."""
    width, height = size_px
    images = []
    for number in range(first, first + count):
        bits = np.array([200 if number >> bit & 1 else 40 for bit in range(8)], np.uint8)
        images.append(np.repeat(np.tile(np.repeat(bits, width // 8), (height, 1))[..., None], 3, axis=2))
    return images


def numbers(frames: Sequence[Frame]) -> list[int]:
    found = []
    for frame in frames:
        stripe_px = frame.width_px // 8
        bright = [frame.image[:, bit * stripe_px + 2 : (bit + 1) * stripe_px - 2].mean() > 120 for bit in range(8)]
        found.append(sum(1 << bit for bit, on in enumerate(bright) if on))
    return found


def opened(path: object, band: Band = Band.VISIBLE) -> Source:
    return open_source(str(path), band=band, shutter="off")


def packets(path: Path) -> list[tuple[av.Packet, Fraction]]:
    with av.open(str(path)) as container:
        return [(packet, packet.time_base) for packet in container.demux(video=0) if packet.dts is not None]


def joined_tracks(target: Path, *sources: Path, titles: Sequence[str] = ()) -> Path:
    """One file with the first track of each source as it is."""
    with av.open(str(target), "w") as out:
        opened = [av.open(str(source)) for source in sources]
        copies = [out.add_stream_from_template(one.streams.video[0]) for one in opened]
        for copy, title in zip(copies, titles, strict=False):
            copy.metadata["title"] = title
        for one, copy in zip(opened, copies, strict=True):
            for packet in one.demux(video=0):
                if packet.dts is not None:
                    packet.stream = copy
                    out.mux(packet)
            one.close()
    return target


# -- whole or cut off ---------------------------------------------------------------------------------------------------


def test_an_avi_with_empty_chunks_is_whole(tmp_path: Path) -> None:
    kept = [index for index in range(60) if index % 3 != 1]
    path = write_clip(
        tmp_path / "c.avi",
        patterns(len(kept)),
        codec="mjpeg",
        pix_fmt="yuvj420p",
        stamps=kept,
        options={"b": "4000000"},
    )
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 60
    source = opened(path)
    assert [round(frame.timestamp_ns * 30 / 1e9) for frame in read_all(source)] == kept
    assert (source.info.rate_hz, source.notes) == (30.0, ())


def test_a_long_last_frame_belongs_to_the_recording(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "c.mp4", patterns(10))
    with av.open(str(path)) as source, av.open(str(tmp_path / "long.mp4"), "w") as target:
        copy = target.add_stream_from_template(source.streams.video[0])
        waiting = [packet for packet in source.demux(video=0) if packet.dts is not None]
        waiting[-1].duration = round(5 / waiting[-1].time_base)
        for packet in waiting:
            packet.stream = copy
            target.mux(packet)
    assert len(read_all(opened(tmp_path / "long.mp4"))) == 10


def test_what_a_copy_without_encoding_left_out_is_not_missing(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "c.mp4", numbered(60), gop=30, options=NO_SCENE_CUTS)
    with av.open(str(path)) as source, av.open(str(tmp_path / "trimmed.mp4"), "w") as target:
        copy = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None and packet.pts is not None:
                shift = round(
                    Fraction(40, 30) / packet.time_base
                )  # begins between two key frames: an edit list hides the rest
                if packet.pts * packet.time_base >= 1:
                    packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                    packet.stream = copy
                    target.mux(packet)
    frames = read_all(opened(tmp_path / "trimmed.mp4"))
    assert numbers(frames)[-1] == 59
    assert len(frames) in (20, 30)


def test_a_file_without_its_second_half_is_told(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (48, 64, 3), dtype=np.uint8) for _ in range(60)]
    path = write_clip(tmp_path / "c.avi", images, codec="mjpeg", pix_fmt="yuvj420p", options={"b": "4000000"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(StreamLost, match="cut off or damaged"):
        read_all(opened(path))


def test_a_stream_that_begins_between_key_frames_keeps_its_times(tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "whole.ts", numbered(60), gop=40, options=NO_SCENE_CUTS)
    with av.open(str(whole)) as container:
        places = [packet.pos for packet in container.demux(video=0) if packet.pos is not None]
    (tmp_path / "cut.ts").write_bytes(whole.read_bytes()[places[10] :])
    source = opened(tmp_path / "cut.ts")
    frames = read_all(source)
    assert numbers(frames) == list(range(40, 60))
    assert [round(frame.timestamp_ns * 30 / 1e9) for frame in frames] == list(range(30, 50))
    assert [frame.sequence for frame in frames] == list(range(30, 50))
    assert source.drops == {"corrupt": 0, "no_key_frame": 30}
    assert "30 frames before its first key frame could not be decoded" in source.notes[0]


def test_a_second_recording_behind_the_first_is_told(tmp_path: Path) -> None:
    parts = [write_clip(tmp_path / f"{name}.mp4", patterns(12)).read_bytes() for name in "ab"]
    (tmp_path / "joined.mp4").write_bytes(b"".join(parts))
    source = opened(tmp_path / "joined.mp4")
    assert len(read_all(source)) == 12
    assert f"behind it lie {len(parts[1])} bytes of another recording" in source.notes[0]


def test_a_file_that_was_cut_off_before_its_index_says_so(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "c.mp4", numbered(60))
    whole = path.read_bytes()
    for share in (0.2, 0.5, 0.8):
        path.write_bytes(whole[: round(share * len(whole))])
        with pytest.raises(CaptureError, match="an MP4 file without its index"):
            opened(path)


def test_recordings_of_software_that_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "c.seq").write_bytes(b"FFF\0" + bytes(5000))
    with pytest.raises(CaptureError, match="export them as 16-bit TIFF"):
        opened(tmp_path / "c.seq")


# -- rates and stamps ---------------------------------------------------------------------------------------------------


def test_the_rate_is_that_of_the_stamps(tmp_path: Path) -> None:
    stamps = [round(index * 1000 / 15) for index in range(30)]
    path = write_clip(
        tmp_path / "c.webm",
        patterns(30),
        codec="libvpx",
        stamps=stamps,
        time_base=Fraction(1, 1000),
        options={"deadline": "realtime"},
    )
    source = opened(path)
    assert source.info.rate_hz == pytest.approx(15, rel=0.01)
    assert [frame.timestamp_ns // MS for frame in read_all(source)] == stamps


def test_pictures_alone_tell_no_times(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "c.mjpeg", patterns(6), codec="mjpeg", pix_fmt="yuvj420p", options={"b": "4000000"})
    source = opened(path)
    assert len(read_all(source)) == 6
    assert source.notes == (
        f"{path}: the file tells no times; 25 frames a second are assumed; ?fps= says another rate",
    )
    assert opened(f"{path}?fps=9").notes == ()


def test_a_user_may_say_the_rate(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "c.mp4", patterns(10))
    source = opened(f"{path}?fps=10")
    assert source.info.rate_hz == 10
    assert source.info.duration_s == pytest.approx(1.0)
    assert [frame.timestamp_ns // MS for frame in read_all(source)] == [100 * index for index in range(10)]
    looped = open_source(f"{path}?fps=10", band=Band.VISIBLE, loop=2)
    assert [frame.timestamp_ns // MS for frame in read_all(looped)] == [100 * index for index in range(20)]


def test_joined_transport_streams_go_on(tmp_path: Path) -> None:
    parts = [write_clip(tmp_path / f"{name}.ts", patterns(12), gop=6).read_bytes() for name in "ab"]
    (tmp_path / "joined.ts").write_bytes(b"".join(parts))
    source = opened(tmp_path / "joined.ts")
    frames = read_all(source)
    assert (
        [round(frame.timestamp_ns * 30 / 1e9) for frame in frames]
        == [frame.sequence for frame in frames]
        == [*range(24)]
    )
    assert source.drops == {"corrupt": 0}
    (note,) = source.notes
    assert "its stamps begin again once, as where recordings were joined" in note


def test_a_picture_that_lost_a_packet_is_damaged(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (48, 64, 3), dtype=np.uint8) for _ in range(12)]
    whole = write_clip(tmp_path / "whole.ts", images, options={"bf": "0", "x264-params": "keyint=1"})
    with av.open(str(whole)) as container:
        at = [packet.pos for packet in container.demux(video=0) if packet.pos is not None][5]
    pictures = {frame.timestamp_ns: frame.image for frame in read_all(opened(whole))}
    data = whole.read_bytes()
    for place in range(at, at + 25 * 188, 188):
        (tmp_path / "lossy.ts").write_bytes(data[:place] + data[place + 188 :])
        source = opened(tmp_path / "lossy.ts")
        frames = read_all(source)
        assert 10 <= len(frames) <= 12
        assert all(np.array_equal(frame.image, pictures[frame.timestamp_ns]) for frame in frames)


def test_the_beginning_can_be_left_out(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "c.mp4", numbered(60))
    for loop in (1, 2):
        source = open_source(f"{path}?start=1.5", band=Band.VISIBLE, loop=loop)
        frames = read_all(source)
        assert numbers(frames) == list(range(45, 60)) * loop
        assert [round(frame.timestamp_ns * 30 / 1e9) for frame in frames] == list(range(15 * loop))
    with pytest.raises(CaptureError, match="it has no frame from start=5 s on"):
        opened(f"{path}?start=0:05")


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [("c.mp4", "libx264", {"bf": "2"}), ("c.mkv", "libx264", {}), ("c.avi", "mpeg4", {}), ("c.ts", "libx264", {})],
)
def test_a_long_beginning_is_left_out_to_the_frame(
    tmp_path: Path, name: str, codec: str, options: dict[str, str]
) -> None:
    path = write_clip(tmp_path / name, numbered(240), codec=codec, gop=24, options=options)
    for start_s in (5.0, 5.01, 7.9):
        source = opened(f"{path}?start={start_s}")
        frames = read_all(source)
        assert numbers(frames) == [number for number in range(240) if number / 30 >= start_s - 1e-6]
        assert [round(frame.timestamp_ns * 30 / 1e9, 2) for frame in frames] == pytest.approx(
            [number - start_s * 30 for number in numbers(frames)], abs=0.05
        )
        assert source.notes == ()


# -- tracks -------------------------------------------------------------------------------------------------------------


def test_the_largest_track_is_the_recording(tmp_path: Path) -> None:
    preview = write_clip(tmp_path / "p.mp4", patterns(1, width=32, height=24), options={"crf": "30"})
    path = joined_tracks(tmp_path / "both.mov", preview, write_clip(tmp_path / "v.mp4", patterns(5)))
    source = opened(path)
    assert source.info.size_px == (64, 48)
    assert len(read_all(source)) == 5
    assert "stream=0 (32x24 h264" in source.notes[0]
    assert source.notes[0].endswith("stream=1 is read")


def test_two_tracks_are_two_sources(tmp_path: Path) -> None:
    visible = write_clip(tmp_path / "v.mp4", numbered(5))
    thermal = write_clip(tmp_path / "t.mp4", numbered(5, first=20))
    path = joined_tracks(tmp_path / "both.mkv", visible, thermal)
    first, second = open_pair(visible=f"{path}?stream=0", thermal=f"{path}?stream=1", shutter="off")
    assert (numbers(read_all(first)), numbers(read_all(second))) == ([*range(5)], [*range(20, 25)])
    assert first.notes == second.notes == ()
    with pytest.raises(ConfigError, match=r"it holds stream=0 \(64x48 h264\), stream=1 \(64x48 h264\)"):
        open_pair(visible=str(path), thermal=str(path))
    with pytest.raises(ConfigError, match="no video track 2; it holds stream=0"):
        opened(f"{path}?stream=2")
    with pytest.raises(ConfigError, match="no track, or several, named after thermal"):
        opened(f"{path}?stream=thermal")


def test_a_track_is_known_by_its_name(tmp_path: Path) -> None:
    visible = write_clip(tmp_path / "v.mp4", numbered(5))
    thermal = write_clip(tmp_path / "t.mp4", numbered(5, first=20))
    path = joined_tracks(tmp_path / "both.mkv", visible, thermal, titles=("RGB camera", "Thermal camera"))
    assert numbers(read_all(opened(f"{path}?stream=visible"))) == [*range(5)]
    assert numbers(read_all(opened(path, Band.THERMAL))) == [*range(20, 25)]


# -- levels and sizes ---------------------------------------------------------------------------------------------------


def test_a_range_that_is_not_said_and_not_kept_is_told(tmp_path: Path) -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint8), (64, 1))
    planes = np.vstack([ramp, np.full((32, 256), 128, np.uint8)])
    path = write_clip(tmp_path / "c.mp4", [planes], source_format="yuv420p", options={"crf": "0"})
    source = opened(path, Band.THERMAL)
    read_all(source)
    assert "taken for video range" in source.notes[0]
    full = opened(f"{path}?range=full", Band.THERMAL)
    assert np.array_equal(read_all(full)[0].image, ramp)
    assert full.notes == ()
    limited = opened(f"{path}?range=limited", Band.THERMAL)
    assert read_all(limited)[0].image.max() == 255
    assert limited.notes == ()


def test_pixels_that_are_not_square_and_frames_that_are_interlaced_are_told(tmp_path: Path) -> None:
    path = tmp_path / "c.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg2video", rate=25, options={"flags": "+ildct+ilme"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        for index, image in enumerate(patterns(4)):
            frame = av.VideoFrame.from_ndarray(image, format="bgr24").reformat(format="yuv420p")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    source = opened(path)
    read_all(source)
    assert any("its pixels are not square (4/3)" in note for note in source.notes)
    with av.open(str(path)) as container:
        is_marked = next(container.decode(video=0)).interlaced_frame
    assert any("interlaced" in note for note in source.notes) == is_marked


def test_twelve_bits_in_sixteen(tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(0, 4095, 64), (48, 1)).astype(np.uint16)
    path = write_clip(tmp_path / "c.mkv", [ramp] * 2, codec="ffv1", pix_fmt="gray16le", source_format="gray16le")
    source = opened(path)
    frames = read_all(source)
    assert frames[0].pixel_format is PixelFormat.GRAY8
    assert (frames[0].image.min(), frames[0].image.max()) == (0, 255)
    assert "taken for 12 bits; ?bits=16 takes them as stored" in source.notes[0]
    assert read_all(opened(f"{path}?bits=16"))[0].image.max() == 16
    assert read_all(opened(f"{path}?bits=14"))[0].image.max() == 64
    assert read_all(opened(path, Band.THERMAL))[0].image.max() == 4095


def test_another_size_of_the_same_view_is_scaled(tmp_path: Path) -> None:
    first = write_clip(tmp_path / "a.ts", numbered(10))
    second = write_clip(tmp_path / "b.ts", numbered(10, first=10, size_px=(128, 96)))
    (tmp_path / "c.ts").write_bytes(first.read_bytes() + second.read_bytes())
    source = opened(tmp_path / "c.ts")
    frames = read_all(source)
    assert {frame.size_px for frame in frames} == {(64, 48)}
    assert numbers(frames)[-1] == 19
    assert "frames are 128x96 instead of 64x48; they are scaled" in source.notes[0]


def test_another_view_is_left_out(tmp_path: Path) -> None:
    first = write_clip(tmp_path / "a.ts", numbered(10))
    second = write_clip(tmp_path / "b.ts", numbered(10, first=10, size_px=(128, 48)))
    (tmp_path / "c.ts").write_bytes(first.read_bytes() + second.read_bytes())
    source = opened(tmp_path / "c.ts")
    assert len(read_all(source)) <= 10
    assert source.drops["size"] == 10
    assert "another view, and they are left out" in source.notes[0]


@pytest.mark.parametrize("query", ["fps=0", "stream=x", "range=half", "bits=7", "bits=20", "start=-1", "start=1:2:3:4"])
def test_values_that_are_none(tmp_path: Path, query: str) -> None:
    path = write_clip(tmp_path / "c.mp4", patterns(2))
    with pytest.raises(ConfigError, match="expected"):
        opened(f"{path}?{query}")
