from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from rtfusion import cuda
from rtfusion.cuda.device import Device
from rtfusion.errors import EngineUnavailable

KERNELS = Path(cuda.__file__).parent / "kernels.cu"


def compiled_for_the_host(folder: Path) -> ctypes.CDLL:
    """The kernels, compiled for the processor; skips where there is no C++ compiler."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler: the kernels cannot be run on the processor")
    library = folder / "kernels.so"
    flags = ["-std=c++17", "-O1", "-ffp-contract=off", "-shared", "-fPIC", "-I", str(KERNELS.parent)]
    source = Path(__file__).with_name("on_host.hpp")
    subprocess.run([compiler, *flags, "-x", "c++", str(source), "-o", str(library)], check=True, timeout=60)
    return ctypes.CDLL(str(library))


@pytest.fixture(scope="session")
def kernels_on_host(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return compiled_for_the_host(tmp_path_factory.mktemp("kernels"))


@pytest.fixture
def real_device() -> Iterator[Device]:
    """The CUDA device of this machine; skips without one, and fails instead where one is required."""
    try:
        device = Device()
    except EngineUnavailable as error:
        if os.environ.get("RTFUSION_REQUIRE_CUDA") == "1":
            pytest.fail(f"RTFUSION_REQUIRE_CUDA=1, but {error}")
        pytest.skip(f"no CUDA device to run on: {error}")
    yield device
    device.close()
