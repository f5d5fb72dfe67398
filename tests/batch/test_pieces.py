"""Long recordings in pieces: joined into one, whoever is killed, and the same for any number of workers."""

from __future__ import annotations

import json
import os
import signal
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from rtfusion.batch import Account, Job, find_recordings, make_jobs
from rtfusion.batch import storage as storage_module
from rtfusion.batch.pieces import LEAD_S, PIECES, Piece, can_be_split, pieces_of
from rtfusion.batch.processes import Processes
from rtfusion.batch.run import Ended
from rtfusion.batch.storage import open_store
from rtfusion.batch.work import DETECTIONS, Finished, Split, fuse
from rtfusion.config import Settings
from rtfusion.errors import CaptureError, ConfigError, SinkError, StorageError
from rtfusion.pipeline import build
from rtfusion.sinks.joined import join_videos
from rtfusion.smoothing import BEAT_S
from rtfusion.types import FusedFrame
from tests.batch.archives import Done, InThisProcess, batch, make_archive, tree
from tests.batch.test_run import WAIT_S, wait_for, worker_pids
from tests.capture.clips import write_clip
from tests.focus.networks import detector

RATE_HZ = 10
SECONDS = 60
SIZE_PX = 64, 48
SPLIT_S = 20
SETTINGS = {"fuser": "pyramid", "denoise": "off"}


def scene(second: float) -> tuple[np.ndarray, np.ndarray]:
    """Visible and counts of a scene in which something warm moves and whose temperature wanders, with noise: much to remember."""
    rng = np.random.default_rng(round(second * RATE_HZ))
    columns, rows = np.meshgrid(np.arange(SIZE_PX[0]), np.arange(SIZE_PX[1]))
    texture = np.sin(columns / 7) + np.cos(rows / 5) + np.sin(columns * rows / 90)
    warm = np.exp(-(((columns - 32 - 20 * np.sin(second / 3)) / 5) ** 2) - ((rows - 24) / 9) ** 2)
    visible = 110 + 25 * texture - 30 * warm + rng.normal(0, 1.0, columns.shape)
    counts = 8000 + 60 * texture + 400 * warm + 200 * np.sin(second / 6) + rng.normal(0, 4.0, columns.shape)
    gray = np.clip(visible, 0, 255).astype(np.uint8)
    return np.dstack([gray, gray, gray]), counts.astype(np.uint16)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One recording of a minute, of raw counts."""
    root = tmp_path_factory.mktemp("minute") / "archive"
    (root / "walk").mkdir(parents=True)
    pairs = [scene(index / RATE_HZ) for index in range(SECONDS * RATE_HZ)]
    time_base = Fraction(1, RATE_HZ)
    write_clip(root / "walk" / "vi.mp4", [visible for visible, _ in pairs], time_base=time_base, gop=30)
    write_clip(
        root / "walk" / "ir.avi",
        [counts for _, counts in pairs],
        codec="ffv1",
        pix_fmt="gray16le",
        source_format="gray16le",
        time_base=time_base,
    )
    return root


@pytest.fixture(scope="module")
def unsplit(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recording fused as a whole."""
    out = tmp_path_factory.mktemp("unsplit")
    batch(archive, out, workers=InThisProcess(), settings=SETTINGS)
    return out / "walk" / "fused.mp4"


def frames_of(video: Path) -> tuple[list[int], list[np.ndarray]]:
    """Stamps in 90,000ths of a second and luminance of every frame."""
    with av.open(str(video)) as container:
        frames = list(container.decode(video=0))
        stream = container.streams.video[0]
        ticks = [round(frame.pts * stream.time_base * 90_000) for frame in frames]
        return ticks, [frame.to_ndarray(format="gray").astype(int) for frame in frames]


class Kept:
    """A sink that keeps every frame."""

    uri = "kept"

    def __init__(self) -> None:
        self.frames: list[FusedFrame] = []

    def write(self, frame: FusedFrame) -> None:
        self.frames.append(frame)

    def close(self, *, aborted: bool) -> None:
        pass


def fused(archive: Path, fuser: str, options: str = "") -> dict[int, np.ndarray]:
    """Fused images by their stamps in milliseconds, before any encoder. Without denoising; see `test_seams.py` for that."""
    kept = Kept()
    where = {"vis": archive / "walk" / "vi.mp4", "ir": archive / "walk" / "ir.avi"}
    more = {"vis_options": options, "ir_options": options} if options else {}
    build(Settings(fuser=fuser, denoise="off", **where, **more), sinks=[kept]).run()
    return {round(frame.timestamp_ns / 1e6): frame.image.astype(int) for frame in kept.frames}


