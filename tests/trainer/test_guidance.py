"""The terms of distillation, against values by hand."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch: pip install -e '.[train]'")

from rtfusion_trainer.config import Guidance  # noqa: E402
from rtfusion_trainer.data import Batch  # noqa: E402
from rtfusion_trainer.guidance import (  # noqa: E402
    gradient_difference,
    guidance,
    missing_contrast,
    tone_difference,
    tutoring,
)

ONLY = Guidance(pixels=0.0, gradients=0.0, ssim=0.0, features=0.0)


class Brightness(torch.nn.Module):
    """Features of one layer: the mean of the picture."""

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"a": images.mean(dim=(2, 3), keepdim=True)}


def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    """A random picture twice, and the same brighter by 0.1 and by 0.3."""
    target = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0)) / 2
    return target + torch.tensor([0.1, 0.3]).reshape(2, 1, 1, 1), target


def batch(
    *,
    dial: float,
    trust: tuple[float, float] = (1.0, 1.0),
    faithful_target: torch.Tensor | None = None,
    enhanced_target: torch.Tensor | None = None,
) -> Batch:
    """Of a visible band that shows nothing, and a thermal one that does."""
    thermal = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    visible = torch.full_like(thermal, 0.5)
    return Batch(
        visible=visible,
        thermal=thermal,
        wanted_visible=visible,
        wanted_thermal=thermal,
        distance_px=torch.full_like(thermal, 60),
        means=torch.full((2, 2, 1, 1), 0.5),
        enhance=torch.full((2, 1, 1, 1), dial),
        warp=torch.zeros(1, 32, 32, 2),
        steady=torch.ones(1, 1, 32, 32),
        faithful_target=faithful_target,
        enhanced_target=enhanced_target,
        trust=torch.tensor(trust),
    )


def test_every_term_by_hand() -> None:
    fused, target = pictures()
    weights = Guidance(pixels=10.0, gradients=20.0, ssim=2.0, features=0.5)
    given = batch(dial=0.5, trust=(1.0, 0.5), faithful_target=target)
    total, terms = guidance(fused, given, weights=weights, features=Brightness())
    assert terms["taught_pixels"] == pytest.approx((0.1 + 0.5 * 0.3) / 2, abs=1e-6)
    assert terms["taught_gradients"] == pytest.approx(0, abs=1e-6)
    assert terms["taught_features"] == pytest.approx((0.1**2 + 0.5 * 0.3**2) / 2, abs=1e-6)
    assert 0 < terms["taught_ssim"] < 0.5
    expected = sum(getattr(weights, name.removeprefix("taught_")) * value for name, value in terms.items())
    assert float(total) == pytest.approx(expected, rel=1e-5)


def test_the_faithful_teacher_fades_and_the_other_one_appears() -> None:
    fused, target = pictures()
    for dial, faithful, enhanced in ((0.0, 1.0, 0.0), (0.5, 1.0, 0.0), (0.75, 0.5, 0.5), (1.0, 0.0, 1.0)):
        _, terms = guidance(
            fused, batch(dial=dial, faithful_target=target, enhanced_target=target), weights=Guidance(), features=None
        )
        assert terms["taught_pixels"] == pytest.approx(faithful * 0.2, abs=1e-6)
        assert terms["taught_tone"] == pytest.approx(enhanced * 0.2, abs=1e-6)


def test_the_teachers_own_picture_costs_nothing_and_one_not_trusted_neither() -> None:
    fused, target = pictures()
    for ours, trust in ((target, (1.0, 1.0)), (fused, (0.0, 0.0))):
        given = batch(dial=0.5, trust=trust, faithful_target=target)
        assert float(guidance(ours, given, weights=Guidance(), features=Brightness())[0]) == pytest.approx(0, abs=1e-5)


def test_a_term_without_weight_is_not_computed() -> None:
    fused, target = pictures()
    total, terms = guidance(fused, batch(dial=0.5, faithful_target=target), weights=ONLY, features=Brightness())
    assert (float(total), terms) == (0.0, {})


def test_a_tutor_is_followed_in_levels_and_gradients() -> None:
    fused, shown = pictures()
    total, terms = tutoring(fused, shown, weights=Guidance(tutor_pixels=10.0, tutor_gradients=5.0))
    assert terms["tutor_pixels"] == pytest.approx(0.2, abs=1e-6)
    assert terms["tutor_gradients"] == pytest.approx(0, abs=1e-6)
    assert float(total) == pytest.approx(2.0, abs=1e-4)
    ramp = torch.linspace(0, 1, 32).expand(2, 1, 32, 32)
    _, terms = tutoring(ramp, torch.full_like(ramp, 0.5), weights=Guidance())
    assert terms["tutor_gradients"] == pytest.approx(1 / 31, abs=1e-5)


def test_tone_sees_brightness_and_not_what_is_finer_than_a_cell() -> None:
    flat = torch.full((1, 1, 64, 64), 0.4)
    checkered = flat + 0.1 * (-1) ** (torch.arange(64)[:, None] + torch.arange(64))
    assert tone_difference(checkered, flat).item() == pytest.approx(0, abs=1e-6)
    assert tone_difference(flat + 0.2, flat).item() == pytest.approx(0.2, abs=1e-6)


def test_contrast_is_missed_only_where_the_visible_band_is_blind() -> None:
    waves = 0.5 + 0.2 * torch.sin(torch.arange(64) / 3).expand(1, 1, 64, 64)
    flat = torch.full_like(waves, 0.5)
    weak = 0.5 + 0.5 * (waves - 0.5)
    assert missing_contrast(weak, waves, visible=flat, thermal=waves).item() == pytest.approx(0.66, abs=0.06)
    assert missing_contrast(weak, waves, visible=waves, thermal=flat).item() == pytest.approx(0, abs=1e-3)
    assert missing_contrast(waves, waves, visible=flat, thermal=waves).item() == pytest.approx(0, abs=1e-6)


def test_a_ramp_has_the_gradient_of_its_slope() -> None:
    columns = torch.arange(8.0).expand(1, 1, 8, 8)
    assert gradient_difference(0.02 * columns, torch.zeros(1, 1, 8, 8)).tolist() == pytest.approx([0.02])


@pytest.mark.parametrize("name", ["pixels", "gradients", "ssim", "features", "tone", "contrast"])
def test_gradients_reach_the_student_through_every_term(name: str) -> None:
    fused, target = pictures()
    ours = (0.2 * fused + 0.01 * torch.rand(fused.shape)).requires_grad_()
    none = {"pixels": 0.0, "gradients": 0.0, "ssim": 0.0, "features": 0.0, "tone": 0.0, "contrast": 0.0}
    given = batch(dial=0.75, faithful_target=target, enhanced_target=2 * target)
    guidance(ours, given, weights=Guidance(**{**none, name: 1.0}), features=Brightness())[0].backward()
    assert ours.grad is not None
    assert ours.grad.abs().sum() > 0
