"""TensorRT held against its documented interface, versions 10 and 11; nothing here ran on a GPU."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from rtfusion.config import Settings
from rtfusion.cuda.device import Device
from rtfusion.cuda.renderer import CudaRenderer
from rtfusion.engines import open_engine, open_network, resolve
from rtfusion.engines import tensorrt as engine_module
from rtfusion.engines.store import EngineStore, Stored, key_of
from rtfusion.engines.tensorrt import TensorRtEngine, build
from rtfusion.errors import ConfigError, EngineError, EngineUnavailable, ModelError
from rtfusion.fusion.fuser import PairFuser, open_fuser
from rtfusion.fusion.tone import GainControl
from rtfusion.registration import PairShape
from rtfusion.telemetry import Telemetry
from tests import onnx_models
from tests.cuda import fake
from tests.engines.fake_tensorrt import PHASES, TensorRt

SIZE_PX = (24, 16)
SCALARS = {"enhance": onnx_models.ENHANCE}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return onnx_models.write(tmp_path / "dial.onnx", onnx_models.dial(), scalars=SCALARS)


def images(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    pictures = {name: rng.random((1, 1, SIZE_PX[1], SIZE_PX[0]), dtype=np.float32) for name in ("visible_y", "thermal")}
    return {**pictures, "enhance": np.full((1, 1, 1, 1), 0.75, np.float32)}


def expected(inputs: dict[str, np.ndarray]) -> np.ndarray:
    return inputs["visible_y"] + inputs["enhance"] * (inputs["thermal"] - inputs["visible_y"])


# --- running ---


def test_an_engine_gives_what_the_model_says(trt: TensorRt, cuda: fake.FakeCuda, model: Path) -> None:
    engine = TensorRtEngine(model=model, size_px=SIZE_PX, precision="f32")
    for seed in range(3):
        np.testing.assert_allclose(engine.run(inputs=images(seed))["fused_y"], expected(images(seed)), atol=1e-6)
    assert engine.description == f"TensorRT {trt.__version__} on Fake GPU (compute capability 9.0)"
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed; open it anew"):
        engine.run(inputs=images())
    assert cuda.live == {}


def test_the_fuser_of_the_device_runs_it_in_a_graph(trt: TensorRt, cuda: fake.FakeCuda, model: Path) -> None:
    from tests.cuda.test_fuser import pair

    device = Device()
    telemetry = Telemetry()
    renderer = CudaRenderer(
        device=device,
        open_network=lambda path, size_px: engine_module.open_stored(model=path, size_px=size_px, device=device),
        model=model,
        telemetry=telemetry,
        inputs={"enhance": 0.0},
    )
    fuse = PairFuser(renderer, gain=GainControl(), telemetry=telemetry)
    frames = pair()
    np.testing.assert_array_equal(fuse(frames).image, frames.visible.image)
    assert "TensorRT" in (fuse.engine or "")
    fuse.close()
    assert cuda.live == {}


def test_the_settings_choose_the_fuser_of_the_device(
    trt: TensorRt, cuda: fake.FakeCuda, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.cuda.test_fuser import pair

    monkeypatch.setattr("rtfusion.cuda.renderer.resolve", lambda name: name)
    monkeypatch.setattr("rtfusion.engines.resolve", lambda name: name if name == "tensorrt" else resolve(name))
    chosen = {"fuser": "learned", "model": model, "engine": "tensorrt", "enhance": 0.0}
    fuse = open_fuser(Settings.model_validate(chosen), telemetry=Telemetry())
    fuse.prepare(PairShape.of(pair()))
    np.testing.assert_array_equal(fuse(pair()).image, pair().visible.image)
    assert "TensorRT" in (fuse.engine or "")
    fuse.close()
    assert cuda.live == {}


def test_the_output_may_have_the_name_that_torch_tensorrt_gives(trt: TensorRt, model: Path) -> None:
    trt.names_outputs = False
    engine = TensorRtEngine(model=model, size_px=SIZE_PX, precision="f32")
    np.testing.assert_allclose(engine.run(inputs=images())["fused_y"], expected(images()), atol=1e-6)
    engine.close()


def test_a_refused_run_is_an_error(trt: TensorRt, model: Path) -> None:
    engine = TensorRtEngine(model=model, size_px=SIZE_PX, precision="f32")
    trt.refuses_enqueue = True
    with pytest.raises(EngineError, match="TensorRT refused to run"):
        engine.run(inputs=images())
    engine.close()


def test_no_room_for_the_context(trt: TensorRt, cuda: fake.FakeCuda, model: Path) -> None:
    trt.no_room = True
    with pytest.raises(EngineError, match="was built, but there is no room for it on the device"):
        TensorRtEngine(model=model, size_px=SIZE_PX, precision="f32")
    assert cuda.live == {}


def test_precision_is_the_files(trt: TensorRt, model: Path) -> None:
    with pytest.raises(ConfigError, match="no precision 'f16' in TensorRT"):
        TensorRtEngine(model=model, size_px=SIZE_PX, precision="f16")


# --- building and keeping ---


def opened(model: Path) -> None:
    TensorRtEngine(model=model, size_px=SIZE_PX, precision="f32").close()


def test_it_is_built_once_and_then_loaded(trt: TensorRt, model: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="rtfusion"):
        opened(model)
        assert "no engine in" in caplog.text
        assert "this takes minutes" in caplog.text
        opened(model)
    assert trt.built == 1


def test_progress_is_told(trt: TensorRt, model: Path) -> None:
    told: list[tuple[str, int, int]] = []
    device = Device()
    build(
        model=model,
        size_px=SIZE_PX,
        device=device,
        progress=lambda phase, step, steps: told.append((phase, step, steps)),
    ).close()
    device.close()
    assert [entry for entry in told if entry[1] == entry[2]] == [(phase, 2, 2) for phase in PHASES]


@pytest.mark.parametrize("change", ["gpu", "driver", "version", "size", "model", "via"])
def test_everything_that_can_change_an_engine_is_in_its_key(
    trt: TensorRt, cuda: fake.FakeCuda, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    device = Device()
    before = engine_module.key_parts(model, size_px=SIZE_PX, device=device, via="onnx")
    size_px, via = SIZE_PX, "onnx"
    if change == "gpu":
        device.identity["gpu"] = "Other GPU"
    elif change == "driver":
        device.identity["cuda_driver"] = "12060"
    elif change == "version":
        trt.__version__ = "10.3.0"
    elif change == "size":
        size_px = (32, 16)
    elif change == "model":
        onnx_models.write(model, onnx_models.dial(), scalars=SCALARS, license="MIT")
    else:
        via = "torch"
        monkeypatch.setattr(engine_module, "_torch_tensorrt", lambda: trt)
    after = engine_module.key_parts(model, size_px=size_px, device=device, via=via)
    assert key_of(before) != key_of(after)
    device.close()


@pytest.mark.parametrize("damage", ["plan", "golden", "about", "other device", "wrong result"])
def test_what_cannot_be_used_is_built_anew_with_the_reason(
    trt: TensorRt, model: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    opened(model)
    store = EngineStore()
    (about,) = store.folder.glob("*.json")
    if damage == "plan":
        about.with_suffix(".plan").write_bytes(b"rust")
    elif damage == "golden":
        about.with_suffix(".npz").write_bytes(b"PK\x03\x04")
    elif damage == "about":
        about.write_text("{")
    elif damage == "other device":  # the same key, by a driver that does not say what changed
        parts = json.loads(about.read_text())["parts"]
        stored = store.get(parts)
        assert stored is not None
        store.put(parts, Stored(plan=stored.plan.replace(b"Fake GPU", b"Gone GPU"), golden=stored.golden), build_s=1)
    else:
        parts = json.loads(about.read_text())["parts"]
        stored = store.get(parts)
        assert stored is not None
        store.put(parts, Stored(plan=stored.plan, golden={"fused_y": stored.golden["fused_y"] + 0.5}), build_s=1)
    caplog.clear()
    opened(model)
    reason = {
        "plan": "is damaged",
        "golden": "cannot be read",
        "about": "cannot be read",
        "other device": "built for another device or version",
        "wrong result": "the result is 5.00e-01 away",
    }[damage]
    assert reason in caplog.text
    assert "built anew" in caplog.text
    assert trt.built == 2
    opened(model)
    assert trt.built == 2


def test_an_engine_that_computes_something_else_is_never_used(trt: TensorRt, model: Path) -> None:
    trt.wrong_by = 0.25
    with pytest.raises(EngineError, match=r"was built, but the result is 2\.50e-01 away"):
        opened(model)
    assert list(EngineStore().folder.glob("*.json")) == []


def test_a_build_that_fails_says_what_tensorrt_said(
    trt: TensorRt, model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trt.fails_to_build = True
    with pytest.raises(EngineError, match="TensorRT failed to build"):
        opened(model)
    assert "no implementation for node 7" in caplog.text


def test_a_graph_that_the_parser_does_not_know(trt: TensorRt, cuda: fake.FakeCuda, tmp_path: Path) -> None:
    strange = onnx_models.build([("Fuse", ["visible_y", "thermal"], "fused_y", {})], domain="somewhere.else")
    path = onnx_models.write(tmp_path / "strange.onnx", strange)
    with pytest.raises(ModelError, match=r"TensorRT cannot read .*no importer registered for op: Fuse"):
        opened(path)
    assert cuda.live == {}


def test_quantization_that_is_not_symmetric_is_refused_with_the_reason(trt: TensorRt, tmp_path: Path) -> None:
    model = onnx_models.build(
        [
            ("Add", ["visible_y", "thermal"], "sum", {}),
            ("QuantizeLinear", ["sum", "scale", "zero"], "levels", {}),
            ("DequantizeLinear", ["levels", "scale", "zero"], "fused_y", {}),
        ],
        constants={"scale": np.array(0.01)},
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(7, np.uint8), "zero"))
    with pytest.raises(ModelError, match="TRT only supports symmetric quantization"):
        opened(onnx_models.write(tmp_path / "int8.onnx", model))


def test_a_folder_that_cannot_be_written(trt: TensorRt, model: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(EngineError, match=r"cannot use .* to keep engines"):
        opened(model)


def test_another_process_that_builds_is_waited_for(tmp_path: Path) -> None:
    store = EngineStore(tmp_path)
    program = (
        "import sys; from pathlib import Path; from rtfusion.engines.store import EngineStore\n"
        "with EngineStore(Path(sys.argv[1])).locked({'a': 'b'}):\n    print('held', flush=True); sys.stdin.readline()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(EngineError, match="held by another process"), store.locked({"a": "b"}, timeout_s=0.0):
            pass
        with store.locked({"another": "key"}, timeout_s=0.0):
            pass
        other.communicate("\n", timeout=20)
    with store.locked({"a": "b"}, timeout_s=0.0):
        pass


def test_an_unknown_way_to_build(trt: TensorRt, model: Path) -> None:
    device = Device()
    with pytest.raises(ConfigError, match="no way 'magic' to build; there are onnx, torch"):
        build(model=model, size_px=SIZE_PX, device=device, via="magic")
    device.close()


# --- where it is not there ---


def test_without_tensorrt_it_says_what_to_install(model: Path, cuda: fake.FakeCuda) -> None:
    with pytest.raises(EngineUnavailable, match="tensorrt is not installed here; run pip install"):
        open_engine("tensorrt", model=model, size_px=SIZE_PX)
    device = Device()
    with pytest.raises(EngineUnavailable, match=r"on a Jetson it comes with JetPack"):
        build(model=model, size_px=SIZE_PX, device=device)
    with pytest.raises(ConfigError, match="openvino runs no network on a CUDA stream"):
        open_network("openvino", model=model, size_px=SIZE_PX, device=device)
    device.close()
