"""The figures of the method from weights and inputs that are the same everywhere, for `tests/trainer/test_agreement.py`.

Network, loss terms, entropy filter, features, tokens and preprocessing were held against LDFusion's and LD-Lite's released code
with the same weights and inputs, and agreed. What this script gives is kept in ``agreement.json``, so that a change that breaks
the method fails. Weights and pictures are drawn by NumPy from checksums of their names, whatever PyTorch's own draws are. It
writes the file::

    python -m tests.trainer.agreement
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rtfusion_trainer.losses import language
from rtfusion_trainer.losses.perceptual import Vgg19Features, perceptual_loss
from rtfusion_trainer.teachers.ldfusion import LdFusion
from rtfusion_trainer.teachers.ldlite import LdLite
from torch import Tensor, nn
from torch.nn import functional

FILE = Path(__file__).with_name("agreement.json")
SIZE_PX = 64
PATCHES = language.Patches(count=4, entropy_bits=6.76)  # so that it keeps two of them


def drawn(name: str, shape: tuple[int, ...]) -> Tensor:
    """Normal values by the checksum of a name."""
    random = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    return torch.from_numpy(random.standard_normal(shape).astype(np.float32))


def weighted(network: nn.Module, *, gain: float = 1.0) -> nn.Module:
    """The network with drawn weights, scaled by the number of inputs so that values neither vanish nor grow."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            values = drawn(name, tuple(parameter.shape))
            inputs = parameter[0].numel() if parameter.ndim > 1 else 1
            parameter.copy_(gain * values / inputs**0.5 if parameter.ndim > 1 else 0.1 * values + ("gamma" in name))
    return network.eval()


def picture(name: str) -> Tensor:
    """(1, 1, S, S) in [0, 1] with coarse and fine structure."""
    coarse = functional.interpolate(drawn(name, (1, 1, 6, 6)), size=(SIZE_PX, SIZE_PX), mode="bilinear")
    return (0.5 + 0.2 * coarse + 0.05 * drawn(f"{name} fine", (1, 1, SIZE_PX, SIZE_PX))).clamp(0, 1)


class Encoder:
    """A fixed projection of the picture, and of texts by the checksums of their letters."""

    def encode_image(self, images: Tensor) -> Tensor:
        """(N, 1, H, W) to (N, 12)."""
        small = functional.interpolate(images, size=(16, 16), mode="bilinear", align_corners=False).flatten(1)
        return small @ drawn("projection", (256, 12)) / 4

    def encode_text(self, texts: Any) -> Tensor:
        """T texts to (T, 12)."""
        return torch.stack([drawn(text, (12,)) for text in texts])


def values(image: Tensor) -> dict[str, float]:
    """Mean, deviation and four pixels of a picture or of features."""
    flat = image.detach().flatten().double()
    places = [len(flat) * part // 5 for part in (1, 2, 3, 4)]
    return {"mean": float(flat.mean()), "deviation": float(flat.std()), **{str(at): float(flat[at]) for at in places}}


def figures() -> dict[str, Any]:
    """Every figure, by what it is of."""
    visible, thermal = picture("visible"), picture("thermal")
    fused = (0.6 * visible + 0.4 * thermal).requires_grad_()
    encoder, preset = Encoder(), language.LanguagePreset()
    text = language.text_directions(encoder, preset.prompts)
    terms = language.language_terms(
        encoder=encoder,
        text=text,
        fused=fused,
        visible=visible,
        thermal=thermal,
        patches=PATCHES,
        generator=torch.Generator().manual_seed(0),
    )
    vgg = weighted(Vgg19Features(preset.perceptual_layers), gain=1.4)
    terms["perceptual"] = perceptual_loss(fused=vgg(fused), visible=vgg(visible), thermal=vgg(thermal)).mean()
    lengths = {}
    for name, term in terms.items():
        (slope,) = torch.autograd.grad(term, fused, retain_graph=True)
        lengths[name] = float(slope.norm())
    cut = language.cut_patches((visible,), PATCHES, generator=torch.Generator().manual_seed(0))[0]
    networks = {"ldfusion": weighted(LdFusion()), "ldlite": weighted(LdLite())}
    with torch.no_grad():
        outputs = {name: values(network(visible=visible, thermal=thermal)) for name, network in networks.items()}
    return {
        "parameters": {name: sum(p.numel() for p in network.parameters()) for name, network in networks.items()},
        "outputs": outputs,
        "terms": {name: float(term.detach()) for name, term in terms.items()},
        "gradient lengths": lengths,
        "entropy bits": [round(float(bits), 6) for bits in language.entropy_bits(cut)[:, 0, 0]],
        "features": {layer: values(found) for layer, found in vgg(visible).items()},
    }


def clip_figures() -> dict[str, Any]:
    """Tokens of the prompts and the preprocessing of pictures, as open_clip gives them."""
    import open_clip
    from rtfusion_trainer.losses.clip import OpenClipEncoder

    class Seen(nn.Module):
        """Keeps what the model is shown."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))
            self.visual = nn.Module()
            self.visual.image_size = 32
            self.visual.image_mean, self.visual.image_std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD

        def encode_image(self, images: Tensor) -> Tensor:
            self.seen = images
            return images.flatten(1)

    model, tokenizer = Seen(), open_clip.get_tokenizer("ViT-B-32")
    OpenClipEncoder(model, tokenizer).encode_image(picture("visible"))
    prompts = language.LanguagePreset().prompts
    return {
        "tokens": [
            row[row > 0].tolist() for row in tokenizer([*prompts.visible, *prompts.thermal, *prompts.objective])
        ],
        "preprocessing": values(model.seen),
    }


def main() -> None:
    """Write the file."""
    from rtfusion_trainer.torchvision_shim import ensure_torchvision

    ensure_torchvision()
    FILE.write_text(json.dumps({**figures(), "clip": clip_figures()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
