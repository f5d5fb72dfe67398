"""Training the encoder from what pairs and labels say.

Which band it is, is known of every picture; smoke, blur, noise and tones are put into pictures, and so known; day and night,
people and vehicles are known where names and labels say them. Brightness, contrast and how far hot targets stand out are
measured of what is shown. Facts that are not known of a picture count nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.nn import functional

from rtfusion.errors import ConfigError
from rtfusion.focus import PEOPLE, VEHICLES
from rtfusion.fusion.color import luminance
from rtfusion.synthetic import Scene
from rtfusion.types import Band, Image8
from rtfusion_trainer.degradations import Plane, Random, in_smoke
from rtfusion_trainer.labels import read_labels
from rtfusion_trainer.losses.language import unit
from rtfusion_trainer.pairs import load_pairs
from rtfusion_trainer.stand_in.facts import FACTS, NAMES, sentences
from rtfusion_trainer.stand_in.network import SIDE_PX, StandIn

BATCH = 24
TEXTS = 64
STEPS = 2500
LEARNING_RATE = 3e-3
SCENES = 6
"""Streets of each kind that are drawn beside the pairs, of seeds that the self-test does not have."""
FIRST_SEED = 100
_AT = {name: index for index, name in enumerate(NAMES)}


@dataclass(frozen=True)
class Seen:
    """A pair at the size of the encoder, and what is known of it: facts of -1 to 1, NaN where nothing is known."""

    visible: Plane
    thermal: Plane
    known: Plane


def train_stand_in(
    data: Path,
    *,
    labels: Path | None = None,
    steps: int = STEPS,
    seed: int = 0,
    threads: int | None = None,
    limit: int | None = None,
    stop: Callable[[], bool] = lambda: False,
    log: Callable[[int, Mapping[str, float]], None] = lambda step, values: None,
) -> StandIn:
    """Train an encoder on the pairs below ``data``, with what ``labels`` say of people and vehicles.

    Raises:
        ConfigError: there are no pairs, or the labels cannot be read or name none of them.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    torch.manual_seed(seed)
    pairs = [*seen_pairs(data, labels=labels, limit=limit), *drawn_pairs()]
    encoder = StandIn()
    optimizer = torch.optim.Adam(encoder.parameters(), lr=LEARNING_RATE)
    for step in range(steps):
        if stop():
            break
        random = np.random.default_rng((seed, step))
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * (1 - step / steps)
        images, facts = batch(random, pairs)
        texts, said = sentences(random, TEXTS)
        known = torch.isfinite(facts)
        seen = encoder.encode_image(images)
        of_pictures = functional.mse_loss(seen[known], facts[known])
        of_texts = functional.mse_loss(encoder.said(texts), torch.from_numpy(said))
        optimizer.zero_grad()
        (of_pictures + 2 * of_texts).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        log(step + 1, {"pictures": float(of_pictures.detach()), "texts": float(of_texts.detach())})
    return encoder.eval().requires_grad_(False)


def seen_pairs(data: Path, *, labels: Path | None, limit: int | None = None) -> list[Seen]:
    """The pairs of a folder; of MSRS, whose names end in D and N, day and night are known.

    Raises:
        ConfigError: there are no pairs, or the labels cannot be read or name none of them.
    """
    drawn = {} if labels is None else read_labels(labels, data=data)
    found = []
    for pair in load_pairs(data, limit=limit):
        facts: dict[str, float] = {"smoke": -1}
        if pair.name[-1:] in "DN" and pair.name[:-1].isdigit():
            facts["day"] = 1 if pair.name.endswith("D") else -1
        if pair.name in drawn:
            targets = {box.target for box in drawn[pair.name].both}
            facts |= {"people": _sign(PEOPLE in targets), "vehicles": _sign(VEHICLES in targets)}
        found.append(_seen(pair.visible, pair.thermal, facts))
    if labels is not None and all(np.isnan(pair.known[_AT["people"]]) for pair in found):
        raise ConfigError(f"the labels {labels} name none of the pairs below {data}")
    return found


def drawn_pairs() -> list[Seen]:
    """Streets of which everything is known."""
    found = []
    for index in range(SCENES):
        for kind in ("day", "night", "smoke"):
            for empty in (False, True):
                scene = Scene(kind=kind, seed=FIRST_SEED + index, visible_size_px=(320, 240), empty=empty)
                visible, thermal = (
                    luminance(np.asarray(scene.render(band, float(index)), np.uint8))
                    for band in (Band.VISIBLE, Band.THERMAL)
                )
                kinds = {target.kind for target in scene.targets(float(index))}
                facts: dict[str, float] = {"smoke": _sign(kind == "smoke"), "day": _sign(kind != "night")}
                facts |= {"people": _sign("person" in kinds), "vehicles": _sign("vehicle" in kinds)}
                found.append(_seen(visible, thermal, facts))
    return found


