"""Parallax: what is nearer or farther than the registration is set for lies elsewhere, and is brought to its place.

Two cameras side by side see a thing at another distance displaced along one line of the picture. By how much is asked of the
structure of both bands at low resolution, in every frame (`rtfusion.registration.likeness`). What is in use is remembered, and
moves with the visible picture: what is seen for the first time is where it was found, and all else changes by a bounded step a
frame. Where neither band tells, what the registration says stays.
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
from rtfusion.kernels.parallax import open_search
from rtfusion.registration.calibration import Calibration, Matrix, scale_px
from rtfusion.registration.doubt import Doubt, of_displacement
from rtfusion.registration.likeness import STRIDE, Floats, Found, Guide, OpenCvSearch, Search, Tried, tried_between
from rtfusion.registration.maps import Registration, Warp, register
from rtfusion.registration.structure import equalized
from rtfusion.types import Displacement, Image, Image8

SIDE_PX = 320
"""Longer side of the pictures that are compared; cells are two of their pixels wide."""
NEAREST_M = 1.5
"""Of a rig with a pose: nothing is looked for that is nearer."""
FAR_M = 1e9
LEAST_PARALLAX_PX = 0.5
RANGE = 0.03
"""Of a rig without one: share of the width by which a thing may be displaced to either side."""
STEP_PX = 1.5
"""From one displacement that is tried to the next, at `SIDE_PX`: one layer, of which dense finds what is between."""
MOST_STEPS = 24
SURE = 0.06
"""How much more alike than in the mean over all displacements both bands are where a place is sure of its own."""
DOUBT, FAR, FAR_DOUBT = 0.02, 2, 0.2
"""Against the weight of a place that is sure: of what is around it farther off, in a picture so many times smaller, and there of
what the registration says."""
MOST_CHANGE_PX = 0.3
"""Of one frame, in pixels of the grid, of what has been seen before."""
BESIDE = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
"""Cells between which an edge may have passed from one frame to the next."""
GAIN = 0.2
"""Share of the way to what was measured that is gone at once, where the bound allows."""
PASSED_PX = 1.5
"""Of the grid, between a cell and one beside it: from this on an edge has passed, and what is beside it counts, not its own."""
YOUNG = 12
"""Frames for which something has to stand until it is remembered behind what hides it."""
FINEST, PATCH_STRIDE = 0, 5
"""Of the optical flow: it is as fine as the cells, of patches so far apart."""
STILL = 0.15
"""Cells a frame below which nothing moves."""
OTHER_LEVELS = 20.0
"""Gray levels around a cell and where it came from, from which on it is another thing that was hidden."""
SAME_LEVELS, CHANGED_LEVELS = 6.0, 4.0
"""Gray levels around a cell: up to the first it shows again what stood there, from the second on something else than before."""
NOTHING_LEVELS = -255.0
FORGET_NS = 500 * NS_PER_MS
"""After a gap of more than this between two frames everything starts anew."""
ASKED_EVERY = 3
"""Frames from one to the next measurement along the axes."""
AXES = ((1.0, 0.0), (0.0, 1.0))
"""Directions in which the cameras of a rig without a pose may lie from one another."""
TRIALS = 6
"""Measurements along each axis until a rig without a pose is known to lie along one."""
LEAST_GAIN, CLEARER = 0.0075, 2.0
"""How much more alike both bands have to become along that axis, and how many times more than along the other.

In cameras of one view chance alone gives up to 0.006, along either."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Lines:
    """Where a thing of another distance lies in the picture that is registered."""

    direction: tuple[float, float]
    """Unit vector on the grid: what is nearer lies there by its displacement."""
    least_px: float
    most_px: float
    """Displacements of the farthest and of the nearest thing, in pixels of the grid; 0 is as registered."""


