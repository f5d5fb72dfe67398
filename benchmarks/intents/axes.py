"""Every axis on pictures: effect, monotony, neutrality, cross-talk, locality, and what is left of the quality of a picture."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from benchmarks.intents import GUARD, figure
from benchmarks.intents.measures import MEASURES, Scene, contrast_of
from benchmarks.intents.scenes import LABELED, Asked, Picture, pictures
from benchmarks.suite import Row
from rtfusion.clock import NS_PER_S
from rtfusion.evaluate.metrics import qabf, ssim, vif
from rtfusion.fusion.color import luminance
from rtfusion.intents import AXES, NEUTRAL, PRESETS, Intents
from rtfusion.types import Image8

VALUES = (-1.0, -0.5, 0.0, 0.5, 1.0)
RIGHT_SIGN, MONOTONE, CROSS_TALK, NEUTRAL_LEVELS = 0.9, 0.95, 0.3, 1.0
CONTRAST_GAIN, OUTSIDE_LEVELS, OUTSIDE_SSIM = 1.15, 0.5, 0.99
NOISE_LEVELS, NOISY_FRAMES, NOISY_EVERY = 8.0, 8, 3
"""Noise that is added to see what is left of it, over so many frames, in every so many of the pictures."""
RATE_HZ = 30
TARGETS = ("people", "vehicles")
GUARDS = {"qabf": qabf, "ssim": ssim, "vif": vif}
Values = dict[str, dict[float, list[float | None]]]
"""By axis and value, its own measure in every picture."""


def measure(*, shared: Path, model: str, every: int) -> list[Row]:
    """Rows of all figures of the axes and presets."""
    looked = [*pictures(shared, every=every)]
    own: Values = {axis: {value: [] for value in VALUES} for axis in AXES}
    spans: dict[tuple[str, str], list[float]] = defaultdict(list)
    guards: dict[tuple[str, str], list[float]] = defaultdict(list)
    targets: dict[tuple[str, str], list[float]] = defaultdict(list)
    largest = 0
    with Asked(model=model) as asked:
        for picture in looked:
            asked.look_at(picture.regions)
            as_it_is = asked.picture(NEUTRAL, picture.scene)
            at_rest = _measured(as_it_is, picture.scene)
            for axis in AXES:
                shown = {value: asked.picture(Intents.of({axis: value}), picture.scene) for value in VALUES if value}
                ends = {value: _measured(shown[value], picture.scene) for value in (VALUES[0], VALUES[-1])}
                if axis in MEASURES and axis not in TARGETS:
                    middle = {value: MEASURES[axis](shown[value], picture.scene) for value in (-0.5, 0.5)}
                    for value in VALUES:
                        found = {**{end: of[axis] for end, of in ends.items()}, **middle, 0.0: at_rest[axis]}
                        own[axis][value].append(found[value])
                for name, low in ends[VALUES[0]].items():
                    high = ends[VALUES[-1]][name]
                    if low is not None and high is not None:
                        spans[axis, name].append((high - low) / 2)
                _guard(guards, axis, shown[VALUES[-1]], as_it_is, picture.scene)
            for name, wish in PRESETS.items():
                _guard(guards, f"preset {name}", asked.picture(wish, picture.scene), as_it_is, picture.scene)
            again = asked.picture(NEUTRAL, picture.scene)
            largest = max(largest, int(cv2.absdiff(again, as_it_is).max()))
        # few pictures are labeled, so that all of them are looked at
        for picture in pictures(shared, every=1, sets=(LABELED,)):
            asked.look_at(picture.regions)
            _look_for_targets(asked, picture, own=own, targets=targets)
    own["denoise"] = _noise(looked[::NOISY_EVERY], model=model)
    rows = [
        figure("all axes at 0", "largest difference", largest, count=len(looked), better="lower", bar=NEUTRAL_LEVELS)
    ]
    rows += [row for axis in AXES for row in _of_axis(axis, own[axis])]
    rows += [*_crossed(spans), *_of_targets(targets)]
    for (subject, name), values in guards.items():
        rows.append(figure(subject, f"{name}{GUARD}", float(np.mean(values)), count=len(values)))
    return rows


def _look_for_targets(
    asked: Asked, picture: Picture, *, own: Values, targets: dict[tuple[str, str], list[float]]
) -> None:
    as_it_is = asked.picture(NEUTRAL, picture.scene)
    for axis in TARGETS:
        shown = {value: asked.picture(Intents.of({axis: value}), picture.scene) for value in VALUES if value}
        for value, image in (*shown.items(), (0.0, as_it_is)):
            own[axis][value].append(MEASURES[axis](image, picture.scene))
        _target(targets, axis, shown[VALUES[-1]], as_it_is, picture)


def _measured(picture: Image8, scene: Scene) -> dict[str, float | None]:
    return {name: of(picture, scene) for name, of in MEASURES.items()}


def _of_axis(axis: str, values: Mapping[float, Sequence[float | None]]) -> Iterator[Row]:
    series = [row for row in zip(*(values[value] for value in VALUES), strict=True) if None not in row]
    if not series:
        return
    table = np.array(series, np.float64)
    count = len(table)
    for value, column in zip(VALUES, table.mean(axis=0), strict=True):
        yield figure(axis, f"measure at {value:+g}", float(column), count=count)
    for side, is_right in (("1", table[:, -1] > table[:, 2]), ("-1", table[:, 0] < table[:, 2])):
        yield figure(axis, f"right sign at {side}", float(is_right.mean()), count=count, bar=RIGHT_SIGN)
    monotone = (np.diff(table, axis=1) >= 0).all(axis=1)
    yield figure(axis, "monotone", float(monotone.mean()), count=count, bar=MONOTONE)


def _crossed(spans: Mapping[tuple[str, str], Sequence[float]]) -> Iterator[Row]:
    for axis in AXES:
        for name in MEASURES:
            if spans.get((name, name)):
                # where an axis has nothing to measure by, it has nothing to be compared with
                share = abs(float(np.mean(spans[axis, name])) / float(np.mean(spans[name, name])))
                bar = None if axis == name else CROSS_TALK
                row = figure(
                    axis, f"cross-talk on {name}", share, count=len(spans[axis, name]), better="lower", bar=bar
                )
                yield {**row, "measure": name}


def _guard(
    guards: dict[tuple[str, str], list[float]], subject: str, picture: Image8, as_it_is: Image8, scene: Scene
) -> None:
    bands = {"visible": scene.visible_y, "thermal": scene.thermal}
    for name, of in GUARDS.items():
        if name == "ssim" or subject.startswith("preset"):
            before = of(fused=luminance(as_it_is), **bands)
            guards[subject, name].append(of(fused=luminance(picture), **bands) / before if before else 1.0)


def _target(
    targets: dict[tuple[str, str], list[float]], axis: str, picture: Image8, as_it_is: Image8, of: Picture
) -> None:
    boxes = of.scene.people if axis == "people" else of.scene.vehicles
    before, after = (contrast_of(image, boxes, of.scene) for image in (as_it_is, picture))
    if before is None or after is None:
        return
    targets[axis, "before"].append(before)
    targets[axis, "after"].append(after)
    outside = ~of.scene.foreground
    changed = cv2.absdiff(luminance(picture), luminance(as_it_is)).astype(np.float32)
    targets[axis, "outside"].append(float(changed[outside].mean()))
    plain, filled = luminance(as_it_is), luminance(picture).copy()
    filled[~outside] = plain[~outside]
    targets[axis, "ssim"].append(ssim(fused=filled, visible=plain, thermal=plain))


def _of_targets(targets: Mapping[tuple[str, str], Sequence[float]]) -> Iterator[Row]:
    for axis in TARGETS:
        if not targets.get((axis, "before")):
            continue
        count = len(targets[axis, "before"])
        gain = float(np.mean(targets[axis, "after"]) / np.mean(targets[axis, "before"]))
        yield figure(axis, "contrast at 1 to that at 0, boxes given", gain, count=count, bar=CONTRAST_GAIN)
        outside, alike = (float(np.mean(targets[axis, name])) for name in ("outside", "ssim"))
        yield figure(axis, "change outside, levels", outside, count=count, better="lower", bar=OUTSIDE_LEVELS)
        yield figure(axis, "SSIM outside to neutral", alike, count=count, bar=OUTSIDE_SSIM)


def _noise(looked: Sequence[Picture], *, model: str) -> dict[float, list[float | None]]:
    """What is gone of a noise that is added to pictures that stand still, by value.

    It is less the deviation from the clean picture with the same wish: fine texture that the wish takes is no noise, and is
    told by the metrics beside neutral.
    """
    found: dict[float, list[float | None]] = {value: [] for value in VALUES}
    for picture in looked:
        for value in VALUES:
            wish = Intents.of({"denoise": value}) if value else NEUTRAL
            with Asked(model=model) as asked:
                clean = luminance(asked.picture(wish, picture.scene))
            rng = np.random.default_rng(5)
            with Asked(model=model, still=False, options={"intent": f"denoise={value}"}) as asked:
                for sequence in range(NOISY_FRAMES):
                    noisy = Scene(
                        visible=_with_noise(picture.scene.visible, rng), thermal=_with_noise(picture.scene.thermal, rng)
                    )
                    at_ns = sequence * NS_PER_S // RATE_HZ
                    shown = asked.picture(wish, noisy, timestamp_ns=at_ns)
            apart = luminance(shown).astype(np.float32) - clean
            apart -= cv2.GaussianBlur(apart, (0, 0), 3.0)  # levels may differ, noise is fine
            found[value].append(-float(apart.std()))
    return found


def _with_noise(image: Image8, rng: np.random.Generator) -> Image8:
    noise = rng.normal(0, NOISE_LEVELS, image.shape[:2]).astype(np.float32)
    noisy = image.astype(np.float32) + (noise if image.ndim == 2 else noise[..., None])
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
