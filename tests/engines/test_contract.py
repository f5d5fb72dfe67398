"""One model with every kind of port, through every engine and both fusers: a map, a state that is fed back, and more outputs.

Nothing in the runtime knows this model: its contract alone says how it is fed.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtfusion.cuda.device import Device
from rtfusion.cuda.renderer import CudaRenderer
from rtfusion.engines import AUTO, open_engine, open_gray_engine, tensorrt
from rtfusion.engines.parity import check, golden_inputs
from rtfusion.engines.store import EngineStore
from rtfusion.errors import ConfigError, EngineError, ModelError
from rtfusion.fusion.base import Change
from rtfusion.fusion.fuser import PairFuser
from rtfusion.fusion.inputs import ModelInputs, fit_map
from rtfusion.fusion.learned import LearnedLuminance
from rtfusion.fusion.tone import GainControl
from rtfusion.models import ImageInput, MapInput, Output, StateInput, read_spec
from rtfusion.telemetry import Telemetry
from rtfusion.types import Band, FramePair
from tests import onnx_models
from tests.cuda import fake
from tests.engines.fake_tensorrt import TensorRt
from tests.onnx_models import CELL_PX, REMEMBERING
from tests.support import MS, host_fuser, make_frame

HERE = (*AUTO, *(["pytorch"] if importlib.util.find_spec("torch") else []))
SIZE_PX = (64, 48)
ODD_PX = (62, 45)
"""No multiple of the stride of 8: it is padded to `SIZE_PX`."""
TAU_S, RESET_S = 1.0, REMEMBERING["inputs"]["memory"].reset_after_s
TIMES_MS = (0, 33, 66, 1000, 1033, 500, 533, 1000, 2000)
"""Frames follow each other, then after a gap, then time goes back; then a gap that is not too long, and one that is."""
RESTARTS = (True, False, False, True, False, True, False, False, True)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return onnx_models.write(tmp_path / "remembering.onnx", onnx_models.remembering(), **REMEMBERING)


@pytest.fixture(params=HERE)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def levels(seed: int, size_px: tuple[int, int] = ODD_PX) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    visible_y = rng.integers(0, 200, size_px[::-1], dtype=np.uint8)
    return {"visible_y": visible_y, "thermal": np.full_like(visible_y, 20 * seed % 256)}


@pytest.fixture(autouse=True)
def one_scene(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pictures here are noise, and yet the same scene, whose mean is followed slowly."""
    monkeypatch.setattr("rtfusion.fusion.scene.CHANGED_LEVELS", 256.0)


