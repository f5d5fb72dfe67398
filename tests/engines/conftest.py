from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from rtfusion.cuda import device as device_module
from rtfusion.engines import tensorrt
from tests.cuda import fake
from tests.cuda.conftest import compiled_for_the_host
from tests.engines.fake_tensorrt import TensorRt


@pytest.fixture(scope="session")
def kernels_on_host(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return compiled_for_the_host(tmp_path_factory.mktemp("kernels"))


@pytest.fixture
def cuda(kernels_on_host: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> fake.FakeCuda:
    """A CUDA device that runs on the processor, and an empty engine store."""
    module = fake.FakeCuda(kernels_on_host)
    monkeypatch.setattr(device_module, "_pycuda", lambda: (module, module))
    monkeypatch.setattr(device_module, "_driver", lambda: module)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return module


@pytest.fixture(params=["10.15.1.29", "11.0.0.114"])
def trt(request: pytest.FixtureRequest, cuda: fake.FakeCuda, monkeypatch: pytest.MonkeyPatch) -> TensorRt:
    module = TensorRt(cuda, str(request.param))
    monkeypatch.setattr(tensorrt, "_tensorrt", lambda: module)
    return module
