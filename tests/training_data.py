"""Small folders of pairs, and files of weights, for what trains on them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest

SIZES_PX: Mapping[str, tuple[int, int]] = {
    "clip/scene_0001": (80, 96),
    "clip/scene_0002": (80, 96),
    "clip/scene_0003": (80, 96),
    "singles/a": (72, 72),
    "singles/b": (64, 90),
}
"""(H, W) by set and stem: a clip of three frames and two single pictures."""


def write_pairs(folder: Path, sizes_px: Mapping[str, tuple[int, int]] = SIZES_PX) -> Path:
    """SET/vi and SET/ir with smooth random pictures; gives the folder."""
    random = np.random.default_rng(0)
    for name, size_px in sizes_px.items():
        group, stem = name.split("/")
        for band in ("vi", "ir"):
            path = folder / group / band / f"{stem}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image = cv2.GaussianBlur(random.random(size_px), (0, 0), 3)
            cv2.imwrite(str(path), cv2.normalize(image, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8))
    return folder


def write_vgg19(path: Path) -> Path:
    """VGG-19 of random weights as far as conv3_1, in torchvision's layout."""
    import torch

    torch.manual_seed(0)
    shapes = {0: (64, 3), 2: (64, 64), 5: (128, 64), 7: (128, 128), 10: (256, 128)}
    state = {}
    for position, (outputs, inputs) in shapes.items():
        layer = torch.nn.Conv2d(inputs, outputs, 3)
        state |= {f"features.{position}.{name}": value for name, value in layer.state_dict().items()}
    torch.save(state, path)
    return path


def write_clip(folder: Path) -> Path:
    """A folder with a tiny CLIP of random weights, as open_clip writes it; skips where open_clip is not installed."""
    import torch
    from rtfusion_trainer.torchvision_shim import ensure_torchvision

    if ensure_torchvision() == "absent":
        pytest.skip("torchvision is not installed: pip install -e '.[train]'")
    open_clip = pytest.importorskip("open_clip", reason="open_clip is not installed: pip install -e '.[train]'")
    vision = {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16}
    text = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1}
    config = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    torch.save(open_clip.CLIP(**config).state_dict(), folder / "open_clip_pytorch_model.bin")
    return folder
