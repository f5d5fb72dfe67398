"""The head: both bands at a quarter of the resolution to a map for each target, at the same resolution."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rtfusion_trainer.focus.config import FocusConfig

STRIDE = 4
"""Height and width of what goes in are multiples of this: the network halves them twice."""
STEM = 12
LEAST, FULL = 0.25, 0.7
"""The probabilities from which on a map is above 0, and 1."""


class FocusHead(nn.Module):
    """Normalizes each band over the picture, halves it twice, looks around, and comes back.

    ``forward`` gives logits, (N, targets, h, w) for (N, 1, h, w) of each band in [0, 1]; `Inference` the maps.
    """

    def __init__(self, config: FocusConfig) -> None:
        super().__init__()
        width, depth, targets = config.width, config.depth, len(config.targets)
        self.stem = _conv(4, STEM)
        self.down = _conv(STEM, width, stride=2)
        self.at_eighth = _conv(width, width)
        self.deeper = _conv(width, depth, stride=2)
        self.around = nn.ModuleList(_conv(depth, depth, dilation=dilation) for dilation in config.dilations)
        self.up = nn.Conv2d(depth, width, 1)
        self.merge = _conv(width, width)
        self.coarse = nn.Conv2d(width, targets * 4, 1)
        self.fine = nn.Conv2d(STEM, targets, 1)
        self.back = nn.PixelShuffle(2)
        nn.init.constant_(self.coarse.bias, -2.0)  # type: ignore[arg-type]  # most of a picture is no target

    def forward(self, visible_y: Tensor, thermal: Tensor) -> Tensor:
        """Give the logits."""
        stem = self.stem(torch.cat([visible_y, thermal, _normalized(visible_y), _normalized(thermal)], dim=1))
        eighth = self.at_eighth(self.down(stem))
        deep = self.deeper(eighth)
        for look in self.around:
            deep = deep + look(deep)
        larger = nn.functional.interpolate(self.up(deep), scale_factor=2.0, mode="nearest")
        return self.back(self.coarse(self.merge(eighth + larger))) + self.fine(stem)


class Inference(nn.Module):
    """The maps that are used: 0 below `LEAST`, 1 from `FULL` on, smooth between."""

    def __init__(self, head: FocusHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, visible_y: Tensor, thermal: Tensor) -> Tensor:
        """Give the maps, (N, targets, h, w) in [0, 1]."""
        sure = torch.clamp((torch.sigmoid(self.head(visible_y, thermal)) - LEAST) / (FULL - LEAST), 0.0, 1.0)
        # the head gives squares of 2 x 2 values, whose corners would be seen
        sure = nn.functional.avg_pool2d(sure, 3, stride=1, padding=1, count_include_pad=False)
        return sure * sure * (3.0 - 2.0 * sure)


def _normalized(band: Tensor) -> Tensor:
    """A band with the mean 0 and the deviation 1, so that no scene is dark or flat."""
    centered = band - band.mean(dim=(2, 3), keepdim=True)
    return centered / torch.sqrt((centered * centered).mean(dim=(2, 3), keepdim=True) + 1e-4)


def _conv(before: int, after: int, *, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(before, after, 3, stride=stride, padding=dilation, dilation=dilation, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU())
