"""Distillation as LDFusion's successor describes it: the student sees degraded pairs, its teacher saw the clean ones.

The student is to look as its language-driven teacher does, at the default of its dial: the two fused pictures are compared by
VGG-19 features of several layers, and by pixels, gradients, structure and the means of cells. The teacher's picture comes as
both bands explain it (`rtfusion_trainer.explained`), so that its noise, its grid and its halos are not learned. Toward 0 on the
dial the teacher counts less, and fidelity to both bands more.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rtfusion_trainer.config import Imitation
from rtfusion_trainer.data import Batch
from rtfusion_trainer.guidance import missing_contrast, picture_terms, tone_difference
from rtfusion_trainer.losses.perceptual import Vgg19Features, perceptual_loss


@dataclass(frozen=True)
class Compared:
    """What comparing a batch with the teacher gave."""

    loss: Tensor
    followed: Tensor
    """(N,): how far the student is to follow the teacher in each picture, 0 to 1."""
    terms: dict[str, float]
    """Unweighted means, for the log."""
    clean: float
    """Mean weighted error of the pictures that were seen clean, without features; NaN if there were none."""
    degraded: float
    """The same of those that were seen degraded."""


def following(dial: Tensor, *, default: float) -> Tensor:
    """How far the student follows the teacher at this place of the dial, (N,): 0 at 0, 1 from the default on."""
    return (dial.flatten() / max(default, 1e-6)).clamp(max=1)


def imitation(
    fused: Tensor, batch: Batch, *, weights: Imitation, default: float, features: Vgg19Features | None
) -> Compared:
    """Compare the fused pictures with the teacher's; features, which cost most, of the first ``features_of`` of them.

    Pictures whose scene was changed so that the teacher says nothing of it (`Batch.trust`) count nothing.
    """
    target, trust = batch.language_target, batch.trust
    if target is None or trust is None:
        raise ValueError("the batch has no pictures of a language-driven teacher")
    share = trust * following(batch.enhance, default=default)
    parts = picture_terms(fused, target, weights=weights, features=None)
    parts["tone"] = tone_difference(fused, target)
    if weights.contrast:
        bands = {"visible": batch.wanted_visible, "thermal": batch.wanted_thermal}
        parts["contrast"] = missing_contrast(fused, target, **bands)
    error = torch.stack([getattr(weights, name) * values for name, values in parts.items()]).sum(dim=0)
    loss, terms = (share * error).mean(), {name: (share * values).mean() for name, values in parts.items()}
    if features is not None and weights.features:
        first = slice(0, weights.features_of)
        with torch.no_grad():
            wanted = features(target[first])
        differences = perceptual_loss(fused=features(fused[first]), visible=wanted, thermal=wanted)
        terms["features"] = (share[first] * differences).mean()
        loss = loss + weights.features * terms["features"]
    hard = batch.degraded
    counted = (share > 0) if hard is None else (share > 0) & ~hard
    return Compared(
        loss=loss,
        followed=share,
        terms={f"like_{name}": float(value.detach()) for name, value in terms.items()},
        clean=_mean_of(error, counted),
        degraded=float("nan") if hard is None else _mean_of(error, (share > 0) & hard),
    )


def _mean_of(values: Tensor, mask: Tensor) -> float:
    """NaN where the mask is empty."""
    return float(values.detach()[mask].mean())
