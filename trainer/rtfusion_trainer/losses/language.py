"""The language-driven loss of LDFusion: words say in which direction a fused picture shall move.

A model that embeds pictures and texts in one space (CLIP, see `rtfusion_trainer.losses.clip`) gives every picture x a direction
unit(e(x)). The way from the sources to the fused picture shall be the way from texts that describe the sources to a text that
describes what is wanted. With u(a, b) = unit(unit(a) - unit(b))::

    direction(f) = 1/2 (1 - cos(u(f, visible), u(objective, "visible"))) + 1/2 (1 - cos(u(f, thermal), u(objective, "thermal")))

taken of the whole picture (global) and of random patches of it (patch, against the whole sources), and an embedding term that
keeps the fused picture near both sources. The functions are pure and know no model: they take embeddings, or an
`ImageTextEncoder`. Pictures are (N, 1, H, W) luminance in [0, 1].

Facts: arXiv 2402.16267 and its published code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from rtfusion_trainer.affine import RandomAffine, draw, uniform, warp

BINS = 256
SHORTEST_WAY = 1e-4
"""A difference of unit embeddings shorter than this has no direction: it counts as orthogonal to every text."""


class ImageTextEncoder(Protocol):
    """Embeds pictures and texts in one space of D dimensions; the embeddings need not be of unit length."""

    def encode_image(self, images: Tensor) -> Tensor:
        """(N, 1, H, W) in [0, 1] to (N, D), differentiable in the images."""

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """T texts to (T, D), without gradient."""


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """Texts that describe the sources and the wanted picture; several of one kind are averaged in the embedding space."""

    visible: tuple[str, ...] = ("a visible gray image",)
    thermal: tuple[str, ...] = ("an infrared image",)
    objective: tuple[str, ...] = ("a clear image with detailed background and salient objects",)
    away: tuple[str, ...] = ()
    """What is not wanted: the way from it to the objective is a second direction beside those from the sources."""


@dataclass(frozen=True, kw_only=True)
class Patches:
    """Number and shape of the patches, and the entropy from which one counts."""

    count: int = 32
    side: tuple[float, float] = (0.5, 0.8)
    """Range of their side, as a share of the picture's shorter one."""
    affine: RandomAffine = field(default_factory=RandomAffine)
    entropy_bits: float = 6.0
    """A patch counts only if both sources' entropy in it is larger: in sky and darkness there is nothing to describe."""


@dataclass(frozen=True, kw_only=True)
class Language:
    """Prompts, patches and the weight of each term; the defaults are the constants of LDFusion's published code."""

    prompts: Prompts = Prompts()
    patches: Patches = Patches()
    global_weight: float = 2.0
    patch_weight: float = 10.0
    embedding_weight: float = 6.0


@dataclass(frozen=True, kw_only=True)
class LanguagePreset(Language):
    """All that a teacher is trained by: perceptual fidelity beside language."""

    perceptual_weight: float = 10.0
    perceptual_layers: tuple[str, ...] = ("conv2_1", "conv3_1", "conv4_2")
    """Layers of VGG-19, for `rtfusion_trainer.losses.perceptual`."""


@dataclass(frozen=True)
class TextDirections:
    """Directions of the texts, unit(unit(objective) - unit(source)) for both sources, each (D,)."""

    from_visible: Tensor
    from_thermal: Tensor
    from_away: Tensor | None = None


def text_directions(encoder: ImageTextEncoder, prompts: Prompts) -> TextDirections:
    """Embed the prompts; each kind's texts are averaged before they are brought to unit length."""
    with torch.no_grad():
        visible, thermal, objective = (
            unit(encoder.encode_text(texts).mean(dim=0))
            for texts in (prompts.visible, prompts.thermal, prompts.objective)
        )
        away = unit(encoder.encode_text(prompts.away).mean(dim=0)) if prompts.away else None
    return TextDirections(
        from_visible=unit(objective - visible),
        from_thermal=unit(objective - thermal),
        from_away=None if away is None else unit(objective - away),
    )


def unit(x: Tensor) -> Tensor:
    """Bring the last dimension to unit length: x / max(|x|, `SHORTEST_WAY`)."""
    return x / x.norm(dim=-1, keepdim=True).clamp(min=SHORTEST_WAY)


def direction_loss(*, fused: Tensor, visible: Tensor, thermal: Tensor, text: TextDirections) -> Tensor:
    """1/2 (1 - cos(u(f, v), text from visible)) + 1/2 (1 - cos(u(f, t), text from thermal)), 0 to 2.

    u(a, b) = unit(unit(a) - unit(b)). ``fused`` are embeddings (..., D), to which those of the sources broadcast; the result has
    one value for each of them, shape (...). With a direction away from an antonym, each cosine is the mean of that with it and
    that with the direction from the source.
    """
    cos_visible, cos_thermal = (
        _cosine(unit(unit(fused) - unit(source)), direction, text.from_away)
        for source, direction in ((visible, text.from_visible), (thermal, text.from_thermal))
    )
    return (1 - cos_visible) / 2 + (1 - cos_thermal) / 2


def _cosine(way: Tensor, direction: Tensor, second: Tensor | None) -> Tensor:
    cosine = (way * direction).sum(dim=-1)
    return cosine if second is None else (cosine + (way * second).sum(dim=-1)) / 2


