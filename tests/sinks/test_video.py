from __future__ import annotations

import contextlib
import io
import itertools
import logging
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from rtfusion.clock import NS_PER_S
from rtfusion.errors import SinkError
from rtfusion.sinks import open_sink
from rtfusion.sinks.video import _mp4_flags, _x264

SECOND_NS = 1_000_000_000
BARS_BGR = [
    (0, 0, 255),
    (0, 255, 0),
    (255, 0, 0),
    (255, 255, 255),
    (0, 0, 0),
    (128, 128, 128),
    (30, 90, 200),
    (200, 60, 9),
]


def decoded(path: Path) -> list[av.VideoFrame]:
    with av.open(path) as container:
        return list(container.decode(video=0))


def times_s(path: Path) -> list[float]:
    return [float(frame.pts * frame.time_base) for frame in decoded(path)]


def top_boxes(path: Path) -> list[bytes]:
    """The names of the outermost boxes of an MP4 file."""
    data, at, names = path.read_bytes(), 0, []
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        names.append(data[at + 4 : at + 8])
        at += size
    return names


def bars(width_px: int, height_px: int) -> np.ndarray:
    image = np.zeros((height_px, width_px, 3), np.uint8)
    step = width_px // len(BARS_BGR)
    for index, color in enumerate(BARS_BGR):
        image[:, index * step :] = color
    return image


@pytest.mark.parametrize(
    "target", ["out.mp4", "out.mov", "out.mkv", "out.avi", "out.mkv?codec=ffv1", "out.avi?codec=ffv1"]
)
def test_every_frame_arrives(target, tmp_path, make_context, make_frame):
    sink = open_sink(f"video:{tmp_path / target}", context=make_context())
    for sequence in range(50):
        sink.write(make_frame(sequence))
    sink.close(aborted=False)
    sink.close(aborted=False)
    frames = decoded(tmp_path / target.partition("?")[0])
    assert len(frames) == 50
    assert {(frame.width, frame.height) for frame in frames} == {(64, 48)}


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv"])
def test_times_are_those_of_the_frames(name, tmp_path, make_context, make_frame):
    stamps_ms = [5000, 5010, 5050, 5051, 5400, 6400, 7000, 11000]
    sink = open_sink(str(tmp_path / name), context=make_context())
    for sequence, stamp_ms in enumerate(stamps_ms):
        sink.write(make_frame(sequence, timestamp_ns=stamp_ms * 1_000_000))
    sink.close(aborted=False)
    expected_s = [(stamp_ms - 5000) / 1000 for stamp_ms in stamps_ms]
    assert times_s(tmp_path / name) == pytest.approx(expected_s, abs=1e-5)


