"""Small archives of real files, and the trees that a batch makes of them."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from rtfusion.batch import Job, Summary, Told, find_recordings, make_jobs, run
from rtfusion.batch.account import NAME
from rtfusion.batch.processes import Processes
from rtfusion.batch.run import Ended, Workers
from rtfusion.batch.work import VIDEO_OF_VIDEOS, fuse
from rtfusion.errors import FusionError, StorageError
from tests.capture.clips import write_clip

VIDEOS = ("drive/night", "drive/day", "yard")
STILLS = "stills"


def make_archive(
    root: Path, *, frames: int = 40, size_px: tuple[int, int] = (96, 64), videos: Sequence[str] = VIDEOS
) -> Path:
    """Pairs of videos and one pair of folders."""
    rng = np.random.default_rng(1)
    for name in videos:
        folder = root / name
        folder.mkdir(parents=True)
        for band in ("vi", "ir"):
            images = rng.integers(0, 256, (frames, size_px[1], size_px[0], 3), dtype=np.uint8)
            write_clip(folder / f"{band}.mp4", images, options={"preset": "ultrafast"})
    for band in ("vis", "thermal"):
        (root / STILLS / band).mkdir(parents=True)
        for stem in ("a", "b", "c"):
            image = rng.integers(0, 256, (48, 64), dtype=np.uint8)
            cv2.imwrite(str(root / STILLS / band / f"{stem}.png"), image)
    return root


def tree(root: Path) -> dict[str, str]:
    """Every file below ``root`` with its checksum, and every folder; but for the account, which tells of times."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(root.rglob("*"))
        if path != root / NAME
    }


class Done(NamedTuple):
    """What a batch says at its end."""

    summary: Summary
    before: Mapping[str, int]

    @property
    def already_done(self) -> int:
        return self.before.get("done", 0)

    @property
    def fused(self) -> int:
        """Recordings that this batch fused."""
        return self.summary.states.get("done", 0) - self.already_done

    @property
    def failed(self) -> Mapping[str, str]:
        return self.summary.failed


def batch(
    archive: Path | str,
    out: Path | str,
    *,
    workers: Workers | None = None,
    settings: Mapping[str, Any] | None = None,
    stop: threading.Event | None = None,
    say: Callable[[str], None] = lambda text: None,
    split_s: int | None = None,
    scratch: Path | None = None,
    scratch_bytes: int = 10**9,
    writes: str = VIDEO_OF_VIDEOS,
    detector: str | None = None,
    detect_hz: int | None = None,
    **more: Any,
) -> Done:
    """Find the recordings and fuse them by the pyramid on two processes, unless something else is said."""
    jobs = make_jobs(
        find_recordings(archive, leave_out=out),
        out=str(out),
        settings=settings or {"fuser": "pyramid"},
        split_s=split_s,
        writes=writes,
        detector=detector,
        detect_hz=detect_hz,
        scratch=None if scratch is None else str(scratch),
        scratch_bytes=scratch_bytes,
    )
    told = Told(say=say)
    return Done(
        *run(jobs, out=str(out), workers=workers or Processes(2), stop=stop or threading.Event(), told=told, **more)
    )


class InThisProcess:
    """Workers that note what they begin, one at a time."""

    count = 1

    def __init__(self, begun: list[str] | None = None) -> None:
        self._begun = begun if begun is not None else []
        self.job: Job | None = None

    def __enter__(self) -> InThisProcess:
        return self

    def __exit__(self, *error: object) -> None:
        self.job = None

    def start(self, job: Job) -> None:
        self._begun.append(job.name)
        self.job = job

    def ended(self, *, timeout_s: float) -> list[Ended]:
        assert self.job is not None
        try:
            return [Ended(job=self.job, result=fuse(self.job))]
        except FusionError as error:
            of_storage = isinstance(error, StorageError)
            return [Ended(job=self.job, error=str(error), exit_code=error.exit_code, is_of_storage=of_storage)]

    def progress(self) -> dict[str, tuple[int, int | None]]:
        return {}
