"""What was fused live comes out of its recording again, bit for bit; and recording never ends a run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from rtfusion.config import Settings
from rtfusion.errors import CaptureError, ConfigError, EndOfStream, SinkError
from rtfusion.fusion.base import Change
from rtfusion.pipeline import build
from rtfusion.session.format import load_session, video_path
from rtfusion.session.lossless import count_frames
from rtfusion.session.source import SessionSource
from rtfusion.sinks import SinkContext, open_sink
from rtfusion.sinks.thread import SinkThread
from rtfusion.telemetry import Telemetry
from rtfusion.types import Band, FramePair, FusedFrame
from tests.support import make_frame

CAMERAS = "synthetic:?live=true&size=160x120&thermal_size=80x60&bits=16&fps=15&jitter_ms=3&drop=0.05&delay_ms=4"
SIZE = {"visible": (48, 64, 3), "thermal": (30, 40)}


def record(folder: Path, *, frames: int, query: str = "", **settings: object) -> list[int]:
    """Fuse live cameras and record; the checksums of the fused images, from lossless files."""
    images = folder / "images"
    sinks = (f"record:{folder}/sessions?segment_s=1&reserve_mb=1{query}", f"images:{images}")
    pipeline = build(Settings(ir=CAMERAS, vis=CAMERAS, sink=sinks, max_frames=frames, **settings))
    pipeline.run()
    return checksums(images)


def checksums(folder: Path) -> list[int]:
    return [zlib.crc32(cv2.imread(str(path)).tobytes()) for path in sorted(folder.iterdir())]


def session_of(folder: Path) -> Path:
    (session,) = (folder / "sessions").iterdir()
    return session


def test_a_replay_takes_over_every_setting_of_the_fusing():
    fusing = {name: setting for name, setting in Settings.declared().items() if setting.group == "Fusion"}
    with_each_frame = {"intent", "say"}
    assert {name for name, setting in fusing.items() if not setting.replayed} == with_each_frame


@pytest.mark.parametrize(
    "settings",
    [
        {"fuser": "pyramid"},
        {"fuser": "overlay", "pair": "hold"},
        {"fuser": "average", "gain": "plateau", "grid": "thermal"},
    ],
)
def test_a_replay_is_the_run_bit_for_bit(tmp_path, settings):
    record(tmp_path, frames=45, **settings)
    session = session_of(tmp_path)
    expected = [pair.fused_crc32 for pair in load_session(session).pairs()]
    assert len(expected) >= 30
    again = {name: value for name, value in settings.items() if name != "pair"}
    source = f"session:{session}"
    replay = build(Settings(ir=source, vis=source, sink=(f"images:{tmp_path}/replayed", f"compare:{session}"), **again))
    replay.run()
    assert checksums(tmp_path / "replayed") == expected
    assert f"{len(expected)} of {len(expected)} fused frames are bit for bit" in replay.telemetry.notes[-1]


def test_a_replay_follows_the_intents_that_were_changed_while_it_ran(tmp_path):
    sinks = (f"record:{tmp_path}/sessions?segment_s=1&reserve_mb=1", "null:")
    pipeline = build(Settings(ir=CAMERAS, vis=CAMERAS, sink=sinks, max_frames=30, fuser="pyramid", intent="color=-0.5"))
    changed = False

    def turn() -> None:
        nonlocal changed
        if not changed and pipeline.telemetry.fused > 3:
            pipeline.change(Change(intents={"brighten": 1.0, "color": 0.0}))
            changed = True

    pipeline.run(on_tick=turn)
    session = session_of(tmp_path)
    pairs = list(load_session(session).pairs())
    assert pairs[0].intents == {"color": -0.5}
    assert pairs[-1].intents == {"brighten": 1.0}
    assert [pair.intents_version for pair in (pairs[0], pairs[-1])] == [0, 1]
    source = f"session:{session}"
    for intent, expected in ((None, len(pairs)), ("color=-0.5", None)):
        replay = build(Settings(ir=source, vis=source, sink=f"compare:{session}", fuser="pyramid", intent=intent))
        if expected is None:
            with pytest.raises(SinkError):
                replay.run()
        else:
            replay.run()
            assert f"{expected} of {expected} fused frames are bit for bit" in replay.telemetry.notes[-1]
    assert replay.telemetry.snapshot()["intents"] == {"color": -0.5}


def test_what_the_sinks_of_a_run_got_is_what_was_recorded(tmp_path):
    fused = record(tmp_path, frames=40)
    recorded = {pair.fused_crc32 for pair in load_session(session_of(tmp_path)).pairs()}
    assert len(recorded & set(fused)) >= 20  # a slow output may lose frames of cameras, the other one keeps them


def context(**values) -> SinkContext:
    stream = {"uri": "x", "rate_hz": 30.0, "continuous": True}
    return SinkContext(
        rate_hz=30.0, live=True, session="abcdef0123", streams=dict.fromkeys(Band, stream), settings={}, **values
    )


def fused_of(number: int, *, thermal=None) -> FusedFrame:
    rng = np.random.default_rng(number)
    visible = make_frame(
        Band.VISIBLE, number * 33_000_000, sequence=number, image=rng.integers(0, 256, SIZE["visible"], np.uint8)
    )
    if thermal is None:
        counts = rng.integers(0, 65_536, SIZE["thermal"], np.uint16)
        thermal = make_frame(Band.THERMAL, number * 33_000_000 + 5, sequence=number, image=counts)
    pair = FramePair(visible=visible, thermal=thermal, sequence=number)
    image = visible.image
    return FusedFrame(
        image=image, visible=image, thermal=image[:, :, 0], timestamp_ns=pair.timestamp_ns, received_ns=0,
        thermal_timestamp_ns=thermal.timestamp_ns, sequence=number, fuser="average", pair=pair,
    )  # fmt: skip


def read_all(folder: Path, band: Band) -> list:
    source = SessionSource(folder, uri=f"session:{folder}", band=band)
    frames = []
    try:
        while True:
            frames.append(source.read(timeout_s=1))
    except EndOfStream:
        return frames
    finally:
        source.close()


def test_frames_and_stamps_come_back_as_they_were(tmp_path):
    sink = open_sink(f"record:{tmp_path}?segment_s=1&reserve_mb=1", context=context())
    written = [fused_of(number) for number in range(40)]
    written[20] = fused_of(20, thermal=written[19].pair.thermal)  # held
    for frame in written:
        sink.write(frame)
    sink.close(aborted=False)
    assert len(list(load_session(tmp_path).segments())) == 2
    for band in Band:
        expected = [getattr(frame.pair, band.value) for frame in written]
        if band is Band.THERMAL:
            del expected[20]
        got = read_all(tmp_path, band)
        assert [f.timestamp_ns for f in got] == [f.timestamp_ns for f in expected]
        assert [f.sequence for f in got] == [f.sequence for f in expected]
        for one, other in zip(got, expected, strict=True):
            np.testing.assert_array_equal(one.image, other.image)
            assert one.pixel_format is other.pixel_format


def test_stamps_of_a_session_are_those_of_the_run_less_whole_beats(tmp_path):
    first = fused_of(0)
    visible, thermal = (replace(one, timestamp_ns=one.timestamp_ns + 123_456_789_012)
                        for one in (first.pair.visible, first.pair.thermal))  # fmt: skip
    for folder in (tmp_path / "of a run", tmp_path / "of its replay"):
        sink = open_sink(f"record:{folder}?reserve_mb=1", context=context())
        sink.write(replace(first, pair=FramePair(visible=visible, thermal=thermal, sequence=0)))
        sink.close(aborted=False)
        (visible,), (thermal,) = (read_all(folder, band) for band in Band)
        assert (visible.timestamp_ns, thermal.timestamp_ns) == (3_456_789_012, 3_456_789_017)


HELD_BACK_FRAMES = 12
"""By the encoder of the fused video: a third of a second, a few frames for its threads, and the one being written."""
KILLED = """
import sys
from rtfusion.config import Settings
from rtfusion.pipeline import build
build(Settings(ir=sys.argv[1], vis=sys.argv[1], sink=(f"record:{sys.argv[2]}?reserve_mb=1",))).run()
"""


def test_a_killed_recording_plays(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen([sys.executable, "-c", KILLED, CAMERAS, str(tmp_path)], env=environment) as run:
        deadline_s = time.monotonic() + 120
        while not any(path.read_bytes().count(b"\n") >= 20 for path in tmp_path.glob("*/000000.jsonl")):
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        run.send_signal(signal.SIGKILL)
    session = load_session(tmp_path)
    (segment,) = session.segments()
    lines = (session.folder / "000000.jsonl").read_bytes().count(b"\n")
    assert lines - 4 <= len(segment.pairs) <= lines
    source = f"session:{tmp_path}"
    replay = build(Settings(ir=source, vis=source, sink=(f"compare:{tmp_path}",)))
    replay.run()
    assert replay.telemetry.fused == len(segment.pairs)
    assert lines - count_frames(video_path(session.folder, 0, "fused")) <= HELD_BACK_FRAMES


def test_a_full_disk_stops_the_recording_and_not_the_run(tmp_path, monkeypatch):
    import shutil
    from collections import namedtuple

    usage = namedtuple("usage", "free")
    free_bytes = [10_000_000]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(free_bytes[0]))
    notes: list[str] = []
    sink = open_sink(f"record:{tmp_path}?reserve_mb=5", context=context(note=notes.append))
    for number in range(30):
        free_bytes[0] = 4_000_000 if 10 <= number < 20 else 5_500_000 if 20 <= number < 25 else 10_000_000
        sink.write(fused_of(number))
    sink.close(aborted=False)
    assert dict(sink.drops) == {"disk_full": 15}
    assert len(notes) == 1
    assert "fusing goes on" in notes[0]
    assert [frame.sequence for frame in read_all(tmp_path, Band.THERMAL)] == [*range(10), *range(25, 30)]
    free_bytes[0] = 1
    with pytest.raises(ConfigError, match="lower reserve_mb"):
        open_sink(f"record:{tmp_path}/other?reserve_mb=5", context=context())


def test_what_a_full_disk_left_out_is_not_written_as_well(tmp_path, monkeypatch):
    import shutil
    from collections import namedtuple

    usage = namedtuple("usage", "free")
    frames = [fused_of(number) for number in range(30)]
    room = iter([10_000_000, *(4_000_000 if 10 <= number < 25 else 10_000_000 for number in range(30))])
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(next(room)))
    telemetry = Telemetry()
    sink = open_sink(f"record:{tmp_path}?reserve_mb=5", context=context())
    thread = SinkThread(sink, live=True, telemetry=telemetry, stop=lambda: None)
    thread.start()
    for frame in frames:
        thread.put(frame, timeout_s=10)
    thread.finish()
    assert thread.join(timeout_s=60)
    assert thread.error is None
    assert (telemetry.written[thread.uri], thread.drops) == (15, {"disk_full": 15})


def test_a_segment_that_cannot_begin_stops_no_run(tmp_path):
    notes: list[str] = []
    sink = open_sink(f"record:{tmp_path}?reserve_mb=1", context=context(note=notes.append))
    (sink.folder / "000000-fused.mkv").write_bytes(b"")
    for number in range(5):
        sink.write(fused_of(number))
    sink.close(aborted=False)
    assert dict(sink.drops) == {"failed": 1}
    assert "recording was interrupted" in notes[0]
    assert [frame.sequence for frame in read_all(tmp_path, Band.THERMAL)] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "line",
    ["[]", "3", "{", "null", '{"sequence":1}', '{"visible":{},"thermal":{}}', "[" * 5000, '{"visible":3,"thermal":4}'],
)
def test_bad_lines_are_capture_errors(tmp_path, line):
    stream = {"rate_hz": 30, "continuous": True, "uri": "x"}
    values = {"schema": 1, "settings": {}, "streams": {"visible": stream, "thermal": stream}}
    (tmp_path / "session.json").write_text(json.dumps(values))
    (tmp_path / "000000.jsonl").write_text(line + "\n")
    with pytest.raises(CaptureError, match="line 1"):
        list(load_session(tmp_path).segments())


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema":2}', '{"schema":1,"settings":3,"streams":{}}'])
def test_bad_sessions_are_capture_errors(tmp_path, text):
    (tmp_path / "session.json").write_text(text)
    with pytest.raises(CaptureError):
        load_session(tmp_path)
    with pytest.raises(CaptureError, match=r"no session\.json"):
        load_session(tmp_path / "none")
