"""The loss of the student: the weighted terms of `rtfusion_trainer.losses.fidelity`, with targets that follow the dial.

A new term is a function there, an entry of `objective` here, and its weight in `rtfusion_trainer.config.Weights`.

At ``enhance`` 0 the picture keeps the sources' contrast and stays near both. Toward `FULL_GAIN_AT` its gradients shall grow
where they are more than noise. Beyond, fidelity counts less, and what the visible band does not see and the thermal one
does is raised further. `rtfusion_trainer.guidance` adds the language-driven look, where a teacher shows it.
"""

from __future__ import annotations

from dataclasses import asdict

import torch
from torch import Tensor
from torch.nn import functional

from rtfusion_trainer.config import Weights
from rtfusion_trainer.data import Batch
from rtfusion_trainer.losses import fidelity

FULL_GAIN_AT = 0.5
GRADIENT_GAIN = 1.22
"""Gradients are wanted 1 + GRADIENT_GAIN times as large as the longer of the sources' at `FULL_GAIN_AT` ..."""
ENHANCED_GAIN = 0.15
BLIND_GAIN = 0.6
"""... and ENHANCED_GAIN + BLIND_GAIN times blindness larger still at 1."""
GRADIENT_NOISE = 3 * fidelity.GRAY_LEVEL
"""Gradients well below this, per px, are not to grow ..."""
GRADIENT_FLOOR = 2.0 * fidelity.GRAY_LEVEL
QUIET_GAIN = 0.3
"""... and those well below this are wanted QUIET_GAIN times as large as they are: noise, and the blocks of compressed video."""
CONTRAST = (0.89, 1.11)
"""Standard deviation that is wanted at 0 and at 1, in units of the root of the sources' summed variances."""
TRUST_AT_FULL = 0.4
"""Weight of fidelity at 1."""
FREEDOM_AT_FULL = 0.8
"""Share of its weight that the term against leaving the range of the two bands' local means loses at 1."""
OUTSIDE_MARGIN = 0.06
SEAM_GAIN = 1.3
GUARDS = ("halo", "dip", "clipped", "steadiness")
"""Terms against faults, which no look is an excuse for."""


def objective(
    fused: Tensor, batch: Batch, weights: Weights, *, followed: Tensor | None = None
) -> tuple[Tensor, dict[str, float]]:
    """The loss of a batch, and every term's unweighted mean for the log.

    ``followed`` (N,) is how far the look of a teacher is wanted instead, 0 to 1: what is not of `GUARDS` counts so much less.
    """
    bands = {"visible": batch.wanted_visible, "thermal": batch.wanted_thermal}
    dial = batch.enhance.flatten()
    enhanced, faithful = beyond(dial), (1 - dial / FULL_GAIN_AT).clamp(min=0)
    trust = 1 - (1 - TRUST_AT_FULL) * enhanced
    contrast = CONTRAST[0] + (CONTRAST[1] - CONTRAST[0]) * dial
    terms = {
        "gradient": fidelity.gradient_loss(fused, gain=wanted_gain(batch.enhance, **bands), **bands),
        "edges": trust * fidelity.edge_loss(fused, **bands),
        "ssim": trust * fidelity.ssim_loss(fused, **bands),
        "vif": trust * fidelity.vif_loss(fused, **bands),
        "scd": trust * fidelity.scd_loss(fused, **bands),
        "sources": (trust + faithful) * fidelity.source_loss(fused, **bands),
        "contrast": fidelity.contrast_loss(fused, gain=contrast, **bands),
        "halo": fidelity.halo_loss(fused, distance_px=batch.distance_px, **bands),
        "dip": fidelity.dip_loss(fused, distance_px=batch.distance_px, **bands),
        "seam": fidelity.seam_loss(fused, gain=SEAM_GAIN, **bands),
        "outside": (1 - FREEDOM_AT_FULL * enhanced) * fidelity.outside_loss(fused, margin=OUTSIDE_MARGIN, **bands),
        "clipped": fidelity.clipping_loss(fused),
        "steadiness": _steadiness(fused, batch),
    }
    if followed is not None:
        terms = {name: values if name in GUARDS else (1 - followed) * values for name, values in terms.items()}
    means = {name: values.mean() for name, values in terms.items()}
    factors = asdict(weights)
    total = torch.stack([factors[name] * value for name, value in means.items()]).sum()
    return total, {name: float(value.detach()) for name, value in means.items()}


def beyond(dial: Tensor) -> Tensor:
    """0 up to `FULL_GAIN_AT`, then linear to 1 at 1."""
    return ((dial - FULL_GAIN_AT) / (1 - FULL_GAIN_AT)).clamp(min=0)


def wanted_gain(dial: Tensor, *, visible: Tensor, thermal: Tensor) -> Tensor:
    """Give the wanted ratio of the gradients to the longer of the sources', (N, 1, H, W), for a dial of (N, 1, 1, 1).

    1 + G g^2 / (g^2 + noise^2) - (1 - QUIET_GAIN) floor^2 / (g^2 + floor^2), with g the length of that gradient and G what the
    dial asks for.
    """
    strongest = fidelity.gradient_power(visible=visible, thermal=thermal)
    share = strongest / (strongest + GRADIENT_NOISE**2)
    quiet = GRADIENT_FLOOR**2 / (strongest + GRADIENT_FLOOR**2)
    gain = GRADIENT_GAIN * (dial / FULL_GAIN_AT).clamp(max=1)
    gain = gain + beyond(dial) * (ENHANCED_GAIN + BLIND_GAIN * blindness(visible=visible, thermal=thermal))
    return 1 + gain * share - (1 - QUIET_GAIN) * quiet


def blindness(*, visible: Tensor, thermal: Tensor) -> Tensor:
    """Give the thermal band's share of the local variance, (N, 1, H, W) in [0, 1]: 1 where only it shows something."""
    _, var_v = fidelity.local_moments(visible, window_px=16, step_px=8)
    _, var_t = fidelity.local_moments(thermal, window_px=16, step_px=8)
    share = var_t / (var_v + var_t + (2 * fidelity.GRAY_LEVEL) ** 2)
    return functional.interpolate(share, size=visible.shape[-2:], mode="bilinear", align_corners=False)


def _steadiness(fused: Tensor, batch: Batch) -> Tensor:
    """The last picture against the one before it, warped."""
    previous = functional.grid_sample(fused[-2:-1], batch.warp, align_corners=True, padding_mode="border")
    return fidelity.steadiness_loss(fused[-1:], previous=previous, valid=batch.steady)
