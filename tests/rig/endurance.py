"""A long run on two virtual cameras that go wrong again and again: is each loss told in time, and none taken for the other?

python -m tests.rig.endurance --minutes 30 --every-s 20 --json endurance.json
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.rig.v4l2rig import RTFUSION, Camera, Desk, Program, build, lepton, webcam

TOLD_S = 2.0
BACK_S = 20.0
FORMATS = {"webcam": "YUYV", "lepton": "Y16 "}
"""The format that each camera is asked for as what it is; as the other one it would be asked for another."""


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong for a while."""

    name: str
    band: str
    start: Callable[[Desk, Camera], None]
    stop: Callable[[Desk, Camera], None]
    lasts_s: float = 5.0


@dataclass(frozen=True)
class Outcome:
    """What became of a fault."""

    fault: str
    told_s: float | None
    """Seconds after which it was told; None: it was not."""
    back_s: float | None
    """Seconds after its end at which that was told."""
    rss_mb: float


def keys(**on: object) -> tuple[Callable[[Desk, Camera], None], Callable[[Desk, Camera], None]]:
    """Set keys of a camera, and take them back."""
    return lambda desk, camera: desk.set(camera, **on), lambda desk, camera: desk.set(camera, **dict.fromkeys(on))


def faults() -> Iterator[Fault]:
    """One after the other, for ever."""
    pull = (lambda desk, camera: desk.unplug(camera)), (lambda desk, camera: desk.plug(camera))
    while True:
        for band in ("visible", "thermal"):
            yield Fault(f"{band} unplugged", band, *pull)
            yield Fault(f"{band} silent", band, *keys(silent=1))
            yield Fault(f"{band} damaged", band, *keys(error=1))
            yield Fault(f"{band} frozen", band, *keys(freeze=1))
        yield Fault("thermal shutter", "thermal", *keys(ffc=1), lasts_s=2.5)


def live(desk: Desk, program: Program, cameras: dict[str, Camera], *, minutes: float, every_s: float) -> list[Outcome]:
    """Put in one fault after the other; what became of each."""
    outcomes: list[Outcome] = []
    end_s = time.monotonic() + 60 * minutes
    for fault in faults():
        began_s = time.monotonic()
        if began_s > end_s:
            return outcomes
        camera = cameras[fault.band]
        fault.start(desk, camera)
        started_s = time.monotonic()
        time.sleep(fault.lasts_s)
        fault.stop(desk, camera)
        stopped_s = time.monotonic()
        time.sleep(max(0.0, began_s + every_s - time.monotonic()))
        told_s = first_s(program, f"the {fault.band} camera is lost since", after_s=started_s)
        back_s = first_s(program, f"the {fault.band} camera is back", after_s=stopped_s)
        rss_mb = int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{program.pid}/status").read_text())[1]) / 1024  # type: ignore[index]
        outcomes.append(Outcome(fault.name, told_s, back_s, rss_mb))
    return outcomes


def first_s(program: Program, pattern: str, *, after_s: float) -> float | None:
    """Seconds from a moment to the first line that says something."""
    found = re.compile(pattern)
    return next((round(s - after_s, 2) for s, line in list(program.lines) if s >= after_s and found.search(line)), None)


def swapped(desk: Desk, cameras: Sequence[Camera]) -> list[str]:
    """Times that a camera was asked for pictures of the other band."""
    formats = {camera.id: re.findall(r" S_FMT (....) ", desk.log(camera)) for camera in cameras}
    return [f"{name}: {found}" for name, all_found in formats.items() for found in all_found if found != FORMATS[name]]


def run(folder: Path, *, minutes: float, every_s: float) -> dict[str, object]:
    """The whole: what became of every fault, and of the run."""
    desk = Desk(folder / "desk", library=build(folder))
    cameras = {"visible": webcam(), "thermal": lepton()}
    desk.plug(*cameras.values())
    words = ("run", "--ir", "/dev/video2", "--vis", "/dev/video0", "--fuser", "average", "--sink", "null:")
    with desk.start(*RTFUSION, *words, "--stats-json", "stats.json", folder=folder) as program:
        program.until(lambda: all(desk.log(camera).count("\n@") > 20 for camera in cameras.values()))
        outcomes = live(desk, program, cameras, minutes=minutes, every_s=every_s)
        program.send(signal.SIGINT)
        code, _, err = program.end()
    lost = [o for o in outcomes if o.fault != "thermal shutter"]
    return {
        "exit_code": code,
        "faults": len(outcomes),
        "told_late": [asdict(o) for o in lost if o.told_s is None or o.told_s > TOLD_S],
        "told_s_most": max((o.told_s for o in lost if o.told_s is not None), default=None),
        "told_falsely": [asdict(o) for o in outcomes if o.fault == "thermal shutter" and o.told_s is not None],
        "not_back": [asdict(o) for o in lost if o.back_s is None],
        "swapped": swapped(desk, list(cameras.values())),
        "rss_mb": [round(o.rss_mb, 1) for o in outcomes],
        "fused": json.loads((folder / "stats.json").read_text())["fused"],
        "outcomes": [asdict(o) for o in outcomes],
        "err": err.splitlines()[-3:],
    }


def main() -> None:
    """Run, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--every-s", type=float, default=20.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rtfusion-endurance-") as folder:
        found = run(Path(folder), minutes=options.minutes, every_s=options.every_s)
    text = json.dumps(found, indent=1)
    if options.json:
        options.json.write_text(f"{text}\n")
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    main()
