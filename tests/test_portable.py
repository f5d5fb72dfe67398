"""What macOS and Windows lack is not taken for granted; what is Linux's alone says so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rtfusion.errors import ConfigError
from rtfusion.portable import instructions, lock, needs, read_at, usable_cores, write_at

ROOT = Path(__file__).resolve().parents[1]
FOREIGN = Path(__file__).with_name("foreign.py")
SCENE = "synthetic:?size=64x48&frames=4"
SYSTEMS = pytest.mark.parametrize("system", ["darwin", "win32"])
LOAD_ALL = """
import importlib, pathlib, sys
sys.path.insert(0, sys.argv[1])
import foreign
foreign.become(sys.argv[2])
for package in ("rtfusion", "rtfusion_calibration"):
    home = pathlib.Path(importlib.import_module(package).__file__).parent
    for path in sorted(home.rglob("*.py")):
        name = ".".join((package, *path.relative_to(home).with_suffix("").parts)).removesuffix(".__init__")
        if path.name != "__main__.py" and "import torch" not in path.read_text().splitlines():
            importlib.import_module(name)
print("loaded")
"""


def there(system: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """``rtfusion ARGUMENTS`` on another system."""
    command = [sys.executable, str(FOREIGN), system, *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=100, check=False)


@SYSTEMS
def test_every_module_loads(system: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", LOAD_ALL, str(FOREIGN.parent), system]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stdout) == (0, "loaded\n"), done.stderr


@SYSTEMS
def test_a_run_writes_video_images_a_session_and_serves_its_page(system: str, tmp_path: Path) -> None:
    sinks = ("out.mp4", "images:frames", "null:", "web://127.0.0.1:0", "record:session", "zmq:tcp://127.0.0.1:*")
    words = ["run", "--ir", SCENE, "--vis", SCENE, "--fuser", "average", *(f"--sink={sink}" for sink in sinks)]
    done = there(system, *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len([*(tmp_path / "frames").iterdir()]) == 4
    again = there(system, "run", "--ir", "frames?fps=30", "--vis", "out.mp4", "--fuser=average", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "4 of 4" in again.stderr or "frames read   4" in again.stdout


@SYSTEMS
def test_the_shipped_model_fuses(system: str, tmp_path: Path) -> None:
    done = there(system, "run", "--ir", SCENE, "--vis", SCENE, "--sink", "fused.mp4", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "fused.mp4").stat().st_size > 0


REFUSED = (
    ("win32", "devices", "listing cameras runs on Linux alone, and this is Windows"),
    ("darwin", "run --ir v4l2:/dev/video0 --vis SCENE", "a camera of this machine runs on Linux alone"),
    ("win32", "run --ir SCENE --vis SCENE --sink window:", "use web://127.0.0.1:8080"),
    ("darwin", "run --ir SCENE --vis SCENE --sink zmq:tcp://127.0.0.1:*?encoding=shm", "publish with encoding=raw"),
    ("win32", "batch . --out done", "rtfusion batch runs on Linux and macOS alone"),
    ("win32", "bench --quick", "rtfusion doctor measures the fusers there"),
)


@pytest.mark.parametrize(("system", "words", "said"), REFUSED)
def test_what_a_system_does_not_have_is_one_sentence(system: str, words: str, said: str, tmp_path: Path) -> None:
    done = there(system, *words.replace("SCENE", SCENE).split(), cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "bug" not in done.stderr


def test_a_file_is_locked_by_one_alone(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    first, second = (os.open(path, os.O_RDWR | os.O_CREAT) for _ in range(2))
    lock(first)
    with pytest.raises(BlockingIOError):
        lock(second)
    os.close(first)
    lock(second)
    os.close(second)


@pytest.mark.parametrize("has_calls", [True, False])
def test_reading_and_writing_at_a_place_keep_the_position(
    has_calls: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_calls:
        monkeypatch.delattr(os, "pread")
        monkeypatch.delattr(os, "pwrite")
    (tmp_path / "file").write_bytes(b"0123456789")
    handle = os.open(tmp_path / "file", os.O_RDWR)
    os.lseek(handle, 2, os.SEEK_SET)
    write_at(handle, b"ab", 6)
    assert (read_at(handle, 3, 5), os.lseek(handle, 0, os.SEEK_CUR)) == (b"5ab", 2)
    os.close(handle)


def test_cores_are_those_that_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert usable_cores() == tuple(sorted(os.sched_getaffinity(0)))
    monkeypatch.delattr(os, "sched_getaffinity")
    assert len(usable_cores()) == os.cpu_count()


@pytest.mark.parametrize("name", ["flags\t\t", "Features\t"])
def test_instructions_are_those_that_the_system_names(name: str, tmp_path: Path) -> None:
    assert instructions(root=tmp_path) == frozenset()
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(f"processor\t: 0\n{name}: avx2 fma\nbogomips\t: 2\n\n{name}: avx2\n")
    assert instructions(root=tmp_path) == {"avx2", "fma"}


def test_what_is_here_is_not_refused() -> None:
    needs("linux", what="this", instead="nothing")
    with pytest.raises(ConfigError, match=r"^this runs on macOS and Windows alone, and this is Linux; that$"):
        needs("macos", "windows", what="this", instead="that")
