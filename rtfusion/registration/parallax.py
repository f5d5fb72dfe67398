"""Parallax: what is nearer or farther than the registration is set for lies elsewhere, and is brought to its place.

Two cameras side by side see a thing at another distance displaced along one line of the picture. By how much is asked of the
structure of both bands at low resolution: for every displacement that the rig allows, how alike both are around each cell,
where "around" ends at the edges of the visible picture (He et al., "Guided image filtering", and Hosni et al., "Fast cost-volume
filtering for visual correspondence and beyond", both IEEE TPAMI 2013). What was found is remembered, and moves with the visible
picture. Where neither band tells, what the registration says stays; and what is seen moves by a bounded step a frame.
"""

from __future__ import annotations

import copy
from collections import deque
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import cv2
import numpy as np
import numpy.typing as npt

from rtfusion.clock import NS_PER_MS
from rtfusion.errors import CalibrationError
from rtfusion.registration.calibration import Calibration, Matrix, scale_px
from rtfusion.registration.doubt import Doubt, of_displacement
from rtfusion.registration.maps import Registration, Warp, register
from rtfusion.registration.structure import StructureMap, equalized, structure_map
from rtfusion.types import Displacement, Image, Image8

SIDE_PX = 320
"""Longer side of the pictures that are compared; cells are two of their pixels wide."""
STRIDE = 2
NEAREST_M = 1.5
"""Of a rig with a pose: nothing is looked for that is nearer."""
FAR_M = 1e9
LEAST_PARALLAX_PX = 0.5
RANGE = 0.03
"""Of a rig without one: share of the width by which a thing may be displaced to either side."""
STEP_PX = 1.5
"""From one displacement that is tried to the next, at `SIDE_PX`: one layer, of which dense finds what is between."""
MOST_STEPS = 24
WINDOW, REACH = 5, 6
"""In cells: a square whose structure is compared, and the reach of the window that ends at edges."""
EDGE = 1e-3
"""Variance of the visible picture, of full scale, from which on an edge is one."""
SURE = 0.06
"""How much more alike than in the mean over all displacements both bands are where a place is sure of its own."""
DOUBT = 0.008
"""Weight of what the registration says against a place that is sure."""
EVERY = 3
"""Frames from one measurement to the next."""
MOST_CHANGE_PX = 0.5
"""Of one frame, in pixels of the grid, of what has been seen for longer than `YOUNG` frames."""
NEW = 3
"""Frames for which the first measurement of a thing counts alone."""
YOUNG, MOST_CHANGE_YOUNG_PX = 12, 1.5
"""What has appeared comes to its place within so many frames, by so much a frame."""
GAIN = 0.5
"""Share of the way to what was measured that is gone at once, where the bound allows."""
STILL = 0.15
"""Cells a frame below which nothing moves."""
OTHER_LEVELS = 14.0
"""Gray levels between a cell and where it came from, from which on it is another thing that was hidden."""
SAME_LEVELS, CHANGED_LEVELS = 6.0, 4.0
"""Gray levels around a cell: up to the first it shows again what stood there, from the second on something else than before."""
NOTHING_LEVELS = -255.0
FORGET_NS = 500 * NS_PER_MS
"""After a gap of more than this between two frames everything starts anew."""
AXES = ((1.0, 0.0), (0.0, 1.0))
"""Directions in which the cameras of a rig without a pose may lie from one another."""
TRIALS = 6
"""Measurements along each axis until a rig without a pose is known to lie along one."""
LEAST_GAIN, CLEARER = 0.0075, 2.0
"""How much more alike both bands have to become along that axis, and how many times more than along the other.

In cameras of one view chance alone gives up to 0.006, along either."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Lines:
    """Where a thing of another distance lies in the picture that is registered."""

    direction: tuple[float, float]
    """Unit vector on the grid: what is nearer lies there by its displacement."""
    least_px: float
    most_px: float
    """Displacements of the farthest and of the nearest thing, in pixels of the grid; 0 is as registered."""


def open_parallax(kind: str, *, calibration: Calibration | None, base: Registration, still: bool) -> Parallax:
    """The correction of a kind, ``layers`` or ``dense``, for a registration onto the visible grid.

    Raises:
        CalibrationError: ``dense``, and the calibration holds no pose; or the rig has no parallax.
    """
    has_pose = calibration is not None and calibration.visible_from_thermal is not None
    if kind == "dense" and not has_pose:
        raise CalibrationError(
            "parallax dense needs to know how the cameras lie to one another, and the calibration holds no pose; "
            "calibrate with a board, or use parallax layers"
        )
    lines = lines_of(calibration, base) if calibration is not None and has_pose else None
    return Parallax(dense=kind == "dense", lines=lines, still=still)


def lines_of(calibration: Calibration, base: Registration) -> Lines:
    """The lines of a rig whose pose is known, for a registration onto the visible grid at the distance it is set for.

    Raises:
        CalibrationError: the calibration holds no pose or no lenses, or hardly anything is displaced in this rig.
    """
    sizes_px = base.size_px, base.thermal.source_px
    set_m = calibration.distance_m or FAR_M
    far, there, near = (
        _places(_registered(calibration.at_distance(distance_m), *sizes_px).thermal, base.size_px)
        for distance_m in (FAR_M, set_m, NEAREST_M)
    )
    grid_from_source = np.linalg.inv(_jacobian(there))
    to_far, to_near = (grid_from_source @ np.median(place - there, axis=(0, 1)) for place in (far, near))
    length_px = float(np.linalg.norm(to_near - to_far))
    if length_px < LEAST_PARALLAX_PX:
        raise CalibrationError(
            f"from {NEAREST_M:g} m to far away things move by {length_px:.2f} px in this rig: leave --parallax out"
        )
    across, down = (to_near - to_far) / length_px
    ends_px = [float(end @ (across, down)) for end in (to_far, to_near)]
    return Lines(direction=(float(across), float(down)), least_px=ends_px[0], most_px=ends_px[1])


def _registered(calibration: Calibration, visible_px: tuple[int, int], thermal_px: tuple[int, int]) -> Registration:
    calibration = calibration.scaled(visible_size_px=visible_px, thermal_size_px=thermal_px)
    return register(visible_size_px=visible_px, thermal_size_px=thermal_px, calibration=calibration)


class _Memory(NamedTuple):
    """What is known of every cell, (rows, columns) each."""

    now_px: Floats
    """Its displacement, in pixels of the grid."""
    goal_px: Floats
    """What it moves to."""
    age: Floats
    """Frames for which its thing has been seen."""
    behind_px: Floats
    """The displacement of what stood there last, without moving, for `YOUNG` frames."""
    behind_levels: Floats
    """Its gray levels; beyond all where nothing has stood."""
    gray: Image8
    timestamp_ns: int


class _Prepared(NamedTuple):
    """What follows from a registration, and holds as long as that does."""

    base: Registration
    small: Warp
    """The thermal picture onto the grid at `SIDE_PX`."""
    seen: Floats
    """1 where that camera sees, else 0."""
    maps: tuple[Floats, Floats]
    """(H, W) columns and rows of the source, as of `Warp`."""
    jacobian: Matrix
    """(2, 2) source pixels for one pixel of the grid."""


class _Structure(NamedTuple):
    """The thermal picture on the grid at `SIDE_PX`."""

    map: StructureMap
    """0 where the thermal camera does not see."""
    seen: Floats
    """(H, W): 1 where it does."""


class Parallax:
    """Corrects a registration onto the visible grid for what is nearer or farther. For every frame ask for `registration`.

    Args:
        dense: any displacement; else one of a small set of layers.
        lines: those of the rig; None looks for them along the rows and the columns of the picture.
        still: the pictures are unrelated, and nothing is remembered of one for the next.
    """

    def __init__(self, *, dense: bool, lines: Lines | None = None, still: bool = False) -> None:
        self._dense = dense
        self._lines = lines
        self._still = still
        self._memory: _Memory | None = None
        self._prepared: _Prepared | None = None
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._waited = EVERY
        self._starts = True
        self._doubt_px: Doubt | None = None
        self._measured = 0
        self._sure = 0.0
        self._told: dict[tuple[float, float], deque[float]] = {axis: deque(maxlen=10 * TRIALS) for axis in AXES}

    @property
    def state(self) -> dict[str, Any]:
        """What it does, as JSON-able values.

        ``direction`` is None as long as a rig without a pose has not told it; ``in_use_px`` are the displacements that nearly all
        of the picture lies between, and ``sure`` is the share of it that tells its own.
        """
        in_use = (0.0, 0.0) if self._memory is None else np.percentile(self._memory.now_px, (2, 98)).tolist()
        return {
            "kind": "dense" if self._dense else "layers",
            "direction": None if self._lines is None else [round(share, 3) for share in self._lines.direction],
            "in_use_px": [round(end, 2) for end in in_use],
            "sure": round(self._sure, 3),
            "measured": self._measured,
        }

    @property
    def displacement_px(self) -> Floats | None:
        """(rows, columns) by cells, in pixels of the grid along the rig's direction; None before the first frame."""
        return None if self._memory is None else self._memory.now_px

    @property
    def displacement(self) -> Displacement | None:
        """What is in use; None before the first frame, and as long as a rig without a pose has not told its direction."""
        if self._memory is None or self._lines is None:
            return None
        return Displacement(
            cells_px=self._memory.now_px,
            farthest_px=self._lines.least_px,
            nearest_px=self._lines.most_px,
            direction=self._lines.direction,
            doubt_px=self._doubt_px,
        )

    def registration(
        self, base: Registration, *, visible: Image8, thermal: Image, timestamp_ns: int, told: bool = True
    ) -> Registration:
        """Give the registration of this frame: ``base``, with everything at its own distance.

        Args:
            base: onto the visible grid.
            visible: (H, W) or (H, W, 3), the picture on that grid.
            thermal: (h, w), as the camera gave it.
            timestamp_ns: of the pair.
            told: False where one of them is not of this moment; then nothing is measured.
        """
        if self._prepared is None or self._prepared.base is not base:
            self._prepared = _prepare(base)
        small = _shrunk(visible)
        memory = self._moved(small, timestamp_ns)
        self._waited += 1
        if told and self._waited >= EVERY:
            self._waited = 0
            memory = self._measured_anew(memory, small, self._prepared, thermal)
        most_px = np.where(memory.age < YOUNG, MOST_CHANGE_YOUNG_PX, MOST_CHANGE_PX).astype(np.float32)
        step = np.clip(memory.goal_px - memory.now_px, -most_px, most_px)
        self._memory = memory = memory._replace(now_px=memory.now_px + step)
        if self._lines is None:
            return base
        result = _displaced(self._prepared, memory.now_px, self._lines.direction)
        result.doubt_px = self._doubt_px = of_displacement(
            memory.now_px, goal_px=memory.goal_px, age_frames=None if self._still else memory.age
        )
        return result

    # -- memory -----------------------------------------------------------------------------------------------------

    def _moved(self, small: Image8, timestamp_ns: int) -> _Memory:
        """What is known, where its things are now."""
        gray = cast(Image8, cv2.resize(small, None, fx=1 / STRIDE, fy=1 / STRIDE, interpolation=cv2.INTER_AREA))
        before = self._memory
        gap_ns = 0 if before is None else timestamp_ns - before.timestamp_ns
        if self._still or before is None or before.gray.shape != gray.shape or not 0 <= gap_ns <= FORGET_NS:
            nothing = np.zeros(gray.shape, np.float32)
            self._waited, self._starts = EVERY, True
            return _Memory(
                nothing, nothing, nothing, nothing, np.full_like(nothing, NOTHING_LEVELS), gray, timestamp_ns
            )
        if self._lines is None:  # nothing is displaced yet that could move with the picture
            return before._replace(gray=gray, timestamp_ns=timestamp_ns)
        x, y, still = self._came_from(gray, before.gray)
        both = cv2.remap(cv2.merge([before.now_px, before.goal_px]), x, y, cv2.INTER_LINEAR, None, cv2.BORDER_REPLICATE)
        there = cv2.remap(before.gray, x, y, cv2.INTER_LINEAR, None, cv2.BORDER_REPLICATE)
        age = cv2.remap(before.age, x, y, cv2.INTER_NEAREST, None, cv2.BORDER_CONSTANT, -1) + 1
        # what was hidden or out of the picture is seen for the first time
        age[cv2.absdiff(gray, there) > OTHER_LEVELS] = 0
        now_px, goal_px = (cast(Floats, plane) for plane in cv2.split(both))
        memory = before._replace(
            now_px=now_px, goal_px=goal_px, age=cast(Floats, age), gray=gray, timestamp_ns=timestamp_ns
        )
        return _seen_again(memory, changed=_unlike(gray, before.gray) > CHANGED_LEVELS, still=still)

    def _came_from(self, gray: Image8, before: Image8) -> tuple[Floats, Floats, npt.NDArray[np.bool_]]:
        """Column and row that each cell had in the picture before, and where that is its own.

        Beside what moves, the flow moves what stands, too: where a cell is more like itself, it stays.
        """
        back = self._flow.calc(gray, before, np.zeros((*gray.shape, 2), np.float32))
        across, down = (cast(Floats, plane) for plane in cv2.split(back))
        x, y = np.meshgrid(*(np.arange(side, dtype=np.float32) for side in gray.shape[::-1]))
        there = cv2.remap(before, x + across, y + down, cv2.INTER_LINEAR, None, cv2.BORDER_REPLICATE)
        moves = (np.maximum(np.abs(across), np.abs(down)) >= STILL) & (_unlike(gray, there) < _unlike(gray, before))
        return x + across * moves, y + down * moves, ~moves

    def _measured_anew(self, memory: _Memory, small: Image8, prepared: _Prepared, thermal: Image) -> _Memory:
        """The goals after a measurement; the first of all is in use at once."""
        starts, self._starts = self._starts, False
        is_asked = self._lines is None
        warm = equalized(prepared.small(prepared.base.thermal.reduced(thermal)))
        here, there = structure_map(equalized(small)), _structure(warm, prepared.seen)
        scale = prepared.base.size_px[0] / small.shape[1]
        lines = self._lines or self._ask(here, there, memory.gray, scale, prepared.base.size_px[0])
        if lines is None:
            return memory
        if is_asked:  # what is known of the rig from here on comes into use as what has appeared does
            memory = memory._replace(age=np.zeros_like(memory.age))
        found_px, sure = self._found(here, there, memory.gray, lines, scale)
        self._measured += 1
        self._sure = float((sure > 0.5).mean())
        if starts:  # nobody has seen it elsewhere
            return memory._replace(goal_px=found_px, now_px=found_px)
        goal_px = np.where(memory.age < NEW, found_px, memory.goal_px + GAIN * (found_px - memory.goal_px))
        return memory._replace(goal_px=goal_px.astype(np.float32))

    # -- measuring --------------------------------------------------------------------------------------------------

    def _ask(self, here: StructureMap, there: _Structure, gray: Image8, scale: float, width_px: int) -> Lines | None:
        """Try each axis for some measurements; the lines of the one along which both bands are more alike, once it is known."""
        for axis, gains in self._told.items():
            lines = Lines(direction=axis, least_px=-RANGE * width_px, most_px=RANGE * width_px)
            layer_px = self._layer_px(lines, scale)
            tried_px, likeness = _likenesses(here, there, gray, lines, scale=scale, layer_px=layer_px)
            # of what chance prefers here and there nothing is left once it is smoothed
            found_px = self._chosen(tried_px, likeness, gray, layer_px)[0]
            nearest = np.clip(np.rint((found_px - tried_px[0]) / layer_px), 0, len(tried_px) - 1).astype(np.int64)
            gain = np.take_along_axis(likeness, nearest[None], axis=0)[0] - likeness[len(tried_px) // 2]
            gains.append(float((gain * _choose_one_another(tried_px, likeness, lines, scale)).mean()))
        means = {axis: float(np.mean(gains)) for axis, gains in self._told.items()}
        best, other = sorted(means, key=lambda axis: -means[axis])
        if len(self._told[best]) >= TRIALS and means[best] > max(LEAST_GAIN, CLEARER * means[other]):
            self._lines = Lines(direction=best, least_px=-RANGE * width_px, most_px=RANGE * width_px)
        return self._lines

    def _layer_px(self, lines: Lines, scale: float) -> float:
        """From one displacement that is tried to the next, in pixels of the grid."""
        return max(STEP_PX * scale, (lines.most_px - lines.least_px) / MOST_STEPS)

    def _found(
        self, here: StructureMap, there: _Structure, gray: Image8, lines: Lines, scale: float
    ) -> tuple[Floats, Floats]:
        """The displacement of every cell in pixels of the grid, and from 0 to 1 how sure it is."""
        layer_px = self._layer_px(lines, scale)
        return self._chosen(*_likenesses(here, there, gray, lines, scale=scale, layer_px=layer_px), gray, layer_px)

    def _chosen(self, tried_px: Floats, likeness: Floats, gray: Image8, layer_px: float) -> tuple[Floats, Floats]:
        """What `_found` gives, of the likeness by displacement."""
        best = likeness.argmax(axis=0)
        sure = np.clip((likeness.max(axis=0) - likeness.mean(axis=0)) / SURE, 0, None).astype(np.float32)
        found_px = tried_px[best]
        if self._dense:
            found_px = found_px + layer_px * _vertices(likeness, best)
        # what is not sure takes what is around it on the same side of an edge, and in the end what the registration says
        weight = np.square(np.square(sure))
        guide = _Guide(gray, weight + np.float32(DOUBT))
        smooth_px = guide(cast(Floats, (found_px * weight / (weight + DOUBT)).astype(np.float32)))
        return np.clip(smooth_px, tried_px[1], tried_px[-2]), np.minimum(sure, 1.0)


def _structure(warm: Image8, seen: Floats) -> _Structure:
    return _Structure(cast(StructureMap, cv2.multiply(structure_map(warm), cv2.merge([seen] * 4))), seen)


def _unlike(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> Floats:
    """Gray levels between two pictures around each cell."""
    return cast(Floats, cv2.blur(cv2.absdiff(one, other).astype(np.float32), (3, 3)))


def _seen_again(memory: _Memory, *, changed: npt.NDArray[np.bool_], still: npt.NDArray[np.bool_]) -> _Memory:
    """What somebody hid who passed is at once where it was before; what has stood is kept for when it is hidden."""
    again = changed & (_unlike(memory.gray.astype(np.float32), memory.behind_levels) < SAME_LEVELS)
    now_px, goal_px = (np.where(again, memory.behind_px, plane) for plane in (memory.now_px, memory.goal_px))
    age = np.where(again, np.float32(YOUNG), memory.age)
    stands = still & ~changed & (age >= YOUNG)
    return memory._replace(
        now_px=now_px,
        goal_px=goal_px,
        age=age,
        behind_px=np.where(stands, now_px, memory.behind_px),
        behind_levels=np.where(stands, memory.gray, memory.behind_levels).astype(np.float32),
    )


def _likenesses(
    here: StructureMap, there: _Structure, gray: Image8, lines: Lines, *, scale: float, layer_px: float
) -> tuple[Floats, Floats]:
    """Displacements (n,) in pixels of the grid, and (n, rows, columns): with each, how alike both bands are around each cell.

    0 is among them; the first and the last one are beyond the ends, so that the best one has neighbors. What would lie outside
    of the thermal picture is as alike as the rest of what is tried there: it tells nothing.
    """
    first, last = int(np.floor(lines.least_px / layer_px)) - 1, int(np.ceil(lines.most_px / layer_px)) + 1
    tried_px = np.arange(first, last + 1, dtype=np.float32) * np.float32(layer_px)
    still = np.ascontiguousarray(here[::STRIDE, ::STRIDE])
    energy = _dot(still, still)
    rows, columns = still.shape[:2]
    likeness, known = (np.empty((len(tried_px), rows, columns), np.float32) for _ in range(2))
    for index, displacement_px in enumerate(tried_px):
        x, y = (share * float(displacement_px) / scale for share in lines.direction)
        # what is displaced by (x, y) is brought back, and every second pixel of it is looked at
        back = np.array([[1 / STRIDE, 0, -x / STRIDE], [0, 1 / STRIDE, -y / STRIDE]])
        moved, seen = (
            cast(
                Floats,
                cv2.warpAffine(plane, back, (columns, rows), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT),
            )
            for plane in (there.map, there.seen)
        )
        # the moved map's own square: what lies between pixels is fainter, and as faint in both
        planes = [_dot(still, moved), cv2.multiply(energy, seen), _dot(moved, moved), seen]
        both = cv2.blur(cv2.merge(planes), (WINDOW, WINDOW))
        product, own, other, known[index] = cv2.split(both)
        likeness[index] = cv2.divide(product, cv2.sqrt(cv2.multiply(own, other) + np.float32(1e-4)))
    mean = (likeness * known).sum(axis=0) / np.maximum(known.sum(axis=0), np.float32(1e-6))
    likeness = mean + known * (likeness - mean)
    guide = _Guide(gray)
    for plane in likeness:
        plane[:] = guide(plane)
    return tried_px, likeness


def _dot(one: StructureMap, other: StructureMap) -> Floats:
    products = cv2.multiply(one, other)
    return cast(Floats, (products[..., 0] + products[..., 1]) + (products[..., 2] + products[..., 3]))


def _choose_one_another(tried_px: Floats, likeness: Floats, lines: Lines, scale: float) -> npt.NDArray[np.bool_]:
    """(rows, columns): the thermal place that a cell is most like is most like this cell, too, or like its neighbor."""
    rows, columns = likeness.shape[1:]
    best = likeness.argmax(axis=0)
    from_there = np.empty_like(likeness)
    for index, displacement_px in enumerate(tried_px):
        x, y = (share * float(displacement_px) / (scale * STRIDE) for share in lines.direction)
        there = np.array([[1, 0, x], [0, 1, y]])
        from_there[index] = cv2.warpAffine(
            likeness[index],
            there,
            (columns, rows),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=(-1,),
        )
    column, row = np.meshgrid(*(np.arange(side, dtype=np.float32) for side in (columns, rows)))
    cells = tried_px[best] / np.float32(scale * STRIDE)
    across, down = (np.float32(share) for share in lines.direction)
    chosen = from_there.argmax(axis=0).astype(np.float32)
    back = cv2.remap(chosen, column + across * cells, row + down * cells, cv2.INTER_NEAREST, None, cv2.BORDER_REPLICATE)
    return np.asarray(np.abs(back - best) <= 1)


class _Guide:
    """Smooths planes within the edges of a gray picture, (rows, columns): a linear function of it around every cell.

    The functions are made at half of the resolution, since they are smooth.
    """

    def __init__(self, gray: Image8, weight: Floats | None = None) -> None:
        self._whole = gray.astype(np.float32) / np.float32(255)
        self._gray = _halved(self._whole)
        self._weight = np.ones_like(self._gray) if weight is None else _halved(weight)
        self._total = _mean(self._weight)
        self._weighted = self._weight * self._gray
        self._middle = _mean(self._weighted) / self._total
        self._spread = _mean(self._weighted * self._gray) / self._total - np.square(self._middle) + np.float32(EDGE)

    def __call__(self, plane: Floats) -> Floats:
        """The plane (rows, columns), smoothed."""
        small = _halved(plane)
        middle = _mean(self._weight * small) / self._total
        slope = (_mean(self._weighted * small) / self._total - self._middle * middle) / self._spread
        function = cv2.blur(cv2.merge([slope, middle - slope * self._middle]), (REACH + 1, REACH + 1))
        slope, offset = cv2.split(cv2.resize(function, plane.shape[::-1], interpolation=cv2.INTER_LINEAR))
        return cast(Floats, cv2.add(cv2.multiply(slope, self._whole), offset))


def _halved(plane: Floats) -> Floats:
    return cast(Floats, cv2.resize(plane, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))


def _mean(plane: Any) -> Any:
    return cv2.blur(plane, (REACH + 1, REACH + 1))


def _vertices(likeness: Floats, best: npt.NDArray[np.int64]) -> Floats:
    """Where between its neighbors the top of the parabola through each best one lies, in steps."""
    index = np.clip(best, 1, len(likeness) - 2)[None]
    before, at, after = (np.take_along_axis(likeness, index + step, axis=0)[0] for step in (-1, 0, 1))
    bend = np.minimum(before - 2 * at + after, np.float32(-1e-6))
    return cast(Floats, np.clip(np.float32(0.5) * (before - after) / bend, -1, 1))


# -- places -----------------------------------------------------------------------------------------------------------


def _shrunk(visible: Image8) -> Image8:
    """The gray picture at `SIDE_PX`, its sides multiples of `STRIDE`."""
    height, width = visible.shape[:2]
    factor = SIDE_PX / max(height, width)
    sides = tuple(max(STRIDE * 8, round(side * factor / STRIDE) * STRIDE) for side in (width, height))
    small = cv2.resize(visible, sides, interpolation=cv2.INTER_AREA)
    return cast(Image8, cv2.cvtColor(small, cv2.COLOR_BGR2GRAY) if small.ndim == 3 else small)


def _prepare(base: Registration) -> _Prepared:
    width, height = base.size_px
    places = _places(base.thermal, base.size_px)
    sides = _shrunk(np.zeros((height, width), np.uint8)).shape[::-1]
    grid_from_small = scale_px(from_px=sides, to_px=base.size_px)
    columns, rows = (
        (np.arange(side) * grid_from_small[axis, axis] + grid_from_small[axis, 2]).astype(np.float32)
        for axis, side in enumerate(sides)
    )
    at_x, at_y = np.meshgrid(columns, rows)
    small = cv2.remap(places, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    x, y = (np.ascontiguousarray(places[..., axis]) for axis in range(2))
    ends = np.array(base.thermal.source_px) - 0.5
    return _Prepared(
        base=base,
        small=Warp(cast(Floats, small), source_size_px=base.thermal.source_px),
        seen=cast(Floats, ((small > -0.5) & (small < ends)).all(axis=2).astype(np.float32)),
        maps=(x, y),
        jacobian=_jacobian(places),
    )


def _places(warp: Warp, size_px: tuple[int, int]) -> Floats:
    """(H, W, 2) where each pixel of the grid comes from, in pixels of what the warp reduces its picture to."""
    if warp.maps is not None:
        return np.stack(warp.maps, axis=2)
    return np.stack(np.meshgrid(*(np.arange(side, dtype=np.float32) for side in size_px)), axis=2)


def _jacobian(places: Floats) -> Matrix:
    """(2, 2) source pixels for one pixel of the grid, in the middle of the picture."""
    rows, columns = (side // 4 for side in places.shape[:2])
    middle = places[rows:-rows, columns:-columns].astype(np.float64)
    across = np.median(middle[:, -1] - middle[:, 0], axis=0) / (middle.shape[1] - 1)
    down = np.median(middle[-1] - middle[0], axis=0) / (middle.shape[0] - 1)
    return np.column_stack([across, down])


def _displaced(prepared: _Prepared, displacement_px: Floats, direction: tuple[float, float]) -> Registration:
    """The registration with every cell taken from where its thing lies."""
    size_px = prepared.base.size_px
    large = cv2.resize(displacement_px, size_px, interpolation=cv2.INTER_LINEAR)
    step = prepared.jacobian @ direction
    x, y = (
        cast(Floats, cv2.addWeighted(plane, 1.0, large, float(share), 0.0)) if abs(share) > 1e-4 else plane
        for plane, share in zip(prepared.maps, step, strict=True)
    )
    warp = copy.copy(prepared.base.thermal)
    warp.maps = x, y
    result = copy.copy(prepared.base)
    result.thermal = warp
    return result
