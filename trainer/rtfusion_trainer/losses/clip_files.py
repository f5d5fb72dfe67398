"""Files of CLIP weights: which layout one has, and the three usual others brought into open_clip's, where that is exact.

CLIP's weights go round in four layouts. open_clip's own is a plain state dict that says nothing of the network; OpenAI's file is
a TorchScript archive, or a state dict with three more keys, of a network with QuickGELU; transformers has other names, separate
projections of attention, and the activation in a config.json beside the weights. What is loaded with the wrong activation gives
another space without an error, so a file is named as what it is, and what it implies is held against what was asked for.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rtfusion.errors import ModelError
from rtfusion_trainer.checkpoint import UNREADABLE

OPENAI_KEYS = ("input_resolution", "context_length", "vocab_size")
"""What OpenAI's state dicts hold beside the weights."""
LAYOUTS = {
    "open_clip": "an open_clip state dict",
    "openai-archive": "OpenAI's own TorchScript archive",
    "openai": f"OpenAI's state dict (it has {', '.join(OPENAI_KEYS)})",
    "transformers": "weights in the layout of transformers",
}
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""Weights of transformers, in a folder with its config.json."""
_ACTIVATIONS = {"quick_gelu": True, "gelu": False}
_OF_BLOCK = {
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
_OUTSIDE = {
    "logit_scale": "logit_scale",
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm.weight": "ln_final.weight",
    "text_model.final_layer_norm.bias": "ln_final.bias",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.pre_layrnorm.weight": "visual.ln_pre.weight",
    "vision_model.pre_layrnorm.bias": "visual.ln_pre.bias",
    "vision_model.post_layernorm.weight": "visual.ln_post.weight",
    "vision_model.post_layernorm.bias": "visual.ln_post.bias",
}
_TOWERS = {"text_model": "transformer", "vision_model": "visual.transformer"}
_BLOCK = re.compile(r"(text_model|vision_model)\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")
State = dict[str, Tensor]


@dataclass(frozen=True)
class ClipFile:
    """Weights in open_clip's names, float32, and what their file was."""

    layout: str
    """One of `LAYOUTS`."""
    state: State

    @property
    def what(self) -> str:
        """The layout in words."""
        return LAYOUTS[self.layout]

    @property
    def is_openai(self) -> bool:
        """The network has QuickGELU."""
        return self.layout.startswith("openai")


def read_clip(path: Path) -> ClipFile:
    """Read a checkpoint of any of the `LAYOUTS`; no Python in it is executed.

    Raises:
        ModelError: it cannot be read, or is no state dict of tensors.
    """
    is_archive = _is_torchscript(path)
    try:
        state = _archive(path) if is_archive else _state_dict(path)
    except (*UNREADABLE, ValueError, ImportError) as error:
        raise ModelError(f"cannot read {path} as weights of CLIP: {str(error).splitlines()[0]}") from error
    if is_archive or all(key in state for key in OPENAI_KEYS):
        kept = {name: value for name, value in state.items() if name not in OPENAI_KEYS}
        return ClipFile("openai-archive" if is_archive else "openai", _full(kept))
    if "vision_model.embeddings.class_embedding" in state:
        return ClipFile("transformers", _full(from_transformers(state)))
    return ClipFile("open_clip", _full(state))


def from_transformers(state: Mapping[str, Tensor]) -> State:
    """The weights of transformers' CLIPModel in open_clip's names; every number stays what it is.

    Raises:
        ModelError: a name is none of CLIPModel's, or a projection of attention lacks a part.
    """
    found: State = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        if name.endswith("position_ids"):
            continue
        if name in _OUTSIDE:
            found[_OUTSIDE[name]] = value
        elif name in ("visual_projection.weight", "text_projection.weight"):
            found["visual.proj" if name.startswith("visual") else "text_projection"] = value.T.contiguous()
        elif match := _BLOCK.fullmatch(name):
            tower, index, part, kind = match.groups()
            block = f"{_TOWERS[tower]}.resblocks.{index}"
            if part in _OF_BLOCK:
                found[f"{block}.{_OF_BLOCK[part]}.{kind}"] = value
            else:
                parts.setdefault(f"{block}.attn.in_proj_{kind}", {})[part] = value
        else:
            raise ModelError(f"{name} is no name of transformers' CLIPModel")
    for name, given in parts.items():
        wanted = [f"self_attn.{letter}_proj" for letter in "qkv"]
        if sorted(given) != sorted(wanted):
            raise ModelError(f"{name} is made of {', '.join(wanted)}; the file has {', '.join(sorted(given))}")
        found[name] = torch.cat([given[part] for part in wanted])
    return found


def transformers_config(path: Path) -> dict[str, Any]:
    """The config.json of a CLIPModel as open_clip's model_cfg.

    Raises:
        ModelError: it cannot be read, is of another model, or has an activation that open_clip does not.
    """
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        vision, text = config["vision_config"], config["text_config"]
        activation = {_value(part, "hidden_act", "quick_gelu") for part in (vision, text)}
        if config.get("model_type") != "clip" or len(activation) != 1 or not activation <= _ACTIVATIONS.keys():
            raise ModelError(
                f"{path} is of no CLIPModel that open_clip can hold: model_type {config.get('model_type')!r}, "
                f"hidden_act {', '.join(sorted(activation))}"
            )
        wide, narrow = _value(vision, "hidden_size", 768), _value(text, "hidden_size", 512)
        return {
            "embed_dim": config.get("projection_dim", 512),
            "quick_gelu": _ACTIVATIONS[activation.pop()],
            "vision_cfg": {
                "image_size": _value(vision, "image_size", 224),
                "layers": _value(vision, "num_hidden_layers", 12),
                "width": wide,
                "head_width": wide // _value(vision, "num_attention_heads", 12),
                "patch_size": _value(vision, "patch_size", 32),
                "mlp_ratio": _value(vision, "intermediate_size", 3072) / wide,
            },
            "text_cfg": {
                "context_length": _value(text, "max_position_embeddings", 77),
                "vocab_size": _value(text, "vocab_size", 49408),
                "width": narrow,
                "heads": _value(text, "num_attention_heads", 8),
                "layers": _value(text, "num_hidden_layers", 12),
                "mlp_ratio": _value(text, "intermediate_size", 2048) / narrow,
            },
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path} is no config.json of transformers' CLIPModel: {error!r}") from error


def _value(part: Mapping[str, Any], name: str, default: Any) -> Any:
    """Transformers leaves out what is its default."""
    return part.get(name, default)


def _is_torchscript(path: Path) -> bool:
    """TorchScript archives hold code, which plain checkpoints do not."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())


def _archive(path: Path) -> State:
    module: Any = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    return dict(module.state_dict())


def _state_dict(path: Path) -> State:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    inner = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else loaded
    if not isinstance(inner, dict) or not all(isinstance(value, (Tensor, int)) for value in inner.values()):
        raise ValueError("it is no state dict of tensors")
    return {name.removeprefix("module."): torch.as_tensor(value) for name, value in inner.items()}


def _full(state: Mapping[str, Tensor]) -> State:
    """Half precision as float32, which is exact."""
    return {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
