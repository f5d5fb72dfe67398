"""Random affine maps of images, as the language loss and its training use them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, kw_only=True)
class RandomAffine:
    """Bounds of a random rotation, shift, zoom and shear, to either side and drawn evenly; the defaults are LDFusion's."""

    rotation_deg: float = 5.0
    shift_x: float = 0.0  # the published (0, 0.1) is torchvision's: no shift along x
    """As a share of the width."""
    shift_y: float = 0.1
    """As a share of the height."""
    scale: tuple[float, float] = (1.0, 1.5)
    """The smallest and the largest."""
    shear_deg: float = 5.0
    """Along x."""
    resampling: str = "bilinear"
    """``bilinear`` or ``nearest``; the latter is what the published maps come to."""


def seeded(*numbers: int) -> torch.Generator:
    """A generator of the CPU seeded by several numbers."""
    seed = int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
    return torch.Generator().manual_seed(seed)


def uniform(low: float, high: float, generator: torch.Generator) -> float:
    """One draw from [low, high)."""
    return low + (high - low) * float(torch.rand((), generator=generator))


def draw(bounds: RandomAffine, generator: torch.Generator) -> Tensor:
    """A (2, 3) matrix for `warp`: input_from_output, in coordinates where the image spans -1 to 1 both ways.

    The inverse of out = scale R(rotation) [[1, tan shear], [0, 1]] in + shift.
    """
    angle = math.radians(uniform(-bounds.rotation_deg, bounds.rotation_deg, generator))
    shear = math.tan(math.radians(uniform(-bounds.shear_deg, bounds.shear_deg, generator)))
    scale = uniform(*bounds.scale, generator)
    shift = [2 * uniform(-share, share, generator) for share in (bounds.shift_x, bounds.shift_y)]
    cosine, sine = math.cos(angle), math.sin(angle)
    rotation = torch.tensor([[cosine, -sine], [sine, cosine]])
    input_from_output = torch.linalg.inv(scale * rotation @ torch.tensor([[1.0, shear], [0.0, 1.0]]))
    offset = -input_from_output @ torch.tensor([shift]).T
    return torch.cat((input_from_output, offset), dim=1)


def warp(images: Tensor, input_from_output: Tensor, *, size_px: int, resampling: str = "bilinear") -> Tensor:
    """Square images (N, C, S, S) through one matrix of `draw` to (N, C, size_px, size_px); black outside."""
    theta = input_from_output.to(images)[None].expand(len(images), 2, 3)
    grid = functional.affine_grid(theta, [len(images), images.shape[1], size_px, size_px], align_corners=False)
    return functional.grid_sample(images, grid, mode=resampling, padding_mode="zeros", align_corners=False)
