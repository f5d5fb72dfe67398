from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from rtfusion.engines import ENGINES, Engine, EngineStatus, Tensor, available, default_threads, open_engine, resolve
from rtfusion.errors import ConfigError, EngineError, EngineUnavailable, ModelError
from rtfusion.installing import install
from rtfusion.models import find_model
from tests import onnx_models

HERE = ("openvino", "onnxruntime", *(["pytorch"] if importlib.util.find_spec("torch") else []))
"""The engines that need no device."""
TOLERANCE = 1e-5
SIZE_PX = (24, 16)


def images(*, size_px: tuple[int, int] = SIZE_PX, seed: int = 0) -> dict[str, Tensor]:
    rng = np.random.default_rng(seed)
    shape = (1, 1, size_px[1], size_px[0])
    return {name: rng.random(shape, dtype=np.float32) for name in ("visible_y", "thermal")}


def saved(folder: Path, model: onnx.ModelProto) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(params=HERE)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def engine(name: str, tmp_path: Path) -> Iterator[Engine]:
    opened = open_engine(name, model=saved(tmp_path, onnx_models.average()), size_px=SIZE_PX, threads=1)
    yield opened
    opened.close()


# --- held against numpy ---


@pytest.mark.parametrize("size_px", [(24, 16), (1, 1), (13, 7), (640, 480)])
def test_average_of_any_size(name: str, tmp_path: Path, size_px: tuple[int, int]) -> None:
    engine = open_engine(name, model=saved(tmp_path, onnx_models.average()), size_px=size_px, threads=2)
    inputs = images(size_px=size_px)
    fused = engine.run(inputs=inputs)["fused_y"]
    assert fused.dtype == np.float32
    assert fused.shape == (1, 1, size_px[1], size_px[0])
    np.testing.assert_allclose(fused, (inputs["visible_y"] + inputs["thermal"]) / 2, rtol=0, atol=TOLERANCE)
    engine.close()


@pytest.mark.parametrize("enhance", [0.0, 0.3, 1.0])
def test_a_scalar_input(name: str, tmp_path: Path, enhance: float) -> None:
    engine = open_engine(name, model=saved(tmp_path, onnx_models.dial()), size_px=SIZE_PX, threads=1)
    inputs = images()
    fused = engine.run(inputs={**inputs, "enhance": np.full((1, 1, 1, 1), enhance, np.float32)})["fused_y"]
    expected = inputs["visible_y"] + enhance * (inputs["thermal"] - inputs["visible_y"])
    np.testing.assert_allclose(fused, expected, rtol=0, atol=TOLERANCE)
    engine.close()


@pytest.mark.parametrize("size_px", [(24, 16), (64, 48), (4, 4)])
def test_a_model_of_stride_4(name: str, tmp_path: Path, size_px: tuple[int, int]) -> None:
    engine = open_engine(name, model=saved(tmp_path, onnx_models.stride_4()), size_px=size_px, threads=2)
    inputs = images(size_px=size_px)
    expected = onnx_models.blurred_mean(inputs["visible_y"][0, 0], inputs["thermal"][0, 0])
    np.testing.assert_allclose(engine.run(inputs=inputs)["fused_y"][0, 0], expected, rtol=0, atol=TOLERANCE)
    engine.close()


@pytest.mark.parametrize("precision", ["bf16", "f16"])
def test_openvino_in_half_precision_where_the_processor_has_it(tmp_path: Path, precision: str) -> None:
    model = saved(tmp_path, onnx_models.stride_4())
    inputs = images()
    try:
        engine = open_engine("openvino", model=model, size_px=SIZE_PX, threads=1, precision=precision)
    except ConfigError as error:
        assert f"does not compute in {precision}" in str(error)
        return
    expected = onnx_models.blurred_mean(inputs["visible_y"][0, 0], inputs["thermal"][0, 0])
    np.testing.assert_allclose(engine.run(inputs=inputs)["fused_y"][0, 0], expected, rtol=0, atol=1e-2)
    assert precision in engine.description
    engine.close()


# --- buffers ---


