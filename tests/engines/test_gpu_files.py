"""The model files for GPUs: typed as they say, near the float32 ones, chosen where a GPU computes. Run here on the CPU."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

pytest.importorskip("torch", reason="the files are made by the trainer: pip install -e '.[train]'")

from rtfusion_trainer import export, for_gpu

from rtfusion.config import Settings
from rtfusion.cuda.device import Device
from rtfusion.engines import choose_precision, model_file, open_engine, open_network
from rtfusion.engines.parity import check, golden_inputs
from rtfusion.errors import ConfigError, ModelError
from rtfusion.evaluate.metrics import qabf, ssim, vif
from rtfusion.fusion.fuser import open_fuser
from rtfusion.fusion.learned import LearnedLuminance
from rtfusion.models import FOR_GPU, read_spec, shipped, shipped_names
from rtfusion.registration import PairShape
from rtfusion.telemetry import Telemetry
from tests import onnx_models
from tests.cuda import fake
from tests.cuda.test_fuser import pair
from tests.engines.fake_tensorrt import TensorRt

MODELS = ("small", "large")
SIZE_PX = (64, 48)
SAME_SCORES = 0.01
SIDE_PX = 256


def plain(model: onnx.ModelProto) -> onnx.ModelProto:
    return for_gpu.simplified(model)


# --- what stands in them ---


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("precision", ["f16", "int8"])
def test_arithmetic_is_half_and_the_borders_are_float32(name: str, precision: str) -> None:
    model = onnx.load(shipped(name, precision=FOR_GPU[precision]))
    ports = {port.name: port.type.tensor_type.elem_type for port in (*model.graph.input, *model.graph.output)}
    assert set(ports.values()) == {TensorProto.FLOAT}
    counts = for_gpu.arithmetic(model)
    assert counts["f32"] == 0
    assert (counts["int8"] > 5) == (precision == "int8")
    kinds = {one.name: one.data_type for one in model.graph.initializer}
    wide = [node.op_type for node in model.graph.node if any(kinds.get(i) == TensorProto.FLOAT for i in node.input)]
    assert set(wide) <= {"Mul", "Add", "Div"}, "only what divides by exponentials has float32 constants"
    about, of_f32 = read_spec(shipped(name, precision=FOR_GPU[precision])), read_spec(shipped(name))
    assert (about.inputs, about.outputs, about.training_commit) == (
        of_f32.inputs,
        of_f32.outputs,
        of_f32.training_commit,
    )


@pytest.mark.parametrize("name", MODELS)
def test_int8_is_signed_and_symmetric_with_weights_by_channel(name: str) -> None:
    model = onnx.load(shipped(name, precision="gpu-int8"))
    values = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type in {"QuantizeLinear", "DequantizeLinear"}]
    assert nodes
    for node in nodes:
        scale, zero = values[node.input[1]], values[node.input[2]]
        assert (zero.dtype, zero.any(), scale.dtype) == (np.int8, False, np.float16)
        assert (scale >= for_gpu.SMALLEST_SCALE).all()
        if node.input[0] in values:
            levels = values[node.input[0]]
            assert levels.dtype == np.int8
            assert scale.shape == (len(levels),)
            assert np.abs(levels.astype(int)).max() <= for_gpu.LEVELS


@pytest.mark.parametrize("name", MODELS)
def test_the_files_are_made_of_the_float32_one(name: str) -> None:
    """The same code makes the same file: of half precision to the byte, of INT8 without its calibration."""
    source = plain(onnx.load(shipped(name)))
    made = for_gpu.in_half(source, ranges={})
    of_file = onnx.load(shipped(name, precision="gpu-f16"))
    assert made.graph.SerializeToString() == of_file.graph.SerializeToString()
    ranges = dict.fromkeys(
        (output for node in source.graph.node for output in node.output), for_gpu.Range(largest=1.0, covering=1.0)
    )
    quantized = for_gpu.in_int8(source, ranges=ranges, parts=export.QUANTIZED_ON_GPU)
    shipped_int8 = onnx.load(shipped(name, precision="gpu-int8"))
    assert [node.output for node in quantized.graph.node] == [node.output for node in shipped_int8.graph.node]


# --- what they give ---


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("engine", ["openvino", "onnxruntime", "pytorch"])
@pytest.mark.parametrize("precision", ["f16", "int8"])
def test_the_golden_result_is_that_of_float32(name: str, engine: str, precision: str) -> None:
    inputs = golden_inputs(read_spec(shipped(name)), size_px=SIZE_PX)
    results = []
    for path in (shipped(name), shipped(name, precision=FOR_GPU[precision])):
        opened = open_engine(engine, model=path, size_px=SIZE_PX, threads=1)
        results.append({key: value.copy() for key, value in opened.run(inputs=inputs).items()})
        opened.close()
    check(results[1], results[0], arithmetic=precision)


def test_pytorch_computes_in_the_types_of_the_file() -> None:
    for precision, told in (("f32", "f32"), ("gpu-f16", "f16"), ("f16", "f32"), ("gpu-int8", "f16")):
        engine = open_engine("pytorch", model=shipped("small", precision=precision), size_px=SIZE_PX, threads=1)
        assert f" {told}," in engine.description
        engine.close()


@pytest.mark.shared
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("precision", ["f16", "int8"])
def test_real_pairs_score_as_with_float32(shared_data: Path, name: str, precision: str) -> None:
    differences = []
    for folder in sorted((shared_data / "eval").iterdir()):
        visible_path = min((folder / "vi").iterdir())
        thermal_path = next((folder / "ir").glob(f"{visible_path.stem}.*"))
        visible, thermal = (
            np.ascontiguousarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)[:SIDE_PX, :SIDE_PX])
            for path in (visible_path, thermal_path)
        )
        scores = []
        for path in (shipped(name), shipped(name, precision=FOR_GPU[precision])):
            fuse = LearnedLuminance(model=path, engine="onnxruntime", threads=1, still=True)
            fused = fuse(visible_y=visible, thermal=thermal, timestamp_ns=0)
            scores.append([metric(fused=fused, visible=visible, thermal=thermal) for metric in (qabf, ssim, vif)])
            fuse.close()
        differences.append(np.subtract(scores[1], scores[0]))
    assert len(differences) == 6
    assert np.abs(np.mean(differences, axis=0)).max() < SAME_SCORES
    if precision == "f16":
        assert np.abs(differences).max() < SAME_SCORES / 5


# --- how they are made ---


def exponential() -> onnx.ModelProto:
    """Visible divided by 1 + exp(30 thermal), whose exponential no float16 can hold."""
    return onnx_models.build(
        [
            ("Mul", ["thermal", "steep"], "power", {}),
            ("Exp", ["power"], "grown", {}),
            ("Add", ["grown", "one"], "sum", {}),
            ("Div", ["visible_y", "sum"], "part", {}),
            ("Clip", ["part", "", "one"], "fused_y", {}),
        ],
        constants={"steep": np.array(30.0), "one": np.array(1.0)},
    )


def test_what_divides_by_exponentials_stays_float32(tmp_path: Path) -> None:
    made = for_gpu.in_half(plain(exponential()), ranges={})
    kinds = {
        kind.name: kind.type.tensor_type.elem_type for kind in onnx.shape_inference.infer_shapes(made).graph.value_info
    }
    assert {name: kinds[name] for name in ("power", "grown", "sum", "part")} == {
        "power": TensorProto.FLOAT16,
        "grown": TensorProto.FLOAT,
        "sum": TensorProto.FLOAT,
        "part": TensorProto.FLOAT,
    }
    path = onnx_models.write(tmp_path / "typed.onnx", made)
    inputs = {name: np.full((1, 1, 8, 8), 1.0, np.float32) for name in ("visible_y", "thermal")}
    for engine in ("openvino", "onnxruntime", "pytorch"):
        opened = open_engine(engine, model=path, size_px=(8, 8), threads=1)
        assert np.isfinite(opened.run(inputs=inputs)["fused_y"]).all()
        opened.close()


def test_a_tensor_that_float16_cannot_hold_is_refused() -> None:
    model = plain(onnx_models.affine(visible=1.0, thermal=1.0))
    inputs = {name: np.full((1, 1, 8, 8), 2e4, np.float32) for name in ("visible_y", "thermal")}
    ranges = for_gpu.measured_ranges(model, [inputs])
    assert ranges["sum"].largest == 4e4
    with pytest.raises(ModelError, match="va reaches 20000; a float16 tensor may reach 16376"):
        for_gpu.in_half(model, ranges=ranges)
    with pytest.raises(ModelError, match="no convolution named /body"):
        for_gpu.in_int8(model, ranges={}, parts=("/body",))


def test_files_for_gpus_are_made_of_a_model_file_too(tmp_path: Path) -> None:
    from tests.training_data import write_pairs

    data = write_pairs(tmp_path / "data", {"set/a": (240, 320), "set/b": (200, 320)})
    made = export.export(Path("small"), tmp_path, precisions=["gpu-f16", "gpu-int8"], data=data)
    assert [path.name for path in made] == ["student-small-gpu-f16.onnx", "student-small-gpu-int8.onnx"]
    assert read_spec(tmp_path / "student-small-gpu-f16.onnx") == read_spec(shipped("small", precision="gpu-f16"))
    with pytest.raises(ConfigError, match="int8 is made of a checkpoint"):
        export.export(Path("small"), tmp_path, precisions=["int8"], data=data)
    with pytest.raises(ConfigError, match="gpu-f16 is calibrated on images: pass --data"):
        export.export(Path("small"), tmp_path, precisions=["gpu-f16"])


# --- where they are taken ---


def test_a_gpu_takes_them_by_their_precision() -> None:
    assert shipped_names() == ["large", "small"]
    for precision, file in (("auto", "gpu-f16"), ("f16", "gpu-f16"), ("int8", "gpu-int8"), ("f32", "f32")):
        assert model_file(Path("small"), precision=precision, on_gpu=True) == shipped("small", precision=file)
    with pytest.raises(ConfigError, match="no precision 'bf16' on a GPU; there are f32, f16 and int8"):
        model_file(Path("small"), precision="bf16", on_gpu=True)
    assert model_file(Path("a/model.onnx"), precision="int8", on_gpu=True) == Path("a/model.onnx")


def test_auto_is_half_on_a_gpu_and_says_that_nothing_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtfusion.engines.resolve", lambda name: name)
    for engine, precision in (("tensorrt", "f16"), ("pytorch:cuda", "f16"), ("pytorch", "f32")):
        choice = choose_precision(Path("small"), precision="auto", engine=engine, size_px=SIZE_PX)
        assert (choice.precision, str(choice)) == (precision, f"precision {precision}, by rule: nothing was measured")


@pytest.mark.parametrize("precision", ["f16", "int8"])
def test_tensorrt_takes_them(
    trt: TensorRt, cuda: fake.FakeCuda, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    monkeypatch.setattr("rtfusion.engines.resolve", lambda name: name)
    device = Device()
    path = model_file(Path("small"), precision=precision, on_gpu=True)
    device.call(open_network("tensorrt", model=path, size_px=SIZE_PX, device=device).close)
    assert trt.built == 1
    device.close()
    assert cuda.live == {}


def test_tensorrt_refuses_those_for_cpus(trt: TensorRt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtfusion.engines.resolve", lambda name: name)
    device = Device()
    with pytest.raises(ModelError, match=r"TensorRT cannot read .*student-small-int8\.onnx"):
        open_network("tensorrt", model=shipped("small", precision="int8"), size_px=SIZE_PX, device=device)
    device.close()


def test_a_run_on_the_device_takes_half_unless_told(
    trt: TensorRt, cuda: fake.FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rtfusion.engines import resolve

    monkeypatch.setattr("rtfusion.cuda.renderer.resolve", lambda name: name)
    monkeypatch.setattr("rtfusion.engines.resolve", lambda name: name if name == "tensorrt" else resolve(name))
    for asked, file in (("auto", "gpu-f16"), ("int8", "gpu-int8"), ("f32", "f32")):
        fuse = open_fuser(Settings(model="small", engine="tensorrt", precision=asked), telemetry=Telemetry())
        assert fuse.precision == ("f16" if asked == "auto" else asked)
        fuse.prepare(PairShape.of(pair()))
        assert fuse(pair()).model_id == read_spec(shipped("small", precision=file)).id
        fuse.close()
    assert cuda.live == {}
