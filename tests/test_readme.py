"""What README.md and docs/ show must work, and their figures must be the committed ones."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks import readme
from rtfusion import Calibration
from rtfusion.cli.app import app

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def test_the_subscriber_snippet_runs(free_port: int) -> None:
    (snippet,) = blocks(README, "python")
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
    assert re.search(r"^\./scripts/setup dev && \.venv/bin/python -m pytest$", README, flags=re.MULTILINE)


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
    "path", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.name
)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_every_flag_in_the_readme_exists() -> None:
    calibrate = [["calibrate", name] for name in ("board", "scene", "delay", "check")]
    commands = (["run"], ["view"], ["demo"], ["replay"], ["record"], *calibrate)
    helps = "".join(CliRunner().invoke(app, [*command, "--help"]).stdout for command in commands)
    shown = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README)) - {"--help"}
    assert shown
    for flag in sorted(shown):
        assert flag in helps, flag
