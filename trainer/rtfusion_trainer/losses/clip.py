"""CLIP through open_clip, from local files only: the encoder of the language-driven loss.

Nothing is downloaded: weights are a file or a folder that the user has put there, models whose text tower or tokenizer would need
further files from a hub are refused. No other model takes CLIP's place.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from rtfusion.errors import ConfigError, ModelError
from rtfusion.text import did_you_mean
from rtfusion_trainer.checkpoint import UNREADABLE
from rtfusion_trainer.torchvision_shim import ensure_torchvision

DEFAULT_MODEL = "ViT-B-32"
FOLDER_CONFIG = "open_clip_config.json"
_WHAT_TO_PLACE = (
    "put a checkpoint that open_clip can load on this machine, such as the open_clip_model.safetensors of a ViT-B-32, and pass "
    "--clip-weights FILE with --clip-model NAME, or the folder with its open_clip_config.json and --clip-weights DIR. OpenAI's "
    "own weights belong to --clip-model ViT-B-32-quickgelu. Nothing is downloaded"
)
_LOADING_ERRORS = (*UNREADABLE, ValueError, LookupError, AttributeError, AssertionError)
"""Errors that open_clip lets through when a file is not what it should be."""


class OpenClipEncoder:
    """A frozen open_clip model that embeds luminance pictures and texts; gradients reach the pictures."""

    def __init__(self, model: nn.Module, tokenizer: Callable[[list[str]], Tensor]) -> None:
        self._model: Any = model.eval().requires_grad_(False)
        self._tokenizer = tokenizer
        visual: Any = self._model.visual
        size = visual.image_size
        self.size_px: tuple[int, int] = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
        """(height, width) that pictures are resized to."""
        device = next(model.parameters()).device
        self._mean = torch.tensor(visual.image_mean, device=device).reshape(1, 3, 1, 1)
        self._std = torch.tensor(visual.image_std, device=device).reshape(1, 3, 1, 1)

    def encode_image(self, images: Tensor) -> Tensor:
        """(N, 1 or 3, H, W) in [0, 1] to (N, D) float32: gray made RGB, resized (bilinear), normalized as in its training."""
        rgb = images.expand(-1, 3, -1, -1)
        resized = functional.interpolate(rgb, size=self.size_px, mode="bilinear", align_corners=False)
        embedded: Tensor = self._model.encode_image((resized - self._mean) / self._std)
        return embedded.float()

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """T texts to (T, D) float32, without gradient."""
        with torch.no_grad():
            embedded: Tensor = self._model.encode_text(self._tokenizer(list(texts)).to(self._mean.device))
        return embedded.float()


def load_clip(
    weights: Path | None, *, model: str = DEFAULT_MODEL, device: torch.device | None = None
) -> OpenClipEncoder:
    """Load an open_clip model from a local checkpoint file, or from a folder that also says which model it is.

    Args:
        weights: a .safetensors, .pt or .bin file of ``model``; or a folder with open_clip_config.json and a checkpoint, then
            ``model`` is not looked at.
        model: a name that open_clip knows.
        device: the CPU if None.

    Raises:
        ConfigError: open_clip is not installed, there are no weights, no such model, or it would need files from a hub.
        ModelError: the weights cannot be read or are not this model's.
    """
    if weights is None:
        raise ConfigError(f"the language-driven loss needs CLIP weights: {_WHAT_TO_PLACE}")
    if not weights.exists():
        raise ConfigError(f"there are no CLIP weights at {weights}: {_WHAT_TO_PLACE}")
    ensure_torchvision()
    try:
        import open_clip
    except ImportError as error:
        raise ConfigError("open_clip is not installed; run: pip install 'rtfusion[train]'") from error
    if weights.is_dir():
        name, pretrained = f"local-dir:{weights.resolve()}", None
        _refuse_hub_files(_folder_config(weights), name=str(weights))
    else:
        name, pretrained = model, str(weights.resolve())
        _refuse_hub_files(_known_config(open_clip, model), name=model)
    try:
        network = open_clip.create_model(
            name, pretrained=pretrained, device=device or "cpu", weights_only=True, require_pretrained=True
        )
    except _LOADING_ERRORS as error:
        raise ModelError(
            f"{weights} are no weights of {model if pretrained else 'the model in its folder'}: {error}. A TorchScript archive "
            "(OpenAI's own file) is not read; take its safetensors version"
        ) from error
    return OpenClipEncoder(network, open_clip.get_tokenizer(name))


def _known_config(open_clip: Any, model: str) -> dict[str, Any]:
    known = open_clip.list_models()
    if model not in known:
        near = did_you_mean(model, known, hint="{}") or ", ".join(known[:8])
        raise ConfigError(f"open_clip knows no model {model!r}; near to it: {near}")
    config: dict[str, Any] = open_clip.get_model_config(model)
    return config


def _folder_config(folder: Path) -> dict[str, Any]:
    path = folder / FOLDER_CONFIG
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["model_cfg"]
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; pass the checkpoint file and --clip-model") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} is no open_clip configuration: expected JSON with a model_cfg") from error
    return config


def _refuse_hub_files(config: dict[str, Any], *, name: str) -> None:
    text = config.get("text_cfg", {})
    wanted = [key for key in ("hf_model_name", "hf_tokenizer_name") if text.get(key)]
    if wanted:
        files = ", ".join(str(text[key]) for key in wanted)
        raise ConfigError(
            f"{name} needs further files from a hub ({files}); take a model with open_clip's own text tower"
        )