class Reference:
    """The model and its runtime in NumPy: what every way of running it has to give."""

    def __init__(self, *, trust: np.ndarray | float = 1.0, enhance: float = 0.25) -> None:
        self.trust, self.enhance = trust, enhance
        self.memory, self.mean, self.last_ns = np.zeros(0), 0.0, 0

    def __call__(self, images: Mapping[str, np.ndarray], *, timestamp_ns: int, restart: bool) -> dict[str, np.ndarray]:
        height, width = images["thermal"].shape
        margins = [(0, -length % 8) for length in (height, width)]
        padded = {name: np.pad(image, margins, mode="edge")[None, None] / 255 for name, image in images.items()}
        shape = (1, 2, *(length // CELL_PX for length in padded["thermal"].shape[2:]))
        weight = 1 - np.exp(-(timestamp_ns - self.last_ns) / 1e9 / TAU_S)
        present = images["thermal"].mean() / 255
        is_first = self.memory.size == 0 or timestamp_ns < self.last_ns
        self.mean = present if is_first else self.mean + weight * (present - self.mean)
        self.last_ns = timestamp_ns
        memory = np.full(shape, 0.5) if restart or self.memory.shape != shape else self.memory
        inputs = {"enhance": self.enhance, "thermal_mean": self.mean, "trust": self.trust, "memory": memory}
        made = onnx_models.remembered({**padded, **inputs})
        self.memory = made["memory_next"]
        return {**made, "fused_y": np.clip(255 * made["fused_y"][0, 0, :height, :width], 0, 255)}


# --- engines ---


def test_every_engine_gives_every_output(name: str, model: Path) -> None:
    engine = open_engine(name, model=model, size_px=SIZE_PX, threads=1)
    inputs = golden_inputs(read_spec(model), size_px=SIZE_PX)
    expected = {key: value.astype(np.float32) for key, value in onnx_models.remembered(inputs).items()}
    assert {key: value.shape for key, value in expected.items()} == {
        "fused_y": (1, 1, 48, 64), "memory_next": (1, 2, 12, 16), "warm": (1, 1, 12, 16)
    }  # fmt: skip
    check(engine.run(inputs=inputs), expected, arithmetic="f32")
    engine.close()


def test_outputs_are_never_the_arrays_of_inputs(name: str, model: Path) -> None:
    engine = open_engine(name, model=model, size_px=SIZE_PX, threads=1)
    inputs = golden_inputs(read_spec(model), size_px=SIZE_PX)
    first = engine.run(inputs=inputs)["memory_next"]
    np.copyto(inputs["memory"], first)
    second = engine.run(inputs=inputs)
    assert np.shares_memory(first, second["memory_next"])
    assert not any(np.shares_memory(one, other) for one in inputs.values() for other in second.values())
    engine.close()


def test_gray_levels_go_in_and_floats_come_out_beside_them(name: str, model: Path) -> None:
    engine = open_gray_engine(name, model=model, size_px=ODD_PX, threads=1)
    images = levels(3)
    trust = np.random.default_rng(0).random((1, 1, 12, 16), dtype=np.float32)
    reference = Reference(trust=trust.astype(np.float64), enhance=0.5)
    expected = reference(images, timestamp_ns=0, restart=True)
    inputs = {"enhance": 0.5, "thermal_mean": reference.mean, "trust": trust, "memory": 0.5}
    made = engine.run(images=images, inputs=inputs)
    assert {key: value.dtype for key, value in made.items()} == {
        "fused_y": np.uint8, "memory_next": np.float32, "warm": np.float32
    }  # fmt: skip
    assert np.abs(made["fused_y"] - expected["fused_y"]).max() <= 0.5 + 1e-3
    for key in ("memory_next", "warm"):
        np.testing.assert_allclose(made[key], expected[key], atol=1e-5)
    for wrong in ({"trust": trust[..., :4]}, {"trust": trust.astype(np.float64)}, {"mask": 1.0}):
        with pytest.raises(EngineError, match=r"trust|mask"):
            engine.run(images=images, inputs={**inputs, **wrong})
    engine.close()


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "channels of a state": (
        {
            "inputs": {"memory": {"channels": 3}},
            "outputs": {"memory_next": {"channels": 3}},
        },
        r"memory is \[1, 2, .* float32; expected \[1, 3, 12, 16\]",
    ),
    "channels of an output": ({"outputs": {"warm": {"channels": 2}}}, r"warm is \[1, 1, .*; expected \[1, 2, 12, 16\]"),
    "scale of an output": (
        {"outputs": {"warm": {"scale": 8}}},
        r"makes warm \(1, 1, 12, 16\) of|does not take 64x48 images",
    ),
    "an input too many": (
        {"inputs": {"more": {"kind": "map", "default": 0, "minimum": 0, "maximum": 1}}},
        "has the inputs",
    ),
    "an output too many": ({"outputs": {"people": {"kind": "mask"}}}, "the outputs .*; expected .* and .*people"),
}


@pytest.mark.parametrize("wrong", list(WRONG))
def test_a_graph_that_is_not_what_its_contract_says(name: str, tmp_path: Path, wrong: str) -> None:
    changes, message = WRONG[wrong]
    graph = onnx_models.remembering()
    spec = onnx_models.contract(checksum=onnx_models.checksum(graph), **REMEMBERING)
    contract = spec.contract()
    for side, ports in changes.items():
        for port, fields in ports.items():
            contract[side].setdefault(port, {}).update(fields)
    metadata = {f"rtfusion.{key}": json.dumps(value) for key, value in contract.items()}
    path = onnx_models.write_metadata(tmp_path / "odd.onnx", graph, metadata=metadata)
    with pytest.raises(ModelError, match=rf"odd\.onnx.*({message})"):
        open_engine(name, model=path, size_px=SIZE_PX, threads=1)


def test_a_port_of_another_type(name: str, tmp_path: Path) -> None:
    graph = onnx_models.remembering()
    (port,) = (one for one in graph.graph.input if one.name == "trust")
    port.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    path = onnx_models.write(tmp_path / "odd.onnx", graph, **REMEMBERING)
    with pytest.raises(ModelError, match=r"odd\.onnx"):
        open_engine(name, model=path, size_px=SIZE_PX, threads=1)


# --- through LearnedLuminance ---


def test_a_state_is_kept_from_frame_to_frame_and_starts_anew_as_its_rule_says(name: str, model: Path) -> None:
    fuse, reference = LearnedLuminance(model=model, engine=name, threads=1), Reference()
    for index, (time_ms, restart) in enumerate(zip(TIMES_MS, RESTARTS, strict=True)):
        images = levels(index)
        expected = reference(images, timestamp_ns=time_ms * MS, restart=restart)
        fused = fuse(**images, timestamp_ns=time_ms * MS)
        assert np.abs(fused - expected["fused_y"]).max() <= 0.5 + 1e-3
        assert fuse.outputs.keys() == {"memory_next", "warm"}
        for key, made in fuse.outputs.items():
            np.testing.assert_allclose(made, expected[key][0, :, :12, :16], atol=1e-5)
    fuse.close()


def test_a_state_starts_anew_when_the_size_changes(name: str, model: Path) -> None:
    fuse = LearnedLuminance(model=model, engine=name, threads=1)
    for number, size_px in enumerate((ODD_PX, (24, 16), ODD_PX)):
        expected = Reference()(levels(5, size_px), timestamp_ns=0, restart=True)["memory_next"]
        fuse(**levels(5, size_px), timestamp_ns=number * 33 * MS)
        height, width = (-(-length // CELL_PX) for length in size_px[::-1])
        assert fuse.outputs["warm"].shape == (1, height, width)
        np.testing.assert_allclose(fuse.outputs["memory_next"], expected[0, :, :height, :width], atol=1e-5)
    fuse.close()


def test_unrelated_stills_remember_nothing(model: Path) -> None:
    fuse = LearnedLuminance(model=model, engine="auto", threads=1, still=True)
    first = fuse(**levels(2), timestamp_ns=0).copy()
    fuse(**levels(9), timestamp_ns=33 * MS)
    np.testing.assert_array_equal(fuse(**levels(2), timestamp_ns=66 * MS), first)
    fuse.close()


def test_a_map_is_what_was_chosen_and_may_have_any_size(model: Path) -> None:
    left = np.zeros(SIZE_PX[::-1])
    left[:, :32] = 1
    fuse = LearnedLuminance(model=model, engine="auto", threads=1, inputs={"trust": 0.0, "enhance": 1.0})
    images = {"visible_y": np.full(SIZE_PX[::-1], 50, np.uint8), "thermal": np.full(SIZE_PX[::-1], 100, np.uint8)}
    assert (fuse(**images, timestamp_ns=0) == 50).all()
    assert fuse.inputs == {"trust": 0.0, "enhance": 1.0}
    for value in (left, left[None], left[::CELL_PX, ::CELL_PX], left[:, 1::31] > 0):
        fuse.set_inputs({"trust": value})
        fused = fuse(**images, timestamp_ns=10**12 * MS)
        assert (fused[:, 32:] == 50).all() or value.dtype == bool, "a coarse map is interpolated"
        assert (fused[:, :8] != 50).all()
    chosen = fuse.inputs["trust"]
    assert isinstance(chosen, np.ndarray)
    left[:] = 7
    assert chosen.max() == 1, "the array that was given is the giver's"
    fuse.close()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"truts": 1.0}, "takes no input 'truts'; did you mean trust"),
        ({"memory": 0.5}, "takes no input 'memory'; it takes enhance, thermal_mean, trust"),
        ({"trust": 2.0}, r"trust is 2\.0; expected 0\.0 to 1\.0"),
        ({"trust": np.full((4, 4), np.nan)}, r"trust is out of its range somewhere; expected 0\.0 to 1\.0"),
        ({"enhance": "much"}, "enhance is 'much'; expected a number"),
        ({"trust": None}, "trust is None; expected a number"),
        ({"trust": np.zeros(4)}, r"trust is of shape \(4,\); expected \(h, w\), or \(1, h, w\)"),
        ({"trust": np.zeros((2, 4, 4))}, r"trust is of shape \(2, 4, 4\)"),
        ({"trust": np.zeros((0, 4))}, r"trust is of shape \(0, 4\)"),
        ({"enhance": np.zeros((4, 4))}, r"enhance is of shape \(4, 4\); expected a number"),
        ({"thermal_mean": 0.5}, "thermal_mean follows the scene in this run; give it at the start to hold it"),
    ],
)
def test_inputs_that_do_not_fit_change_nothing(model: Path, inputs: dict[str, Any], message: str) -> None:
    fuse = LearnedLuminance(model=model, engine="auto", threads=1, inputs={"trust": 0.5})
    with pytest.raises(ConfigError, match=message):
        fuse.set_inputs({"enhance": 1.0, **inputs} if "enhance" not in inputs else inputs)
    assert fuse.inputs == {"enhance": 0.25, "trust": 0.5}


