"""A disk that loses power: two cameras are recorded onto a file system in a file, whose copy is what a cut would leave.

``python -m tests.rig.power --cuts 20`` cuts at random moments of one run, and prints what each cut cost. It needs the right to
mount.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import av

from rtfusion.clock import NS_PER_S
from rtfusion.config import Settings
from rtfusion.pipeline import build
from rtfusion.session.format import load_session

CAMERA = "synthetic:?fps=20&live=true&prerender=20&size=320x240&frames=0"
SPAN_S = 8.0
"""A cut comes at a random moment of so long."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """What one cut cost."""

    lost_s: float
    """Of the session: from the last line that had been written to the last pair that is replayed."""
    fused: int
    pairs: int
    """Of the session as it was left, and those that a replay fused."""
    videos: dict[str, float | None]
    """Seconds missing at the end of each video file; None where there is none."""


def can_mount() -> bool:
    """True where a file system in a file can be made and mounted."""
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None or shutil.which("e2fsck") is None:
        return False
    with tempfile.TemporaryDirectory() as name, suppress(subprocess.CalledProcessError):
        image = _made(Path(name), size_mb=16)
        with _mounted(image, Path(name) / "disk"):
            return True
    return False


def cuts(folder: Path, *, count: int, seed: int) -> Iterator[Cut]:
    """Record onto a disk of its own in ``folder`` and cut its power, so often."""
    draw = random.Random(seed)
    for _ in range(count):
        image, copy = _made(folder, size_mb=300), folder / "cut"
        with _mounted(image, folder / "disk"), _recording(folder / "disk") as process:
            time.sleep(draw.uniform(0.2, SPAN_S))
            process.send_signal(signal.SIGSTOP)  # the copy is of one moment
            written_ns = _stamps_ns(folder / "disk")
            subprocess.run(["cp", "--sparse=always", str(image), str(copy)], check=True)
            process.kill()
        yield _looked_at(copy, folder / "after", written_ns)


def _made(folder: Path, *, size_mb: int) -> Path:
    image = folder / "image"
    with image.open("wb") as file:
        file.truncate(size_mb << 20)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True, capture_output=True)
    return image


@contextmanager
def _mounted(image: Path, point: Path) -> Iterator[None]:
    point.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(point)], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(point)], check=True)


@contextmanager
def _recording(disk: Path) -> Iterator[subprocess.Popen[bytes]]:
    sinks = [f"record:{disk}/sessions?reserve_mb=10&segment_s=3", str(disk / "a.mp4"), str(disk / "b.mkv")]
    words = [word for sink in sinks for word in ("--sink", sink)]
    command = [
        sys.executable,
        "-m",
        "rtfusion",
        "run",
        "--ir",
        f"{CAMERA}&bits=16",
        "--vis",
        CAMERA,
        "--fuser",
        "average",
        *words,
    ]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        try:
            while not any(path.stat().st_size for path in disk.glob("sessions/*/000000.jsonl")):
                if process.poll() is not None:
                    raise RuntimeError(f"the recording ended with {process.returncode} before it began")
                time.sleep(0.05)
            yield process
        finally:
            process.kill()


def _stamps_ns(disk: Path) -> tuple[int, int]:
    """Stamps of the first and of the last pair of which the line is written."""
    lines = [line for path in sorted(disk.glob("sessions/*/*.jsonl")) for line in path.read_bytes().splitlines()]
    stamps = [json.loads(line)["visible"]["timestamp_ns"] for line in lines if b"sequence" in line]
    return int(stamps[0]), int(stamps[-1])


def _looked_at(copy: Path, point: Path, written_ns: tuple[int, int]) -> Cut:
    subprocess.run(["e2fsck", "-fy", str(copy)], check=False, capture_output=True)
    with _mounted(copy, point):
        session = load_session(next((point / "sessions").iterdir()))
        stamps_ns = [pair.visible.timestamp_ns for pair in session.pairs()] or [written_ns[0]]
        fused = _replayed(session.folder) if len(stamps_ns) > 1 else 0
        span_s = (stamps_ns[-1] - stamps_ns[0]) / NS_PER_S
        videos = {name: _missing_s(point / name, span_s) for name in ("a.mp4", "b.mkv")}
    lost_s = (written_ns[1] - stamps_ns[-1]) / NS_PER_S
    return Cut(lost_s=lost_s, fused=fused, pairs=len(stamps_ns) if fused else 0, videos=videos)


def _replayed(folder: Path) -> int:
    replay = build(Settings(ir=f"session:{folder}", vis=f"session:{folder}", sink="null:", fuser="average"))
    replay.run()
    return replay.telemetry.fused


def _missing_s(path: Path, span_s: float) -> float | None:
    if not path.exists():
        return None
    with av.open(path) as container:
        last_s = max((float(frame.time or 0) for frame in container.decode(video=0)), default=0.0)
    return span_s - last_s


def main() -> None:
    """Cut, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cuts", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        found = []
        for cut in cuts(Path(name), count=options.cuts, seed=options.seed):
            found.append(cut)
            sys.stdout.write(f"{cut}\n")
            sys.stdout.flush()
    lost = sorted(cut.lost_s for cut in found)
    sys.stdout.write(
        f"{len(found)} cuts: the session lost {lost[len(lost) // 2]:.2f} s (median), {lost[-1]:.2f} s at most\n"
    )


if __name__ == "__main__":
    main()
