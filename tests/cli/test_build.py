from __future__ import annotations

from pathlib import Path

import pytest

from rtfusion.engines import open_engine, resolve
from rtfusion.engines import tensorrt as engine_module
from tests import onnx_models
from tests.cuda import fake
from tests.engines.conftest import cuda, kernels_on_host  # noqa: F401 - fixtures
from tests.engines.fake_tensorrt import TensorRt

from .conftest import Main


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return onnx_models.write(tmp_path / "model.onnx", onnx_models.average(), stride=4)


def test_it_builds_every_size_and_tells_the_progress(
    main_here: Main,
    cuda: fake.FakeCuda,  # noqa: F811
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    open_engine("openvino", model=model, size_px=(64, 48), threads=1).close()  # starts a thread of its own, once
    trt = TensorRt(cuda, "10.15.1.29")
    monkeypatch.setattr(engine_module, "_tensorrt", lambda: trt)
    monkeypatch.setattr("rtfusion.engines.resolve", lambda name: name if name == "tensorrt" else resolve(name))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    arguments = ("build", "--model", str(model), "--size", "64x48", "--size", "30x22")
    code, out, err = main_here(*arguments)
    assert (code, out) == (0, "")
    assert "Building" in err
    assert "TensorRT 10.15.1.29 is ready for 64x48 on Fake GPU" in err
    assert "is ready for 30x22" in err
    assert trt.built == 2
    assert main_here(*arguments)[0] == 0
    assert trt.built == 2
    assert main_here(*arguments, "--force")[0] == 0
    assert trt.built == 4
    assert cuda.live == {}


@pytest.mark.parametrize("size", ["640", "640x", "0x480", "640*480"])
def test_a_size_that_is_none(main_here: Main, model: Path, size: str) -> None:
    code, _, err = main_here("build", "--model", str(model), "--size", size)
    assert code == 2
    assert "such as 640x480" in err


def test_without_tensorrt(main_here: Main, model: Path) -> None:
    code, _, err = main_here("build", "--model", str(model), "--size", "64x48")
    assert code == 4
    assert "tensorrt is not installed here; run pip install" in err
