"""What the student minimizes: the terms of `rtfusion_trainer.losses.fidelity`, weighted, with targets that follow the dial.

At ``enhance`` 0 the picture keeps the sources' contrast and stays near both. Toward `FULL_GAIN_AT` its gradients shall grow
where they are more than noise. Beyond, fidelity counts less, and what the visible band does not see and the thermal one
does is raised further. What the language-driven look adds there, where a teacher shows it, is in `rtfusion_trainer.guidance`.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TypedDict

import torch
from torch import Tensor
from torch.nn import functional

from rtfusion_trainer.config import Weights
from rtfusion_trainer.data import Batch
from rtfusion_trainer.losses import fidelity
from rtfusion_trainer.teachers.faithful import outside_loss

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
"""The standard deviation wanted at 0 and at 1, in units of the root of the sources' summed variances."""
TRUST_AT_FULL = 0.4
"""What fidelity counts at e = 1."""
FREEDOM_AT_FULL = 0.8
"""How much less it then counts to leave the range of the two bands' local means."""
OUTSIDE_MARGIN = 0.06
SEAM_GAIN = 1.3


class Bands(TypedDict):
    """The two sources, as the terms take them."""

    visible: Tensor
    thermal: Tensor


def objective(fused: Tensor, batch: Batch, weights: Weights) -> tuple[Tensor, dict[str, float]]:
    """The loss of a batch, and every term's unweighted mean for the log."""
    bands = Bands(visible=batch.wanted_visible, thermal=batch.wanted_thermal)
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
        "outside": (1 - FREEDOM_AT_FULL * enhanced) * outside_loss(fused, margin=OUTSIDE_MARGIN, **bands),
        "clipped": (functional.relu(fused - 1) + functional.relu(-fused)).mean(dim=(1, 2, 3)),
        "steadiness": _steadiness(fused, batch),
    }
    means = {name: values.mean() for name, values in terms.items()}
    factors = asdict(weights)
    total = torch.stack([factors[name] * value for name, value in means.items()]).sum()
    return total, {name: float(value.detach()) for name, value in means.items()}


def beyond(dial: Tensor) -> Tensor:
    """0 up to `FULL_GAIN_AT`, then linear to 1 at 1."""
    return ((dial - FULL_GAIN_AT) / (1 - FULL_GAIN_AT)).clamp(min=0)


def wanted_gain(dial: Tensor, *, visible: Tensor, thermal: Tensor) -> Tensor:
    """How many times as large as the longer of the sources' the gradients shall be, (N, 1, H, W); dial (N, 1, 1, 1).

    1 + G g^2 / (g^2 + noise^2) - (1 - QUIET_GAIN) floor^2 / (g^2 + floor^2), with g the length of that gradient and G what the
    dial asks for.
    """
    power = torch.stack([torch.stack(fidelity.gradients(band)).square().sum(dim=0) for band in (visible, thermal)])
    strongest = functional.pad(power.amax(dim=0), (1, 1, 1, 1), mode="replicate")
    share = strongest / (strongest + GRADIENT_NOISE**2)
    quiet = GRADIENT_FLOOR**2 / (strongest + GRADIENT_FLOOR**2)
    gain = GRADIENT_GAIN * (dial / FULL_GAIN_AT).clamp(max=1)
    gain = gain + beyond(dial) * (ENHANCED_GAIN + BLIND_GAIN * blindness(visible=visible, thermal=thermal))
    return 1 + gain * share - (1 - QUIET_GAIN) * quiet


def blindness(*, visible: Tensor, thermal: Tensor) -> Tensor:
    """Where the visible band shows nothing and the thermal band does, (N, 1, H, W) in [0, 1]: its share of local variance."""
    _, var_v = fidelity.local_moments(visible, window_px=16, step_px=8)
    _, var_t = fidelity.local_moments(thermal, window_px=16, step_px=8)
    share = var_t / (var_v + var_t + (2 * fidelity.GRAY_LEVEL) ** 2)
    return functional.interpolate(share, size=visible.shape[-2:], mode="bilinear", align_corners=False)


def _steadiness(fused: Tensor, batch: Batch) -> Tensor:
    """The last picture against the one before it, warped."""
    previous = functional.grid_sample(fused[-2:-1], batch.warp, align_corners=True, padding_mode="border")
    return fidelity.steadiness_loss(fused[-1:], previous=previous, valid=batch.steady)
