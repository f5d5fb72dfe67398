"""The pictures that the suite looks at, with what is labeled in them, and a fuser for unrelated pictures that can be asked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np

from benchmarks.intents.measures import Scene
from rtfusion.config import Settings
from rtfusion.errors import ConfigError
from rtfusion.focus import Box
from rtfusion.fusion.base import Change
from rtfusion.fusion.fuser import open_fuser
from rtfusion.intents import Intents
from rtfusion.telemetry import Telemetry
from rtfusion.types import Band, Frame, FramePair, Image8, PixelFormat

SETS = ("tno", "roadscene", "msrs", "vifb", "llvip", "m3fd")
GRAY = ("tno",)
"""Sets whose visible pictures have no color."""
LABELED = "msrs"
KINDS = {"person": "people", "car": "vehicles", "bicycle": "vehicles"}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A pair of one set, and what it is measured against."""

    name: str
    scene: Scene
    regions: tuple[Box, ...] = ()
    """The labeled boxes, as somebody would draw them."""


def pictures(shared: Path, *, every: int, sets: Sequence[str] = SETS) -> Iterator[Picture]:
    """Every n-th pair of each set.

    Raises:
        ConfigError: there is none.
    """
    labels = json.loads((shared / "data" / "labels" / "msrs_eval.json").read_text(encoding="utf-8"))
    count = 0
    for name in sets:
        for path in sorted((shared / "data" / "eval" / name / "vi").glob("*"))[::every]:
            visible = cv2.imread(str(path))
            other = next((path.parent.parent / "ir").glob(f"{path.stem}.*"), None)
            thermal = None if other is None else cv2.imread(str(other), cv2.IMREAD_GRAYSCALE)
            if visible is None or thermal is None:
                continue
            if name in GRAY:
                visible = cv2.cvtColor(visible, cv2.COLOR_BGR2GRAY)
            boxes = labels.get(path.stem, {}).get("both", []) if name == LABELED else []
            count += 1
            yield _picture(f"{name}/{path.stem}", np.asarray(visible, np.uint8), np.asarray(thermal, np.uint8), boxes)
    if not count:
        raise ConfigError(f"there are no pictures in {shared / 'data' / 'eval'}")


def _picture(name: str, visible: Image8, thermal: Image8, boxes: list[Any]) -> Picture:
    height, width = thermal.shape
    found: dict[str, list[tuple[int, int, int, int]]] = {"people": [], "vehicles": []}
    regions = []
    for kind, left, top, wide, high in boxes:
        found[KINDS[kind]].append((int(left), int(top), int(wide), int(high)))
        corners_px = left, top, left + wide, top + high
        regions.append(Box.of_px(KINDS[kind], corners_px, size_px=(width, height)))
    people, vehicles = (tuple(found[kind]) for kind in ("people", "vehicles"))
    scene = Scene(visible=visible, thermal=thermal, people=people, vehicles=vehicles)
    return Picture(name=name, scene=scene, regions=tuple(regions))


@dataclass
class Asked:
    """A fuser that is asked for a picture: by default of unrelated pairs, each of which is reached at once. A context manager."""

    model: str = "small"
    still: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)

    def __enter__(self) -> Asked:
        settings = Settings(model=self.model, threads=1, **self.options)
        self._fuser = open_fuser(settings, telemetry=Telemetry(), still=self.still, thermal_still=self.still)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._fuser.close()

    def look_at(self, regions: tuple[Box, ...]) -> None:
        """Where the targets of the next pictures are."""
        self._fuser.change(Change(regions=regions))

    def picture(self, wish: Intents, scene: Scene, *, timestamp_ns: int = 0) -> Image8:
        """The picture of a pair with a wish."""
        if wish != self._fuser.intents:
            self._fuser.change(Change(intents=wish))
        bands = {Band.VISIBLE: scene.visible, Band.THERMAL: scene.thermal}
        frames = {
            band: Frame(
                image=image,
                pixel_format=PixelFormat.GRAY8 if image.ndim == 2 else PixelFormat.BGR8,
                band=band,
                timestamp_ns=timestamp_ns,
                sequence=0,
                received_ns=timestamp_ns,
            )
            for band, image in bands.items()
        }
        pair = FramePair(visible=frames[Band.VISIBLE], thermal=frames[Band.THERMAL], sequence=0)
        return self._fuser(pair).image
