"""Boards found in rendered pictures of known truth, and in real thermal ones."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from rtfusion_calibration.board import Board
from rtfusion_calibration.detect import Finder, Sighting

from rtfusion.types import Band
from tests.calibration.rigs import BOARD, Placement, make_rig, project, render

RIG = make_rig(visible_distortion=None, thermal_distortion=None)
TILTED = Placement((18.0, -22.0, 6.0), (0.03, -0.02, 0.95))
BOARDS = {
    "chessboard": BOARD,
    "circles": Board.parse("circles:4x11", spacing_mm=35),
    "charuco": Board.parse("charuco:7x5", spacing_mm=70),
}


def off_px(sighting: Sighting | None, truth: np.ndarray, board: Board) -> float:
    """Largest error in pixels, in the better of the orders in which the board reads alike."""
    assert sighting is not None
    return min(
        float(np.abs(seen.points_px - truth[seen.ids]).max())
        for seen in (sighting.reordered(order) for order in board.symmetries)
    )


@pytest.mark.parametrize("name", BOARDS)
@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("band", list(Band))
def test_a_board_is_found_in_both_polarities(name: str, inverted: bool, band: Band) -> None:
    board = BOARDS[name]
    image = render(RIG, TILTED, band, board)
    if inverted:
        image = 255 - image
    truth = project(RIG, TILTED, board)[band]
    # a circle's middle is not the middle of its picture: an eccentricity of a few tenths of a pixel is in its nature
    assert off_px(Finder(board).find(image), truth, board) < (0.6 if name == "circles" else 0.3)


@pytest.mark.parametrize("name", ["chessboard", "circles"])
def test_a_faint_warm_board_is_found_in_sixteen_bits(name: str) -> None:
    board = BOARDS[name]
    image = render(RIG, TILTED, Band.THERMAL, board, thermal_like=True)
    truth = project(RIG, TILTED, board)[Band.THERMAL]
    assert off_px(Finder(board).find(image), truth, board) < 0.6


def test_a_small_sensor_is_enlarged_and_a_large_picture_reduced() -> None:
    for band, factor in ((Band.THERMAL, 0.25), (Band.VISIBLE, 1.75)):
        image = render(RIG, TILTED, band)
        small = cv2.resize(
            image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
        )
        truth = (project(RIG, TILTED)[band] + 0.5) * factor - 0.5
        assert off_px(Finder(BOARD).find(small), truth, BOARD) < 0.3


def test_part_of_a_charuco_board_is_enough() -> None:
    board = BOARDS["charuco"]
    image = render(RIG, TILTED, Band.VISIBLE, board)
    truth = project(RIG, TILTED, board)[Band.VISIBLE]
    image[:, : int(truth[:, 0].mean())] = 100
    found = Finder(board).find(image)
    assert found is not None
    assert 6 <= len(found.ids) < len(truth)
    assert off_px(found, truth, board) < 0.3


def test_nothing_is_found_where_there_is_nothing() -> None:
    noise = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (120, 160), dtype=np.uint8), (0, 0), 1.0)
    for board in BOARDS.values():
        assert Finder(board).find(noise) is None
        assert Finder(board).find(np.full((120, 160), 77, np.uint8)) is None


def test_blur_and_noise_show_in_sharpness_and_contrast() -> None:
    image = render(RIG, TILTED, Band.THERMAL)
    sharp = Finder(BOARD).find(image)
    blurred = Finder(BOARD).find(cv2.GaussianBlur(image, (0, 0), 4.0))
    noise = np.random.default_rng(0).normal(0, 15, image.shape)
    noisy = Finder(BOARD).find(np.clip(image + noise, 0, 255).astype(np.uint8))
    assert sharp is not None
    assert blurred is not None
    assert noisy is not None
    assert blurred.sharpness < 0.5 * sharp.sharpness
    assert noisy.contrast < 0.3 * sharp.contrast


def test_the_next_picture_begins_with_what_worked() -> None:
    finder = Finder(BOARD)
    faint = render(RIG, TILTED, Band.THERMAL, thermal_like=True)
    first = finder.find(faint)
    again = finder.find(faint, attempts=1)
    assert first is not None
    assert again is not None
    assert again.preparation == first.preparation


VIMSLAB = Board.parse("chessboard:9x6", spacing_mm=30)
HEATED = Board.parse("chessboard:6x4", spacing_mm=30)


def found_in(folder: Path, board: Board, *, pattern: str = "*") -> set[str]:
    finder = Finder(board)
    return {
        path.stem
        for path in sorted(folder.glob(pattern))
        if finder.find(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)) is not None
    }


@pytest.mark.shared
def test_a_real_board_is_found_by_both_cameras(shared_data: Path) -> None:
    folder = shared_data / "calibration" / "checkerboard_vimslab"
    for band in ("ir", "vi"):
        assert found_in(folder / band, VIMSLAB, pattern="029.*") == {"029"}


@pytest.mark.shared
@pytest.mark.slow  # six seconds
def test_real_boards_are_found(shared_data: Path) -> None:
    folder = shared_data / "calibration" / "checkerboard_vimslab"
    assert found_in(folder / "ir", VIMSLAB) == {"029", "044", "047", "062", "066", "067", "068", "075"}
    assert found_in(folder / "vi", VIMSLAB) == {"029", "044", "047", "062", "066", "067", "075"}  # 068 is cut off
    heated = shared_data / "calibration" / "checkerboard_heated_board"
    assert found_in(heated / "ir", HEATED) == found_in(heated / "vi", HEATED) == {"0"}
