"""The whole of rtfusion on virtual V4L2 cameras: a library stands where the kernel stands (`tests.rig.v4l2rig`)."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from rtfusion.clock import NS_PER_MS
from rtfusion.session.format import load_session
from rtfusion.session.source import SessionSource
from rtfusion.types import Band, Frame
from tests.rig import endurance, pictures
from tests.rig.disk import is_of_band
from tests.rig.v4l2rig import RTFUSION, Desk, lepton, webcam

Run = Callable[..., tuple[int, str, str]]

QUICK = ["Y16 160x122 27 thermal160x122.y16"]
"""Modes of a Lepton whose frames nobody has to wait for."""
RUN = ("run", "--ir", "/dev/video2", "--vis", "/dev/video0", "--fuser", "average", "--sink", "null:")


def code_ms(image: np.ndarray, *, at_top: bool) -> int:
    """The time of exposure that the driver drew into a strip of a picture, in milliseconds since the epoch of the desk."""
    rows = len(image) // 10
    return pictures.read_code(image[2 : rows - 2] if at_top else image[2 - rows : -2])


def recorded(folder: Path, band: Band) -> list[Frame]:
    source = SessionSource(folder, uri="session", band=band)
    frames = []
    try:
        while True:
            frames.append(source.read(timeout_s=1))
    except EOFError:
        return frames
    finally:
        source.close()


def test_devices_lists_them_under_all_of_their_names(desk: Desk, rtfusion: Run) -> None:
    desk.plug(webcam(), lepton())
    code, out, err = rtfusion("devices")
    assert (code, err) == (0, "")
    for name in ("usb:046d:082d:A1B2", "usb:1e4e:0100:8001", "/dev/v4l/by-id/usb-HD_Pro_Webcam_A1B2-video-index0"):
        assert name in out
    assert "rtfusion run --ir /dev/video2 --vis /dev/video0" in out
    assert "/dev/video1" not in out, "the node of the metadata"


def test_a_recorded_run_is_replayed_to_the_bit_and_its_stamps_are_true(
    desk: Desk, rtfusion: Run, tmp_path: Path
) -> None:
    visible = webcam(keys={"code": "top 0 120 16 235"})
    thermal = lepton(modes=QUICK, keys={"lepton": 120, "noise": "2 0 120", "code": "bottom 0 120 29400 32000"})
    desk.plug(visible, thermal)
    limits = ("--max-frames", "12", "--out", "sessions")
    code, out, err = rtfusion("record", *RUN[1:], *limits)
    assert code == 0, err
    assert "12 frames fused" in out
    assert "profile lepton" in out
    session = load_session(tmp_path / "sessions")
    for pair in session.pairs():
        assert abs(pair.thermal.timestamp_ns - pair.visible.timestamp_ns) < 50 * NS_PER_MS
    frames = {band: recorded(session.folder, band) for band in Band}
    pairs = list(session.pairs())
    for band, at_top in ((Band.VISIBLE, True), (Band.THERMAL, False)):
        assert len(frames[band]) == 12
        assert all(is_of_band(frame.image, band) for frame in frames[band])
        told_ms = [(getattr(pair, band.value).timestamp_ns - desk.epoch_ns) / NS_PER_MS for pair in pairs]
        true_ms = [code_ms(frame.image, at_top=at_top) for frame in frames[band]]
        assert told_ms == pytest.approx(true_ms, abs=1.0)
    code, out, err = rtfusion("replay", str(session.folder), "--check", "--sink", "null:")
    assert code == 0, err


@pytest.mark.slow
def test_the_driver_is_given_back(desk: Desk, rtfusion: Run) -> None:
    cameras = webcam(), lepton()
    desk.plug(*cameras)
    assert rtfusion(*RUN, "--max-frames", "3")[0] == 0
    for camera in cameras:
        assert desk.log(camera).count(" open ") == desk.log(camera).count(" release") > 0


# -- a camera that is lost, told while the run goes on ------------------------------------------------------------------


@pytest.mark.parametrize("as_json", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_loss_is_told_while_it_lasts_and_so_is_its_end(
    desk: Desk, environ: dict[str, str], tmp_path: Path, as_json: bool
) -> None:
    thermal = lepton(modes=QUICK)
    desk.plug(webcam(), thermal)
    words = [*RUN, "--stats-json", "stats.json", *(["--log-json"] if as_json else [])]
    with desk.start(*RTFUSION, *words, environ=environ, folder=tmp_path) as program:
        program.until(lambda: desk.log(thermal).count("\n@") > 20)
        desk.unplug(thermal)
        program.until_says("the thermal camera is lost since .*(unplugged).*; visible alone")
        desk.plug(thermal)
        program.until_says("the thermal camera is back, after")
        program.send(signal.SIGINT)
        code, out, err = program.end()
    assert code == 130
    assert "once" in next(line for line in out.splitlines() if line.startswith("lost"))
    stats = json.loads((tmp_path / "stats.json").read_text())
    assert stats["sources"]["thermal"]["outages"]["times"] == 1
    if as_json:
        lines = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
        assert any(line["level"] == "warning" and "is lost since" in line["message"] for line in lines)


@pytest.mark.slow
def test_a_run_that_is_to_stop_ends_when_a_camera_is_given_up(
    desk: Desk, environ: dict[str, str], tmp_path: Path
) -> None:
    thermal = lepton()
    desk.plug(webcam(), thermal)
    with desk.start(*RTFUSION, *RUN, "--on-loss", "stop", environ=environ, folder=tmp_path) as program:
        program.until(lambda: desk.log(thermal).count("\n@") > 20)
        desk.set(thermal, silent=1)
        program.until_says(
            "the thermal camera is lost since .*; visible alone, and the run ends if it does not come back"
        )
        code, out, err = program.end()
    assert code == 5
    assert "no whole and new frame for" in err.splitlines()[-1]
    assert "frames fused" in out


def test_a_camera_whose_first_frame_is_late_is_not_lost(desk: Desk, rtfusion: Run) -> None:
    """Its time-out ran while nobody read: the other camera was opened after it, and the fuser made ready."""
    desk.plug(webcam(), lepton(modes=QUICK, keys={"lepton": 120, "noise": "2 0 120", "first_ms": 1700}))
    code, out, err = rtfusion(*RUN, "--max-frames", "10", "--on-loss", "stop")
    assert code == 0, err
    assert "faults" not in out
    assert "lost" not in err


@pytest.mark.slow
def test_a_visible_picture_that_stands_still_is_not_lost(desk: Desk, rtfusion: Run) -> None:
    desk.plug(webcam(keys={"still": 3}), lepton())
    code, out, err = rtfusion(*RUN, "--max-frames", "30", "--on-loss", "stop")
    assert code == 0, err
    assert "faults" not in out


# -- what comes is read right ---------------------------------------------------------------------------------------------

FORMATS = ("yuyv", "uyvy", "yvyu", "nv12", "yu12", "yv12", "rgb3", "bgr3", "mjpg")
READ_ALL = """
import sys, numpy
from rtfusion.capture import open_source
from rtfusion.types import Band
for number, name in enumerate(sys.argv[1:]):
    source = open_source(f"/dev/video{number}", band=Band.VISIBLE)
    numpy.save(name, source.read(timeout_s=60).image)
    source.close()