def test_inputs_are_read_in_place_and_may_be_exchanged(engine: Engine) -> None:
    inputs = images()
    engine.run(inputs=inputs)["fused_y"]
    inputs["thermal"][:] = 1
    np.testing.assert_allclose(
        engine.run(inputs=inputs)["fused_y"], (inputs["visible_y"] + 1) / 2, rtol=0, atol=TOLERANCE
    )
    others = images(seed=1)
    expected = (others["visible_y"] + others["thermal"]) / 2
    np.testing.assert_allclose(engine.run(inputs=others)["fused_y"], expected, rtol=0, atol=TOLERANCE)


def test_the_output_is_one_buffer(engine: Engine) -> None:
    first = engine.run(inputs=images())["fused_y"]
    assert np.shares_memory(first, engine.run(inputs=images(seed=1))["fused_y"])


# --- what it says ---


def test_nothing_is_imported_before_an_engine_is_opened() -> None:
    code = "import sys, rtfusion.engines; rtfusion.engines.available(); print({'openvino', 'onnxruntime'} & set(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_the_description_says_what_runs(name: str, tmp_path: Path) -> None:
    model = saved(tmp_path, onnx_models.average())
    product = {"openvino": "OpenVINO", "onnxruntime": "ONNX Runtime", "pytorch": "PyTorch"}[name]
    for threads, suffix in ((1, "1 thread"), (2, "2 threads")):
        engine = open_engine(name, model=model, size_px=SIZE_PX, threads=threads)
        assert re.fullmatch(rf"{product} \d+\.\d+\.\d+ CPU f32, {suffix}", engine.description)
        assert engine.name == name
        engine.close()


def test_the_description_of_a_quantized_model_says_so(name: str) -> None:
    engine = open_engine(name, model=find_model(Path("small"), precision="int8"), size_px=(64, 48), threads=1)
    assert " CPU int8 and f32, 1 thread" in engine.description
    engine.close()


def test_openvino_tells_the_threads_that_it_took(tmp_path: Path) -> None:
    engine = open_engine("openvino", model=saved(tmp_path, onnx_models.average()), size_px=SIZE_PX, threads=10_000)
    assert int(engine.description.split()[-2]) <= (os.cpu_count() or 1)
    engine.close()


def test_auto_is_openvino_where_it_is_installed(tmp_path: Path) -> None:
    engine = open_engine("auto", model=saved(tmp_path, onnx_models.average()), size_px=SIZE_PX)
    assert engine.name == "openvino"
    engine.close()


def test_auto_takes_the_next_engine_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    engine = open_engine("auto", model=saved(tmp_path, onnx_models.average()), size_px=SIZE_PX, threads=1)
    assert engine.description.startswith("ONNX Runtime ")
    engine.close()


def test_available_names_versions_and_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    found = {status.name: status for status in available()}
    assert tuple(found) == ENGINES
    assert found["openvino"].available
    assert re.match(r"\d+\.", found["openvino"].version or "")
    assert found["onnxruntime"] == EngineStatus(name="onnxruntime", version=None, install=install("onnxruntime"))
    for name in ("onnxruntime", "onnxruntime:cuda", "onnxruntime:tensorrt", "tensorrt"):
        assert not found[name].available


def test_a_cpu_build_of_torch_is_no_engine_of_a_device() -> None:
    torch = pytest.importorskip("torch")
    found = {status.name: status for status in available()}
    assert found["pytorch"].version == torch.__version__
    assert found["pytorch:cuda"].available == (torch.version.cuda is not None)


def test_providers_that_this_onnx_runtime_has_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtfusion.engines.resolve", lambda name: name)
    for device, provider in (("cuda", "CUDAExecutionProvider"), ("tensorrt", "TensorrtExecutionProvider")):
        with pytest.raises(EngineUnavailable, match=f"has no {provider} .*onnxruntime-gpu"):
            open_engine(f"onnxruntime:{device}", model=saved(tmp_path, onnx_models.average()), size_px=SIZE_PX)


