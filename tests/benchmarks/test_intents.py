"""The suite of intents on pictures of its own, and what its measures say of pictures that are known."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks import intents
from benchmarks.intents import axes
from benchmarks.intents.measures import MEASURES, Scene, contrast_of
from benchmarks.intents.scenes import pictures
from rtfusion.errors import ConfigError
from rtfusion.evaluate import schema
from rtfusion.intents import AXES
from rtfusion.types import Image8

SIZE = (120, 160)
PERSON = (60, 40, 20, 50)
"""Left, top, width and height."""


def bands(seed: int) -> tuple[Image8, Image8]:
    """A visible picture, dark below and hazy above, with a lamp; and a thermal one with somebody in it."""
    rng = np.random.default_rng(seed)
    texture = cv2.GaussianBlur(rng.normal(0, 1, SIZE), (0, 0), 1.5)
    texture /= texture.std()
    gray = np.where(np.arange(SIZE[0])[:, None] < 60, 150 + 5 * texture, 30 + 10 * texture)
    gray[70:90, 120:150] = 255
    visible = np.stack([gray - 8, gray, gray + 8], axis=2)
    warm = 60 + 10 * cv2.GaussianBlur(rng.normal(0, 1, SIZE), (0, 0), 4) / 0.07
    left, top, width, height = PERSON
    warm[top : top + height, left : left + width] = 210
    return np.clip(visible, 0, 255).astype(np.uint8), np.clip(warm, 0, 255).astype(np.uint8)


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    for name, seed in (("msrs", 1),):
        visible, thermal = bands(seed)
        for band, image in (("vi", visible), ("ir", thermal)):
            folder = tmp_path / "data" / "eval" / name / band
            folder.mkdir(parents=True)
            cv2.imwrite(str(folder / f"{seed}.png"), image)
    labels = tmp_path / "data" / "labels"
    labels.mkdir()
    (labels / "msrs_eval.json").write_text(json.dumps({"1": {"both": [["person", *map(float, PERSON)]]}}))
    return tmp_path


@pytest.mark.slow
def test_every_axis_is_measured(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(axes, "NOISY_FRAMES", 2)
    target = tmp_path / "intents.json"
    intents.SUITE.main(["--shared", str(shared), "--case", "axes", "--json", str(target)])
    rows = schema.load(target)["rows"]
    found = {(row["subject"], row["figure"]): row["value"] for row in rows}
    assert found["all axes at 0", "largest difference"] == 0
    for axis in set(AXES) - {"vehicles"}:
        assert found[axis, "right sign at 1"] == found[axis, "right sign at -1"] == found[axis, "monotone"] == 1.0, axis
    assert found["people", "contrast at 1 to that at 0, boxes given"] > 1.15
    assert found["people", "change outside, levels"] < 0.5
    assert {row["measure"] for row in rows if "measure" in row} == set(MEASURES) - {"vehicles"}
    assert all(found[axis, f"cross-talk on {axis}"] == 1.0 for axis in set(MEASURES) - {"vehicles"})
    assert "| preset firefighter | 1 |" in capsys.readouterr().out


def test_no_pictures_are_said_to_be_none(shared: Path) -> None:
    for path in (shared / "data" / "eval").rglob("*.png"):
        path.unlink()
    with pytest.raises(ConfigError, match="there are no pictures in"):
        next(pictures(shared, every=1))


def test_measures_say_what_they_are_for() -> None:
    visible, thermal = bands(3)
    scene = Scene(visible=visible, thermal=thermal, people=(PERSON,))
    as_thermal = cv2.cvtColor(thermal, cv2.COLOR_GRAY2BGR)
    assert (MEASURES["thermal"](as_thermal, scene) or 0) > 0 > (MEASURES["thermal"](visible, scene) or 0)
    assert (contrast_of(as_thermal, (PERSON,), scene) or 0) > 100 > (contrast_of(visible, (PERSON,), scene) or 0)
    beyond = MEASURES["people"](as_thermal, scene)
    assert beyond is not None
    assert abs(beyond) < 1e-3, "a mix of both bands shows nobody beyond themselves"
    assert MEASURES["vehicles"](visible, scene) is None
    gray = cv2.cvtColor(cv2.cvtColor(visible, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    assert MEASURES["color"](gray, scene) == 0.0
    assert MEASURES["color"](gray, Scene(visible=gray, thermal=thermal)) is None
    soft = cv2.GaussianBlur(visible, (0, 0), 2.0)
    for axis in ("detail", "clear_haze"):
        assert (MEASURES[axis](soft, scene) or 9) < (MEASURES[axis](visible, scene) or -9)
    assert (MEASURES["background"](soft, scene) or -99) > (MEASURES["background"](visible, scene) or 99)