def test_constant_rate_stays_constant_and_the_last_frame_lasts(tmp_path, make_context, make_frame):
    sink = open_sink(str(tmp_path / "out.mp4"), context=make_context(rate_hz=30000 / 1001))
    for sequence in range(60):
        sink.write(make_frame(sequence, timestamp_ns=sequence * SECOND_NS * 1001 // 30000))
    sink.close(aborted=False)
    with av.open(tmp_path / "out.mp4") as container:
        stream = container.streams.video[0]
        assert stream.frames == 60
        assert stream.average_rate == Fraction(30000, 1001)
        assert stream.duration * stream.time_base == Fraction(60 * 1001, 30000)


def test_equal_stamps_still_increase(tmp_path, make_context, make_frame):
    sink = open_sink(str(tmp_path / "out.mp4"), context=make_context())
    for sequence in range(5):
        sink.write(make_frame(sequence, timestamp_ns=7))
    sink.close(aborted=False)
    stamps_s = times_s(tmp_path / "out.mp4")
    assert len(stamps_s) == 5
    assert all(before < after for before, after in itertools.pairwise(stamps_s))


def test_a_key_frame_every_second_whatever_the_rate(tmp_path, make_context, make_frame):
    sink = open_sink(str(tmp_path / "out.mp4"), context=make_context(rate_hz=25))
    still = make_frame(0).image
    for sequence in range(45):
        sink.write(make_frame(sequence, image=still, timestamp_ns=sequence * SECOND_NS // 9))
    sink.close(aborted=False)
    keys_s = [float(frame.pts * frame.time_base) for frame in decoded(tmp_path / "out.mp4") if frame.key_frame]
    assert keys_s == [0, 1, 2, 3, 4]


def test_a_finished_mp4_is_an_ordinary_one(tmp_path, make_context, make_frame):
    sink = open_sink(str(tmp_path / "out.mp4"), context=make_context())
    for sequence in range(100):
        sink.write(make_frame(sequence))
    sink.close(aborted=False)
    boxes = top_boxes(tmp_path / "out.mp4")
    assert boxes.count(b"moov") == boxes.count(b"mdat") == 1
    assert b"moof" not in boxes


def test_ffv1_is_exact(tmp_path, make_context, make_frame):
    frames = [make_frame(sequence, size_px=(63, 47)) for sequence in range(3)]
    sink = open_sink(f"video:{tmp_path}/out.mkv?codec=ffv1", context=make_context())
    for frame in frames:
        sink.write(frame)
    sink.close(aborted=False)
    for frame, found in zip(frames, decoded(tmp_path / "out.mkv"), strict=True):
        np.testing.assert_array_equal(found.to_ndarray(format="bgr24"), frame.image)


def test_equal_frames_become_equal_bytes():
    """With B frames, which are off in a sink, the encoder's look ahead shows at once what else it shows in one of 2,000."""
    images = np.random.default_rng(0).integers(0, 256, (5, 48, 64, 3), dtype=np.uint8) // 2 + 64

    def encode() -> bytes:
        file = io.BytesIO()
        with av.open(file, "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=25, width=64, height=48, options=_x264({}))
            stream.codec_context.thread_count = 1
            for image in images:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
            container.mux(stream.encode(None))
        return file.getvalue()

    assert len({encode() for _ in range(60)}) == 1


def test_a_second_of_a_joinable_video_does_not_depend_on_what_is_before_and_after_it(
    tmp_path, make_context, make_frame
):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (48, 64, 3), dtype=np.uint8) // (1 + index % 3) for index in range(32)]
    for name, sequences in (("whole", range(32)), ("second", range(10, 20))):
        sink = open_sink(f"video:{tmp_path}/{name}.mp4?joinable=true&threads=1", context=make_context())
        for sequence in sequences:
            sink.write(make_frame(sequence, image=images[sequence], timestamp_ns=sequence * NS_PER_S // 10))
        sink.close(aborted=False)
    whole, second = (decoded(tmp_path / f"{name}.mp4") for name in ("whole", "second"))
    for one, other in zip(whole[10:20], second, strict=True):
        np.testing.assert_array_equal(one.to_ndarray(format="bgr24"), other.to_ndarray(format="bgr24"))


@pytest.mark.parametrize("size_px", [(640, 480), (1280, 720)])
def test_colors_come_back(size_px, tmp_path, make_context, make_frame):
    image = bars(*size_px)
    sink = open_sink(str(tmp_path / "out.mp4"), context=make_context())
    for sequence in range(3):
        sink.write(make_frame(sequence, image=image))
    sink.close(aborted=False)
    first = decoded(tmp_path / "out.mp4")[0]
    assert (first.colorspace, first.color_range) == (6, 1)  # BT.601, 16 to 235
    read, by_opencv = cv2.VideoCapture(str(tmp_path / "out.mp4")).read()
    assert read
    step = size_px[0] // len(BARS_BGR)
    for found in (first.to_ndarray(format="bgr24"), by_opencv):
        middles = found[size_px[1] // 2, step // 2 :: step]
        np.testing.assert_allclose(middles.astype(int), BARS_BGR, atol=3)


def test_odd_sizes_repeat_the_edge_and_say_so_once(tmp_path, make_context, make_frame, caplog):
    image = np.full((47, 63, 3), 40, np.uint8)
    image[:, -1] = image[-1] = 200
    sink = open_sink(str(tmp_path / "out.mp4"), context=make_context())
    with caplog.at_level(logging.WARNING):
        for sequence in range(3):
            sink.write(make_frame(sequence, image=image))
    sink.close(aborted=False)
    found = decoded(tmp_path / "out.mp4")[0].to_ndarray(format="bgr24")
    assert found.shape == (48, 64, 3)
    assert found[:, -1].min() > 180
    assert found[-1].min() > 180
    assert found[:44, :60].max() < 60
    assert [record.message for record in caplog.records] == [
        f"{tmp_path}/out.mp4: H.264 holds even sizes only; 63x47 is padded to 64x48 by repeating its last column or row"
    ]


def test_size_change_ends_the_file_and_keeps_it(tmp_path, make_context, make_frame):
    sink = open_sink(str(tmp_path / "out.mp4"), context=make_context())
    for sequence in range(5):
        sink.write(make_frame(sequence))
    with pytest.raises(SinkError, match=r"changed from 64x48 to 48x64 in mid-run"):
        sink.write(make_frame(5, size_px=(48, 64)))
    sink.close(aborted=True)
    assert len(decoded(tmp_path / "out.mp4")) == 5


def test_a_size_the_encoder_cannot_do_leaves_no_file(tmp_path, make_context, make_frame):
    sink = open_sink(f"video:{tmp_path}/out.mkv?codec=ffv1", context=make_context())
    with pytest.raises(SinkError, match="the ffv1 encoder failed"):
        sink.write(make_frame(0, size_px=(1, 1)))
    with pytest.raises(SinkError):
        sink.close(aborted=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("aborted", [True, False])
def test_without_a_frame_there_is_no_file(aborted, tmp_path, make_context):
    open_sink(str(tmp_path / "out.mp4"), context=make_context()).close(aborted=aborted)
    assert list(tmp_path.iterdir()) == []


def test_overwriting_leaves_nothing_of_the_earlier_file(tmp_path, make_context, make_frame):
    path = tmp_path / "out.mp4"
    path.write_bytes(b"x" * 1_000_000)
    sink = open_sink(str(path), context=make_context(overwrite=True))
    for sequence in range(3):
        sink.write(make_frame(sequence))
    sink.close(aborted=False)
    assert len(decoded(path)) == 3
    assert b"xxxx" not in path.read_bytes()


def test_read_only_and_sliced_images_are_taken(tmp_path, make_context, make_frame):
    image = make_frame(0, size_px=(128, 96)).image[::2, ::2]
    image.flags.writeable = False
    sink = open_sink(f"video:{tmp_path}/out.mkv?codec=ffv1", context=make_context())
    sink.write(make_frame(0, image=image))
    sink.close(aborted=False)
    np.testing.assert_array_equal(decoded(tmp_path / "out.mkv")[0].to_ndarray(format="bgr24"), image)


def test_old_ffmpeg_gives_fragments_and_says_so(caplog):
    assert "hybrid_fragmented" in _mp4_flags((61, 7, 100))
    assert caplog.records == []
    assert "empty_moov" in _mp4_flags((61, 1, 100))
    assert "older than 7.1" in caplog.text


WRITER = """
import resource, sys
import numpy as np
from rtfusion.errors import SinkError
from rtfusion.sinks import SinkContext, open_sink
from rtfusion.types import FusedFrame

def frame(sequence):
    image = np.roll(noise, sequence, axis=1).copy()
    return FusedFrame(image=image, visible=image, thermal=image[:, :, 0], timestamp_ns=sequence * 1_000_000_000 // 30,
                      thermal_timestamp_ns=0, received_ns=0, sequence=sequence, fuser="pyramid")

path, frames, limit = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
sink = open_sink(path, context=SinkContext(rate_hz=30.0, live=False, session="run",
                                          overwrite="overwrite" in sys.argv))
failed, taken = None, 0
try:
    for sequence in range(frames):
        sink.write(frame(sequence))
        taken += 1
    if not limit:
        print("written", flush=True)
        sys.stdin.read()
except SinkError as error:
    failed = f"write: {error}"
try:
    sink.close(aborted=failed is not None)
except SinkError as error:
    failed = f"{failed} close: {error}"
print(failed, flush=True)
print(taken - sink.lost, file=sys.stderr)
"""


@pytest.mark.parametrize("frames", [0, 1, 5, 20])
@pytest.mark.parametrize("name", ["out.mp4", "out.mkv", "out.mov", "out.avi"])
def test_what_is_killed_in_its_first_second_plays_or_is_not_there(name, frames, tmp_path, child_environment):
    arguments = [sys.executable, "-c", WRITER, str(tmp_path / name), str(frames), "0"]
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=child_environment, text=True
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "written\n"
        writer.kill()
    left = list(tmp_path.iterdir())
    assert left in ([], [tmp_path / name])
    for path in left:
        with av.open(path) as container:
            assert next(container.decode(video=0), None) is not None


def test_an_earlier_file_stays_until_the_new_one_plays(tmp_path, make_context, make_frame):
    path = tmp_path / "out.mp4"
    path.write_bytes(b"earlier")
    sink = open_sink(str(path), context=make_context(overwrite=True))
    sink.write(make_frame(0))
    assert path.read_bytes() == b"earlier"
    for number in range(1, 60):
        sink.write(make_frame(number))
    assert path.read_bytes() != b"earlier"
    sink.close(aborted=False)
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def test_of_two_runs_with_one_name_the_second_does_not_replace_the_first(tmp_path, make_context, make_frame):
    path = tmp_path / "out.mkv"
    first, second = (open_sink(str(path), context=make_context()) for _ in range(2))
    for number in range(40):
        first.write(make_frame(number))
    size_bytes = path.stat().st_size
    with pytest.raises(SinkError, match="File exists"):
        for number in range(40):
            second.write(make_frame(number))
    with contextlib.suppress(SinkError):
        second.close(aborted=True)
    assert path.stat().st_size == size_bytes
    first.close(aborted=False)


@pytest.mark.parametrize(("name", "lost"), [("out.mp4", 60), ("out.mkv", 15), ("out.mov", 60), ("out.avi", 15)])
def test_a_killed_run_leaves_a_file_that_plays(name, lost, tmp_path, child_environment):
    arguments = [sys.executable, "-c", WRITER, str(tmp_path / name), "200", "0"]
    with subprocess.Popen(arguments, env=child_environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout.readline() == b"written\n"
        writer.send_signal(signal.SIGKILL)
    assert writer.returncode == -signal.SIGKILL
    frames = decoded(tmp_path / name)
    assert len(frames) >= 200 - lost


def full_disk(
    path: Path,
    *,
    frames: int = 100,
    limit: int,
    environment: dict[str, str],
    overwrite: bool = False,
    told: list[int] | None = None,
) -> str:
    """What the writer said; with ``told``, also how many frames the output says to be in the file."""
    done = subprocess.run(
        [sys.executable, "-c", WRITER, str(path), str(frames), str(limit), *(["overwrite"] if overwrite else [])],
        env=environment, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    if told is not None:
        told.append(int(done.stderr.split()[-1]))
    return done.stdout.strip()


@pytest.mark.parametrize("share", [0.3, 0.5, 0.77])
@pytest.mark.parametrize("name", ["out.mp4", "out.mkv", "out.mov", "out.avi"])
def test_what_a_full_disk_took_with_it_is_counted_as_lost(name, share, tmp_path, child_environment):
    whole, told = tmp_path / f"whole-{name}", []
    full_disk(whole, frames=160, limit=1 << 30, environment=child_environment, told=told)
    limit = int(whole.stat().st_size * share)
    full_disk(tmp_path / name, frames=160, limit=limit, environment=child_environment, told=told)
    assert told == [160, pytest.approx(len(decoded(tmp_path / name)), abs=1)]


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv", "out.avi"])
def test_full_disk_in_mid_run_is_reported_and_what_is_there_plays(name, tmp_path, child_environment):
    whole = tmp_path / f"whole-{name}"
    assert full_disk(whole, frames=160, limit=1 << 30, environment=child_environment) == "None"
    said = full_disk(tmp_path / name, frames=160, limit=whole.stat().st_size // 2, environment=child_environment)
    assert said.startswith(f"write: {tmp_path / name}: File too large after 0.")
    assert "kept and plays" in said
    assert "close" not in said
    assert 60 <= len(decoded(tmp_path / name)) < 120


@pytest.mark.parametrize("missing_bytes", [1, 400, 1200])
def test_no_room_for_the_index_of_an_mp4_costs_a_second_and_not_the_file(missing_bytes, tmp_path, child_environment):
    whole = tmp_path / "whole.mp4"
    assert full_disk(whole, limit=1 << 30, environment=child_environment) == "None"
    limit = whole.stat().st_size - missing_bytes
    said = full_disk(tmp_path / "out.mp4", limit=limit, environment=child_environment)
    assert said.startswith(f"None close: {tmp_path / 'out.mp4'}: File too large")
    assert len(decoded(tmp_path / "out.mp4")) == 90


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv"])
def test_a_file_that_holds_no_picture_is_removed(name, tmp_path, child_environment):
    said = full_disk(tmp_path / name, limit=700, environment=child_environment)
    assert "File too large after 0.0 MB" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv"])
def test_a_file_that_holds_no_picture_replaces_no_earlier_one(name, tmp_path, child_environment):
    path = tmp_path / name
    path.write_bytes(b"earlier")
    said = full_disk(path, limit=700, environment=child_environment, overwrite=True)
    assert "File too large after 0.0 MB" in said
    assert path.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.shared
def test_a_real_recording_keeps_its_frames_and_times(shared_data, tmp_path, make_context, make_frame):
    source = shared_data / "video" / "m3svd_0111_1716" / "vi.mp4"
    sink = open_sink(str(tmp_path / "out.mp4"), context=make_context())
    stamps_s = []
    for sequence, frame in enumerate(decoded(source)):
        stamps_s.append(float(frame.pts * frame.time_base))
        image = frame.to_ndarray(format="bgr24")
        sink.write(make_frame(sequence, image=image, timestamp_ns=round(stamps_s[-1] * SECOND_NS)))
    sink.close(aborted=False)
    assert len(stamps_s) == 151
    assert times_s(tmp_path / "out.mp4") == pytest.approx([stamp_s - stamps_s[0] for stamp_s in stamps_s], abs=1e-4)
