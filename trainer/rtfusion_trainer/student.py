"""The student: two bands in layers of detail, and a small network that predicts how much of each layer to show.

Both bands are split, in the domain of 4 x 4 pixel blocks, into three layers of detail and a base; with m the mean of a block and
B a binomial blur of the block means::

    d0 = x - interpolated m        d1 = m - B m        d2 = B m - B^2 m        base = B^2 m

The picture is their weighted sum. p_l = sigmoid(k_l (|d_l visible| - |d_l thermal|)) prefers the stronger detail, the network
adds its judgement g, of every pixel in d0 and of every block in d1 and d2, and the base follows what stands out of its scene::

    fused = b + offset + sum_l (PICK_GAIN p_l + g_l visible) d_l visible + (PICK_GAIN (1 - p_l) + g_l thermal) d_l thermal
    b     = (a_V base_V + a_T base_T) / (a_V + a_T),   a_V = |base_V - mean_V| + s,   a_T = exp(-side) (|base_T - mean_T| + s)

where a judgement that amplifies counts less for details of few gray levels, which noise and compression make too (`cored`), and
where toward the far end of the dial d0 fades out of blocks in which it is faint, while d1 and d2 grow (`far_end`, `shown`).
The weights of the two bands are free of each other: where both show something, both are shown, the lesser one less. The network
sees the blocks and how much goes on in each layer of them; the dial ``enhance`` and the means of the scene are inputs too. The
caller keeps the means, slowly, so that one hot object that enters does not re-tone the picture. Nothing is normalized by the
present image and nothing is pooled over it: with the means held, what happens `REACH_PX` away or more changes nothing.

Made for engines: dense 3 x 3 convolutions at quarter resolution, multiples of 16 channels, blocks cut and joined without a
transposition, no split of a tensor. Measured in docs/experiments.md.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from rtfusion_trainer.config import Network

BLOCK_PX = 4
STRIDE_PX = 8
REACH_PX = 88
PICK_GAIN = 1.2
SLOPE = 80.0
"""First value of k_l: a difference of 1 / 80 in detail is one unit of logit."""
SALIENCY_FLOOR = 8 / 255
FAR_FROM = 0.7
"""The far end of the dial, where it shows what one camera hardly sees, and noise with it unless something is done."""
FAR_GAIN = 0.45
"""At 1, coarse details count so much more: they have the contrast there, and little of the noise."""
FAINT = 2 / 255
CLEAR = 9 / 255
"""Mean of |d0| in a block up to which it is noise, and from which on it is not."""
OFFSET_RANGE = 0.4
_PIXELS = BLOCK_PX**2
_SCALARS = 3
_ACTIVITIES = 8
"""Four activities of each band: the block's mean |d0|, |d1|, |d2| and the base's distance from the scene's mean, ..."""
DETAIL_SCALE = 8.0
BASE_SCALE = 2.0
"""... times these, up to 1, so that they are of the size of the blocks' values."""


