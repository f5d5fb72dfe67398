"""Registered pairs of images in folders, and short clips among them.

A data folder holds one folder per set, each with ``vi`` and ``ir``, whose files match by stem. Stems like ``SCENE_0012`` that
follow each other within a set make a clip.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from rtfusion.errors import ConfigError
from rtfusion.evaluate.reading import read_luminance
from rtfusion.types import Image8
from rtfusion_trainer.progress import tell
from rtfusion_trainer.teachers import faithful
from rtfusion_trainer.teachers.cache import Image16

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp"})
FAR_PX = 60
"""Distances to hot targets are stored up to here."""
MOST_NAMED = 5
"""So many pictures without a partner are named."""
TARGETS = ("faithful_target", "enhanced_target", "language_target")
"""The fields of a pair that are pictures of teachers."""
_NUMBERED = re.compile(r"(.*_)(\d+)")


@dataclass(frozen=True)
class Pair:
    """One registered pair; ``next_pair`` is the index of the following video frame, or None."""

    name: str
    visible: Image8
    thermal: Image8
    distance_px: Image8
    """Distance to the nearest hot pixel (thermal above its mean + 2 SD), up to `FAR_PX`."""
    next_pair: int | None = None
    faithful_target: Image16 | None = None
    """The picture that a faithful teacher made of the pair."""
    enhanced_target: Image16 | None = None
    """The picture of a teacher that shows the look of the dial at 1."""
    language_target: Image16 | None = None
    """What both bands say of a language-driven teacher's picture."""


class Pictures(Protocol):
    """A teacher's pictures of pairs: `rtfusion_trainer.teachers.cache.CachedPictures`, or what is made of them."""

    @property
    def identity(self) -> str:
        """The teacher, for the record."""

    def __call__(self, *, visible: Image8, thermal: Image8) -> Image16:
        """The picture of the pair, (H, W) of 0 to 65535."""


def load_pairs(
    folder: Path,
    *,
    limit: int | None = None,
    part: tuple[int, int] = (0, 1),
    teachers: Mapping[str, Pictures] | None = None,
) -> list[Pair]:
    """Every pair below ``folder``, in order of set and name, in memory; at most ``limit`` of them.

    Args:
        folder: holds SET/vi and SET/ir.
        limit: the first so many.
        part: (i, n) for the i-th of n equal parts of them, neighbors together; fewer than n are left over.
        teachers: pictures that come along, by the name of the pair's target.

    Raises:
        ConfigError: there is none, an image cannot be read, the two of a pair differ in size, or a teacher has not seen it.
    """
    tell(what_is_there(folder, limit=limit), silent=part[0] != 0)
    files = [pair for pairs in image_sets(folder).values() for pair in pairs][:limit]
    following = _next_frames([vi for vi, _ in files])
    size = len(files) // part[1]
    first = part[0] * size
    mine = range(first, first + size)
    if not mine:
        raise ConfigError(f"{folder} holds fewer pairs than there are processes ({part[1]}); start fewer")
    places = {index: place for place, index in enumerate(mine)}
    return [
        _load(*files[index], next_pair=places.get(following.get(index, -1)), teachers=teachers or {}) for index in mine
    ]


def image_sets(folder: Path) -> dict[str, list[tuple[Path, Path]]]:
    """Visible and thermal file of every pair, by the name of the set, in order.

    Raises:
        ConfigError: there is none.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: there is no such folder; expected one of folders SET/vi and SET/ir")
    sets = {inside.name: pairs for inside in sorted(folder.glob("*")) if (pairs := _matching(inside))}
    if not sets and _matching(folder):
        raise ConfigError(
            f"{folder} is itself a set, with vi and ir; give the folder that holds it, {folder.resolve().parent.name}"
        )
    if not sets:
        raise ConfigError(f"{folder} holds no pairs; expected folders SET/vi and SET/ir with images of equal names")
    return sets


def what_is_there(folder: Path, *, limit: int | None = None) -> str:
    """A sentence for a person: how many pairs in how many sets, and which pictures have no partner.

    Raises:
        ConfigError: as `image_sets`.
    """
    sets = image_sets(folder)
    count = sum(map(len, sets.values()))
    text = f"{folder}: {_counted(count, 'pair')} in {_counted(len(sets), 'set')}"
    if limit is not None and limit < count:
        text += f", of which the first {limit} are taken"
    alone = [
        f"{name}/{band}/{stem}"
        for name in sets
        for band, other in (("vi", "ir"), ("ir", "vi"))
        for stem in sorted(_pictures(folder / name, band).keys() - _pictures(folder / name, other).keys())
    ]
    if alone:
        some = ", ".join(alone[:MOST_NAMED]) + (", ..." if len(alone) > MOST_NAMED else "")
        text += f"; {_counted(len(alone), 'picture')} without a partner left out: {some}"
    return text


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def read_pair(visible_file: Path, thermal_file: Path) -> tuple[Image8, Image8]:
    """Visible luminance and thermal image, (H, W) uint8.

    Raises:
        ConfigError: one cannot be read, or they differ in size.
    """
    visible, thermal = read_luminance(visible_file), read_luminance(thermal_file)
    if visible.shape != thermal.shape:
        raise ConfigError(f"{visible_file} is {visible.shape}, {thermal_file} {thermal.shape}; expected one size")
    return visible, thermal


def _matching(folder: Path) -> list[tuple[Path, Path]]:
    visible, thermal = _pictures(folder, "vi"), _pictures(folder, "ir")
    return [(visible[stem], thermal[stem]) for stem in sorted(visible.keys() & thermal.keys())]


def _pictures(folder: Path, band: str) -> dict[str, Path]:
    return {path.stem: path for path in (folder / band).glob("*") if path.suffix.lower() in SUFFIXES}


def _next_frames(files: list[Path]) -> dict[int, int]:
    """Index of a frame to the index of the next one; only folders in which most names follow each other are clips."""
    indices = {(path.parent, path.stem): index for index, path in enumerate(files)}
    following: dict[int, int] = {}
    for folder in {path.parent for path in files}:
        members = [path.stem for path in files if path.parent == folder]
        found = {
            indices[folder, stem]: indices[folder, successor]
            for stem in members
            if (folder, successor := _successor(stem)) in indices
        }
        if len(found) * 2 > len(members):
            following.update(found)
    return following


def _successor(stem: str) -> str:
    match = _NUMBERED.fullmatch(stem)
    return f"{match[1]}{int(match[2]) + 1:0{len(match[2])}d}" if match else ""


def _load(visible_file: Path, thermal_file: Path, *, next_pair: int | None, teachers: Mapping[str, Pictures]) -> Pair:
    visible, thermal = read_pair(visible_file, thermal_file)
    return Pair(
        name=visible_file.stem,
        visible=visible,
        thermal=thermal,
        distance_px=distance_to_hot_px(thermal),
        next_pair=next_pair,
        **{target: pictures(visible=visible, thermal=thermal) for target, pictures in teachers.items()},
    )


def both_sides(missing_px: int) -> tuple[int, int]:
    """How much to add before and after where a picture is so much too small (nothing where it is not); the odd one after."""
    missing_px = max(0, missing_px)
    return missing_px // 2, missing_px - missing_px // 2


def distance_to_hot_px(thermal: Image8) -> Image8:
    """Distance of every pixel to the nearest hot one (thermal above its mean + 2 SD), rounded, up to `FAR_PX`."""
    return np.round(np.minimum(faithful.distance_to_hot_px(thermal), FAR_PX)).astype(np.uint8)
