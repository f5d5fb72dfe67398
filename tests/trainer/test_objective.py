from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="the trainer needs torch: pip install -e '.[train]'")

from rtfusion_trainer.objective import BLIND_GAIN, ENHANCED_GAIN, GRADIENT_GAIN, QUIET_GAIN, beyond, wanted_gain  # noqa: E402


def ramp(step: float) -> torch.Tensor:
    """A picture whose gradient is ``step`` gray levels per px everywhere."""
    return (torch.arange(48.0) * step / 255).expand(1, 1, 48, 48)


def dial(value: float) -> torch.Tensor:
    return torch.full((1, 1, 1, 1), value)


@pytest.mark.parametrize("enhance", [0.0, 0.5, 1.0])
def test_gradients_that_are_noise_are_wanted_smaller_at_any_dial(enhance: float):
    flat = ramp(0.0)
    torch.testing.assert_close(
        wanted_gain(dial(enhance), visible=flat, thermal=flat), torch.full_like(flat, QUIET_GAIN)
    )


@pytest.mark.parametrize(
    ("enhance", "wanted"),
    [(0.0, 1.0), (0.25, 1 + GRADIENT_GAIN / 2), (0.5, 1 + GRADIENT_GAIN), (1.0, 1 + GRADIENT_GAIN + ENHANCED_GAIN)],
)
def test_gradients_far_above_the_noise_grow_with_the_dial(enhance: float, wanted: float):
    steep = ramp(100.0)
    gain = wanted_gain(dial(enhance), visible=steep, thermal=ramp(0.0))
    torch.testing.assert_close(gain, torch.full_like(gain, wanted), rtol=0.002, atol=0)


def test_at_1_they_grow_more_where_only_the_thermal_band_sees():
    steep = ramp(100.0)
    gain = wanted_gain(dial(1.0), visible=ramp(0.0), thermal=steep)
    torch.testing.assert_close(
        gain, torch.full_like(gain, 1 + GRADIENT_GAIN + ENHANCED_GAIN + BLIND_GAIN), rtol=0.01, atol=0
    )


def test_beyond_the_default_is_linear():
    assert beyond(torch.tensor([0.0, 0.5, 0.75, 1.0])).tolist() == [0.0, 0.0, 0.5, 1.0]
