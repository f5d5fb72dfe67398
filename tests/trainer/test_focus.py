"""The head's training: labels, batches, steps that resume, and the file that comes out."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch: pip install -e '.[train]'")
pytest.importorskip("onnx", reason="export needs onnx: pip install -e '.[train]'")

from rtfusion_trainer.checkpoint import CHECKPOINT  # noqa: E402
from rtfusion_trainer.focus.config import FocusConfig  # noqa: E402
from rtfusion_trainer.focus.data import make_focus_batch, whole  # noqa: E402
from rtfusion_trainer.focus.exporting import export_head  # noqa: E402
from rtfusion_trainer.focus.labels import load_labeled_pairs  # noqa: E402
from rtfusion_trainer.focus.network import STRIDE, FocusHead, Inference  # noqa: E402
from rtfusion_trainer.focus.training import HEAD, FocusRun, measure, train_focus  # noqa: E402

from rtfusion.errors import ConfigError  # noqa: E402
from rtfusion.focus.head import Head  # noqa: E402
from rtfusion.focus.spec import read_head_spec  # noqa: E402
from tests.focus.networks import detector  # noqa: E402
from tests.focus.test_focus import registered  # noqa: E402

SIZE_PX = (160, 128)
TINY = "width = 8\ndepth = 8\ndilations = [1]\nsteps = 4\nbatch = 2\ncrop_px = [64, 64]\nsave_every = 2\n"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three pairs of warm people on cold ground: one labeled, one labeled in one band alone, one without labels."""
    labels = {
        "a": {"both": [["person", 40, 32, 24, 48], ["car", 96, 64, 48, 32], ["bicycle", 0, 0, 8, 8]]},
        "b": {
            "both": [["person", 40, 32, 24, 48]],
            "thermal": [["person", 41, 33, 24, 48], ["person", 100, 8, 20, 40]],
        },
    }
    for stem in ("a", "b", "c"):
        visible, thermal = np.full((*SIZE_PX[::-1], 3), 90, np.uint8), np.full(SIZE_PX[::-1], 40, np.uint8)
        thermal[32:80, 40:64] = 220
        for band, image in (("vi", visible), ("ir", thermal)):
            path = tmp_path / "data" / "set" / band / f"{stem}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), image)
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    (tmp_path / "tiny.toml").write_text(TINY)
    return tmp_path / "data"


def labeled(data: Path, **changes):
    given = {"labels": data.parent / "labels.json", "detector": None, "targets": ("people", "vehicles"), **changes}
    return load_labeled_pairs(data, **given)


def test_labels_become_boxes_by_target_and_what_one_band_alone_shows_may_be_one(data: Path) -> None:
    first, second = labeled(data)
    assert (first.name, first.checked, first.visible.shape) == ("a", True, (64, 80))
    assert first.boxes["people"].tolist() == [[0.25, 0.25, 0.4, 0.625]]
    assert first.boxes["vehicles"].tolist() == [[0.6, 0.5, 0.9, 0.75]]
    assert len(second.boxes["people"]) == len(second.maybe["people"]) == 1, "the one that both bands show is no other"


def test_a_detector_says_what_is_where_nobody_labeled(data: Path) -> None:
    path = detector(data.parent / "d.onnx", found=[(0, (16, 13, 26, 32), 0.9), (2, (40, 40, 60, 50), 0.2)])
    pairs = labeled(data, detector=path)
    assert [pair.checked for pair in pairs] == [True, True, False]
    assert pairs[2].boxes["people"] == pytest.approx(np.array([[0.25, 13 / 51.2, 26 / 64, 32 / 51.2]]), abs=1e-3)
    assert len(pairs[2].boxes["vehicles"]) == 0
    assert len(pairs[2].maybe["vehicles"]) == 1, "not sure enough to be taught, and no background either"


def test_what_teaches_nothing_is_refused(data: Path) -> None:
    with pytest.raises(ConfigError, match="name --labels, --detector or both"):
        labeled(data, labels=None)
    with pytest.raises(ConfigError, match="nothing here teaches 'dogs'"):
        labeled(data, targets=("dogs",))
    with pytest.raises(ConfigError, match="cannot read the labels"):
        labeled(data, labels=data / "none.json")
    (data / "bad.json").write_text('{"a": []}')
    with pytest.raises(ConfigError, match="the labels"):
        labeled(data, labels=data / "bad.json")
    (data / "other.json").write_text("{}")
    with pytest.raises(ConfigError, match="name a detector too"):
        labeled(data, labels=data / "other.json")


