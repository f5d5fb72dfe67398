"""Views of a board from two cameras or two recordings, chosen as they come, with guidance for the person who holds it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import cv2
import numpy as np

from rtfusion.clock import NS_PER_S
from rtfusion.errors import ConfigError
from rtfusion.files import write_whole
from rtfusion.types import Band, FramePair, Image8
from rtfusion_calibration.board import Board
from rtfusion_calibration.detect import Finder, Sighting, View
from rtfusion_calibration.guidance import Coverage, draw

_Item = TypeVar("_Item")

LOOKS_PER_S = 4
"""Pictures of a video that are looked at; stills all are."""
ATTEMPTS = 3
"""Preparations tried per look at a video or a camera, so that the picture keeps moving."""
NEW_SHARE = 0.06
"""Widths of the picture that the points have to be, on average, from those of every view there is."""
STILL_SHARE = 0.004
"""Widths of the picture that they may have moved since the look before."""
LEAST_SHARPNESS = 0.05
LEAST_CONTRAST = 3.0
SAMPLES = 6
"""Pairs that are kept for the pictures of the report."""


@dataclass(eq=False, repr=False)
class EvenChoice(Generic[_Item]):
    """Keeps at most ``count`` things, evenly chosen of all that came."""

    count: int = SAMPLES
    kept: list[_Item] = field(init=False, default_factory=list)
    _stride: int = field(init=False, default=1)
    _seen: int = field(init=False, default=0)

    def add(self, item: _Item) -> None:
        """Offer one more."""
        if self._seen % self._stride == 0:
            self.kept.append(item)
            if len(self.kept) > self.count:
                del self.kept[1::2]
                self._stride *= 2
        self._seen += 1


@dataclass(eq=False, repr=False)
class Collector:
    """Takes the views that tell something new, and says by pictures what to do; a command hands it the pairs."""

    board: Board
    _: KW_ONLY
    still: bool
    """The pairs are unrelated stills, each of which counts."""
    wanted: int | None = None
    enough: Callable[[], None] | None = None
    """Called when the ``wanted`` views are there."""
    folder: Path | None = None
    """The images of every view are written there, so that the same views can be given as folders again."""
    tell: Callable[[str], None] | None = None
    """Gets every new sentence of a live guidance."""
    views: list[View] = field(init=False, default_factory=list)
    samples: EvenChoice[tuple[View, FramePair]] = field(init=False, default_factory=EvenChoice)
    """Views of both cameras with their pairs, for the pictures of a report."""
    sizes_px: dict[Band, tuple[int, int]] = field(init=False, default_factory=dict)
    looks: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self._finders = {band: Finder(self.board) for band in Band}
        self._coverage = {band: Coverage() for band in Band}
        self._looked_ns: int | None = None
        self._before: View | None = None
        self._hint, self._takes = "looking for the board", False

    def __call__(self, pair: FramePair) -> Image8:
        """Look at one pair; the picture to show to the person who holds the board."""
        self.sizes_px = {Band.VISIBLE: pair.visible.size_px, Band.THERMAL: pair.thermal.size_px}
        view = self._before
        if self._is_due(pair):
            self.looks += 1
            view = self._look(pair)
            said = self._hint
            self._hint, self._takes = self._guide(view)
            if self.tell is not None and self.wanted is not None and self._hint != said:
                self.tell(self._hint)
            if self._takes:
                self._take(view, pair)
            self._before = view
        return draw(pair, view, self._coverage, hint=self._hint, takes=self._takes)

    def _is_due(self, pair: FramePair) -> bool:
        if pair.degraded is not None or pair.thermal.shutter:
            return False  # a picture of another moment
        if self.still:
            return True
        due = self._looked_ns is None or pair.timestamp_ns - self._looked_ns >= NS_PER_S / LOOKS_PER_S
        if due:
            self._looked_ns = pair.timestamp_ns
        return due

    def _look(self, pair: FramePair) -> View:
        attempts = None if self.still else ATTEMPTS
        return View(
            name=pair.visible.name or f"{pair.sequence:06d}",
            visible=self._finders[Band.VISIBLE].find(pair.visible.image, attempts=attempts),
            thermal=self._finders[Band.THERMAL].find(pair.thermal.image, attempts=attempts),
        )

    def _guide(self, view: View) -> tuple[str, bool]:
        """Give a sentence for the person, and True when the view is taken."""
        count = f"{len(self.views)} of {self.wanted} views" if self.wanted else f"{len(self.views)} views"
        if self.still:
            return count, bool(view.sightings)
        hint = _what_is_missing(view) or self._what_is_wrong(view)
        return (f"{hint}   ({count})", False) if hint else (f"taken, {len(self.views) + 1} so far", True)

    def _what_is_wrong(self, view: View) -> str | None:
        before = self._before
        if before is None or _apart(view, before, self.sizes_px) > STILL_SHARE:
            return "hold still"
        is_new = all(_apart(view, other, self.sizes_px) > NEW_SHARE for other in self.views)
        return None if is_new else self._coverage[Band.THERMAL].wish(len(self.views))

    def _take(self, view: View, pair: FramePair) -> None:
        self.views.append(view)
        for band, sighting in view.sightings.items():
            self._coverage[band].add(sighting.points_px, self.sizes_px[band])
        if view.both:
            self.samples.add((view, pair))
        if self.folder is not None:
            _save(self.folder, view.name, pair)
        if self.wanted is not None and len(self.views) >= self.wanted and self.enough is not None:
            self.enough()


def _what_is_missing(view: View) -> str | None:
    if view.visible is None or view.thermal is None:
        missing, remedy = ("visible", "light") if view.visible is None else ("thermal", "warm")
        if not view.sightings:
            return "show the board to both cameras, whole"
        return f"the {missing} camera does not see the board: {remedy} it, show it whole"
    if min(view.visible.contrast, view.thermal.contrast) < LEAST_CONTRAST:
        return f"the board is too faint {'in the thermal picture: warm it' if view.thermal.contrast < LEAST_CONTRAST else ''}"
    if min(view.visible.sharpness, view.thermal.sharpness) < LEAST_SHARPNESS:
        which = "thermal" if view.thermal.sharpness < view.visible.sharpness else "visible"
        return f"blurred in the {which} picture: hold still, or focus"
    return None


def _apart(view: View, other: View, sizes_px: Mapping[Band, tuple[int, int]]) -> float:
    """Mean distance of the points of two views, in widths of the picture; of the camera in which it is larger."""
    first, second = view.sightings, other.sightings
    distances = (_distance_px(first[band], second[band]) / sizes_px[band][0] for band in first if band in second)
    return max(distances, default=1.0)


def _distance_px(first: Sighting, second: Sighting) -> float:
    _, of_first, of_second = np.intersect1d(first.ids, second.ids, return_indices=True)
    if len(of_first) == 0:
        return np.inf
    return float(np.mean(np.linalg.norm(first.points_px[of_first] - second.points_px[of_second], axis=1)))


def _save(folder: Path, name: str, pair: FramePair) -> None:
    for frame in (pair.visible, pair.thermal):
        path = folder / frame.band.value / f"{name}.png"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, cv2.imencode(".png", frame.image)[1].tobytes())
        except OSError as error:
            message = f"cannot keep the view {path}: {error.strerror}; name another folder with --save-views"
            raise ConfigError(message) from error


class Sampler(EvenChoice[FramePair]):
    """An even choice of pairs in which no camera was lost, for the pictures of a report."""

    def __call__(self, pair: FramePair) -> None:
        """Look at one pair."""
        if pair.degraded is None:
            self.add(pair)
