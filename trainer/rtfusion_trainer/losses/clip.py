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

from rtfusion.errors import ConfigError, FusionError, ModelError
from rtfusion.installing import install
from rtfusion.text import did_you_mean
from rtfusion_trainer.checkpoint import UNREADABLE
from rtfusion_trainer.losses.clip_files import WEIGHTS, State, read_clip, transformers_config
from rtfusion_trainer.torchvision_shim import ensure_torchvision

FOLDER_CONFIG = "open_clip_config.json"
TRANSFORMERS_CONFIG = "config.json"
_WHAT_TO_PLACE = (
    "put a folder with open_clip_config.json and open_clip_model.safetensors on this machine and pass --clip-weights DIR, or a "
    "checkpoint and --clip-model NAME (docs/training.md names them). Nothing is downloaded"
)
_AS_OPENAI = {
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
    "size": None,
    "mode": "RGB",
    "interpolation": "bicubic",
    "resize_mode": "shortest",
    "fill_color": 0,
}
"""Preprocessing of the CLIPs of OpenAI and of transformers, by mean and deviation of OpenAI's training."""
Tokenizer = Callable[[list[str]], Tensor]
_LOADING_ERRORS = (*UNREADABLE, ValueError, LookupError, AttributeError, AssertionError)
"""Errors that open_clip lets through when a file is not what it should be."""


class OpenClipEncoder:
    """A frozen open_clip model that embeds luminance pictures and texts; gradients reach the pictures."""

    def __init__(self, model: nn.Module, tokenizer: Tokenizer) -> None:
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


def load_clip(weights: Path | None, *, model: str | None = None, device: torch.device | None = None) -> OpenClipEncoder:
    """Load a CLIP from local files: a folder that says which model it is, or a checkpoint whose model is named.

    Args:
        weights: a folder with open_clip_config.json and a checkpoint, or with the config.json and the weights of transformers,
            which are converted; or a file of ``model``, in any layout of `rtfusion_trainer.losses.clip_files`.
        model: a name that open_clip knows; not for a folder, which knows better.
        device: the CPU if None.

    Raises:
        ConfigError: open_clip is not installed, there are no weights, no such model, a bare file without ``model`` or with one of
            another activation, or a model that would need files from a hub.
        ModelError: the weights cannot be read or are not this model's.
    """
    if weights is None:
        raise ConfigError(f"the language-driven loss needs CLIP weights: {_WHAT_TO_PLACE}")
    if not weights.exists():
        raise ConfigError(f"there are no CLIP weights at {weights}: {_WHAT_TO_PLACE}")
    ensure_torchvision()
    try:
        import open_clip
        from safetensors import SafetensorError  # comes with open_clip
    except ImportError as error:
        raise ConfigError(f"open_clip is not installed; run {install('train')}") from error
    try:
        if weights.is_dir():
            network, tokenizer = _of_folder(open_clip, weights)
        else:
            network, tokenizer = _of_file(open_clip, weights, model)
    except FusionError:
        raise
    except (*_LOADING_ERRORS, SafetensorError) as error:
        named = "the model in its folder" if weights.is_dir() else model
        raise ModelError(f"{weights} are no weights of {named}, or damaged: {error}") from error
    return OpenClipEncoder(network.to(device or torch.device("cpu")), tokenizer)


def _of_folder(open_clip: Any, folder: Path) -> tuple[nn.Module, Tokenizer]:
    if (folder / FOLDER_CONFIG).exists() or not (folder / TRANSFORMERS_CONFIG).exists():
        name = f"local-dir:{folder.resolve()}"
        _refuse_hub_files(_folder_config(folder), name=str(folder))
        network = open_clip.create_model(name, device="cpu", weights_only=True, require_pretrained=True)
        return network, open_clip.get_tokenizer(name)
    config = transformers_config(folder / TRANSFORMERS_CONFIG)
    file = next((path for name in WEIGHTS if (path := folder / name).is_file()), None)
    if file is None:
        raise ConfigError(f"{folder} holds none of {', '.join(WEIGHTS)}")
    found = read_clip(file)
    if found.layout != "transformers":
        raise ModelError(
            f"{file} is {found.what}, and {TRANSFORMERS_CONFIG} beside it is of transformers; pass the file itself"
        )
    network = _plain(open_clip, config, found.state)
    return network, open_clip.SimpleTokenizer(context_length=config["text_cfg"]["context_length"])


def _plain(open_clip: Any, config: dict[str, Any], state: State) -> nn.Module:
    """A CLIP of this shape with these weights, each of them and no other."""
    network: nn.Module = open_clip.CLIP(**config)
    network.load_state_dict(state)
    open_clip.model.set_model_preprocess_cfg(network, _AS_OPENAI)
    return network


def _of_file(open_clip: Any, file: Path, model: str | None) -> tuple[nn.Module, Tokenizer]:
    config = {} if model is None else _known_config(open_clip, model)
    _refuse_hub_files(config, name=str(model))
    found = read_clip(file)
    if found.layout == "transformers":
        raise ConfigError(
            f"{file} is {found.what}, whose activation stands in its {TRANSFORMERS_CONFIG}: pass the folder that holds both"
        )
    if model is None:
        hint = "OpenAI's have QuickGELU, such as ViT-B-32-quickgelu" if found.is_openai else "the file does not say it"
        raise ConfigError(
            f"{file} is {found.what}; of which model, with which activation? Pass --clip-model NAME ({hint}), or the folder with "
            f"its {FOLDER_CONFIG}"
        )
    if found.is_openai and not config.get("quick_gelu", False):
        raise ConfigError(
            f"{file} is {found.what}, whose network has QuickGELU, and {model} has not: pass --clip-model {model}-quickgelu"
        )
    if not found.is_openai:  # open_clip knows the older forms of its own layout
        network = open_clip.create_model(
            model, pretrained=str(file.resolve()), device="cpu", weights_only=True, require_pretrained=True
        )
    else:
        network = _plain(open_clip, config, found.state)
    return network, open_clip.get_tokenizer(model)


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
