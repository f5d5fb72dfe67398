"""Fixtures that every test may use."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import hypothesis
import pytest

# A busy machine is no reason to fail; and CI judges a commit by the same draws every time: new ones are for everybody's own runs.
hypothesis.settings.register_profile("untimed", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("untimed")


def _shared_folder() -> Path | None:
    """The folder of real recordings beside the checkout, if it is there."""
    named = os.environ.get("RTFUSION_SHARED")
    candidate = Path(named) if named else Path(__file__).resolve().parents[2] / "shared"
    return candidate if (candidate / "data").is_dir() else None


@pytest.fixture(scope="session")
def shared_data() -> Path:
    folder = _shared_folder()
    if folder is None:
        if os.environ.get("RTFUSION_REQUIRE_SHARED") == "1":
            pytest.fail("RTFUSION_REQUIRE_SHARED=1, but the real recordings are not beside the checkout")
        pytest.skip("the real recordings are not beside the checkout: no ../shared/data")
    return folder / "data"


@pytest.fixture
def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
