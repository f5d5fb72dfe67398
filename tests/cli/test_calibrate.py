"""The commands, from rendered pictures of a board to files and reports."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from rtfusion.errors import CalibrationError, ConfigError
from rtfusion.registration import Calibration
from rtfusion.types import Band
from tests.calibration.rigs import make_rig, placements, render
from tests.cli.conftest import Main

BOARD = ("--board", "chessboard:9x6", "--square-mm", "40")


def small_rig() -> Calibration:
    rig = make_rig(visible_distortion=None, thermal_distortion=None)
    return rig.scaled(visible_size_px=(640, 480), thermal_size_px=(320, 256))


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of seven pairs; the board stands still in each, and one of them shows none."""
    folder = tmp_path_factory.mktemp("views")
    rig = small_rig()
    for band in Band:
        (folder / band.value).mkdir()
        for index, placement in enumerate(placements(6, seed=5, tilt_deg=28)):
            image = render(rig, placement, band, thermal_like=band is Band.THERMAL, seed=index)
            cv2.imwrite(str(folder / band.value / f"{index}.png"), image)
        blank = np.full_like(image, 20_000 if band is Band.THERMAL else 90)
        cv2.imwrite(str(folder / band.value / "6.png"), blank)
    return folder


@pytest.fixture(scope="module")
def solved(recording: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A calibration made by the command, and what it said."""
    from typer.testing import CliRunner

    from rtfusion.cli.app import app

    out = tmp_path_factory.mktemp("rig") / "rig.json"
    sources = ("--ir", str(recording / "thermal"), "--vis", str(recording / "visible"))
    result = CliRunner().invoke(app, ["calibrate", "board", *sources, *BOARD, "--distance-m", "4", "--out", str(out)])
    assert result.exit_code in (0, CalibrationError.exit_code), result.output
    return out, result.output


def test_board_writes_a_calibration_and_a_report(solved: tuple[Path, str]) -> None:
    out, said = solved
    rig, truth = Calibration.load(out), small_rig()
    assert rig.quality is not None
    assert rig.quality.views == 6
    assert rig.distance_m == 4.0
    corners = np.array([[[0.0, 0.0], [319, 0], [319, 255], [0, 255], [160, 128]]])
    off = cv2.perspectiveTransform(corners, rig.homography_px) - cv2.perspectiveTransform(
        corners, truth.at_distance(4.0).homography_px
    )
    assert np.linalg.norm(off[0, -1]) < 4.0
    page = out.with_suffix(".html").read_text()
    assert page.count('class="row"') >= 4
    assert "looked at 7 pairs, took 6 views" in said or "registration" in said


def test_check_tells_the_figures_and_ends_by_the_verdict(
    main_here: Main, recording: Path, solved: tuple[Path, str]
) -> None:
    sources = ("--ir", str(recording / "thermal"), "--vis", str(recording / "visible"))
    code, out, err = main_here("calibrate", "check", str(solved[0]), *sources, *BOARD, "--report", "check.html")
    assert code in (0, 2), err
    assert "error" in out
    assert "report: check.html" in out
    code, _, err = main_here("calibrate", "check", str(solved[0]), *sources, "--report", "check.html")
    assert code == ConfigError.exit_code
    assert "check.html exists" in err


def test_export_and_import_give_the_same_registration(
    main_here: Main, tmp_path: Path, solved: tuple[Path, str]
) -> None:
    rig = Calibration.load(solved[0])
    code, out, err = main_here("calibrate", "export", str(solved[0]), "--opencv", "rig.yml", "--ros", "ros")
    assert (code, out.split()) == (0, ["rig.yml", "ros/visible.yaml", "ros/thermal.yaml"]), err
    ros = ("--ros-ir", "ros/thermal.yaml", "--ros-vis", "ros/visible.yaml")
    for name, source in (("a.json", ("--opencv", "rig.yml")), ("b.json", ros)):
        assert main_here("calibrate", "import", *source, "--distance-m", "4", "--out", name)[0] == 0
        np.testing.assert_allclose(Calibration.load(tmp_path / name).homography_px, rig.homography_px, atol=1e-6)
    assert "name what to read" in main_here("calibrate", "import", "--out", "c.json")[2]


def test_what_cannot_work_is_said_before_the_work(main_here: Main, tmp_path: Path, recording: Path) -> None:
    def refused(*options: str, pairs: Path = recording) -> str:
        sources = ("--ir", str(pairs / "thermal"), "--vis", str(pairs / "visible"))
        code, _, err = main_here("calibrate", "board", *sources, "--square-mm", "40", *options)
        assert code == 2, err
        return err

    assert "expected for example chessboard:9x6" in refused("--board", "chess:9x6", "--out", "rig.json")
    (tmp_path / "rig.json").write_text("{}")
    assert "rig.json exists" in refused("--board", "chessboard:9x6", "--out", "rig.json")
    for band in Band:
        (tmp_path / band.value).mkdir()
        (tmp_path / band.value / "0.png").symlink_to(recording / band.value / "0.png")
    other = refused("--board", "circles:4x11", "--out", "new.json", pairs=tmp_path)
    assert "was found in none of 1 pair" in other


def test_what_must_not_be_used_says_so_wherever_it_is_used(
    main_here: Main, recording: Path, solved: tuple[Path, str]
) -> None:
    rig = Calibration.load(solved[0])
    assert rig.quality is not None
    quality = rig.quality.model_copy(update={"do_not_use": "the board was never tilted"})
    rig.model_copy(update={"quality": quality}).save(Path("bad.json"))
    sources = ("--ir", str(recording / "thermal"), "--vis", str(recording / "visible"))
    code, out, err = main_here(
        "run", *sources, "--fuser", "average", "--calibration", "bad.json", "--sink", "null:", "--max-frames", "1"
    )
    assert code == 0, err
    assert "do not use this calibration" in err
    assert "never tilted" in err
    assert "set for 4 m" in " ".join(out.split())
    code, _, err = main_here("calibrate", "export", "bad.json", "--ros", "ros")
    assert code == 0
    assert "bad.json: do not use this calibration" in err
