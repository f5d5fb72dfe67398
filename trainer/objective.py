"""What the student minimizes: the terms of `trainer.losses.fidelity`, weighted, with targets that follow the dial.

At ``enhance`` 0 the picture keeps the sources' contrast; toward 1 its gradients shall be larger, most where the visible band is
blind and the thermal band is not, and fidelity counts less.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TypedDict

import torch
from torch import Tensor
from torch.nn import functional

from trainer.config import Weights
from trainer.data import Batch
from trainer.losses import fidelity

ENHANCED_GAIN = 0.2
BLIND_GAIN = 0.8
"""Gradients are wanted 1 + ENHANCED_GAIN (e + e^2) + BLIND_GAIN blindness e^2 times as large as the sources'."""
BASE_CONTRAST = 1.0
ENHANCED_BASE_CONTRAST = 0.5
FAITHFUL_CONTRAST = 0.9
ENHANCED_CONTRAST = 0.3
FIDELITY_AT_FULL = 0.5
"""What fidelity counts at e = 1."""
SEAM_GAIN = 1.2


class Bands(TypedDict):
    """The two sources, as the terms take them."""

    visible: Tensor
    thermal: Tensor


def objective(fused: Tensor, batch: Batch, weights: Weights) -> tuple[Tensor, dict[str, float]]:
    """The loss of a batch, and every term's unweighted mean for the log."""
    bands = Bands(visible=batch.wanted_visible, thermal=batch.wanted_thermal)
    enhance = batch.enhance.flatten()
    trust = 1 - (1 - FIDELITY_AT_FULL) * enhance
    dial = batch.enhance
    gain = 1 + ENHANCED_GAIN * (dial + dial**2) + BLIND_GAIN * dial**2 * blindness(**bands)
    terms = {
        "gradient": _gradient(fused, gain=gain, **bands),
        "sharpness": fidelity.sharpness_loss(fused, gain=gain, **bands),
        "edges": trust * fidelity.edge_loss(fused, **bands),
        "ssim": trust * fidelity.ssim_loss(fused, **bands),
        "vif": trust * fidelity.vif_loss(fused, **bands),
        "correlation": trust * fidelity.correlation_loss(fused, **bands),
        "scd": trust * fidelity.scd_loss(fused, **bands),
        "sources": trust * fidelity.source_loss(fused, **bands),
        "base": fidelity.base_loss(
            fused, means=batch.means, contrast=BASE_CONTRAST + ENHANCED_BASE_CONTRAST * batch.enhance, **bands
        ),
        "seam": fidelity.seam_loss(fused, gain=SEAM_GAIN, **bands),
        "contrast": fidelity.contrast_loss(fused, gain=FAITHFUL_CONTRAST + ENHANCED_CONTRAST * enhance, **bands),
        "halo": fidelity.halo_loss(fused, distance_px=batch.distance_px, **bands),
        "dip": fidelity.dip_loss(fused, distance_px=batch.distance_px, **bands),
        "steadiness": _steadiness(fused, batch),
    }
    means = {name: values.mean() for name, values in terms.items()}
    factors = asdict(weights)
    total = torch.stack([factors[name] * value for name, value in means.items()]).sum()
    return total, {name: float(value.detach()) for name, value in means.items()}


def blindness(*, visible: Tensor, thermal: Tensor) -> Tensor:
    """Where the visible band shows nothing and the thermal band does, (N, 1, H, W) in [0, 1]: its share of local variance."""
    _, var_v = fidelity.local_moments(visible, window_px=16, step_px=8)
    _, var_t = fidelity.local_moments(thermal, window_px=16, step_px=8)
    share = var_t / (var_v + var_t + (2 * fidelity.GRAY_LEVEL) ** 2)
    return functional.interpolate(share, size=visible.shape[-2:], mode="bilinear", align_corners=False)


def _gradient(fused: Tensor, *, visible: Tensor, thermal: Tensor, gain: Tensor) -> Tensor:
    """The gradient term at full and at quarter resolution."""
    fine = fidelity.gradient_loss(fused, visible=visible, thermal=thermal, gain=gain)
    f, v, t, g = (functional.avg_pool2d(image, 4) for image in (fused, visible, thermal, gain))
    return fine + 0.5 * fidelity.gradient_loss(f, visible=v, thermal=t, gain=g)


def _steadiness(fused: Tensor, batch: Batch) -> Tensor:
    """The last picture against the one before it, warped."""
    previous = functional.grid_sample(fused[-2:-1], batch.warp, align_corners=True, padding_mode="border")
    return fidelity.steadiness_loss(fused[-1:], previous=previous, valid=batch.steady)