@pytest.mark.parametrize("starts", [True, False])
def test_a_provider_that_does_not_start_is_not_replaced_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, starts: bool
) -> None:
    import onnxruntime

    class Session(onnxruntime.InferenceSession):  # type: ignore[misc]
        """Of a build with providers: takes their names, and runs on the CPU."""

        def __init__(self, path: str, options: object, *, providers: list[str]) -> None:
            assert providers == ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
            self.asked = providers
            super().__init__(path, options, providers=["CPUExecutionProvider"])

        def get_providers(self) -> list[str]:
            return self.asked if starts else ["CPUExecutionProvider"]

    monkeypatch.setattr("rtfusion.engines.resolve", lambda name: name)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["TensorrtExecutionProvider"])
    model = saved(tmp_path, onnx_models.average())
    if not starts:
        with pytest.raises(EngineError, match="fell back to CPUExecutionProvider"):
            open_engine("onnxruntime:tensorrt", model=model, size_px=SIZE_PX)
        return
    engine = open_engine("onnxruntime:tensorrt", model=model, size_px=SIZE_PX)
    assert engine.name == "onnxruntime:tensorrt"
    assert re.fullmatch(r"ONNX Runtime \d+\.\d+\.\d+ Tensorrt f32", engine.description)
    engine.close()


# --- what is missing or wrong ---


def test_an_engine_that_is_not_installed_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EngineUnavailable, match=r"pip install -e '.\[onnxruntime\]'"):
        resolve("onnxruntime")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(EngineUnavailable, match="neither openvino nor onnxruntime is installed here"):
        resolve("auto")


def test_an_engine_that_is_installed_but_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "rtfusion.engines.onnxruntime", raising=False)
    monkeypatch.setitem(sys.modules, "onnxruntime.capi", None)
    with pytest.raises(EngineUnavailable, match="onnxruntime is installed but fails to load"):
        open_engine("onnxruntime", model=saved(tmp_path, onnx_models.average()), size_px=SIZE_PX)


def test_an_engine_of_another_name() -> None:
    with pytest.raises(ConfigError, match="no engine 'tensorflow'; there are auto, openvino, onnxruntime"):
        resolve("tensorflow")


def test_a_precision_of_another_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no precision 'int4'"):
        open_engine(name, model=saved(tmp_path, onnx_models.average()), size_px=SIZE_PX, precision="int4")


@pytest.mark.parametrize("data", [b"", b"not a model", onnx_models.average().SerializeToString()[:-20]])
def test_a_file_that_is_no_model(name: str, tmp_path: Path, data: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"bad\.onnx is not a whole ONNX model"):
        open_engine(name, model=path, size_px=SIZE_PX)
    assert capfd.readouterr() == ("", "")


