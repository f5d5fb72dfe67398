"""A run of hours in minutes: two cameras that go wrong again and again, and what became of each fault.

    python -m benchmarks.faults --minutes 30 --json faults.json

The visible camera is a network camera (MJPEG over HTTP on the loopback interface), the thermal one a Lepton behind a V4L2
driver in memory; pipeline, watchdog and sinks are the real ones. One fault after the other is put in: unplugged, silent,
frozen, corrupt, another rate, another size, repeated images, the shutter, a subscriber that hangs or is killed, a disk that
gets full. Each has to be noticed in time, counted under its cause, and got over; the pictures must never change places.

The run has two lives (`tests.rig.life`): the first one ends with ``kill -9`` while it records, and the second one has to
go on where the subscribers look for it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.suite import Measured, Result, Row, Suite, columns_table, grouped
from rtfusion.evaluate import timing
from tests.rig.disk import check_session, check_video, small_disk
from tests.rig.life import read_log
from tests.rig.rig import NOTICED_S, RATE_HZ, VISIBLE_SIZE_PX

FIRST_LIFE = 0.1
"""The share of the time that the first life gets."""
OVERDUE_S = 300.0
"""A life that is so much late hangs."""
WARM_S = 300.0
GROWTH = 1.1
"""Memory at the end may be so many times what it was after `WARM_S`."""
NO_DISK = "no full disk: a small disk cannot be mounted here, which needs root"
COLUMNS = (
    ("fault", "{case}"),
    ("times", "{count}"),
    ("in time", "{in_time}"),
    ("noticed s", "{noticed_s[median]:.2f} (most {noticed_s[max]:.2f})"),
    ("within s", "{limit_s:g}"),
    ("got over", "{recovered}"),
    ("got over s", "{recovered_s[median]:.2f} (most {recovered_s[max]:.2f})"),
)

Lines = Sequence[Mapping[str, Any]]
"""The lines of JSON that one life told."""


def measure(options: argparse.Namespace) -> Measured:
    """Both lives and what is left of them: a row for every kind of fault, for all, for the memory and for the recordings."""
    with contextlib.ExitStack() as stack:
        folder: Path | None = options.folder
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rtfusion-faults-")))
        disk = stack.enter_context(small_disk(folder / "disk"))
        first, noticed_s = _live(folder / "first", options, share=FIRST_LIFE, words=["--killed"])
        second, _ = _live(folder / "second", options, share=1 - FIRST_LIFE, words=["--disk", str(disk)] if disk else [])
        files = list(_recordings(folder, disk, {"first": first, "second": second}))
    outcomes = [*_of_kind(first, "fault"), _killed(first, second, noticed_s=noticed_s), *_of_kind(second, "fault")]
    rows = [
        *({"case": name, "of": "fault", **_figures(some)} for name, some in sorted(grouped(outcomes, "name").items())),
        {"case": "all", "of": "run", **_figures(outcomes), **_counts(first, second)},
        {"case": "memory", "of": "run", **_memory(_of_kind(second, "state"))},
        {"case": "recordings", "of": "run", "files": files},
    ]
    settings = {
        "minutes": options.minutes, "seed": options.seed, "rate_hz": RATE_HZ, "size": "x".join(map(str, VISIBLE_SIZE_PX)),
        "fuser": "pyramid", "left_out": [] if disk else [NO_DISK],
    }  # fmt: skip
    return settings, rows


def _live(folder: Path, options: argparse.Namespace, *, share: float, words: Sequence[str]) -> tuple[Lines, float]:
    """Let one life run to its end, and end what it left behind; gives what it told, and when its end was noticed."""
    folder.mkdir()
    minutes, seed = share * options.minutes, options.seed + (folder.name == "second")
    log = folder.with_suffix(".log")
    command = [sys.executable, "-m", "tests.rig.life", "--minutes", str(minutes), "--seed", str(seed)]
    life = subprocess.Popen(  # noqa: S603
        [*command, "--folder", str(folder), "--log", str(log), *words], start_new_session=True
    )
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):  # what it did not tell is missed in the figures
            life.wait(60 * minutes + OVERDUE_S)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(life.pid, signal.SIGKILL)
        life.wait()
    return read_log(log), time.monotonic()


def _recordings(folder: Path, disk: Path | None, lives: Mapping[str, Lines]) -> Iterator[Row]:
    """Play the sessions and the fused video of every life, and count."""
    for session in (folder / "first" / "killed").iterdir():
        yield check_session(session)
    for line in disk.glob("*/session.json") if disk else ():
        yield check_session(line.parent)
    for name, lines in lives.items():
        found = check_video(folder / name / "fused.mkv", written=_of_kind(lines, "state")[-1]["written"])
        yield {**found, "file": f"{name}/fused.mkv"}


# -- figures ------------------------------------------------------------------------------------------------------------


def _of_kind(lines: Lines, kind: str) -> list[Row]:
    return [dict(line) for line in lines if line["kind"] == kind]


def _killed(first: Lines, second: Lines, *, noticed_s: float) -> Row:
    """The kill: noticed by who waits for the process, got over when the next life fuses both cameras."""
    started_s = [line["at_s"] for line in _of_kind(second, "started")]
    return {
        "name": "process killed",
        "limit_s": NOTICED_S,
        "noticed_s": round(noticed_s - _of_kind(first, "killed")[-1]["at_s"], 3),
        "recovered_s": round(started_s[0] - noticed_s, 3) if started_s else None,
    }


def _figures(outcomes: Sequence[Row]) -> Row:
    noticed = [outcome for outcome in outcomes if outcome["noticed_s"] is not None]
    recovered_s = [outcome["recovered_s"] for outcome in outcomes if outcome["recovered_s"] is not None]
    return {
        "count": len(outcomes),
        "limit_s": max(outcome["limit_s"] for outcome in outcomes),
        "noticed": len(noticed),
        "in_time": sum(outcome["noticed_s"] <= outcome["limit_s"] for outcome in noticed),
        "noticed_s": timing.spread([outcome["noticed_s"] for outcome in noticed]) if noticed else None,
        "recovered": len(recovered_s),
        "recovered_s": timing.spread(recovered_s) if recovered_s else None,
    }


def _counts(first: Lines, second: Lines) -> Row:
    """Frames, drops and notes of both lives, and how the second one ended."""
    states = [_of_kind(lines, "state")[-1] for lines in (first, second)]
    ended = (_of_kind(second, "ended") or [{}])[-1]
    counted: dict[str, Counter[str]] = {}
    for state in states:
        for band, causes in state["counted"].items():
            counted.setdefault(band, Counter()).update(causes)
    return {
        "swapped": sum(state["swapped"] for state in states),
        "frames": dict(sum((Counter(state["frames"]) for state in states), Counter())),
        "counted": {band: dict(causes) for band, causes in counted.items()},
        "ended": bool(ended),
        **{name: ended.get(name) for name in ("threads_left", "drops", "age_ms")},
        "notes": states[1]["notes"],
    }


def _memory(states: Lines) -> Row:
    """Summarize the memory: at the start, once warm, at the end (medians of five samples), and every minute."""
    warm = [state for state in states if state["at_s"] >= states[0]["at_s"] + WARM_S] or states
    return {
        "start_mb": states[0]["memory_mb"],
        "warm_mb": statistics.median(state["memory_mb"] for state in warm[:5]),
        "end_mb": statistics.median(state["memory_mb"] for state in warm[-5:]),
        "most_mb": max(state["memory_mb"] for state in states),
        "by_minute_mb": [state["memory_mb"] for state in states[::4]],
        **{name: [warm[0][name], max(state[name] for state in states)] for name in ("threads", "files")},
    }


def failures(data: Result) -> list[str]:
    """Say in words what is not as it has to be."""
    rows = {row["case"]: row for row in data["rows"]}
    total, memory = rows["all"], rows["memory"]
    checks = {
        f"{total['count'] - total['noticed']} faults were never noticed": total["noticed"] < total["count"],
        f"{total['noticed'] - total['in_time']} faults were noticed late": total["in_time"] < total["noticed"],
        f"{total['count'] - total['recovered']} faults were not got over": total["recovered"] < total["count"],
        f"{total['swapped']} pictures changed places": total["swapped"] > 0,
        "the run did not end": not total["ended"],
        f"threads are left: {total['threads_left']}": bool(total["threads_left"]),
        f"memory grew from {memory['warm_mb']} to {memory['end_mb']} MB": memory["end_mb"] > GROWTH * memory["warm_mb"],
    }
    found = [text for text, is_so in checks.items() if is_so]
    return found + [f"{file['file']} does not play" for file in rows["recordings"]["files"] if not file["plays"]]


def table(data: Result) -> str:
    """A line for every kind of fault and one for all, and the memory; Markdown."""
    rows = [row for row in data["rows"] if row["of"] == "fault" or row["case"] == "all"]
    memory = next(row for row in data["rows"] if row["case"] == "memory")
    sizes = "Memory: {start_mb:.0f} MB at the start, {warm_mb:.0f} warm, {end_mb:.0f} at the end."
    return f"{columns_table(COLUMNS, rows)}\n\n{sizes.format_map(memory)}"


SUITE = Suite(
    name="faults",
    help=__doc__,
    options={
        "--minutes": {"type": float, "default": 30.0},
        "--seed": {"type": int, "default": 0},
        "--folder": {"type": Path, "help": "an empty one to work in (default: a temporary one)"},
    },
    measure=measure,
    table=table,
    failures=failures,
)

if __name__ == "__main__":
    sys.exit(SUITE.main())
