"""Engines as the fuser of the host uses them, held against numpy and against themselves in floating point."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtfusion.engines import AUTO, open_engine, open_gray_engine
from rtfusion.engines.parity import TOLERANCES
from rtfusion.errors import EngineError, EngineUnavailable
from rtfusion.types import Image8
from tests import onnx_models

HERE = (*AUTO, *(["pytorch"] if importlib.util.find_spec("torch") else []))
SIZE_PX = (24, 16)


def levels(size_px: tuple[int, int] = SIZE_PX, *, seed: int = 0) -> dict[str, Image8]:
    rng = np.random.default_rng(seed)
    return {name: rng.integers(0, 256, size_px[::-1], dtype=np.uint8) for name in ("visible_y", "thermal")}


@pytest.fixture(params=HERE)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("size_px", [(24, 16), (13, 7), (1, 1), (30, 18), (640, 480)])
def test_any_size_is_padded_to_the_stride_by_its_edge(name: str, tmp_path: Path, size_px: tuple[int, int]) -> None:
    model = onnx_models.write(tmp_path / "model.onnx", onnx_models.stride_4(), stride=4)
    engine = open_gray_engine(name, model=model, size_px=size_px, threads=1)
    images = levels(size_px)
    padding = [(0, -length % 4) for length in size_px[::-1]]
    padded = {key: np.pad(image, padding, mode="edge") / 255 for key, image in images.items()}
    exact = 255 * onnx_models.blurred_mean(padded["visible_y"], padded["thermal"])[: size_px[1], : size_px[0]]
    fused = engine.run(images=images, inputs={})["fused_y"]
    assert fused.dtype == np.uint8
    assert fused.shape == size_px[::-1]
    assert np.abs(fused - exact).max() <= 0.5 + 255 * TOLERANCES["f32"].largest
    engine.close()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1), enhance=st.floats(0, 1))
def test_it_is_the_engine_in_floating_point(name: str, tmp_path: Path, seed: int, enhance: float) -> None:
    model = tmp_path / "model.onnx"
    if not model.exists():
        onnx_models.write(model, onnx_models.dial(), scalars={"enhance": onnx_models.ENHANCE})
    gray = open_gray_engine(name, model=model, size_px=SIZE_PX, threads=1)
    engine = open_engine(name, model=model, size_px=SIZE_PX, threads=1)
    images = levels(seed=seed)
    tensors = {key: (image[None, None] / 255).astype(np.float32) for key, image in images.items()}
    unit = engine.run(inputs={**tensors, "enhance": np.full((1, 1, 1, 1), enhance, np.float32)})["fused_y"][0, 0]
    assert np.abs(gray.run(images=images, inputs={"enhance": enhance})["fused_y"] - 255 * unit).max() <= 0.5 + 1e-3
    gray.close()
    engine.close()


def test_images_with_gaps_or_read_only_are_taken(name: str, tmp_path: Path) -> None:
    model = onnx_models.write(tmp_path / "model.onnx", onnx_models.affine(visible=1, thermal=0))
    engine = open_gray_engine(name, model=model, size_px=SIZE_PX, threads=1)
    wide = levels((2 * SIZE_PX[0], SIZE_PX[1]))["visible_y"]
    gaps, locked = wide[:, ::2], levels(seed=2)["visible_y"]
    locked.flags.writeable = False
    for image in (gaps, locked, gaps):
        np.testing.assert_array_equal(
            engine.run(images={"visible_y": image, "thermal": locked}, inputs={})["fused_y"], image
        )
    engine.close()


def test_frames_that_come_and_go_are_never_mixed(name: str, tmp_path: Path) -> None:
    """The engine reads frames in place: each must live as long as it is read, and not be taken for the next one."""
    model = onnx_models.write(tmp_path / "model.onnx", onnx_models.affine(visible=1, thermal=0))
    engine = open_gray_engine(name, model=model, size_px=(640, 480), threads=1)
    for value in range(0, 256, 5):
        image = np.full((480, 640), value, np.uint8)
        assert (engine.run(images={"visible_y": image, "thermal": image.copy()}, inputs={})["fused_y"] == value).all()
    engine.close()


def test_what_does_not_fit_is_an_error_and_the_next_run_is_right(name: str, tmp_path: Path) -> None:
    model = onnx_models.write(tmp_path / "model.onnx", onnx_models.average())
    engine = open_gray_engine(name, model=model, size_px=SIZE_PX, threads=1)
    images = levels()
    with pytest.raises(EngineError, match="visible_y"):
        engine.run(images={"visible_y": images["visible_y"]}, inputs={})["fused_y"]
    with pytest.raises(EngineError, match="enhance"):
        engine.run(images=images, inputs={"enhance": 0.5})
    exact = (images["visible_y"].astype(float) + images["thermal"]) / 2
    assert np.abs(engine.run(images=images, inputs={})["fused_y"] - exact).max() <= 0.5 + 1e-3
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.run(images=images, inputs={})["fused_y"]


def test_an_engine_that_does_not_load_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = onnx_models.write(tmp_path / "model.onnx", onnx_models.average())
    monkeypatch.setitem(sys.modules, "rtfusion.engines.openvino", None)
    with pytest.raises(EngineUnavailable, match="fails to load"):
        open_gray_engine("openvino", model=model, size_px=SIZE_PX)


# --- in which floating point ---


def test_weights_in_half_precision_are_computed_in_it_where_the_processor_can(tmp_path: Path) -> None:
    openvino = pytest.importorskip("rtfusion.engines.openvino")
    from rtfusion.models.shipping import shipped

    expected = "f16" if openvino.computes_in_half() else "f32"
    for precision, arithmetic in (("f16", expected), ("f32", "f32"), ("int8", "int8 and f32")):
        model = shipped("small", precision=precision)
        for opened in (
            open_engine("openvino", model=model, size_px=(64, 48), threads=1),
            open_gray_engine("openvino", model=model, size_px=(64, 48), threads=1),
        ):
            assert f" CPU {arithmetic}, 1 thread" in opened.description
            opened.close()


@pytest.mark.parametrize("name", ["small", "large"])
def test_what_is_quantized_is_not_computed_in_half_since_that_does_not_compile(name, monkeypatch):
    """OpenVINO 2026.4 compiles no quantized network in f16, and files for GPUs hold weights in it."""
    openvino = pytest.importorskip("rtfusion.engines.openvino")
    from rtfusion.models.shipping import shipped

    monkeypatch.setattr(openvino, "computes_in_half", lambda: True)
    model = shipped(name, precision="gpu-int8")
    opened = open_engine("openvino", model=model, size_px=(64, 48), threads=1)
    assert " CPU int8 and f32, 1 thread" in opened.description
    opened.close()
