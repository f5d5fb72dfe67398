from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import psutil
import pytest

from rtfusion.batch import Told, find_recordings, make_jobs, run
from rtfusion.batch.processes import Processes, shares_of
from rtfusion.batch.storage import open_store
from rtfusion.batch.work import DONE, STAGING, Results, fuse
from rtfusion.errors import ConfigError
from tests.batch.archives import STILLS, VIDEOS, Done, InThisProcess, batch, make_archive, tree

WAIT_S = 100.0


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three recordings that are long enough to be disturbed; only for reading."""
    folder = tmp_path_factory.mktemp("long") / "archive"
    return make_archive(folder, frames=60, size_px=(160, 120), videos=("drive/night", "yard"))


@pytest.fixture(scope="module")
def undisturbed(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What becomes of them in this process, where nothing is killed."""
    out = tmp_path_factory.mktemp("undisturbed")
    batch(archive, out, workers=InThisProcess([]))
    return tree(out)


def wait_for(happens: Callable[[], bool]) -> None:
    ticks = threading.Event()
    for _ in range(int(WAIT_S / 0.005)):
        if happens():
            return
        ticks.wait(0.005)
    pytest.fail("it did not happen")


def test_everything_is_fused_once_and_a_second_batch_has_nothing_to_do(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "archive", frames=5)
    begun: list[str] = []
    done = batch(archive, tmp_path / "out", workers=InThisProcess(begun))
    assert sorted(begun) == sorted([*VIDEOS, STILLS])
    assert (done.fused, done.summary.frames, done.failed) == (4, 3 * 5 + 3, {})
    made = tree(tmp_path / "out")
    assert "drive/night/fused.mp4" in made
    assert [f"{STILLS}/fused/{stem}.png" in made for stem in "abc"] == [True] * 3
    assert STAGING not in made
    again: list[str] = []
    done = batch(archive, tmp_path / "out", workers=InThisProcess(again))
    assert (again, done.already_done, done.fused) == ([], 4, 0)
    assert tree(tmp_path / "out") == made


def test_what_puts_the_sources_right_is_for_every_recording(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "archive", frames=2, videos=())
    settings = {"fuser": "average", "vis_options": "half=left", "ir_options": "half=left"}
    assert batch(archive, tmp_path / "out", settings=settings, workers=InThisProcess([])).failed == {}
    assert cv2.imread(str(tmp_path / "out" / STILLS / "fused" / "a.png")).shape == (48, 32, 3)
    with pytest.raises(ConfigError, match="by other settings"):
        batch(archive, tmp_path / "out", settings={**settings, "vis_options": "half=right"})


def test_what_is_done_tells_what_became_of_every_frame(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "archive", frames=5)
    (archive / STILLS / "vis" / "b.png").unlink()
    batch(archive, tmp_path / "out", workers=InThisProcess([]))
    record = json.loads((tmp_path / "out" / STILLS / DONE).read_text())
    assert record["frames_read"] == {"visible": 2, "thermal": 3}
    assert (record["pairs"], record["fused"], sum(record["drops"]["thermal"].values())) == (2, 2, 1)
    assert sorted(record["outputs"]) == ["fused/a.png", "fused/c.png", "thumbnail.jpg"]


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_killed_worker_changes_nothing(tmp_path: Path, archive: Path, undisturbed: dict[str, str], jobs: int) -> None:
    dones: list[Done] = []
    thread = threading.Thread(target=lambda: dones.append(batch(archive, tmp_path / "out", workers=Processes(jobs))))
    thread.start()
    wait_for(lambda: any((tmp_path / "out").glob(f"{STAGING}/*/fused.mp4")))
    os.kill(worker_pids()[0], signal.SIGKILL)
    thread.join(WAIT_S)
    (done,) = dones
    assert (done.fused, done.failed) == (3, {})
    assert done.summary.restarts == 1
    assert tree(tmp_path / "out") == undisturbed


def worker_pids() -> list[int]:
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):  # one that has just left, or is a zombie until it is waited for
            if "rtfusion.batch.work" in child.cmdline():
                found.append(child.pid)
    return found


def test_a_stopped_batch_leaves_whole_results_only_and_the_next_one_goes_on(tmp_path: Path, archive: Path) -> None:
    stop = threading.Event()
    first = batch(archive, tmp_path / "out", workers=Processes(1), stop=stop, say=lambda text: stop.set())
    assert first.fused == 1
    assert worker_pids() == []
    made = tree(tmp_path / "out")
    assert len([name for name in made if name.endswith(DONE)]) == 1
    assert STAGING not in made
    second = batch(archive, tmp_path / "out", workers=InThisProcess([]))
    assert (second.already_done, second.fused) == (1, 2)


def test_a_broken_recording_is_told_of_and_the_others_go_on(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "archive", frames=5, videos=("yard",))
    (archive / "yard" / "ir.mp4").write_bytes(b"no video")
    done = batch(archive, tmp_path / "out")
    assert (done.fused, list(done.failed), done.summary.exit_code, done.summary.restarts) == (1, ["yard"], 3, 0)
    assert "ir.mp4" in done.failed["yard"]
    assert not (tmp_path / "out" / "yard").exists()


