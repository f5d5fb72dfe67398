from __future__ import annotations

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch: pip install 'rtfusion[train]'")
onnx = pytest.importorskip("onnx", reason="export needs onnx: pip install 'rtfusion[train]'")

from rtfusion.errors import ConfigError, ModelError  # noqa: E402
from rtfusion.fusion.learned import LearnedLuminance  # noqa: E402
from rtfusion.models import read_spec  # noqa: E402
from trainer import export  # noqa: E402
from trainer.config import TrainingConfig  # noqa: E402
from trainer.data import load_pairs  # noqa: E402
from trainer.distill import Run  # noqa: E402


@pytest.fixture
def trained(tmp_path):
    run = Run(TrainingConfig(), device=torch.device("cpu"))
    torch.nn.init.normal_(run.average.head.weight, std=0.05)
    run.save(tmp_path / "checkpoint.pt")
    return tmp_path / "checkpoint.pt"


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_the_file_carries_its_contract_and_gives_what_pytorch_gives(trained, tmp_path, precision):
    path = tmp_path / "small.onnx"
    difference = export.export(trained, path, precision=precision, scores={"tno": {"Qabf": 0.5}})
    assert difference < export.TOLERANCES[precision]
    spec = read_spec(path)
    assert spec.name == "small"
    assert spec.scalars["enhance"].default == TrainingConfig().enhance_default
    assert spec.scores == {"tno": {"Qabf": 0.5}}


def test_float16_is_half_the_size(trained, tmp_path):
    export.export(trained, tmp_path / "a.onnx")
    export.export(trained, tmp_path / "b.onnx", precision="float16")
    assert (tmp_path / "b.onnx").stat().st_size < 0.65 * (tmp_path / "a.onnx").stat().st_size


def test_it_fuses_a_size_that_is_no_multiple_of_the_stride(trained, tmp_path):
    export.export(trained, tmp_path / "small.onnx")
    fuser = LearnedLuminance(model=tmp_path / "small.onnx", engine="openvino", threads=1, scalars={"enhance": 1.0})
    image = np.random.default_rng(0).integers(0, 256, (45, 83)).astype(np.uint8)
    fused = fuser(visible_y=image, thermal=image, timestamp_ns=0)
    fuser.close()
    assert fused.shape == (45, 83)
    assert fused.dtype == np.uint8


def test_the_runtime_keeps_the_means(trained, tmp_path):
    export.export(trained, tmp_path / "small.onnx")
    images = [np.full((64, 64), gray, np.uint8) for gray in (200, 100)]

    def last(**options):
        fuser = LearnedLuminance(model=tmp_path / "small.onnx", engine="openvino", threads=1, **options)
        fused = [
            fuser(visible_y=image, thermal=image, timestamp_ns=n * 40_000_000).copy() for n, image in enumerate(images)
        ]
        fuser.close()
        return float(fused[-1].mean())

    alone, after_brighter = last(still=True), last()
    held = last(scalars={"visible_mean": 200 / 255, "thermal_mean": 200 / 255})
    assert abs(after_brighter - held) < abs(alone - held) / 4


def test_a_file_that_disagrees_is_not_written(trained, tmp_path, monkeypatch):
    monkeypatch.setitem(export.TOLERANCES, "float32", -1.0)
    with pytest.raises(ModelError, match="away from PyTorch"):
        export.export(trained, tmp_path / "small.onnx")
    assert list(tmp_path.glob("*.onnx")) == []


def test_int8_stays_near_pytorch(trained, tmp_path):
    pytest.importorskip("nncf", reason="INT8 needs nncf: pip install 'rtfusion[quant]'")
    rng = np.random.default_rng(0)
    for band in ("vi", "ir"):
        (tmp_path / "set" / band).mkdir(parents=True)
        for index in range(4):
            cv2.imwrite(
                str(tmp_path / "set" / band / f"{index}.png"), rng.integers(0, 256, (240, 320)).astype(np.uint8)
            )
    pairs = load_pairs(tmp_path)
    export.export(trained, tmp_path / "small.onnx", precision="int8", pairs=pairs)
    assert (tmp_path / "small.onnx").exists()


def test_the_contract_says_what_it_was_trained_on(trained, tmp_path):
    out = tmp_path / "small.onnx"
    command = ["--checkpoint", str(trained), "--out", str(out), "--trained-on", "street (CC0)", "yard (MIT)"]
    assert export.main([*command, "--license", "Apache-2.0"]) == 0
    assert read_spec(out).data == ("street (CC0)", "yard (MIT)")
    assert read_spec(out).license == "Apache-2.0"


def test_int8_asks_for_data(trained, tmp_path):
    with pytest.raises(ConfigError, match="--data"):
        export.export(trained, tmp_path / "small.onnx", precision="int8")