def test_a_missing_file(name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No such file"):
        open_engine(name, model=tmp_path / "gone.onnx", size_px=SIZE_PX)


def test_a_graph_the_engine_does_not_know(name: str, tmp_path: Path) -> None:
    model = onnx_models.build([("Fuse", ["visible_y", "thermal"], "fused_y", {})], domain="somewhere.else")
    with pytest.raises((ModelError, EngineError), match=r"model\.onnx"):
        open_engine(name, model=saved(tmp_path, model), size_px=SIZE_PX)


def test_a_model_with_other_names(name: str, tmp_path: Path) -> None:
    model = onnx_models.build(
        [("Add", ["vi", "ir"], "out", {})],
        inputs={"vi": (1, 1, 8, 8), "ir": (1, 1, 8, 8)},
        outputs={"out": (1, 1, None, None)},
    )
    expected = "has the inputs vi, ir and the outputs out; expected visible_y, thermal .* and fused_y"
    with pytest.raises(ModelError, match=expected):
        open_engine(name, model=saved(tmp_path, model), size_px=(8, 8))


def test_a_model_of_one_fixed_size(name: str, tmp_path: Path) -> None:
    shape = (1, 1, 16, 24)
    model = onnx_models.build(
        [("Add", ["visible_y", "thermal"], "fused_y", {})], inputs={"visible_y": shape, "thermal": shape}
    )
    path = saved(tmp_path, model)
    open_engine(name, model=path, size_px=(24, 16)).close()
    if name == "onnxruntime":  # OpenVINO can reshape a model that was exported static
        with pytest.raises(ModelError, match=r"visible_y is \[1, 1, 16, 24\]"):
            open_engine(name, model=path, size_px=(32, 16))


def test_a_scalar_without_a_fixed_shape(name: str, tmp_path: Path) -> None:
    model = onnx_models.dial()
    model.graph.input[2].type.tensor_type.shape.dim[0].dim_param = "N"
    with pytest.raises(ModelError, match=r"model\.onnx: enhance is "):
        open_engine(name, model=saved(tmp_path, model), size_px=SIZE_PX)


def test_a_size_that_is_no_multiple_of_the_stride(name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not take 22x16 images"):
        open_engine(name, model=saved(tmp_path, onnx_models.stride_4()), size_px=(22, 16))


def test_a_model_whose_output_has_another_size(name: str, tmp_path: Path) -> None:
    model = onnx_models.build(
        [
            ("Add", ["visible_y", "thermal"], "sum", {}),
            ("Conv", ["sum", "box"], "fused_y", {}),
        ],
        constants={"box": onnx_models.BOX},
    )
    with pytest.raises(ModelError, match=r"model\.onnx (makes|does not take)"):
        open_engine(name, model=saved(tmp_path, model), size_px=SIZE_PX)


@pytest.mark.parametrize("change", ["missing", "unknown", "positional scalar", "size", "type", "gaps", "read-only"])
def test_inputs_that_do_not_fit(engine: Engine, change: str) -> None:
    inputs: dict[str, np.ndarray] = dict(images())
    if change == "missing":
        del inputs["thermal"]
    elif change == "unknown":
        inputs["ir"] = inputs.pop("thermal")
    elif change == "positional scalar":
        inputs["enhance"] = np.zeros((1, 1, 1, 1), np.float32)
    elif change == "size":
        inputs["thermal"] = images(size_px=(16, 24))["thermal"]
    elif change == "type":
        inputs["thermal"] = inputs["thermal"].astype(np.float64)
    elif change == "gaps":
        inputs["thermal"] = images(size_px=(48, 16))["thermal"][..., ::2]
    else:
        inputs["thermal"].flags.writeable = False
    with pytest.raises(EngineError, match=r"the model takes visible_y, thermal|input thermal is .*; expected writable"):
        engine.run(inputs=inputs)["fused_y"]


def test_closing_twice_and_running_after(engine: Engine) -> None:
    engine.run(inputs=images())
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed; open it anew"):
        engine.run(inputs=images())


ENGINES_COME_AND_GO = """
import gc, os, signal, sys
from pathlib import Path
from rtfusion.engines import open_gray_engine

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
models, engines = [Path(name) for name in sys.argv[1:]], []
for number in range(6):
    engines.append(open_gray_engine("openvino", model=models[number % 2], size_px=(64, 48), threads=1))
    if len(engines) > 2:
        engines.pop(0).close()
        gc.collect()
while engines:
    engines.pop(0).close()
    gc.collect()
try:
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(10**7):
        pass
except KeyboardInterrupt:
    print("interrupted in order")
"""


def test_a_signal_is_survived_after_engines_came_and_went(tmp_path: Path) -> None:
    """As after a live change of the model, and after precisions were measured."""
    models = [
        onnx_models.write(tmp_path / "dial.onnx", onnx_models.dial(), scalars={"enhance": onnx_models.ENHANCE}),
        onnx_models.write(tmp_path / "average.onnx", onnx_models.average()),
    ]
    program = [sys.executable, "-c", ENGINES_COME_AND_GO, *map(str, models)]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "interrupted in order"), done.stderr


def test_a_core_is_left_for_those_who_decode_and_write(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, threads in ((1, 1), (2, 1), (8, 7)):
        monkeypatch.setattr("os.sched_getaffinity", lambda _process, cores=cores: {*range(cores)})
        assert default_threads() == threads
