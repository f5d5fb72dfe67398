"""The table, the status line and the statistics file, from a snapshot as telemetry makes it."""

from __future__ import annotations

import copy
import json
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from rtfusion.cli.progress import expected_frames, status_line
from rtfusion.cli.stats import write_stats
from rtfusion.cli.summary import count_drops, summary
from rtfusion.config import Settings, load
from rtfusion.errors import ConfigError, SinkError
from rtfusion.files import check_output


def percentiles(p50: float, p95: float, p99: float, greatest: float) -> dict[str, float]:
    return {"count": 10, "p50": p50, "p95": p95, "p99": p99, "max": greatest, "mean": p50}


NOTHING = {"count": 0, "p50": None, "p95": None, "p99": None, "max": None, "mean": None}
SOURCE = {"size": "640x480", "pixel_format": "bgr8", "rate_hz": 30.0, "live": False, "description": "H.264, mp4"}
SNAPSHOT: dict[str, Any] = {
    "schema": 1,
    "elapsed_s": 8.04,
    "live": False,
    "fuser": "pyramid",
    "engine": None,
    "sources": {
        "visible": {**SOURCE, "uri": "vis [1].mp4", "frame_count": 240},
        "thermal": {**SOURCE, "uri": "thermal/" + 30 * "long/" + "name.mkv", "frame_count": 300},
    },
    "frames_read": {"visible": 240, "thermal": 238},
    "pairs": 238,
    "fused": 238,
    "fps": 29.6,
    "fps_recent": 20.0,
    "drops": {"visible": {"no_partner": 2, "corrupt": 0}, "thermal": {}, "sinks": {"zmq:tcp://127.0.0.1:5555": {"slow": 3}}},
    "tolerance_ms": 20.0,
    "skew_ms": percentiles(1.234, 16.66, 17.0, 33.34),
    "stages_ms": {"decode visible": percentiles(1.0, 2.0, 3.0, 4.0), "fuse": percentiles(12.34, 20.0, 1234.5, 2000.0)},
    "age_ms": {"fused.mp4": percentiles(40.0, 50.0, 60.0, 70.0), "zmq:tcp://127.0.0.1:5555": NOTHING},
    "written": {"fused.mp4": 238, "zmq:tcp://127.0.0.1:5555": 235},
    "fused_age_ms": percentiles(30.0, 35.0, 36.0, 40.0),
    "notes": ["no calibration: both cameras are taken to have the same view"],
}  # fmt: skip


def rendered(snapshot: dict[str, Any], *, width: int = 80) -> list[str]:
    console = Console(width=width, highlight=False)
    with console.capture() as captured:
        console.print(summary(snapshot))
    return captured.get().splitlines()


def test_the_table_tells_everything_in_80_columns() -> None:
    lines = rendered(SNAPSHOT)
    rows = [" ".join(line.split()) for line in lines]
    assert max(map(len, lines)) <= 80
    assert "238 frames fused in 8.0 s with pyramid: 29.6 frames/s" in rows
    assert "frames read 240 238" in rows
    assert "dropped 2 no partner 0" in rows
    assert "238 20.0 1.23 16.7 33.3" in rows
    assert "fuse 12.3 20.0 1234.5" in rows
    assert "fused.mp4 238 0 40.0 50.0 60.0" in rows
    assert "zmq:tcp://127.0.0.1:5555 235 3 slow - - -" in rows
    assert "note: no calibration: both cameras are taken to have the same view" in rows
    assert any("vis [1].mp4" in row for row in rows)


LOST = {"cause": "unplugged", "reason": "/dev/video2: no such camera", "seconds": 12.4, "shown": "visible alone"}


def test_a_camera_that_is_lost_is_told_on_the_status_line_and_in_the_table() -> None:
    lost = copy.deepcopy(SNAPSHOT) | {"live": True}
    lost["sources"]["visible"]["outages"] = {"times": 1, "seconds": 3.04, "now": None}
    lost["sources"]["thermal"]["outages"] = {"times": 2, "seconds": 20.0, "now": LOST}
    line = status_line(lost, total=None)
    assert line.startswith("THERMAL LOST for 12 s (unplugged): visible alone, 238 frames")
    text = " ".join(" ".join(rendered(lost, width=160)).split())
    assert "lost once, 3.0 s 2 times, 20.0 s; still, for 12.4 s: /dev/video2: no such camera" in text