def test_a_successor_keeps_what_it_has_too(model: Path, tmp_path: Path) -> None:
    trust = np.eye(4)
    chosen = {"enhance": 1.0, "trust": trust, "thermal_mean": 0.3}
    fuse, alone = (LearnedLuminance(model=model, engine="auto", threads=1, inputs=chosen) for _ in range(2))
    for one in (fuse, alone):
        one(**levels(1), timestamp_ns=0)
    same = fuse.successor()
    np.testing.assert_array_equal(same.inputs["trust"], trust)
    assert {key: value for key, value in same.inputs.items() if key != "trust"} == {"enhance": 1.0, "thermal_mean": 0.3}
    np.testing.assert_array_equal(same(**levels(2), timestamp_ns=33 * MS), alone(**levels(2), timestamp_ns=33 * MS))
    np.testing.assert_array_equal(same.outputs["memory_next"], alone.outputs["memory_next"])
    dial = onnx_models.write(tmp_path / "dial.onnx", onnx_models.dial(), scalars={"enhance": onnx_models.ENHANCE})
    other = same.successor(model=dial)
    assert other.inputs == {"enhance": 1.0}
    back = other.successor(model=model, inputs={"trust": 0.5})
    assert back.inputs == {"enhance": 1.0, "trust": 0.5}
    back(**levels(2), timestamp_ns=66 * MS)
    anew = Reference()(levels(2), timestamp_ns=0, restart=True)["memory_next"]
    np.testing.assert_allclose(back.outputs["memory_next"], anew[0, :, :12, :16], atol=1e-5)
    for one in (fuse, alone, same, other, back):
        one.close()