def open_parallax(
    kind: str, *, calibration: Calibration | None, base: Registration, still: bool, kernels: bool = True
) -> Parallax:
    """The correction of a kind, ``layers`` or ``dense``, for a registration onto the visible grid.

    ``kernels`` takes the compiled loops where they are here.

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
    return Parallax(dense=kind == "dense", lines=lines, still=still, kernels=kernels)


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
    """What was found last."""
    age: Floats
    """Frames for which its thing has been seen."""
    stands: npt.NDArray[np.bool_]
    """It shows what it showed in the frame before, without having moved, or what stood there before it was hidden."""
    behind_px: Floats
    """The displacement of what stood there last, without moving, for `YOUNG` frames."""
    behind_levels: Floats
    """Its gray levels; beyond all where nothing has stood."""
    gray: Image8
    timestamp_ns: int


class _Came(NamedTuple):
    """Where each cell was in the picture before, (rows, columns) each."""

    x: Floats
    y: Floats
    still: npt.NDArray[np.bool_]
    """That is its own place."""
    unlike: Floats
    """Gray levels around it between now and what was there."""
    changed: Floats
    """Gray levels around it between now and what was at its own place."""


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


class _Pictures(NamedTuple):
    """What is compared, on the grid at `SIDE_PX`; see `Search`."""

    visible: Image8
    thermal: Image8
    gray: Image8


class Parallax:
    """Corrects a registration onto the visible grid for what is nearer or farther. For every frame ask for `registration`.

    Args:
        dense: any displacement; else one of a small set of layers.
        lines: those of the rig; None looks for them along the rows and the columns of the picture.
        still: the pictures are unrelated, and nothing is remembered of one for the next.
        kernels: by compiled loops, where they are here: a quarter of the time.
    """

    def __init__(self, *, dense: bool, lines: Lines | None = None, still: bool = False, kernels: bool = True) -> None:
        self._dense, self._kernels = dense, kernels
        self._search: tuple[_Prepared, Lines, Tried, Search] | None = None
        self._lines = lines
        self._still = still
        self._memory: _Memory | None = None
        self._prepared: _Prepared | None = None
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._flow.setFinestScale(FINEST)
        self._flow.setPatchStride(PATCH_STRIDE)
        self._places: tuple[Floats, Floats] | None = None
        """Columns and rows of the cells."""
        self._waited = ASKED_EVERY
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
        if told:
            memory = self._measured_anew(memory, small, self._prepared, thermal)
        self._memory = memory
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
            self._starts = True
            levels = np.full_like(nothing, NOTHING_LEVELS)
            return _Memory(nothing, nothing, nothing, nothing > 0, nothing, levels, gray, timestamp_ns)
        if self._lines is None:  # nothing is displaced yet that could move with the picture
            return before._replace(gray=gray, timestamp_ns=timestamp_ns)
        came = self._came_from(gray, before.gray)
        now_px = cast(Floats, cv2.remap(before.now_px, came.x, came.y, cv2.INTER_LINEAR, None, cv2.BORDER_REPLICATE))
        age = cast(Floats, cv2.remap(before.age, came.x, came.y, cv2.INTER_NEAREST, None, cv2.BORDER_CONSTANT, -1))
        # what was hidden or out of the picture is seen for the first time
        age = (age + np.float32(1)) * (came.unlike <= OTHER_LEVELS)
        memory = before._replace(now_px=now_px, goal_px=now_px, age=age, gray=gray, timestamp_ns=timestamp_ns)
        return _seen_again(memory, changed=came.changed > CHANGED_LEVELS, still=came.still)

    def _came_from(self, gray: Image8, before: Image8) -> _Came:
        """Where each cell was in the picture before.

        Beside what moves, the flow moves what stands, too: where a cell is more like itself, it stays.
        """
        if self._places is None or self._places[0].shape != gray.shape:
            column, row = np.meshgrid(*(np.arange(side, dtype=np.float32) for side in gray.shape[::-1]))
            self._places = column, row
        column, row = self._places
        back = self._flow.calc(gray, before, np.zeros((*gray.shape, 2), np.float32))
        across, down = (cast(Floats, plane) for plane in cv2.split(back))
        there = cv2.remap(before, column + across, row + down, cv2.INTER_LINEAR, None, cv2.BORDER_REPLICATE)
        elsewhere, changed = _unlike(gray, there), _unlike(gray, before)
        moves = (np.maximum(np.abs(across), np.abs(down)) >= STILL) & (elsewhere < changed)
        return _Came(
            x=column + across * moves,
            y=row + down * moves,
            still=~moves,
            unlike=np.where(moves, elsewhere, changed),
            changed=changed,
        )

    def _measured_anew(self, memory: _Memory, small: Image8, prepared: _Prepared, thermal: Image) -> _Memory:
        """What is in use after a measurement, which in the first of all is in use at once."""
        if self._lines is None:
            self._waited += 1
            if self._waited < ASKED_EVERY:
                return memory
            self._waited = 0
        starts, self._starts = self._starts, False
        is_asked = self._lines is None
        pictures = _Pictures(
            visible=equalized(small),
            thermal=equalized(prepared.small(prepared.base.thermal.reduced(thermal))),
            gray=memory.gray,
        )
        lines = self._lines or self._ask(pictures, prepared)
        if lines is None:
            return memory
        if is_asked:  # what is known of the rig from here on comes into use as it does of what has been seen
            memory = memory._replace(age=np.ones_like(memory.age))
        found = self._found(pictures, prepared, lines)
        self._measured += 1
        self._sure = float((found.lead > 0.5 * SURE).mean())
        return memory._replace(now_px=found.px if starts else _followed(memory, found.px), goal_px=found.px)

    # -- measuring --------------------------------------------------------------------------------------------------

    def _ask(self, pictures: _Pictures, prepared: _Prepared) -> Lines | None:
        """Try each axis for some measurements; the lines of the one along which both bands are more alike, once it is known."""
        width_px = prepared.base.size_px[0]
        for axis, gains in self._told.items():
            tried = _tried(
                Lines(direction=axis, least_px=-RANGE * width_px, most_px=RANGE * width_px), pictures, prepared
            )
            search = OpenCvSearch(tried, seen=prepared.seen, dense=self._dense)
            likeness, known = search.likeness(**pictures._asdict())
            found = search.best(likeness, known)
            # of what chance prefers here and there nothing is left once it is smoothed
            found_px = _smoothed(found, _weight(found), pictures.gray, around_px=np.float32(0))
            nearest = np.clip(np.rint((found_px - tried.px[0]) / tried.layer_px), 0, len(tried.px) - 1).astype(np.int64)
            gain = np.take_along_axis(likeness, nearest[None], axis=0)[0] - likeness[len(tried.px) // 2]
            gains.append(float((gain * _choose_one_another(tried, likeness)).mean()))
        means = {axis: float(np.mean(gains)) for axis, gains in self._told.items()}
        best, other = sorted(means, key=lambda axis: -means[axis])
        if len(self._told[best]) >= TRIALS and means[best] > max(LEAST_GAIN, CLEARER * means[other]):
            self._lines = Lines(direction=best, least_px=-RANGE * width_px, most_px=RANGE * width_px)
        return self._lines

    def _found(self, pictures: _Pictures, prepared: _Prepared, lines: Lines) -> Found:
        """The displacement of every cell in pixels of the grid, smoothed, and how clear each was."""
        if self._search is None or self._search[0] is not prepared or self._search[1] is not lines:
            tried = _tried(lines, pictures, prepared)
            search = open_search(tried, seen=prepared.seen, dense=self._dense, kernels=self._kernels)
            self._search = prepared, lines, tried, search
        _, _, tried, search = self._search
        found = search(**pictures._asdict())
        weight = _weight(found)
        smooth_px = _smoothed(found, weight, pictures.gray, around_px=_around(found, weight, pictures.gray))
        return Found(np.clip(smooth_px, tried.px[1], tried.px[-2]), found.lead)


def _tried(lines: Lines, pictures: _Pictures, prepared: _Prepared) -> Tried:
    """What is tried along the lines of a rig."""
    scale = prepared.base.size_px[0] / pictures.visible.shape[1]
    layer_px = max(STEP_PX * scale, (lines.most_px - lines.least_px) / MOST_STEPS)
    return tried_between(lines.least_px, lines.most_px, direction=lines.direction, layer_px=layer_px, scale=scale)


def _weight(found: Found) -> Floats:
    return cast(Floats, np.square(np.square(found.lead / np.float32(SURE))))


def _smoothed(found: Found, weight: Floats, gray: Image8, *, around_px: Floats | np.float32) -> Floats:
    """What was found; where it is not sure, by what is near it on the same side of an edge, and then by what is around."""
    doubt, total = np.float32(DOUBT), weight + np.float32(DOUBT)
    return Guide(gray, total)((found.px * weight + doubt * around_px) / total)


def _around(found: Found, weight: Floats, gray: Image8) -> Floats:
    """What was found, smoothed over a larger part of the picture; where nothing is sure, what the registration says."""
    smaller = [
        cv2.resize(plane, None, fx=1 / FAR, fy=1 / FAR, interpolation=cv2.INTER_AREA)
        for plane in (gray, weight, weight * found.px)
    ]
    gray_there, weight_there, weighted_px = (cast(Any, plane) for plane in smaller)
    total = weight_there + np.float32(FAR_DOUBT)
    far_px = Guide(gray_there, total)(weighted_px / total)
    return cast(Floats, cv2.resize(far_px, gray.shape[::-1], interpolation=cv2.INTER_LINEAR))


def _unlike(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> Floats:
    """Gray levels between two pictures around each cell."""
    return cast(Floats, cv2.blur(cv2.absdiff(one, other).astype(np.float32), (3, 3)))


def _seen_again(memory: _Memory, *, changed: npt.NDArray[np.bool_], still: npt.NDArray[np.bool_]) -> _Memory:
    """What somebody hid who passed is at once where it was before; what has stood is kept for when it is hidden."""
    again = changed & (_unlike(memory.gray.astype(np.float32), memory.behind_levels) < SAME_LEVELS)
    now_px = np.where(again, memory.behind_px, memory.now_px)
    age = np.where(again, np.float32(YOUNG), memory.age)
    stays = still & ~changed
    stands = stays & (age >= YOUNG)
    return memory._replace(
        now_px=now_px,
        age=age,
        stands=stays | again,
        behind_px=np.where(stands, now_px, memory.behind_px),
        behind_levels=np.where(stands, memory.gray, memory.behind_levels).astype(np.float32),
    )


def _followed(memory: _Memory, found_px: Floats) -> Floats:
    """What is in use after a measurement: what is new as it was found, and all else by a bounded step from where it was.

    Where something moves, an edge may have passed: there that is what lies beside the cell that it came from.
    """
    beside_px = np.clip(found_px, cv2.erode(memory.now_px, BESIDE), cv2.dilate(memory.now_px, BESIDE))
    passed = (np.abs(beside_px - memory.now_px) > PASSED_PX) & ~memory.stands
    was_px = np.where(passed, beside_px, memory.now_px)
    step_px = np.clip(GAIN * (found_px - was_px), -MOST_CHANGE_PX, MOST_CHANGE_PX)
    return np.where(memory.age == 0, found_px, was_px + step_px).astype(np.float32)


def _choose_one_another(tried: Tried, likeness: Floats) -> npt.NDArray[np.bool_]:
    """(rows, columns): the thermal place that a cell is most like is most like this cell, too, or like its neighbor."""
    rows, columns = likeness.shape[1:]
    best = likeness.argmax(axis=0)
    from_there = np.empty_like(likeness)
    cells = tried.shifts_px / np.float32(STRIDE)
    for index, (x, y) in enumerate(cells):
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
    across, down = (cells[best, axis] for axis in range(2))
    chosen = from_there.argmax(axis=0).astype(np.float32)
    back = cv2.remap(chosen, column + across, row + down, cv2.INTER_NEAREST, None, cv2.BORDER_REPLICATE)
    return np.asarray(np.abs(back - best) <= 1)


# -- places -----------------------------------------------------------------------------------------------------------


def _shrunk(visible: Image8) -> Image8:
    """The gray picture at `SIDE_PX`, its sides multiples of twice `STRIDE`."""
    height, width = visible.shape[:2]
    factor = SIDE_PX / max(height, width)
    sides = tuple(max(STRIDE * 16, round(side * factor / (2 * STRIDE)) * 2 * STRIDE) for side in (width, height))
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


def _added(plane: Floats, cells: Floats, size_px: tuple[int, int]) -> Floats:
    """The plane and what cells of it say, in a new one."""
    large = cv2.resize(cells, size_px, interpolation=cv2.INTER_LINEAR)
    return cast(Floats, cv2.add(plane, large, dst=large))


def _displaced(prepared: _Prepared, displacement_px: Floats, direction: tuple[float, float]) -> Registration:
    """The registration with every cell taken from where its thing lies."""
    size_px = prepared.base.size_px
    step = prepared.jacobian @ direction
    x, y = (
        _added(plane, displacement_px * np.float32(share), size_px) if abs(share) > 1e-4 else plane
        for plane, share in zip(prepared.maps, step, strict=True)
    )
    warp = copy.copy(prepared.base.thermal)
    warp.maps = x, y
    result = copy.copy(prepared.base)
    result.thermal = warp
    return result
