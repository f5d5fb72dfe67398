"""The student: a fixed Laplacian pyramid whose selection, gains, base and tone a small network steers.

Everything runs in the domain of 4 x 4 pixel blocks (pixel-unshuffle 4), where the pyramid's fine levels are dense 3 x 3
convolutions with fixed weights and every layer is one that OpenVINO and TensorRT run fast. With d0, d1 the Laplacian details
of OpenCV's pyrDown / pyrUp, g2 the Gaussian at quarter resolution, blurred thrice by a binomial to g3, g4 and the base B, and
d2 = g2 - g3, d3 = g3 - g4, d4 = g4 - B::

    side    = m + e m' + log (|B visible - mean visible| + s) - log (|B thermal - mean thermal| + s)
    w_l     = sigmoid(side + b_l + k_l (|d_l visible| - |d_l thermal|))
    d_l     = gain_l (w_l d_l visible + (1 - w_l) d_l thermal)
    base    = M + (1 + c e) (sigmoid(side) B visible + (1 - sigmoid(side)) B thermal - M) + offset

where the network gives m, m', b_l, gain_l and offset for every block; e is the dial ``enhance`` in [0, 1], and M the mean of
the two means. All levels share one side, so that they agree which band shows what. Gains never fall as e rises.

The means are inputs: the caller keeps them, slowly, so that one hot object that enters does not re-tone the picture. Nothing
is normalized by the present image and nothing is pooled over it: with the means held, what happens more than `REACH_PX` away
changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.config import Network

BLOCK_PX = 4
STRIDE_PX = 8
REACH_PX = 64
GAIN_RANGE = 0.5
"""At e = 0 a detail is multiplied by 1 - GAIN_RANGE to 1 + GAIN_RANGE."""
ENHANCED_GAIN = 1.0
"""At e = 1 it is multiplied by up to 1 + ENHANCED_GAIN more."""
OFFSET_RANGE = 0.3
SALIENCY_FLOOR = 8 / 255
BASE_CONTRAST = 0.5
"""What the dial adds to the contrast of the base about the mean at e = 1."""
SELECTION_SLOPES = (200.0, 400.0, 400.0, 400.0, 400.0)
"""Where k_l starts, finest level first: a difference of 1 / k_l in detail magnitude is one unit of logit."""

Matrix = npt.NDArray[np.float64]

# What the head predicts per block, in this order.
_SINGLE = ("bias2", "bias3", "bias4", "side", "side_e", "offset", "offset_e")
_HEAD = {"bias0": 16, "bias1": 4, **dict.fromkeys(_SINGLE, 1), "gain": 5, "gain_e": 5}
BLUR_DILATIONS = (1, 2, 2)


class Student(nn.Module):
    """Fuses (N, 1, H, W) luminance and thermal in [0, 1]; H and W are multiples of `STRIDE_PX`."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.pyramid = BlockPyramid()
        self.trunk = Trunk(network)
        self.head = nn.Conv2d(network.width, sum(_HEAD.values()), 3, padding=1)
        self.slope = nn.Parameter(torch.tensor(SELECTION_SLOPES).log())
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)

    def forward(
        self, visible_y: Tensor, thermal: Tensor, enhance: Tensor, visible_mean: Tensor, thermal_mean: Tensor
    ) -> Tensor:
        """Fuse; the dial and the means of the scene are (N or 1, 1, 1, 1) in [0, 1].

        The result is (N, 1, H, W), in [0, 1] up to overshoot.
        """
        visible, thermal = blocks(visible_y), blocks(thermal)
        features = self.trunk(visible, thermal, torch.cat((visible_mean, thermal_mean), dim=1))
        maps = dict(zip(_HEAD, self.head(features).split(list(_HEAD.values()), dim=1), strict=True))
        gain = 1 + GAIN_RANGE * torch.tanh(maps["gain"])
        gain = gain * (1 + enhance * ENHANCED_GAIN * torch.sigmoid(maps["gain_e"]))
        offset = OFFSET_RANGE * (torch.tanh(maps["offset"]) + enhance * torch.tanh(maps["offset_e"]))
        v, t = self.pyramid.split(visible), self.pyramid.split(thermal)
        side = maps["side"] + enhance * maps["side_e"] + _saliency(v[-1], visible_mean) - _saliency(t[-1], thermal_mean)
        details = [
            self._select(v[level], t[level], side + maps[f"bias{level}"], level=level) * gain[:, level : level + 1]
            for level in range(len(SELECTION_SLOPES))
        ]
        mean = (visible_mean + thermal_mean) / 2
        base = t[-1] + torch.sigmoid(side) * (v[-1] - t[-1])
        base = mean + (1 + BASE_CONTRAST * enhance) * (base - mean) + offset
        return self.pyramid.join([*details, base])

    def _select(self, visible: Tensor, thermal: Tensor, logit: Tensor, *, level: int) -> Tensor:
        weight = torch.sigmoid(logit + self.slope[level].exp() * (visible.abs() - thermal.abs()))
        return thermal + weight * (visible - thermal)


