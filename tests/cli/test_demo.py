"""``rtfusion demo``: the first thing that anybody runs."""

from __future__ import annotations

import json
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from rtfusion import Calibration
from rtfusion.evaluate.contact_sheet import CELL_HEIGHT_PX, GAP_PX, HEADER_PX, MARGIN_PX, draw_contact_sheet
from rtfusion.synthetic import KINDS

from .conftest import Main

FILMED = ["thermal-smoke-1s.mkv", "visible-smoke-1s.mp4"]
OWN_FILES = ["calibration.json", "contact-sheet.png", "fused.mp4", "stats.json", *FILMED]


def test_it_leaves_a_video_a_sheet_a_calibration_and_statistics(
    main_here: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "deep" / "demo"
    out.mkdir(parents=True)
    (out / "mine.txt").write_text("mine")
    (out / "fused.mp4").write_text("of an earlier demo")
    (tmp_path / "rtfusion.toml").write_text('fuser = "average"')

    monkeypatch.setenv("RTFUSION_LOOP", "x")

    code, said, err = main_here("demo", "--out", "deep/demo", "--seconds", "1")

    assert code == 0, err
    assert sorted(path.name for path in out.iterdir()) == sorted([*OWN_FILES, "mine.txt"])
    assert all(f"deep/demo/{name}" in said for name in OWN_FILES)
    assert "filmed 1 s of a synthetic street (smoke) with both cameras in" in err
    assert "with learned" in said, "neither settings file nor environment changes the demo"
    stats = json.loads((out / "stats.json").read_text())
    with av.open(str(out / "fused.mp4")) as container:
        frames = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    # the thermal stamps are 40 ms late, so the first thermal frame has no partner
    assert len(frames) == stats["fused"] == 29
    assert frames[0].shape == (480, 640, 3)
    assert stats["drops"]["thermal"]["no_partner"] == 1
    assert Calibration.load(out / "calibration.json").thermal_delay_ns == 40_000_000
    again = {path.name: path.stat().st_mtime_ns for path in out.iterdir() if path.name in FILMED}
    code, said, err = main_here("demo", "--out", "deep/demo", "--seconds", "1")
    assert code == 0, err
    assert "were filmed before" in err
    assert again == {path.name: path.stat().st_mtime_ns for path in out.iterdir() if path.name in FILMED}
    sheet = cv2.imread(str(out / "contact-sheet.png"))
    assert sheet.shape[0] == 2 * MARGIN_PX + HEADER_PX + 3 * CELL_HEIGHT_PX + 2 * GAP_PX


def test_an_unknown_scene_and_an_impossible_folder(main_here: Main, tmp_path: Path) -> None:
    code, _, err = main_here("demo", "--scene", "fog")
    assert code == 2
    assert all(kind in err for kind in KINDS)
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "rtfusion-demo").exists()
    (tmp_path / "file").write_text("")
    code, _, err = main_here("demo", "--out", "file/demo")
    assert code == 2
    assert err == "rtfusion: cannot make the folder file/demo: Not a directory; name another one with --out\n"


def test_the_sheet_shows_each_picture_where_it_belongs() -> None:
    def picture(level: int, height_px: int = 480, width_px: int = 640) -> np.ndarray:
        return np.full((height_px, width_px), level, dtype=np.uint8)

    rows = {
        f"{second} s": [picture(50 + second), picture(100 + second, 256, 320), picture(200 + second)]
        for second in (1, 2)
    }
    sheet = draw_contact_sheet(("visible", "thermal", "fused"), rows)
    for row, second in enumerate((1, 2)):
        line = sheet[MARGIN_PX + HEADER_PX + row * (CELL_HEIGHT_PX + GAP_PX) + CELL_HEIGHT_PX // 2]
        levels, counts = np.unique(line[:, 0], return_counts=True)
        widths_px = dict(zip(levels.tolist(), counts.tolist(), strict=True))
        assert (widths_px[50 + second], widths_px[100 + second], widths_px[200 + second]) == (400, 375, 400)