# --- maps over the picture ---


@given(
    rows=st.integers(1, 40),
    columns=st.integers(1, 40),
    size_px=st.tuples(st.integers(1, 80), st.integers(1, 80)),
    scale=st.sampled_from([1, 2, 4, 8]),
)
def test_any_map_fits_any_picture(rows: int, columns: int, size_px: tuple[int, int], scale: int) -> None:
    shape = (1, 2, *(-(-length // 8) * 8 // scale for length in size_px[::-1]))
    ramp = np.linspace(0, 1, rows * columns, dtype=np.float32).reshape(rows, columns)
    fitted = fit_map(np.stack([ramp, np.ones_like(ramp)]), shape, size_px=size_px, scale=scale)
    assert fitted.shape == shape
    assert fitted[:, 0].min() >= -1e-5
    assert fitted[:, 0].max() <= 1 + 1e-5
    np.testing.assert_allclose(fitted[:, 1], 1, atol=1e-5)


def test_a_map_of_the_size_of_the_picture_is_averaged_exactly() -> None:
    rng = np.random.default_rng(0)
    picture = rng.random(ODD_PX[::-1], dtype=np.float32)
    padded = np.pad(picture, [(0, -length % 8) for length in picture.shape], mode="edge")
    exact = padded.reshape(12, 4, 16, 4).mean((1, 3))
    np.testing.assert_allclose(fit_map(picture, (1, 1, 12, 16), size_px=ODD_PX, scale=4)[0, 0], exact, atol=1e-6)


def test_a_map_of_the_size_of_the_grid_is_fed_as_it_is_and_fitted_once() -> None:
    grid = np.random.default_rng(0).random((12, 16), dtype=np.float32)
    np.testing.assert_array_equal(fit_map(grid, (1, 1, 12, 16), size_px=SIZE_PX, scale=4)[0, 0], grid)
    inputs = ModelInputs(onnx_models.contract(**REMEMBERING), model=Path("m.onnx"), chosen={"trust": grid})
    fitted = inputs.fed(size_px=SIZE_PX)["trust"]
    assert inputs.changed({"enhance": 1.0}).fed(size_px=SIZE_PX)["trust"] is fitted
    assert inputs.changed({"trust": grid}).fed(size_px=SIZE_PX)["trust"] is not fitted


# --- the fuser of a CUDA device, and TensorRT ---


@pytest.fixture
def on_device(trt: TensorRt, cuda: fake.FakeCuda, model: Path) -> Iterator[PairFuser[Any]]:
    device, telemetry = Device(), Telemetry()
    renderer = CudaRenderer(
        device=device,
        open_network=lambda path, size_px: tensorrt.open_stored(model=path, size_px=size_px, device=device),
        model=model,
        telemetry=telemetry,
    )
    fuse = PairFuser(renderer, gain=GainControl(), telemetry=telemetry)
    yield fuse
    fuse.close()
    assert cuda.live == {}


def on_host(model: Path) -> PairFuser[Any]:
    return host_fuser("learned", method=LearnedLuminance(model=model, engine="auto", threads=1))


def pair(index: int, time_ms: int, *, size_px: tuple[int, int] = ODD_PX) -> FramePair:
    images = levels(index, size_px)
    return FramePair(
        visible=make_frame(Band.VISIBLE, time_ms * MS, image=images["visible_y"]),
        thermal=make_frame(Band.THERMAL, time_ms * MS, image=images["thermal"]),
        sequence=index,
    )


def test_the_fuser_of_the_device_gives_what_the_hosts_gives(on_device: PairFuser[Any], model: Path) -> None:
    host, reference = on_host(model), Reference()
    for index, (time_ms, restart) in enumerate(zip(TIMES_MS, RESTARTS, strict=True)):
        expected = reference(levels(index), timestamp_ns=time_ms * MS, restart=restart)
        frames = [fuse(pair(index, time_ms)).image for fuse in (host, on_device)]
        for image in frames:
            assert np.abs(image[..., 0] - expected["fused_y"]).max() <= 0.5 + 1e-3
        np.testing.assert_array_equal(*frames)
        device_model = on_device._ready.plan.model
        for key in ("memory_next", "warm"):
            made = fake.floats(device_model.at[key], expected[key].size).reshape(expected[key].shape)
            np.testing.assert_allclose(made, expected[key], atol=1e-5)
    host.close()


def test_changes_of_maps_calibration_and_size_are_alike_on_host_and_device(
    on_device: PairFuser[Any], model: Path
) -> None:
    host = on_host(model)
    ramp = np.linspace(0, 1, 62)[None].repeat(45, axis=0)
    changes = {
        2: Change(inputs={"trust": ramp, "enhance": 1.0}),
        4: Change(inputs={"enhance": 0.5}),
        7: Change(model=model),
    }
    for index in range(10):
        if index in changes:
            for fuse in (host, on_device):
                fuse.change(changes[index])
        size_px = (24, 16) if index == 5 else ODD_PX
        one, other = (fuse(pair(index, 33 * index, size_px=size_px)).image for fuse in (host, on_device))
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(host.inputs["trust"], on_device.inputs["trust"])
    host.close()


def test_another_calibration_leaves_the_memory_as_it_is(on_device: PairFuser[Any], model: Path) -> None:
    from tests.cuda.test_fuser import shifted

    size_px = (36, 20)
    host, expected = on_host(model), Reference()
    for index in range(4):
        if index == 2:
            for fuse in (host, on_device):
                fuse.change(Change(calibration=shifted(0.0)))
        one, other = (fuse(pair(index, 33 * index, size_px=size_px)) for fuse in (host, on_device))
        assert np.abs(one.image.astype(int) - other.image).max() <= 1
        assert (other.calibration_id is None) == (index < 2)
        made = expected(levels(index, size_px), timestamp_ns=index * 33 * MS, restart=index == 0)["memory_next"]
    memory = fake.floats(on_device._ready.plan.model.at["memory"], made.size).reshape(made.shape)
    np.testing.assert_allclose(memory[0, 0], made[0, 0], atol=1e-5)
    host.close()


def test_tensorrt_builds_it_and_checks_all_of_its_outputs(trt: TensorRt, model: Path) -> None:
    for names_outputs in (True, False):
        trt.names_outputs = names_outputs
        engine = tensorrt.TensorRtEngine(model=model, size_px=SIZE_PX, precision="f32")
        inputs = golden_inputs(read_spec(model), size_px=SIZE_PX)
        expected = {key: value.astype(np.float32) for key, value in onnx_models.remembered(inputs).items()}
        check(engine.run(inputs=inputs), expected, arithmetic="f32")
        engine.close()
    assert trt.built == 1


def test_an_engine_whose_second_output_is_wrong_is_built_anew(
    trt: TensorRt, model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tensorrt.TensorRtEngine(model=model, size_px=SIZE_PX, precision="f32").close()
    store = EngineStore()
    (about,) = store.folder.glob("*.json")
    parts = json.loads(about.read_text())["parts"]
    stored = store.get(parts)
    assert stored is not None
    assert stored.golden.keys() == {"fused_y", "memory_next", "warm"}
    wrong = {**stored.golden, "warm": stored.golden["warm"] + 0.5}
    store.put(parts, stored._replace(golden=wrong), build_s=1)
    tensorrt.TensorRtEngine(model=model, size_px=SIZE_PX, precision="f32").close()
    assert "warm is 5.00e-01 away on average" in caplog.text
    assert trt.built == 2


def test_every_kind_of_port_is_in_this_model() -> None:
    kinds = {type(port) for port in REMEMBERING["inputs"].values()}
    assert kinds == {ImageInput, onnx_models.ScalarInput, MapInput, StateInput}
    assert {port.kind for port in REMEMBERING["outputs"].values()} == {"image", "state", "mask"}
    assert isinstance(REMEMBERING["outputs"]["fused_y"], Output)
