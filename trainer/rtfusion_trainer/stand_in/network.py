"""The encoder: pictures and texts, each by a small network, in a space that has one axis for each fact."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from rtfusion.errors import ConfigError, ModelError
from rtfusion_trainer import checkpoint
from rtfusion_trainer.stand_in.facts import NAMES, PLACES, places

SCHEMA = 1
SIDE_PX = 160
WIDTHS = (12, 24, 48, 64)


class StandIn(nn.Module):
    """Embeds luminance pictures and texts; an `rtfusion_trainer.losses.language.ImageTextEncoder`."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(1, WIDTHS[0], 7, stride=3, padding=3), nn.ReLU()]
        for inputs, outputs in itertools.pairwise(WIDTHS):
            layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.GroupNorm(4, outputs), nn.ReLU()]
        self.picture = nn.Sequential(*layers)
        self.seen = nn.Linear(2 * WIDTHS[-1] + 2, len(NAMES))
        self.words = nn.EmbeddingBag(PLACES, len(NAMES), mode="sum")
        nn.init.zeros_(self.words.weight)

    def encode_image(self, images: Tensor) -> Tensor:
        """(N, 1, H, W) in [0, 1] to (N, F), each fact from -1 to 1; differentiable in the images."""
        resized = functional.interpolate(images[:, :1], size=(SIDE_PX, SIDE_PX), mode="bilinear", align_corners=False)
        features = self.picture(resized)
        mean, most = features.mean(dim=(2, 3)), features.amax(dim=(2, 3))
        tone = torch.stack((resized.mean(dim=(1, 2, 3)), resized.std(dim=(1, 2, 3))), dim=1)
        return torch.tanh(self.seen(torch.cat((mean, most, tone), dim=1)))

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """T texts to (T, F), without gradient."""
        with torch.no_grad():
            return self.said(texts)

    def said(self, texts: Sequence[str]) -> Tensor:
        """T texts to (T, F), each fact from -1 to 1, about 0 where a text says nothing of it."""
        found = [torch.tensor(places(text), device=self.words.weight.device) for text in texts]
        starts = torch.tensor([0, *[len(part) for part in found[:-1]]], device=self.words.weight.device).cumsum(0)
        return torch.tanh(self.words(torch.cat(found), starts))


def save_stand_in(path: Path, encoder: StandIn, *, card: dict[str, str | float]) -> None:
    """Write the weights, and what they were trained on and reached.

    Raises:
        ConfigError: it cannot be written.
    """
    checkpoint.write(path, {"schema": SCHEMA, "facts": list(NAMES), "card": card, "state": encoder.state_dict()})


def load_stand_in(path: Path, *, device: torch.device | None = None) -> StandIn:
    """Read what `save_stand_in` wrote; frozen.

    Raises:
        ConfigError: it cannot be read.
        ModelError: it is of other facts than this version's.
    """
    if not path.is_file():
        raise ConfigError(f"there is no encoder at {path}; rtfusion train encoder makes one")
    state = checkpoint.read(path, schema=SCHEMA)
    encoder = StandIn()
    if state.get("facts") != list(NAMES):
        raise ModelError(f"{path} knows other facts than this version ({', '.join(NAMES)}); train it anew")
    try:
        encoder.load_state_dict(state["state"])
    except (RuntimeError, KeyError) as error:
        raise ModelError(f"{path} is no encoder of this version: {error}") from error
    return encoder.to(device or torch.device("cpu")).eval().requires_grad_(False)