def patch_direction_loss(
    *, patches: Tensor, visible: Tensor, thermal: Tensor, text: TextDirections, counts: Tensor
) -> Tensor:
    """Mean over the patches of counts * direction(patch): a patch that does not count is a zero in the mean.

    ``patches`` are embeddings (P, N, D) of P patches of each of N fused pictures, ``visible`` and ``thermal`` (N, D) those of the
    whole sources; ``counts`` is (P, N), true or 1 for patches with something in them. One value per picture, (N,).
    """
    values = direction_loss(fused=patches, visible=visible, thermal=thermal, text=text)
    return (values * counts).mean(dim=0)


def embedding_loss(*, fused: Tensor, visible: Tensor, thermal: Tensor) -> Tensor:
    """1/2 (1 - cos(f, v)) + 1/2 (1 - cos(f, t)) of embeddings (..., D); shape (...), 0 to 2."""
    direction = unit(fused)
    return (1 - (direction * unit(visible)).sum(dim=-1)) / 2 + (1 - (direction * unit(thermal)).sum(dim=-1)) / 2


def entropy_bits(images: Tensor) -> Tensor:
    """Entropy -sum p log2 p of each picture's histogram of 256 bins over [0, 1]: (..., H, W) to (...), 0 to 8 bits."""
    flat = images.detach().flatten(-2).reshape(-1, images.shape[-2] * images.shape[-1])
    bins = (flat * BINS).long().clamp(0, BINS - 1)
    bins = bins + BINS * torch.arange(len(flat), device=flat.device)[:, None]
    counts = torch.bincount(bins.flatten(), minlength=BINS * len(flat)).reshape(-1, BINS)
    p = counts / flat.shape[1]
    return -torch.special.xlogy(p, p).sum(dim=1).div(math.log(2)).reshape(images.shape[:-2])


def cut_patches(images: Sequence[Tensor], patches: Patches, *, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Cut the same random patches out of several pictures, warp them, and bring them to one size.

    Each patch is a square at a random place, the same for the whole batch, with its own side and affine map; what the map
    brings in from outside the patch is black.

    Args:
        images: pictures (N, 1, H, W), all of one shape.
        patches: how many and how.
        generator: of the CPU; the only source of chance.

    Returns:
        For each of the pictures (P, N, 1, S, S), S the pictures' shorter side.
    """
    height, width = images[0].shape[-2:]
    shorter_px = min(height, width)
    cut: list[list[Tensor]] = [[] for _ in images]
    for _ in range(patches.count):
        side_px = int(shorter_px * uniform(*patches.side, generator))
        y, x = (int(torch.randint(length - side_px + 1, (), generator=generator)) for length in (height, width))
        matrix = draw(patches.affine, generator)
        for image, found in zip(images, cut, strict=True):
            found.append(
                warp(
                    image[..., y : y + side_px, x : x + side_px],
                    matrix,
                    size_px=shorter_px,
                    resampling=patches.affine.resampling,
                )
            )
    return tuple(torch.stack(found) for found in cut)


def language_terms(
    *,
    encoder: ImageTextEncoder,
    text: TextDirections,
    fused: Tensor,
    visible: Tensor,
    thermal: Tensor,
    patches: Patches,
    generator: torch.Generator,
    share: Tensor | None = None,
) -> dict[str, Tensor]:
    """The three terms of a batch, unweighted, as scalars: ``global``, ``patch``, ``embedding``.

    Gradients flow to ``fused`` only; all three are (N, 1, H, W). ``share`` (N,) is how far each picture counts in the means.
    """
    share = torch.ones(len(fused), device=fused.device) if share is None else share
    with torch.no_grad():
        sources = {"visible": encoder.encode_image(visible), "thermal": encoder.encode_image(thermal)}
    embedded = encoder.encode_image(fused)
    seen_visible, seen_thermal, seen_fused = cut_patches((visible, thermal, fused), patches, generator=generator)
    counts = (entropy_bits(seen_visible) > patches.entropy_bits) & (entropy_bits(seen_thermal) > patches.entropy_bits)
    embedded_patches = encoder.encode_image(seen_fused.flatten(0, 1)).reshape(*seen_fused.shape[:2], -1)
    return {
        "global": (share * direction_loss(fused=embedded, text=text, **sources)).mean(),
        "patch": (
            share * patch_direction_loss(patches=embedded_patches, text=text, counts=counts[..., 0], **sources)
        ).mean(),
        "embedding": (share * embedding_loss(fused=embedded, **sources)).mean(),
    }


class LanguageLoss:
    """The weighted terms of a batch, by an encoder and by sentences that are embedded once."""

    def __init__(self, encoder: ImageTextEncoder, settings: Language) -> None:
        self._encoder, self._settings = encoder, settings
        self._text = text_directions(encoder, settings.prompts)

    def __call__(
        self,
        *,
        fused: Tensor,
        visible: Tensor,
        thermal: Tensor,
        generator: torch.Generator,
        share: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum, and every term of `language_terms`."""
        terms = language_terms(
            encoder=self._encoder,
            text=self._text,
            fused=fused,
            visible=visible,
            thermal=thermal,
            patches=self._settings.patches,
            generator=generator,
            share=share,
        )
        weighted = [getattr(self._settings, f"{name}_weight") * value for name, value in terms.items()]
        return torch.stack(weighted).sum(), terms
