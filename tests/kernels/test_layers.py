"""The compiled layers against their twin in NumPy, to the bit; a student in parts against its whole graph."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtfusion.engines import open_gray_engine
from rtfusion.engines.parity import check, difference
from rtfusion.errors import EngineError, EngineUnavailable, ModelError
from rtfusion.kernels import library
from rtfusion.kernels.layers import GAIN_CHANNELS, HEAD_CHANNELS, SEEN_CHANNELS, CompiledLayers
from rtfusion.kernels.selftest import CHECKS
from rtfusion.kernels.twin import TwinLayers
from rtfusion.models import MapInput, Output, find_model, read_spec
from rtfusion.models.layers import KEY, Layers, find_layers
from rtfusion.models.onnx_file import graph_checksum
from rtfusion.types import Image8
from tests.kernels.pictures import hows, image, kinds, strided
from tests.support import needs_kernels

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def layers() -> Layers:
    found = find_layers(find_model(Path("small"), precision="int8"))
    assert found is not None
    return found


sizes = st.tuples(st.integers(1, 90), st.integers(1, 70))


@needs_kernels
@settings(max_examples=150, deadline=None)
@given(
    size_px=sizes,
    of=st.tuples(kinds, kinds),
    how=st.tuples(hows, hows),
    means=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    enhance=st.floats(0, 1),
    loud=st.sampled_from([0.0, 1.0, 200.0]),
    coring_gray=st.sampled_from([0.0, 3.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_compiled_layers_are_their_twin_to_the_bit(
    layers: Layers,
    size_px: tuple[int, int],
    of: tuple[str, str],
    how: tuple[str, str],
    means: tuple[float, float],
    enhance: float,
    loud: float,
    coring_gray: float,
    seed: int,
) -> None:
    random = np.random.default_rng(seed)
    images = {
        name: strided(image(random, size_px, kind), lies)
        for name, kind, lies in zip(("visible", "thermal"), of, how, strict=True)
    }
    padded_px = (size_px[0] + -size_px[0] % 8, size_px[1] + -size_px[1] % 8)
    layers = layers.model_copy(update={"coring_gray": coring_gray})
    made: list[dict[str, Any]] = []
    said: dict[str, Any] = {}
    for kind in (CompiledLayers, TwinLayers):
        one = kind(layers, size_px=size_px, padded_px=padded_px)
        seen = np.zeros((1, *one.grid, SEEN_CHANNELS), np.uint8)
        fused = np.zeros(size_px[::-1], np.uint8)
        said = said or {
            "gains": random.integers(0, 256, (1, *one.grid, GAIN_CHANNELS)).astype(np.uint8),
            "heads": (loud * random.standard_normal((1, *one.grid, HEAD_CHANNELS))).astype(np.float32),
        }
        one.split(**images, means=means, enhance=enhance, seen=seen)
        one.join(**said, fused=fused)
        made.append({"seen": seen, "fused": fused})
    for name in ("seen", "fused"):
        np.testing.assert_array_equal(made[0][name], made[1][name], err_msg=name)


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler here")
@pytest.mark.parametrize("instructions", ["", "avx2", "avx512f", "avx512f,avx512bw,avx512vl,avx512dq"])
def test_all_instructions_give_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, instructions: str
) -> None:
    if not {*filter(None, instructions.split(","))} <= {*Path("/proc/cpuinfo").read_text().split()}:
        pytest.skip(f"this processor has no {instructions}")
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    target = f'__attribute__((target("{instructions}")))' if instructions else ""
    alone = tmp_path / "libkernels.so"
    assert build.compiled_by(["cc"], alone, f"-DVECTORIZED={target}", "-Wall", "-Wextra", "-Werror") is None
    monkeypatch.setattr("rtfusion.kernels.LIBRARY", alone)
    library.cache_clear()
    try:
        assert min(check() for check in CHECKS.values()) > 1_000
    finally:
        library.cache_clear()


# --- the whole of a student in two parts ---


@pytest.fixture(params=["small", "large"])
def model(request: pytest.FixtureRequest) -> Path:
    return find_model(Path(request.param), precision="int8")


def scene(random: np.random.Generator, size_px: tuple[int, int]) -> Image8:
    """Something like a picture: smooth, with edges and some noise."""
    width, height = size_px
    coarse = random.integers(0, 256, (height // 16 + 2, width // 16 + 2)).astype(np.float32)
    smooth = cv2.resize(coarse, size_px, interpolation=cv2.INTER_CUBIC)
    smooth[height // 3 : height // 2, width // 4 : width // 2] += 60
    return np.clip(smooth + random.normal(0, 2, smooth.shape), 0, 255).astype(np.uint8)


@needs_kernels
@pytest.mark.parametrize("size_px", [(320, 240), (101, 67), (1, 1)])
@pytest.mark.parametrize("enhance", [0.0, 0.62, 1.0])
def test_a_student_in_parts_is_its_whole_graph(model: Path, size_px: tuple[int, int], enhance: float) -> None:
    random = np.random.default_rng(0)
    images = {"visible_y": scene(random, size_px), "thermal": scene(random, size_px)}
    inputs = {"enhance": enhance, "visible_mean": 0.45, "thermal_mean": 0.5}
    made = {}
    for kernels in (True, False):
        engine = open_gray_engine("openvino", model=model, size_px=size_px, threads=1, kernels=kernels)
        assert ("with kernels" in engine.description) is kernels
        made[kernels] = {"fused_y": engine.run(images=images, inputs=inputs)["fused_y"].astype(np.float32) / 255}
        engine.close()
    if size_px == (1, 1):  # of one pixel a mean tells nothing
        apart = difference(made[True]["fused_y"], made[False]["fused_y"])
        assert apart.largest <= 4 / 255
    else:
        check(made[True], made[False], arithmetic="int8 in parts")


@needs_kernels
def test_more_inputs_and_outputs_of_the_learned_part_are_fed_and_given_as_in_the_whole_graph(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    shipped = find_model(Path("small"), precision="int8")
    graph = onnx.load(shipped)
    (heads,) = (node.output[0] for node in graph.graph.node if node.name == "/heads/Conv")
    graph.graph.node.append(onnx.helper.make_node("Mul", [heads, "trust"], ["trusted"]))
    shape = [1, None, None, None]
    graph.graph.input.append(onnx.helper.make_tensor_value_info("trust", onnx.TensorProto.FLOAT, [1, 1, None, None]))
    graph.graph.output.append(onnx.helper.make_tensor_value_info("trusted", onnx.TensorProto.FLOAT, shape))
    spec = read_spec(shipped)
    spec = spec.model_copy(
        update={
            "inputs": {**spec.inputs, "trust": MapInput(scale=4, default=1.0, minimum=0.0, maximum=1.0)},
            "outputs": {**spec.outputs, "trusted": Output(kind="other", channels=8, scale=4)},
            "checksum": graph_checksum(graph.SerializeToString()),
        }
    )
    layers = {entry.key: entry.value for entry in graph.metadata_props if entry.key == KEY}
    del graph.metadata_props[:]
    onnx.helper.set_model_props(graph, {**spec.metadata(), **layers})
    path = tmp_path / "more.onnx"
    path.write_bytes(graph.SerializeToString())
    random = np.random.default_rng(2)
    images = {"visible_y": scene(random, (160, 120)), "thermal": scene(random, (160, 120))}
    trust = random.random((1, 1, 30, 40), np.float32)
    inputs = {"enhance": 0.62, "visible_mean": 0.45, "thermal_mean": 0.5, "trust": trust}
    made = []
    for kernels in (True, False):
        engine = open_gray_engine("openvino", model=path, size_px=(160, 120), threads=1, kernels=kernels)
        made.append({name: output.copy() for name, output in engine.run(images=images, inputs=inputs).items()})
        engine.close()
    assert made[0].keys() == made[1].keys() == {"fused_y", "trusted"}
    np.testing.assert_allclose(made[0]["trusted"], made[1]["trusted"], atol=0.1)
    assert np.abs(made[0]["trusted"]).max() > 0.5


@needs_kernels
def test_pictures_are_not_kept_from_one_pair_to_the_next(model: Path) -> None:
    random = np.random.default_rng(1)
    inputs = {"enhance": 0.62, "visible_mean": 0.45, "thermal_mean": 0.5}
    engine = open_gray_engine("openvino", model=model, size_px=(64, 48), threads=1)
    pairs = [{name: scene(random, (64, 48)) for name in ("visible_y", "thermal")} for _ in range(3)]
    first = [engine.run(images=images, inputs=inputs)["fused_y"].copy() for images in pairs]
    again = [engine.run(images=images, inputs=inputs)["fused_y"].copy() for images in reversed(pairs)]
    np.testing.assert_array_equal(first, again[::-1])
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.run(images=pairs[0], inputs=inputs)


def test_without_kernels_the_whole_graph_runs_and_the_description_says_so(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rtfusion.kernels.LIBRARY", Path("nothing.so"))
    library.cache_clear()
    try:
        engine = open_gray_engine("openvino", model=model, size_px=(64, 48), threads=1)
        assert engine.description.endswith(", without kernels")
        images = {name: np.full((48, 64), 90, np.uint8) for name in ("visible_y", "thermal")}
        inputs = {"enhance": 0.62, "visible_mean": 0.45, "thermal_mean": 0.5}
        assert engine.run(images=images, inputs=inputs)["fused_y"].shape == (48, 64)
        engine.close()
        with pytest.raises(EngineUnavailable, match="not compiled when rtfusion was installed; run pip install again"):
            library()
    finally:
        library.cache_clear()


@needs_kernels
def test_kernels_of_another_source_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "layers.c"
    other.write_text("int other;")
    monkeypatch.setattr("rtfusion.kernels.SOURCES", (other,))
    library.cache_clear()
    try:
        with pytest.raises(EngineUnavailable, match="compiled of other sources"):
            library()
    finally:
        library.cache_clear()


@needs_kernels
def test_a_file_that_is_not_the_graph_that_its_layers_are_of_is_refused(tmp_path: Path, layers: Layers) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(find_model(Path("small")))
    onnx.helper.set_model_props(
        model, {KEY: layers.model_dump_json()} | {entry.key: entry.value for entry in model.metadata_props}
    )
    path = tmp_path / "float.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(EngineError, match="is not the graph that its layers are of"):
        open_gray_engine("openvino", model=path, size_px=(64, 48), threads=1)
    open_gray_engine("openvino", model=path, size_px=(64, 48), threads=1, kernels=False).close()


@pytest.mark.parametrize("text", ["{}", "[", '{"coring_gray": "3"}'])
def test_layers_that_do_not_hold_are_refused(tmp_path: Path, text: str) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(find_model(Path("small")))
    model.metadata_props.add(key=KEY, value=text)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=f"the value of {KEY} does not hold"):
        find_layers(path)