@pytest.fixture(scope="module")
def whole_by_pyramid(archive: Path) -> dict[int, np.ndarray]:
    """What is fused of the recording as a whole, before any encoder."""
    return fused(archive, "pyramid")


@pytest.mark.parametrize("fuser", ["pyramid", pytest.param("learned", marks=pytest.mark.slow)])
def test_what_is_fused_in_pieces_is_the_same_within_a_gray_level(
    archive: Path, whole_by_pyramid: dict[int, np.ndarray], fuser: str
) -> None:
    whole = whole_by_pyramid if fuser == "pyramid" else fused(archive, fuser)
    assert len(whole) == SECONDS * RATE_HZ
    piece = pieces_of(SECONDS, length_s=SPLIT_S)[2]
    part = {stamp + piece.read_from_s * 1000: image for stamp, image in fused(archive, fuser, piece.options).items()}
    differences = {stamp: float(np.abs(image - whole[stamp]).mean()) for stamp, image in part.items()}
    inside = [differences[stamp] for stamp in whole if stamp >= 2 * SPLIT_S * 1000]
    assert len(inside) == SPLIT_S * RATE_HZ
    assert max(inside) <= 0.5
    assert max(differences.values()) > 3, "without the lead it would be seen where the piece begins"


def test_the_joined_file_has_the_frames_of_the_unsplit_one_and_is_as_near_to_what_was_fused(
    archive: Path, unsplit: Path, whole_by_pyramid: dict[int, np.ndarray], tmp_path: Path
) -> None:
    done = batch(archive, tmp_path / "out", workers=InThisProcess(), settings=SETTINGS, split_s=SPLIT_S)
    assert (done.fused, done.failed, done.summary.frames) == (1, {}, SECONDS * RATE_HZ)
    entry = Account(open_store(tmp_path / "out")).entries["walk"]
    assert (entry.pieces, entry.attempts, entry.state) == (3, 1, "done")
    assert entry.frames == {"visible": 600, "thermal": 600, "pairs": 600, "fused": 600}
    assert not (tmp_path / "out" / PIECES).exists()
    ticks, images = frames_of(tmp_path / "out" / "walk" / "fused.mp4")
    whole_ticks, whole_images = frames_of(unsplit)
    assert ticks == whole_ticks
    aims = list(whole_by_pyramid.values())
    lost = [np.abs(image - aim[:, :, 0]).mean() for image, aim in zip(images, aims, strict=True)]
    lost_by_whole = [np.abs(image - aim[:, :, 0]).mean() for image, aim in zip(whole_images, aims, strict=True)]
    assert max(one - other for one, other in zip(lost, lost_by_whole, strict=True)) <= 1


def test_boxes_of_the_pieces_are_those_of_the_whole(archive: Path, tmp_path: Path) -> None:
    asked = {"settings": {"fuser": "average"}, "detector": str(detector(tmp_path / "d.onnx")), "detect_hz": 2}
    said = []
    for name, split_s in (("whole", None), ("pieces", SPLIT_S)):
        out = tmp_path / name
        batch(archive, out, workers=InThisProcess(), split_s=split_s, **asked)
        said.append(json.loads((out / "walk" / DETECTIONS).read_text()))
    assert len(said[0]["images"]) == SECONDS * 2
    assert said[1] == said[0]


def test_frames_of_a_slower_thermal_camera_are_counted_as_in_the_whole(archive: Path, tmp_path: Path) -> None:
    folder = tmp_path / "archive" / "walk"
    folder.mkdir(parents=True)
    (folder / "vi.mp4").write_bytes((archive / "walk" / "vi.mp4").read_bytes())
    images = [scene(index / 4)[0] for index in range(SECONDS * 4)]
    write_clip(folder / "ir.mp4", images, time_base=Fraction(1, 4))
    settings = {"fuser": "average", "pair": "hold"}
    frames = []
    for name, split_s in (("whole", None), ("pieces", SPLIT_S)):
        batch(folder.parent, tmp_path / name, workers=InThisProcess(), settings=settings, split_s=split_s)
        entry = Account(open_store(tmp_path / name)).entries["walk"]
        frames.append((entry.frames, entry.drops))
    assert frames[0][0]["thermal"] == SECONDS * 4
    assert frames[1] == frames[0]


