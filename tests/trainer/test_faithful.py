from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[train]'")

from rtfusion_trainer.teachers.faithful import FaithfulTeacher, Recipe, distance_to_hot_px, objective, optimize  # noqa: E402

from rtfusion.evaluate.metrics import halo, image_metrics, qabf, vif  # noqa: E402
from rtfusion.fusion.classical import Pyramid  # noqa: E402
from rtfusion.types import Image8  # noqa: E402

METRICS = ("EN", "SD", "SF", "AG", "MI", "SCD", "VIF", "Qabf", "SSIM", "CC", "PSNR")


def scene() -> dict[str, Image8]:
    """Visible: stripes at the left, nothing at the right. Thermal: a warm ground with a hot disc at the right."""
    rows, columns = np.mgrid[0:96, 0:128]
    visible = 90 + 50 * np.sin(columns / 3) * (columns < 64) + np.random.default_rng(0).normal(0, 2, rows.shape)
    hot = cv2.GaussianBlur(((rows - 48) ** 2 + (columns - 96) ** 2 < 100).astype(np.float32), (5, 5), 1)
    thermal = 70 + rows / 4 + 150 * hot
    return {"visible": visible.clip(0, 255).astype(np.uint8), "thermal": thermal.clip(0, 255).astype(np.uint8)}


def eight_bit(fused: object) -> Image8:
    return np.rint(np.asarray(fused) * 255).astype(np.uint8)


def test_it_keeps_the_stripes_of_one_band_and_the_disc_of_the_other() -> None:
    pair = scene()
    fused = FaithfulTeacher(Recipe(steps=30))(**pair)
    assert fused.shape == (96, 128)
    assert fused.dtype == np.float32
    assert fused.min() >= 0
    assert fused.max() <= 1
    left, right = (slice(8, 88), slice(4, 60)), (slice(24, 72), slice(72, 120))
    assert np.corrcoef(fused[left].ravel(), pair["visible"][left].ravel())[0, 1] > 0.97
    assert np.corrcoef(fused[right].ravel(), pair["thermal"][right].ravel())[0, 1] > 0.97
    assert halo(fused=eight_bit(fused), **pair) <= 1


def textures() -> dict[str, Image8]:
    """Two bands that compete everywhere."""
    random = np.random.default_rng(1)

    def texture() -> Image8:
        planes = [
            cv2.resize(random.normal(0, 12, (12 * k, 16 * k)), (128, 96), interpolation=cv2.INTER_CUBIC)
            for k in (1, 2, 4)
        ]
        return (128 + sum(planes)).clip(0, 255).astype(np.uint8)

    return {"visible": texture(), "thermal": texture()}


def test_it_keeps_more_of_competing_bands_than_the_pyramid() -> None:
    pair = textures()
    fused = eight_bit(FaithfulTeacher(Recipe(steps=30))(**pair))
    pyramid = Pyramid(still=True)(visible_y=pair["visible"], thermal=pair["thermal"], timestamp_ns=0)
    for metric in (qabf, vif):
        assert metric(fused=fused, **pair) > metric(fused=pyramid, **pair), metric.__name__


def test_it_is_deterministic_and_its_constants_are_its_recipe() -> None:
    pair, recipe = scene(), Recipe(steps=3)
    assert np.array_equal(FaithfulTeacher(recipe)(**pair), FaithfulTeacher(recipe)(**pair))
    assert FaithfulTeacher(recipe).constants["steps"] == 3
    assert FaithfulTeacher(replace(recipe, vif=2.0)).constants != FaithfulTeacher(recipe).constants
    with pytest.raises(ValueError, match="64 px or larger"):
        FaithfulTeacher(recipe)(visible=pair["visible"][:40], thermal=pair["thermal"][:40])


def test_the_search_makes_the_loss_fall() -> None:
    pair = scene()
    visible, thermal = (torch.from_numpy(pair[name]).float()[None, None] / 255 for name in ("visible", "thermal"))
    distance_px = torch.from_numpy(distance_to_hot_px(pair["thermal"]))[None, None]
    given = {"visible": visible, "thermal": thermal, "distance_px": distance_px, "recipe": Recipe(steps=20)}
    start = (visible + thermal) / 2
    assert float(objective(optimize(**given), **given)) < float(objective(start, **given)) - 1


def test_the_distance_to_hot_pixels() -> None:
    thermal = np.zeros((9, 9), np.uint8)
    thermal[4, 4] = 200
    distance_px = distance_to_hot_px(thermal)
    assert distance_px[4, 4] == 0
    assert distance_px[4, 7] == pytest.approx(3)


@pytest.mark.shared
@pytest.mark.slow  # two seconds; two metrics of made-up pairs are compared above
def test_its_mean_rank_on_real_pairs_is_clearly_before_the_pyramid(shared_data: Path) -> None:
    """The middle of four TNO pairs: of the eleven metrics, at least eight are better than the pyramid's."""
    folder = shared_data / "eval" / "tno"
    scores: dict[str, list[list[float]]] = {"faithful": [], "pyramid": []}
    halos = []
    for path in sorted((folder / "vi").iterdir())[::10][:4]:
        visible, thermal = (cv2.imread(str(p), cv2.IMREAD_GRAYSCALE) for p in (path, folder / "ir" / path.name))
        assert visible is not None
        assert thermal is not None
        y, x = ((length - min(length, 192)) // 2 for length in visible.shape)
        part = (slice(y, y + 192), slice(x, x + 192))
        pair = {"visible": np.ascontiguousarray(visible[part]), "thermal": np.ascontiguousarray(thermal[part])}
        fused = eight_bit(FaithfulTeacher(Recipe(steps=30))(**pair))
        pyramid = Pyramid(still=True)(visible_y=pair["visible"], thermal=pair["thermal"], timestamp_ns=0)
        for name, image in (("faithful", fused), ("pyramid", pyramid)):
            values = image_metrics(fused=image, **pair)
            scores[name].append([values[metric] for metric in METRICS])
        halos.append(halo(fused=fused, **pair))
    better = np.mean(scores["faithful"], axis=0) > np.mean(scores["pyramid"], axis=0)
    assert better.sum() >= 8, dict(zip(METRICS, better, strict=True))
    assert np.nanmean(halos) <= 1