def test_a_run_without_a_frame_has_a_table_too() -> None:
    empty = copy.deepcopy(SNAPSHOT)
    empty |= {"fused": 0, "pairs": 0, "fps": 0.0, "skew_ms": NOTHING, "stages_ms": {"fuse": NOTHING}, "age_ms": {}}
    empty |= {"written": {}, "drops": {}, "sources": {}, "notes": []}
    rows = [" ".join(line.split()) for line in rendered(empty)]
    assert "0 20.0 - - -" in rows
    assert not any(row.startswith("stage") for row in rows)


def test_drops_are_summed_over_groups_and_causes() -> None:
    assert count_drops(SNAPSHOT["drops"]) == 5


@pytest.mark.parametrize(
    ("visible", "thermal", "settings", "expected"),
    [
        (240, 300, Settings(), 240),
        (240, 300, Settings(max_frames=100), 100),
        (240, 300, Settings(max_frames=1000), 240),
        (None, 300, Settings(max_frames=100), None),
        (300, 30, Settings(pair="hold"), 300),
    ],
)
def test_expected_frames(visible: int | None, thermal: int, settings: Settings, expected: int | None) -> None:
    snapshot = {"sources": {"visible": {"frame_count": visible}, "thermal": {"frame_count": thermal}}}
    assert expected_frames(snapshot, settings) == expected


def test_status_of_a_recording() -> None:
    assert status_line(SNAPSHOT, total=338) == (
        "238 of 338 frames, 20.0 frames/s, 5 s left; dropped: visible 2, zmq:tcp://127.0.0.1:5555 3"
    )


def test_status_of_cameras() -> None:
    live = {**SNAPSHOT, "live": True, "drops": {}}
    assert status_line(live, total=None) == "238 frames, 20.0 frames/s, age 30 ms, skew 1 ms"


# -- the statistics file ----------------------------------------------------------------------------------------------


def write(path: Path, *, overwrite: bool = False) -> None:
    loaded = load({"loop": "2", "overwrite": overwrite}, file=None, environ={"XDG_CONFIG_HOME": "/nonexistent"})
    ending = {"reason": "interrupted", "exit_code": 130, "message": None}
    write_stats(path, snapshot=SNAPSHOT, loaded=loaded, ending=ending)


def test_statistics_hold_snapshot_settings_and_ending(tmp_path: Path) -> None:
    write(tmp_path / "stats.json")
    stats = json.loads((tmp_path / "stats.json").read_text())
    assert {name: stats[name] for name in SNAPSHOT} == SNAPSHOT
    assert stats["settings"]["loop"] == {"value": 2, "origin": "flag --loop"}
    assert stats["ending"] == {"reason": "interrupted", "exit_code": 130, "message": None}
    assert stats["version"]
    assert [path.name for path in tmp_path.iterdir()] == ["stats.json"]


def test_statistics_replace_a_file_and_pass_through_a_pipe(tmp_path: Path) -> None:
    target = tmp_path / "stats.json"
    target.write_text("old")
    with pytest.raises(SinkError, match=r"by now .* exists"):
        write(target)
    assert target.read_text() == "old"
    write(target, overwrite=True)
    assert json.loads(target.read_text())["fused"] == 238

    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    received: list[str] = []
    reader = threading.Thread(target=lambda: received.append(fifo.read_text()))
    reader.start()
    write(fifo)
    reader.join(10)
    assert json.loads(received[0])["fused"] == 238
    assert stat.S_ISFIFO(fifo.stat().st_mode)


def test_statistics_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="it is a folder"):
        check_output(tmp_path, overwrite=True)
    with pytest.raises(ConfigError, match=r"there is no folder .*nowhere; make it first"):
        check_output(tmp_path / "nowhere" / "stats.json", overwrite=False)
    with pytest.raises(SinkError, match="No such file or directory"):
        write(tmp_path / "nowhere" / "stats.json")
    check_output(tmp_path / "stats.json", overwrite=False)