def test_pieces_of_a_killed_batch_are_not_fused_twice_and_the_result_is_the_same(archive: Path, tmp_path: Path) -> None:
    batch(archive, tmp_path / "undisturbed", workers=InThisProcess(), split_s=SPLIT_S)
    stop = threading.Event()
    dones: list[Done] = []

    def run() -> None:
        dones.append(batch(archive, tmp_path / "out", workers=Processes(1), split_s=SPLIT_S, stop=stop))

    thread = threading.Thread(target=run)
    thread.start()
    first = tmp_path / "out" / PIECES / "walk" / "0000" / "done.json"
    wait_for(first.exists)
    made_ns = first.stat().st_mtime_ns
    wait_for(lambda: bool(worker_pids()))
    os.kill(worker_pids()[0], signal.SIGKILL)
    stop.set()
    thread.join(WAIT_S)
    assert dones[0].fused == 0
    assert first.stat().st_mtime_ns == made_ns
    begun: list[str] = []
    done = batch(archive, tmp_path / "out", workers=InThisProcess(begun), split_s=SPLIT_S)
    assert done.fused == 1
    assert tree(tmp_path / "out") == tree(tmp_path / "undisturbed")


@pytest.mark.slow  # fuses a minute twice; what is by URL in it is tested in test_storage.py
def test_pieces_by_url_are_joined_too(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fsspec", reason="storage by URL is not installed: pip install -e '.[s3]'")
    monkeypatch.setattr(storage_module, "PAUSES_S", ())
    batch(archive, tmp_path / "local", workers=InThisProcess(), split_s=SPLIT_S)
    out = "memory://pieces/out"
    batch(archive, out, workers=InThisProcess(), split_s=SPLIT_S, scratch=tmp_path / "scratch")
    assert open_store(out).read("walk/fused.mp4") == (tmp_path / "local" / "walk" / "fused.mp4").read_bytes()
    assert [name for name in open_store(out).sizes() if name.startswith(PIECES)] == []


def test_a_recording_of_which_a_piece_fails_fails_once(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    workers = InThisProcess(begun)
    batch_ended = workers.ended

    def ended(*, timeout_s: float):  # type: ignore[no-untyped-def]
        if begun and workers.job.piece is not None and workers.job.piece.index == 1:
            (archive_copy / "walk" / "ir.avi").write_bytes(b"no video")
        return batch_ended(timeout_s=timeout_s)

    archive_copy = tmp_path / "archive"
    (archive_copy / "walk").mkdir(parents=True)
    for name in ("vi.mp4", "ir.avi"):
        (archive_copy / "walk" / name).write_bytes((archive / "walk" / name).read_bytes())
    monkeypatch.setattr(workers, "ended", ended)
    done = batch(archive_copy, tmp_path / "out", workers=workers, split_s=SPLIT_S)
    assert list(done.failed) == ["walk"]
    assert done.summary.exit_code == CaptureError.exit_code
    assert begun == ["walk"] * 3, "the look, the first piece, the broken one, and not the third"
    assert tree(tmp_path / "out") == {}


class Scripted:
    """Workers of which job after job ends as it is said, by its place; what else runs is done at the end."""

    count = 9

    def __init__(self, script: list[tuple[str, dict[str, Any]]]) -> None:
        self._script = script
        self._running: dict[str, Job] = {}

    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *error: object) -> None:
        self._running.clear()

    def start(self, job: Job) -> None:
        self._running[job.place] = job

    def ended(self, *, timeout_s: float) -> list[Ended]:
        done = {"result": Finished(record={"fused": 1}, host="here", cpu_s=0.0, seconds=0.0)}
        place, ending = self._script.pop(0) if self._script else (next(iter(self._running)), done)
        return [Ended(job=self._running.pop(place), **ending)]

    def progress(self) -> dict[str, tuple[int, int | None]]:
        return {}


def test_a_recording_that_is_given_up_after_one_piece_is_not_begun_again_by_another(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "archive", frames=3, videos=("walk", "yard"))
    jobs = {job.name: job for job in make_jobs(find_recordings(archive), out="out", settings={"fuser": "pyramid"})}
    finished = {
        "result": Finished(
            record={"frames_read": {}, "pairs": 3, "fused": 3, "drops": {}, "notes": [], "outputs": {}},
            host="here",
            cpu_s=0.0,
            seconds=0.0,
        )
    }
    silent = {"error": "nobody answers", "exit_code": StorageError.exit_code, "is_of_storage": True}
    pieces = pieces_of(2 * SPLIT_S, length_s=SPLIT_S)
    first, second = (jobs["walk"].piece_of(piece).place for piece in pieces)
    workers = Scripted(
        [
            ("walk", {"result": Split(pieces=pieces)}),
            (first, silent),
            ("yard", finished),  # three in a row that are silent would end the batch
            (first, silent),
            (first, silent),
            ("stills", finished),
            (second, silent),
        ]
    )
    said: list[str] = []
    done = batch(archive, tmp_path / "out", workers=workers, say=said.append)
    assert done.summary.states == {"done": 2, "unfinished": 1}
    assert done.summary.exit_code == StorageError.exit_code
    assert [line for line in said if line.startswith("[")][1:2] == ["[2/3] walk: unfinished: nobody answers"]


# -- where they begin ---------------------------------------------------------------------------------------------------


def test_pieces_are_of_about_a_length_and_leave_nothing_out() -> None:
    assert pieces_of(29.0, length_s=20) == ()
    assert pieces_of(float("nan"), length_s=20) == ()
    for duration_s in (30.0, 61.7, 600.0, 36_000.3):
        pieces = pieces_of(duration_s, length_s=20)
        assert pieces[0].begin_s == 0
        assert pieces[-1].end_s is None
        assert [piece.end_s for piece in pieces[:-1]] == [piece.begin_s for piece in pieces[1:]]
        assert [piece.index for piece in pieces] == list(range(pieces[0].count))
        lengths_s = [(piece.end_s or duration_s) - piece.begin_s for piece in pieces]
        assert max(lengths_s[1:]) - min(lengths_s[1:]) <= 2
        assert max(lengths_s) <= 2 * duration_s / len(pieces)


def test_pieces_of_a_long_recording_take_equally_long_to_fuse() -> None:
    first, second = pieces_of(600.0, length_s=300)
    read_s = first.end_s, 600 - second.read_from_s
    assert abs(read_s[1] - (read_s[0] or 0)) <= BEAT_S / 2 + 1


def test_the_first_piece_has_no_lead_and_the_last_no_end() -> None:
    first = Piece(index=0, count=3, begin_s=0, end_s=20)
    later = Piece(index=2, count=3, begin_s=40, end_s=None)
    assert (first.options, first.read_from_s) == ("end=22", 0)
    assert later.options == "start=20"


def test_every_piece_begins_to_read_at_a_beat_and_long_enough_before() -> None:
    for begin_s in range(100):
        read_from_s = Piece(index=1, count=2, begin_s=begin_s, end_s=None).read_from_s
        assert read_from_s % BEAT_S == 0
        assert read_from_s == 0 or LEAD_S <= begin_s - read_from_s < LEAD_S + BEAT_S


def test_what_cannot_be_begun_in_the_middle_is_not_split(archive: Path) -> None:
    assert can_be_split(visible="a.mp4", thermal="b.AVI", settings={})
    assert not can_be_split(visible="a.mkv", thermal="b.mp4", settings={})
    assert not can_be_split(visible="frames", thermal="b.mp4", settings={})
    assert not can_be_split(visible="a.mp4", thermal="b.mp4", settings={"refine": True})
    assert not can_be_split(visible="a.mp4", thermal="b.mp4", settings={"ir_options": "rotate=180&start=3"})
    assert can_be_split(visible="a.mp4", thermal="b.mp4", settings={"ir_options": "rotate=180"})
    (job,) = make_jobs(
        find_recordings(archive), out="out", settings={"fuser": "pyramid", "refine": True}, split_s=SPLIT_S
    )
    assert job.split_s is None


def test_a_job_tells_its_pieces_and_how_long_they_are_decides_nothing_else(archive: Path, tmp_path: Path) -> None:
    recordings = find_recordings(archive)
    jobs = [
        make_jobs(recordings, out=str(tmp_path), settings={"fuser": "pyramid"}, split_s=split_s)[0]
        for split_s in (SPLIT_S, 30)
    ]
    splits = [fuse(job) for job in jobs]
    assert [len(split.pieces) for split in splits if isinstance(split, Split)] == [3, 2]
    assert jobs[0].fingerprint == jobs[1].fingerprint
    pieces = [
        job.piece_of(split.pieces[0]) for job, split in zip(jobs, splits, strict=True) if isinstance(split, Split)
    ]
    assert pieces[0].fingerprint != pieces[1].fingerprint
    assert pieces[0].place == pieces[1].place


def test_what_is_no_piece_is_not_joined(archive: Path, unsplit: Path, tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="does not say when it begins"):
        join_videos([archive / "walk" / "vi.mp4"], tmp_path / "joined.mp4")
    (tmp_path / "rubbish.mp4").write_bytes(b"rubbish")
    with pytest.raises(SinkError, match="could not be joined"):
        join_videos([unsplit, tmp_path / "rubbish.mp4"], tmp_path / "joined.mp4")


# -- the end of a video -------------------------------------------------------------------------------------------------


def test_a_video_ends_where_it_is_told_to(archive: Path) -> None:
    part = fused(archive, "average", "start=10&end=12.5")
    assert list(part) == [index * 100 for index in range(25)]
    with pytest.raises(ConfigError, match="end has to be the larger one"):
        fused(archive, "average", "start=10&end=10")
