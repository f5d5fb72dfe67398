"""Nothing that is there is overwritten unasked, and what a run reads not even when asked."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rtfusion.config import Settings
from rtfusion.errors import ConfigError
from rtfusion.files import check_output
from rtfusion.pipeline import build
from rtfusion.publish.sink import ZmqSink
from rtfusion.publish.subscriber import subscribe
from rtfusion.sinks import SinkContext, open_sink
from rtfusion.types import FusedFrame

from .conftest import Main

CAMERA = "synthetic:?size=64x48&frames=3"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recorded")
    outputs = ("ir.mkv", "vis.mkv", "images:ir", "images:vis", "record:sessions?reserve_mb=1")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        build(Settings(ir=CAMERA, vis=CAMERA, fuser="average", sink=outputs)).run()
        (session,) = Path("sessions").iterdir()
        session.rename("session")
    return folder


@pytest.fixture
def rig(tmp_path: Path, recorded: Path) -> Iterator[dict[str, bytes]]:
    """Two recordings, two folders, a session and other files that a run reads; whatever a test tries, they stay."""
    shutil.copytree(recorded, tmp_path, dirs_exist_ok=True)
    (tmp_path / "rtfusion.toml").write_text('fuser = "average"\n')
    (tmp_path / "other.json").write_text("precious")
    os.link(tmp_path / "vis.mkv", tmp_path / "hard.mkv")
    (tmp_path / "soft.mkv").symlink_to("vis.mkv")
    before = {str(path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    yield before
    assert {name: Path(name).read_bytes() for name in before} == before


ONTO = (
    ("--stats-json=other.json", "exists"),
    ("--stats-json=vis.mkv", "an input of this run"),
    ("--stats-json=hard.mkv", "an input of this run"),
    ("--stats-json=soft.mkv", "an input of this run"),
    ("--stats-json=./ir.mkv", "an input of this run"),
    ("--stats-json=rtfusion.toml", "an input of this run"),
    ("--stats-json=out.mp4", "another output of this run"),
    ("--sink=hard.mkv", "input of this run"),
    ("--sink=soft.mkv", "input of this run"),
    ("--sink=images:.", "input of this run"),
    ("--sink=zmq:ipc://other.json", "is no socket"),
    ("--sink=zmq:ipc://vis.mkv", "input of this run"),
)


@pytest.mark.parametrize(("flag", "says"), ONTO)
def test_an_input_is_never_written_over(main_here: Main, rig: dict[str, bytes], flag: str, says: str) -> None:
    for asked in ([], ["--overwrite"]):
        if asked and says == "exists":
            continue  # that is what was asked for
        code, _, err = main_here("run", "--ir=ir.mkv", "--vis=vis.mkv", "--sink=out.mp4", flag, *asked)
        assert (code, says in err) == (2, True), err


@pytest.mark.parametrize(
    ("source", "flag"),
    [
        ("session:session", "--sink=session/000000-visible.mkv"),
        ("session:session", "--stats-json=session/session.json"),
        ("vis", "--stats-json=vis/000000.png"),
        ("vis", "--sink=images:vis"),
    ],
)
def test_what_lies_in_an_input_is_one(main_here: Main, rig: dict[str, bytes], source: str, flag: str) -> None:
    thermal = source if source.startswith("session") else "ir"
    code, _, err = main_here("run", f"--ir={thermal}", f"--vis={source}", "--sink=null:", flag, "--overwrite")
    assert (code, "an input of this run" in err) == (2, True), err


def test_other_names_of_an_output_keep_what_they_name(main_here: Main, tmp_path: Path) -> None:
    """An earlier result that a backup names too, by a hard link, is replaced and not emptied."""
    (tmp_path / "out.mkv").write_bytes(b"earlier")
    os.link(tmp_path / "out.mkv", tmp_path / "backup.mkv")
    assert (
        main_here("run", f"--ir={CAMERA}", f"--vis={CAMERA}", "--sink=out.mkv", "--fuser=average", "--overwrite")[0]
        == 0
    )
    assert (tmp_path / "backup.mkv").read_bytes() == b"earlier"
    assert (tmp_path / "out.mkv").stat().st_size > 1000


def test_links_in_a_folder_of_images_keep_what_they_lead_to(
    main_here: Main, rig: dict[str, bytes], tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "000000.png").symlink_to("../vis/000000.png")
    os.link(tmp_path / "ir" / "000001.png", tmp_path / "out" / "000001.png")
    assert main_here("run", "--ir=ir", "--vis=vis", "--sink=images:out", "--overwrite")[0] == 0
    assert not (tmp_path / "out" / "000000.png").is_symlink()


def test_statistics_are_replaced_when_asked(main_here: Main, tmp_path: Path) -> None:
    words = ("run", f"--ir={CAMERA}", f"--vis={CAMERA}", "--sink=null:", "--fuser=average", "--stats-json=s.json")
    assert main_here(*words)[0] == 0
    first = (tmp_path / "s.json").stat().st_ino
    code, _, err = main_here(*words)
    assert (code, "s.json exists; choose another name, or replace it with --overwrite" in err) == (2, True)
    assert main_here(*words, "--overwrite")[0] == 0
    assert (tmp_path / "s.json").stat().st_ino != first


@pytest.mark.parametrize(
    "words",
    [
        ("report", "run.json", "--out=other.html"),
        ("evaluate", "--ir=a", "--vis=b", "--fused=c", "--json=other.html"),
        ("bench", "--quick", "--plot=other.html"),
        ("bench", "--quick", "--json=other.html"),
        ("doctor", "--report=other.html"),
        ("calibrate", "scene", f"--ir={CAMERA}", f"--vis={CAMERA}", "--out=other.html"),
    ],
)
def test_every_command_keeps_what_is_there(main_here: Main, tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "other.html").write_text("precious")
    code, _, err = main_here(*words)
    assert (code, "other.html exists" in err) == (2, True), err
    assert (tmp_path / "other.html").read_text() == "precious"


def test_calibrating_does_not_write_over_its_recordings(main_here: Main, rig: dict[str, bytes]) -> None:
    for words in (("scene",), ("delay",), ("board", "--board=chessboard:9x6", "--square-mm=20")):
        overwrite = [] if words == ("delay",) else ["--overwrite"]
        code, _, err = main_here("calibrate", *words, "--ir=ir.mkv", "--vis=vis.mkv", "--out=hard.mkv", *overwrite)
        assert (code, "it is an input" in err) == (2, True), err


def test_a_pipe_and_a_device_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    check_output(tmp_path / "fifo", overwrite=False)
    check_output(Path("/dev/null"), overwrite=False)


# -- sockets ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def publishing(address: str, context: SinkContext) -> Iterator[ZmqSink]:
    sink = open_sink(f"zmq:{address}", context=context)
    assert isinstance(sink, ZmqSink)
    try:
        yield sink
    finally:
        sink.close(aborted=True)


def test_a_living_socket_is_not_taken(
    tmp_path: Path, make_context: Callable[..., SinkContext], make_frame: Callable[..., FusedFrame]
) -> None:
    address = f"ipc://{tmp_path}/frames"
    with publishing(address, make_context()) as first:
        with pytest.raises(ConfigError, match="the address is in use, perhaps by another run"):
            open_sink(f"zmq:{address}", context=make_context(overwrite=True))
        with subscribe(address, timeout_s=20) as frames:
            while not first.has_subscribers():
                pass
            first.write(make_frame(3))
            assert next(frames).sequence == 3


def test_a_socket_left_behind_is_taken_over(tmp_path: Path, make_context: Callable[..., SinkContext]) -> None:
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as left:
        left.bind(str(tmp_path / "frames"))
    assert (tmp_path / "frames").exists()
    with publishing(f"ipc://{tmp_path}/frames", make_context()):
        pass


def test_a_file_is_no_socket(tmp_path: Path, make_context: Callable[..., SinkContext]) -> None:
    (tmp_path / "frames").write_text("precious")
    with pytest.raises(ConfigError, match="exists and is no socket; it is never replaced"):
        open_sink(f"zmq:ipc://{tmp_path}/frames", context=make_context(overwrite=True))
    assert (tmp_path / "frames").read_text() == "precious"
