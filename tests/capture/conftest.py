"""Virtual V4L2 cameras for the tests of this room."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.rig.v4l2rig import RTFUSION, Desk, build, compiler


@pytest.fixture(scope="session")
def rig_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that stands in for the kernel, compiled by the system's compiler."""
    if sys.platform != "linux":
        pytest.skip("the rig of virtual cameras is for Linux")
    if compiler() is None:
        pytest.skip("no C compiler or no linux/videodev2.h: the rig of virtual cameras cannot be built")
    return build(tmp_path_factory.mktemp("v4l2rig"))


@pytest.fixture
def desk(rig_library: Path, tmp_path: Path) -> Desk:
    """An empty desk for virtual cameras."""
    return Desk(tmp_path / "desk", library=rig_library)


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """The environment without settings of this machine, without a display, with the package on the path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RTFUSION_")}
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "FORCE_COLOR"):
        kept.pop(name, None)
    path = os.pathsep.join(filter(None, sys.path))
    return {**kept, "PYTHONPATH": path, "XDG_CONFIG_HOME": str(tmp_path / "none"), "TERM": "dumb", "COLUMNS": "160"}


@pytest.fixture
def rtfusion(desk: Desk, environ: dict[str, str], tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    """Run ``rtfusion ARGUMENTS`` on the desk to its end: (exit code, stdout, stderr)."""

    def run(*arguments: str) -> tuple[int, str, str]:
        with desk.start(*RTFUSION, *arguments, environ=environ, folder=tmp_path) as program:
            return program.end()

    return run
