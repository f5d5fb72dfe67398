"""The encoder of pictures and texts that a training with language needs: CLIP, or what stands in for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from rtfusion.errors import ConfigError
from rtfusion_trainer.losses.clip import load_clip
from rtfusion_trainer.losses.language import ImageTextEncoder
from rtfusion_trainer.losses.self_test import require_sight
from rtfusion_trainer.progress import tell
from rtfusion_trainer.stand_in.network import load_stand_in


@dataclass(frozen=True, kw_only=True)
class EncoderFiles:
    """Where an encoder lies; one of the two paths, or neither where none is wanted."""

    clip_weights: Path | None = None
    """A file or folder for `rtfusion_trainer.losses.clip.load_clip`."""
    clip_model: str | None = None
    """open_clip's name of the model in a bare file."""
    clip_test: bool = True
    """False takes an encoder that cannot tell what the loss is about (`rtfusion_trainer.losses.self_test`)."""
    stand_in: Path | None = None
    """Instead of CLIP, the file of ``rtfusion train encoder``."""

    def __post_init__(self) -> None:
        """Refuse both.

        Raises:
            ConfigError: two encoders are named.
        """
        if self.clip_weights is not None and self.stand_in is not None:
            raise ConfigError("--clip-weights and --stand-in are two encoders; give one")

    @property
    def path(self) -> Path | None:
        """The one that is named."""
        return self.clip_weights or self.stand_in


def load_encoder(files: EncoderFiles, *, device: torch.device, silent: bool = False) -> ImageTextEncoder:
    """Load the encoder and ask it what the loss is about; the answers are told unless ``silent``.

    Raises:
        ConfigError: there is none.
        ModelError: weights that cannot be read or are of another model, or an encoder that cannot tell what the loss is about.
    """
    path = files.path
    encoder: ImageTextEncoder
    if files.stand_in is None:
        encoder = load_clip(path, model=files.clip_model, device=device)
    else:
        encoder = load_stand_in(files.stand_in, device=device)
    if files.clip_test:
        tell(f"self-test of {path}: {require_sight(encoder, name=str(path), device=device)}", silent=silent)
    return encoder
