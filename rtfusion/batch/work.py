"""One recording, fused whole or not at all. Also a program: a job as JSON on stdin, what was done as JSON on stdout."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import shutil
import signal
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtfusion import __version__
from rtfusion.batch.archive import Recording
from rtfusion.engines import model_file, runs_on_gpu
from rtfusion.errors import ConfigError, FusionError, SinkError
from rtfusion.files import write_whole
from rtfusion.portable import stay_on

SCHEMA = 1
STAGING = ".rtfusion-batch"
"""Folder of the output in which recordings are fused; removed when a batch is over."""
DONE = "done.json"
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A recording, where it goes, and how it is fused; plain values, so that it can travel."""

    name: str
    visible: str
    thermal: str
    out: str
    """Folder of the whole batch."""
    settings: Mapping[str, Any]
    fingerprint: str
    """Checksum of everything that decides the result: inputs, settings, files that the settings name, version."""
    cores: tuple[int, ...] | None = None
    """Cores that the work may use; None leaves the choice to the system."""

    @property
    def folder(self) -> Path:
        """Folder in which the result appears."""
        return Path(self.out) / self.name


def make_job(recording: Recording, *, out: Path, settings: Mapping[str, Any]) -> Job:
    """Make the job of a recording; ``settings`` are those of a run, without sources and outputs.

    Raises:
        ConfigError: a model or calibration that the settings name cannot be read.
    """
    from rtfusion.config import Settings

    parts: list[Any] = [SCHEMA, __version__, dict(settings), recording.contents()]
    if settings.get("model") is not None:
        on_gpu = runs_on_gpu(settings.get("engine", "auto"))
        file = model_file(Path(settings["model"]), precision=settings.get("precision", "auto"), on_gpu=on_gpu)
        parts.append(_checksum(file))
    files = [name for name, setting in Settings.declared().items() if setting.path == "file"]
    parts += [_checksum(Path(settings[name])) for name in files if settings.get(name) is not None]
    return Job(
        name=recording.name,
        visible=str(recording.visible),
        thermal=str(recording.thermal),
        out=str(out),
        settings=dict(settings),
        fingerprint=hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest(),
    )


def precision_of_results(out: Path) -> str | None:
    """The precision that the finished recordings of a batch were fused in, where there are some that say it."""
    for path in sorted(out.rglob(DONE)):
        try:
            precision = json.loads(path.read_text(encoding="utf-8"))["settings"]["precision"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if precision != "auto":
            return str(precision)
    return None


def is_done(job: Job) -> bool:
    """Say if the result is there, whole and of this job.

    Raises:
        ConfigError: something is there that is not: another recording's, of other settings, damaged, or none of ours.
    """
    if not job.folder.exists():
        return False
    try:
        record = _record(job)
        sizes = {name: entry["bytes"] for name, entry in record["outputs"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(
            f"{job.folder} was not made by rtfusion batch ({DONE} cannot be read); choose another --out"
        ) from None
    if record.get("fingerprint") != job.fingerprint:
        raise ConfigError(
            f"{job.folder} was fused from other recordings, or by other settings, or by another version of rtfusion; "
            "choose another --out, or fuse it anew with --overwrite"
        )
    files = {name: job.folder / name for name in sizes}
    missing = [name for name, path in files.items() if not (path.is_file() and path.stat().st_size == sizes[name])]
    if missing:
        raise ConfigError(f"{job.folder} is damaged: {missing[0]} is not as it was written; fuse anew with --overwrite")
    return True


def fuse(job: Job) -> dict[str, Any]:
    """Fuse a recording, unless it is done, and give its record, the content of `DONE`.

    Raises:
        FusionError: the recording cannot be fused. Nothing of it stays.
    """
    staging = Path(job.out) / STAGING / uuid.uuid4().hex
    try:
        if is_done(job):
            return _record(job)
        staging.mkdir(parents=True)
        record = _fuse_into(staging, job)
        write_whole(staging / DONE, json.dumps(record, indent=1, sort_keys=True) + "\n")
        _publish(staging, job.folder)
        return _record(job)
    except OSError as error:
        if isinstance(error, FusionError):
            raise
        raise SinkError(f"{job.folder}: {error.strerror}; make room, or write elsewhere") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _fuse_into(staging: Path, job: Job) -> dict[str, Any]:
    from rtfusion.config import Settings
    from rtfusion.pipeline import build

    sink = str(staging / "fused.mp4") if Path(job.visible).is_file() else f"images:{staging / 'fused'}"
    pipeline = build(Settings(**{**job.settings, "vis": job.visible, "ir": job.thermal, "sink": (sink,)}))
    pipeline.run()
    snapshot = pipeline.telemetry.snapshot()
    if not snapshot["fused"]:
        raise ConfigError(f"{job.name}: no frame was fused: {'; '.join(snapshot['notes']) or 'both are empty'}")
    files = sorted(path for path in staging.rglob("*") if path.is_file())
    return {
        "schema": SCHEMA,
        "recording": job.name,
        "fingerprint": job.fingerprint,
        "version": __version__,
        "settings": dict(job.settings),
        **{name: snapshot[name] for name in ("frames_read", "pairs", "fused", "notes")},
        "drops": {name: dict(snapshot["drops"].get(name, {})) for name in ("visible", "thermal", "pairs")},
        "outputs": {
            path.relative_to(staging).as_posix(): {"bytes": path.stat().st_size, "sha256": _checksum(path)}
            for path in files
        },
    }


def _publish(staging: Path, folder: Path) -> None:
    """Give the finished folder its name, unless another attempt was first."""
    for path in staging.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        staging.rename(folder)
    except OSError:
        if not (folder / DONE).is_file():
            raise


def _record(job: Job) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((job.folder / DONE).read_text(encoding="utf-8"))
    return record


def end_with_parent(parent: int) -> None:
    """Have the system kill this process when its parent ends, however that ends; ends at once where it is gone already."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(128 + signal.SIGKILL)


def _checksum(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    return digest.hexdigest()


def main() -> int:
    """Do the job on stdin; the exit code is that of a run, and a message on stderr says what is wrong.

    The argument is the process that wants it done: the work ends with it.
    """
    end_with_parent(int(sys.argv[1]))
    job = Job(**json.load(sys.stdin))
    if job.cores is not None:
        stay_on(job.cores)
    try:
        outcome = fuse(job)
    except FusionError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(json.dumps(outcome) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