class Student(nn.Module):
    """Fuses (N, 1, H, W) luminance and thermal in [0, 1]; H and W are multiples of `STRIDE_PX`."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.layers = Layers()
        self.trunk = Trunk(network)
        self.fine_visible = nn.Conv2d(network.width, _PIXELS, 3, padding=1)
        self.fine_thermal = nn.Conv2d(network.width, _PIXELS, 3, padding=1)
        self.coarse = nn.Conv2d(network.width, 4, 1)
        self.side = nn.Conv2d(network.width, 1, 1)
        self.offset = nn.Conv2d(network.width, 1, 1)
        self.slope = nn.Parameter(torch.full((3,), SLOPE).log())
        with torch.no_grad():  # a fresh student is the fixed pyramid with a slight opinion
            for head in self.heads():
                head.weight.mul_(0.1)
                bias_of(head).zero_()

    def heads(self) -> tuple[nn.Conv2d, ...]:
        """The convolutions that make gains, side and offset of the features."""
        return self.fine_visible, self.fine_thermal, self.coarse, self.side, self.offset

    def forward(
        self, visible_y: Tensor, thermal: Tensor, enhance: Tensor, visible_mean: Tensor, thermal_mean: Tensor
    ) -> Tensor:
        """Fuse; the dial and the means of the scene are (N or 1, 1, 1, 1) in [0, 1].

        The result is (N, 1, H, W), in [0, 1] up to overshoot.
        """
        visible, thermal = self.layers.blocks(visible_y), self.layers.blocks(thermal)
        means = torch.cat((visible_mean, thermal_mean), dim=1)
        fine_v, fine_t, coarse, base = self.layers.split(visible, thermal)
        distance = (base - means).abs()
        strength_v, strength_t, strength = fine_v.abs(), fine_t.abs(), coarse.abs()
        activity = self.layers.activity(strength_v, strength_t, strength, distance)
        scalars = torch.cat((means, enhance), dim=1)
        features = self.trunk(torch.cat((visible, thermal, activity), dim=1), scalars)

        slope = self.slope.exp()
        preferred = PICK_GAIN * torch.sigmoid(slope[0] * (strength_v - strength_t))
        coring = self.network.coring
        far = far_end(enhance)
        shown_v, shown_t = shown(activity[:, :1], far) * fine_v, shown(activity[:, 1:2], far) * fine_t
        fine = (preferred + cored(self.fine_visible(features), strength_v, coring)) * shown_v
        fine = fine + (PICK_GAIN - preferred + cored(self.fine_thermal(features), strength_t, coring)) * shown_t
        slopes = torch.stack((slope[1], slope[1], slope[2], slope[2])).reshape(1, 4, 1, 1)
        gains = PICK_GAIN * torch.sigmoid(slopes * functional.conv2d(strength, self.layers.difference))
        gains = (gains + cored(self.coarse(features), strength, coring)) * (1 + FAR_GAIN * far)
        smooth = functional.conv2d(gains * coarse, self.layers.ones) + _base(base, distance, self.side(features))
        smooth = smooth + OFFSET_RANGE * torch.tanh(self.offset(features) / 4)
        return functional.pixel_shuffle(fine + self.layers.interpolate(smooth), BLOCK_PX)


class Trunk(nn.Module):
    """The features that the heads judge by: both bands' blocks at quarter resolution, with context at an eighth."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        width, context = network.width, network.context
        self.enter = nn.Conv2d(2 * _PIXELS + _ACTIVITIES, width, 3, padding=1)
        self.scene_before = nn.Conv2d(_SCALARS, width, 1, bias=False)
        self.body = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(network.depth))
        self.down = nn.Conv2d(width, context, 3, stride=2, padding=1)
        self.middle = nn.ModuleList(
            nn.Conv2d(context, context, 3, padding=dilation, dilation=dilation) for dilation in network.dilations
        )
        self.up = nn.Conv2d(context, 4 * width, 1)
        self.merge = nn.Conv2d(width, width, 3, padding=1)
        self.scene_after = nn.Conv2d(_SCALARS, width, 1, bias=False)

    def forward(self, seen: Tensor, scalars: Tensor) -> Tensor:
        """(N, 40, H / 4, W / 4), both bands' blocks and activity, and (N or 1, 3, 1, 1) scalars to (N, width, H / 4, W / 4)."""
        fine = functional.relu(self.enter(seen) + self.scene_before(scalars))
        for layer in self.body:
            fine = functional.relu(fine + layer(fine))
        context = functional.relu(self.down(fine))
        for layer in self.middle:
            context = functional.relu(context + layer(context))
        context = functional.pixel_shuffle(self.up(context), 2)
        return functional.relu(self.merge(fine + context) + self.scene_after(scalars))


