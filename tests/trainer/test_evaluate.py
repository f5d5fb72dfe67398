"""What is measured of a model, on models with known arithmetic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="the trainer needs torch: pip install -e '.[train]'")

from rtfusion_trainer.card import card
from rtfusion_trainer.evaluate import evaluate, scores

from rtfusion.errors import ConfigError
from rtfusion.evaluate import metrics
from rtfusion.evaluate.metrics import NOISE_SIGMA
from tests import onnx_models
from tests.training_data import write_pairs

SIZES = {"night/a": (150, 160), "night/b": (90, 100), "day/a": (64, 72)}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "data", SIZES)


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """A picture that moves one pixel to the right with every frame, in both bands, as folders of frames."""
    random = np.random.default_rng(1)
    for band in ("vi", "ir"):
        folder = tmp_path / "clips" / "walk" / band
        folder.mkdir(parents=True)
        whole = cv2.GaussianBlur(random.random((96, 140)), (0, 0), 3)
        whole = cv2.normalize(whole, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
        for index in range(4):
            cv2.imwrite(str(folder / f"{index:04d}.png"), whole[:, 20 - index : 140 - index])
    return tmp_path / "clips"


def model(path: Path, kind: Any = None, **changes: Any) -> Path:
    return onnx_models.write(path, kind or onnx_models.average(), **changes)


def read(data: Path, name: str) -> dict[str, Any]:
    group, stem = name.split("/")
    files = {"visible": data / group / "vi" / f"{stem}.png", "thermal": data / group / "ir" / f"{stem}.png"}
    return {band: cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for band, path in files.items()}


def test_sets_have_the_means_of_the_metrics_and_references_stand_beside(tmp_path: Path, data: Path) -> None:
    path = model(tmp_path / "average.onnx")
    result = evaluate(path, data=data, references=("average", "maximum"), threads=1)
    assert {name: entry["pairs"] for name, entry in result["sets"].items()} == {"day": 1, "night": 2}
    expected = []
    for name in ("night/a", "night/b"):
        pair = read(data, name)
        fused = np.rint((pair["visible"].astype(float) + pair["thermal"]) / 2).astype(np.uint8)
        expected.append(metrics.image_metrics(fused=fused, **pair))
    cases = result["sets"]["night"]["cases"]
    for metric in ("SD", "Qabf", "SSIM", "VIF"):
        assert cases["student"][metric] == pytest.approx(np.mean([row[metric] for row in expected]), rel=0.01)
        assert cases["student"][metric] == pytest.approx(cases["average"][metric], rel=0.01)
    assert cases["maximum"]["EN"] != cases["student"]["EN"]
    assert result["leak"] == {"as it is": 0.0}
    assert scores(result)["night"] == {name: value for name, value in cases["student"].items() if value is not None}


def test_a_clip_that_only_moves_is_steady_and_a_mean_of_two_noises_is_less(tmp_path: Path, clips: Path) -> None:
    path = model(tmp_path / "average.onnx")
    clip = evaluate(path, clips=clips, threads=1)["clips"]["walk"]
    assert clip["frames"] == 4
    assert clip["warp_error"]["student"] < 0.1
    assert clip["warp_error"].keys() == {"visible", "student", "pyramid"}
    assert clip["noise"]["visible"] == pytest.approx(NOISE_SIGMA, rel=0.05)
    assert clip["noise"]["student"] == pytest.approx(NOISE_SIGMA / np.sqrt(2), rel=0.05)
    assert evaluate(path, clips=clips, threads=1, frames=2)["clips"]["walk"]["frames"] == 2


def test_the_dial_is_the_default_or_the_one_asked_for_and_leaks_are_measured_along_it(
    tmp_path: Path, data: Path
) -> None:
    path = model(tmp_path / "dial.onnx", onnx_models.dial(), scalars={"enhance": onnx_models.ENHANCE})
    given: dict[str, Any] = {"data": data, "references": (), "threads": 1}
    result = evaluate(path, enhance=1.0, **given)
    thermal = read(data, "day/a")["thermal"]
    assert result["sets"]["day"]["cases"]["student"]["SD"] == pytest.approx(thermal.std(), rel=1e-3)
    assert result["settings"]["enhance"] == 1.0
    assert result["leak"] == {"0": 0.0, "0.25": 0.0, "1": 0.0}
    assert evaluate(path, limit=1, **given)["settings"]["enhance"] == 0.25


def test_another_precision_is_the_difference_of_the_means(tmp_path: Path, data: Path) -> None:
    path, other = model(tmp_path / "a.onnx"), model(tmp_path / "b.onnx", onnx_models.affine(visible=1, thermal=0))
    result = evaluate(path, data=data, parity=[path, other], threads=1)
    assert set(result["parity"]["a.onnx"]["night"].values()) == {0.0}
    alone = evaluate(other, data=data, threads=1)["sets"]["night"]["cases"]["student"]
    expected = alone["VIF"] - result["sets"]["night"]["cases"]["student"]["VIF"]
    assert result["parity"]["b.onnx"]["night"]["VIF"] == pytest.approx(expected)


def test_a_checkpoint_is_exported_first(tmp_path: Path, data: Path) -> None:
    import torch
    from rtfusion_trainer.config import TrainingConfig
    from rtfusion_trainer.distill import Run

    Run(TrainingConfig(), device=torch.device("cpu")).save(tmp_path / "checkpoint.pt")
    result = evaluate(tmp_path / "checkpoint.pt", data=data, limit=1, references=(), threads=1)
    assert result["model"]["file"] == "checkpoint.pt"
    assert result["model"]["name"] == "small"
    assert result["leak"] == {"0": 0.0, "0.5": 0.0, "1": 0.0}


def test_what_cannot_be_measured_on_is_refused(tmp_path: Path, data: Path) -> None:
    path = model(tmp_path / "a.onnx")
    with pytest.raises(ConfigError, match="nothing to evaluate on"):
        evaluate(path)
    with pytest.raises(ConfigError, match="holds no clips"):
        evaluate(path, clips=tmp_path / "none")
    with pytest.raises(ConfigError, match="overlay paints in a palette"):
        evaluate(path, data=data, references=("overlay",))


def test_the_card_says_everything_that_was_measured(tmp_path: Path, data: Path, clips: Path) -> None:
    contract = {"data": ("street (CC0)", "yard (MIT)"), "teachers": ("faithful-0123abcd",), "license": "Apache-2.0"}
    path = model(tmp_path / "dial.onnx", onnx_models.dial(), scalars={"enhance": onnx_models.ENHANCE}, **contract)
    result = evaluate(path, data=data, clips=clips, parity=[path], threads=1)
    person = {"case": "learned", "class": "person", "set": "smoke", "boxes": 36, "f1": 0.9612, "precision": 1.0}
    vehicle = {**person, "class": "vehicle", "set": "road", "recall": 0.5}
    blind = {"case": "learned", "class": "visible-blind areas", "set": "smoke", "kept": 0.875}
    result["people"] = [{**person, "recall": None}, vehicle, blind]
    result["sets"]["night"] |= {"mean_rank": {"student": 1.25, "pyramid": 1.75}, "ranked_among": 2}
    text = card(result, notes=["blind in fog"])
    night = result["sets"]["night"]["cases"]["student"]
    for words in (
        "- street (CC0)\n- yard (MIT)",
        "Distilled from: faithful-0123abcd.",
        "License of the weights: Apache-2.0",
        "0.25 by default; measured at 0.25",
        f"| night (2) | student | {night['EN']:.3f} |",
        "| 1.250 |",
        "| walk (4) | student |",
        "| learned | smoke | 36 | 0.961 | 1.000 | - |",
        "| learned | smoke | 0.875 |",
        "| `dial.onnx` | night | +0.0000 |",
        "- blind in fog",
    ):
        assert words in text
    assert "road" not in text
    assert "None" not in text


def test_a_card_of_one_set_says_no_more(tmp_path: Path, data: Path) -> None:
    text = card(evaluate(model(tmp_path / "a.onnx"), data=data, limit=1, references=(), threads=1))
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## Data, teachers, license",
        "## Image quality",
    ]
    assert "Distilled from: nothing" in text


def test_a_model_that_ships_is_a_reference_too() -> None:
    from functools import partial

    from rtfusion_trainer.evaluate import _reference

    from rtfusion.models.shipping import shipped

    small = _reference("small", threads=1)
    assert isinstance(small, partial)
    assert small.keywords["model"] == shipped("small")
    assert _reference("pyramid", threads=1).__name__ == "open_luminance"
