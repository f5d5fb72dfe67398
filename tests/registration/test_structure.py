from __future__ import annotations

import numpy as np
import pytest

from rtfusion.registration.structure import equalized, match_patch, patch_centers, structure_map
from tests.calibration.pictures import SIZE_PX, scene, view

PICTURE = view(scene(2, shapes=140), None, noise=0.0)


def test_a_structure_map_knows_neither_polarity_nor_contrast() -> None:
    plain = structure_map(PICTURE)
    assert plain.shape == (*PICTURE.shape, 4)
    assert 0.0 <= plain.min() <= plain.max() <= 1.0
    assert np.linalg.norm(plain, axis=2).max() <= 1.0
    assert np.allclose(structure_map(255 - PICTURE), plain, atol=1e-4)
    faint = structure_map((PICTURE // 4 + 90).astype(np.uint8))
    assert np.corrcoef(faint.ravel(), plain.ravel())[0, 1] > 0.97


def test_ranks_leave_no_tone_curve_to_differ_in() -> None:
    counts = (np.sqrt(PICTURE.astype(np.float64)) * 900 + 5000).astype(np.uint16)
    assert np.abs(equalized(counts).astype(int) - equalized((counts // 40).astype(np.uint16))).max() <= 12
    assert equalized(np.dstack([PICTURE] * 3)).shape == PICTURE.shape
    assert equalized(counts).dtype == np.uint8


@pytest.mark.parametrize(("x", "y"), [(3, -2), (0, 0), (-5, 6)])
def test_a_patch_is_found_where_it_went(x: int, y: int) -> None:
    reference, moved = structure_map(PICTURE), structure_map(np.roll(PICTURE, (y, x), axis=(0, 1)))
    centers = patch_centers(SIZE_PX, patch_px=36, radius_px=8, step_px=30)
    found = [match_patch(at, reference=reference, moved=moved, patch_px=36, radius_px=8) for at in centers]
    offsets = np.array([match.offset_px for match in found if match is not None])
    assert len(offsets) > 0.6 * len(centers)
    assert np.abs(np.median(offsets, axis=0) - (x, y)).max() < 0.05


def test_there_is_nothing_to_find_in_a_blank_picture() -> None:
    blank = structure_map(np.full(SIZE_PX[::-1], 7, np.uint8))
    assert match_patch((100, 100), reference=blank, moved=blank, patch_px=36, radius_px=8) is None


def test_patches_keep_to_what_both_cameras_see() -> None:
    valid = np.zeros(SIZE_PX[::-1], np.uint8)
    valid[:, 160:] = 255
    centers = patch_centers(SIZE_PX, patch_px=36, radius_px=8, step_px=10, valid=valid)
    assert centers
    assert min(x for x, _ in centers) >= 160 + 26
