"""A run of hours in minutes: two cameras that go wrong again and again, and what became of each fault.

    python -m benchmarks.faults --minutes 30 --json faults.json

The visible camera is a network camera (MJPEG over HTTP on the loopback interface), the thermal one a Lepton behind a V4L2
driver in memory; pipeline, watchdog and sinks are the real ones. One fault after the other is put in: unplugged, silent,
frozen, corrupt, another rate, another size, repeated images, the shutter, a subscriber that hangs or is killed, a disk that
gets full. Each has to be noticed in time, counted under its cause, and got over; the pictures must never change places.

The run has two lives (`benchmarks.fault_life`): the first one ends with ``kill -9`` while it records, and the second one has to
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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.fault_disk import check_session, check_video, small_disk
from benchmarks.fault_life import Outcome, read_log
from benchmarks.fault_rig import NOTICED_S, RATE_HZ, VISIBLE_SIZE_PX
from rtfusion.evaluate import timing
from rtfusion.evaluate.conditions import Conditions

FIRST_LIFE = 0.1
"""Share of the time."""
OVERDUE_S = 300.0
"""A life that is so much late hangs."""
WARM_S = 300.0
GROWTH = 1.1
"""Memory at the end may be so many times what it was after `WARM_S`."""
NO_DISK = "no full disk: a small disk cannot be mounted here, which needs root"

Lines = Sequence[Mapping[str, Any]]


def run(*, minutes: float, seed: int, folder: Path) -> dict[str, Any]:
    """Both lives and what is left of them; a result of `benchmarks`."""
    conditions = Conditions()
    logs = [folder / "first.log", folder / "second.log"]
    lives = [folder / "first", folder / "second"]
    for life in lives:
        life.mkdir()
    with small_disk(folder / "disk") as disk:
        _live(logs[0], minutes=FIRST_LIFE * minutes, arguments=["--seed", str(seed), "--folder", lives[0], "--killed"])
        noticed_s = time.monotonic()
        more: list[str | Path] = ["--seed", str(seed + 1), "--folder", lives[1]]
        if disk is not None:
            more += ["--disk", disk]
        _live(logs[1], minutes=(1 - FIRST_LIFE) * minutes, arguments=more)
        lines = [read_log(log) for log in logs]
        sessions = [*(lives[0] / "killed").iterdir(), *([] if disk is None else disk.glob("*/session.json"))]
        recordings = [check_session(path if path.is_dir() else path.parent) for path in sessions]
    for life, told in zip(lives, lines, strict=True):
        written = _last(told, "state")["written"]
        recordings.append({**check_video(life / "fused.mkv", written=written), "file": f"{life.name}/fused.mkv"})
    outcomes = [*_outcomes(lines[0]), _killed(*lines, noticed_s=noticed_s), *_outcomes(lines[1])]
    settings = {
        "minutes": minutes, "seed": seed, "rate_hz": RATE_HZ, "size": "x".join(map(str, VISIBLE_SIZE_PX)),
        "fuser": "pyramid", "left_out": [NO_DISK] if disk is None else [],
    }  # fmt: skip
    rows = [
        *_by_kind(outcomes),
        _total(outcomes, lines),
        _memory(lines[1]),
        {"case": "recordings", "of": "run", "files": recordings},
    ]
    return timing.result("faults", settings=settings, rows=rows, conditions=conditions)


def _live(log: Path, *, minutes: float, arguments: Sequence[str | Path]) -> None:
    """Let one life run to its end, and end what it left behind."""
    words = ["--minutes", str(minutes), "--log", log, *arguments]
    life = subprocess.Popen([sys.executable, "-m", "benchmarks.fault_life", *words], start_new_session=True)  # noqa: S603
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):  # what it did not tell is missed in the figures
            life.wait(60 * minutes + OVERDUE_S)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(life.pid, signal.SIGKILL)
        life.wait()


# -- figures ------------------------------------------------------------------------------------------------------------


def _of_kind(lines: Lines, kind: str) -> list[Mapping[str, Any]]:
    return [line for line in lines if line["kind"] == kind]


def _last(lines: Lines, kind: str) -> Mapping[str, Any]:
    return _of_kind(lines, kind)[-1]


def _outcomes(lines: Lines) -> list[Outcome]:
    names = Outcome.__slots__
    return [Outcome(**{name: line[name] for name in names}) for line in _of_kind(lines, "fault")]


def _killed(first: Lines, second: Lines, *, noticed_s: float) -> Outcome:
    """The kill: noticed by who waits for the process, got over when the next life fuses both cameras."""
    killed_s = _last(first, "killed")["at_s"]
    started_s = [line["at_s"] for line in _of_kind(second, "started")]
    return Outcome(
        name="process killed",
        limit_s=NOTICED_S,
        noticed_s=round(noticed_s - killed_s, 3),
        recovered_s=round(started_s[0] - noticed_s, 3) if started_s else None,
    )


def _by_kind(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    return [
        {"case": name, "of": "fault", **_figures([outcome for outcome in outcomes if outcome.name == name])}
        for name in sorted({outcome.name for outcome in outcomes})
    ]


def _figures(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    noticed = [outcome.noticed_s for outcome in outcomes if outcome.noticed_s is not None]
    recovered = [outcome.recovered_s for outcome in outcomes if outcome.recovered_s is not None]
    return {
        "count": len(outcomes),
        "limit_s": max(outcome.limit_s for outcome in outcomes),
        "noticed": len(noticed),
        "in_time": sum(outcome.noticed_s is not None and outcome.noticed_s <= outcome.limit_s for outcome in outcomes),
        "noticed_s": timing.spread(noticed) if noticed else None,
        "recovered": len(recovered),
        "recovered_s": timing.spread(recovered) if recovered else None,
    }


def _total(outcomes: Sequence[Outcome], lines: Sequence[Lines]) -> dict[str, Any]:
    states = [_last(told, "state") for told in lines]
    ended = _of_kind(lines[1], "ended")
    counted: dict[str, Counter[str]] = {}
    for state in states:
        for band, causes in state["counted"].items():
            counted.setdefault(band, Counter()).update(causes)
    return {
        "case": "all", "of": "run", **_figures(outcomes),
        "swapped": sum(state["swapped"] for state in states),
        "frames": dict(sum((Counter(state["frames"]) for state in states), Counter())),
        "counted": {band: dict(causes) for band, causes in counted.items()},
        "ended": bool(ended),
        "threads_left": ended[-1]["threads_left"] if ended else None,
        "drops": ended[-1]["drops"] if ended else None,
        "age_ms": ended[-1]["age_ms"] if ended else None,
        "notes": states[1]["notes"],
    }  # fmt: skip


def _memory(lines: Lines) -> dict[str, Any]:
    """Of the second life: at the start, once it is warm, at the end (medians of five samples), and every minute."""
    states = _of_kind(lines, "state")
    start_s = states[0]["at_s"]

    def median(some: Lines) -> float:
        return statistics.median(state["memory_mb"] for state in some)

    warm = [state for state in states if state["at_s"] >= start_s + WARM_S] or states
    return {
        "case": "memory", "of": "run",
        "start_mb": states[0]["memory_mb"], "warm_mb": median(warm[:5]), "end_mb": median(warm[-5:]),
        "most_mb": max(state["memory_mb"] for state in states),
        "by_minute_mb": [state["memory_mb"] for state in states[::4]],
        "threads": [warm[0]["threads"], max(state["threads"] for state in states)],
        "files": [warm[0]["files"], max(state["files"] for state in states)],
    }  # fmt: skip


def failures(data: Mapping[str, Any]) -> list[str]:
    """What is not as it has to be, in words."""
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


def table(data: Mapping[str, Any]) -> str:
    """The result as Markdown."""
    lines = [
        "| fault | times | in time | noticed s | within s | got over | got over s |",
        "|---|---|---|---|---|---|---|",
    ]
    rows = [row for row in data["rows"] if row["of"] == "fault" or row["case"] == "all"]
    for row in rows:
        cells = [
            row["case"], row["count"], row["in_time"], _shown(row["noticed_s"]), f"{row['limit_s']:g}", row["recovered"],
            _shown(row["recovered_s"]),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(map(str, cells))} |")
    (memory,) = [row for row in data["rows"] if row["case"] == "memory"]
    lines += [
        "",
        f"Memory: {memory['start_mb']:.0f} MB at the start, {memory['warm_mb']:.0f} warm, {memory['end_mb']:.0f} at the end.",
    ]
    return "\n".join(lines)


def _shown(values: Mapping[str, float] | None) -> str:
    return "-" if values is None else f"{values['median']:.2f} (most {values['max']:.2f})"


def main() -> int:
    """The named command; 1 when anything is not as it has to be."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", maxsplit=1)[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=None, help="an empty one to work in (default: a temporary one)")
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = arguments.folder
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rtfusion-faults-")))
        data = run(minutes=arguments.minutes, seed=arguments.seed, folder=folder)
    print(table(data))
    if arguments.json is not None:
        timing.save(data, arguments.json)
    wrong = failures(data)
    for text in wrong:
        print(f"FAILED: {text}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
