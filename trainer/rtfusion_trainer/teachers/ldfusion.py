"""LDFusion's network (arXiv 2402.16267, ACM MM 2025), written from its published description, shapes and parameter counts.

Two encoders per band: content (a feature map at an eighth of the size) and style (8 numbers). The styles set scale and shift of
the decoder's adaptive instance normalization; three transposed convolutions bring the contents back to full size. Luminance only.

State dicts: the names and shapes of `LdFusionEncoder` and `LdFusionDecoder` are those that the published code gives its
``Enc_final.pt`` and ``Dec_final.pt``, so these load strictly. The published weights themselves were not at hand when this was
written: the layout is known from the code and its parameter counts (5,776,977 in all; encoder 1,742,736; decoder 4,034,241, of
which 596,480 in its MLP), not from the files.

It normalizes by the statistics of each picture, so a hot object that enters changes the whole: a teacher, not for video.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from rtfusion.errors import ConfigError, ModelError
from rtfusion_trainer.checkpoint import UNREADABLE
from rtfusion_trainer.teachers.network import NetworkTeacher

WIDTH = 16
"""Channels after the first convolution; they double with every halving of the size."""
HALVINGS = 3
RESIDUAL_BLOCKS = 2
STYLE_VALUES = 8
MLP_WIDTH = 256
ENCODER_FILE, DECODER_FILE = "Enc_final.pt", "Dec_final.pt"
EPSILON = 1e-5


class LdFusion(nn.Module):
    """Fuses luminance and thermal (N, 1, H, W) in [0, 1], H and W at least 16, to (N, 1, H, W) in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = LdFusionEncoder()
        self.decoder = LdFusionDecoder()
        self.apply(_initialize)

    def forward(self, *, visible: Tensor, thermal: Tensor) -> Tensor:
        """The decoder's picture is 14 to 21 px larger than the input; its top left part is the result."""
        content, style = self.encoder(visible=visible, thermal=thermal)
        picture: Tensor = self.decoder(content, style)
        return picture[..., : visible.shape[-2], : visible.shape[-1]]


class LdFusionEncoder(nn.Module):
    """Both bands to content and style; 1 is the visible band, 2 the thermal one."""

    def __init__(self) -> None:
        super().__init__()
        self.content_encoder1 = content_encoder(WIDTH)
        self.content_encoder2 = content_encoder(WIDTH)
        self.style_encoder1 = style_encoder()
        self.style_encoder2 = style_encoder()

    def forward(self, *, visible: Tensor, thermal: Tensor) -> tuple[Tensor, Tensor]:
        """Two pictures (N, 1, H, W) to content (N, 256, H / 8, W / 8) and style (N, 16), visible first in both."""
        content = torch.cat((self.content_encoder1(visible), self.content_encoder2(thermal)), dim=1)
        style = torch.cat((self.style_encoder1(visible), self.style_encoder2(thermal)), dim=1)
        return content, style.flatten(1)


class LdFusionDecoder(nn.Module):
    """Content and style to a picture."""

    def __init__(self) -> None:
        super().__init__()
        channels = 2 * WIDTH * 2**HALVINGS
        self.model_local = nn.ModuleList(AdaptiveResidualBlock(channels) for _ in range(RESIDUAL_BLOCKS))
        self.model_up = nn.Sequential(*upsampling(channels), nn.Tanh())
        self.mlp = style_mlp(2 * STYLE_VALUES, RESIDUAL_BLOCKS * AdaptiveResidualBlock.STYLE_PARTS * channels)

    def forward(self, content: Tensor, style: Tensor) -> Tensor:
        """(N, 256, h, w) and (N, 16) to (N, 1, 8 h + 21, 8 w + 21) in [0, 1]."""
        for block, styles in zip(self.model_local, self.mlp(style).chunk(RESIDUAL_BLOCKS, dim=1), strict=True):
            content = block(content, styles.chunk(AdaptiveResidualBlock.STYLE_PARTS, dim=1))
        picture: Tensor = self.model_up(content)
        return picture.clamp(0, 1)


class Layers(nn.Module):
    """Layers one after the other, under the name ``model`` that the published state dicts give them."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Pass ``x`` through all layers."""
        result: Tensor = self.model(x)
        return result


def content_encoder(width: int) -> Layers:
    """(N, 1, H, W) to (N, 8 width, H / 8, W / 8); instance normalization after every convolution."""
    layers = [nn.ReflectionPad2d(3), nn.Conv2d(1, width, 7), nn.InstanceNorm2d(width), nn.ReLU()]
    for _ in range(HALVINGS):
        layers += [nn.Conv2d(width, 2 * width, 4, stride=2, padding=1), nn.InstanceNorm2d(2 * width), nn.ReLU()]
        width *= 2
    return Layers(*layers, *(ResidualBlock(width) for _ in range(RESIDUAL_BLOCKS)))


