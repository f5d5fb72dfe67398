"""The programs of examples/extend, as the pages on extending show them."""

from __future__ import annotations

import csv
import importlib.util
import os
import subprocess
import sys
from itertools import chain
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

import rtfusion
from rtfusion.types import Band
from tests.training_data import write_pairs

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples" / "extend"


def run(name: str, *arguments: str, folder: Path) -> str:
    paths = [str(ROOT), str(ROOT / "trainer"), *filter(None, sys.path)]
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_sink_of_ones_own_gets_every_frame(tmp_path: Path) -> None:
    run("sink.py", "figures.csv", folder=tmp_path)
    lines = list(csv.DictReader((tmp_path / "figures.csv").read_text().splitlines()))
    assert [int(line["sequence"]) for line in lines] == list(range(30))
    assert all(0 <= int(line["hottest_x"]) < 320 and 0 <= int(line["hottest_y"]) < 240 for line in lines)


def test_a_fuser_of_ones_own_makes_a_video(tmp_path: Path) -> None:
    run("fuser.py", "fused.mp4", folder=tmp_path)
    source = rtfusion.open_source(str(tmp_path / "fused.mp4"), band=Band.VISIBLE)
    frame = source.read(timeout_s=5.0)
    source.close()
    assert frame.image.shape == (240, 320, 3)
    assert frame.image.std() > 20


def test_a_camera_profile_of_ones_own_reads_temperatures(tmp_path: Path) -> None:
    assert run("camera_profile.py", folder=tmp_path) == "(48, 64) uint16 20.0 to 33.0 degrees Celsius\n"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_loss_punishes_what_a_warm_place_lacks_and_nothing_else() -> None:
    torch = pytest.importorskip("torch")
    warm_loss = example("loss").warm_loss
    thermal = torch.full((1, 1, 48, 48), 0.2)
    thermal[..., 20:28, 20:28] = 0.9
    shown = 0.85 * thermal + 0.1  # a step in brightness is none of its business
    assert warm_loss(shown, thermal=thermal).item() < 1e-6
    assert warm_loss(torch.full_like(thermal, 0.5), thermal=thermal).item() == pytest.approx(0.8, abs=0.01)


@pytest.mark.slow  # trains for some steps
def test_a_loss_of_ones_own_trains_and_falls(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    write_pairs(tmp_path / "data")
    options = {"--data": "data", "--steps": "31", "--width": "16", "--crop-px": "64", "--weight": "20", "--out": "run"}
    told = run("loss.py", *chain.from_iterable(options.items()), folder=tmp_path)
    *steps, where = told.splitlines()
    assert where == "saved in run/checkpoint.pt"
    from rtfusion_trainer.distill import load_average

    assert sum(weights.numel() for weights in load_average(tmp_path / "run" / "checkpoint.pt").parameters()) > 1000
    warm = [float(line.rpartition(" ")[2]) for line in steps]
    assert len(warm) == 4
    assert warm[-1] < 0.75 * warm[0]


def test_the_model_outside_gives_the_bytes_that_it_gives_inside(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    street = "synthetic:?scene=night&size=200x140"  # not a multiple of the stride
    with rtfusion.open_pairs(ir=street, vis=street) as pairs:
        pair = next(pairs)
    gray = cv2.cvtColor(pair.visible.image, cv2.COLOR_BGR2GRAY)
    cv2.imwrite(str(tmp_path / "vis.png"), gray)
    cv2.imwrite(str(tmp_path / "ir.png"), pair.thermal.image)
    model = ROOT / "rtfusion" / "models" / "student-small.onnx"
    run("onnx_outside.py", str(model), "vis.png", "ir.png", "fused.png", folder=tmp_path)
    outside = cv2.imread(str(tmp_path / "fused.png"), cv2.IMREAD_GRAYSCALE)
    inside = rtfusion.fuse(
        visible=gray,
        thermal=pair.thermal.image,
        engine="onnxruntime",
        precision="f32",
        trust=False,
        denoise="off",
        kernels=False,
    )
    assert np.array_equal(outside, inside[..., 0])


def test_outside_the_means_are_kept_over_frames_as_inside() -> None:
    pytest.importorskip("onnxruntime")
    street = "synthetic:?scene=smoke&size=160x120&frames=6"
    outside = example("onnx_outside").OutsideModel(str(ROOT / "rtfusion" / "models" / "student-small.onnx"))
    options = {"engine": "onnxruntime", "precision": "f32", "trust": False, "denoise": "off", "kernels": False}
    with rtfusion.open_pairs(ir=street, vis=street) as pairs, rtfusion.Fuser(**options) as inside:
        for pair in pairs:
            gray = cv2.cvtColor(pair.visible.image, cv2.COLOR_BGR2GRAY)
            ours = inside(visible=gray, thermal=pair.thermal.image, timestamp_ns=pair.timestamp_ns)
            theirs = outside(visible_y=gray, thermal=pair.thermal.image, stamp_s=pair.timestamp_ns / 1e9)
            assert np.abs(ours[..., 0].astype(int) - theirs).max() <= 1


def test_a_profile_of_ones_own_is_known_to_cameras_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from rtfusion.capture import profiles
    from rtfusion.capture.raw_stream import profile_name

    mine, before = example("camera_profile").PROFILE, dict(profiles.PROFILES)
    size_px = next(iter(mine.sizes))
    try:
        profiles.add_profile(mine)
        assert profiles.recognize(fourcc="Y16", size_px=size_px, usb_id=None).name == "mycam"
        assert profiles.is_thermal(name="webcam", usb_id="1234:5678")
        assert profile_name("mycam") == "mycam"
        with pytest.raises(rtfusion.ConfigError, match="there is a profile 'mycam' already"):
            profiles.add_profile(mine)
    finally:
        profiles.PROFILES.clear()
        profiles.PROFILES.update(before)
    assert profiles.recognize(fourcc="Y16", size_px=size_px, usb_id=None).name == "y16"
