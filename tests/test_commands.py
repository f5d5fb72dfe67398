"""Every command that README.md and docs/ show exists with its options, and runs, or says beside itself why it is not run here.

A block of commands is fenced as ``sh``. ``<!-- not run: why -->`` before it leaves it to be read alone. When blocks run, the
cameras are synthetic ones, addresses are free ones, and a live run ends after a few frames; `ELSEWHERE` are commands that another
test runs.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import av
import cv2
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from rtfusion import Band, Calibration
from rtfusion.cli.app import app
from rtfusion.config import Settings, load
from rtfusion.evaluate.clips import film

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<body>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL)
WHY = re.compile(r"<!-- not run: [^>]+ -->\s*\Z")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
OF_OTHERS = {
    "pip",
    "curl",
    "sudo",
    "docker",
    "export",
    "echo",
    "source",
    "ffmpeg",
    "mkdocs",
    "cp",
    "mkdir",
    "colcon",
    "ros2",
    "ray",
    "kubectl",
    "cd",
}
"""Programs that are not ours: their options are theirs."""
OPTIONS_OF_OTHERS = {
    *(
        "--device",
        "--rm",
        "--network",
        "--no-deps",
        "--require-hashes",
        "--hash",
        "--system",
        "--groups",
        "--home-dir",
        "--now",
    ),
    *(
        "--nproc-per-node",
        "--strict",
        "--packages-select",
        "--system-site-packages",
        "--gpus",
        "--ipc",
        "--runtime",
        "--shm-size",
        "--group-add",
        "--build",
        "--detach",
        "--no-auto-attach",
        "--index-url",
        "--address",
        "--runtime-env",
    ),
}
ELSEWHERE = {
    "calibrate scene": ("tests/cli/test_calibrate_scene.py", 'main_here("calibrate", "scene"'),
    "calibrate delay": ("tests/cli/test_calibrate_scene.py", 'main_here("calibrate", "delay"'),
    "view": ("tests/window/test_window.py", "view_stream(publisher.endpoint"),
}
"""Commands that take long or need a display, and where a test runs them."""


class Block(NamedTuple):
    language: str
    body: str
    runs: bool


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        indent = len(match["indent"])
        body = "".join(line[indent:] for line in match["body"].splitlines(keepends=True))
        yield Block(match["language"], body, runs=WHY.search(text[: match.start()]) is None)


def commands(body: str) -> Iterator[list[str]]:
    """The words of every command of a block, without variables that are set before it."""
    for line in body.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words:
            end = next((at for at, word in enumerate(words) if word in ("&&", "|", "&")), len(words))
            command, words = words[:end], words[end + 1 :]
            command = command[: command.index(">")] if ">" in command else command  # where its output goes
            while command and re.match(r"[A-Z_]+=", command[0]):
                command = command[1:]
            if command:
                yield command


def command_of(words: list[str]) -> tuple[str, Any, list[str]]:
    """The command that words name, and its arguments."""
    found, name = typer.main.get_command(app), "rtfusion"
    while hasattr(found, "commands"):
        assert words, f"{name}: which command?"
        assert words[0] in found.commands, f"there is no command {name} {words[0]}"
        found, name, words = found.commands[words[0]], f"{name} {words[0]}", words[1:]
    return name, found, words


def check_rtfusion(words: list[str]) -> None:
    if words == ["--version"]:
        return
    name, command, arguments = command_of(words)
    context = command.make_context(name, arguments)  # an unknown option, or one without its value, is an error
    flags = {key: value for key, value in context.params.items() if key in Settings.model_fields and value is not None}
    if name.removeprefix("rtfusion ") in ("run", "record", "batch", "replay"):
        load({key: value for key, value in flags.items() if value != []}, file=Path(os.devnull), environ={})


def check_python(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    if words[:1] == ["-m"] and words[1].startswith("benchmarks."):
        module = importlib.import_module(words[1])
        main = module.SUITE.main if hasattr(module, "SUITE") else getattr(module, "main", None)
        assert main is not None, words[1]
        if options := [word for word in words if word.startswith("--")]:
            with pytest.raises(SystemExit):
                main(["--help"])
            shown = capsys.readouterr().out
            assert all(option in shown for option in options), options
    elif words[:1] != ["-m"] and words[:1] != ["-c"]:
        text = (ROOT / words[0]).read_text(encoding="utf-8")
        assert all(f'"{word}"' in text for word in words if word.startswith("--")), words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_exists_with_its_options(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for block in blocks(page):
        for words in commands(block.body) if block.language == "sh" else ():
            program = words[0].removeprefix(".venv/bin/")
            if program == "rtfusion":
                check_rtfusion(words[1:])
            elif program in ("python", "python3"):
                check_python(words[1:], capsys)
            else:
                assert Path(program).name in OF_OTHERS or (ROOT / program).is_file(), program


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_stand_in_blocks_that_are_checked(page: Path) -> None:
    for block in blocks(page):
        if block.language != "sh":
            stray = re.findall(r"^(?:\$ )?rtfusion [a-z]+ .*--.*$", block.body, flags=re.MULTILINE)
            assert not stray or block.language == "text", f"fence it as sh: {stray}"
    outside = BLOCK.sub("", page.read_text(encoding="utf-8"))
    assert re.findall(r"^ {4}rtfusion [a-z]+ -.*$", outside, flags=re.MULTILINE) == []


def site() -> ModuleType:
    """The hook of the documentation site, which knows every command."""
    spec = importlib.util.spec_from_file_location("documentation_site", ROOT / "scripts" / "site.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def options_that_exist() -> set[str]:
    known = {"--help", "--version", *OPTIONS_OF_OTHERS}
    for _, command in site().commands():
        for parameter in command.params:
            known |= {*parameter.opts, *parameter.secondary_opts}
    for room in ("benchmarks", "examples", "scripts", "tests/rig", ".ci"):
        for path in (path for path in (ROOT / room).rglob("*") if path.is_file() and path.suffix in ("", ".py")):
            known |= set(OPTION.findall(path.read_text(encoding="utf-8")))
    return known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_option_that_is_named_exists(page: Path, options_that_exist: set[str]) -> None:
    code = [block.body for block in blocks(page) if block.language not in ("sh", "")]
    text = page.read_text(encoding="utf-8")
    for body in code:
        text = text.replace(body, "")
    text = re.sub(r"<!--.*?-->|^\|[-|]+$", "", text, flags=re.MULTILINE)
    assert set(OPTION.findall(text)) - options_that_exist == set()


# -- running ------------------------------------------------------------------------------------------------------------

RTFUSION = """
import re, subprocess, sys
from pathlib import Path
CAMERA = "synthetic:?live=true&size=640x480&fps=30"
words = sys.argv[1:]
if any(words[: len(other)] == other for other in {elsewhere}):
    sys.exit(0)