"""


def test_the_pixels_of_every_format_are_right(desk: Desk, environ: dict[str, str], tmp_path: Path) -> None:
    for number, name in enumerate(FORMATS):
        modes = [f"{name.upper()} 64x48 120 flat64x48.{name}"]
        desk.plug(webcam(id=name, node=number, usb=None, card="Camera", modes=modes, ctrls=()))
    with desk.start(sys.executable, "-c", READ_ALL, *FORMATS, environ=environ, folder=tmp_path) as program:
        code, _, err = program.end()
    assert code == 0, err
    exact = pictures.bgr(*pictures.yuv(0, 64, 48, noisy=False))
    for name in FORMATS:
        apart = np.load(tmp_path / f"{name}.npy") - exact
        assert np.abs(apart.mean(axis=(0, 1))).max() < 0.3, name
        if name != "mjpg":
            assert np.abs(apart).max() <= 1.0, name


@pytest.mark.slow
def test_big_endian_counts_are_not_turned_round(desk: Desk, rtfusion: Run, tmp_path: Path) -> None:
    thermal = lepton(card="Thermal", usb="1234:5678", modes=["Y16-BE 160x120 15 thermal160x120.y16be"], keys={})
    desk.plug(webcam(), thermal)
    code, _, err = rtfusion("record", *RUN[1:], "--max-frames", "5", "--out", "sessions")
    assert code == 0, err
    for frame in recorded(load_session(tmp_path / "sessions").folder, Band.THERMAL):
        assert 29_000 < frame.image.min() < frame.image.max() < 31_500


@pytest.mark.slow
def test_without_sysfs_a_camera_is_known_by_its_name(desk: Desk, rtfusion: Run) -> None:
    desk.plug(webcam(), lepton())
    desk.hide_sysfs()
    code, out, err = rtfusion(*RUN, "--max-frames", "3")
    assert code == 0, err
    assert "profile lepton" in out
    assert "160x120 gray16" in out, "without the rows of its status"
    _, out, _ = rtfusion("devices")
    assert re.search("/dev/video2 +thermal +PureThermal", out)
    assert "/dev/video1" not in out


@pytest.mark.slow
def test_of_a_range_of_sizes_the_usual_one_is_taken(desk: Desk, rtfusion: Run) -> None:
    modes = ["YU12 32x32-2592x1944/2x2 90 -", "YUYV 32x32-2592x1944/2x2 90 -"]
    desk.plug(webcam(usb=None, card="mmal service 16.1", modes=modes, ctrls=()), lepton())
    code, out, err = rtfusion(*RUN, "--max-frames", "3")
    assert code == 0, err
    assert "640x480 bgr8, 30 Hz" in out


@pytest.mark.slow
def test_damaged_images_are_never_shown_even_when_the_camera_is_opened_again(
    desk: Desk, environ: dict[str, str], tmp_path: Path
) -> None:
    visible = webcam(modes=["MJPG 160x120 15 visible160x120.mjpg"])
    desk.plug(visible, lepton())
    words = [*RUN, "--sink", "images:frames", "--on-loss", "passthrough"]
    with desk.start(*RTFUSION, *words, environ=environ, folder=tmp_path) as program:
        program.until(lambda: desk.log(visible).count("\n@") > 20)
        desk.set(visible, corrupt="truncate")
        program.until_says("the visible camera is lost since .*corrupt")
        program.until(lambda: desk.log(visible).count(" STREAMON ") >= 3)
        program.until(lambda: desk.log(visible).count(" release") >= 3)  # the second opening has been given up
        assert "is back" not in program.err
        desk.set(visible, corrupt=None)
        program.until_says("the visible camera is back")
        program.send(signal.SIGINT)
        assert program.end()[0] == 130
    for path in sorted((tmp_path / "frames").iterdir()):
        image = cv2.imread(str(path))
        green = image[..., 1].astype(int) - image[..., 0] - image[..., 2]
        assert (green > 60).mean() < 0.01, path


@pytest.mark.slow
def test_frames_that_waited_while_the_process_was_stopped_keep_their_time(
    desk: Desk, environ: dict[str, str], tmp_path: Path
) -> None:
    visible = webcam(keys={"code": "top 0 120 16 235"})
    desk.plug(visible, lepton(keys={"lepton": 120, "noise": "2 0 120", "code": "bottom 0 120 29400 32000"}))
    with desk.start(*RTFUSION, "record", *RUN[1:], "--out", "sessions", environ=environ, folder=tmp_path) as program:
        program.until(lambda: desk.log(visible).count("\n@") > 20)
        program.send(signal.SIGSTOP)
        time.sleep(2.5)
        program.send(signal.SIGCONT)
        count = desk.log(visible).count("\n@")
        program.until(lambda: desk.log(visible).count("\n@") > count + 20)
        program.send(signal.SIGINT)
        code, _, err = program.end()
    assert code == 130
    assert "lost" not in err
    session = load_session(tmp_path / "sessions")
    pairs = list(session.pairs())
    for band, at_top in ((Band.VISIBLE, True), (Band.THERMAL, False)):
        told_ms = [(getattr(pair, band.value).timestamp_ns - desk.epoch_ns) / NS_PER_MS for pair in pairs]
        true_ms = [code_ms(frame.image, at_top=at_top) for frame in recorded(session.folder, band)]
        assert told_ms == pytest.approx(true_ms, abs=1.0)


# -- cameras that are named wrong, that hang, that do not answer --------------------------------------------------------


def test_the_node_of_the_metadata_is_told_from_the_one_of_the_pictures(desk: Desk, rtfusion: Run) -> None:
    desk.plug(webcam(), lepton())
    code, _, err = rtfusion("run", "--ir", "/dev/video1", "--vis", "/dev/video0", "--sink", "null:")
    assert code == 3
    assert err == (
        "rtfusion: /dev/video1: this node of HD Pro Webcam carries no pictures; its pictures come from /dev/video0; "
        "other cameras: /dev/video2 (PureThermal (fw:v1.3.0), thermal)\n"
    )


@pytest.mark.slow
def test_a_thermal_camera_may_well_be_video1(desk: Desk, rtfusion: Run) -> None:
    desk.plug(webcam(metadata_node=2), lepton(node=1, metadata_node=3))
    code, out, err = rtfusion("run", "--ir", "/dev/video1", "--vis", "/dev/video0", *RUN[5:], "--max-frames", "3")
    assert code == 0, err
    assert "profile lepton" in out


def test_exchanged_cameras_are_refused_and_may_be_meant(desk: Desk, rtfusion: Run) -> None:
    desk.plug(webcam(), lepton())
    code, _, err = rtfusion("run", "--ir", "/dev/video0", "--vis", "/dev/video2", *RUN[5:])
    assert code == 2
    assert "the cameras seem to be exchanged: /dev/video2 (PureThermal" in err
    meant = ("--ir", "/dev/video0?profile=gray8", "--vis", "/dev/video2")
    code, out, err = rtfusion("run", *meant, *RUN[5:], "--max-frames", "3")
    assert code == 0, err
    assert "a thermal camera, and is read as the visible one" in " ".join(out.split())


@pytest.mark.parametrize(
    "hangs", ["slow__S_FMT", pytest.param("slow__STREAMON", marks=pytest.mark.slow), "slow__STREAMOFF"]
)
def test_a_driver_that_hangs_keeps_nobody_from_stopping(
    desk: Desk, environ: dict[str, str], tmp_path: Path, hangs: str
) -> None:
    thermal = lepton(modes=QUICK)
    desk.plug(webcam(), thermal)
    desk.set(thermal, **{hangs: 60_000})
    with desk.start(*RTFUSION, *RUN, environ=environ, folder=tmp_path) as program:
        if hangs == "slow__STREAMOFF":
            program.until(lambda: desk.log(thermal).count("\n@") > 12)
        else:
            program.until(lambda: f" slow {hangs.removeprefix('slow__')}" in desk.log(thermal))
        program.send(signal.SIGINT)
        code, _, err = program.end(limit_s=20)
    assert code == 130
    assert err == "rtfusion: stopping, finishing outputs... (again to quit at once)\n"


@pytest.mark.slow
@pytest.mark.parametrize("number", ["EPROTO", "EIO", "ETIMEDOUT"])
def test_a_camera_that_does_not_answer_at_first_is_asked_again(desk: Desk, rtfusion: Run, number: str) -> None:
    thermal = lepton()
    desk.plug(webcam(), thermal)
    desk.set(thermal, fail__STREAMON=number, fails=1)
    code, _, err = rtfusion(*RUN, "--max-frames", "3")
    assert code == 0, err
    desk.set(thermal, fails=None)
    code, _, err = rtfusion(*RUN, "--max-frames", "3")
    assert code == 3
    assert "the camera did not answer over USB, twice" in err
    assert "another cable" in err


@pytest.mark.slow
def test_doctor_reads_from_all_cameras(desk: Desk, rtfusion: Run) -> None:
    thermal = lepton()
    desk.plug(webcam(), thermal)
    _, out, _ = rtfusion("doctor", "--seconds", "0.1")
    text = " ".join(out.split())
    assert re.search(r"✓ /dev/video0 \(HD Pro Webcam\) visible, .* frames read, 1[45]\.\d frames/s", text)
    assert re.search(r"✓ /dev/video2 \(PureThermal .*\) thermal, .* frames read, [89]\.\d frames/s", text)
    desk.set(thermal, error=1)
    _, out, _ = rtfusion("doctor", "--seconds", "0.1")
    assert re.search(r"✗ /dev/video2 .*the camera opened but delivers no frames", " ".join(out.split()))


# -- a run that names no cameras ----------------------------------------------------------------------------------------


def test_without_sources_the_pair_that_is_here_is_proposed(desk: Desk, rtfusion: Run) -> None:
    desk.plug(webcam(), lepton())
    code, _, err = rtfusion("run", "--fuser", "average")
    assert code == 2
    assert err == (
        "rtfusion: --ir and --vis are missing; of the cameras that are here: --ir /dev/video2 --vis /dev/video0 "
        "(PureThermal (fw:v1.3.0) is taken for thermal, HD Pro Webcam for visible)\n"
    )


@pytest.mark.parametrize(("answer", "exit_code"), [(b"\n", 0), pytest.param(b"n\n", 2, marks=pytest.mark.slow)])
def test_on_a_terminal_a_person_is_asked(
    desk: Desk, environ: dict[str, str], tmp_path: Path, answer: bytes, exit_code: int
) -> None:
    desk.plug(webcam(), lepton())
    leader, follower = os.openpty()
    os.write(leader, answer)
    words = [*RTFUSION, "run", *RUN[5:], "--max-frames", "3"]
    variables = {**environ, **desk.environment()}
    with subprocess.Popen(
        words, env=variables, cwd=tmp_path, stdin=follower, stdout=subprocess.PIPE, stderr=follower
    ) as process:
        os.close(follower)
        shown = b""
        with contextlib.suppress(OSError):  # the terminal is gone when the process is
            while chunk := os.read(leader, 65536):
                shown += chunk
        out = process.stdout.read() if process.stdout else b""
    os.close(leader)
    assert b"use them? [Y/n]" in shown
    assert process.returncode == exit_code, shown
    assert (b"3 frames fused" in out) == (exit_code == 0)


# -- again and again ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_faults_one_after_the_other_are_told_and_got_over(rig_library: Path, tmp_path: Path) -> None:
    found = endurance.run(tmp_path, minutes=0.5, every_s=13.0)
    assert found["exit_code"] == 130
    assert found["faults"] == 3
    assert all(outcome["told_s"] is not None for outcome in found["outcomes"]), found
    for wrong in ("told_falsely", "not_back", "swapped"):
        assert found[wrong] == [], found
