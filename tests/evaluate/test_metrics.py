from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtfusion.evaluate import metrics
from rtfusion.types import Image8

HIGHER_THAN = {"EN": 0, "SD": 0, "SF": 0, "AG": 0, "MI": -1e-9, "SCD": -2, "VIF": 0, "Qabf": 0, "SSIM": -1, "CC": -1}
TRIPLE_METRICS = [metrics.mutual_information, metrics.scd, metrics.vif, metrics.qabf, metrics.ssim, metrics.correlation,
                  metrics.psnr, metrics.nabf, metrics.halo, metrics.image_metrics]  # fmt: skip
SINGLE_METRICS = [metrics.entropy, metrics.standard_deviation, metrics.spatial_frequency, metrics.average_gradient]


def textured(*, height_px: int = 64, width_px: int = 80, seed: int = 0) -> Image8:
    """Smooth noise over the whole gray range: edges of every direction, trackable."""
    noise = np.random.default_rng(seed).normal(size=(height_px, width_px))
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.0)
    return cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def flat(level: int, *, height_px: int = 48, width_px: int = 48) -> Image8:
    return np.full((height_px, width_px), level, np.uint8)


def two_patterns() -> tuple[Image8, Image8]:
    """Left/right and top/bottom halves of 0 and 200: equal variance, uncorrelated."""
    visible, thermal = flat(0), flat(0)
    visible[:, 24:] = 200
    thermal[24:] = 200
    return visible, thermal


# --- against published values ---


@pytest.mark.shared
@pytest.mark.parametrize("name", ["SeAFusion_01", "SeAFusion_10", "SeAFusion_20", "IFCNN_01", "DenseFuse_01"])
def test_equals_the_oracle(shared_data: Path, name: str) -> None:
    expected = json.loads((shared_data / "oracle" / "expected.json").read_text())[name]
    pair = name.rsplit("_", 1)[1] + ".png"
    paths = {
        "fused": shared_data / "oracle" / "fused" / f"{name}.png",
        "visible": shared_data / "eval" / "tno" / "vi" / pair,
        "thermal": shared_data / "eval" / "tno" / "ir" / pair,
    }
    images = {band: cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2GRAY) for band, path in paths.items()}
    measured = metrics.image_metrics(**images)
    assert list(measured) == [*expected, "Nabf"]
    for metric, value in expected.items():
        assert measured[metric] == pytest.approx(value, rel=2e-5), metric


# --- identities ---


def test_an_image_fused_from_itself() -> None:
    image = textured()
    measured = metrics.image_metrics(fused=image, visible=image, thermal=image)
    assert measured["SSIM"] == pytest.approx(1)
    assert measured["CC"] == pytest.approx(1)
    assert measured["VIF"] == pytest.approx(2)
    assert measured["MI"] == pytest.approx(2 * measured["EN"])
    assert measured["PSNR"] == math.inf
    assert measured["SCD"] == 0, "nothing was added to either source"
    assert measured["Nabf"] == 0
    ceiling = 0.9994 * 0.9879 / (1 + math.exp(-22 * 0.2))
    assert measured["Qabf"] == pytest.approx(ceiling, rel=1e-4)


def test_images_without_variation_give_zeros_not_nan() -> None:
    measured = metrics.image_metrics(fused=flat(90), visible=flat(90), thermal=flat(60))
    zeros = ["EN", "SD", "SF", "AG", "MI", "SCD", "VIF", "CC", "Nabf"]
    assert [measured[name] for name in zeros] == [0] * len(zeros)
    assert all(map(math.isfinite, measured.values()))
    assert metrics.qabf(fused=flat(0), visible=flat(0), thermal=flat(0)) == 0


@settings(max_examples=25, deadline=None)
@given(seeds=st.tuples(*[st.integers(0, 2**32 - 1)] * 3), height_px=st.integers(41, 60), width_px=st.integers(41, 60))
def test_the_sources_may_be_swapped_and_ranges_hold(seeds: tuple[int, int, int], height_px: int, width_px: int) -> None:
    fused, one, other = (textured(height_px=height_px, width_px=width_px, seed=seed) for seed in seeds)
    measured = metrics.image_metrics(fused=fused, visible=one, thermal=other)
    swapped = metrics.image_metrics(fused=fused, visible=other, thermal=one)
    for name, value in measured.items():
        assert value == pytest.approx(swapped[name], rel=1e-9, abs=1e-12), name
        assert value >= HIGHER_THAN.get(name, 0), name
    assert measured["EN"] <= 8
    assert measured["SCD"] <= 2
    assert max(measured[name] for name in ("Qabf", "Nabf", "SSIM", "CC")) <= 1


