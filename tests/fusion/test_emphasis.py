"""Targets that stand out or step back: on the generated street, where it is known who is where."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import pytest

from rtfusion.evaluate.matching import contrast
from rtfusion.focus import Box, Maps, map_shape
from rtfusion.focus.boxes import painted
from rtfusion.fusion.color import luminance
from rtfusion.fusion.emphasis import FAINT, emphasized, sought
from rtfusion.intents import Intents
from rtfusion.synthetic import Scene, Target
from rtfusion.types import Band, Image8

SIZE_PX = (320, 240)
NAMES = {"person": "people", "vehicle": "vehicles"}


@cache
def street(kind: str) -> tuple[Image8, Image8, tuple[Target, ...]]:
    """The plain mean of both bands, the thermal one, and who is there in full view."""
    scene = Scene(kind=kind, seed=3, visible_size_px=SIZE_PX)
    visible, thermal = (scene.render(band, 1.0) for band in (Band.VISIBLE, Band.THERMAL))
    seen = tuple(target for target in scene.targets(1.0) if target.hidden < 0.3)
    assert {target.kind for target in seen} == set(NAMES)
    return cv2.addWeighted(luminance(visible), 0.5, thermal, 0.5, 0), thermal, seen


def maps_of(targets: tuple[Target, ...]) -> Maps:
    return painted(
        (Box.of_px(NAMES[target.kind], target.box_px, size_px=SIZE_PX) for target in targets), shape=SIZE_PX[::-1]
    )


def contrasts(image: Image8, targets: tuple[Target, ...], kind: str) -> float:
    boxes = [tuple(np.clip(np.round(target.box_px), 0, SIZE_PX * 2).astype(int)) for target in targets]
    found = [
        contrast(image, box=box, others=boxes)
        for box, target in zip(boxes, targets, strict=True)
        if target.kind == kind
    ]
    return float(np.mean([one for one in found if one is not None]))


@pytest.mark.parametrize("kind", ["day", "night"])
@pytest.mark.parametrize("of", NAMES)
def test_targets_stand_out_and_step_back_and_nothing_else_changes(kind: str, of: str) -> None:
    fused, thermal, targets = street(kind)
    maps, name = maps_of(targets), NAMES[of]
    strengths = (-1.0, -0.5, 0.0, 0.5, 1.0)
    images = [
        emphasized(fused_y=fused, thermal=thermal, targets=maps, strengths={name: strength}) for strength in strengths
    ]
    seen = [contrasts(image, targets, of) for image in images]
    assert seen == sorted(seen)
    assert seen[4] > 1.15 * seen[2]
    assert seen[0] < 0.7 * seen[2]
    assert images[2] is fused
    reached = cv2.dilate((maps[name] > FAINT / 2).astype(np.uint8), np.ones((3, 3), np.uint8))
    outside = cv2.resize(reached, SIZE_PX, interpolation=cv2.INTER_NEAREST) == 0
    for image in images:
        assert np.array_equal(image[outside], fused[outside])


def test_the_picture_that_was_given_is_left_as_it_is() -> None:
    fused, thermal, targets = street("day")
    kept = fused.copy()
    emphasized(fused_y=fused, thermal=thermal, targets=maps_of(targets), strengths={"people": 1.0, "vehicles": -1.0})
    assert np.array_equal(fused, kept)


def test_there_is_no_halo_and_no_patch_about_a_target() -> None:
    """On flat ground a flat target steps once, at its own edge, and the ground beside it stays flat, in the map's reach too."""
    fused, thermal = np.full((120, 160), 90, np.uint8), np.full((120, 160), 60, np.uint8)
    fused[40:80, 70:90], thermal[40:80, 70:90] = 140, 180
    wider = painted([Box(target="people", left=0.38, top=0.25, right=0.62, bottom=0.75)], shape=fused.shape)
    image = emphasized(fused_y=fused, thermal=thermal, targets=wider, strengths={"people": 1.0}).astype(int)
    beside = image[30:90, 58:102].copy()
    beside[10:50, 12:32] = 90
    assert np.abs(beside - 90).max() <= 3
    assert image[60, 80] > 150


def test_what_is_nearly_white_or_black_keeps_its_detail() -> None:
    fused, thermal = np.full((120, 160), 60, np.uint8), np.full((120, 160), 60, np.uint8)
    fused[40:80, 70:90] = np.where(np.indices((40, 20)).sum(0) % 2, 244, 236)
    box = painted([Box(target="people", left=0.42, top=0.3, right=0.58, bottom=0.7)], shape=fused.shape)
    image = emphasized(fused_y=fused, thermal=thermal, targets=box, strengths={"people": 1.0})
    inside = image[50:70, 75:85].astype(int)
    assert inside.max() < 255
    assert inside.std() > 0.9 * fused[50:70, 75:85].std()


@pytest.mark.parametrize("shape", [(7, 5), (50, 66), (241, 319)])
def test_any_size_is_taken(shape: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    fused, thermal = (random.integers(0, 256, shape, dtype=np.uint8) for _ in range(2))
    everywhere = {"people": np.ones(map_shape(shape), np.float32)}
    image = emphasized(fused_y=fused, thermal=thermal, targets=everywhere, strengths={"people": 1.0})
    assert image.shape == shape
    assert not np.array_equal(image, fused)


def test_places_are_needed_where_an_axis_or_the_background_asks_for_them() -> None:
    assert sought(Intents()) == ()
    assert sought(Intents(color=1, thermal=1)) == ()
    assert sought(Intents(people=-0.1)) == ("people",)
    assert sought(Intents(background=0.5)) == ("people", "vehicles")
