from __future__ import annotations

import numpy as np
import pytest
from rtfusion_calibration.board import Board, Kind

from rtfusion.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "count", "extent_mm"),
    [
        ("chessboard:9x6", 54, (8 * 30, 5 * 30)),
        ("circles:4x11", 44, (7 * 30, 10 * 30)),
        ("charuco:7x5", 24, (5 * 30, 3 * 30)),
    ],
)
def test_points_are_in_meters_from_the_first_one(text: str, count: int, extent_mm: tuple[float, float]) -> None:
    points = Board.parse(text, spacing_mm=30).points_m
    assert points.shape == (count, 3)
    np.testing.assert_allclose(points[0, :2], 0 if "charuco" not in text else points[0, :2])
    np.testing.assert_allclose(np.ptp(points[:, :2], axis=0) * 1000, extent_mm)
    assert (points[:, 2] == 0).all()


@pytest.mark.parametrize(
    ("text", "orders"),
    [("chessboard:9x6", 2), ("chessboard:6x6", 4), ("circles:4x11", 1), ("circles:4x10", 2), ("charuco:7x5", 1)],
)
def test_symmetries_are_the_orders_that_look_alike(text: str, orders: int) -> None:
    board = Board.parse(text, spacing_mm=30)
    assert len(board.symmetries) == orders
    for order in board.symmetries:
        between = np.linalg.norm(board.points_m[:, None] - board.points_m[None], axis=2)
        moved = board.points_m[order]
        np.testing.assert_allclose(np.linalg.norm(moved[:, None] - moved[None], axis=2), between, atol=1e-12)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("chess:9x6", {}, "expected for example chessboard:9x6"),
        ("chessboard:9", {}, "expected for example"),
        ("chessboard:2x6", {}, "3 or more"),
        ("chessboard:9x6", {"spacing_mm": 0.0}, "0.5 to 1000"),
        ("chessboard:9x6", {"marker_mm": 10.0}, "has no markers"),
        ("charuco:7x5", {"marker_mm": 40.0}, "smaller than its square"),
        ("charuco:7x5", {"dictionary": "DICT_9"}, "expected one of"),
        ("charuco:14x12", {}, "84 markers, more than DICT_4X4_50 holds"),
    ],
)
def test_an_impossible_board_is_refused(text: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Board.parse(text, **{"spacing_mm": 30.0, **options})  # type: ignore[arg-type]


def test_a_chessboard_is_drawn_with_its_corners_where_it_says() -> None:
    board = Board.parse("chessboard:4x3", spacing_mm=30)
    picture = board.draw(square_px=20, margin_px=40)
    assert picture.shape == (2 * 20 + 80, 3 * 20 + 80)
    for x, y in board.points_m[:, :2] / 0.03 * 20 + 40 - 0.5:
        around = picture[int(y) : int(y) + 2, int(x) : int(x) + 2]
        assert around[0, 0] == around[1, 1] != around[0, 1] == around[1, 0]
    assert (picture[:20] == 255).all()
    assert Board.parse("circles:4x11", spacing_mm=30).kind is Kind.CIRCLES


def test_a_board_without_markers_says_so() -> None:
    with pytest.raises(ConfigError, match="chessboard:9x6, 30 mm has no markers"):
        _ = Board.parse("chessboard:9x6", spacing_mm=30).charuco