live = any("/dev/video" in word for word in words)
words = [re.sub(r"^/dev/video[0-9]", CAMERA, word) for word in words]
words = [word.replace("127.0.0.1:5555", "127.0.0.1:*").replace("127.0.0.1:8080", "127.0.0.1:0") for word in words]
if words[0] == "replay":  # a session is named after the moment it began
    words[1] = str(next(Path("recordings").iterdir()))
if live and words[0] in ("run", "record"):
    words = [word for at, word in enumerate(words) if "--max-frames" not in words[max(at - 1, 0) : at + 1]]
    words += ["--max-frames", "5"]
sys.exit(subprocess.run([sys.executable, "-m", "rtfusion", *words]).returncode)
"""


def write_images(folder: Path, *, band: Band, count: int = 4) -> None:
    from rtfusion import open_source

    folder.mkdir(parents=True)
    source = open_source(f"synthetic:?size=160x120&frames={count}", band=band)
    for index in range(count):
        cv2.imwrite(str(folder / f"{index:03}.png"), source.read(timeout_s=10.0).image)
    source.close()


def from_a_board() -> Calibration:
    """What a board gives: lenses and pose."""
    lens = {
        "width_px": 160,
        "height_px": 120,
        "intrinsics": [[150.0, 0, 79.5], [0, 150.0, 59.5], [0, 0, 1]],
        "distortion": [0.0] * 5,
    }
    pose = {"rotation": np.eye(3).tolist(), "translation_m": [0.05, 0.0, 0.0]}
    return Calibration.model_validate(
        {
            "schema": 1,
            "visible": lens,
            "thermal": lens,
            "visible_from_thermal_px": np.eye(3).tolist(),
            "visible_from_thermal": pose,
        }
    )


def write_both_in_one(path: Path) -> None:
    """A video of two tracks, the visible one first."""
    with av.open(str(path), "w") as output:
        tracks = [output.add_stream("ffv1", rate=30) for _ in range(2)]
        for track, pix_fmt in zip(tracks, ("bgr0", "gray"), strict=True):
            track.width, track.height, track.pix_fmt = 160, 120, pix_fmt
        rng = np.random.default_rng(0)
        for _ in range(4):
            for track, shape, name in ((tracks[0], (120, 160, 3), "bgr24"), (tracks[1], (120, 160), "gray")):
                picture = rng.integers(0, 256, shape, dtype=np.uint8)
                output.mux(track.encode(av.VideoFrame.from_ndarray(picture, format=name)))
        for track in tracks:
            output.mux(track.encode())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the pages call by name."""
    folder = tmp_path_factory.mktemp("pages")
    for name, band in (("visible", Band.VISIBLE), ("thermal", Band.THERMAL)):
        film("synthetic:?size=160x120&frames=24&fps=30&scene=day", band=band, path=folder / f"{name}.mp4")
        write_images(folder / ("vi" if band is Band.VISIBLE else "ir"), band=band)
        cv2.imwrite(
            str(folder / f"{name}.png"), cv2.imread(str(folder / ("vi" if name == "visible" else "ir") / "000.png"), 0)
        )
    film("synthetic:?size=160x120&frames=24&fps=30", band=Band.VISIBLE, path=folder / "split.mp4")
    for name in ("vi", "ir"):
        shutil.copy(folder / ("visible.mp4" if name == "vi" else "thermal.mp4"), folder / f"{name}.mp4")
        walk = folder / "archive" / "walk"
        walk.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / f"{name}.mp4", walk / f"{name}.mp4")
    write_both_in_one(folder / "both.mkv")
    (folder / "DCIM").mkdir()
    for band, letter in (("vi", "V"), ("ir", "T")):
        for path in (folder / band).iterdir():
            cv2.imwrite(str(folder / "DCIM" / f"DJI_{path.stem}_{letter}.JPG"), cv2.imread(str(path)))
    for name in ("mine", "theirs"):
        shutil.copytree(folder / "vi", folder / name)
    shutil.copy(folder / "visible.mp4", folder / "theirs.mp4")
    (folder / "sentences.txt").write_text("less noise please\nmake people stand out\n", encoding="utf-8")
    Calibration.from_homography(
        visible_from_thermal_px=np.eye(3), visible_size_px=(160, 120), thermal_size_px=(160, 120)
    ).save(folder / "rig.json")
    from_a_board().save(folder / "board.json")
    programs = folder / "bin"
    programs.mkdir()
    elsewhere = [name.split() for name in ELSEWHERE]
    script = programs / "rtfusion.py"
    script.write_text(RTFUSION.replace("{elsewhere}", repr(elsewhere)), encoding="utf-8")
    for name, first in {"rtfusion": f'"{script}"', "python": ""}.items():
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {first} "$@"\n', encoding="utf-8")
        (programs / name).chmod(0o755)
    for name in ("examples", "rtfusion"):
        (folder / name).symlink_to(ROOT / name)
    return folder