def test_a_whole_pair_shows_its_boxes_where_its_pictures_show_them(data: Path) -> None:
    visible, thermal, wanted, weight = whole(labeled(data)[0], ("people", "vehicles"))
    assert visible.shape == thermal.shape == wanted.shape[1:] == (32, 40)
    people = wanted[0] >= 0.5
    assert thermal[people].mean() > 0.7
    assert thermal[~people].mean() < 0.3
    assert weight.min() >= 0


def test_batches_are_alike_in_every_run_and_zooming_keeps_people_on_the_warm_places(data: Path) -> None:
    pairs = labeled(data)[:1]
    config = FocusConfig(batch=8, crop_px=(128, 96), toned=0, inverted=0, blank=0, noise=0)
    one, again, other = (make_focus_batch(pairs, config, step=step) for step in (3, 3, 4))
    for name, value in vars(one).items():
        assert torch.equal(value, getattr(again, name))
    assert not torch.equal(one.thermal, other.thermal)
    assert one.visible_y.shape == (8, 1, 24, 32)
    assert one.wanted.shape == one.weight.shape == (8, 2, 24, 32)
    people = (one.wanted[:, :1] > 0.9) & (one.weight[:, :1] > 0.5)
    assert people.any()
    assert (one.thermal[people] > 0.5).float().mean() > 0.9


def test_a_head_learns_where_people_are(data: Path) -> None:
    pairs = labeled(data)[:1]
    config = FocusConfig(width=8, depth=8, dilations=(1,), batch=4, crop_px=(128, 96), steps=120, learning_rate=1e-2)
    run = FocusRun(config)
    terms = [run.step(make_focus_batch(pairs, config, step=step))["loss"] for step in range(config.steps)]
    assert np.mean(terms[-10:]) < 0.5 * np.mean(terms[:10])
    assert measure(run.average.eval(), pairs, config.targets)["people"] > 0.5


def test_a_run_that_was_stopped_ends_with_the_weights_of_an_unbroken_one(data: Path) -> None:
    given = {
        "data": data,
        "preset": str(data.parent / "tiny.toml"),
        "labels": data.parent / "labels.json",
        "threads": 1,
    }
    train_focus(out=data.parent / "whole", **given)
    asked = iter([False, False, True])
    train_focus(out=data.parent / "parts", stop=lambda: next(asked), **given)
    train_focus(out=data.parent / "parts", **given)
    whole_run, parts = (
        HEAD.load_average(data.parent / name / CHECKPOINT)[0].state_dict() for name in ("whole", "parts")
    )
    assert all(torch.equal(value, parts[name]) for name, value in whole_run.items())
    with pytest.raises(ConfigError, match="other settings"):
        train_focus(out=data.parent / "parts", seed=5, **given)
    with pytest.raises(ConfigError, match="cannot read the checkpoint"):
        HEAD.load_average(data.parent / "none.pt")


def test_the_file_gives_what_pytorch_gives_and_runs_as_a_head(data: Path, tmp_path: Path) -> None:
    preset = data.parent / "tiny.toml"
    train_focus(data=data, out=tmp_path / "run", preset=str(preset), labels=data.parent / "labels.json", threads=1)
    path = export_head(
        tmp_path / "run" / CHECKPOINT,
        tmp_path / "out",
        trained_on=["three pairs (CC0)"],
        license_id="CC0-1.0",
        scores={"people": 0.123456},
    )
    spec = read_head_spec(path)
    assert path.name == "focus-small.onnx"
    assert (spec.targets, spec.stride, spec.data) == (("people", "vehicles"), STRIDE, ("three pairs (CC0)",))
    assert spec.scores == {"people": 0.1235}
    found = Head(model=path, threads=1).maps(registered(shape=(50, 66)))
    assert found["people"].shape == (13, 17)


def test_maps_stay_in_their_range_whatever_is_seen() -> None:
    maps = Inference(FocusHead(FocusConfig(width=8, depth=8, dilations=(1,)))).eval()
    for level in (0.0, 0.5, 1.0):
        flat = torch.full((1, 1, 16, 16), level)
        made = maps(flat, flat).detach()
        assert torch.isfinite(made).all()
        assert 0 <= float(made.min()) <= float(made.max()) <= 1


def test_the_preset_is_read_and_a_wrong_one_is_told(tmp_path: Path) -> None:
    assert HEAD.load_config("focus").targets == ("people", "vehicles")
    with pytest.raises(ConfigError, match="known: focus"):
        HEAD.load_config("gone")
    (tmp_path / "odd.toml").write_text("crop_px = [60, 64]\n")
    with pytest.raises(ConfigError, match="two multiples of 16"):
        HEAD.load_config(str(tmp_path / "odd.toml"))
