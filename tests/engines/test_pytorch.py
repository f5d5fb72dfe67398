"""The graph of a model file as a PyTorch module, and its way to torch_tensorrt."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from rtfusion.engines.parity import check, golden_inputs
from rtfusion.errors import ConfigError, EngineError, EngineUnavailable, ModelError
from rtfusion.models import read_spec, shipped
from tests import onnx_models
from tests.cuda import fake

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from rtfusion.engines import pytorch, tensorrt  # noqa: E402
from rtfusion.engines.onnx_module import OPERATORS, OnnxModule  # noqa: E402


def saved(folder: Path, model: onnx.ModelProto) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


CASES: dict[str, tuple[list[tuple[str, list[str], str, dict[str, Any]]], dict[str, np.ndarray]]] = {
    "pad edge": (
        [("Pad", ["x", "pads"], "p", {"mode": "edge"}), ("Slice", ["p", "starts", "ends", "axes"], "y", {})],
        {
            "pads": np.array([0, 0, 2, 1, 0, 0, 2, 1]),
            "starts": np.array([2, 1]),
            "ends": np.array([-2, -1]),
            "axes": np.array([2, 3]),
        },
    ),
    "crd": (
        [
            ("SpaceToDepth", ["x"], "s", {"blocksize": 2}),
            ("DepthToSpace", ["s"], "y", {"blocksize": 2, "mode": "CRD"}),
        ],
        {},
    ),
    "uneven margins": (
        [("Conv", ["x", "box"], "y", {"pads": [2, 2, 0, 0]})],
        {"box": np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3) / 36},
    ),
    "largest about": ([("MaxPool", ["x"], "y", {"kernel_shape": [5, 5], "pads": [2, 2, 2, 2], "strides": [1, 1]})], {}),
    "pixels repeated": (
        [
            ("MaxPool", ["x"], "s", {"kernel_shape": [2, 2], "strides": [2, 2]}),
            (
                "Resize",
                ["s", "", "scales"],
                "y",
                {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
            ),
        ],
        {"scales": np.array([1, 1, 2, 2], np.float32)},
    ),
    "quantized": (
        [
            ("QuantizeLinear", ["x", "scale", "zero"], "q", {}),
            ("DequantizeLinear", ["q", "scale", "zero"], "y", {}),
        ],
        {"scale": np.array(0.01, np.float32), "zero": np.array(7, np.uint8)},
    ),
}


@pytest.mark.parametrize("case", list(CASES))
def test_operators_are_onnxs_own(tmp_path: Path, case: str) -> None:
    nodes, constants = CASES[case]
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Add", ["visible_y", "thermal"], ["x"]),
            *(onnx.helper.make_node(kind, sources, [result], **kw) for kind, sources, result, kw in nodes),
            onnx.helper.make_node("Identity", ["y"], ["fused_y"]),
        ],
        "tiny",
        [
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, list(onnx_models.IMAGE))
            for name in ("visible_y", "thermal")
        ],
        [onnx.helper.make_tensor_value_info("fused_y", onnx.TensorProto.FLOAT, [1, 1, None, None])],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 19)], ir_version=9)
    rng = np.random.default_rng(0)
    feeds = {name: rng.random((1, 1, 12, 16), dtype=np.float32) for name in ("visible_y", "thermal")}
    (expected,) = ReferenceEvaluator(model).run(None, feeds)
    module = OnnxModule(saved(tmp_path, model)).eval()
    with torch.inference_mode():
        got = module(**{name: torch.from_numpy(value) for name, value in feeds.items()})["fused_y"].numpy()
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_it_runs_in_float64_as_a_reference(tmp_path: Path) -> None:
    module = OnnxModule(saved(tmp_path, onnx_models.stride_4())).double().eval()
    rng = np.random.default_rng(0)
    feeds = {name: rng.random((1, 1, 16, 24)) for name in ("visible_y", "thermal")}
    with torch.inference_mode():
        got = module(**{name: torch.from_numpy(value) for name, value in feeds.items()})["fused_y"].numpy()
    box = np.float64(np.float32(1 / 9)) * 9
    expected = onnx_models.blurred_mean(feeds["visible_y"][0, 0], feeds["thermal"][0, 0]) * box
    np.testing.assert_allclose(got[0, 0], expected, rtol=0, atol=1e-15)


def test_an_operator_that_is_not_known(tmp_path: Path) -> None:
    model = onnx_models.build([("Einsum", ["visible_y", "thermal"], "fused_y", {"equation": "abcd,abcd->abcd"})])
    with pytest.raises(ModelError, match="has the operator Einsum, which the engine pytorch does not know"):
        OnnxModule(saved(tmp_path, model))
    assert "Einsum" not in OPERATORS


def test_bf16_on_the_cpu(tmp_path: Path) -> None:
    path = saved(tmp_path, onnx_models.average())
    engine = pytorch.PyTorchEngine(model=path, spec=None, size_px=(24, 16), threads=1, precision="bf16", device="cpu")
    rng = np.random.default_rng(0)
    inputs = {name: rng.random((1, 1, 16, 24), dtype=np.float32) for name in ("visible_y", "thermal")}
    expected = (inputs["visible_y"] + inputs["thermal"]) / 2
    np.testing.assert_allclose(engine.run(inputs=inputs)["fused_y"], expected, rtol=0, atol=1e-2)
    assert "bf16" in engine.description
    engine.close()


def test_without_a_device(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    path = saved(tmp_path, onnx_models.average())
    with pytest.raises(EngineUnavailable, match="PyTorch sees no CUDA device"):
        pytorch.PyTorchEngine(model=path, spec=None, size_px=(24, 16), threads=1, precision="f32", device="cuda")
    with pytest.raises(ConfigError, match="no precision 'f16' in PyTorch on cpu; there are f32, bf16"):
        pytorch.PyTorchEngine(model=path, spec=None, size_px=(24, 16), threads=1, precision="f16", device="cpu")


# --- the network of the CUDA fuser, over the memory of this process ---


def test_every_output_is_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = onnx_models.write(tmp_path / "m.onnx", onnx_models.remembering(), **onnx_models.REMEMBERING)
    load = pytorch.load
    monkeypatch.setattr(pytorch, "load", lambda model, **options: load(model, **{**options, "device": "cpu"}))
    monkeypatch.setattr(
        pytorch, "_at", lambda at, shape: torch.from_numpy(fake.floats(at, int(np.prod(shape))).reshape(shape))
    )
    monkeypatch.setattr(pytorch, "captured", lambda forward: forward)
    spec = read_spec(path)
    network = pytorch.PyTorchNetwork(model=path, spec=spec, size_px=(64, 48))
    arrays = golden_inputs(spec, size_px=(64, 48))
    expected = {name: value.astype(np.float32) for name, value in onnx_models.remembered(arrays).items()}
    outputs = {name: np.zeros_like(value) for name, value in expected.items()}
    addresses = {name: array.ctypes.data for name, array in {**arrays, **outputs}.items()}
    with pytest.raises(EngineError, match=r"the network has .*warm"):
        network.bind({name: at for name, at in addresses.items() if name != "warm"})
    network.bind(addresses)
    assert network._replay is not None
    network._replay()
    check(outputs, expected, arithmetic="f32")
    network.close()


# --- through torch_tensorrt: its signature is that of 2.11 and 2.13, which take the same ---


class Input:
    def __init__(self, shape: tuple[int, ...], *, dtype: torch.dtype) -> None:
        self.shape, self.dtype = shape, dtype


def converting(seen: dict[str, Any], *, fails: bool) -> types.SimpleNamespace:
    def convert(
        exported_program: Any,
        inputs: Any = None,
        *,
        arg_inputs: Any = None,
        kwarg_inputs: Any = None,
        workspace_size: int,
        require_full_compilation: bool,
    ) -> bytes:
        assert inputs is None
        if fails:
            raise RuntimeError("no converter for aten.strange")
        seen.update(program=exported_program, inputs=kwarg_inputs, positional=arg_inputs)
        return b"plan"

    dynamo = types.SimpleNamespace(convert_exported_program_to_serialized_trt_engine=convert)
    return types.SimpleNamespace(__version__="2.13.0", Input=Input, dynamo=dynamo)


@pytest.mark.parametrize("fails", [False, True])
def test_the_exported_program_has_the_inputs_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    path = onnx_models.write(tmp_path / "dial.onnx", onnx_models.dial(), scalars={"enhance": onnx_models.ENHANCE})
    seen: dict[str, Any] = {}
    monkeypatch.setattr(tensorrt, "_torch_tensorrt", lambda: converting(seen, fails=fails))
    load, zeros = pytorch.load, torch.zeros
    monkeypatch.setattr(pytorch, "load", lambda model, **options: load(model, **{**options, "device": "cpu"}))
    monkeypatch.setattr(torch, "zeros", lambda shape, device: zeros(shape))
    if fails:
        with pytest.raises(EngineError, match=r"torch_tensorrt failed to build .*aten\.strange"):
            tensorrt._build_through_torch(path, (24, 16), None)
        return
    assert tensorrt._build_through_torch(path, (24, 16), None) == b"plan"
    assert list(seen["inputs"]) == ["visible_y", "thermal", "enhance"]
    assert seen["inputs"]["thermal"].shape == (1, 1, 16, 24)
    assert seen["positional"] == []
    assert seen["program"].graph_signature.user_inputs == ("visible_y", "thermal", "enhance")
    rng = np.random.default_rng(0)
    inputs = {
        name: torch.from_numpy(rng.random(entry.shape, dtype=np.float32)) for name, entry in seen["inputs"].items()
    }
    (got,) = seen["program"].module()(**inputs)
    torch.testing.assert_close(got, inputs["visible_y"] + inputs["enhance"] * (inputs["thermal"] - inputs["visible_y"]))


def test_the_exported_program_computes_in_the_types_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}
    monkeypatch.setattr(tensorrt, "_torch_tensorrt", lambda: converting(seen, fails=False))
    load, zeros = pytorch.load, torch.zeros
    monkeypatch.setattr(pytorch, "load", lambda model, **options: load(model, **{**options, "device": "cpu"}))
    monkeypatch.setattr(torch, "zeros", lambda shape, device: zeros(shape))
    kinds = {}
    for precision in ("f32", "gpu-f16"):
        tensorrt._build_through_torch(shipped("small", precision=precision), (64, 48), None)
        nodes = [node for node in seen["program"].graph.nodes if "conv2d" in str(node.target)]
        kinds[precision] = {node.meta["val"].dtype for node in nodes}
    assert kinds == {"f32": {torch.float32}, "gpu-f16": {torch.float16}}


def test_the_exported_program_gives_its_outputs_in_the_order_of_the_contract(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = onnx_models.write(tmp_path / "m.onnx", onnx_models.remembering(), **onnx_models.REMEMBERING)
    seen: dict[str, Any] = {}
    monkeypatch.setattr(tensorrt, "_torch_tensorrt", lambda: converting(seen, fails=False))
    load, zeros = pytorch.load, torch.zeros
    monkeypatch.setattr(pytorch, "load", lambda model, **options: load(model, **{**options, "device": "cpu"}))
    monkeypatch.setattr(torch, "zeros", lambda shape, device: zeros(shape))
    tensorrt._build_through_torch(path, (64, 48), None)
    spec = read_spec(path)
    inputs = golden_inputs(spec, size_px=(64, 48))
    made = seen["program"].module()(**{name: torch.from_numpy(inputs[name]) for name in seen["inputs"]})
    expected = {name: value.astype(np.float32) for name, value in onnx_models.remembered(inputs).items()}
    got = {name: value.numpy() for name, value in zip(spec.outputs, made, strict=True)}
    check(got, expected, arithmetic="f32")


def test_torch_tensorrt_that_does_not_load_raises_whatever(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = tmp_path / "torch_tensorrt"
    package.mkdir()
    (package / "__init__.py").write_text("raise Exception('Could not find libnvinfer.so.11')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "torch_tensorrt", raising=False)
    with pytest.raises(EngineUnavailable, match=r"libnvinfer\.so\.11.*--via onnx"):
        tensorrt._torch_tensorrt()
