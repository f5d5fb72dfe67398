"""What an archive will cost, from the beginnings of a few recordings of it. Nothing is written."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rtfusion.batch.account import Account
from rtfusion.batch.storage import Scratch, open_store
from rtfusion.batch.work import Job, default_scratch, keeping_to, outputs_beside, sink_of, staged
from rtfusion.errors import FusionError

SAMPLES = 3
"""Recordings that are looked at: those at equal steps of size, without the smallest and the largest of many."""
FRAMES = 300
"""Frames of each that are fused."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """What is left of an archive; hours and core-hours are None where no sample could be read."""

    recordings: int
    left: int
    """Recordings that are not done as they are asked for, failed ones included."""
    bytes_left: int
    samples: int
    """Recordings whose beginning was fused."""
    hours: float | None
    """Of recorded time; 0 for stills."""
    core_hours: float | None
    unreadable: dict[str, str]
    """Recording to what is wrong with it, of the samples."""

    def plain(self) -> dict[str, Any]:
        """Give it as JSON can hold it."""
        return asdict(self)


def estimate(jobs: Sequence[Job], *, out: str) -> Estimate:
    """Fuse the beginnings of a few recordings into a folder for temporary files, and reckon by their bytes.

    Raises:
        StorageError: the output does not answer.
    """
    entries = Account(open_store(out)).entries
    done = {(entry.recording, entry.fingerprint) for entry in entries.values() if entry.state == "done"}
    left = [job for job in jobs if (job.name, job.fingerprint) not in done]
    seconds = cpu_s = 0.0
    size_bytes = samples = 0
    unreadable: dict[str, str] = {}
    for job in _chosen(left):
        try:
            job_seconds, job_cpu_s = _look(job)
        except FusionError as error:
            unreadable[job.name] = str(error)
            continue
        samples += 1
        seconds, cpu_s, size_bytes = seconds + job_seconds, cpu_s + job_cpu_s, size_bytes + job.size_bytes
    bytes_left = sum(job.size_bytes for job in left)
    share = bytes_left / size_bytes if size_bytes else None
    return Estimate(
        recordings=len(jobs),
        left=len(left),
        bytes_left=bytes_left,
        samples=samples,
        hours=None if share is None else seconds / 3600 * share,
        core_hours=None if share is None else cpu_s / 3600 * share,
        unreadable=unreadable,
    )


def _chosen(jobs: Sequence[Job]) -> list[Job]:
    by_size = sorted(jobs, key=lambda job: job.size_bytes)
    if len(by_size) <= SAMPLES:
        return by_size
    return [by_size[len(by_size) * (2 * index + 1) // (2 * SAMPLES)] for index in range(SAMPLES)]


def _look(job: Job) -> tuple[float, float]:
    """Seconds of the recording, and the CPU seconds that all of it would take."""
    from rtfusion.config import Settings
    from rtfusion.pipeline import build

    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rtfusion-batch-")))
        remote_bytes = sum(part.size_bytes for part in (job.visible, job.thermal) if not part.is_local)
        scratch = Scratch(Path(job.scratch or default_scratch()), limit_bytes=job.scratch_bytes)
        here = staged(job, stack.enter_context(scratch.room(remote_bytes)))
        settings = {**here.settings, "vis": here.visible.place, "ir": here.thermal.place, "max_frames": FRAMES}
        stack.enter_context(keeping_to(here, settings))
        beside = stack.enter_context(outputs_beside(here, folder))
        pipeline = build(Settings(**settings, sink=(sink_of(here, folder),)), sinks=beside)
        began_s = time.process_time()  # what it takes to load a model is nothing beside a recording
        pipeline.run()
        cpu_s = time.process_time() - began_s
    sources = pipeline.telemetry.sources.values()
    seconds = min(info.duration_s or 0.0 for info in sources) if all(info.continuous for info in sources) else 0.0
    counts = [info.frame_count or seconds * info.rate_hz for info in sources]
    whole = max(min(counts), pipeline.telemetry.fused)
    return seconds, cpu_s * whole / max(pipeline.telemetry.fused, 1)
