"""One recording, fused whole or not at all. Also a program: a job as JSON on stdin, lines of JSON on stdout.

A line tells of the progress, ``{"fused": 120, "of": 3000}``; the last one is a `Finished` or what went wrong.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtfusion import __version__
from rtfusion.batch.archive import Part, Recording
from rtfusion.batch.pieces import PIECES, Piece, can_be_split, duration_s, joined_figures, pieces_of
from rtfusion.batch.storage import LocalStore, Scratch, Store, fetch_url, is_url, open_store, read_url, read_whole
from rtfusion.engines import model_file, runs_on_gpu
from rtfusion.errors import ConfigError, FusionError, SinkError, StorageError
from rtfusion.files import write_whole
from rtfusion.portable import stay_on, user_id
from rtfusion.redaction import without_credentials
from rtfusion.types import Band

if TYPE_CHECKING:
    from rtfusion.sinks import Sink

SCHEMA = 3
STAGING = ".rtfusion-batch"
"""Folder of the output in which recordings are fused; removed when a batch is over."""
DONE = "done.json"
VIDEO = "fused.mp4"
IMAGES = "fused"
DETECTIONS = "detections.json"
THUMBNAIL = "thumbnail.jpg"
WRITES = ("video", "images", "nothing")
"""What may be written of the pictures."""
VIDEO_OF_VIDEOS = "alike"
IMAGES_SHARE = 40
"""Room that is set aside for the images of a video, in bytes of the video: PNG takes as many."""
ENCODER_THREADS = 1
"""The bytes of H.264 depend on their number, and results are to be the same on every machine."""
PROGRESS_S = 1.0
SCRATCH_GB = 50.0
_PR_SET_PDEATHSIG = 1


def default_scratch() -> str:
    """The folder in which recordings of other machines lie on their way."""
    return str(Path(tempfile.gettempdir()) / f"rtfusion-{user_id()}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A recording, where it goes, and how it is fused; plain values, so that it can travel."""

    name: str
    visible: Part
    thermal: Part
    out: str
    """Path or URL of the folder of the whole batch."""
    settings: Mapping[str, Any]
    """As of a run, without sources and outputs; files may be named by URL."""
    fingerprint: str
    """Checksum of everything that decides the result: inputs, settings, files that the settings name, version."""
    model: Mapping[str, str]
    """Name and checksum of the model's file; empty for fusers without one."""
    split_s: int | None = None
    """Longer recordings are to be told in how many pieces of about this length they can be fused, instead of being fused."""
    piece: Piece | None = None
    """The stretch of the recording that is fused; None for all of it."""
    writes: str = VIDEO_OF_VIDEOS
    """One of `WRITES`, or a video of videos and images of images."""
    detector: str | None = None
    """Path or URL of a YOLOX, whose boxes are written beside the pictures."""
    detect_hz: int | None = None
    """Pictures of a second that it looks at; None for all."""
    joins: int = 0
    """So many pieces, which are done, are joined instead of fusing."""
    cores: tuple[int, ...] | None = None
    """Cores that the work may use; None leaves the choice to the system."""
    threads: int | None = None
    """Cores that are reserved for the work: no part of it has more threads. None: as many as it has."""
    scratch: str | None = None
    """Local folder for what lies elsewhere, `default_scratch` without one."""
    scratch_bytes: int = int(SCRATCH_GB * 1e9)
    """No more than this lies there at a time, of all jobs of a machine together."""

    @property
    def size_bytes(self) -> int:
        """Bytes of both parts."""
        return self.visible.size_bytes + self.thermal.size_bytes

    @property
    def picture_output(self) -> str:
        """What is written of the pictures: one of `WRITES`."""
        if self.writes != VIDEO_OF_VIDEOS:
            return self.writes
        return "images" if self.visible.is_folder else "video"

    @property
    def extras(self) -> dict[str, Any]:
        """What was asked for beside the settings of a run; empty where nothing was."""
        asked = {
            "writes": None if self.writes == VIDEO_OF_VIDEOS else self.writes,
            "detector": None if self.detector is None else without_credentials(self.detector),
            "detect_hz": self.detect_hz,
        }
        return {name: value for name, value in asked.items() if value is not None}

    @property
    def place(self) -> str:
        """Folder of the result in the output: the name, and for a piece one that nobody looks at."""
        return self.name if self.piece is None else f"{PIECES}/{self.name}/{self.piece.index:04d}"

    def piece_of(self, piece: Piece) -> Job:
        """The job of a piece of this recording."""
        fingerprint = hashlib.sha256(f"{self.fingerprint} {piece.key}".encode()).hexdigest()
        return replace(self, piece=piece, split_s=None, fingerprint=fingerprint)

    @property
    def shown_settings(self) -> dict[str, Any]:
        """The settings without the users and passwords of URLs."""
        settings = {
            name: without_credentials(value) if isinstance(value, str) and is_url(value) else value
            for name, value in self.settings.items()
        }
        return {**settings, **self.extras}

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Job:
        """Make it of what JSON gives of one."""
        parts = {band: Part(**values[band]) for band in ("visible", "thermal")}
        cores, piece = values["cores"], values["piece"]
        return cls(
            **{
                **values,
                **parts,
                "cores": None if cores is None else tuple(cores),
                "piece": None if piece is None else Piece(**piece),
            }
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """A recording that is done."""

    record: Mapping[str, Any]
    """The content of `DONE`: what the result consists of and was made of. Another attempt gives the same."""
    host: str
    cpu_s: float
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """A recording that is to be fused in pieces: nothing was done yet."""

    pieces: tuple[Piece, ...]


Progress = Callable[[int, int | None], None]
"""Takes the frames fused so far, and of how many, where that is known."""


def make_jobs(
    recordings: Sequence[Recording],
    *,
    out: str,
    settings: Mapping[str, Any],
    split_s: int | None = None,
    writes: str = VIDEO_OF_VIDEOS,
    detector: str | None = None,
    detect_hz: int | None = None,
    scratch: str | None = None,
    scratch_bytes: int = int(SCRATCH_GB * 1e9),
) -> list[Job]:
    """Make the jobs of recordings; ``settings`` are those of a run, without sources and outputs.

    Recordings longer than ``split_s`` are fused in pieces of about that length, where they can be (`rtfusion.batch.pieces`).
    ``writes``, ``detector`` and ``detect_hz`` are those of a `Job`.

    Raises:
        ConfigError: a model or calibration that the settings name cannot be read.
        StorageError: the storage does not answer that holds one.
    """
    sums: dict[str, str] = {}

    def checksum(place: str) -> str:
        if place not in sums:
            sums[place] = _checksum_of(place)
        return sums[place]

    return [
        _make_job(
            recording,
            out=out,
            settings=settings,
            checksum=checksum,
            split_s=split_s,
            writes=writes,
            detector=detector,
            detect_hz=detect_hz,
            scratch=scratch,
            scratch_bytes=scratch_bytes,
        )
        for recording in recordings
    ]


def _make_job(
    recording: Recording,
    *,
    out: str,
    settings: Mapping[str, Any],
    checksum: Callable[[str], str],
    split_s: int | None,
    **more: Any,
) -> Job:
    from rtfusion.config import Settings

    job = Job(
        name=recording.name,
        visible=recording.visible,
        thermal=recording.thermal,
        out=out,
        settings=dict(settings),
        fingerprint="",
        model={},
        **more,
    )
    # images are not joined, and nothing is not either
    if job.picture_output == "video" and can_be_split(
        visible=recording.visible.place, thermal=recording.thermal.place, settings=settings
    ):
        job = replace(job, split_s=split_s)
    parts: list[Any] = [SCHEMA, __version__, dict(settings), recording.contents]
    if job.extras:
        parts.append(job.extras)
    if job.detector is not None:
        parts.append(checksum(job.detector))
    model: dict[str, str] = {}
    if settings.get("model") is not None:
        model = {"name": without_credentials(settings["model"]), "sha256": checksum(_model_place(settings))}
        parts.append(model["sha256"])
    files = [name for name, setting in Settings.declared().items() if setting.path == "file"]
    parts += [checksum(settings[name]) for name in files if settings.get(name) is not None]
    fingerprint = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return replace(job, fingerprint=fingerprint, model=model)


def _model_place(settings: Mapping[str, Any]) -> str:
    if is_url(settings["model"]):
        return str(settings["model"])
    on_gpu = runs_on_gpu(settings.get("engine", "auto"))
    return str(model_file(Path(settings["model"]), precision=settings.get("precision", "auto"), on_gpu=on_gpu))


def _checksum_of(place: str) -> str:
    return hashlib.sha256(read_url(place)).hexdigest() if is_url(place) else _checksum(Path(place))


# -- what is there ------------------------------------------------------------------------------------------------------


class Results:
    """What an output holds already.

    Args:
        store: the output.
        listed: name to size of every file there, so that a storage is not asked for each recording; None asks it.
    """

    def __init__(self, store: Store, *, listed: Mapping[str, int] | None = None) -> None:
        self._store = store
        self._listed = listed
        self._folders: set[str] = set()
        for name in listed or ():
            parent = name.rpartition("/")[0]
            while parent and parent not in self._folders:
                self._folders.add(parent)
                parent = parent.rpartition("/")[0]

    def record(
        self, job: Job, *, known: Mapping[str, Any] | None = None, began: bool = False
    ) -> Mapping[str, Any] | None:
        """The record of a result that is there, whole and of this job; None where none is.

        Args:
            job: the recording.
            known: its record, as an account has it, which spares asking a storage for each of them.
            began: it was begun here before, so that what a storage without renaming holds of it may be a part of it.

        Raises:
            ConfigError: something is there that is not: another recording's, of other settings, damaged, or none of ours.
            StorageError: the storage does not answer.
        """
        if not self._is_there(job.place):
            return None
        place = f"{self._store.shown}/{job.place}"
        if self._listed is not None and f"{job.place}/{DONE}" not in self._listed and began:
            return None
        try:
            if known is None or self._store.is_local:
                known = json.loads(self._store.read(f"{job.place}/{DONE}") or b"")
            record: Mapping[str, Any] = known or {}
            sizes = {name: entry["bytes"] for name, entry in record["outputs"].items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            if not self._store.is_local and self._listed is None:
                return None  # the worker of a storage without folders: the batch has looked
            raise ConfigError(
                f"{place} was not made by rtfusion batch ({DONE} cannot be read); choose another --out"
            ) from None
        if record.get("fingerprint") != job.fingerprint:
            raise ConfigError(
                f"{place} was fused from other recordings, or by other settings, or by another version of rtfusion; "
                "choose another --out, or fuse it anew with --overwrite"
            )
        here = self._sizes(job.place, sizes)
        missing = [name for name, size in sizes.items() if here.get(name) != size]
        if missing:
            raise ConfigError(f"{place} is damaged: {missing[0]} is not as it was written; fuse anew with --overwrite")
        return record

    def is_ours(self, job: Job) -> bool:
        """True where a batch made what is there, whatever it is of."""
        return self._store.read(f"{job.place}/{DONE}") is not None

    def _is_there(self, name: str) -> bool:
        if self._listed is not None:
            return name in self._folders
        return not isinstance(self._store, LocalStore) or (self._store.root / name).exists()

    def _sizes(self, folder: str, names: Mapping[str, int]) -> Mapping[str, int]:
        if self._listed is not None:
            return {name: self._listed.get(f"{folder}/{name}", -1) for name in names}
        if isinstance(self._store, LocalStore):
            paths = {name: self._store.root / folder / name for name in names}
            return {name: path.stat().st_size for name, path in paths.items() if path.is_file()}
        return self._store.sizes(folder)


def clear_staging(store: Store) -> None:
    """Remove what is unfinished. Moved away first, at one stroke: a worker that outlived its batch can publish no half."""
    if not isinstance(store, LocalStore):
        store.remove(STAGING)
        return
    with contextlib.suppress(FileNotFoundError):
        (store.root / STAGING).rename(store.root / f"{STAGING}-{uuid.uuid4().hex}")
    for left in store.root.glob(f"{STAGING}-*"):
        shutil.rmtree(left, ignore_errors=True)


# -- the work -----------------------------------------------------------------------------------------------------------


def fuse(job: Job, *, progress: Progress | None = None) -> Finished | Split:
    """Fuse a recording, or a piece of one, or join its pieces, unless that is done.

    Raises:
        FusionError: the recording cannot be fused, or a storage does not answer. Nothing of it stays.
    """
    started_s, cpu_s = time.monotonic(), time.process_time()
    store = open_store(job.out)
    try:
        record = _there(job, store)
        if record is None:
            with _inputs(job, store) as (here, staging):
                with _places_of(job, here) as named:
                    pieces = _pieces(here)
                    if pieces:
                        return Split(pieces=pieces)
                    if job.joins:
                        figures = _join_into(staging, job, store)
                    elif job.piece is not None:
                        figures = _fuse_piece_into(staging, here, job.piece, progress=progress)
                    else:
                        figures = _fuse_into(staging, here, progress=progress)
                write_record(staging, job, {**figures, "notes": list(map(named, figures["notes"]))})
                store.publish(staging, job.place, last=DONE)
            record = json.loads(store.read(f"{job.place}/{DONE}") or b"null")
    except FusionError:
        raise
    except OSError as error:
        raise SinkError(f"{store.shown}/{job.place}: {error.strerror}; make room, or write elsewhere") from error
    if record is None:
        raise StorageError(f"{store.shown}/{job.place}: what was written is not there")
    return Finished(
        record=record,
        host=socket.gethostname(),
        cpu_s=time.process_time() - cpu_s,
        seconds=time.monotonic() - started_s,
    )


@contextmanager
def _places_of(job: Job, here: Job) -> Iterator[Callable[[str], str]]:
    """What makes of a text that names a copy on this machine one that names what it is a copy of; errors in the block do so."""
    places = {
        copy.place: without_credentials(part.place)
        for part, copy in ((job.visible, here.visible), (job.thermal, here.thermal))
        if part.place != copy.place
    }

    def named(text: str) -> str:
        for copy, place in places.items():
            text = text.replace(copy, place)
        return text

    try:
        yield named
    except FusionError as error:
        if not places:
            raise
        raise type(error)(named(str(error))) from error


def _there(job: Job, store: Store) -> Mapping[str, Any] | None:
    """The record of a result that is done. A piece of another length or of other settings is removed: nobody has seen it."""
    try:
        return Results(store).record(job)
    except ConfigError:
        if job.piece is None:
            raise
        store.remove(job.place)
        return None


@contextmanager
def _inputs(job: Job, store: Store) -> Iterator[tuple[Job, Path]]:
    """The job with everything that it reads on this machine, and the folder in which its result is made."""
    staged_bytes = (
        sum(part.size_bytes for part in (job.visible, job.thermal) if not part.is_local) if not job.joins else 0
    )
    # a result is hardly larger than what it is made of, unless images are made of a video
    share = IMAGES_SHARE if job.picture_output == "images" and not job.visible.is_folder else 1
    result_bytes = 0 if store.is_local else job.size_bytes * share
    with contextlib.ExitStack() as stack:
        room: Path | None = None
        named = (*job.settings.values(), job.detector)
        if staged_bytes or result_bytes or any(is_url(str(value)) for value in named):
            scratch = Scratch(Path(job.scratch or default_scratch()), limit_bytes=job.scratch_bytes)
            room = stack.enter_context(scratch.room(staged_bytes + result_bytes))
            job = staged(job, room) if not job.joins else job
        if isinstance(store, LocalStore) or room is None:
            staging = Path(store.place(STAGING)) / uuid.uuid4().hex
            stack.callback(shutil.rmtree, staging, ignore_errors=True)
        else:
            staging = room / "result"
        staging.mkdir(parents=True)
        yield job, staging


def staged(job: Job, room: Path) -> Job:
    """The job with all that lies elsewhere copied into a folder."""
    visible = replace(job.visible, place=str(job.visible.stage(room / "visible")))
    thermal = replace(job.thermal, place=str(job.thermal.stage(room / "thermal")))
    settings = dict(job.settings)
    for name, value in settings.items():
        if isinstance(value, str) and is_url(value):
            settings[name] = str(fetch_url(value, room / name))
    detector = job.detector
    if detector is not None and is_url(detector):
        detector = str(fetch_url(detector, room / "detector.onnx"))
    return replace(job, visible=visible, thermal=thermal, settings=settings, detector=detector)


def _fuse_into(staging: Path, job: Job, *, progress: Progress | None) -> Mapping[str, Any]:
    """Fuse into a folder; the figures of the run."""
    from rtfusion.config import Settings
    from rtfusion.pipeline import build

    sink = sink_of(job, staging)
    settings = {**job.settings, "vis": job.visible.place, "ir": job.thermal.place, "sink": (sink,)}
    with keeping_to(job, settings), outputs_beside(job, staging) as beside:
        pipeline = build(Settings(**settings), sinks=beside)
        pipeline.run(on_tick=_ticking(pipeline.telemetry, progress))
    snapshot = pipeline.telemetry.snapshot()
    if not snapshot["fused"]:
        raise ConfigError(f"{job.name}: no frame was fused: {'; '.join(snapshot['notes']) or 'both are empty'}")
    if job.picture_output == "video":
        _check_whole(staging / VIDEO, frames=snapshot["fused"])
    return snapshot


def sink_of(job: Job, folder: Path) -> str:
    """The output of a recording's pictures in a folder, as a run takes it."""
    outputs = {
        "video": f"video:{folder / VIDEO}?threads={ENCODER_THREADS}&joinable=true",
        "images": f"images:{folder / IMAGES}",
        "nothing": "null:",
    }
    return outputs[job.picture_output]


@contextmanager
def outputs_beside(job: Job, folder: Path) -> Iterator[list[Sink]]:
    """What is written in a folder beside the pictures: a thumbnail, and boxes where there is a detector; closed after the block.

    Raises:
        ModelError, EngineUnavailable, EngineError: the detector cannot be used.
    """
    from rtfusion.sinks.thumbnail import ThumbnailSink

    sinks: list[Sink] = [ThumbnailSink(folder / THUMBNAIL)]
    if job.detector is not None:
        sinks.append(_detections_of(job, Path(job.detector), folder))
    try:
        yield sinks
    finally:
        for sink in sinks:
            sink.close(aborted=True)


def _detections_of(job: Job, detector: Path, folder: Path) -> Sink:
    from rtfusion.sinks.detections import DetectionsSink

    threads = None if job.threads is None else max(1, job.threads - 1)
    names = {"video": VIDEO, "images": f"{IMAGES}/{{name}}.png", "nothing": "{name}"}
    return DetectionsSink(
        folder / DETECTIONS,
        model=detector,
        file_name=names[job.picture_output],
        hz=job.detect_hz,
        engine=str(job.settings.get("engine", "auto")),
        threads=threads,
    )


def _pieces(job: Job) -> tuple[Piece, ...]:
    """The pieces in which a recording is to be fused; empty where it is to be fused as a whole, or is a piece."""
    if job.split_s is None or job.joins:
        return ()
    length_s = duration_s(visible=Path(job.visible.place), thermal=Path(job.thermal.place))
    return pieces_of(length_s, length_s=job.split_s)


def _fuse_piece_into(staging: Path, job: Job, piece: Piece, *, progress: Progress | None) -> Mapping[str, Any]:
    from rtfusion.clock import NS_PER_S
    from rtfusion.config import Settings
    from rtfusion.pipeline import build
    from rtfusion.sinks.joined import PieceSink

    options = {
        name: "&".join(filter(None, (job.settings.get(name), piece.options))) for name in ("vis_options", "ir_options")
    }
    settings = {**job.settings, **options, "vis": job.visible.place, "ir": job.thermal.place}
    with keeping_to(job, settings), outputs_beside(job, staging) as beside:
        sink = PieceSink(
            staging / VIDEO,
            shift_ns=piece.read_from_s * NS_PER_S,
            begin_ns=piece.begin_s * NS_PER_S,
            end_ns=None if piece.end_s is None else piece.end_s * NS_PER_S,
            threads=ENCODER_THREADS,
            also=beside,
        )
        pipeline = build(Settings(**settings), sinks=[sink])
        sources = pipeline.telemetry.sources
        hold = job.settings.get("pair") == "hold"
        rate_hz = min(info.rate_hz for band, info in sources.items() if band is Band.VISIBLE or not hold)
        sink.begin(rate_hz=rate_hz)
        length_s = min(info.duration_s or 0.0 for info in sources.values())
        pipeline.run(on_tick=_ticking(pipeline.telemetry, progress, of=round(length_s * rate_hz) or None))
    snapshot = pipeline.telemetry.snapshot()
    if not sink.written:
        raise ConfigError(f"{job.name}: no frame was fused from {piece.begin_s} s on: {'; '.join(snapshot['notes'])}")
    _check_whole(staging / VIDEO, frames=sink.written)
    read = {band: count - sink.outside[Band(band)] for band, count in snapshot["frames_read"].items()}
    return {**snapshot, "frames_read": read, "pairs": sink.written, "fused": sink.written}


def _join_into(staging: Path, job: Job, store: Store) -> Mapping[str, Any]:
    """Join the pieces of a recording."""
    from rtfusion.sinks.detections import join_detections
    from rtfusion.sinks.joined import join_videos

    places = [f"{PIECES}/{job.name}/{index:04d}" for index in range(job.joins)]
    records = [json.loads(read_whole(store, f"{place}/{DONE}")) for place in places]

    def parts(name: str) -> list[Path]:
        """That file of every piece, on this machine."""
        if isinstance(store, LocalStore):
            return [store.root / place / name for place in places]
        here = [staging.parent / f"{index:04d}-{name}" for index in range(job.joins)]
        for place, record, part in zip(places, records, here, strict=True):
            store.fetch(f"{place}/{name}", part, size_bytes=record["outputs"][name]["bytes"])
        return here

    join_videos(parts(VIDEO), staging / VIDEO)
    shutil.copyfile(parts(THUMBNAIL)[len(places) // 2], staging / THUMBNAIL)
    if job.detector is not None:
        frames = [record["fused"] for record in records]
        join_detections(parts(DETECTIONS), staging / DETECTIONS, frames=frames)
    figures = joined_figures(records)
    _check_whole(staging / VIDEO, frames=figures["fused"])
    return figures


def _check_whole(video: Path, *, frames: int) -> None:
    """Hold what was written against what was fused: an output that was slow to finish may have been left behind."""
    from rtfusion.sinks.joined import count_frames

    if (written := count_frames(video)) != frames:
        raise SinkError(f"{written} of {frames} fused frames were written; is the disk full, or very slow?")


def write_record(staging: Path, job: Job, figures: Mapping[str, Any]) -> None:
    """Write `DONE` beside the files of a result."""
    files = sorted(path for path in staging.rglob("*") if path.is_file())
    record = {
        "schema": SCHEMA,
        "recording": job.name,
        "fingerprint": job.fingerprint,
        "version": __version__,
        "settings": job.shown_settings,
        **{name: figures[name] for name in ("frames_read", "pairs", "fused", "notes")},
        "drops": {name: dict(figures["drops"].get(name, {})) for name in ("visible", "thermal", "pairs")},
        "outputs": {
            path.relative_to(staging).as_posix(): {"bytes": path.stat().st_size, "sha256": _checksum(path)}
            for path in files
        },
    }
    write_whole(staging / DONE, json.dumps(record, indent=1, sort_keys=True) + "\n")


def _ticking(telemetry: Any, progress: Progress | None, *, of: int | None = None) -> Callable[[], None] | None:
    if progress is None:
        return None
    next_s = 0.0

    def tick() -> None:
        nonlocal next_s
        if (now_s := time.monotonic()) >= next_s:
            next_s = now_s + PROGRESS_S
            counts = [info.frame_count for info in telemetry.sources.values()]
            progress(telemetry.fused, of or (None if None in counts or not counts else min(counts)))

    return tick


@contextmanager
def keeping_to(job: Job, settings: dict[str, Any]) -> Iterator[None]:
    """Keep every part of the work to the cores that are reserved for it."""
    import cv2

    if job.threads is None:
        yield
        return
    if settings.get("fuser", "learned") == "learned" and settings.get("threads") is None:
        settings["threads"] = max(1, job.threads - 1)
    before = cv2.getNumThreads()
    cv2.setNumThreads(job.threads)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


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
    job = Job.from_plain(json.load(sys.stdin))
    if job.cores is not None:
        stay_on(job.cores)
    try:
        finished = fuse(job, progress=lambda fused, of: _write({"fused": fused, "of": of}))
    except FusionError as error:
        _write({"error": str(error), "is_of_storage": isinstance(error, StorageError)})
        return error.exit_code
    _write({"split" if isinstance(finished, Split) else "finished": asdict(finished)})
    return 0


def _write(values: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
