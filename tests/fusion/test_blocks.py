from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtfusion.fusion.blocks import BLOCK_PX, find_grids, smooth_blocks
from rtfusion.types import Image8


def scene(seed: int, *, size: tuple[int, int] = (240, 320)) -> Image8:
    """Slow shades, a few edges, and a little texture."""
    rng = np.random.default_rng(seed)
    shades = cv2.resize(rng.integers(40, 200, (6, 8), dtype=np.uint8), size[::-1], interpolation=cv2.INTER_CUBIC)
    for _ in range(6):
        x, y = (int(rng.integers(0, side)) for side in size[::-1])
        cv2.rectangle(shades, (x, y), (x + 37, y + 53), int(rng.integers(0, 256)), -1)
    return np.clip(shades + rng.normal(0, 1.0, size), 0, 255).astype(np.uint8)


def compressed(image: Image8, quality: int) -> Image8:
    coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE).astype(np.uint8)


def smoothed(image: Image8) -> Image8:
    return smooth_blocks(image, find_grids(image))


def psnr_db(one: Image8, other: Image8) -> float:
    return float(cv2.PSNR(one, other))


def border_steps(image: Image8, *, flat: np.ndarray) -> float:
    """Mean step over the borders of blocks where the scene is flat, gray levels."""
    steps = np.abs(np.diff(image.astype(np.float32), axis=1))
    borders = np.arange(steps.shape[1]) % BLOCK_PX == BLOCK_PX - 1
    return float(steps[:, borders][flat[:, :-1][:, borders]].mean())


@pytest.mark.parametrize("quality", [8, 15, 30])
@pytest.mark.parametrize("seed", range(4))
def test_a_strongly_compressed_picture_comes_nearer_to_its_original(quality: int, seed: int) -> None:
    original = scene(seed)
    coded = compressed(original, quality)
    assert None not in find_grids(coded)
    assert psnr_db(smoothed(coded), original) > psnr_db(coded, original) + 0.2


def test_a_picture_without_blocks_is_left_alone() -> None:
    original = scene(1)
    assert find_grids(original) == (None, None)
    assert smoothed(original) is original


@given(down=st.integers(0, 7), right=st.integers(0, 7))
@settings(max_examples=20, deadline=None)
def test_the_grid_is_found_wherever_the_picture_was_cut(down: int, right: int) -> None:
    coded = compressed(scene(2), 15)[down:, right:]
    grids = find_grids(coded)
    assert grids.rows is not None
    assert grids.columns is not None
    assert (grids.rows.phase_px, grids.columns.phase_px) == (-down % 8, -right % 8)
    assert psnr_db(smoothed(coded), scene(2)[down:, right:]) > psnr_db(coded, scene(2)[down:, right:])


def test_the_compressed_picture_itself_is_not_written_to() -> None:
    coded = compressed(scene(3), 15)
    before = coded.copy()
    smoothed(coded)
    np.testing.assert_array_equal(coded, before)


def test_an_edge_on_the_border_of_a_block_stays() -> None:
    original = np.full((240, 320), 60, np.uint8)
    original[:, 160:] = 180  # 160 is the first pixel of a block
    original = cv2.add(original, scene(4) // 8)
    step = smoothed(compressed(original, 15)).astype(int)
    assert (step[:, 161] - step[:, 158]).mean() > 100


@given(image=st.integers(0, 10**6), size=st.tuples(st.integers(1, 70), st.integers(1, 70)))
@settings(max_examples=60, deadline=None)
def test_pictures_of_any_size_keep_their_range(image: int, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(image)
    tiled = np.kron(rng.integers(0, 256, (10, 10), dtype=np.uint8), np.ones((8, 8), np.uint8))[: size[0], : size[1]]
    shown = smoothed(np.ascontiguousarray(tiled))
    assert shown.shape == tiled.shape
    assert tiled.min() <= shown.min()
    assert shown.max() <= tiled.max()


def test_flat_ground_of_real_pairs_loses_its_steps(shared_data: Path) -> None:
    for band in ("vi", "ir"):
        for path in sorted((shared_data / "train/m3svd" / band).iterdir())[::60]:
            original = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
            mean, squares = (cv2.blur(np.float32(original) ** power, (17, 17)) for power in (1, 2))
            flat = squares - mean**2 < 16
            coded = compressed(original, 15)
            assert border_steps(smoothed(coded), flat=flat) < 0.5 * border_steps(coded, flat=flat)
