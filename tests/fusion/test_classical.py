from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtfusion.fusion import open_method
from rtfusion.fusion.classical import Average, Maximum, Pyramid
from rtfusion.types import Image8
from tests.support import MS

LEVELS, GAIN, CONTRAST, FLOOR = 4, 1.1, 1.25, 8.0


def reference_pyramid(*, visible_y: Image8, thermal: Image8) -> tuple[Image8, np.ndarray]:
    """The rule of `Pyramid` for one still image, in float64, written for reading.

    Also a mask of the pixels that hang on a choice between two details of nearly the same size (within a quarter of a grey
    level): there rounding may choose the other one.
    """

    def laplacian(image: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        details = []
        for _ in range(LEVELS):
            if min(image.shape) < 2:
                break
            coarse = cv2.pyrDown(image)
            details.append(image - cv2.pyrUp(coarse, dstsize=image.shape[::-1]))
            image = coarse
        return details, image

    details_v, base_v = laplacian(visible_y.astype(np.float64))
    details_t, base_t = laplacian(thermal.astype(np.float64))
    saliency_v, saliency_t = np.abs(base_v - base_v.mean()), np.abs(base_t - base_t.mean())
    weight = (saliency_v + FLOOR) / (saliency_v + saliency_t + 2 * FLOOR)
    fused = weight * base_v + (1 - weight) * base_t
    fused = fused.mean() + CONTRAST * (fused - fused.mean())
    close = np.zeros(fused.shape)
    for detail_v, detail_t in zip(reversed(details_v), reversed(details_t), strict=True):
        size = detail_v.shape[::-1]
        detail = np.where(np.abs(detail_v) >= np.abs(detail_t), detail_v, detail_t)
        fused = cv2.pyrUp(fused, dstsize=size) + GAIN * detail
        undecided = np.abs(np.abs(detail_v) - np.abs(detail_t)) < 0.25
        close = np.maximum(cv2.pyrUp(close, dstsize=size), undecided)
    return np.clip(np.rint(fused), 0, 255).astype(np.uint8), close > 0


def scene(width: int, height: int, seed: int) -> tuple[Image8, Image8]:
    rng = np.random.default_rng(seed)
    images = []
    for cell in (6, 11):
        coarse = rng.integers(0, 256, (height // cell + 2, width // cell + 2)).astype(np.uint8)
        images.append(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))
    return images[0], images[1]


@given(st.integers(2, 90), st.integers(2, 90), st.integers(0, 1000))
def test_pyramid_equals_the_slow_reference_at_any_size(width: int, height: int, seed: int) -> None:
    visible, thermal = scene(width, height, seed)
    fast = Pyramid(still=True)(visible_y=visible, thermal=thermal, timestamp_ns=0)
    slow, hangs_on_rounding = reference_pyramid(visible_y=visible, thermal=thermal)
    difference = np.abs(fast.astype(int) - slow)
    assert fast.shape == (height, width)
    assert difference[~hangs_on_rounding].max(initial=0) <= 1


@pytest.mark.shared
def test_pyramid_equals_the_slow_reference_on_real_pairs(shared_data: Path) -> None:
    for folder, stem in (("tno", "01.png"), ("tno", "20.png"), ("msrs", "00838N.png"), ("vifb", "carLight.jpg")):
        visible = cv2.imread(str(shared_data / "eval" / folder / "vi" / stem), cv2.IMREAD_GRAYSCALE)
        thermal = cv2.imread(str(shared_data / "eval" / folder / "ir" / stem), cv2.IMREAD_GRAYSCALE)
        assert visible is not None, stem
        fast = Pyramid(still=True)(visible_y=visible, thermal=thermal, timestamp_ns=0)
        slow, hangs_on_rounding = reference_pyramid(visible_y=visible, thermal=thermal)
        difference = np.abs(fast.astype(int) - slow)
        assert difference[~hangs_on_rounding].max(initial=0) <= 1
        assert difference.mean() < 0.15
        assert (difference <= 1).mean() > 0.99


@pytest.mark.shared
def test_pyramid_keeps_its_measured_quality_on_tno(shared_data: Path) -> None:
    from rtfusion.evaluate.metrics import image_metrics

    rows = []
    for path in sorted((shared_data / "eval" / "tno" / "vi").glob("*.png"))[:8]:
        visible = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        thermal = cv2.imread(str(shared_data / "eval" / "tno" / "ir" / path.name), cv2.IMREAD_GRAYSCALE)
        kinds = {
            "fast": Pyramid(still=True)(visible_y=visible, thermal=thermal, timestamp_ns=0),
            "slow": reference_pyramid(visible_y=visible, thermal=thermal)[0],
        }
        rows.append([list(image_metrics(fused=f, visible=visible, thermal=thermal).values()) for f in kinds.values()])
    fast, slow = np.array(rows).mean(axis=0)
    np.testing.assert_allclose(fast, slow, rtol=0.01)


def test_average_and_maximum() -> None:
    visible = np.array([[0, 100, 255]], dtype=np.uint8)
    thermal = np.array([[50, 20, 255]], dtype=np.uint8)
    assert Average()(visible_y=visible, thermal=thermal, timestamp_ns=0).tolist() == [[25, 60, 255]]
    assert Maximum()(visible_y=visible, thermal=thermal, timestamp_ns=0).tolist() == [[50, 100, 255]]


@pytest.mark.parametrize("name", ["average", "maximum", "pyramid"])
def test_two_equal_flat_images_stay_as_they_are(name: str) -> None:
    flat = np.full((64, 80), 90, dtype=np.uint8)
    fused = open_method(name, still=True)(visible_y=flat, thermal=flat, timestamp_ns=0)  # type: ignore[operator, call-arg]
    np.testing.assert_array_equal(fused, flat)


def test_pyramid_keeps_the_details_of_both_bands() -> None:
    visible, thermal = np.full((96, 96), 100, np.uint8), np.full((96, 96), 60, np.uint8)
    visible[20:24, 20:76] = 140
    thermal[60:64, 20:76] = 110
    fused = Pyramid(still=True)(visible_y=visible, thermal=thermal, timestamp_ns=0).astype(int)
    assert fused[22, 48] - fused[30, 48] > 35
    assert fused[62, 48] - fused[70, 48] > 40


def test_pyramid_does_not_retone_the_picture_when_a_hot_object_enters() -> None:
    """The leak test: far from a hot square that appears between two frames, almost nothing may change."""
    visible, thermal = scene(320, 240, 3)
    thermal = (thermal // 4).astype(np.uint8)
    hot = thermal.copy()
    hot[:40, :40] = 255
    with_memory = Pyramid()
    before = with_memory(visible_y=visible, thermal=thermal, timestamp_ns=0)
    after = with_memory(visible_y=visible, thermal=hot, timestamp_ns=33 * MS)
    change = np.abs(after.astype(int) - before)[120:, 160:]
    assert change.mean() < 0.5
    fresh = Pyramid()(visible_y=visible, thermal=hot, timestamp_ns=0)
    without_memory = np.abs(fresh.astype(int) - before)[120:, 160:]
    assert without_memory.mean() > 5 * change.mean(), "the memory is what keeps it still"


def test_pyramid_forgets_between_stills() -> None:
    first, second = scene(96, 72, 1), scene(96, 72, 2)
    still = Pyramid(still=True)
    still(visible_y=first[0], thermal=first[1], timestamp_ns=0)
    after = still(visible_y=second[0], thermal=second[1], timestamp_ns=40 * MS)
    alone = Pyramid(still=True)(visible_y=second[0], thermal=second[1], timestamp_ns=0)
    np.testing.assert_array_equal(after, alone)


def test_inputs_are_not_changed() -> None:
    visible, thermal = scene(64, 48, 5)
    copies = visible.copy(), thermal.copy()
    Pyramid()(visible_y=visible, thermal=thermal, timestamp_ns=0)
    np.testing.assert_array_equal(visible, copies[0])
    np.testing.assert_array_equal(thermal, copies[1])
