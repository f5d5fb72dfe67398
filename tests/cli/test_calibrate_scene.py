"""Calibration without a target, as its users start it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from rtfusion.clock import NS_PER_MS
from rtfusion.registration import Calibration
from tests.calibration.pictures import SIZE_PX, scene, similarity, view

from .conftest import Main

TRUTH = similarity(shift_px=(11.0, -6.0), turn_deg=2.0, scale=1.05)


def write(folder: Path, pictures: dict[str, np.ndarray]) -> str:
    folder.mkdir()
    for name, picture in pictures.items():
        cv2.imwrite(str(folder / f"{name}.png"), picture)
    return str(folder)


def test_two_folders_become_a_calibration(main_here: Main, tmp_path: Path) -> None:
    canvases = {"a": scene(1), "b": scene(2)}
    vis = write(tmp_path / "vi", {name: view(canvas, None) for name, canvas in canvases.items()})
    ir = write(tmp_path / "ir", {name: view(canvas, TRUTH) for name, canvas in canvases.items()})
    code, out, _ = main_here("calibrate", "scene", "--ir", ir, "--vis", vis, "--out", "rig.json")
    assert code == 0
    assert "patches in 2 of 2 pairs" in out
    rig = Calibration.load(tmp_path / "rig.json")
    assert rig.visible.size_px == SIZE_PX
    assert np.abs(rig.homography_px - TRUTH)[:2, 2].max() < 1.5
    code, _, err = main_here("calibrate", "scene", "--ir", ir, "--vis", vis, "--out", "rig.json")
    assert (code, "--overwrite" in err) == (2, True)
    code, _, err = main_here("calibrate", "delay", "--ir", ir, "--vis", vis, "--out", "rig.json")
    assert (code, "stills have no delay" in err) == (2, True)
    assert Calibration.load(tmp_path / "rig.json") == rig


def test_a_delay_is_measured_and_noted_beside_the_registration(main_here: Main, tmp_path: Path) -> None:
    street = "synthetic:?size=320x240&fps=30&frames=150"
    code, out, err = main_here(
        "calibrate", "delay", "--ir", f"{street}&delay_ms=80", "--vis", street, "--out", "rig.json"
    )
    assert code == 0, err
    assert "the thermal stamps are " in out
    assert abs(Calibration.load(tmp_path / "rig.json").thermal_delay_ns / NS_PER_MS - 80) < 10


def test_what_cannot_be_told_is_not_written(main_here: Main, tmp_path: Path) -> None:
    blank = np.full(SIZE_PX[::-1], 90, np.uint8)
    ir, vis = write(tmp_path / "ir", {"a": blank}), write(tmp_path / "vi", {"a": blank})
    code, out, err = main_here("calibrate", "scene", "--ir", ir, "--vis", vis, "--out", "rig.json")
    assert (code, out) == (2, "")
    assert "the scene does not determine the registration: only 0 patches have structure that both bands show" in err
    assert not (tmp_path / "rig.json").exists()
