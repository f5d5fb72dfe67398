"""Archives and results on storages: a local S3 server, memory, and one that goes wrong."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fsspec", reason="storage by URL is not installed: pip install -e '.[s3]'")

from rtfusion.batch import Account, find_recordings
from rtfusion.batch import storage as storage_module
from rtfusion.batch.account import NAME
from rtfusion.batch.processes import Processes
from rtfusion.batch.storage import LocalStore, RemoteStore, Scratch, is_url, local_path, open_store
from rtfusion.batch.work import DONE, STAGING
from rtfusion.errors import ConfigError, EngineUnavailable, StorageError
from tests.batch.archives import STILLS, Done, InThisProcess, batch, make_archive, tree
from tests.batch.storages import BUCKET, Faulty, S3Server, download, register_faulty, s3_server, upload
from tests.batch.test_run import WAIT_S, wait_for

pytestmark = pytest.mark.filterwarnings("default")  # those of the clients are not ours


@pytest.fixture
def s3(free_port: int) -> Iterator[S3Server]:
    pytest.importorskip("s3fs", reason="S3 is not installed: pip install -e '.[s3]'")
    pytest.importorskip("moto", reason="no local S3 server is installed: pip install 'moto[s3,server]'")
    with s3_server(free_port) as server:
        yield server


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not answer is asked again at once."""
    monkeypatch.setattr(storage_module, "PAUSES_S", (0.0, 0.0, 0.0))


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch, quick: None) -> type[Faulty]:
    register_faulty()
    monkeypatch.setattr(Faulty, "plan", staticmethod(lambda call, path: None))
    return Faulty


def files(root: Path) -> dict[str, str]:
    """The tree without its folders, which object stores do not have, and without times of change, which are theirs."""
    return {name: checksum for name, checksum in tree(root).items() if checksum != "folder" and not name.endswith(DONE)}


def test_a_url_is_no_path_and_a_path_no_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert [is_url(text) for text in ("s3://bucket/a", "gs://b", "/a/b", "a:b", "C:/a", "file:///a")] == [
        True, True, False, False, False, False,
    ]  # fmt: skip
    assert local_path("file:///a%20b/c") == Path("/a b/c")
    assert local_path("a") == tmp_path / "a"
    assert isinstance(open_store("a"), LocalStore)
    with pytest.raises(ConfigError, match=r"no storage is known by nonsense://"):
        open_store("nonsense://bucket/a")
    assert list(tmp_path.iterdir()) == [], "nothing was made"


def test_what_is_not_installed_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    def refuse(url: str) -> None:
        raise ImportError("install gcsfs")

    monkeypatch.setattr(fsspec, "url_to_fs", refuse)
    with pytest.raises(EngineUnavailable, match=r"pip install -e '.\[gs\]'"):
        open_store("gs://bucket/a")


def test_no_user_and_no_password_is_shown(faulty: type[Faulty]) -> None:
    store = RemoteStore("faulty://user:secret@/nowhere")
    faulty.plan = staticmethod(lambda call, path: "error")
    with pytest.raises(StorageError) as caught:
        store.read("x")
    assert "secret" not in f"{store.shown} {caught.value}"


def test_an_archive_in_memory_is_found_and_fused(tmp_path: Path) -> None:
    made = make_archive(tmp_path / "archive", frames=4)
    with (made / "yard" / "vi.mp4").open("ab") as file:
        file.write((made / "drive/day/vi.mp4").read_bytes())  # of which a note speaks, by name
    upload(made, "memory://all/archive")
    found = find_recordings("memory://all/archive")
    local = find_recordings(made)
    assert [recording.name for recording in found] == [recording.name for recording in local]
    assert [recording.size_bytes for recording in found] == [recording.size_bytes for recording in local]
    batch(made, tmp_path / "out", workers=InThisProcess())
    out = "memory://all/archive/out"
    done = batch("memory://all/archive", out, workers=InThisProcess(), scratch=tmp_path / "scratch")
    assert (done.fused, done.failed) == (4, {})
    assert files(download(out, tmp_path / "got")) == files(tmp_path / "out")
    (note,) = (note for note in Account(open_store(out)).entries["yard"].notes if "joined to it byte by byte" in note)
    assert note.startswith("memory://all/archive/yard/vi.mp4: behind it lie")
    assert list((tmp_path / "scratch").glob("*/files")) == [], "nothing stays on the way"
    begun: list[str] = []
    again = batch("memory://all/archive", out, workers=InThisProcess(begun), scratch=tmp_path / "scratch")
    assert (again.already_done, begun) == (4, [])


