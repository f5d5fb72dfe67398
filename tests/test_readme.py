"""What README.md and docs/ show must work, and their figures must be the committed ones."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import readme
from rtfusion import Calibration
from rtfusion.models import read_spec

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DETECTOR = (ROOT / "docs/tutorials/detector.md").read_text(encoding="utf-8")
MADE_FOR_THE_SITE = {"reference/settings.md", "reference/commands.md"}
"""Pages that scripts/site.py makes."""


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def test_the_subscriber_snippet_runs(free_port: int) -> None:
    snippet = next(block for block in blocks(DETECTOR, "python") if "subscribe" in block)
    url = f"tcp://127.0.0.1:{free_port}"
    scene = "synthetic:?live=true&size=160x120&fps=30"
    publisher = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "rtfusion",
            "run",
            "--ir",
            scene,
            "--vis",
            scene,
            "--fuser",
            "average",
            "--sink",
            f"zmq:{url}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", snippet.replace("tcp://127.0.0.1:5555", url).replace("5.0", "30.0")],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        publisher.terminate()
        publisher.wait(20)
    assert done.returncode == 0, done.stderr
    assert "(120, 160, 3)" in done.stdout
    assert "ms old" in done.stdout


def test_the_two_commands_stand_as_ci_runs_them() -> None:
    assert re.search(r"^\./scripts/setup && \.venv/bin/rtfusion demo$", README, flags=re.MULTILINE)
    assert re.search(r"^\./scripts/setup dev && \.venv/bin/python -m pytest -n auto$", README, flags=re.MULTILINE)


def test_the_calibration_example_is_read(tmp_path: Path) -> None:
    (example,) = blocks((ROOT / "docs/calibration-file.md").read_text(encoding="utf-8"), "json")
    path = tmp_path / "rig.json"
    path.write_text(example, encoding="utf-8")
    assert Calibration.load(path).thermal_delay_ns == 21_000_000


@pytest.mark.parametrize("page", readme.PAGES)
def test_the_figures_are_the_committed_ones(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert readme.with_tables(text, readme.PAGES[page]) == text, "run python -m benchmarks.readme"


@pytest.mark.parametrize(
    "path",
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))],
    ids=lambda path: path.name,
)
def test_links_lead_somewhere(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target, anchor in re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", text):
        if target.startswith("http"):
            continue
        place = (path.parent / target).resolve() if target else path
        if place.is_relative_to(ROOT / "docs") and place.relative_to(ROOT / "docs").as_posix() in MADE_FOR_THE_SITE:
            continue
        assert place.exists(), f"{path.name} links to {target}"
        if anchor:
            assert anchor in anchors(place), f"{path.name} links to {target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """The headings of a page as links name them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_the_readme_is_read_in_two_minutes() -> None:
    assert len(README.splitlines()) <= 120
    assert len(README.split()) <= 900


def test_the_readme_and_the_presets_say_what_the_models_are() -> None:
    """Parameters and dial stand in README.md, in the preset and in the file that ships: one and the same."""
    onnx = pytest.importorskip("onnx")
    for name in ("small", "large"):
        path = ROOT / f"rtfusion/models/student-{name}.onnx"
        count = sum(math.prod(tensor.dims) for tensor in onnx.load(str(path)).graph.initializer)
        said = f"{round(count, -3):,}"
        preset = (ROOT / f"trainer/rtfusion_trainer/presets/{name}.toml").read_text(encoding="utf-8")
        dial = f"{read_spec(path).scalars['enhance'].default:g}"
        assert said in README, f"{name} has {said} parameters"
        assert f"{said} parameters" in preset
        assert f"ships with its dial at {dial}" in preset
        assert f"`{name}` at {dial}" in README


def test_the_moving_picture_is_small_and_moves() -> None:
    path = ROOT / "docs/images/moving.webp"
    assert path.stat().st_size < 400_000
    data = path.read_bytes()
    assert data[:4] == b"RIFF"
    assert data.count(b"ANMF") >= 20
