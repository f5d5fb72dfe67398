"""The synthetic street filmed from two places: what lies nearer or farther than the registration is set for, with the truth.

The suites ``depth`` and ``ghosts`` of `benchmarks.registration`; and the street as `film` of one place, for ``refine``.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks.suite import Row
from rtfusion.clock import NS_PER_MS, NS_PER_S
from rtfusion.config import Settings
from rtfusion.evaluate.clips import ClipPair
from rtfusion.fusion.color import luminance
from rtfusion.fusion.fuser import open_fuser
from rtfusion.registration import Calibration, CameraModel, Pose, Registration, register
from rtfusion.registration.parallax import open_parallax
from rtfusion.synthetic import Scene
from rtfusion.synthetic.layout import FOCAL, HORIZON_Y
from rtfusion.telemetry import Telemetry
from rtfusion.types import Band, Frame, FramePair, Image, Image8, PixelFormat

RIG_PX, RIG_BASELINE_M, SET_M, WALKERS_M = (640, 480), 0.06, 8.0, (2.0, 5.0, 20.0)
"""Two cameras 6 cm apart, registered for 8 m, and people at these distances."""
OTHER_STREETS = 4, 5, 6
"""Seeds of streets that nothing was settled on."""
RIG_FRAMES, RIG_HZ, RIG_NOISE_LEVELS = 90, 30.0, 2.0
LEAST_SEEN_PX = 200
"""Pixels of somebody that have to be seen for a frame to count."""
MOST_HIDDEN = 0.5
JUMP_PX = 0.55
"""Half a pixel, and what rounding adds."""
ARRIVING_FRAMES = 15
"""Frames since more than half of somebody is seen in which he may still come to his place."""
GHOSTS_EVERY = 3
"""Of the fused frames of the street, which are looked at for doubled edges."""
ABOUT_PX, IN_PLACE_PX = 14, 1
"""Pixels from an outline in which edges are looked at, and from a true edge within which one is in its place."""
AS_STRONG = 1.25
"""In its place an edge may be so many times as strong as in either band, or as where both are in place."""


def depth(data: Path) -> Iterator[Row]:
    """Of the people at each distance, the median by which the thermal picture is off, and how it changes from frame to frame."""
    del data
    scene = Scene(baseline_m=RIG_BASELINE_M, walkers_m=WALKERS_M)
    for kind in ("off", "layers", "layers without a pose", "dense"):
        yield from _at_depths(scene, kind, name=kind)
    for seed in OTHER_STREETS:
        scene = Scene(baseline_m=RIG_BASELINE_M, walkers_m=WALKERS_M, seed=seed)
        yield from _at_depths(scene, "dense", name=f"dense, street {seed}")


def _at_depths(scene: Scene, kind: str, *, name: str) -> Iterator[Row]:
    calibration = _rig()
    base = register(visible_size_px=RIG_PX, thermal_size_px=RIG_PX, calibration=calibration)
    known = None if kind.endswith("without a pose") else calibration
    kind_of = kind.partition(" ")[0]
    parallax = None if kind == "off" else open_parallax(kind_of, calibration=known, base=base, still=False)
    busy_ns: list[int] = []
    people = {distance_m: _Followed() for distance_m in WALKERS_M}
    behind = _Followed()
    before: _Seen | None = None
    for index in range(RIG_FRAMES):
        seconds = index / RIG_HZ
        noise = np.random.default_rng(index)
        visible, thermal = (_noisy(noise, scene.render(band, seconds)) for band in (Band.VISIBLE, Band.THERMAL))
        started_ns = time.thread_time_ns()
        used = base
        if parallax is not None:
            used = parallax.registration(
                base, visible=visible, thermal=thermal, timestamp_ns=round(index * NS_PER_S / RIG_HZ)
            )
        busy_ns.append(time.thread_time_ns() - started_ns)
        now = _seen(scene, seconds, moved_px=_columns(used) - _columns(base))
        for distance_m, found in people.items():
            found.add(now.bodies.get(distance_m), None if before is None else before.bodies.get(distance_m))
        behind.add(now.behind, None if before is None else before.behind)
        before = now
    shared = {"cpu_ms": float(np.mean(busy_ns)) / NS_PER_MS, **({} if parallax is None else parallax.state)}
    for distance_m, found in people.items():
        yield {"name": f"{name}, {distance_m:g} m", **found.figures(), **shared}
    yield {"name": f"{name}, what stands", **behind.figures(), **shared}


def ghosts(data: Path) -> Iterator[Row]:
    """Doubled edges of the fused street about the people at each distance.

    ``ghost``: by how many gray levels a pixel edges are steeper than whatever is in place there: the better band, the thermal one
    as the visible camera would see it, or both fused from one place. ``of_todays``: its share of what is left without parallax.
    """
    del data
    scene, in_place = Scene(baseline_m=RIG_BASELINE_M, walkers_m=WALKERS_M), Scene(walkers_m=WALKERS_M)
    times_s = [index / RIG_HZ for index in range(RIG_FRAMES)]
    films: list[list[Image8]] = []
    for scene_of, band in ((scene, Band.VISIBLE), (scene, Band.THERMAL), (in_place, Band.THERMAL)):
        noise = [np.random.default_rng((index, len(films))) for index in range(RIG_FRAMES)]
        films.append([_noisy(one, scene_of.render(band, at_s)) for one, at_s in zip(noise, times_s, strict=True)])
    visible, thermal, true_thermal = films
    truth = _fused(visible, true_thermal, calibration=None)
    looked_at = range(GHOSTS_EVERY, RIG_FRAMES, GHOSTS_EVERY)
    seen = {
        index: _Edges.of(scene, times_s[index], visible[index], true_thermal[index], truth[index])
        for index in looked_at
    }
    todays: dict[float, float] = {}
    for kind, trust in itertools.product(("off", "layers", "dense"), (False, True)):
        if kind == "off" and trust:  # this calibration is certain
            continue
        name = f"{kind}, doubt counts" if trust else kind
        fused = _fused(visible, thermal, calibration=_rig(), parallax=kind, trust=trust)
        for distance_m in WALKERS_M:
            found = [one.ghost(fused[index], distance_m) for index, one in seen.items()]
            ghost = float(np.mean([value for value in found if value is not None]))
            todays.setdefault(distance_m, ghost)
            yield {"name": f"{name}, {distance_m:g} m", "ghost": ghost, "of_todays": ghost / todays[distance_m]}


def _fused(
    visible: Sequence[Image8], thermal: Sequence[Image8], *, calibration: Calibration | None, **options: Any
) -> list[Image8]:
    """The fused luminance of every frame, as a run makes it."""
    # the file is not read: its calibration is given
    named = {} if calibration is None else {"calibration": "rig.json"}
    fuser = open_fuser(Settings(threads=1, **named, **options), telemetry=Telemetry(), calibration=calibration)
    with closing(fuser):
        return [
            luminance(
                fuser(
                    FramePair(
                        visible=_frame(one, Band.VISIBLE, index),
                        thermal=_frame(other, Band.THERMAL, index),
                        sequence=index,
                    )
                ).image
            )
            for index, (one, other) in enumerate(zip(visible, thermal, strict=True))
        ]


def _frame(image: Image8, band: Band, index: int) -> Frame:
    at_ns = round(index * NS_PER_S / RIG_HZ)
    kind = PixelFormat.BGR8 if image.ndim == 3 else PixelFormat.GRAY8
    return Frame(image=image, pixel_format=kind, band=band, timestamp_ns=at_ns, sequence=index, received_ns=at_ns)


def film(kind: str, *, frames: int) -> list[ClipPair]:
    """The street as two cameras of one view film it."""
    scene = Scene(kind=kind)
    pairs = []
    for index in range(frames):
        noise = np.random.default_rng(index)
        visible, thermal = (_noisy(noise, scene.render(band, index / RIG_HZ)) for band in (Band.VISIBLE, Band.THERMAL))
        at_ns = round(index * NS_PER_S / RIG_HZ)
        pairs.append(ClipPair(visible_y=luminance(visible), thermal=thermal, timestamp_ns=at_ns))
    return pairs


class _Edges(NamedTuple):
    """One frame: the edges that are in place, and where to look at others."""

    steepness: npt.NDArray[np.float32]
    """(H, W): of whatever is in place within `IN_PLACE_PX`, in gray levels a pixel."""
    about: Mapping[float, npt.NDArray[np.bool_]]
    """(H, W) by distance: around the outline of somebody of whom more than half is seen."""

    @classmethod
    def of(cls, scene: Scene, at_s: float, visible: Image8, thermal: Image8, fused: Image8) -> _Edges:
        distances_m, about = scene.distances_m(at_s), {}
        disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * ABOUT_PX + 1, 2 * ABOUT_PX + 1))
        for one in scene.targets(at_s):
            body = (np.abs(distances_m - one.distance_m) < 1e-3).astype(np.uint8)
            if one.distance_m in WALKERS_M and one.hidden < MOST_HIDDEN and body.sum() >= LEAST_SEEN_PX:
                about[one.distance_m] = cv2.morphologyEx(body, cv2.MORPH_GRADIENT, disk) > 0
        steepest = np.max([_steepness(image) for image in (luminance(visible), thermal, fused)], axis=0)
        near = np.ones((2 * IN_PLACE_PX + 1, 2 * IN_PLACE_PX + 1), np.uint8)
        return cls(np.asarray(cv2.dilate(steepest, near), np.float32), about)

    def ghost(self, fused: Image8, distance_m: float) -> float | None:
        """Gray levels a pixel about the people at a distance; None where nobody is seen."""
        if distance_m not in self.about:
            return None
        beyond = np.maximum(_steepness(fused) - AS_STRONG * self.steepness, 0)
        return float(beyond[self.about[distance_m]].mean())


def _steepness(image: Image8) -> npt.NDArray[np.float32]:
    """(H, W) gray levels a pixel."""
    smooth = cv2.GaussianBlur(image.astype(np.float32), (0, 0), 0.8)
    across, down = (cv2.Sobel(smooth, cv2.CV_32F, *along, ksize=1) for along in ((1, 0), (0, 1)))
    return np.asarray(cv2.magnitude(across, down), np.float32)


class _Thing(NamedTuple):
    """Somebody, or all that stands, in one frame."""

    there: npt.NDArray[np.bool_]
    """(H, W) pixels that show it, and that the thermal camera sees, too."""
    off_px: npt.NDArray[np.float32]
    """(H, W) by how much the thermal picture lies elsewhere, along the rows."""
    center_px: float
    """Its column."""
    whole: bool
    """More than half of it is seen."""


class _Seen(NamedTuple):
    """One frame, by distance in meters."""

    bodies: Mapping[float, _Thing]
    behind: _Thing


def _seen(scene: Scene, seconds: float, *, moved_px: npt.NDArray[np.float32]) -> _Seen:
    distances_m = scene.distances_m(seconds)
    wanted_px = scene.displacement_px(SET_M) - scene.displacement_px(distances_m)
    both = _seen_by_both(np.asarray(wanted_px, np.float32))
    targets = {one.distance_m: one for one in scene.targets(seconds)}
    stands = both & ~np.isin(np.round(distances_m, 3), [round(distance_m, 3) for distance_m in targets])
    off_px = np.asarray(moved_px - wanted_px, np.float32)
    bodies = {
        distance_m: _Thing(
            both & (np.abs(distances_m - distance_m) < 1e-3), off_px, one.centroid_px[0], one.hidden < MOST_HIDDEN
        )
        for distance_m, one in targets.items()
    }
    return _Seen(bodies, _Thing(stands, off_px, 0.0, True))


def _seen_by_both(wanted_px: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """(H, W): the thermal camera has in its picture, too, what a pixel shows, and nothing nearer hides it there.

    ``wanted_px`` says how far away along the rows it lies: the nearer, the less.
    """
    from_px = np.arange(wanted_px.shape[1]) + wanted_px
    inside = (from_px >= 0) & (from_px <= wanted_px.shape[1] - 1)
    at = np.indices(wanted_px.shape)[0], np.clip(np.rint(from_px), 0, wanted_px.shape[1] - 1).astype(int)
    nearest_px = np.full(wanted_px.shape, np.inf, np.float32)
    np.minimum.at(nearest_px, at, wanted_px)
    return np.asarray(inside & (wanted_px < nearest_px[at] + 1.0))


class _Followed:
    """A thing from frame to frame: how far off it is, and by how much that changes from one to the next.

    Its displacement itself would change where it walks behind something else; how far off a point of it is should not.
    """

    def __init__(self) -> None:
        self._off_px: list[float] = []
        self._arriving_px: list[float] = []
        self._changes_px: list[float] = []
        self._jumping: list[float] = []
        self._frames = 0

    def add(self, now: _Thing | None, before: _Thing | None) -> None:
        """The next frame; None where the thing is not in it."""
        if now is not None and now.there.sum() >= LEAST_SEEN_PX:
            self._off_px.append(float(np.median(np.abs(now.off_px[now.there]))))
        self._frames = self._frames + 1 if now is not None and now.whole else 0
        if now is None or before is None or not (now.whole and before.whole):
            return
        step_px = round(now.center_px - before.center_px)
        there = np.roll(before.there, step_px, axis=1) & now.there
        if there.sum() < LEAST_SEEN_PX:
            return
        changes_px = np.abs(now.off_px - np.roll(before.off_px, step_px, axis=1))[there]
        arrives = self._frames <= ARRIVING_FRAMES
        (self._arriving_px if arrives else self._changes_px).append(float(np.median(changes_px)))
        self._jumping.append(float((changes_px > JUMP_PX).mean()))

    def figures(self) -> Row:
        """``change``: of the median point, in frames after the first ones in which more than half of the thing was seen.

        ``jumping``: the share of points that change by more than `JUMP_PX` in a frame.
        """
        return {
            "off_px": _percentile(self._off_px, 50),
            "off_p90_px": _percentile(self._off_px, 90),
            "change_px": _percentile(self._changes_px, 50),
            "change_p95_px": _percentile(self._changes_px, 95),
            "change_most_px": _percentile(self._changes_px, 100),
            "arriving_p95_px": _percentile(self._arriving_px, 95),
            "jumping": float(np.mean(self._jumping)) if self._jumping else None,
        }


def _percentile(values: Sequence[float], percent: float) -> float | None:
    return float(np.percentile(values, percent)) if values else None


def _rig() -> Calibration:
    """The calibration of the synthetic rig, as a board would give it, set for `SET_M`."""
    intrinsics = ((FOCAL, 0.0, (RIG_PX[0] - 1) / 2), (0.0, FOCAL, HORIZON_Y - 0.5), (0.0, 0.0, 1.0))
    camera = CameraModel(width_px=RIG_PX[0], height_px=RIG_PX[1], intrinsics=intrinsics)
    pose = Pose(rotation=((1, 0, 0), (0, 1, 0), (0, 0, 1)), translation_m=(RIG_BASELINE_M, 0, 0))
    return Calibration.from_pose(visible=camera, thermal=camera, pose=pose, distance_m=SET_M, provenance={})


def _columns(registration: Registration) -> npt.NDArray[np.float32]:
    return np.asarray(registration.thermal.maps[0] if registration.thermal.maps is not None else 0.0, np.float32)


def _noisy(random: np.random.Generator, image: Image) -> Image8:
    noise = random.normal(0, RIG_NOISE_LEVELS, image.shape)
    return np.clip(np.round(image + noise), 0, 255).astype(np.uint8)