# --- known values ---


def test_entropy_of_equal_shares() -> None:
    levels = np.repeat(np.array([0, 10, 20, 255], np.uint8), 12).reshape(6, 8)
    assert metrics.entropy(fused=levels) == 2.0
    assert metrics.entropy(fused=np.arange(256, dtype=np.uint8).reshape(16, 16)) == pytest.approx(8)


def test_standard_deviation_of_two_halves() -> None:
    assert metrics.standard_deviation(fused=two_patterns()[0]) == 100


def test_spatial_frequency_of_a_checkerboard() -> None:
    rows, columns = np.indices((8, 10))
    board = ((rows + columns) % 2 * 30).astype(np.uint8)
    assert metrics.spatial_frequency(fused=board) == pytest.approx(30 * math.sqrt(2))


def test_average_gradient_of_a_ramp() -> None:
    ramp = np.tile(np.arange(0, 60, 3, dtype=np.uint8), (5, 1))
    # 5 x 20 pixels of gradient 3 along x only, over 4 x 19.
    assert metrics.average_gradient(fused=ramp) == pytest.approx(5 * 20 * 3 / math.sqrt(2) / (4 * 19))


def test_mutual_information_counts_the_band_that_was_taken() -> None:
    visible, thermal = two_patterns()
    assert metrics.mutual_information(fused=visible, visible=visible, thermal=thermal) == pytest.approx(1)
    quarters = visible // 2 + thermal // 4
    assert metrics.mutual_information(fused=quarters, visible=visible, thermal=thermal) == pytest.approx(2)


def test_correlations_of_the_mean_of_two_uncorrelated_images() -> None:
    visible, thermal = two_patterns()
    mean = visible // 2 + thermal // 2
    assert metrics.correlation(fused=mean, visible=visible, thermal=thermal) == pytest.approx(1 / math.sqrt(2))
    # F - thermal = (visible - thermal) / 2, whose correlation with visible is 1 / sqrt 2; so twice that.
    assert metrics.scd(fused=mean, visible=visible, thermal=thermal) == pytest.approx(math.sqrt(2))


def test_psnr_follows_the_convention_of_fusion_papers() -> None:
    expected_db = 20 * math.log10(255 / math.sqrt(((10 / 255) ** 2 + (20 / 255) ** 2) / 2))
    assert metrics.psnr(fused=flat(110), visible=flat(100), thermal=flat(130)) == pytest.approx(expected_db)


def test_ssim_of_flat_images_is_the_luminance_term() -> None:
    c1 = (0.01 * 255) ** 2
    expected = ((2 * 100 * 50 + c1) / (100**2 + 50**2 + c1) + 1) / 2
    assert metrics.ssim(fused=flat(100), visible=flat(50), thermal=flat(100)) == pytest.approx(expected)


def test_vif_rises_with_contrast_and_falls_with_blur() -> None:
    image = textured() // 2
    by_change = {
        "raised": image * 2,
        "same": image,
        "blurred": cv2.GaussianBlur(image, (0, 0), 2.0),
        "inverted": 255 - image,
    }
    values = {change: metrics.vif(fused=fused, visible=image, thermal=image) for change, fused in by_change.items()}
    assert values["raised"] > values["same"] > values["blurred"] > values["inverted"] == 0


# --- fast against slow: the formulas written out pixel by pixel ---


def sobel_at(image: Image8, row: int, column: int, *, mirror: bool) -> tuple[float, float]:
    """Gradients toward larger column and row, from a zero-padded or mirrored neighborhood."""
    padded = np.pad(image.astype(float), 1, mode="reflect" if mirror else "constant")
    patch = padded[row : row + 3, column : column + 3]
    kernel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    return float((patch * kernel).sum()), float((patch * kernel.T).sum())


def ratio(x: float, y: float) -> float:
    return min(x, y) / max(x, y) if max(x, y) else 0.0


