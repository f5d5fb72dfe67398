"""The terms that distillation adds to the direct objective.

A faithful teacher guides by pixels, gradients, structure (SSIM) and VGG-19 features, each a mean difference per picture. A
language-driven teacher guides the look of the dial at 1: how bright it makes things, and how much local contrast it gives to what
only the thermal band sees. Its pixels are not wanted: they carry its noise, its grid and its halos.

Another student, the tutor, guides by pixels and gradients at every setting of the dial. It sees every pair as it is meant to
look.

The first two are weighted by `rtfusion_trainer.data.Batch.trust`: they have seen the clean pair, and so say nothing about one
that is meant to look otherwise.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from rtfusion_trainer.config import Guidance, Imitation
from rtfusion_trainer.data import Batch
from rtfusion_trainer.losses import fidelity
from rtfusion_trainer.losses.perceptual import Vgg19Features, perceptual_loss
from rtfusion_trainer.objective import beyond, blindness

CELL_PX = 16
CONTRAST_FLOOR = 0.004


def guidance(
    fused: Tensor, batch: Batch, *, weights: Guidance, features: Vgg19Features | None
) -> tuple[Tensor, dict[str, float]]:
    """The weighted loss of a batch, and every term's unweighted mean for the log; a term of weight 0 is not computed.

    ``features`` is for the term of that name, which is left out without it.
    """
    dial, terms = batch.enhance.flatten(), {}
    trust = torch.ones_like(dial) if batch.trust is None else batch.trust
    if batch.faithful_target is not None:
        fading = ((1 - dial) / max(1 - weights.full_until, 1e-6)).clamp(max=1)
        for name, values in picture_terms(fused, batch.faithful_target, weights=weights, features=features).items():
            terms[name] = (trust * fading * values).mean()
    if batch.enhanced_target is not None:
        seen = {"visible": batch.wanted_visible, "thermal": batch.wanted_thermal}
        terms["tone"] = (trust * beyond(dial) * tone_difference(fused, batch.enhanced_target)).mean()
        terms["contrast"] = (trust * beyond(dial) * missing_contrast(fused, batch.enhanced_target, **seen)).mean()
    total = sum((getattr(weights, name) * value for name, value in terms.items()), torch.zeros((), device=fused.device))
    return total, {f"taught_{name}": float(value.detach()) for name, value in terms.items()}


def picture_terms(
    fused: Tensor, target: Tensor, *, weights: Guidance | Imitation, features: Vgg19Features | None
) -> dict[str, Tensor]:
    """The differences of two pictures that have a weight, each (N,); those of features only where there is a VGG-19."""
    terms = {}
    if weights.pixels:
        terms["pixels"] = (fused - target).abs().mean(dim=(1, 2, 3))
    if weights.gradients:
        terms["gradients"] = gradient_difference(fused, target)
    if weights.ssim:
        # with two equal sources, the loss is 1 - SSIM to either of them
        terms["ssim"] = fidelity.ssim_loss(fused, visible=target, thermal=target)
    if weights.features and features is not None:
        with torch.no_grad():
            wanted = features(target)
        terms["features"] = perceptual_loss(fused=features(fused), visible=wanted, thermal=wanted)
    return terms


def tutoring(fused: Tensor, shown: Tensor, *, weights: Guidance) -> tuple[Tensor, dict[str, float]]:
    """The weighted difference to what a tutor shows of the same pairs, and every term's unweighted mean for the log."""
    terms = {
        "pixels": (fused - shown).abs().mean(),
        "gradients": gradient_difference(fused, shown).mean(),
    }
    total = weights.tutor_pixels * terms["pixels"] + weights.tutor_gradients * terms["gradients"]
    return total, {f"tutor_{name}": float(value.detach()) for name, value in terms.items()}


def tone_difference(fused: Tensor, target: Tensor) -> Tensor:
    """Mean difference of the means of cells of `CELL_PX`, (N,)."""
    means = [functional.avg_pool2d(image, CELL_PX, CELL_PX // 2) for image in (fused, target)]
    return (means[0] - means[1]).abs().mean(dim=(1, 2, 3))


def missing_contrast(fused: Tensor, target: Tensor, *, visible: Tensor, thermal: Tensor) -> Tensor:
    """Measure how far the logarithm of the local standard deviation stays below the teacher's, (N,).

    Local is `CELL_PX`; places count by the square of `rtfusion_trainer.objective.blindness`. The teacher's picture is
    smoothed over 3 px first: its noise is no contrast.
    """
    smooth = functional.avg_pool2d(functional.pad(target, (1, 1, 1, 1), mode="replicate"), 3, 1)
    deviations = [
        fidelity.local_moments(image, window_px=CELL_PX, step_px=CELL_PX // 2)[1].clamp(min=1e-6).sqrt()
        for image in (fused, smooth)
    ]
    blind = blindness(visible=visible, thermal=thermal)
    weight = functional.interpolate(blind, size=deviations[0].shape[-2:], mode="bilinear", align_corners=False) ** 2
    ours, theirs = (torch.log(deviation + CONTRAST_FLOOR) for deviation in deviations)
    return (weight * functional.relu(theirs - ours)).mean(dim=(1, 2, 3))


def gradient_difference(fused: Tensor, target: Tensor) -> Tensor:
    """Mean |grad F - grad T| over the valid region and both directions, (N,)."""
    (fx, fy), (tx, ty) = fidelity.gradients(fused), fidelity.gradients(target)
    return (fx - tx).abs().mean(dim=(1, 2, 3)) + (fy - ty).abs().mean(dim=(1, 2, 3))
