"""What a user installs: the wheel, unpacked where no checkout is, beside folders and files of the user's own."""

from __future__ import annotations

import email
import email.message
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("hatchling", reason="building a wheel needs hatchling: pip install -e '.[dev]'")

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {
    "rtfusion": ROOT / "rtfusion",
    "rtfusion_trainer": ROOT / "trainer" / "rtfusion_trainer",
    "rtfusion_calibration": ROOT / "calibration" / "rtfusion_calibration",
}
COMPILERS = ("cc", "gcc", "clang")
TRAPS = ("benchmarks", "trainer", "calibration")
TRAP = "raise SystemExit('code of the user was run')\n"
Command = Callable[..., "subprocess.CompletedProcess[str]"]

LOAD_ALL = """
import importlib, os, pathlib, sys
site = pathlib.Path(os.environ["SITE"])
for package in sys.argv[1:]:
    for path in sorted((site / package).rglob("*.py")):
        name = ".".join(path.relative_to(site).with_suffix("").parts).removesuffix(".__init__")
        if path.name != "__main__.py" and "import torch" not in path.read_text().splitlines():
            assert pathlib.Path(importlib.import_module(name).__file__) == path
print("loaded")
"""
HELP_ALL = """
import sys
import typer
from rtfusion.cli.app import app

def show(command, words):
    try:
        command.main([*words, "--help"], prog_name="rtfusion", standalone_mode=False)
    except SystemExit as end:
        assert not end.code, words
    for name, below in getattr(command, "commands", {}).items():
        root.main([*words, name, "--help"], prog_name="rtfusion", standalone_mode=False)
        for deeper in getattr(below, "commands", {}):
            root.main([*words, name, deeper, "--help"], prog_name="rtfusion", standalone_mode=False)
root = typer.main.get_command(app)
show(root, [])
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(params=["folders", "files"])
def trapped(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A working folder in which code of the user's own lies under the names of our folders."""
    for name in TRAPS:
        if request.param == "files":
            (tmp_path / f"{name}.py").write_text(TRAP)
        else:
            (tmp_path / name).mkdir()
            (tmp_path / name / "__init__.py").write_text(TRAP)
    return tmp_path


