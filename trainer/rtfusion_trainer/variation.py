"""Variations that make few scenes many: other tones, other sizes, and pairs of two bands that never met.

Fusion judges image content, whatever the scene, so a visible image and the thermal one of another scene are a pair to learn from
too. A teacher's picture of a pair holds for the pair mirrored and resized, not for anything else here.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, cast

import cv2
import numpy as np

from rtfusion.types import Image8
from rtfusion_trainer.config import Variation
from rtfusion_trainer.degradations import Random
from rtfusion_trainer.pairs import FAR_PX, TARGETS, Pair, distance_to_hot_px
from rtfusion_trainer.teachers.cache import Image16

LARGEST_ZOOM = 1.57
GAMMA = (0.41, 2.0)
CONTRAST = (0.61, 2.46)
PIVOT = 0.5
TILES = ((2.0, 8), (4.0, 6))
"""Contrast limit and tiles along each side."""


def vary(random: Random, pair: Pair, partner: Pair, variation: Variation) -> tuple[Pair, bool]:
    """Vary the pair, and say if it still is the one that a teacher saw.

    ``partner`` gives its thermal image where that is chosen and of the same size.
    """
    met = True
    if random.random() < variation.partner and partner.thermal.shape == pair.visible.shape:
        pair, met = replace(pair, thermal=partner.thermal, distance_px=partner.distance_px), False
    visible = _equalized(random, pair.visible, share=variation.equalized_visible)
    thermal = _equalized(random, pair.thermal, share=variation.equalized_thermal)
    if thermal is not pair.thermal:
        pair = replace(pair, distance_px=distance_to_hot_px(thermal))
    toned_visible, toned_thermal = (_toned(random, image, variation) for image in (visible, thermal))
    unchanged = met and toned_visible is pair.visible and toned_thermal is pair.thermal
    pair = replace(pair, visible=toned_visible, thermal=toned_thermal)
    if random.random() < variation.inverted:
        pair, unchanged = _without_hot(replace(pair, thermal=255 - pair.thermal)), False
    if random.random() < variation.exchanged:
        pair, unchanged = _without_hot(replace(pair, visible=pair.thermal, thermal=pair.visible)), False
    if random.random() < variation.zoomed:
        pair = _zoomed(pair, math.exp(random.uniform(-1, 1) * math.log(LARGEST_ZOOM)))
    return pair, unchanged


def _equalized(random: Random, image: Image8, *, share: float) -> Image8:
    """Equalize the histogram of the whole picture, or of tiles with limited contrast (CLAHE)."""
    if random.random() >= share:
        return image
    choice = int(random.integers(len(TILES) + 1))
    if choice == len(TILES):
        return cast(Image8, cv2.equalizeHist(image))
    limit, tiles = TILES[choice]
    return cast(Image8, cv2.createCLAHE(limit, (tiles, tiles)).apply(image))


def _toned(random: Random, image: Image8, variation: Variation) -> Image8:
    """Apply a random tone curve: a gamma, then a contrast about a random level."""
    if random.random() >= variation.toned:
        return image
    gamma, contrast = (math.exp(random.uniform(math.log(low), math.log(high))) for low, high in (GAMMA, CONTRAST))
    before, after = random.uniform(0, PIVOT, 2)
    curve = np.clip(contrast * ((np.arange(256) / 255) ** gamma - before) + after, 0, 1)
    return cast(Image8, cv2.LUT(image, np.round(255 * curve).astype(np.uint8)))


def _without_hot(pair: Pair) -> Pair:
    """Forget the hot places: hot and cold have changed, and nothing is known of halos."""
    return replace(pair, distance_px=np.full_like(pair.distance_px, FAR_PX))


def _zoomed(pair: Pair, zoom: float) -> Pair:
    """Resize the pair as if seen from nearer (zoom above 1) or farther."""

    def resized(image: Image8) -> Image8:
        shrinking = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
        return cast(Image8, cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=shrinking))

    distance_px = np.clip(np.round(resized(pair.distance_px) * zoom), 0, FAR_PX).astype(np.uint8)
    targets: dict[str, Any] = {
        name: cast(Image16, cv2.resize(picture, distance_px.shape[::-1], interpolation=cv2.INTER_AREA))
        for name in TARGETS
        if (picture := getattr(pair, name)) is not None
    }
    return replace(
        pair,
        visible=resized(pair.visible),
        thermal=resized(pair.thermal),
        distance_px=distance_px,
        **targets,
    )