def slow_qabf(fused: Image8, visible: Image8, thermal: Image8) -> float:
    def edge(image: Image8, at: tuple[int, int]) -> tuple[float, float]:
        x, y = sobel_at(image, *at, mirror=False)
        return math.hypot(x, y), (math.atan(-y / x) if x else math.pi / 2)

    kept = total = 0.0
    for at in np.ndindex(fused.shape):
        g_f, a_f = edge(fused, at)
        for source in (visible, thermal):
            g, a = edge(source, at)
            strength = g if g == g_f else ratio(g, g_f)
            q = 0.9994 / (1 + math.exp(-15 * (strength - 0.5)))
            q *= 0.9879 / (1 + math.exp(-22 * (1 - abs(a - a_f) / (math.pi / 2) - 0.8)))
            kept, total = kept + q * g, total + g
    return kept / total


def slow_nabf(fused: Image8, visible: Image8, thermal: Image8) -> float:
    def edge(image: Image8, at: tuple[int, int]) -> tuple[float, float]:
        x, y = sobel_at(image, *at, mirror=True)
        angle = 0.0 if x == y == 0 else math.copysign(math.pi / 2, x) if y == 0 else math.atan(x / y)
        return math.hypot(x, y) / 8, angle

    artifacts = total = 0.0
    for at in np.ndindex(fused.shape):
        g_f, a_f = edge(fused, at)
        sources = [edge(source, at) for source in (visible, thermal)]
        for g, a in sources:
            alignment = abs(abs(a - a_f) - math.pi / 2) * 2 / math.pi
            q = 0.9999 / (1 + math.exp(-19 * (ratio(g, g_f) - 0.5))) * 0.9995 / (1 + math.exp(-22 * (alignment - 0.5)))
            weight = g**1.5 if g >= 2 else 0.001
            artifacts += (1 - math.sqrt(q)) * weight if all(g_f > other for other, _ in sources) else 0.0
            total += weight
    return artifacts / total


@pytest.mark.parametrize("levels", [256, 4], ids=["rough", "many equal neighbors"])
@pytest.mark.parametrize(("fast", "slow"), [(metrics.qabf, slow_qabf), (metrics.nabf, slow_nabf)], ids=["Qabf", "Nabf"])
def test_edge_metrics_equal_the_formulas(fast: Callable[..., float], slow: Callable[..., float], levels: int) -> None:
    rng = np.random.default_rng(7)
    fused, visible, thermal = (rng.integers(0, levels, (11, 13), dtype=np.uint8) for _ in range(3))
    expected = slow(fused, visible, thermal)
    assert expected > 0
    assert fast(fused=fused, visible=visible, thermal=thermal) == pytest.approx(expected, rel=1e-12)


# --- wrong input ---


@pytest.mark.parametrize("metric", TRIPLE_METRICS)
def test_sizes_must_agree(metric: Callable[..., object]) -> None:
    with pytest.raises(ValueError, match=r"images differ in shape: .*thermal \(48, 50\)"):
        metric(fused=flat(1), visible=flat(1), thermal=flat(1, width_px=50))


@pytest.mark.parametrize("metric", [*TRIPLE_METRICS, *SINGLE_METRICS])
@pytest.mark.parametrize("bad", [np.zeros((48, 48, 3), np.uint8), np.zeros((48, 48), np.float32)], ids=["BGR", "float"])
def test_images_must_be_gray_and_8_bit(metric: Callable[..., object], bad: Image8) -> None:
    images = {"fused": bad} if metric in SINGLE_METRICS else {"fused": bad, "visible": bad, "thermal": bad}
    with pytest.raises(ValueError, match=r"fused is \(48, 48.*; expected a gray image \(H, W\) uint8"):
        metric(**images)


@pytest.mark.parametrize(("metric", "smallest_px"), [(metrics.vif, 41), (metrics.ssim, 11)])
def test_the_smallest_image_a_metric_takes(metric: Callable[..., float], smallest_px: int) -> None:
    enough = textured(height_px=smallest_px, width_px=smallest_px)
    assert metric(fused=enough, visible=enough, thermal=enough) > 0
    small = enough[1:]
    with pytest.raises(ValueError, match=f"at least {smallest_px} px"):
        metric(fused=small, visible=small, thermal=small)


# --- stability over time ---


