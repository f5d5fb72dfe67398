"""Registered pairs of images in folders, and short clips among them.

A data folder holds one folder per set, each with ``vi`` and ``ir``, whose files match by stem. Stems like ``SCENE_0012`` that
follow each other within a set make a clip.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from rtfusion.errors import ConfigError
from rtfusion.types import Image8
from rtfusion_trainer.teachers.cache import CachedPictures, Image16

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp"})
FAR_PX = 60
"""Distances to hot targets are stored up to here."""
_NUMBERED = re.compile(r"(.*_)(\d+)")


@dataclass(frozen=True)
class Pair:
    """One registered pair; ``next_pair`` is the index of the following video frame, or None."""

    name: str
    visible: Image8
    thermal: Image8
    distance_px: Image8
    """To the nearest hot pixel (thermal above its mean + 2 SD), up to `FAR_PX`."""
    next_pair: int | None = None
    faithful_target: Image16 | None = None
    """What a faithful teacher made of it."""
    enhanced_target: Image16 | None = None
    """What a teacher made of it that shows the look of the dial at 1."""


@dataclass(frozen=True)
class Teachers:
    """Whose pictures come along; see `rtfusion_trainer.guidance` for what they are good for."""

    faithful: CachedPictures | None = None
    enhanced: CachedPictures | None = None

    @property
    def identities(self) -> list[str]:
        """Of those that there are."""
        return [teacher.identity for teacher in (self.faithful, self.enhanced) if teacher is not None]


def load_pairs(
    folder: Path, *, limit: int | None = None, part: tuple[int, int] = (0, 1), teachers: Teachers | None = None
) -> list[Pair]:
    """Every pair below ``folder``, in order of set and name, in memory; at most ``limit`` of them.

    Args:
        folder: holds SET/vi and SET/ir.
        limit: the first so many.
        part: (i, n) for the i-th of n equal parts of them, neighbors together; fewer than n are left over.
        teachers: whose pictures come along.

    Raises:
        ConfigError: there is none, an image cannot be read, the two of a pair differ in size, or a teacher has not seen it.
    """
    files = [pair for pairs in image_sets(folder).values() for pair in pairs][:limit]
    following = _next_frames([vi for vi, _ in files])
    size = len(files) // part[1]
    first = part[0] * size
    mine = range(first, first + size)
    if not mine:
        raise ConfigError(f"{folder} holds fewer pairs than there are processes ({part[1]}); start fewer")
    pairs = []
    for index in mine:
        successor = following.get(index)
        next_pair = successor - first if successor is not None and successor in mine else None
        pairs.append(_load(*files[index], next_pair=next_pair, teachers=teachers or Teachers()))
    return pairs


def image_sets(folder: Path) -> dict[str, list[tuple[Path, Path]]]:
    """Visible and thermal file of every pair, by the name of the set, in order.

    Raises:
        ConfigError: there is none.
    """
    sets = {
        ir_folder.parent.name: _matching(ir_folder) for ir_folder in sorted(folder.glob("*/ir")) if ir_folder.is_dir()
    }
    sets = {name: pairs for name, pairs in sets.items() if pairs}
    if not sets:
        raise ConfigError(f"{folder} holds no pairs; expected folders SET/vi and SET/ir with images of equal names")
    return sets


def read_pair(visible_file: Path, thermal_file: Path) -> tuple[Image8, Image8]:
    """Visible luminance and thermal image, (H, W) uint8.

    Raises:
        ConfigError: one cannot be read, or they differ in size.
    """
    visible, thermal = _gray(visible_file), _gray(thermal_file)
    if visible.shape != thermal.shape:
        raise ConfigError(f"{visible_file} is {visible.shape}, {thermal_file} {thermal.shape}; expected one size")
    return visible, thermal


def _matching(ir_folder: Path) -> list[tuple[Path, Path]]:
    if not (ir_folder.parent / "vi").is_dir():
        return []
    visible = {path.stem: path for path in (ir_folder.parent / "vi").iterdir() if path.suffix.lower() in SUFFIXES}
    thermal = {path.stem: path for path in ir_folder.iterdir() if path.suffix.lower() in SUFFIXES}
    return [(visible[stem], thermal[stem]) for stem in sorted(visible.keys() & thermal.keys())]


def _next_frames(files: list[Path]) -> dict[int, int]:
    """Index of a frame to the index of the next one; only folders in which most names follow each other are clips."""
    indices = {path: index for index, path in enumerate(files)}
    following: dict[int, int] = {}
    for folder in {path.parent for path in files}:
        members = [path for path in files if path.parent == folder]
        names = {path.stem: path for path in members}
        found = {
            indices[path]: indices[names[successor]]
            for path in members
            if (successor := _successor(path.stem)) in names
        }
        if len(found) * 2 > len(members):
            following.update(found)
    return following


def _successor(stem: str) -> str | None:
    match = _NUMBERED.fullmatch(stem)
    return f"{match[1]}{int(match[2]) + 1:0{len(match[2])}d}" if match else None


def _load(visible_file: Path, thermal_file: Path, *, next_pair: int | None, teachers: Teachers) -> Pair:
    visible, thermal = read_pair(visible_file, thermal_file)
    return Pair(
        name=visible_file.stem,
        visible=visible,
        thermal=thermal,
        distance_px=distance_to_hot_px(thermal),
        next_pair=next_pair,
        faithful_target=None if teachers.faithful is None else teachers.faithful(visible=visible, thermal=thermal),
        enhanced_target=None if teachers.enhanced is None else teachers.enhanced(visible=visible, thermal=thermal),
    )


def distance_to_hot_px(thermal: Image8) -> Image8:
    """How far every pixel is from the nearest hot one (thermal above its mean + 2 SD), rounded, up to `FAR_PX`."""
    cold = (thermal <= thermal.mean() + 2 * thermal.std()).astype(np.uint8)
    distance_px = np.minimum(cv2.distanceTransform(cold, cv2.DIST_L2, cv2.DIST_MASK_PRECISE), FAR_PX)
    return np.round(distance_px).astype(np.uint8)


def _gray(path: Path) -> Image8:
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise ConfigError(f"cannot read {path} as an image")
    return image.astype(np.uint8, copy=False)
