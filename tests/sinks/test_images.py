from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
import pytest

from rtfusion.errors import SinkError
from rtfusion.sinks import open_sink


def test_png_is_exact_and_named_by_sequence(tmp_path, make_context, make_frame):
    frames = [make_frame(sequence) for sequence in (0, 1, 7, 1_234_567)]
    sink = open_sink(f"images:{tmp_path}/frames", context=make_context())
    for frame in frames:
        sink.write(frame)
    sink.close(aborted=False)
    names = ["000000.png", "000001.png", "000007.png", "1234567.png"]
    assert sorted(path.name for path in (tmp_path / "frames").iterdir()) == names
    for frame, name in zip(frames, names, strict=True):
        np.testing.assert_array_equal(cv2.imread(str(tmp_path / "frames" / name)), frame.image)


def test_names_of_the_input_are_kept_and_sizes_may_differ(tmp_path, make_context, make_frame):
    sink = open_sink(f"images:{tmp_path}", context=make_context())
    sink.write(make_frame(0, name="FLIR_07210.r", size_px=(33, 20)))
    sink.write(make_frame(1, name="00001D", size_px=(64, 48)))
    sink.close(aborted=False)
    assert cv2.imread(str(tmp_path / "FLIR_07210.r.png")).shape == (20, 33, 3)
    assert cv2.imread(str(tmp_path / "00001D.png")).shape == (48, 64, 3)


def test_jpg_follows_the_quality(tmp_path, make_context, make_frame):
    sizes_bytes = []
    for quality in (30, 95):
        folder = tmp_path / str(quality)
        sink = open_sink(f"images:{folder}?format=jpg&quality={quality}", context=make_context())
        sink.write(make_frame(0))
        sink.close(aborted=False)
        sizes_bytes.append((folder / "000000.jpg").stat().st_size)
    assert sizes_bytes[0] < sizes_bytes[1]


def test_two_frames_of_one_name_are_an_error(tmp_path, make_context, make_frame):
    sink = open_sink(f"images:{tmp_path}", context=make_context())
    sink.write(make_frame(0, name="a"))
    with pytest.raises(SinkError, match="two frames are named 'a'"):
        sink.write(make_frame(1, name="a"))
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "a.png")), make_frame(0).image)


def test_a_name_cannot_lead_out_of_the_folder(tmp_path, make_context, make_frame):
    sink = open_sink(f"images:{tmp_path}/frames", context=make_context())
    with pytest.raises(SinkError, match="not a file name"):
        sink.write(make_frame(0, name="../a"))
    sink.close(aborted=True)
    assert list(tmp_path.iterdir()) == []


def test_overwriting_replaces_and_says_what_stays(tmp_path, make_context, make_frame, caplog):
    (tmp_path / "000000.png").write_bytes(b"old")
    (tmp_path / "000009.png").write_bytes(b"old")
    sink = open_sink(f"images:{tmp_path}", context=make_context(overwrite=True))
    assert "holds 2 images already" in caplog.text
    sink.write(make_frame(0))
    sink.close(aborted=False)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "000000.png")), make_frame(0).image)
    assert (tmp_path / "000009.png").read_bytes() == b"old"


def test_a_folder_with_other_files_is_taken(tmp_path, make_context, make_frame):
    (tmp_path / "notes.txt").write_text("keep")
    sink = open_sink(f"images:{tmp_path}", context=make_context())
    sink.write(make_frame(0))
    sink.close(aborted=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000.png", "notes.txt"]


def test_a_folder_that_goes_away_is_reported(tmp_path, make_context, make_frame):
    sink = open_sink(f"images:{tmp_path}/frames", context=make_context())
    (tmp_path / "frames").rmdir()
    with pytest.raises(SinkError, match=r"000000.png: No such file or directory"):
        sink.write(make_frame(0))
    sink.close(aborted=True)


FULL_DISK = """
import resource, sys
import numpy as np
from rtfusion.errors import SinkError
from rtfusion.sinks import SinkContext, open_sink
from rtfusion.types import FusedFrame

sink = open_sink(f"images:{sys.argv[1]}", context=SinkContext(rate_hz=30.0, live=False, session="run"))
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
for sequence, size in enumerate((10, 20, 200)):
    image = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    frame = FusedFrame(image=image, visible=image, thermal=image[:, :, 0], timestamp_ns=sequence,
                       thermal_timestamp_ns=0, received_ns=0, sequence=sequence, fuser="pyramid")
    try:
        sink.write(frame)
    except SinkError as error:
        print(error)
sink.close(aborted=True)
"""


def test_a_full_disk_is_reported_and_leaves_no_part_of_an_image(tmp_path, child_environment):
    folder = tmp_path / "frames"
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(folder)],
        env=child_environment, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.strip() == f"{folder}/000002.png: File too large; make room, or write elsewhere"
    assert sorted(path.name for path in folder.iterdir()) == ["000000.png", "000001.png"]