def test_warp_error_forgives_motion_and_sees_flicker() -> None:
    scene = textured(height_px=140, width_px=180, seed=3)
    before, after = scene[10:130, 10:170], scene[12:132, 13:173]
    images = {"previous_fused": before, "previous_visible": before, "visible": after}
    moved = metrics.warp_error(fused=after, **images)
    brighter = metrics.warp_error(fused=cv2.add(after, 20), **images)
    assert moved < 0.02
    assert brighter == pytest.approx(20 / after.std(), rel=0.1)
    assert metrics.warp_error(previous_fused=after, fused=after, previous_visible=after, visible=after) == 0


def test_warp_error_does_not_reward_a_flat_output() -> None:
    visible = textured()
    gray = np.full_like(visible, 128)
    assert metrics.warp_error(previous_fused=gray, fused=gray, previous_visible=visible, visible=visible) == math.inf


def test_warp_error_refuses_images_too_small_for_flow() -> None:
    small = flat(0, height_px=12)
    with pytest.raises(ValueError, match="at least 16 px"):
        metrics.warp_error(previous_fused=small, fused=small, previous_visible=small, visible=small)


def test_leak_is_zero_for_a_local_fusion_and_measures_a_global_one() -> None:
    visible, thermal = flat(100, height_px=160, width_px=160), flat(50, height_px=160, width_px=160)
    buffer = np.empty_like(visible)

    def maximum(*, visible: Image8, thermal: Image8) -> Image8:
        return np.maximum(visible, thermal, out=buffer)

    def toned_by_the_mean(*, visible: Image8, thermal: Image8) -> Image8:
        buffer[:] = thermal.mean()
        return buffer

    assert metrics.leak(fuse=maximum, visible=visible, thermal=thermal) == 0
    # The square of 20 x 20 lifts the thermal mean from 50 to 53.2.
    assert metrics.leak(fuse=toned_by_the_mean, visible=visible, thermal=thermal) == 3


def test_leak_needs_room() -> None:
    with pytest.raises(ValueError, match="over 64 px from the square"):
        metrics.leak(fuse=lambda *, visible, thermal: visible, visible=flat(0), thermal=flat(0))


def test_still_scene_noise_of_two_frames_that_differ_by_two() -> None:
    assert metrics.still_scene_noise([flat(10), flat(12)]) == pytest.approx(math.sqrt(2))
    assert metrics.still_scene_noise([flat(10)] * 5) == 0


def test_still_scene_noise_recovers_sigma_from_a_stream_that_reuses_its_buffer() -> None:
    rng = np.random.default_rng(11)

    def frames() -> Iterator[Image8]:
        buffer = flat(0)
        for _ in range(60):
            buffer[:] = np.rint(rng.normal(128, 5, buffer.shape)).astype(np.uint8)
            yield buffer

    assert metrics.still_scene_noise(frames()) == pytest.approx(5, rel=0.02)


@pytest.mark.parametrize("count", [0, 1])
def test_still_scene_noise_needs_two_frames(count: int) -> None:
    with pytest.raises(ValueError, match=f"{count} frame"):
        metrics.still_scene_noise(itertools.repeat(flat(0), count))


# --- halo ---


def hot_square() -> tuple[Image8, Image8]:
    visible, thermal = flat(80, height_px=120, width_px=120), flat(50, height_px=120, width_px=120)
    thermal[50:70, 50:70] = 250
    return visible, thermal


def test_halo_measures_the_depth_of_a_dark_seam() -> None:
    visible, thermal = hot_square()
    fused = np.maximum(visible, thermal)
    assert metrics.halo(fused=fused, visible=visible, thermal=thermal) == 0
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (25, 25))
    seam = (cv2.dilate(thermal, kernel) > 200) & (thermal < 200)
    fused[seam] = 68
    assert metrics.halo(fused=fused, visible=visible, thermal=thermal) == pytest.approx(12)


def test_halo_does_not_blame_the_fusion_for_a_seam_of_the_camera() -> None:
    visible, thermal = hot_square()
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (25, 25))
    thermal[(cv2.dilate(thermal, kernel) > 200) & (thermal < 200)] = 30
    assert metrics.halo(fused=thermal, visible=visible, thermal=thermal) == 0


def test_halo_without_a_hot_target_is_nan() -> None:
    image = flat(50)
    assert math.isnan(metrics.halo(fused=image, visible=image, thermal=image))