def batch(random: Random, pairs: Sequence[Seen], *, count: int = BATCH) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures (N, 1, S, S) and their facts (N, F), NaN where one is not known."""
    images, facts = [], []
    for _ in range(count):
        image, known = picture(random, pairs[int(random.integers(len(pairs)))])
        images.append(image)
        facts.append(known)
    return torch.from_numpy(np.stack(images))[:, None], torch.from_numpy(np.stack(facts))


def picture(random: Random, pair: Seen) -> tuple[Plane, Plane]:
    """One picture of a pair: a band, or a mixture of both, through blur, noise, smoke and a tone, and what is known of it."""
    known, visible = pair.known.copy(), pair.visible
    if random.random() < 0.15:
        visible, known[_AT["smoke"]] = in_smoke(random, visible=visible, thermal=pair.thermal), 1
    share = (0.0, 1.0, random.random())[random.integers(3)]
    image = share * pair.thermal + (1 - share) * visible
    known[_AT["thermal"]] = 2 * share - 1
    if share > 0.5:  # of smoke and light a thermal picture says little
        known[_AT["smoke"]] = np.nan
    if random.random() < 0.25:
        hot = pair.thermal > pair.thermal.mean() + 2 * pair.thermal.std()
        image = np.where(hot, np.maximum(image, random.uniform(0.6, 1)), image * random.uniform(0.2, 1))
    if random.random() < 0.4:
        image = random.uniform(-0.2, 0.25) + random.uniform(0.35, 1.4) * image ** random.uniform(0.5, 2)
    if random.random() < 0.3:
        image, known[_AT["sharp"]] = cv2.GaussianBlur(image, (0, 0), random.uniform(1.2, 3)), -1
    else:
        known[_AT["sharp"]] = 1
    known[_AT["noisy"]] = -1
    if random.random() < 0.3:
        image = image + random.uniform(0.03, 0.1) * random.standard_normal(image.shape)
        known[_AT["noisy"]] = 1
    image = np.clip(image, 0, 1).astype(np.float32)
    return (image[:, ::-1].copy() if random.random() < 0.5 else image), _measured(image, pair.thermal, known)


def _measured(image: Plane, thermal: Plane, known: Plane) -> Plane:
    """The facts with those that are measured of the picture."""
    hot = thermal > thermal.mean() + 2 * thermal.std()
    known[_AT["bright"]] = np.clip((image.mean() - 0.38) / 0.22, -1, 1)
    known[_AT["contrast"]] = np.clip((image.std() - 0.15) / 0.09, -1, 1)
    if hot.mean() > 0.002:
        known[_AT["glow"]] = np.clip((image[hot].mean() - image[~hot].mean() - 0.15) / 0.3, -1, 1)
    return known


def _seen(visible: Image8, thermal: Image8, facts: Mapping[str, float]) -> Seen:
    known = np.full(len(NAMES), np.nan, np.float32)
    for name, value in facts.items():
        known[_AT[name]] = value
    planes = (
        cv2.resize(image, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA).astype(np.float32) / np.float32(255)
        for image in (visible, thermal)
    )
    first, second = planes
    return Seen(first, second, known)


def _sign(holds: bool) -> float:
    return 1.0 if holds else -1.0


def accuracy(encoder: StandIn, pairs: Sequence[Seen], *, seed: int = 0, draws: int = 4) -> dict[str, float]:
    """Zero-shot accuracy by fact: which of the first two sentences of a fact a picture is nearer to, where the fact is clear."""
    random = np.random.default_rng(seed)
    pictures = [picture(random, pair) for pair in pairs for _ in range(draws)]
    with torch.no_grad():
        seen = unit(encoder.encode_image(torch.from_numpy(np.stack([image for image, _ in pictures]))[:, None]))
    known = np.stack([facts for _, facts in pictures])
    found = {}
    for name, (so, not_so) in FACTS.items():
        first, second = (unit(encoder.encode_text([f"an image, {words[0]}"]))[0] for words in (so, not_so))
        said = ((seen @ first) > (seen @ second)).numpy()
        clear = np.abs(np.nan_to_num(known[:, _AT[name]])) > 0.5
        if clear.sum() >= 10:
            found[name] = float((said[clear] == (known[clear, _AT[name]] > 0)).mean())
    return found
