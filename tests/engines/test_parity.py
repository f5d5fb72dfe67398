"""Every engine and both fusers against float64 NumPy, on real pairs; tolerances stand in one table."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest

from rtfusion.engines import AUTO, open_engine
from rtfusion.engines.parity import TOLERANCES, check, difference, golden_inputs
from rtfusion.errors import EngineError
from rtfusion.fusion import open_method
from rtfusion.types import Band, FramePair
from tests import onnx_models
from tests.support import host_fuser, make_frame

HERE = (*AUTO, *(["pytorch"] if importlib.util.find_spec("torch") else []))
SIZE_PX = (64, 48)
PAIRS = 3
BT601_BGR = np.array([0.114, 0.587, 0.299])


@pytest.fixture(params=["synthetic", pytest.param("real", marks=pytest.mark.shared)])
def pairs(request: pytest.FixtureRequest) -> list[tuple[np.ndarray, np.ndarray]]:
    """Visible (H, W, 3) and thermal (H, W), uint8, of whole multiples of 8 pixels."""
    if request.param == "synthetic":
        rng = np.random.default_rng(0)
        size = (SIZE_PX[1], SIZE_PX[0])
        noise = [rng.integers(0, 256, (*size, 4)).astype(np.uint8) for _ in range(PAIRS)]
        return [(np.ascontiguousarray(image[..., :3]), np.ascontiguousarray(image[..., 3])) for image in noise]
    folder: Path = request.getfixturevalue("shared_data") / "eval" / "roadscene"
    found = sorted((folder / "vi").iterdir())[:PAIRS]
    loaded = []
    for path in found:
        visible = cv2.imread(str(path), cv2.IMREAD_COLOR)
        thermal = cv2.imread(str(next((folder / "ir").glob(f"{path.stem}.*"))), cv2.IMREAD_GRAYSCALE)
        assert visible is not None
        assert thermal is not None
        height, width = (side // 8 * 8 for side in thermal.shape)
        loaded.append((np.ascontiguousarray(visible[:height, :width]), np.ascontiguousarray(thermal[:height, :width])))
    assert len(loaded) == PAIRS, "nothing compared is a failure"
    return loaded


@pytest.mark.parametrize("name", HERE)
def test_every_engine_computes_what_float64_says(
    name: str, tmp_path: Path, pairs: list[tuple[np.ndarray, np.ndarray]]
) -> None:
    model = onnx_models.write(tmp_path / "model.onnx", onnx_models.stride_4(), stride=4)
    compared = 0
    for visible, thermal in pairs:
        planes = {"visible_y": cv2.cvtColor(visible, cv2.COLOR_BGR2GRAY), "thermal": thermal}
        tensors = {key: (plane / 255).astype(np.float32)[None, None] for key, plane in planes.items()}
        exact = onnx_models.blurred_mean(tensors["visible_y"][0, 0], tensors["thermal"][0, 0])
        engine = open_engine(name, model=model, size_px=thermal.shape[::-1], threads=1)
        check(engine.run(inputs=tensors), {"fused_y": exact[None, None]}, arithmetic="f32")
        engine.close()
        compared += exact.size
    assert compared > 0


@pytest.mark.parametrize("name", HERE)
def test_the_fuser_of_the_host_composes_what_float64_says(
    name: str, tmp_path: Path, pairs: list[tuple[np.ndarray, np.ndarray]]
) -> None:
    model = onnx_models.write(tmp_path / "model.onnx", onnx_models.dial(), scalars={"enhance": onnx_models.ENHANCE})
    fuse = host_fuser(
        "learned",
        method=open_method("learned", still=True, model=model, engine=name, threads=1, enhance=0.6, trust=False),
        color="everywhere",
    )
    for visible, thermal in pairs:
        frames = FramePair(
            visible=make_frame(Band.VISIBLE, 0, image=visible),
            thermal=make_frame(Band.THERMAL, 0, image=thermal),
            sequence=0,
        )
        luminance = visible.astype(np.float64) @ BT601_BGR
        fused = luminance + 0.6 * (thermal - luminance)
        exact = np.clip(visible + (fused - luminance)[..., None], 0, 255)
        # luminance, the fused luminance and their difference are whole gray levels
        assert np.abs(fuse(frames).image - exact).max() <= 1.5
    fuse.close()


# --- the comparison itself ---


@pytest.mark.parametrize("wrong", ["shape", "empty", "nan"])
def test_nothing_compared_is_a_failure(wrong: str) -> None:
    got = np.zeros((1, 1, 4, 4), np.float32)
    expected = {"shape": got[..., :2], "empty": got[..., :0], "nan": got * np.nan}[wrong]
    if wrong == "empty":
        got = got[..., :0]
    with pytest.raises(EngineError, match="nothing to compare"):
        difference(got, expected)


def test_what_is_too_far_away_is_said_with_figures() -> None:
    black = np.zeros((1, 1, 4, 4), np.float32)
    assert check({"fused_y": black}, {"fused_y": black + 1e-6}, arithmetic="f32").largest == pytest.approx(1e-6)
    with pytest.raises(EngineError, match=r"1\.00e-01 away on average .* f32 arithmetic allows 1e-05"):
        check({"fused_y": black}, {"fused_y": black + 0.1}, arithmetic="f32")
    for tolerance in TOLERANCES.values():
        assert 0 < tolerance.mean < tolerance.largest < 1


def test_the_golden_input_is_the_same_everywhere_and_has_something_to_compare() -> None:
    spec = onnx_models.contract(scalars={"enhance": onnx_models.ENHANCE})
    first, second = (golden_inputs(spec, size_px=SIZE_PX) for _ in range(2))
    assert first.keys() == {"visible_y", "thermal", "enhance"}
    for name, tensor in first.items():
        np.testing.assert_array_equal(tensor, second[name])
    assert first["visible_y"].std() > 0.1
    assert np.abs(first["visible_y"] - first["thermal"]).mean() > 0.1