def test_models_and_calibrations_may_be_urls(tmp_path: Path) -> None:
    from rtfusion.models.shipping import shipped

    archive = make_archive(tmp_path / "archive", frames=2, videos=())
    upload_to = "memory://models/here"
    store = open_store(upload_to)
    store.write("student.onnx", shipped("small").read_bytes())
    settings = {"fuser": "learned", "model": f"{upload_to}/student.onnx", "engine": "openvino"}
    done = batch(archive, tmp_path / "out", settings=settings, workers=InThisProcess(), scratch=tmp_path / "scratch")
    assert done.failed == {}
    entry = Account(open_store(tmp_path / "out")).entries[STILLS]
    assert entry.model["name"] == f"{upload_to}/student.onnx"
    assert len(entry.model["sha256"]) == 64
    with pytest.raises(ConfigError, match=r"there is no such file"):
        batch(archive, tmp_path / "other", settings={**settings, "model": f"{upload_to}/none.onnx"})


@pytest.mark.parametrize("fault", ["error", "slow", "cut", "broken"])
def test_a_storage_that_fails_now_and_then_changes_nothing(tmp_path: Path, faulty: type[Faulty], fault: str) -> None:
    archive = make_archive(tmp_path / "archive", frames=4)
    batch(archive, tmp_path / "undisturbed", workers=InThisProcess())
    chance = random.Random(1)
    faults = 0

    def plan(call: str, path: str) -> str | None:
        nonlocal faults
        if chance.random() < 0.3:
            faults += 1
            return fault
        return None

    faulty.plan = staticmethod(plan)
    done = batch(
        f"faulty://{archive}", f"faulty://{tmp_path}/out", workers=InThisProcess(), scratch=tmp_path / "scratch"
    )
    assert faults > 5
    assert (done.fused, done.failed) == (4, {})
    assert files(tmp_path / "out") == files(tmp_path / "undisturbed")


def test_a_storage_that_takes_nothing_leaves_no_half_and_fails_no_recording(
    tmp_path: Path, faulty: type[Faulty]
) -> None:
    archive = make_archive(tmp_path / "archive", frames=4)
    faulty.plan = staticmethod(lambda call, path: "error" if call == "put" and path.endswith(DONE) else None)
    out = f"faulty://{tmp_path}/out"
    done = batch(archive, out, workers=InThisProcess(), scratch=tmp_path / "scratch")
    assert done.fused == 0
    assert done.summary.exit_code == 5
    assert done.summary.states == {"unfinished": 4}
    assert [name for name in files(tmp_path / "out") if "fused" in name] == [], "what was half there was removed"
    faulty.plan = staticmethod(lambda call, path: None)
    again = batch(archive, out, workers=InThisProcess(), scratch=tmp_path / "scratch")
    assert (again.fused, again.failed, again.summary.exit_code) == (4, {}, 0)


def test_a_part_that_is_never_whole_is_no_recording(tmp_path: Path, faulty: type[Faulty]) -> None:
    archive = make_archive(tmp_path / "archive", frames=4, videos=("yard",))
    faulty.plan = staticmethod(lambda call, path: "cut" if call == "get" and path.endswith("ir.mp4") else None)
    done = batch(f"faulty://{archive}", tmp_path / "out", workers=InThisProcess(), scratch=tmp_path / "scratch")
    assert done.fused == 1
    assert "bytes came instead of" in done.failed["yard"]
    assert not (tmp_path / "out" / "yard").exists()


def test_a_place_that_cannot_be_written_is_told_before_anything_begins(tmp_path: Path, faulty: type[Faulty]) -> None:
    archive = make_archive(tmp_path / "archive", frames=4, videos=("yard",))
    faulty.plan = staticmethod(lambda call, path: "error" if call == "pipe" else None)
    begun: list[str] = []
    with pytest.raises(ConfigError, match="--out"):
        batch(archive, f"faulty://{tmp_path}/out", workers=InThisProcess(begun), scratch=tmp_path / "scratch")
    assert begun == []


def test_what_a_killed_upload_left_is_written_over_and_what_is_of_others_is_not(
    tmp_path: Path, faulty: type[Faulty]
) -> None:
    archive = make_archive(tmp_path / "archive", frames=4, videos=("yard",))
    out = f"faulty://{tmp_path}/out"
    batch(archive, out, workers=InThisProcess(), scratch=tmp_path / "scratch")
    undisturbed = files(tmp_path / "out")
    (tmp_path / "out" / "yard" / DONE).unlink()
    (tmp_path / "out" / "yard" / "fused.mp4").write_bytes(b"half")
    again = batch(archive, out, workers=InThisProcess(), scratch=tmp_path / "scratch")
    assert again.fused == 1
    assert files(tmp_path / "out") == undisturbed
    (tmp_path / "out" / NAME).unlink()
    (tmp_path / "out" / "yard" / DONE).unlink()
    with pytest.raises(ConfigError, match="was not made by rtfusion batch"):
        batch(archive, out, workers=InThisProcess(), scratch=tmp_path / "scratch")


