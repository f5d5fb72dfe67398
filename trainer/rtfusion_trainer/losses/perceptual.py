"""Perceptual fidelity: the fused picture's VGG-19 features shall be the larger ones of the two sources'.

Weights come from a local file, in one of two layouts, told apart by their names:

- torchvision's ``vgg19`` (or its ``features`` alone): pictures in [0, 1] go in as they are, which is how LDFusion uses it;
- the sequential "normalised" VGG-19 of style transfer (WCT), scaled so that features average 1: a 1 x 1 convolution from RGB in
  [0, 1] to the network's own range stands before it, borders are mirrored, and it may end early (relu3_1).

Layers bear the names of the convolutions; features are taken after the ReLU that follows. (LDFusion's code names the convolutions
too, but torchvision's ReLUs work in place, so what it compares are the rectified features.)
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from rtfusion.errors import ConfigError, ModelError
from rtfusion_trainer.checkpoint import UNREADABLE

CONVOLUTIONS_PER_BLOCK = (2, 2, 4, 4, 4)
CHANNELS_PER_BLOCK = (64, 128, 256, 512, 512)
LAYERS = tuple(f"conv{b}_{i}" for b, n in enumerate(CONVOLUTIONS_PER_BLOCK, start=1) for i in range(1, n + 1))
_WHAT_TO_PLACE = (
    "put torchvision's vgg19 state dict (vgg19-dcbb9e9d.pth) or a normalised VGG-19 (vgg_normalised_conv3_1.pth or a deeper "
    "one) on this machine and pass --vgg-weights FILE. Nothing is downloaded"
)


class Vgg19Features(nn.Module):
    """VGG-19 up to the deepest of ``layers``, frozen."""

    def __init__(self, layers: Sequence[str], *, normalized: bool = False) -> None:
        super().__init__()
        unknown = [layer for layer in layers if layer not in LAYERS]
        if unknown or not layers:
            raise ConfigError(f"VGG-19 has no layer {', '.join(unknown) or '(none named)'}; it has {', '.join(LAYERS)}")
        self.layers = tuple(layers)
        self.normalized = normalized
        self.names = LAYERS[: 1 + max(LAYERS.index(layer) for layer in layers)]
        self.enter = nn.Conv2d(3, 3, 1) if normalized else nn.Identity()
        channels = (3, *(CHANNELS_PER_BLOCK[_block(name)] for name in self.names))
        mode: Literal["reflect", "zeros"] = "reflect" if normalized else "zeros"
        self.convolutions = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode=mode)
            for inputs, outputs in itertools.pairwise(channels)
        )
        self.requires_grad_(False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(N, 1 or 3, H, W) in [0, 1], 16 px or larger, to the features of the layers asked for."""
        x = self.enter(images.expand(-1, 3, -1, -1))
        found = {}
        for index, (name, convolution) in enumerate(zip(self.names, self.convolutions, strict=True)):
            if index and _block(name) != _block(self.names[index - 1]):
                x = functional.max_pool2d(x, 2, ceil_mode=self.normalized)
            x = functional.relu(convolution(x))
            if name in self.layers:
                found[name] = x
        return found


def load_vgg19(weights: Path | None, *, layers: Sequence[str], device: torch.device | None = None) -> Vgg19Features:
    """Load VGG-19 as far as ``layers`` need it; what lies deeper in the file, the classifier included, is not looked at.

    Raises:
        ConfigError: there is no file, or no such layer.
        ModelError: the file cannot be read, is no VGG-19, or ends before the layers asked for.
    """
    if weights is None or not weights.is_file():
        where = "" if weights is None else f", there is no file {weights}"
        raise ConfigError(f"perceptual fidelity needs VGG-19 weights{where}: {_WHAT_TO_PLACE}")
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise ModelError(f"cannot read {weights} as a state dict: {error}") from error
    normalized = "0.weight" in state and tuple(state["0.weight"].shape) == (3, 3, 1, 1)
    network = Vgg19Features(layers, normalized=normalized)
    try:
        network.load_state_dict({ours: state[theirs] for ours, theirs in _theirs_from_ours(network, state).items()})
    except KeyError as error:
        raise ModelError(
            f"{weights} has no {error}, which {network.names[-1]} needs; take a deeper VGG-19, or name the "
            "layers that it has as perceptual_layers in a preset of your own (docs/training.md)"
        ) from error
    except RuntimeError as error:
        raise ModelError(f"{weights} is no VGG-19: {error}") from error
    return network.to(device or torch.device("cpu")).eval()


def perceptual_loss(
    *, fused: Mapping[str, Tensor], visible: Mapping[str, Tensor], thermal: Mapping[str, Tensor]
) -> Tensor:
    """Sum over layers of mean (phi(f) - max(phi(v), phi(t)))^2; one value per picture, (N,).

    phi are the features (N, C, H, W) that `Vgg19Features` gives, by layer. The sources' features are taken as constants.
    """
    terms = [
        (features - torch.maximum(visible[layer], thermal[layer]).detach()).square().mean(dim=(1, 2, 3))
        for layer, features in fused.items()
    ]
    return torch.stack(terms).sum(dim=0)


def _block(layer: str) -> int:
    return int(layer[4]) - 1


def _theirs_from_ours(network: Vgg19Features, state: Mapping[str, Tensor]) -> dict[str, str]:
    """Parameter names of ``network`` to those of the file."""
    prefix = "" if network.normalized or "0.weight" in state else "features."
    # Distance from one convolution to the next: ReLU between; mirror padding, where it is a layer; a pool between blocks.
    step, first = (3, 2) if network.normalized else (2, 0)
    names = {"enter.weight": "0.weight", "enter.bias": "0.bias"} if network.normalized else {}
    for index, layer in enumerate(network.names):
        position = first + step * index + _block(layer)
        for kind in ("weight", "bias"):
            names[f"convolutions.{index}.{kind}"] = f"{prefix}{position}.{kind}"
    return names
