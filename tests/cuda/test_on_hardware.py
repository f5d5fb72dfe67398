"""What only a CUDA device can tell. Skipped without one; with RTFUSION_REQUIRE_CUDA=1 that is a failure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtfusion.cuda.device import Device
from rtfusion.cuda.renderer import CudaRenderer
from rtfusion.cuda.selftest import check_kernels
from rtfusion.engines import NETWORKS, open_engine, open_network
from rtfusion.engines.parity import check, golden_inputs
from rtfusion.errors import EngineUnavailable
from rtfusion.fusion.fuser import PairFuser
from rtfusion.fusion.tone import GainControl
from rtfusion.models import FOR_GPU, read_spec, shipped
from rtfusion.telemetry import Telemetry
from tests import onnx_models
from tests.cuda.test_fuser import on_the_host, pair

pytestmark = pytest.mark.needs_cuda
ON_THE_DEVICE = ("onnxruntime:cuda", "onnxruntime:tensorrt", "pytorch:cuda", "tensorrt")


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return onnx_models.write(
        tmp_path / "dial.onnx", onnx_models.dial(), scalars={"enhance": onnx_models.ENHANCE}, stride=8
    )


def or_skip(opened: Callable[[], Any]) -> Any:
    try:
        return opened()
    except EngineUnavailable as error:
        pytest.skip(str(error))


def test_the_kernels_are_their_twin(real_device: Device) -> None:
    assert check_kernels(real_device) > 10_000


@pytest.mark.parametrize("name", ON_THE_DEVICE)
def test_every_engine_of_the_device_computes_what_the_cpu_does(real_device: Device, model: Path, name: str) -> None:
    engine = or_skip(lambda: open_engine(name, model=model, size_px=(64, 48)))
    inputs = golden_inputs(read_spec(model), size_px=(64, 48))
    expected = inputs["visible_y"] + inputs["enhance"] * (inputs["thermal"] - inputs["visible_y"])
    check(engine.run(inputs=inputs), {"fused_y": expected}, arithmetic="tf32")
    engine.close()


@pytest.mark.parametrize("name", ON_THE_DEVICE)
@pytest.mark.parametrize("precision", FOR_GPU)
def test_every_engine_of_the_device_runs_the_files_made_for_it(
    real_device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, precision: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path, inputs = (
        shipped("small", precision=FOR_GPU[precision]),
        golden_inputs(read_spec(shipped("small")), size_px=(64, 48)),
    )
    reference = open_engine("openvino", model=shipped("small"), size_px=(64, 48), threads=1)
    engine = or_skip(lambda: open_engine(name, model=path, size_px=(64, 48)))
    check(engine.run(inputs=inputs), reference.run(inputs=inputs), arithmetic=precision)
    engine.close()
    reference.close()


@pytest.mark.parametrize("name", NETWORKS)
def test_the_fuser_of_the_device_gives_what_the_hosts_gives(
    real_device: Device, model: Path, tmp_path: Path, name: str
) -> None:
    telemetry = Telemetry()
    renderer = CudaRenderer(
        device=real_device,
        open_network=lambda path, size_px: open_network(name, model=path, size_px=size_px, device=real_device),
        model=model,
        telemetry=telemetry,
    )
    fuse = PairFuser(renderer, gain=GainControl(), telemetry=telemetry)
    host = on_the_host(tmp_path / "host.onnx")
    for sequence in range(20):
        frames = pair(sequence, bits=16)
        here, there = host(frames), or_skip(lambda: fuse(frames))  # noqa: B023 - called at once
        assert np.abs(here.image.astype(int) - there.image).max() <= 2
    fuse.close()
    host.close()