@pytest.fixture
def python(site: Path, trapped: Path) -> Command:
    """Runs Python in that folder, with what the wheel installs before anything else."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RTFUSION_")}
    environ = {**kept, "PYTHONPATH": str(site), "SITE": str(site), "TERM": "dumb", "COLUMNS": "200"}
    environ["XDG_CONFIG_HOME"] = str(trapped / "no-config")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *arguments]
        return subprocess.run(
            command, cwd=trapped, env=environ, capture_output=True, text=True, timeout=100, check=False
        )

    return run


def build_wheel(into: Path, **environ: str) -> Path:
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run(
        [*build, "-w", str(into), str(ROOT)], capture_output=True, text=True, check=False, env={**os.environ, **environ}
    )
    assert done.returncode == 0, done.stderr
    (built,) = into.glob("*.whl")
    return built


def test_only_names_that_nobody_else_has_are_installed(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)


def test_every_file_of_the_packages_is_installed(site: Path) -> None:
    for package, folder in PACKAGES.items():
        here = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
        there = {path.relative_to(site / package) for path in (site / package).rglob("*") if path.is_file()}
        made = {path for path in here | there if path.suffix in (".pyc", ".so")}
        assert there - made == here - made
        assert Path("py.typed") in there
    assert {path.suffix for path in site.rglob("*")} >= {
        ".cu",
        ".onnx",
        ".html",
        ".css",
        ".js",
        ".svg",
        ".json",
        ".toml",
    }


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> email.message.Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_string(archive.read(name).decode())


def test_what_the_wheel_says_of_itself_holds_outside_of_the_repository(metadata: email.message.Message) -> None:
    assert metadata["Description-Content-Type"] == "text/markdown"
    described = str(metadata.get_payload())
    targets = re.findall(r"(?:\]\(|<img[^>]*\ssrc=\")([^)\"\s]+)", described)
    assert targets
    assert [target for target in targets if not target.startswith(("https://", "http://", "#"))] == []
    pictures = re.findall(r"(?:!\[[^\]]*\]\(|<img[^>]*\ssrc=\")([^)\"\s]+)", described)
    assert pictures and all(picture.startswith("https://raw.") for picture in pictures)
    for address in targets:  # ours are of files that there are
        path = re.fullmatch(r"https://[^/]+/rtfusion/rtfusion/(?:blob/|tree/)?main/([^#]+)(?:#.*)?", address)
        assert path is None or (ROOT / path[1]).exists(), address
    labels = {label.partition(",")[0] for label in metadata.get_all("Project-URL", [])}
    assert labels == {"Homepage", "Documentation", "Changelog", "Issues"}


def test_every_extra_that_is_named_somewhere_is_one(metadata: email.message.Message) -> None:
    extras = set(metadata.get_all("Provides-Extra", []))
    sources = [path for room in PACKAGES.values() for path in room.rglob("*.py")]
    pages = [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", *filter(Path.is_file, (ROOT / "deploy").rglob("*"))]
    for path in (*sources, *pages):
        for named in re.findall(r"(?:rtfusion|\.whl|/src)\[([a-z0-9,]+)\]", path.read_text(encoding="utf-8")):
            assert set(named.split(",")) <= extras, path


KERNELS = """
from rtfusion.kernels.selftest import CHECKS
print(min(check() for check in CHECKS.values()))
"""


@pytest.mark.skipif(not any(map(shutil.which, COMPILERS)), reason="there is no C compiler here")
def test_a_wheel_carries_kernels_of_its_platform_that_compute_what_they_should(wheel: Path, python: Command) -> None:
    assert not wheel.name.endswith("-any.whl")
    done = python("-c", KERNELS)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 1_000


@pytest.mark.parametrize("compiler", ["no-such-compiler", "false"])
def test_without_a_compiler_the_wheel_is_of_python_alone_and_says_what_it_lacks(tmp_path: Path, compiler: str) -> None:
    built = build_wheel(tmp_path, CC=compiler)
    assert built.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(tmp_path / "site")
    assert not [*(tmp_path / "site").rglob("*.so")]
    environ = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(
        [sys.executable, "-c", KERNELS], capture_output=True, text=True, check=False, env=environ, cwd=tmp_path
    )
    assert "EngineUnavailable: the kernels were not compiled when rtfusion was installed" in done.stderr


def test_every_module_loads_beside_the_code_of_a_user(python: Command) -> None:
    done = python("-c", LOAD_ALL, "rtfusion", "rtfusion_calibration")
    assert (done.returncode, done.stdout) == (0, "loaded\n"), done.stderr


def test_every_command_shows_its_help_beside_the_code_of_a_user(python: Command) -> None:
    done = python("-c", HELP_ALL)
    assert done.returncode == 0, done.stderr
    for words in ("train student", "train evaluate", "calibrate import", "config show", "bench", "doctor"):
        assert f"Usage: rtfusion {words} " in done.stdout


def test_bench_is_ours_beside_the_code_of_a_user(python: Command) -> None:
    done = python("-m", "rtfusion", "bench", "--size", "0x0")
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert "expected WIDTHxHEIGHT in pixels" in done.stderr


@pytest.mark.slow  # more than ten seconds; its start is shown above
@pytest.mark.parametrize("trapped", ["folders"], indirect=True)
def test_bench_measures_beside_the_code_of_a_user(python: Command, tmp_path: Path) -> None:
    done = python(
        "-m", "rtfusion", "bench", "--fuser", "average", "--size", "64x48", "--rounds", "1", "--json", "bench.json"
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "bench.json").is_file()


COMMANDS = (
    (0, "version", "rtfusion"),
    (0, "config show", "tolerance_ms"),
    (0, "engines", "openvino"),
    (0, "devices", ""),
    (0, "keys camera", "camera.key"),
    (0, "run --ir ir --vis vi --fuser average --sink images:fused --stats-json stats.json", ""),
    (0, "report stats.json", "stats.html"),
    (0, "evaluate --ir ir --vis vi --fused fused", "Qabf"),
    (0, "batch archive --out done --fuser average", ""),
    (0, "demo --seconds 1 --out demo", "contact-sheet.png"),
    (2, "calibrate check demo/calibration.json --ir ir --vis vi", "the calibration is for a thermal camera of 320x256"),
    (2, "calibrate export demo/calibration.json --ros ros", "the calibration holds only a homography"),
    (2, "calibrate import --opencv gone.yml --out rig.json", "gone.yml: there is no such file"),
    (2, "calibrate board --ir ir --vis vi --board chessboard:9x6 --square-mm 30 --out rig.json", "found in none of 3"),
    (2, "calibrate scene --ir ir --vis vi --out rig.json", "the scene does not determine the registration"),
    (2, "calibrate delay --ir ir --vis vi --out rig.json", "unrelated stills have no delay"),
    (2, "train student --data nothing --out run", "nothing: there is no such folder"),
    (2, "train evaluate --model gone --data nothing", "no model 'gone'"),
    (2, "export --checkpoint gone.pt --out models --trained-on x --license y", "cannot read the checkpoint"),
)


@pytest.mark.slow  # half a minute; modules and help of all commands are loaded above
@pytest.mark.timeout(300)
@pytest.mark.parametrize("trapped", ["files"], indirect=True)
def test_every_command_is_ours_beside_the_code_of_a_user(python: Command, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the trainer needs torch: pip install -e '.[train]'")
    random = np.random.default_rng(0)
    for folder in ("vi", "ir"):
        (tmp_path / folder).mkdir()
        for index in range(3):
            image = random.integers(0, 256, (48, 64), dtype=np.uint8)
            cv2.imwrite(str(tmp_path / folder / f"{index}.png"), image)
    shutil.copytree(tmp_path / "vi", tmp_path / "archive" / "street" / "vi")
    shutil.copytree(tmp_path / "ir", tmp_path / "archive" / "street" / "ir")
    for code, words, said in COMMANDS:
        done = python("-m", "rtfusion", *words.split())
        assert done.returncode == code, (words, done.stdout, done.stderr)
        assert said in done.stdout + done.stderr, (words, done.stdout, done.stderr)
