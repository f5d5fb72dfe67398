from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch: pip install -e '.[train]'")
onnx = pytest.importorskip("onnx", reason="export needs onnx: pip install -e '.[train]'")

from rtfusion_trainer import export  # noqa: E402
from rtfusion_trainer.config import TrainingConfig  # noqa: E402
from rtfusion_trainer.distill import Run  # noqa: E402

from rtfusion.errors import ConfigError, ModelError  # noqa: E402
from rtfusion.fusion.learned import LearnedLuminance  # noqa: E402
from rtfusion.models import MapInput, Output, StateInput, find_model, read_spec  # noqa: E402
from rtfusion.models.layers import find_layers  # noqa: E402
from tests.training_data import write_pairs  # noqa: E402


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A checkpoint; only for reading."""
    run = Run(TrainingConfig(), device=torch.device("cpu"), teachers=("faithful-0123abcd",))
    generator = torch.Generator().manual_seed(0)
    for parameter in run.average.parameters():
        parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    folder = tmp_path_factory.mktemp("trained")
    run.save(folder / "checkpoint.pt")
    return folder / "checkpoint.pt"


@pytest.fixture(scope="module")
def exported(trained):
    """The model of it in full precision; only for reading."""
    (path,) = export.export(trained, trained.parent, license_id="MIT")
    export.stamp_scores(path, {"old": {"Qabf": 0.1}})
    return path


@pytest.mark.parametrize("precision", ["f32", "f16"])
def test_the_file_carries_its_contract_and_gives_what_pytorch_gives(trained, tmp_path, precision):
    ((path, difference),) = export.export(trained, tmp_path, precisions=[precision]).items()
    assert difference < export.TOLERANCES[precision]
    spec = read_spec(path)
    assert spec.name == "small"
    assert spec.scalars["enhance"].default == TrainingConfig().enhance_default
    assert spec.scores == {}
    assert spec.teachers == ("faithful-0123abcd",)


def test_the_dial_stands_where_it_is_told_to(trained, tmp_path):
    (path,) = export.export(trained, tmp_path, enhance=0.7)
    assert read_spec(path).scalars["enhance"].default == 0.7


def test_float16_is_half_the_size(trained, exported, tmp_path):
    (half,) = export.export(trained, tmp_path, precisions=["f16"])
    assert half.stat().st_size < 0.65 * exported.stat().st_size


def test_it_fuses_a_size_that_is_no_multiple_of_the_stride(exported):
    fuser = LearnedLuminance(model=exported, engine="openvino", threads=1, inputs={"enhance": 1.0})
    image = np.random.default_rng(0).integers(0, 256, (45, 83)).astype(np.uint8)
    fused = fuser(visible_y=image, thermal=image, timestamp_ns=0)
    fuser.close()
    assert fused.shape == (45, 83)
    assert fused.dtype == np.uint8


def test_the_runtime_keeps_the_means(exported, monkeypatch):
    monkeypatch.setattr("rtfusion.fusion.scene.CHANGED_LEVELS", 256.0)  # one scene, in less light
    images = [np.full((64, 64), gray, np.uint8) for gray in (200, 100)]

    def last(**options):
        fuser = LearnedLuminance(model=exported, engine="openvino", threads=1, **options)
        fused = [
            fuser(visible_y=image, thermal=image, timestamp_ns=n * 40_000_000).copy() for n, image in enumerate(images)
        ]
        fuser.close()
        return float(fused[-1].mean())

    alone, after_brighter = last(still=True), last()
    held = last(inputs={"visible_mean": 200 / 255, "thermal_mean": 200 / 255})
    assert abs(after_brighter - held) < abs(alone - held) / 4


def test_a_file_that_disagrees_is_not_written(trained, tmp_path, monkeypatch):
    monkeypatch.setitem(export.TOLERANCES, "f32", -1.0)
    with pytest.raises(ModelError, match="away from PyTorch"):
        export.export(trained, tmp_path)
    assert list(tmp_path.glob("*.onnx")) == []


def test_int8_has_q_and_dq_nodes_and_stays_near_pytorch(trained, tmp_path):
    pytest.importorskip("nncf", reason="INT8 needs nncf: pip install -e '.[quant]'")
    data = write_pairs(tmp_path / "data", {"set/a": (240, 320), "set/b": (200, 320)})
    told = {"trained_on": ("street (CC0)", "yard (MIT)"), "license_id": "Apache-2.0"}
    differences = export.export(trained, tmp_path / "new" / "models", precisions=("f32", "int8"), data=data, **told)
    assert [path.name for path in differences] == ["student-small.onnx", "student-small-int8.onnx"]
    assert all(difference <= 0.02 for difference in differences.values())
    kinds = [{node.op_type for node in onnx.load(path).graph.node} for path in differences]
    assert {"QuantizeLinear", "DequantizeLinear"} & kinds[0] == set()
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds[1]
    whole, in_parts = differences
    assert find_layers(whole) is None
    layers = find_layers(in_parts)
    assert layers is not None
    assert layers.visible_gains[0] < layers.visible_gains[1]
    for path in differences:
        assert read_spec(path).data == ("street (CC0)", "yard (MIT)")
        assert read_spec(path).license == "Apache-2.0"


def test_a_checkpoint_of_older_settings_is_exported_all_the_same(trained, tmp_path):
    state = torch.load(trained, weights_only=True)
    state["config"]["weights"]["forgotten"] = 1.0
    del state["scaler"], state["teachers"]
    torch.save(state, tmp_path / "older.pt")
    (path,) = export.export(tmp_path / "older.pt", tmp_path)
    assert read_spec(path).teachers == ()


def test_scores_leave_the_layers_as_they_are(tmp_path):
    path = Path(shutil.copy(find_model(Path("small"), precision="int8"), tmp_path))
    before = find_layers(path)
    export.stamp_scores(path, {"tno": {"Qabf": 0.5}})
    assert before is not None
    assert find_layers(path) == before


def test_scores_come_later_and_the_graph_stays(exported, tmp_path):
    path = Path(shutil.copy(exported, tmp_path))
    before = read_spec(path)
    assert before.scores == {"old": {"Qabf": 0.1}}
    export.stamp_scores(path, {"tno": {"Qabf": 0.5}})
    after = read_spec(path)
    assert after.scores == {"tno": {"Qabf": 0.5}}
    assert after.model_copy(update={"scores": before.scores, "id": before.id}) == before


def test_what_cannot_be_exported_is_refused(trained, tmp_path):
    with pytest.raises(ConfigError, match="--data"):
        export.export(trained, tmp_path, precisions=["int8"])
    with pytest.raises(ConfigError, match="no precision 'f8'"):
        export.export(trained, tmp_path, precisions=["f8"])
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot make the folder"):
        export.export(trained, tmp_path / "file", precisions=("f32",))


class Remembering(torch.nn.Module):
    """A student to come: it takes a map, remembers, and says where it is warm."""

    def forward(self, visible_y, thermal, enhance, trust, memory):
        slow = (memory + torch.nn.functional.avg_pool2d(thermal, 4)) / 2
        warm = torch.sigmoid(slow * trust)
        return visible_y + enhance * torch.nn.functional.interpolate(warm, scale_factor=4), slow, warm


def test_a_student_with_a_map_a_state_and_a_second_output(trained, tmp_path):
    inputs = {
        **export.student_inputs(enhance=0.5),
        "trust": MapInput(scale=4, default=1.0, minimum=0.0, maximum=1.0),
        "memory": StateInput(scale=4, initial=0.0, fed_from="memory_next", reset_after_s=1.0),
    }
    inputs = {name: port for name, port in inputs.items() if not name.endswith("_mean")}
    outputs = {
        "fused_y": Output(kind="image"), "memory_next": Output(kind="state", scale=4), "warm": Output(kind="mask", scale=4)
    }  # fmt: skip
    (path,) = export.export(trained, tmp_path)
    spec = read_spec(path)
    assert spec.contract()["schema"] == 1
    spec = spec.model_copy(update={"inputs": inputs, "outputs": outputs})
    model = export.with_contract(export.traced(Remembering().eval(), inputs=inputs, outputs=outputs), spec)
    path.write_bytes(model.SerializeToString())
    assert read_spec(path).contract()["schema"] == 2
    fuser = LearnedLuminance(model=path, engine="openvino", threads=1)
    image = np.full((45, 83), 128, np.uint8)
    for index, memory in enumerate((64, 96, 112)):
        fuser(visible_y=image, thermal=image, timestamp_ns=33_000_000 * index)
        np.testing.assert_allclose(fuser.outputs["memory_next"], memory / 255, atol=1e-6)
    assert fuser.outputs["warm"].shape == (1, 12, 21)
    fuser.close()
