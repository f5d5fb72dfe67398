"""``rtfusion run`` from outside: exit codes, what is printed where, and what is left on the disk."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from rtfusion.fusion.threads import opencv_for

from .conftest import Cli, Main

SCENE = "synthetic:?size=160x120&frames=20"
ENDLESS = "synthetic:?size=160x120&frames=0"


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Six pairs of images in ``ir`` and ``vi``, a visible one more."""
    rng = np.random.default_rng(1)
    for band, count in (("ir", 6), ("vi", 7)):
        (tmp_path / band).mkdir()
        for index in range(count):
            image = rng.integers(0, 255, (48, 64, 3) if band == "vi" else (48, 64), dtype=np.uint8)
            cv2.imwrite(str(tmp_path / band / f"{index:03}.png"), image)
    return tmp_path


def count_frames(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def statistics(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


# -- what works -------------------------------------------------------------------------------------------------------


def without_precision(err: str) -> str:
    """What was said beside the line of the first run on a machine, which measures precisions."""
    return "".join(line for line in err.splitlines(keepends=True) if "measured on this machine now" not in line)


def test_a_recording_becomes_a_video_a_table_and_statistics(cli: Cli, tmp_path: Path) -> None:
    result = cli("run", "--ir", SCENE, "--vis", SCENE, "--sink", "out.mp4", "--sink", "null:", "--stats-json", "s.json")
    assert (result.returncode, without_precision(result.stderr)) == (0, "")
    assert "20 frames fused" in result.stdout
    assert "\x1b" not in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert count_frames(tmp_path / "out.mp4") == 20
    stats = statistics(tmp_path / "s.json")
    assert stats["written"] == {"out.mp4": 20, "null:": 20}
    assert stats["ending"] == {"reason": "finished", "exit_code": 0, "message": None}
    assert stats["settings"]["ir"] == {"value": SCENE, "origin": "flag --ir"}


def test_settings_may_come_from_a_file_and_the_environment(
    main_here: Main, folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folders / "rtfusion.toml").write_text('ir = "ir"\nvis = "vi"\nfuser = "average"\nstats_json = "s.json"\n')
    monkeypatch.setenv("RTFUSION_SINK", "images:fused null:")
    code, _, err = main_here("run", "--max-frames", "4")
    assert code == 0, err
    assert sorted(path.name for path in (folders / "fused").iterdir()) == [f"{index:03}.png" for index in range(4)]
    stats = statistics(folders / "s.json")
    assert stats["fuser"] == "average"
    assert stats["settings"]["sink"]["origin"] == "environment RTFUSION_SINK"


def test_nothing_is_said_of_outputs_when_nothing_runs(main_here: Main) -> None:
    code, _, err = main_here("run", "--ir", "nowhere", "--vis", SCENE)
    assert code == 3
    assert len(err.splitlines()) == 1


def test_without_an_output_and_a_display_it_says_that_nothing_is_kept(main_here: Main, tmp_path: Path) -> None:
    code, out, err = main_here("run", "--ir", SCENE, "--vis", SCENE, "--fuser", "average")
    assert code == 0
    assert err.startswith("rtfusion: no --sink and no display: frames are fused and counted, nothing is kept")
    assert len(err.splitlines()) == 1
    assert "20 frames fused" in out
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path, environ: dict[str, str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "rtfusion", "run", "--ir", SCENE, "--vis", SCENE, "--fuser", "average", "--sink"]
    where: dict[str, Any] = {"cwd": tmp_path, "env": environ, "timeout": 60}
    try:
        result = subprocess.run([*command, "out.mp4"], stdout=writing, stderr=subprocess.PIPE, check=False, **where)
        assert (result.returncode, result.stderr) == (0, b"")
        assert count_frames(tmp_path / "out.mp4") == 20
        result = subprocess.run(command[:-1], stdout=subprocess.PIPE, stderr=writing, check=False, **where)
        assert result.returncode == 0
        assert b"20 frames fused" in result.stdout
    finally:
        os.close(writing)


# -- bad input: one sentence, the documented exit code, nothing left behind -------------------------------------------

BAD = {
    "missing file": (["--ir", "nowhere.mp4", "--vis", "vi"], 3, "nowhere.mp4"),
    "empty file": (["--ir", "empty.mp4", "--vis", "vi"], 3, "empty.mp4"),
    "no video in it": (["--ir", "text.mp4", "--vis", "vi"], 3, "text.mp4"),
    "no thermal source": (["--vis", "vi"], 2, "--ir is missing"),
    "unknown source scheme": (["--ir", "foo:bar", "--vis", "vi"], 2, "foo:"),
    "unknown source parameter": (["--ir", "synthetic:?scen=day", "--vis", "vi"], 2, "scene"),
    "one source twice": (["--ir", "vi", "--vis", "vi"], 2, "same source"),
    "no images in common": (["--ir", "ir", "--vis", "other"], 2, "ir"),
    "unknown fuser": (["--fuser", "piramid"], 2, "did you mean pyramid?"),
    "unknown model": (["--model", "huge"], 2, "no model named huge"),
    "missing model": (["--fuser", "learned", "--model", "nowhere.onnx"], 4, "nowhere.onnx"),
    "bad number": (["--loop", "none"], 2, "loop is 'none' (flag --loop); it should be a whole number"),
    "missing calibration": (["--calibration", "nowhere.json"], 2, "nowhere.json"),
    "calibration of another schema": (["--calibration", "schema.json"], 2, "schema 99"),
    "calibration of other cameras": (["--calibration", "other.json"], 2, "another aspect"),
    "unknown sink scheme": (["--sink", "zmp:tcp://127.0.0.1:5555"], 2, "zmq"),
    "unknown sink parameter": (["--sink", "video:out.mp4?crv=1"], 2, "crf"),
    "sink in no folder": (["--sink", "nowhere/out.mp4"], 2, "nowhere"),
    "sink that exists": (["--sink", "text.mp4"], 2, "--overwrite"),
    "one sink twice": (["--sink", "out.mp4", "--sink", "out.mp4"], 2, "out.mp4"),
    "window without a display": (["--sink", "window:"], 2, "display"),
    "statistics in no folder": (["--stats-json", "nowhere/s.json"], 2, "nowhere"),
    "unknown settings file": (["--config", "nowhere.toml"], 2, "nowhere.toml"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(main_here: Main, folders: Path, case: str) -> None:
    arguments, exit_code, words = BAD[case]
    (folders / "empty.mp4").write_bytes(b"")
    (folders / "text.mp4").write_text("no video\n" * 1000)
    (folders / "schema.json").write_text('{"schema": 99}')
    camera = {"width_px": 1000, "height_px": 100}
    identity = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    calibration = {"schema": 1, "visible": camera, "thermal": camera, "visible_from_thermal_px": identity}
    (folders / "other.json").write_text(json.dumps(calibration))
    (folders / "other").mkdir()
    cv2.imwrite(str(folders / "other" / "name.png"), np.zeros((48, 64), dtype=np.uint8))
    before = sorted(folders.rglob("*"))
    sources = [] if "--ir" in arguments or "--vis" in arguments else ["--ir", "ir", "--vis", "vi"]
    sink = [] if "--sink" in arguments else ["--sink", "out.mp4"]

    code, out, err = main_here("run", *sources, *sink, *arguments)

    assert (code, out) == (exit_code, ""), err
    assert words in err
    assert err.startswith("rtfusion: ")
    assert len(without_precision(err).splitlines()) == 1
    assert sorted(folders.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--output", "x.mp4"], "an output is named with --sink"),
        (["-o", "x.mp4"], "an output is named with --sink"),
        (["a.mp4", "b.mp4"], "sources are named with --ir and --vis, an output with --sink"),
    ],
)
def test_what_other_programs_call_sources_and_outputs_is_hinted_at(
    main_here: Main, arguments: list[str], hint: str
) -> None:
    code, _, err = main_here("run", *arguments)
    assert (code, hint in " ".join(err.replace("│", " ").split())) == (2, True), err


def test_an_unknown_option_is_a_usage_error(main_here: Main) -> None:
    code, _, err = main_here("run", "--fusr", "average")
    assert code == 2
    assert "No such option: --fusr" in err
    assert "--fuser" in err
    assert main_here("rum")[0] == 2
    assert main_here("view")[0] == 2


def test_a_source_that_breaks_in_mid_run_leaves_a_table_and_a_playable_file(main_here: Main, folders: Path) -> None:
    (folders / "vi" / "003.png").write_bytes((folders / "vi" / "003.png").read_bytes()[:40])
    sources = ("--ir", "ir", "--vis", "vi", "--fuser", "average")
    code, out, err = main_here("run", *sources, "--sink", "out.mp4", "--stats-json", "s.json")
    stats = statistics(folders / "s.json")
    assert code == stats["ending"]["exit_code"]
    assert "Traceback" not in err
    assert f"{stats['fused']} frames fused" in out
    assert count_frames(folders / "out.mp4") == stats["written"]["out.mp4"] == stats["fused"]


def test_a_failure_before_the_first_frame_is_in_the_statistics_too(main_here: Main, tmp_path: Path) -> None:
    code, _, err = main_here("run", "--ir", "nowhere.mp4", "--vis", SCENE, "--sink", "null:", "--stats-json", "s.json")
    assert code == 3
    ending = statistics(tmp_path / "s.json")["ending"]
    assert (ending["reason"], ending["exit_code"]) == ("error", 3)
    assert err == f"rtfusion: {ending['message']}\n"


# -- signals ----------------------------------------------------------------------------------------------------------


def wait_for(path: Path, *, files: int, process: subprocess.Popen[str]) -> None:
    deadline_s = time.monotonic() + 30
    while not path.is_dir() or len(list(path.iterdir())) < files:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline_s, "the run did not begin"
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("number", "exit_code", "reason"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_signal_finishes_the_outputs(
    tmp_path: Path, environ: dict[str, str], number: signal.Signals, exit_code: int, reason: str
) -> None:
    sinks = ["--sink", "out.mp4", "--sink", "images:frames"]
    arguments = ["run", "--ir", ENDLESS, "--vis", ENDLESS, "--fuser", "average", *sinks]
    process = subprocess.Popen(
        [sys.executable, "-m", "rtfusion", *arguments, "--stats-json", "s.json"],
        cwd=tmp_path,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            wait_for(tmp_path / "frames", files=10, process=process)
            process.send_signal(number)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    stats = statistics(tmp_path / "s.json")
    assert process.returncode == exit_code
    assert err == "rtfusion: stopping, finishing outputs... (again to quit at once)\n"
    assert f"{stats['fused']} frames fused" in out
    assert (stats["ending"]["reason"], stats["ending"]["exit_code"]) == (reason, exit_code)
    assert count_frames(tmp_path / "out.mp4") == stats["written"]["out.mp4"] >= 10
    assert len(list((tmp_path / "frames").iterdir())) == stats["written"]["images:frames"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["frames", "out.mp4", "s.json"]
    assert stats["notes"] == []
    with pytest.raises(ProcessLookupError):  # nobody of its session is left
        os.killpg(process.pid, 0)


@pytest.fixture
def waiting(environ: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A process that waits for a signal, says so, and then never ends unless it is told to on its stdin."""
    program = (
        "import sys\nfrom rtfusion.cli.stopping import Stopping\n"
        "with Stopping() as stopping:\n"
        "    print('ready', flush=True)\n    stopping.event.wait()\n"
        "    print('stopping', flush=True)\n    sys.stdin.read()\n"
        "sys.exit(stopping.exit_code)\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", program], env=environ, text=True, **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


SIGNALS = pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])


@SIGNALS
def test_a_later_signal_ends_the_process(
    waiting: subprocess.Popen[str], number: signal.Signals, exit_code: int
) -> None:
    deadline_s = time.monotonic() + 30
    while waiting.poll() is None and time.monotonic() < deadline_s:
        waiting.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            waiting.wait(0.1)
    assert waiting.stderr is not None
    assert waiting.returncode == exit_code
    assert waiting.stderr.read().splitlines() == [
        "rtfusion: stopping, finishing outputs... (again to quit at once)",
        "rtfusion: stopped at once; the last frames may be missing from the outputs",
    ]


@SIGNALS
def test_one_request_may_arrive_twice(waiting: subprocess.Popen[str], number: signal.Signals, exit_code: int) -> None:
    waiting.send_signal(number)
    waiting.send_signal(number)
    out, err = waiting.communicate("", timeout=30)
    assert waiting.returncode == exit_code
    assert out == "stopping\n"
    assert err == "rtfusion: stopping, finishing outputs... (again to quit at once)\n"


def test_on_a_terminal_a_bar_is_shown_and_the_cursor_comes_back(tmp_path: Path, environ: dict[str, str]) -> None:
    leader, follower = os.openpty()
    scene = "synthetic:?size=160x120&frames=15"
    sources = ["--ir", scene, "--vis", scene, "--pace", "--fuser", "average"]
    process = subprocess.Popen(
        [sys.executable, "-m", "rtfusion", "run", *sources, "--sink", "null:"],
        cwd=tmp_path,
        env={**environ, "TERM": "xterm"},
        stdout=subprocess.PIPE,
        stderr=follower,
    )
    os.close(follower)
    shown = b""
    with process, contextlib.suppress(OSError):  # the terminal is gone when the process is
        while chunk := os.read(leader, 65536):
            shown += chunk
    os.close(leader)
    assert process.returncode == 0
    assert b"/15" in shown
    assert b"frames/s" in shown
    assert shown.rindex(b"\x1b[?25h") > shown.rindex(b"\x1b[?25l")


def test_a_camera_of_the_network_that_is_not_there(main_here: Main, tmp_path: Path, free_port: int) -> None:
    address = f"http://me:s3cret@127.0.0.1:{free_port}/camera.mjpg"
    sources = ("--ir", "synthetic:?live=true&size=64x48", "--vis", address)
    code, out, err = main_here("run", "--debug", *sources, "--stats-json", "stats.json")
    assert code == 3
    assert f"http://***@127.0.0.1:{free_port}/camera.mjpg: " in err
    stats = (tmp_path / "stats.json").read_text()
    assert "s3cret" not in out + err + stats
    assert "***@" in stats


@pytest.mark.parametrize("setting", [("--grid", "thermal"), ("--look", "detector"), ("--refine",)])
def test_what_a_gpu_cannot_do_is_said_before_anything_is_opened(
    main_here: Main, tmp_path: Path, setting: tuple[str, ...]
) -> None:
    sources = ("--ir", "gone.mp4", "--vis", "gone.mp4", "--sink", "out.mp4")
    code, _, err = main_here("run", *sources, "--engine", "tensorrt", *setting)
    assert code == 2
    assert "is for engines of the CPU, and the engine is tensorrt; choose --engine openvino" in err
    assert "from flag --engine" in err
    assert not list(tmp_path.rglob("out.mp4"))


def test_beside_a_network_opencv_keeps_to_one_thread() -> None:
    before = cv2.getNumThreads()
    with opencv_for("learned"):
        assert cv2.getNumThreads() == 1
    with opencv_for("pyramid"):
        assert cv2.getNumThreads() == before
    assert cv2.getNumThreads() == before
