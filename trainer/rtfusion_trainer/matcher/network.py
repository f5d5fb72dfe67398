"""The network: a picture of one band to a descriptor for every cell, the same for both bands where they see the same thing."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rtfusion_trainer.matcher.config import MatcherConfig

STEM = 16
START = 10.0
"""First value of the scale of the logits, the inverse of a temperature."""
MOST = 40.0


class Matcher(nn.Module):
    """An entrance for each band, then a body that both share.

    ``forward`` gives descriptors (N, C, H / 4, W / 4) of both bands for (N, 1, H, W) in [0, 1]. The product of two of them is the
    logit of their being of one thing: they are of one length, the root of the learned scale.
    """

    def __init__(self, config: MatcherConfig) -> None:
        super().__init__()
        width = config.width
        self.visible_entrance, self.thermal_entrance = _Entrance(width), _Entrance(width)
        self.body = nn.ModuleList(_conv(width, width, dilation=dilation) for dilation in config.dilations)
        self.head = nn.Conv2d(width, config.channels, 1)
        self.log_scale = nn.Parameter(torch.tensor(START).log())

    def forward(self, visible_y: Tensor, thermal: Tensor) -> tuple[Tensor, Tensor]:
        """Give the descriptors of both bands."""
        features = torch.cat([self.visible_entrance(visible_y), self.thermal_entrance(thermal)])
        for look in self.body:
            features = features + look(features)
        raw = self.head(features)
        length = torch.sqrt((raw * raw).sum(dim=1, keepdim=True) + 1e-6)
        scale = torch.sqrt(torch.exp(self.log_scale).clamp(max=MOST))
        visible, thermal = (scale * raw / length).chunk(2)
        return visible, thermal


class _Entrance(nn.Module):
    """Blocks of 2 x 2 pixels as channels, twice; edges without their sign in between: what is warm may be bright or dark."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.blocks = nn.PixelUnshuffle(2)
        self.edges = nn.Conv2d(4, STEM, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(STEM)
        self.cells = _conv(4 * STEM, width)

    def forward(self, image: Tensor) -> Tensor:
        """Give features, (N, width, H / 4, W / 4)."""
        features: Tensor = self.cells(self.blocks(self.norm(torch.abs(self.edges(self.blocks(image - 0.5))))))
        return features


def _conv(before: int, after: int, *, dilation: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(before, after, 3, padding=dilation, dilation=dilation, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU())
