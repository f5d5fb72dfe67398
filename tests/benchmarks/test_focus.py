"""The suite of focus on two generated pairs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import pytest

from benchmarks import focus
from rtfusion.errors import ConfigError
from rtfusion.synthetic import Scene
from rtfusion.types import Band
from tests.focus.networks import detector

SIZE_PX = (160, 120)
KINDS = {"person": "person", "vehicle": "car"}


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> argparse.Namespace:
    """Two pairs of the street, one by day and one by night, with the truth as labels."""
    monkeypatch.setattr(focus, "COST_FRAMES", 1)
    monkeypatch.setattr(focus, "COST_ROUNDS", 1)
    labels = {}
    for stem, kind in (("1D", "day"), ("2N", "night")):
        scene = Scene(kind=kind, seed=3, visible_size_px=SIZE_PX)
        for folder, band in (("vi", Band.VISIBLE), ("ir", Band.THERMAL)):
            path = tmp_path / "data" / folder / f"{stem}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), scene.render(band, 1.0))
        boxes = [(KINDS[one.kind], *one.box_px) for one in scene.targets(1.0) if one.hidden < 0.3]
        labels[stem] = {"both": [[kind, x0, y0, x1 - x0, y1 - y0] for kind, x0, y0, x1, y1 in boxes]}
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    return argparse.Namespace(
        data=tmp_path / "data",
        labels=tmp_path / "labels.json",
        detector=detector(tmp_path / "d.onnx", found=[(0, (4, 4, 20, 40), 0.9)]),
        frames=None,
    )


def test_every_way_is_measured_by_day_and_by_night_and_the_boxes_themselves_do_what_is_asked(
    options: argparse.Namespace,
) -> None:
    settings, rows = focus.measure(options)
    assert settings["pairs"] == 2
    cases = {(row["target"], row["case"], row.get("light")): row for row in rows}
    assert {light for _, _, light in cases} == {"day", "night", "all", None}
    for target in ("people", "vehicles"):
        known = cases[target, "boxes", "all"]
        assert known["contrast_gain"] > 0.1
        assert known["outside_levels"] < 0.5
        assert known["outside_ssim"] > 0.99
        assert known["overlap"] == 1
    assert cases["cost", "head", None]["cpu_ratio"] > 0
    assert "| boxes | night |" in focus.table({"rows": rows})


def test_pairs_that_are_not_there_are_told(options: argparse.Namespace, tmp_path: Path) -> None:
    options.data = tmp_path
    with pytest.raises(ConfigError, match="none of the labeled pairs"):
        focus.measure(options)