@pytest.mark.slow  # half a minute a page
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if any(block.language == "sh" and block.runs for block in blocks(page))],
    ids=lambda page: page.relative_to(ROOT).as_posix(),
)
def test_the_commands_of_a_page_run_in_their_order(page: Path, place: Path, tmp_path: Path) -> None:
    for path in place.iterdir():
        (tmp_path / path.name).symlink_to(path)
    paths = [str(ROOT), str(ROOT / "trainer"), str(ROOT / "calibration"), *filter(None, sys.path)]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RTFUSION_")},
        "PATH": f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(paths),
        "DISPLAY": "",
        "WAYLAND_DISPLAY": "",
    }
    for block in blocks(page):
        if block.language == "sh" and block.runs:
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", block.body],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, f"{block.body}\n{done.stdout[-1500:]}\n{done.stderr[-2000:]}"


def test_what_another_test_runs_is_run_there() -> None:
    for command, (test, call) in ELSEWHERE.items():
        assert call in (ROOT / test).read_text(encoding="utf-8"), command
        assert CliRunner().invoke(app, [*command.split(), "--help"]).exit_code == 0


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs/tutorials").glob("*.md"))], ids=lambda page: page.name
)
def test_the_listings_of_a_page_run(page: Path, tmp_path: Path) -> None:
    listings = [block.body for block in blocks(page) if block.language == "python" and "subscribe" not in block.body]
    for listing in listings:  # the subscriber needs a publisher: tests/test_readme.py gives it one
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", listing], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout
