"""Can an encoder tell what the language-driven loss is about? A test on pictures of the synthetic street and plain sentences.

Three contrasts: infrared against visible, day against night, somebody against nobody. For each there are pairs of pictures that
differ in nothing else, and pairs of sentences. A pair of pictures (A, B) and a pair of sentences (a, b) are right if the encoder
finds a more than b in A than in B: cos(A, a) - cos(A, b) > cos(B, a) - cos(B, b). An encoder that knows nothing is right half of
the time, and each of its sentences by its own chance; so is one that was loaded as another network than it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import torch
from torch import Tensor

from rtfusion.errors import ModelError
from rtfusion.fusion.color import luminance
from rtfusion.synthetic import Scene
from rtfusion.types import Band, Image8
from rtfusion_trainer.losses.language import ImageTextEncoder, unit

SEEDS = (3, 8, 15)
SIZE_PX = (320, 240)
SIDE_PX = 224
LEAST = 0.75
"""Share of right answers, over the three contrasts, below which an encoder is refused."""
SENTENCES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "infrared against visible": (
        (
            "an infrared image",
            "a thermal image of a street",
            "a photo taken by a thermal camera",
            "heat seen by an infrared camera",
            "a thermal picture in which warm things are bright",
            "thermal infrared",
        ),
        (
            "a visible gray image",
            "an ordinary photo of a street",
            "a photo taken by an ordinary camera",
            "light seen by a normal camera",
            "a black and white photograph in daylight",
            "visible light",
        ),
    ),
    "day against night": (
        (
            "a street by day",
            "a photo taken in daylight",
            "a bright sunny day",
            "a bright image",
            "the sky is bright",
            "daytime",
        ),
        (
            "a street at night",
            "a photo taken in the dark",
            "a dark night",
            "a dark image",
            "the sky is black",
            "nighttime",
        ),
    ),
    "somebody against nobody": (
        (
            "a person on the street",
            "people walking",
            "a photo of a pedestrian",
            "somebody is there",
            "a street with people",
            "a person",
        ),
        (
            "an empty street",
            "nobody walking",
            "a photo of a building",
            "nobody is there",
            "a street without people",
            "an empty scene",
        ),
    ),
}


@dataclass(frozen=True)
class Score:
    """One contrast: right answers of all pairs of pictures with all pairs of sentences."""

    contrast: str
    right: int
    asked: int

    @property
    def share(self) -> float:
        """0 to 1; one half is chance."""
        return self.right / self.asked


def self_test(encoder: ImageTextEncoder, *, device: torch.device | None = None) -> list[Score]:
    """The scores of the three contrasts."""
    scores = []
    for contrast, pairs in pictures().items():
        first, second = (unit(encoder.encode_text(texts)) for texts in SENTENCES[contrast])
        with torch.no_grad():
            seen_a, seen_b = (
                unit(encoder.encode_image(_batch([pair[side] for pair in pairs], device))) for side in (0, 1)
            )
        more = seen_a @ (first - second).T - seen_b @ (first - second).T
        scores.append(Score(contrast, int((more > 0).sum()), more.numel()))
    return scores


def require_sight(encoder: ImageTextEncoder, *, name: str, device: torch.device | None = None) -> str:
    """Refuse an encoder that cannot tell the contrasts; gives the scores in words.

    Raises:
        ModelError: it is right in less than `LEAST` of all; the message has the scores.
    """
    scores = self_test(encoder, device=device)
    share = float(np.mean([score.share for score in scores]))
    text = ", ".join(f"{score.contrast} {score.share:.2f}" for score in scores)
    if share < LEAST:
        raise ModelError(
            f"{name} cannot tell what the loss is about: {text}; {share:.2f} right in all, {LEAST} wanted, 0.5 is chance. Are "
            "these the weights of this model, with this activation (--clip-model)? --no-clip-test trains with it all the same"
        )
    return f"{text}; {share:.2f} right in all"


@cache
def pictures() -> dict[str, list[tuple[Image8, Image8]]]:
    """Pairs of pictures by contrast, gray, of the synthetic street."""
    found: dict[str, list[tuple[Image8, Image8]]] = {contrast: [] for contrast in SENTENCES}
    for seed in SEEDS:
        day, night, empty = (
            Scene(kind=kind, seed=seed, visible_size_px=SIZE_PX, empty=empty)
            for kind, empty in (("day", False), ("night", False), ("day", True))
        )
        time_s = float(seed)
        seen = _gray(day, Band.VISIBLE, time_s)
        found["infrared against visible"].append((_gray(day, Band.THERMAL, time_s), seen))
        found["day against night"].append((seen, _gray(night, Band.VISIBLE, time_s)))
        time_s, window = _somebody(day)
        found["somebody against nobody"].append(
            (_gray(day, Band.VISIBLE, time_s)[window], _gray(empty, Band.VISIBLE, time_s)[window])
        )
    return found


def _gray(scene: Scene, band: Band, time_s: float) -> Image8:
    picture = np.asarray(scene.render(band, time_s), np.uint8)
    return luminance(picture)


def _somebody(scene: Scene) -> tuple[float, tuple[slice, slice]]:
    """A moment in which a person is large in the picture and hardly hidden, and the part of it about them."""
    width, height = SIZE_PX
    best, area = (0.0, (slice(0, height), slice(0, width))), 0.0
    for time_s in np.arange(0.0, 60.0, 1.5):
        for target in scene.targets(float(time_s)):
            left, top, right, bottom = target.box_px
            size = (right - left) * (bottom - top)
            if target.kind == "person" and target.hidden < 0.2 and size > area:
                margin = (bottom - top) / 2
                rows = slice(max(0, int(top - margin)), min(height, int(bottom + margin)))
                columns = slice(max(0, int(left - 2 * margin)), min(width, int(right + 2 * margin)))
                best, area = (float(time_s), (rows, columns)), size
    return best


def _batch(images: Sequence[Image8], device: torch.device | None) -> Tensor:
    resized = [cv2.resize(image, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA) for image in images]
    return torch.from_numpy(np.stack(resized).astype(np.float32) / 255)[:, None].to(device or torch.device("cpu"))
