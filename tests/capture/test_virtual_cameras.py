"""The whole of rtfusion on virtual V4L2 cameras: a library stands where the kernel stands (`tests.rig.v4l2rig`)."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rtfusion.clock import NS_PER_MS
from rtfusion.session.format import load_session
from rtfusion.session.source import SessionSource
from rtfusion.types import Band, Frame
from tests.rig.disk import is_of_band
from tests.rig.v4l2rig import RTFUSION, Desk, lepton, webcam

Run = Callable[..., tuple[int, str, str]]

RUN = ("run", "--ir", "/dev/video2", "--vis", "/dev/video0", "--fuser", "average", "--sink", "null:")
BLOCKS = 18


def code_ms(image: np.ndarray, *, at_top: bool) -> int:
    """The time of exposure that the driver drew into a strip of a picture, in milliseconds since the epoch of the desk."""
    rows = len(image) // 10
    strip = (image if image.ndim == 2 else image[..., 1]).astype(float)
    line = (strip[2 : rows - 2] if at_top else strip[2 - rows : -2]).mean(axis=0)
    width = len(line)
    edges = [-(-block * width // BLOCKS) for block in range(BLOCKS + 1)]
    levels = [line[first + 2 : last - 2].mean() for first, last in zip(edges, edges[1:])]  # noqa: B905, RUF007
    middle = (levels[0] + levels[-1]) / 2  # a light and a dark block
    return sum(1 << (15 - bit) for bit in range(16) if levels[1 + bit] > middle)


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
    thermal = lepton(keys={"lepton": 120, "noise": "2 0 120", "code": "bottom 0 120 29400 32000"})
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


def test_the_driver_is_given_back(desk: Desk, rtfusion: Run) -> None:
    cameras = webcam(), lepton()
    desk.plug(*cameras)
    assert rtfusion(*RUN, "--max-frames", "3")[0] == 0
    for camera in cameras:
        assert desk.log(camera).count(" open ") == desk.log(camera).count(" release") > 0


# -- a camera that is lost, told while the run goes on ------------------------------------------------------------------


@pytest.mark.parametrize("as_json", [False, True])
def test_a_loss_is_told_within_two_seconds_and_so_is_its_end(
    desk: Desk, environ: dict[str, str], tmp_path: Path, as_json: bool
) -> None:
    thermal = lepton()
    desk.plug(webcam(), thermal)
    words = [*RUN, "--stats-json", "stats.json", *(["--log-json"] if as_json else [])]
    with desk.start(*RTFUSION, *words, environ=environ, folder=tmp_path) as program:
        program.until(lambda: desk.log(thermal).count("\n@") > 20)
        unplugged_s = time.monotonic()
        desk.unplug(thermal)
        told_s = program.until_says("the thermal camera is lost since .*(unplugged).*; visible alone")
        desk.plug(thermal)
        program.until_says("the thermal camera is back, after")
        program.send(signal.SIGINT)
        code, out, err = program.end()
    assert told_s - unplugged_s < 2.0
    assert code == 130
    assert "once" in next(line for line in out.splitlines() if line.startswith("lost"))
    stats = json.loads((tmp_path / "stats.json").read_text())
    assert stats["sources"]["thermal"]["outages"]["times"] == 1
    if as_json:
        lines = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
        assert any(line["level"] == "warning" and "is lost since" in line["message"] for line in lines)


def test_a_camera_whose_first_frame_is_late_is_not_lost(desk: Desk, rtfusion: Run) -> None:
    """Its time-out ran while nobody read: the other camera was opened after it, and the fuser made ready."""
    desk.plug(webcam(), lepton(keys={"lepton": 120, "noise": "2 0 120", "first_ms": 1700}))
    code, out, err = rtfusion(*RUN, "--max-frames", "10", "--on-loss", "stop")
    assert code == 0, err
    assert "faults" not in out
    assert "lost" not in err


def test_a_visible_picture_that_stands_still_is_not_lost(desk: Desk, rtfusion: Run) -> None:
    desk.plug(webcam(keys={"still": 3}), lepton())
    code, out, err = rtfusion(*RUN, "--max-frames", "30", "--on-loss", "stop")
    assert code == 0, err
    assert "faults" not in out
