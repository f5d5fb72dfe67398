from __future__ import annotations

import numpy as np
import pytest

from rtfusion.registration.descriptors import CELL_PX, Described, cell_centers_px
from rtfusion.registration.matches import match_anywhere, match_nearby


def described(rows: int = 14, columns: int = 18, *, move: tuple[int, int] = (0, 0)) -> Described:
    """Every cell has a descriptor of its own, of length 5, and lies ``move`` cells (x, y) farther in the thermal picture."""
    random = np.random.default_rng(3)
    cells = random.standard_normal((rows, columns, 32)).astype(np.float32)
    cells *= 5 / np.linalg.norm(cells, axis=2, keepdims=True)
    return Described(visible=cells, thermal=np.roll(cells, move[::-1], axis=(0, 1)))


@pytest.mark.parametrize("move", [(0, 0), (3, -2), (7, 4)])
def test_cells_are_found_wherever_they_lie(move: tuple[int, int]) -> None:
    found = match_anywhere(described(move=move))
    offsets_px = found.thermal_px - found.visible_px
    right = np.abs(offsets_px - CELL_PX * np.array(move)).max(axis=1) < 0.1 * CELL_PX
    assert len(found) >= 14 * 18
    moved_in = (18 - abs(move[0])) * (14 - abs(move[1]))
    assert right.sum() == moved_in, "what the roll brought in on the other side lies as far as that"
    assert found.confidence[right].min() > 0.9


def test_cells_are_found_nearby_up_to_the_radius() -> None:
    near = match_nearby(described(move=(2, -1)), radius=4)
    offsets_px = near.thermal_px - near.visible_px
    sure = near.confidence > 0.9
    assert sure.sum() > 14 * 18 / 2
    assert np.allclose(np.median(offsets_px[sure], axis=0), (2 * CELL_PX, -CELL_PX), atol=0.1)
    far = match_nearby(described(move=(6, 0)), radius=4)
    assert (far.confidence > 0.9).mean() < 0.05, "what is beyond looks like nothing, but by chance"


def test_a_place_between_two_cells_is_found_between_them() -> None:
    whole = described()
    between = (whole.thermal + np.roll(whole.thermal, 1, axis=1)) / 2
    found = match_nearby(Described(visible=whole.visible, thermal=between), radius=3)
    offsets_px = found.thermal_px - found.visible_px
    assert np.median(offsets_px[:, 0]) == pytest.approx(CELL_PX / 2, abs=0.3)


def test_the_middles_of_cells_are_between_their_pixels() -> None:
    centers = cell_centers_px((9, 8))
    assert centers.tolist() == [[1.5, 1.5], [5.5, 1.5], [1.5, 5.5], [5.5, 5.5]]
