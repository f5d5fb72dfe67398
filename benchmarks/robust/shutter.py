"""The shutter of a thermal camera in folders, videos and streams, of raw counts and of gray levels.

Clips are made of real pairs that stand still (../shared/data/train, with the boxes of ../shared/data/labels), with fresh noise in
every frame; the shutter closes for a while. What is measured is the fused picture, at the default settings.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import rtfusion
from benchmarks.robust.counts import PICTURES, Row, Scene, scenes_of
from rtfusion.types import Image

FRAMES = 48
RATE_HZ = 8.0
CLOSED = range(20, 32)
"""A second and a half."""
CHANGED_BAR = 0.1
KEPT_BAR = 0.8
Closure = Callable[[Scene, np.random.Generator], Any]
"""What the camera gives behind its shutter, in gray levels."""

CLOSURES: dict[str, Closure] = {
    "flat": lambda scene, rng: np.full(scene.thermal.shape, 60.0),
    "shaded": lambda scene, rng: np.linspace(50.0, 58.0, scene.thermal.shape[1])[None] + 0 * scene.thermal,
    "columns": lambda scene, rng: 60.0 + rng.normal(0, 0.5, (1, scene.thermal.shape[1])) + 0 * scene.thermal,
}
KINDS = ("16 bits, folder", "8 bits, folder", "8 bits, video")


def measure(*, shared: Path, work: Path, model: str) -> list[Row]:
    """Two rows for each kind of source and of shutter, worst over the pictures; clips are written below ``work``.

    Raises:
        FileNotFoundError: the recordings are not there.
    """
    scenes = list(islice(scenes_of(shared), PICTURES))
    return [
        row
        for kind in KINDS
        for name, closure in CLOSURES.items()
        for row in _rows(f"shutter, {kind}, {name}", scenes, kind, closure, work=work, model=model)
    ]


def _rows(
    case: str, scenes: list[Scene], kind: str, closure: Closure, *, work: Path, model: str
) -> Iterator[Row]:  # fmt: skip
    worst: dict[str, list[float]] = {"contrast changes by": [], "people's contrast kept": [], "held and marked": []}
    means: dict[str, list[float]] = {name: [] for name in worst}
    for scene in scenes:
        sources = _written(scene, kind, closure, folder=work / "shutter")
        for found, options in ((worst, {"model": model}), (means, {"fuser": "average"})):
            for name, value in _figures(scene, sources, options).items():
                found[name].append(value)
    for name, bar, better in (
        ("contrast changes by", CHANGED_BAR, "lower"),
        ("people's contrast kept", KEPT_BAR, "higher"),
        ("held and marked", 0.9, "higher"),
    ):
        pick = max if better == "lower" else min
        yield {
            "case": case, "figure": name, "value": pick(worst[name]), "mean": pick(means[name]), "bar": bar,
            "better": better,
        }  # fmt: skip


def _figures(scene: Scene, sources: dict[str, Any], options: dict[str, Any]) -> dict[str, float]:
    contrasts, people, marked = [], [], []
    with rtfusion.open(**sources, **options) as stream:
        for frame in stream:
            gray = cv2.cvtColor(frame.image, cv2.COLOR_BGR2GRAY).astype(np.float32)
            contrasts.append(float(gray.std()))
            people.append(scene.contrast(gray))
            marked.append(bool(frame.thermal_state.get("shutter", False)))
    before = slice(CLOSED.start - 6, CLOSED.start)
    return {
        "contrast changes by": float(
            np.max(np.abs(np.array(contrasts[CLOSED.start :]) / np.mean(contrasts[before]) - 1))
        ),
        "people's contrast kept": min(people[CLOSED.start :]) / float(np.mean(people[before])),
        "held and marked": float(np.mean([marked[index] == (index in CLOSED) for index in range(FRAMES)])),
    }


def _written(scene: Scene, kind: str, closure: Closure, *, folder: Path) -> dict[str, str]:
    """Write the clip; gives the sources by their names."""
    shutil.rmtree(folder, ignore_errors=True)
    rng = np.random.default_rng(12)
    planes = (closure(scene, rng) if index in CLOSED else scene.thermal for index in range(FRAMES))
    visible = _folder(folder / "vi", (scene.visible for _ in range(FRAMES)))
    if kind.startswith("16"):
        counts = (np.rint(29_000 + 10.0 * plane + rng.normal(0, 3, plane.shape)) for plane in planes)
        return {"ir": _folder(folder / "ir", (image.astype(np.uint16) for image in counts)), "vis": visible}
    levels = (np.clip(np.rint(plane + rng.normal(0, 1, plane.shape)), 0, 255).astype(np.uint8) for plane in planes)
    thermal = _folder(folder / "ir", levels) if "folder" in kind else _video(folder / "ir.mp4", levels)
    return {"ir": thermal, "vis": visible}


def _folder(folder: Path, images: Iterator[Image]) -> str:
    folder.mkdir(parents=True)
    for index, image in enumerate(images):
        cv2.imwrite(str(folder / f"{index:04d}.png"), image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    return f"{folder}?fps={RATE_HZ:g}"


def _video(path: Path, images: Iterator[Image]) -> str:
    """A compressed video: what was there before shines through the first pictures of the shutter."""
    writer = None
    for image in images:
        height, width = image.shape
        writer = writer or cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), RATE_HZ, (width, height))
        writer.write(np.repeat(image[..., None], 3, axis=2))
    if writer is not None:
        writer.release()
    return str(path)
