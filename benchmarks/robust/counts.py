"""Raw counts in the fused picture: scenes of one temperature, hot objects, fog, drift, gain switches, dead pixels.

Counts are made of real thermal pictures (../shared/data/train, boxes of ../shared/data/labels): gray levels times a scale, and
noise. What is measured is the fused picture beside the true visible one, at the default settings.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from rtfusion.fusion.tone import GainControl
from rtfusion.library import Fuser
from rtfusion.types import Image8

UNIFORM_BAR_LEVELS = 3.0
KEPT_BAR = 0.8
OF_ONE_TEMPERATURE = (  # size, noise in counts, frames/s
    ((640, 480), 5.0, 8.0),
    ((160, 120), 5.0, 8.0),
    ((80, 60), 5.0, 9.0),
    ((160, 120), 1.0, 30.0),
    ((640, 480), 15.0, 30.0),
    ((640, 480), 30.0, 60.0),
)
PICTURES = 4
HOT_COUNTS = {"+80 K": 8_000.0, "+250 K": 25_000.0}
"""At a hundredth of a kelvin per count."""
FOG_BAR = 8.0
"""What the counts themselves have."""
HOT_SHARE = 0.03
SCALES = (3.0, 10.0, 60.0)
NOISE_COUNTS = 5.0
RATE_HZ = 8.0
SETTLED_S = 1.0

Counts = npt.NDArray[np.uint16]
Plane = npt.NDArray[np.floating[Any]]
Mask = npt.NDArray[np.bool_]
Row = dict[str, Any]
Clip = Iterable[Counts]


class Scene(NamedTuple):
    """A real pair with people that stand out in the thermal picture."""

    name: str
    visible: Image8
    thermal: Plane
    """Gray levels, (H, W)."""
    people: Mask
    around: Mask
    """A ring around the people."""

    def contrast(self, image: Plane) -> float:
        """How much brighter the people are than what is around them, gray levels."""
        return float(image[self.people].mean() - image[self.around].mean())


def measure(*, shared: Path, work: Path, model: str) -> list[Row]:
    """A row for each figure, worst over the pictures; ``work`` is not used.

    Raises:
        FileNotFoundError: the recordings are not there.
    """
    scenes = list(islice(scenes_of(shared), PICTURES))
    return [
        *_of_one_temperature(scenes, model),
        *_hot_objects(scenes, model),
        *_in_fog(scenes, model),
        *_kept_through(scenes, model),
        _flat(),
    ]


# -- scenes -------------------------------------------------------------------------------------------------------------


def scenes_of(shared: Path) -> Iterator[Scene]:
    """Pairs with people of some size whom the thermal picture shows, in the order of their names."""
    folder = shared / "data" / "train" / "msrs"
    boxes = json.loads((shared / "data" / "labels" / "msrs_train.json").read_text())
    for name, labels in sorted(boxes.items()):
        people = [box[1:] for box in labels["thermal"] if box[0] == "person" and box[3] * box[4] >= 1500]
        if len(people) < 2:
            continue
        visible, thermal = (_read(folder / band / name, flags) for band, flags in (("vi", 1), ("ir", 0)))
        scene = _scene(name, visible, thermal, people)
        if scene.people.sum() > 1000 and scene.contrast(scene.thermal) > 30:
            yield scene


def _read(path: Path, flags: int) -> Image8:
    found = next(path.parent.glob(f"{path.name}.*"))
    return cv2.imread(str(found), flags)  # type: ignore[return-value]


def _scene(name: str, visible: Image8, thermal: Image8, boxes: Iterable[Iterable[float]]) -> Scene:
    inside = np.zeros(thermal.shape, np.uint8)
    for x, y, width, height in boxes:
        inside[int(y) : int(y + height), int(x) : int(x + width)] = 1
    near, far = (cv2.dilate(inside, np.ones((size, size), np.uint8)) > 0 for size in (7, 41))
    plane = thermal.astype(np.float32)
    around = far & ~near
    people = (inside > 0) & (plane > (plane[inside > 0].mean() + plane[around].mean()) / 2)
    return Scene(name, visible, plane, people, around)


def _noisy(plane: Plane, noise_counts: float, rng: np.random.Generator) -> Counts:
    return _rounded(plane + rng.normal(0, noise_counts, plane.shape))


def _rounded(plane: Plane) -> Counts:
    return np.clip(np.rint(plane), 0, 65535).astype(np.uint16)


def _fused(scene: Scene, clip: Clip, *, rate_hz: float = RATE_HZ, **options: Any) -> Iterator[Plane]:
    """The fused pictures in gray, one by one."""
    with closing(Fuser(**options)) as fuser:
        for index, counts in enumerate(clip):
            image = fuser(visible=scene.visible, thermal=counts, timestamp_ns=round(index * 1e9 / rate_hz))
            yield np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.float32)


def _row(case: str, figure: str, values: tuple[float, float | None], *, bar: float, better: str) -> Row:
    value, mean = values
    return {"case": case, "figure": figure, "value": value, "mean": mean, "bar": bar, "better": better}


def _worst(
    scenes: Iterable[Scene], figure: Callable[..., float], model: str, *, better: str, **given: Any
) -> tuple[float, float]:
    """The worst of a figure over all scenes: with the model, and of the plain mean."""
    worst = max if better == "lower" else min
    scenes = list(scenes)
    learned = worst(figure(scene, **given, model=model) for scene in scenes)
    return learned, worst(figure(scene, **given, fuser="average") for scene in scenes)


# -- figures ------------------------------------------------------------------------------------------------------------


def _of_one_temperature(scenes: list[Scene], model: str) -> Iterator[Row]:
    for size_px, noise, rate_hz in OF_ONE_TEMPERATURE:
        values = _worst(
            scenes, snow, model, better="lower", size_px=size_px, noise_counts=noise, rate_hz=rate_hz
        )  # fmt: skip
        case = f"raw counts, uniform scene, {size_px[0]}x{size_px[1]}, noise {noise:g}, {rate_hz:g} Hz"
        yield _row(case, "temporal deviation", values, bar=UNIFORM_BAR_LEVELS, better="lower")


def snow(scene: Scene, *, size_px: tuple[int, int], noise_counts: float, rate_hz: float, **options: Any) -> float:
    """The temporal deviation of the fused picture while the thermal band sees little more than noise."""
    rng = np.random.default_rng(7)
    soft = cv2.GaussianBlur(scene.thermal, (0, 0), 3)
    soft = cv2.resize((soft - soft.mean()) / soft.std(), size_px, interpolation=cv2.INTER_AREA)
    count = 8 + round(rate_hz * SETTLED_S)
    clip = (_noisy(29_315 + 0.8 * noise_counts * soft, noise_counts, rng) for _ in range(count + 16))
    return float(np.stack(list(_fused(scene, clip, rate_hz=rate_hz, **options))[count:]).std(axis=0).mean())


def _hot_objects(scenes: list[Scene], model: str) -> Iterator[Row]:
    for name, counts in HOT_COUNTS.items():
        for scale in SCALES:
            values = _worst(scenes, kept_beside_hot, model, better="higher", scale=scale, hot_counts=counts)
            case = f"raw counts, {name} enters, x{scale:g}"
            yield _row(case, "people's contrast kept", values, bar=KEPT_BAR, better="higher")


def kept_beside_hot(scene: Scene, *, scale: float, hot_counts: float, **options: Any) -> float:
    """The least contrast of people while a hot object is there and in the 3 s after, as a part of that before."""
    rng = np.random.default_rng(8)
    heat = hot_counts * _disc(scene)
    base = 29_000 + scale * scene.thermal
    clip = (_noisy(base + heat * (16 <= index < 40), NOISE_COUNTS, rng) for index in range(64))
    contrasts = [scene.contrast(image) for image in _fused(scene, clip, **options)]
    return min(contrasts[16:]) / float(np.mean(contrasts[8:16]))


def _disc(scene: Scene) -> Plane:
    """A disc with a soft rim, away from the people, 3 % of the picture."""
    height, width = scene.thermal.shape
    radius = int(np.sqrt(HOT_SHARE * height * width / np.pi))
    free = cv2.distanceTransform((~(scene.people | scene.around)).astype(np.uint8), cv2.DIST_L2, 3)
    inner = free[radius // 2 : -radius // 2, radius // 2 : -radius // 2]
    y, x = np.unravel_index(int(np.argmax(inner)), inner.shape)
    disc = np.zeros((height, width), np.float32)
    cv2.circle(disc, (int(x) + radius // 2, int(y) + radius // 2), radius, 1.0, -1)
    return np.asarray(cv2.GaussianBlur(disc, (0, 0), 4), np.float32)


def _in_fog(scenes: list[Scene], model: str) -> Iterator[Row]:
    values = _worst(scenes, shown_in_fog, model, better="higher")
    yield _row(
        "raw counts, people of 40 counts in fog, noise 5", "contrast over noise", values, bar=FOG_BAR, better="higher"
    )  # fmt: skip


def shown_in_fog(scene: Scene, **options: Any) -> float:
    """The contrast of people whom only the thermal band sees, over the noise of the fused picture."""
    rng = np.random.default_rng(9)
    soft = cv2.GaussianBlur(scene.thermal, (0, 0), 40)
    plane = 29_000 + 6.0 * (soft - soft.mean()) / soft.std() + 40.0 * scene.people
    clip = (_noisy(plane, NOISE_COUNTS, rng) for _ in range(32))
    images = np.stack(list(_fused(scene._replace(visible=np.full_like(scene.visible, 170)), clip, **options))[16:])
    return scene.contrast(images.mean(axis=0)) / max(float(images.std(axis=0).mean()), 0.5)


def _kept_through(scenes: list[Scene], model: str) -> Iterator[Row]:
    for name in EVENTS:
        values = _worst(scenes, kept_through, model, better="higher", event=name)
        yield _row(f"raw counts, {name}", "people's contrast kept", values, bar=KEPT_BAR, better="higher")


EVENTS: dict[str, Callable[[Plane, int], Plane]] = {
    "drift of 20 counts/s": lambda plane, index: plane + 20.0 * index / RATE_HZ,
    "step of 300 counts": lambda plane, index: plane + 300.0 * (index >= 24),
    "the camera switches to a third of its gain": lambda plane, index: plane if index < 24 else 9_000 + plane / 3.0,
    "dead pixels appear": lambda plane, index: plane if index < 24 else _with_dead_pixels(plane),
}


def _with_dead_pixels(plane: Plane) -> Plane:
    rng = np.random.default_rng(10)
    drawn = rng.random(plane.shape)
    return np.where(drawn < 0.001, np.float32(0), np.where(drawn > 0.999, np.float32(65_535), plane))


def kept_through(scene: Scene, *, event: str, **options: Any) -> float:
    """The contrast of people from an event on, as a part of that before; where it is more, its inverse."""
    rng = np.random.default_rng(11)
    base = 29_000 + 10.0 * scene.thermal
    clip = (_rounded(EVENTS[event](base + rng.normal(0, NOISE_COUNTS, base.shape), index)) for index in range(48))
    contrasts = [scene.contrast(image) for image in _fused(scene, clip, **options)]
    parts = np.asarray(contrasts[24:]) / np.mean(contrasts[16:24])
    return float(np.minimum(parts, 1.0 / parts).min())


def _flat() -> Row:
    toned = GainControl()(np.full((480, 640), 29_315, np.uint16), timestamp_ns=0)
    return _row(
        "raw counts, dead flat", "deviation of the toned band", (float(toned.std()), None), bar=0.0, better="lower"
    )
