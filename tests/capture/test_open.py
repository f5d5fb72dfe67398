"""Opening one source or a pair of them."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
from pathlib import Path
from pkgutil import resolve_name

import cv2
import numpy as np
import psutil
import pytest

from rtfusion import capture
from rtfusion.capture import Source, open_pair, open_source
from rtfusion.capture.uri import SCHEMES
from rtfusion.errors import CaptureError, CaptureTimeout, ConfigError, StreamLost
from rtfusion.types import Band, Frame, PixelFormat
from tests.capture.clips import patterns, read_all, write_clip
from tests.support import ScriptedSource, make_frame


def save_images(folder: Path, stems: list[str], *, suffix: str = "png", channels: int = 1) -> Path:
    folder.mkdir()
    for stem, image in zip(stems, patterns(len(stems), channels=channels), strict=True):
        cv2.imwrite(str(folder / f"{stem}.{suffix}"), image)
    return folder


def open_images(visible: str | Path, thermal: str | Path) -> tuple[Source, Source]:
    return open_pair(visible=str(visible), thermal=str(thermal), shutter="off")


def test_each_kind_of_source_is_opened(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", patterns(3))
    folder = save_images(tmp_path / "frames", ["a", "b"], channels=3)
    for uri, described, band, pixel_format in (
        (f"{clip}", "h264 yuv420p in mp4", Band.VISIBLE, PixelFormat.BGR8),
        (f"file:{clip}", "h264 yuv420p in mp4", Band.THERMAL, PixelFormat.GRAY8),
        (f"images:{folder}?fps=3", "2 images", Band.THERMAL, PixelFormat.GRAY8),
        (f"video:{folder}", "2 stills", Band.VISIBLE, PixelFormat.BGR8),
    ):
        source = open_source(uri, band=band, shutter="off")
        assert source.info.description == described
        assert (source.info.uri, source.info.band, source.info.pixel_format) == (uri, band, pixel_format)
        source.close()


def test_every_kind_of_source_has_an_opener_that_exists() -> None:
    assert all(callable(resolve_name(opener)) for opener in capture._OPENERS.values())
    assert {*SCHEMES, "network"} - {"file", "usb"} == set(
        capture._OPENERS
    )  # a file is a video, a USB camera a V4L2 one


def test_loop_must_be_a_count(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="loop is 0; expected 1 or more"):
        open_source("clip.mp4", band=Band.VISIBLE, loop=0)
    with pytest.raises(ConfigError, match="loop is -1"):
        open_pair(visible="a.mp4", thermal="b.mp4", loop=-1)


def test_a_camera_that_is_not_there() -> None:
    with pytest.raises(CaptureError, match=r"^/dev/video63: no such camera; `rtfusion devices` lists those"):
        open_source("/dev/video63", band=Band.THERMAL)


def test_two_videos_are_a_pair(tmp_path: Path) -> None:
    visible = write_clip(tmp_path / "visible.mp4", patterns(3))
    thermal = write_clip(tmp_path / "thermal.mp4", patterns(4))
    first, second = open_pair(visible=str(visible), thermal=str(thermal), loop=2)
    assert (first.info.band, second.info.band) == (Band.VISIBLE, Band.THERMAL)
    assert (len(read_all(first)), len(read_all(second))) == (6, 8)


def test_the_same_source_twice_is_refused(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", patterns(2))
    (tmp_path / "link.mp4").symlink_to(clip)
    folder = save_images(tmp_path / "frames", ["a"])
    (tmp_path / "cam").symlink_to("/dev/video63")
    for visible, thermal in (
        (f"{clip}", f"file:{clip}"),
        (f"{clip}", f"{tmp_path}/link.mp4"),
        (f"{folder}", f"images:{folder}/?fps=3"),
        (f"v4l2:{tmp_path}/cam", "/dev/video63"),
    ):
        with pytest.raises(ConfigError, match="visible and thermal are the same source"):
            open_pair(visible=visible, thermal=thermal)


def test_the_synthetic_scene_may_be_both() -> None:
    visible, thermal = open_pair(visible="synthetic:", thermal="synthetic:")
    assert (visible.info.band, thermal.info.band) == (Band.VISIBLE, Band.THERMAL)
    visible.close()
    thermal.close()


def test_the_first_is_closed_when_the_second_cannot_be_opened(tmp_path: Path) -> None:
    visible = write_clip(tmp_path / "visible.mp4", patterns(3))
    (tmp_path / "thermal.mp4").touch()
    with pytest.raises(CaptureError, match=r"thermal.mp4: the file is empty"):
        open_pair(visible=str(visible), thermal=str(tmp_path / "thermal.mp4"))
    assert str(visible) not in {file.path for file in psutil.Process().open_files()}


def test_folders_are_matched_by_stem(tmp_path: Path) -> None:
    visible = save_images(tmp_path / "visible", ["1", "2", "3", "10"])
    thermal = save_images(tmp_path / "thermal", ["2", "10", "11"], suffix="jpg")
    first, second = open_images(visible, thermal)
    stamps = {frame.name: frame.timestamp_ns for frame in read_all(first)}
    others = {frame.name: frame.timestamp_ns for frame in read_all(second)}
    period_ns = 40_000_000
    assert stamps == {"1": 0, "2": period_ns, "3": 2 * period_ns, "10": 3 * period_ns}
    assert others == {"2": period_ns, "10": 3 * period_ns, "11": 4 * period_ns}
    assert first.notes == (
        f"2 of 4 images are only in {visible} and stay unpaired: 1, 3",
        f"1 of 3 images are only in {thermal} and stay unpaired: 11",
    )
    assert second.notes == ()


def test_equal_folders_need_no_note(tmp_path: Path) -> None:
    stems = [f"{index:03}" for index in range(12)]
    first, second = open_images(save_images(tmp_path / "v", stems), save_images(tmp_path / "t", stems))
    for visible, thermal in zip(read_all(first), read_all(second), strict=True):
        assert (visible.name, visible.timestamp_ns) == (thermal.name, thermal.timestamp_ns)
    assert first.notes == second.notes == ()


def test_long_differences_are_shortened(tmp_path: Path) -> None:
    stems = [f"{index}" for index in range(20)]
    first, _ = open_images(save_images(tmp_path / "v", stems), save_images(tmp_path / "t", ["0"]))
    assert first.notes == (f"19 of 20 images are only in {tmp_path}/v and stay unpaired: 1, 2, 3, 4, 5 and 14 more",)


def test_matched_folders_loop_in_step(tmp_path: Path) -> None:
    visible, thermal = save_images(tmp_path / "v", ["a", "b", "c"]), save_images(tmp_path / "t", ["b"])
    first, second = open_pair(visible=f"{visible}?fps=1", thermal=f"{thermal}?fps=1", loop=2)
    assert [frame.timestamp_ns // 10**9 for frame in read_all(first)] == [0, 1, 2, 3, 4, 5]
    assert [frame.timestamp_ns // 10**9 for frame in read_all(second)] == [1, 4]


def test_folders_without_a_common_name(tmp_path: Path) -> None:
    visible, thermal = save_images(tmp_path / "v", ["vis_1", "vis_2"]), save_images(tmp_path / "t", ["ir_7"])
    with pytest.raises(ConfigError, match=r"no image name in common \(vis_1, vis_2 and ir_7\)"):
        open_images(visible, thermal)


def test_two_single_images_are_a_pair_whatever_their_names(tmp_path: Path) -> None:
    visible, thermal = save_images(tmp_path / "v", ["vis"]), save_images(tmp_path / "t", ["ir"])
    first, second = open_images(visible / "vis.png", thermal / "ir.png")
    assert read_all(first)[0].timestamp_ns == read_all(second)[0].timestamp_ns == 0


def test_a_rate_given_once_holds_for_both(tmp_path: Path) -> None:
    visible, thermal = save_images(tmp_path / "v", ["a", "b"]), save_images(tmp_path / "t", ["a", "b"])
    for first, second in (open_images(f"{visible}?fps=9", thermal), open_images(visible, f"{thermal}?fps=9")):
        assert (first.info.rate_hz, second.info.rate_hz) == (9.0, 9.0)
        assert first.info.continuous
        assert second.info.continuous


def test_a_beginning_that_one_folder_leaves_out_moves_no_names(tmp_path: Path) -> None:
    visible, thermal = (save_images(tmp_path / name, ["a", "b", "c"]) for name in ("v", "t"))
    first, second = open_images(f"{visible}?start=1&fps=1", thermal)
    assert [(frame.name, frame.timestamp_ns // 10**9) for frame in read_all(first)] == [("b", 1), ("c", 2)]
    assert [(frame.name, frame.timestamp_ns // 10**9) for frame in read_all(second)] == [("a", 0), ("b", 1), ("c", 2)]
    alone = open_source(f"{visible}?start=1&fps=1", band=Band.VISIBLE)
    assert [(frame.name, frame.timestamp_ns // 10**9) for frame in read_all(alone)] == [("b", 0), ("c", 1)]


def test_folders_that_are_videos_keep_to_one_size(tmp_path: Path) -> None:
    visible, thermal = (save_images(tmp_path / name, ["a", "b"]) for name in ("v", "t"))
    cv2.imwrite(str(visible / "b.png"), patterns(1, width=128, height=96, channels=1)[0])
    first, second = open_images(f"{visible}?fps=9", thermal)
    assert {frame.size_px for frame in (*read_all(first), *read_all(second))} == {(64, 48)}
    assert "frames are 128x96 instead of 64x48; they are scaled" in first.notes[0]


def test_folders_of_two_rates_are_two_videos(tmp_path: Path) -> None:
    visible, thermal = save_images(tmp_path / "v", ["a", "b"]), save_images(tmp_path / "t", ["c", "d"])
    first, second = open_images(f"{visible}?fps=10", f"{thermal}?fps=5")
    assert [frame.timestamp_ns // 10**8 for frame in read_all(first)] == [0, 1]
    assert [frame.timestamp_ns // 10**8 for frame in read_all(second)] == [0, 2]
    assert "different rates: paired by time, not by name" in first.notes[0]


def test_a_folder_and_a_video_are_a_pair(tmp_path: Path) -> None:
    folder = save_images(tmp_path / "v", ["a", "b", "c"])
    clip = write_clip(tmp_path / "thermal.mp4", patterns(3))
    first, second = open_pair(visible=f"{folder}?fps=30", thermal=str(clip))
    stamps = [[frame.timestamp_ns for frame in read_all(source)] for source in (first, second)]
    assert np.abs(np.subtract(*stamps)).max() <= 1


def test_importing_the_package_loads_nothing_heavy() -> None:
    program = "import rtfusion.capture, rtfusion.capture.uri, rtfusion.capture.devices, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert {"av", "cv2"}.isdisjoint(done.stdout.split())


@pytest.mark.shared
@pytest.mark.parametrize("name", ["tno", "roadscene", "msrs", "vifb", "llvip", "m3fd"])
def test_the_evaluation_folders_match(shared_data: Path, name: str) -> None:
    folder = shared_data / "eval" / name
    first, second = open_images(folder / "vi", folder / "ir")
    assert first.info.frame_count == second.info.frame_count
    assert (first.notes, second.notes) == ((), ())


@pytest.mark.parametrize(("clockwise_deg", "turns"), [(90, -1), (180, 2), (270, 1)])
def test_every_kind_of_source_can_be_turned(tmp_path: Path, clockwise_deg: int, turns: int) -> None:
    clip = write_clip(tmp_path / "clip.mkv", patterns(3, channels=1), codec="ffv1", pix_fmt="gray")
    folder = save_images(tmp_path / "frames", ["a", "b"])
    for uri in (f"{clip}", f"images:{folder}", "synthetic:?size=64x48&thermal_size=64x48&frames=2"):
        joint = "&" if "?" in uri else "?"
        plain = open_source(uri, band=Band.THERMAL)
        turned = open_source(f"{uri}{joint}rotate={clockwise_deg}", band=Band.THERMAL)
        assert turned.info.size_px == (plain.info.size_px if clockwise_deg == 180 else plain.info.size_px[::-1])
        assert turned.info.description.endswith(f"turned by {clockwise_deg} degrees")
        for before, after in zip(read_all(plain), read_all(turned), strict=True):
            assert np.array_equal(after.image, np.rot90(before.image, turns))
            assert (after.timestamp_ns, after.name) == (before.timestamp_ns, before.name)
        turned.close()


def test_both_folders_of_a_pair_can_be_turned(tmp_path: Path) -> None:
    visible, thermal = save_images(tmp_path / "v", ["a"]), save_images(tmp_path / "t", ["a"])
    first, second = open_pair(visible=f"{visible}?rotate=90", thermal=f"{thermal}?rotate=180")
    assert (first.info.size_px, second.info.size_px) == ((48, 64), (64, 48))
    assert (read_all(first)[0].size_px, read_all(second)[0].size_px) == ((48, 64), (64, 48))


def test_a_camera_is_turned_when_it_comes_back_too(monkeypatch: pytest.MonkeyPatch) -> None:
    ramp = np.arange(48 * 64, dtype=np.uint8).reshape(48, 64)
    numbers = itertools.count(1)

    def opened(uri: object, *, band: Band, **_: object) -> ScriptedSource:
        frames = [make_frame(band, stamp, image=ramp + np.uint8(stamp)) for stamp in itertools.islice(numbers, 2)]
        return ScriptedSource(band, [*frames, StreamLost("unplugged")], live=True)

    monkeypatch.setattr("rtfusion.capture.network.open_network", opened)
    monkeypatch.setattr("rtfusion.capture.watchdog.FIRST_PAUSE_S", 0.0)
    source = open_source("rtsp://camera/1#rotate=180", band=Band.THERMAL)
    frames: list[Frame] = []
    while len(frames) < 4:
        with contextlib.suppress(CaptureTimeout):
            frames.append(source.read(timeout_s=0.5))
    source.close()
    for number, frame in enumerate(frames, 1):
        assert np.array_equal(frame.image, np.rot90(ramp + np.uint8(number), 2))


def test_an_angle_that_no_source_can_be_turned_by(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", patterns(2))
    with pytest.raises(ConfigError, match=r"rotate=45: expected 90, 180 or 270 degrees clockwise"):
        open_source(f"{clip}?rotate=45", band=Band.VISIBLE)
    with pytest.raises(ConfigError, match="leave out rotate"):
        open_source(f"session:{tmp_path}?rotate=90", band=Band.VISIBLE)