class Layers(nn.Module):
    """Images as blocks, and blocks as layers of detail, by fixed convolutions.

    Coarse details stand in one tensor, in the order d1 visible, d1 thermal, d2 visible, d2 thermal: engines lose more time
    between small tensors than in them.
    """

    def __init__(self) -> None:
        super().__init__()
        binomial = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
        difference = torch.kron(torch.eye(2), torch.tensor([[1.0, -1.0], [-1.0, 1.0]]))
        self.cut = fixed(torch.eye(_PIXELS).reshape(_PIXELS, 1, BLOCK_PX, BLOCK_PX))
        self.mean = fixed(torch.full((1, _PIXELS, 1, 1), 1 / _PIXELS))
        self.rise = fixed(_interpolation())
        self.blur = fixed(torch.outer(binomial, binomial).expand(2, 1, 5, 5).contiguous())
        self.difference = fixed(difference.reshape(4, 4, 1, 1))
        self.ones = fixed(torch.ones(1, 4, 1, 1))

    def blocks(self, image: Tensor) -> Tensor:
        """(N, 1, H, W) to (N, 16, H / 4, W / 4): pixel-unshuffle 4, as the convolution that engines run fastest."""
        return functional.conv2d(image, self.cut, stride=BLOCK_PX)

    def split(self, visible: Tensor, thermal: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Blocks of both bands to d0 visible and d0 thermal (16 channels), d1 and d2 of both (4), and the base of both (2).

        For each band d0 plus d1, d2 and base, added and interpolated, is the band.
        """
        mean_v, mean_t = functional.conv2d(visible, self.mean), functional.conv2d(thermal, self.mean)
        means = torch.cat((mean_v, mean_t), dim=1)
        once = self._blurred(means, dilation=1)
        twice = self._blurred(once, dilation=2)
        coarse = torch.cat((means - once, once - twice), dim=1)
        return visible - self.interpolate(mean_v), thermal - self.interpolate(mean_t), coarse, twice

    def activity(self, fine_v: Tensor, fine_t: Tensor, coarse: Tensor, distance: Tensor) -> Tensor:
        """Activity of both bands, (N, 8, H / 4, W / 4) in [0, 1], of details' magnitudes and the base's distance."""
        fine = (functional.conv2d(strength, DETAIL_SCALE * self.mean) for strength in (fine_v, fine_t))
        return torch.cat((*fine, DETAIL_SCALE * coarse, BASE_SCALE * distance), dim=1).clamp(max=1)

    def interpolate(self, means: Tensor) -> Tensor:
        """(N, 1, H / 4, W / 4) block means to blocks, bilinear; the border is continued by its own value."""
        return functional.conv2d(extend(means, 1), self.rise)

    def _blurred(self, means: Tensor, *, dilation: int) -> Tensor:
        return functional.conv2d(extend(means, 2 * dilation), self.blur, dilation=dilation, groups=2)


def _base(base: Tensor, distance: Tensor, side: Tensor) -> Tensor:
    """Both bands' bases (N, 2, H / 4, W / 4) to one, by how far they are from the means of the scene."""
    salient_v = distance[:, :1] + SALIENCY_FLOOR
    salient_t = (distance[:, 1:] + SALIENCY_FLOOR) * torch.exp(-side)
    return base[:, 1:] + salient_v / (salient_v + salient_t) * (base[:, :1] - base[:, 1:])


def bias_of(layer: nn.Conv2d) -> Tensor:
    """Return the (channels,) bias of a convolution; zeros where it has none."""
    return layer.weight.new_zeros(layer.out_channels) if layer.bias is None else layer.bias


def fixed(kernel: Tensor) -> nn.Buffer:
    """A kernel that is part of a module, but neither trained nor saved."""
    return nn.Buffer(kernel, persistent=False)


def _interpolation() -> Tensor:
    """Weights (16, 1, 3, 3) of the 3 x 3 block means about a block for each of its pixels."""
    taps = np.zeros((BLOCK_PX, 3))
    for pixel in range(BLOCK_PX):
        offset = (pixel - (BLOCK_PX - 1) / 2) / BLOCK_PX
        taps[pixel, 1] = 1 - abs(offset)
        taps[pixel, 2 if offset > 0 else 0] = abs(offset)
    kernel = np.einsum("yj,xi->yxji", taps, taps)
    return torch.from_numpy(kernel.reshape(_PIXELS, 1, 3, 3)).float()


def cored(gain: Tensor, strength: Tensor, coring: float) -> Tensor:
    """The gain of a detail of this strength: what amplifies counts in full from ``coring`` gray levels on, and less below.

    Flat ground far away in a thermal image differs by one or two gray levels, which is as much as noise, the steps of 8 bits and
    the blocks of a compressed video. What attenuates counts for all details.
    """
    if not coring:
        return gain
    return torch.minimum(gain, gain * (strength * (255 / coring)).clamp(max=1))


def far_end(enhance: Tensor) -> Tensor:
    """0 up to `FAR_FROM` on the dial, then linear to 1 at 1."""
    return ((enhance - FAR_FROM) / (1 - FAR_FROM)).clamp(min=0)


def shown(activity: Tensor, far: Tensor) -> Tensor:
    """Share of d0 that a block shows, by its mean |d0| times `DETAIL_SCALE`: all of it but for the far end of the dial."""
    clear = ((activity / DETAIL_SCALE - FAINT) / (CLEAR - FAINT)).clamp(0, 1)
    return 1 - far * (1 - clear)


def extend(image: Tensor, margin: int) -> Tensor:
    """Add a margin on all sides, by repeating the edge."""
    return functional.pad(image, (margin, margin, margin, margin), mode="replicate")