def style_encoder() -> Layers:
    """(N, 1, H, W) to (N, 8, 1, 1): convolutions without normalization, then the mean over the picture."""
    widths = (WIDTH, 2 * WIDTH, 4 * WIDTH, 4 * WIDTH)
    layers = [nn.ReflectionPad2d(3), nn.Conv2d(1, WIDTH, 7), nn.ReLU()]
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), nn.ReLU()]
    return Layers(*layers, nn.AdaptiveAvgPool2d(1), nn.Conv2d(widths[-1], STYLE_VALUES, 1))


def style_mlp(inputs: int, outputs: int) -> Layers:
    """(N, inputs), two styles, to (N, outputs), the shifts and scales of the whole decoder."""
    hidden = (nn.Linear(inputs, MLP_WIDTH), nn.ReLU(), nn.Linear(MLP_WIDTH, MLP_WIDTH), nn.ReLU())
    return Layers(*hidden, nn.Linear(MLP_WIDTH, outputs))


class ResidualBlock(nn.Module):
    """x + block(x) with instance normalization; keeps the shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = nn.Sequential(*_residual_layers(channels, nn.InstanceNorm2d))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) to the same shape."""
        change: Tensor = self.block(x)
        return x + change


class AdaptiveResidualBlock(nn.Module):
    """x + block(x) with normalizations whose shift and scale are arguments."""

    STYLE_PARTS = 4
    """Shift and scale of two normalizations."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = nn.ModuleList(_residual_layers(channels, AdaptiveInstanceNorm))

    def forward(self, x: Tensor, style: Sequence[Tensor]) -> Tensor:
        """(N, C, h, w) and `STYLE_PARTS` parts of (N, C) in the order shift, scale, shift, scale."""
        change, parts = x, iter(style)
        for layer in self.block:
            if isinstance(layer, AdaptiveInstanceNorm):
                change = layer(change, shift=next(parts), scale=next(parts))
            else:
                change = layer(change)
        return x + change


def _residual_layers(channels: int, norm: Callable[[int], nn.Module]) -> list[nn.Module]:
    halves = [[nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), norm(channels)] for _ in range(2)]
    return [*halves[0], nn.ReLU(), *halves[1]]


class AdaptiveInstanceNorm(nn.Module):
    """scale (x - mean) / sqrt(variance + 1e-5) + shift, statistics per picture and channel.

    The two buffers are in the published state dicts and are used for nothing; they are here so that these load strictly.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor, *, shift: Tensor, scale: Tensor) -> Tensor:
        """(N, C, h, w) with shift and scale (N, C)."""
        return functional.instance_norm(x, eps=EPSILON) * scale[..., None, None] + shift[..., None, None]


class PictureNorm(nn.Module):
    """gamma (x - mean) / (SD + 1e-5) + beta: statistics per picture over all channels and pixels, SD with N - 1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.rand(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Keeps the shape (N, C, H, W)."""
        over = (1, 2, 3)
        normal = (x - x.mean(dim=over, keepdim=True)) / (x.std(dim=over, keepdim=True) + EPSILON)
        return normal * self.gamma[:, None, None] + self.beta[:, None, None]


def upsampling(channels: int) -> list[nn.Module]:
    """Three transposed convolutions (x to 2 x + 3 each) that halve the channels, then one to a single channel."""
    layers: list[nn.Module] = []
    for _ in range(HALVINGS):
        layers += [nn.ConvTranspose2d(channels, channels // 2, 5, stride=2), PictureNorm(channels // 2), nn.ReLU()]
        channels //= 2
    return [*layers, nn.ReflectionPad2d(3), nn.Conv2d(channels, 1, 7)]


def ldfusion_teacher(folder: Path, *, device: torch.device | None = None) -> NetworkTeacher:
    """LDFusion from a folder with ``Enc_final.pt`` and ``Dec_final.pt``, as published or as `rtfusion_trainer.teach` writes it.

    Raises:
        ConfigError: a file is not there.
        ModelError: a file cannot be read, or its names or shapes are not LDFusion's.
    """
    files, network = [folder / ENCODER_FILE, folder / DECODER_FILE], LdFusion()
    load_strictly(network.encoder, files[0], what="LDFusion encoder")
    load_strictly(network.decoder, files[1], what="LDFusion decoder")
    return NetworkTeacher(network, name="ldfusion", weights=files, device=device)


def load_strictly(network: nn.Module, path: Path, *, what: str) -> None:
    """Load a state dict in which every name and shape is the network's, nothing more and nothing less.

    Raises:
        ConfigError: there is no file.
        ModelError: it cannot be read or differs.
    """
    if not path.is_file():
        raise ConfigError(f"there is no {what} at {path}; pass the published file")
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True), strict=True)
    except (*UNREADABLE, TypeError) as error:
        raise ModelError(f"{path} is no {what}: {error}") from error


def _initialize(module: nn.Module) -> None:
    """Draw the weights of all convolutions from N(0, 0.02), as published; the rest is as PyTorch has it."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(module.weight, 0.0, 0.02)
