"""The head that ships on the generated street, which it never saw and of which the truth is known."""

from __future__ import annotations

import numpy as np
import pytest

import rtfusion
from rtfusion.evaluate.matching import contrast
from rtfusion.focus import PEOPLE, Box
from rtfusion.focus.boxes import painted
from rtfusion.fusion.color import luminance
from rtfusion.synthetic import Scene, Target
from rtfusion.types import Band

SIZE_PX = (640, 480)
LEAST_PX = 24
"""Whoever is smaller is too small for it."""


def people(scene: Scene, time_s: float) -> list[Target]:
    return [one for one in scene.targets(time_s) if one.kind == "person" and one.hidden < 0.3]


@pytest.mark.parametrize("kind", ["day", "night", "smoke"])
def test_most_people_of_the_street_are_found_and_stand_out_and_little_else_changes(kind: str) -> None:
    scene, times_s = Scene(kind=kind, seed=3, visible_size_px=SIZE_PX), (0.0,)
    found, there, before, after, outside = 0, 0, [], [], []
    with (
        rtfusion.Fuser(still=True, threads=1, precision="f32", color="everywhere") as plain,
        rtfusion.Fuser(still=True, threads=1, precision="f32", color="everywhere", intent="people=1") as wished,
    ):
        for time_s in times_s:
            bands = {"visible": scene.render(Band.VISIBLE, time_s), "thermal": scene.render(Band.THERMAL, time_s)}
            was, now = plain.frame(**bands), wished.frame(**bands)
            assert was.targets == {}
            elsewhere = np.ones(SIZE_PX[::-1], bool)
            for one in people(scene, time_s):
                left, top, right, bottom = (round(px) for px in one.box_px)
                elsewhere[max(top, 0) : bottom, max(left, 0) : right] = False
                if bottom - top < LEAST_PX:
                    continue
                box = Box.of_px(PEOPLE, one.box_px, size_px=SIZE_PX)
                filled = painted([box], shape=SIZE_PX[::-1])[PEOPLE] >= 0.5
                there += 1
                if (now.targets[PEOPLE][filled] >= 0.5).mean() >= 0.4:
                    found += 1
                    corners = np.clip([left, top, right, bottom], 0, SIZE_PX * 2).tolist()
                    before.append(contrast(luminance(was.image), box=corners, others=[]))
                    after.append(contrast(luminance(now.image), box=corners, others=[]))
            outside.append(np.abs(now.image.astype(int) - was.image)[elsewhere].mean())
    assert found >= 0.5 * there > 0
    assert np.mean(after) > 1.1 * np.mean(before)
    assert np.mean(outside) < 1.0