def test_a_worker_that_dies_every_time_is_given_up(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "archive", frames=60, size_px=(160, 120))
    for name in ("drive", STILLS):
        (archive / name).rename(tmp_path / name)
    over = threading.Event()

    def kill_all() -> None:
        while not over.wait(0.01):
            for pid in worker_pids():
                os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_all)
    killer.start()
    done = batch(archive, tmp_path / "out")
    over.set()
    killer.join(WAIT_S)
    assert "its process was killed 3 times" in done.failed["yard"]
    assert (done.summary.exit_code, done.summary.restarts) == (5, 2)
    assert tree(tmp_path / "out") == {}


def test_other_settings_are_refused_before_anything_is_done_and_overwritten_on_request(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "archive", frames=5)
    batch(archive, tmp_path / "out", workers=InThisProcess([]))
    made = tree(tmp_path / "out")
    begun: list[str] = []
    with pytest.raises(ConfigError, match="by other settings"):
        batch(archive, tmp_path / "out", workers=InThisProcess(begun), settings={"fuser": "average"})
    assert (begun, tree(tmp_path / "out")) == ([], made)
    batch(archive, tmp_path / "out", workers=InThisProcess(begun), settings={"fuser": "average"}, overwrite=True)
    assert len(begun) == 4
    assert tree(tmp_path / "out") != made


def test_damage_and_strangers_are_found(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "archive", frames=5)
    batch(archive, tmp_path / "out", workers=InThisProcess([]))
    (tmp_path / "out" / "yard" / "fused.mp4").write_bytes(b"cut off")
    with pytest.raises(ConfigError, match=r"is damaged: fused\.mp4"):
        batch(archive, tmp_path / "out")
    (tmp_path / "out" / "yard" / DONE).unlink()
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match="was not made by rtfusion batch"):
            batch(archive, tmp_path / "out", overwrite=overwrite)
    assert (tmp_path / "out" / "yard" / "fused.mp4").read_bytes() == b"cut off", "nothing of others is removed"


def test_two_batches_do_not_write_to_one_folder(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "archive", frames=5)

    def second(text: str) -> None:
        with pytest.raises(ConfigError, match="another batch is writing"):
            batch(archive, tmp_path / "out")

    assert batch(archive, tmp_path / "out", workers=InThisProcess([]), say=second).fused == 4


def test_the_second_of_two_attempts_finds_it_done(tmp_path: Path) -> None:
    recording = find_recordings(make_archive(tmp_path / "archive", frames=5))[0]
    (job,) = make_jobs([recording], out=str(tmp_path / "out"), settings={"fuser": "average"})
    results = Results(open_store(job.out))
    first = fuse(job).record
    before = tree(tmp_path / "out" / job.name)
    made_ns = (tmp_path / "out" / job.name / DONE).stat().st_mtime_ns
    assert results.record(job) == first
    assert fuse(job).record == first
    assert tree(tmp_path / "out" / job.name) == before
    assert (tmp_path / "out" / job.name / DONE).stat().st_mtime_ns == made_ns


@pytest.mark.parametrize("settings", [{"fuser": "pyramid"}, {"fuser": "learned", "precision": "f32"}])
def test_results_do_not_depend_on_the_number_of_cores(tmp_path: Path, settings: dict[str, str]) -> None:
    archive = make_archive(tmp_path / "archive", frames=30, size_px=(160, 120), videos=("yard",))
    made = []
    for threads in (1, 4):
        out = tmp_path / f"out-{threads}"
        for job in make_jobs(find_recordings(archive), out=str(out), settings=settings):
            fuse(replace(job, threads=threads))
        made.append(tree(out))
    assert made[0] == made[1]


def test_cores_are_shared_out() -> None:
    assert shares_of([0, 1, 2, 3], count=2) == [(0, 2), (1, 3)]
    assert shares_of([0, 1, 2], count=3) == [(0,), (1,), (2,)]
    assert shares_of([0, 1], count=3) == [None, None, None]


@pytest.mark.shared
@pytest.mark.slow  # half a minute; the small archive above shows the same
@pytest.mark.timeout(900)
def test_the_real_archive_with_a_killed_worker(shared_data: Path, tmp_path: Path) -> None:
    recordings = [found for part in ("eval", "video") for found in find_recordings(shared_data / part)]

    def fuse_all(out: Path) -> Done:
        jobs = make_jobs(recordings, out=str(out), settings={"fuser": "pyramid"})
        told = Told(say=lambda text: None)
        return Done(*run(jobs, out=str(out), workers=Processes(2), stop=threading.Event(), told=told))

    fuse_all(tmp_path / "undisturbed")
    dones: list[Done] = []
    thread = threading.Thread(target=lambda: dones.append(fuse_all(tmp_path / "out")))
    thread.start()
    wait_for(lambda: any((tmp_path / "out").glob(f"{STAGING}/*/fused/*.png")))
    os.kill(worker_pids()[0], signal.SIGKILL)
    thread.join(600)
    assert (dones[0].fused, dones[0].summary.restarts) == (len(recordings), 1)
    assert tree(tmp_path / "out") == tree(tmp_path / "undisturbed")