def test_two_batches_do_not_write_to_one_url(tmp_path: Path, faulty: type[Faulty]) -> None:
    archive = make_archive(tmp_path / "archive", frames=3)
    out = f"faulty://{tmp_path}/out"

    def second(text: str) -> None:
        with pytest.raises(ConfigError, match=r"another batch is writing .*process \d+"):
            batch(archive, out, workers=InThisProcess(), scratch=tmp_path / "scratch")

    done = batch(archive, out, workers=InThisProcess(), scratch=tmp_path / "scratch", say=second)
    assert done.fused == 4
    # a batch of this machine whose process is gone holds nobody up
    said = {"host": os.uname().nodename, "pid": 2**22 + 1, "written_s": 1e12, "progress": {}}
    (tmp_path / "out" / STAGING).mkdir()
    (tmp_path / "out" / STAGING / "running.json").write_text(json.dumps(said))
    assert batch(archive, out, workers=InThisProcess(), scratch=tmp_path / "scratch").already_done == 4


# -- the bound of what is on its way ------------------------------------------------------------------------------------


def test_what_is_on_its_way_is_bounded(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path, limit_bytes=100)
    with pytest.raises(ConfigError, match="--scratch-gb"), scratch.room(101):
        pass
    inside = threading.Event()

    def second() -> None:
        with scratch.room(60):
            inside.set()

    with scratch.room(60) as folder:
        (folder / "a").write_bytes(b"a")
        thread = threading.Thread(target=second)
        thread.start()
        assert not inside.wait(0.6), "both do not fit"
    thread.join(WAIT_S)
    assert inside.is_set()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock"]


def _die_in(folder: Path) -> None:
    with Scratch(folder, limit_bytes=100).room(60):
        os._exit(9)


def test_who_dies_holds_no_room(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_die_in, args=(tmp_path,))
    process.start()
    process.join(WAIT_S)
    assert process.exitcode == 9
    assert len(list(tmp_path.glob("*/held"))) == 1
    with Scratch(tmp_path, limit_bytes=100).room(60):
        assert len(list(tmp_path.glob("*/held"))) == 1


def test_a_recording_that_never_fits_fails_alone(tmp_path: Path, faulty: type[Faulty]) -> None:
    archive = make_archive(tmp_path / "archive", frames=4, videos=("yard",))
    (small,) = (recording for recording in find_recordings(archive) if recording.name == STILLS)
    done = batch(
        f"faulty://{archive}",
        tmp_path / "out",
        workers=InThisProcess(),
        scratch=tmp_path / "scratch",
        scratch_bytes=small.size_bytes,
    )
    assert (done.fused, list(done.failed)) == (1, ["yard"])
    assert "--scratch-gb" in done.failed["yard"]


# -- S3 -----------------------------------------------------------------------------------------------------------------


def test_an_archive_on_s3_by_processes_with_a_store_that_goes_away(s3: S3Server, tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "archive", frames=40, size_px=(160, 120))
    (archive / "yard" / "ir.mp4").write_bytes(b"no video")
    batch(archive, tmp_path / "undisturbed", workers=InThisProcess())
    source, out = f"s3://{BUCKET}/archive", f"s3://{BUCKET}/fused"
    upload(archive, source)
    dones: list[Done] = []
    thread = threading.Thread(
        target=lambda: dones.append(batch(source, out, workers=Processes(2), scratch=tmp_path / "scratch"))
    )
    thread.start()
    wait_for(lambda: any((tmp_path / "scratch").glob("*/files/visible/*")))
    s3.stop()
    threading.Event().wait(1.0)
    s3.start()
    thread.join(WAIT_S)
    (done,) = dones
    assert (done.fused, list(done.failed), done.summary.exit_code) == (3, ["yard"], 3)
    assert done.failed["yard"].startswith(f"{source}/yard/ir.mp4: not a video"), "not by the name of a copy"
    got = download(out, tmp_path / "got")
    assert files(got) == files(tmp_path / "undisturbed")
    account = Account(open_store(out))
    assert {name: entry.state for name, entry in account.entries.items()} == {
        "drive/day": "done", "drive/night": "done", STILLS: "done", "yard": "failed",
    }  # fmt: skip
    begun: list[str] = []
    again = batch(source, out, workers=InThisProcess(begun), scratch=tmp_path / "scratch")
    assert (begun, again.before, again.summary.exit_code) == ([], {"done": 3, "failed": 1}, 3)
    batch(source, out, workers=InThisProcess(begun), scratch=tmp_path / "scratch", retry_failed=True)
    assert begun == ["yard"]


def test_no_bucket_is_made_by_a_slip_of_the_finger(s3: S3Server, tmp_path: Path, quick: None) -> None:
    archive = make_archive(tmp_path / "archive", frames=2, videos=())
    with pytest.raises(ConfigError, match=r"s3://no-such-bucket/out.*--out"):
        batch(archive, "s3://no-such-bucket/out", workers=InThisProcess(), scratch=tmp_path / "scratch")
    with pytest.raises(ConfigError, match="there is nothing at s3://no-such-bucket/archive"):
        find_recordings("s3://no-such-bucket/archive")
