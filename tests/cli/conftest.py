"""The command line as its users start it: another process."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from rtfusion.cli import main

Main = Callable[..., tuple[int, str, str]]
Cli = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """The environment without settings of this machine, without a display, with the package on the path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RTFUSION_")}
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "FORCE_COLOR", "COLUMNS"):
        kept.pop(name, None)
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "XDG_CONFIG_HOME": str(tmp_path / "no-config"),
        "TERM": "dumb",
    }


@pytest.fixture
def cli(tmp_path: Path, environ: dict[str, str]) -> Cli:
    """Runs ``rtfusion ARGUMENTS`` in tmp_path; keyword arguments are further environment variables."""

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "rtfusion", *arguments],
            cwd=tmp_path,
            env={**environ, **variables},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    return run


@pytest.fixture
def main_here(
    tmp_path: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Main:
    """Runs ``rtfusion ARGUMENTS`` in tmp_path and in this process: (exit code, stdout, stderr). No thread may be left."""
    monkeypatch.chdir(tmp_path)
    for name in os.environ.keys() - environ.keys():
        monkeypatch.delenv(name)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str) -> tuple[int, str, str]:
        before = set(threading.enumerate())
        monkeypatch.setattr(sys, "argv", ["rtfusion", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        assert set(threading.enumerate()) <= before
        out, err = capfd.readouterr()
        return int(caught.value.code or 0), out, err

    return run
