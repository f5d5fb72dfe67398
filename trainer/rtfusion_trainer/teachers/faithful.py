"""A faithful teacher without a network: the fused picture itself is optimized, pixel by pixel, for one pair at a time.

It minimizes the terms of `rtfusion_trainer.losses.fidelity`, weighted by a `Recipe`: gradients like the longer of the two
sources', SSIM, VIF and Qabf to both of them, contrast of both together, and no halo. No student has to keep up with it: it takes
seconds per pair on a CPU. Its pictures are the best that these terms can reach, and so what a student can be distilled from.
"""

from __future__ import annotations

import hashlib
import inspect
import math
import sys
from dataclasses import asdict, dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from rtfusion.types import Image8
from rtfusion_trainer.losses import fidelity
from rtfusion_trainer.teachers.network import Constants, FloatImage, as_tensor, check_pair

PLANES = 5
"""The picture is the sum of planes, each of half the size of the one before: large areas move as fast as pixels."""
SMALLEST_PX = 64


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Weight of each term, its target, and the length of the search."""

    steps: int = 60
    learning_rate: float = 0.02
    """Rate of Adam, per plane, in units of the full range; it falls to a hundredth along half a cosine."""
    gradient: float = 24.0
    gradient_gain: float = 1.6
    """Gradients are wanted this many times as large as the longer of the two sources' ..."""
    gradient_noise: float = 3 / 255
    """... but as they are where they are well below this, in units of the full range per px: noise is not to grow."""
    edges: float = 1.5
    ssim: float = 3.0
    vif: float = 1.0
    scd: float = 1.5
    sources: float = 1.0
    contrast: float = 2.0
    contrast_gain: float = 0.89
    """The standard deviation is wanted this many times the root of the sources' summed variances."""
    halo: float = 20.0
    outside: float = 5.0
    outside_margin: float = 0.06
    """Local means may leave the range of the sources' by this much, in units of the full range."""


class FaithfulTeacher:
    """Optimizes the fused picture of each pair it is given."""

    name = "faithful"

    def __init__(self, recipe: Recipe | None = None, *, device: torch.device | None = None) -> None:
        self.recipe = recipe or Recipe()
        self.device = device or torch.device("cpu")

    @property
    def constants(self) -> Constants:
        """The recipe, and a checksum of the code that it is for: changed terms are another teacher."""
        definitions = "".join(inspect.getsource(module) for module in (fidelity, sys.modules[__name__]))
        return {**asdict(self.recipe), "terms": hashlib.sha256(definitions.encode()).hexdigest()}

    def __call__(self, *, visible: Image8, thermal: Image8) -> FloatImage:
        """(H, W) uint8 twice in, at least `SMALLEST_PX` high and wide; (H, W) float32 in [0, 1] out."""
        check_pair(visible=visible, thermal=thermal, smallest_px=SMALLEST_PX)
        distance_px = torch.from_numpy(distance_to_hot_px(thermal))[None, None].to(self.device)
        bands = {"visible": as_tensor(visible, self.device), "thermal": as_tensor(thermal, self.device)}
        fused = optimize(**bands, distance_px=distance_px, recipe=self.recipe)
        return fused[0, 0].cpu().numpy()


def optimize(*, visible: Tensor, thermal: Tensor, distance_px: Tensor, recipe: Recipe) -> Tensor:
    """The picture (N, 1, H, W) in [0, 1] that minimizes `objective` for (N, 1, H, W) sources in [0, 1].

    Starts at the sources' average. Deterministic.
    """
    start = (visible + thermal) / 2
    planes = _planes(start)
    optimizer = torch.optim.Adam(planes, lr=recipe.learning_rate, betas=(0.9, 0.98))
    for step in range(recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * (0.01 + 0.99 * (1 + math.cos(math.pi * step / recipe.steps)) / 2)
        loss = objective(_sum(start, planes), visible=visible, thermal=thermal, distance_px=distance_px, recipe=recipe)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        return _sum(start, planes).clamp(0, 1)


def objective(fused: Tensor, *, visible: Tensor, thermal: Tensor, distance_px: Tensor, recipe: Recipe) -> Tensor:
    """The weighted sum of the recipe's terms, and what lies outside [0, 1]; a scalar."""
    bands = {"visible": visible, "thermal": thermal}
    contrast_gain = torch.full((len(fused),), recipe.contrast_gain, device=fused.device)
    clipped = fidelity.clipping_loss(fused)  # before the others: the order decides how their gradients are rounded
    terms = (
        recipe.gradient * fidelity.gradient_loss(fused, gain=_gain(recipe, **bands), **bands),
        recipe.edges * fidelity.edge_loss(fused, **bands),
        recipe.ssim * fidelity.ssim_loss(fused, **bands),
        recipe.vif * fidelity.vif_loss(fused, **bands),
        recipe.scd * fidelity.scd_loss(fused, **bands),
        recipe.sources * fidelity.source_loss(fused, **bands),
        recipe.contrast * fidelity.contrast_loss(fused, gain=contrast_gain, **bands),
        recipe.halo * fidelity.halo_loss(fused, distance_px=distance_px, **bands),
        recipe.outside * fidelity.outside_loss(fused, margin=recipe.outside_margin, **bands),
        100 * clipped,
    )
    return torch.stack(terms).sum(dim=0).mean()


def _gain(recipe: Recipe, *, visible: Tensor, thermal: Tensor) -> Tensor:
    """1 + (gain - 1) g^2 / (g^2 + noise^2), g the length of the longer of the sources' gradients; (N, 1, H, W)."""
    power = fidelity.gradient_power(visible=visible, thermal=thermal)
    return 1 + (recipe.gradient_gain - 1) * (power / (power + recipe.gradient_noise**2))


def distance_to_hot_px(thermal: Image8) -> FloatImage:
    """Distance of every pixel to the nearest hot one (thermal above its mean plus two standard deviations)."""
    cold = (thermal <= thermal.mean() + 2 * thermal.std()).astype(np.uint8)
    return cv2.distanceTransform(cold, cv2.DIST_L2, cv2.DIST_MASK_PRECISE).astype(np.float32, copy=False)


def _planes(start: Tensor) -> list[Tensor]:
    count, _, height, width = start.shape
    sizes = [(-(-height // 2**k), -(-width // 2**k)) for k in range(PLANES)]
    return [torch.zeros(count, 1, *size, device=start.device, requires_grad=True) for size in sizes]


def _sum(start: Tensor, planes: list[Tensor]) -> Tensor:
    size = start.shape[-2:]
    smooth = [functional.interpolate(plane, size=size, mode="bilinear", align_corners=False) for plane in planes[1:]]
    return start + planes[0] + torch.stack(smooth).sum(dim=0)