class Trunk(nn.Module):
    """What the head judges by: blocks of both bands, at quarter resolution, with context at an eighth."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        width, context = network.width, network.context
        self.enter = nn.Conv2d(2 * BLOCK_PX**2, width, 3)
        self.scene = nn.Conv2d(2, width, 1, bias=False)
        self.down = nn.Conv2d(width, context, 3, stride=2, padding=1)
        self.middle = nn.ModuleList(
            nn.Conv2d(context, context, 3, padding=dilation, dilation=dilation) for dilation in network.dilations
        )
        self.up = nn.Conv2d(context, 4 * (width - 8), 1)
        self.merge = nn.Conv2d(width + width - 8, width, 3, padding=1)

    def forward(self, visible: Tensor, thermal: Tensor, means: Tensor) -> Tensor:
        """(N, 16, H / 4 + 2, W / 4 + 2) of each band and (N, 2, 1, 1) means to (N, width, H / 4, W / 4)."""
        fine = functional.relu(self.enter(torch.cat((visible, thermal), dim=1)) + self.scene(means))
        coarse = functional.relu(self.down(fine))
        for layer in self.middle:
            coarse = functional.relu(coarse + layer(coarse))
        coarse = functional.pixel_shuffle(self.up(coarse), 2)
        return functional.relu(self.merge(torch.cat((fine, coarse), dim=1)))


class BlockPyramid(nn.Module):
    """OpenCV's Laplacian pyramid as convolutions over 4 x 4 blocks; a Gaussian level is 4 channels, then 1."""

    down1: Tensor
    down2: Tensor
    up1: Tensor
    up2: Tensor
    blur: Tensor

    def __init__(self) -> None:
        super().__init__()
        down1 = np.stack([_down_row(2 * i, first=-4, length=12) for i in (0, 1)])
        down2 = _down_row(0, first=-2, length=6)[None]
        up1 = np.stack([_up_row(i, first=-2, length=6) for i in range(4)])
        up2 = np.stack([_up_row(i, first=-1, length=3) for i in range(2)])
        binomial = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
        weights = {"down1": down1, "down2": down2, "up1": up1, "up2": up2}
        for name, rows in weights.items():
            self.register_buffer(name, _convolution(rows), persistent=False)
        self.register_buffer("blur", torch.outer(binomial, binomial)[None, None], persistent=False)

    def split(self, band: Tensor) -> list[Tensor]:
        """Blocks (N, 16, H / 4 + 2, W / 4 + 2) to d0 (16 channels), d1 (4), d2, d3, d4 and base (1), each H / 4 x W / 4."""
        g1 = functional.conv2d(band, self.down1)
        g2 = functional.conv2d(_extend(g1), self.down2)
        levels = [
            band[:, :, 1:-1, 1:-1] - functional.conv2d(_extend(g1), self.up1),
            g1 - functional.conv2d(_extend(g2), self.up2),
        ]
        for dilation in BLUR_DILATIONS:
            blurred = functional.conv2d(_extend(g2, 2 * dilation), self.blur, dilation=dilation)
            levels.append(g2 - blurred)
            g2 = blurred
        return [*levels, g2]

    def join(self, levels: Sequence[Tensor]) -> Tensor:
        """The inverse: (N, 1, H, W)."""
        d0, d1, *coarse = levels
        g2 = sum(coarse[1:], start=coarse[0])
        g1 = d1 + functional.conv2d(_extend(g2), self.up2)
        return functional.pixel_shuffle(d0 + functional.conv2d(_extend(g1), self.up1), BLOCK_PX)


def blocks(image: Tensor) -> Tensor:
    """(N, 1, H, W) to (N, 16, H / 4 + 2, W / 4 + 2): blocks of pixels, one more on each side by repeating the edge."""
    return functional.pixel_unshuffle(_extend(image, BLOCK_PX), BLOCK_PX)


def _saliency(base: Tensor, mean: Tensor) -> Tensor:
    return torch.log((base - mean).abs() + SALIENCY_FLOOR)


def macs_per_pixel(network: Network) -> float:
    """Multiplications per pixel of the picture, those of the fixed convolutions included."""
    width, context = network.width, network.context
    fixed = 2 * (2 * 4 * 16 * 9 + 2 * 4 * 9 + 3 * 25) + 4 * 9 + 4 * 16 * 9
    quarter = 9 * (32 * width + (2 * width - 8) * width + width * sum(_HEAD.values()))
    eighth = 9 * (width * context + len(network.dilations) * context**2) + 4 * context * (width - 8)
    return (fixed + quarter + eighth / 4) / BLOCK_PX**2


def _extend(image: Tensor, margin: int = 1) -> Tensor:
    return functional.pad(image, (margin, margin, margin, margin), mode="replicate")


def _down_row(at: int, *, first: int, length: int) -> Matrix:
    """Weights of pyrDown's sample at position ``at`` over the samples first .. first + length - 1."""
    row = np.zeros(length)
    for offset, weight in zip(range(-2, 3), (1, 4, 6, 4, 1), strict=True):
        row[at + offset - first] = weight / 16
    return row


def _up_row(at: int, *, first: int, length: int) -> Matrix:
    """Weights of pyrUp's sample at fine position ``at`` over the coarse samples first .. first + length - 1."""
    row = np.zeros(length)
    taps = ((-1, 1 / 8), (0, 6 / 8), (1, 1 / 8)) if at % 2 == 0 else ((0, 1 / 2), (1, 1 / 2))
    for offset, weight in taps:
        row[at // 2 + offset - first] = weight
    return row


def _convolution(rows: Matrix) -> Tensor:
    """A separable map of three blocks of n samples to m samples as a 3 x 3 convolution of n^2 to m^2 channels."""
    outputs, samples = rows.shape
    taps = rows.reshape(outputs, 3, samples // 3)
    dense = np.einsum("ayi,bxj->abijyx", taps, taps)
    return torch.from_numpy(dense.reshape(outputs**2, (samples // 3) ** 2, 3, 3)).float()
