from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from rtfusion.engines import AUTO
from rtfusion.errors import ConfigError, EngineUnavailable, ModelError
from rtfusion.evaluate.metrics import leak
from rtfusion.fusion import Painter, open_method
from rtfusion.fusion.learned import LearnedLuminance
from rtfusion.types import Image8
from tests import onnx_models


def pair(height_px: int = 48, width_px: int = 64, *, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    visible_y, thermal = rng.integers(0, 256, (2, height_px, width_px), dtype=np.uint8)
    return {"visible_y": visible_y, "thermal": thermal, "timestamp_ns": 0}


def learned(path: Path, model: onnx.ModelProto, *, engine: str = "auto", **changes: Any) -> LearnedLuminance:
    chosen = changes.pop("chosen", None)
    return LearnedLuminance(model=onnx_models.write(path, model, **changes), engine=engine, threads=1, inputs=chosen)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.onnx"


@pytest.mark.parametrize("engine", AUTO)
def test_gray_levels_in_and_out(path: Path, engine: str) -> None:
    fuse = learned(path, onnx_models.average(), engine=engine)
    frames = pair()
    fused = fuse(**frames)
    mean = (frames["visible_y"].astype(float) + frames["thermal"]) / 2
    assert fused.dtype == np.uint8
    assert np.abs(fused - mean).max() <= 0.5 + 1e-3
    fuse.close()


def test_every_gray_level_survives(path: Path) -> None:
    fuse = learned(path, onnx_models.affine(visible=1, thermal=0))
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(fuse(visible_y=levels, thermal=levels, timestamp_ns=0), levels)
    fuse.close()


def test_what_leaves_the_range_is_cut_off(path: Path) -> None:
    fuse = learned(path, onnx_models.affine(visible=3, thermal=0, offset=-1))
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    expected = np.clip(3 * levels.astype(float) - 255, 0, 255)
    np.testing.assert_array_equal(fuse(visible_y=levels, thermal=levels, timestamp_ns=0), expected)
    fuse.close()


@pytest.mark.parametrize("engine", AUTO)
@pytest.mark.parametrize(("height_px", "width_px"), [(48, 64), (45, 62), (41, 63), (3, 2), (1, 1)])
def test_pads_to_the_stride_by_repeating_the_edge(path: Path, engine: str, height_px: int, width_px: int) -> None:
    fuse = learned(path, onnx_models.stride_4(), engine=engine, stride=4)
    frames = pair(height_px, width_px)
    margins = ((0, -height_px % 4), (0, -width_px % 4))
    padded = [np.pad(frames[name], margins, mode="edge") for name in ("visible_y", "thermal")]
    expected = onnx_models.blurred_mean(*padded)[:height_px, :width_px]
    fused = fuse(**frames)
    assert fused.shape == (height_px, width_px)
    assert np.abs(fused - expected).max() <= 0.5 + 1e-3
    fuse.close()


def test_opens_anew_when_the_size_changes(path: Path) -> None:
    fuse = learned(path, onnx_models.stride_4(), stride=4)
    first = pair(32, 40)
    kept = fuse(**first).copy()
    assert fuse(**pair(50, 30)).shape == (50, 30)
    np.testing.assert_array_equal(fuse(**first), kept)
    fuse.close()


def test_the_result_is_one_buffer_for_frames_of_one_size(path: Path) -> None:
    fuse = learned(path, onnx_models.average())
    assert fuse(**pair()) is fuse(**pair(seed=1))
    fuse.close()


def test_takes_images_with_gaps_between_rows(path: Path) -> None:
    fuse = learned(path, onnx_models.affine(visible=1, thermal=0))
    wide = pair(20, 60)["visible_y"]
    np.testing.assert_array_equal(fuse(visible_y=wide[:, 10:31], thermal=wide[:, :21], timestamp_ns=0), wide[:, 10:31])
    fuse.close()


def test_remembers_nothing(path: Path) -> None:
    fuse = learned(path, onnx_models.stride_4(), stride=4)
    frames = pair(160, 200)

    def through(*, visible: Image8, thermal: Image8) -> Image8:
        return fuse(visible_y=visible, thermal=thermal, timestamp_ns=0)

    assert leak(fuse=through, visible=frames["visible_y"], thermal=frames["thermal"]) == 0
    fuse.close()


# --- scalars ---


@pytest.mark.parametrize(("chosen", "enhance"), [(None, 0.25), ({"enhance": 1.0}, 1.0), ({"enhance": 0}, 0.0)])
def test_a_scalar_is_its_default_or_what_was_chosen(
    path: Path, chosen: dict[str, float] | None, enhance: float
) -> None:
    fuse = learned(path, onnx_models.dial(), scalars={"enhance": onnx_models.ENHANCE}, chosen=chosen)
    frames = pair()
    visible_y, thermal = frames["visible_y"].astype(float), frames["thermal"]
    assert np.abs(fuse(**frames) - (visible_y + enhance * (thermal - visible_y))).max() <= 0.5 + 1e-3
    fuse.close()


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"enhanse": 0.5}, "takes no input 'enhanse'; did you mean enhance"),
        ({"night": 0.5}, "takes no input 'night'; it takes enhance"),
        ({"enhance": 1.5}, r"enhance is 1\.5; expected 0\.0 to 1\.0"),
        ({"enhance": float("nan")}, "enhance is nan"),
    ],
)
def test_scalars_that_do_not_fit(path: Path, chosen: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        learned(path, onnx_models.dial(), scalars={"enhance": onnx_models.ENHANCE}, chosen=chosen)


# --- what it says, and what is wrong early ---


def test_names_the_model_at_once_and_the_engine_from_the_first_frame(path: Path) -> None:
    fuse = learned(path, onnx_models.average(), engine="onnxruntime")
    assert fuse.model_id == hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    assert fuse.engine_description is None
    fuse(**pair())
    assert (fuse.engine_description or "").startswith("ONNX Runtime ")
    fuse.close()


def test_is_the_fuser_named_learned(path: Path) -> None:
    onnx_models.write(path, onnx_models.average())
    method = open_method("learned", still=False, model=path, engine="openvino", threads=1, trust=False)
    assert isinstance(method, LearnedLuminance)
    method.close()
    method.close()


def test_a_file_without_a_contract_is_found_before_the_first_frame(path: Path) -> None:
    path.write_bytes(onnx_models.average().SerializeToString())
    with pytest.raises(ModelError, match="carries no contract"):
        LearnedLuminance(model=path, engine="auto", threads=None)


def test_a_missing_engine_is_found_before_the_first_frame(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(EngineUnavailable, match=r"\.\[onnxruntime\]"):
        learned(path, onnx_models.average(), engine="onnxruntime")


def test_a_contract_with_too_small_a_stride(path: Path) -> None:
    fuse = learned(path, onnx_models.stride_4(), stride=2)
    with pytest.raises(ModelError, match="does not take 62x46 images"):
        fuse(**pair(45, 62))
    fuse.close()


def test_images_of_different_sizes(path: Path) -> None:
    fuse = learned(path, onnx_models.average())
    with pytest.raises(ValueError, match=r"visible is \(8, 8\), thermal \(8, 9\)"):
        fuse(visible_y=np.zeros((8, 8), np.uint8), thermal=np.zeros((8, 9), np.uint8), timestamp_ns=0)
    fuse.close()


def test_the_dial_reaches_the_model(path: Path) -> None:
    onnx_models.write(path, onnx_models.dial(), scalars={"enhance": onnx_models.ENHANCE})
    visible = np.full((8, 8), 100, np.uint8)
    thermal = np.full((8, 8), 50, np.uint8)
    results = set()
    for enhance in (0.0, 1.0):
        method = open_method("learned", still=False, model=path, enhance=enhance, threads=1, trust=False)
        assert not isinstance(method, Painter)
        results.add(int(method(visible_y=visible, thermal=thermal, timestamp_ns=0)[0, 0]))
        method.close()
    assert len(results) == 2
