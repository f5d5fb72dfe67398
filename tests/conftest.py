"""Fixtures that every test may use."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

# Read when NumPy and PyTorch are first imported, here and in every child: threads that wait for one another spin, and in the
# tests the arrays are small.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

import hypothesis
import numpy as np
import pytest

from rtfusion.portable import usable_cores
from rtfusion.sinks import SinkContext
from rtfusion.types import FusedFrame, Image8

# A busy machine is no reason to fail; and CI judges a commit by the same draws every time: new ones are for everybody's own runs.
hypothesis.settings.register_profile("untimed", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("untimed")


MOST_WORKERS = 8
"""Each holds its own libraries, a gigabyte with torch."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """``-n auto``: a process for each core that may be used; left to itself, xdist counts those of the whole machine."""
    return min(MOST_WORKERS, len(usable_cores()))


def _shared_folder() -> Path | None:
    """The folder of real recordings beside the checkout, if it is there."""
    named = os.environ.get("RTFUSION_SHARED")
    candidate = Path(named) if named else Path(__file__).resolve().parents[2] / "shared"
    return candidate if (candidate / "data").is_dir() else None


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is measured and built for tests is remembered for tests alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


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


FrameMaker = Callable[..., FusedFrame]
ContextMaker = Callable[..., SinkContext]


def _context(
    *, rate_hz: float = 30.0, live: bool = False, overwrite: bool = False, session: str = "run", drops=None
) -> SinkContext:
    return SinkContext(rate_hz=rate_hz, live=live, session=session, overwrite=overwrite, drops=drops)


def _frame(
    sequence: int = 0,
    *,
    image: Image8 | None = None,
    size_px: tuple[int, int] = (64, 48),
    timestamp_ns: int | None = None,
    name: str | None = None,
) -> FusedFrame:
    if image is None:
        image = np.random.default_rng(sequence).integers(0, 256, (size_px[1], size_px[0], 3), dtype=np.uint8)
    stamp_ns = sequence * 1_000_000_000 // 30 if timestamp_ns is None else timestamp_ns
    return FusedFrame(
        image=image,
        visible=image,
        thermal=np.ascontiguousarray(image[:, :, 1]),
        timestamp_ns=stamp_ns,
        thermal_timestamp_ns=stamp_ns + 2_000_000,
        received_ns=stamp_ns + 5_000_000,
        sequence=sequence,
        fuser="pyramid",
        name=name,
    )


@pytest.fixture
def make_context() -> ContextMaker:
    return _context


@pytest.fixture
def make_frame() -> FrameMaker:
    return _frame


@pytest.fixture
def child_environment() -> dict[str, str]:
    """For a Python that must find what this one finds."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
