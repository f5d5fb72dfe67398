"""Online refinement: follow a knocked camera, a change of focus or another distance, slowly and within bounds.

A measurement takes several frames, one bounded slice of work on each: patches of one registered picture are looked for in the
other, and those that agree on one small similarity make the measurement. A single one is never used. When several in a row
agree that the registration is off, the correction moves there, too slowly to be seen as a jump. Having arrived it measures at
twice the resolution, where the edges of both bands differ by less, and goes the rest of the way. Where the scene cannot tell,
everything stays as it is.
"""

from __future__ import annotations

import cmath
import math
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import cv2
import numpy as np

from rtfusion.clock import NS_PER_S
from rtfusion.registration.calibration import Matrix
from rtfusion.registration.maps import Registration
from rtfusion.registration.structure import Match, equalized, match_patch, patch_centers, shrunk, size_px, structure_map
from rtfusion.types import Image8

STRIDE = 2
"""The structure maps are smooth: every second row and column of them is enough to match by, and a quarter of the work."""
RADIUS_PX = 4
"""Of maps seen by `STRIDE`, as are the sizes of patches."""


class _Resolution(NamedTuple):
    """How closely pictures are compared."""

    side_px: int
    """Their longer side."""
    patch_px: int
    step_px: int
    patches_per_frame: int
    agreed_px: float
    """Patches nearer to the measured similarity than this agree with it, in pixels of these pictures."""
    needed: int
    """Measurements that must agree before anything moves."""


COARSE = _Resolution(side_px=320, patch_px=18, step_px=17, patches_per_frame=16, agreed_px=1.5, needed=3)
FINE = _Resolution(side_px=640, patch_px=24, step_px=20, patches_per_frame=36, agreed_px=2.0, needed=2)
"""For the rest of the way: a street that the coarse one puts .4 to .8 px off it puts .2 px off (docs/experiments.md)."""
LEAST_PATCHES, LEAST_AGREED, LEAST_SHARE = 12, 10, 0.4
PAUSE_S = 0.5
"""Pause between two measurements while all is well."""
CONSISTENT_PX, BEGIN_PX, REST_PX = 1.5, 1.5, 0.05
"""Largest difference of the measurements, error at which the correction begins to move, and error at which it rests: means over
the picture, in grid pixels."""
CLOSE_PX = 4.0
"""Error up to which the fine look decides whether anything moves; it sees twice as far."""
NEAR_PX, SETTLED_PX = 0.3, 0.15
"""How near it has come when it looks again, and the error from which on it then goes the rest of the way."""
LARGEST_SHIFT, LARGEST_TURN_DEG, LARGEST_SCALE = 0.05, 3.0, 0.05
"""Bounds of the correction; the shift is a share of the width of the grid."""
SPEED_PX, SPEED = 8.0, 0.0125
"""Fastest motion per second, in grid pixels and in widths of the grid, whichever is more: a quarter of a pixel per frame."""
EASE_S = 0.15
SMALLEST_STEP_PX = 0.15
SEEN_PX = 1.0
"""While it moves: how far the picture may go before its valid area is made anew."""
_MAX_STEP_S = 0.1


@dataclass(frozen=True, slots=True)
class _Similarity:
    """Maps points of the grid, as complex numbers z from its middle: z -> turning z + shift_px."""

    turning: complex = 1.0 + 0.0j
    shift_px: complex = 0.0 + 0.0j

    @property
    def turn_deg(self) -> float:
        return math.degrees(cmath.phase(self.turning))

    @property
    def scale(self) -> float:
        return abs(self.turning)

    def inverse(self) -> _Similarity:
        return _Similarity(1.0 / self.turning, -self.shift_px / self.turning)

    def after(self, first: _Similarity) -> _Similarity:
        return _Similarity(self.turning * first.turning, self.turning * first.shift_px + self.shift_px)

    def towards(self, other: _Similarity, share: float) -> _Similarity:
        return _Similarity(
            self.turning + share * (other.turning - self.turning),
            self.shift_px + share * (other.shift_px - self.shift_px),
        )

    def matrix(self, size_px: tuple[int, int]) -> Matrix:
        middle = complex((size_px[0] - 1) / 2, (size_px[1] - 1) / 2)
        turning, shift = self.turning, middle - self.turning * middle + self.shift_px
        return np.array(
            [[turning.real, -turning.imag, shift.real], [turning.imag, turning.real, shift.imag], [0.0, 0.0, 1.0]]
        )


class Refiner:
    """Corrects a registration while it is in use.

    For every frame ask for `registration`, then show the registered pictures to `observe`. ``grid`` is the band whose pixels the
    pictures have; the other one is moved.
    """

    def __init__(self, *, grid: str) -> None:
        self._grid = grid
        self._base: Registration | None = None
        self._used: Registration | None = None
        self._size_px = (0, 0)
        self._reset()

    def _reset(self) -> None:
        self._correction = _Similarity()
        self._in_use = self._correction
        self._seen: tuple[_Similarity, Registration] | None = None
        self._target: _Similarity | None = None
        self._look(COARSE, BEGIN_PX)
        self._recent: deque[_Similarity] = deque(maxlen=COARSE.needed)
        self._work: Generator[None, None, _Similarity | None] | None = None
        self._next_ns = 0
        self._moved_ns: int | None = None
        self._reason = ""
        self._is_bounded = False
        self._off_px: float | None = None
        self._measured = self._trusted = 0

    @property
    def state(self) -> dict[str, Any]:
        """Its activity, and the motion of the picture that is not on its own grid, as JSON-able values.

        ``state`` is ``watching``, ``moving``, ``frozen`` (the scene cannot tell; ``reason`` says why) or ``bounded`` (the
        registration is farther off than may be corrected: calibrate again). ``off_px`` is how far the latest three measurements
        together say that it is off; what is less than `BEGIN_PX` is left alone.
        """
        moved = self._correction.inverse()
        calm = "bounded" if self._is_bounded else "watching" if self._target is None else "moving"
        return {
            "state": "frozen" if self._reason else calm,
            "reason": self._reason,
            "shift_px": [round(moved.shift_px.real, 3), round(moved.shift_px.imag, 3)],
            "turn_deg": round(moved.turn_deg, 4),
            "scale": round(moved.scale, 5),
            "off_px": None if self._off_px is None else round(self._off_px, 3),
            "measured": self._measured,
            "trusted": self._trusted,
        }

    @property
    def off_px(self) -> float | None:
        """By how much what is in use is known to be off, in grid pixels: while it moves, and where it may not move farther.

        0 where nothing tells that it is off by more than `BEGIN_PX`; None as long as the scene did not tell.
        """
        if self._reason or self._trusted < COARSE.needed:
            return None
        left_px = 0.0 if self._target is None else self._apart(self._target, self._correction)
        return max(left_px, self._off_px or 0.0) if self._is_bounded else left_px

    def registration(self, base: Registration, *, timestamp_ns: int) -> Registration:
        """Give the registration for the frame of this moment: ``base``, corrected. Another ``base`` starts afresh."""
        if base is not self._base or self._used is None:
            self._base = self._used = base
            self._size_px = base.size_px
            self._reset()
        self._move(timestamp_ns)
        left_px = self._apart(self._correction, self._in_use)
        if left_px > (0.0 if self._target is None else SMALLEST_STEP_PX):
            self._used = self._corrected(base)
        return self._used

    def observe(self, *, visible: Image8, thermal: Image8, timestamp_ns: int) -> None:
        """Do the slice of work of this frame; the pictures are the registered ones, both on the grid."""
        if self._work is None:
            if timestamp_ns < self._next_ns or self._used is None or self._target is not None:
                return
            still, moved = (visible, thermal) if self._grid == "visible" else (thermal, visible)
            self._work = self._measure(still, moved, self._used.valid, self._in_use, self._how)
        try:
            next(self._work)
        except StopIteration as done:
            self._work = None
            self._conclude(done.value, timestamp_ns)

    def _look(self, how: _Resolution, least_px: float) -> None:
        """Measure so from now on; what is off by less is left alone."""
        self._how, self._least_px = how, least_px

    # -- measuring --------------------------------------------------------------------------------------------------

    def _measure(
        self, still: Image8, moved: Image8, valid: Image8 | None, in_use: _Similarity, how: _Resolution
    ) -> Generator[None, None, _Similarity | None]:
        """The correction that these two pictures ask for, or None with a reason; one slice of work per step."""
        small_still, small_moved = (equalized(shrunk(image, how.side_px)) for image in (still, moved))
        if valid is not None:
            valid = cast(Image8, cv2.resize(valid, size_px(small_still), interpolation=cv2.INTER_NEAREST))
            valid = valid[::STRIDE, ::STRIDE]
        reference = np.ascontiguousarray(structure_map(small_still)[::STRIDE, ::STRIDE])
        yield
        other = np.ascontiguousarray(structure_map(small_moved)[::STRIDE, ::STRIDE])
        yield
        sizes = {"patch_px": how.patch_px, "radius_px": RADIUS_PX}
        centers = patch_centers(size_px(reference), step_px=how.step_px, valid=valid, **sizes)
        matches: list[Match] = []
        for index, center_px in enumerate(centers):
            match = match_patch(center_px, reference=reference, moved=other, **sizes)
            matches += [match] if match is not None else []
            if index % how.patches_per_frame == how.patches_per_frame - 1:
                yield
        found = _agree(matches, size_px(small_still), agreed_px=how.agreed_px)
        if isinstance(found, str):
            self._reason = found
            return None
        self._reason = ""
        full_from_small = still.shape[1] / small_still.shape[1]
        return in_use.after(_Similarity(found.turning, found.shift_px * full_from_small))

    def _conclude(self, asked: _Similarity | None, now_ns: int) -> None:
        """Decide on what was measured: several that agree set a target, anything else leaves all as it is."""
        self._measured += 1
        if asked is None:
            self._recent.clear()
            self._target = None
            self._look(COARSE, BEGIN_PX)
            self._next_ns = now_ns + round(PAUSE_S * NS_PER_S)
            return
        self._trusted += 1
        self._recent.append(asked)
        middle = _median(self._recent)
        agreed = (
            len(self._recent) >= self._how.needed
            and max(self._apart(one, middle) for one in self._recent) < CONSISTENT_PX
        )
        off_px = self._apart(middle, self._correction)
        self._off_px = off_px if agreed else None
        if agreed:
            self._decide(middle, off_px)
        is_calm = self._how is COARSE and self._apart(asked, self._correction) < BEGIN_PX
        self._next_ns = now_ns + round(PAUSE_S * NS_PER_S) if is_calm or self._is_bounded else now_ns

    def _decide(self, asked: _Similarity, off_px: float) -> None:
        """Set a target or not, and say how to look from here on, now that some measurements agree."""
        if off_px <= self._least_px:
            self._look(COARSE, BEGIN_PX)
            return
        is_coarse = self._how is COARSE
        if not is_coarse or off_px > CLOSE_PX:
            self._target = self._bounded(asked)
        if is_coarse:
            self._look(FINE, BEGIN_PX if self._target is None else SETTLED_PX)
        else:
            self._look(COARSE, BEGIN_PX)
        self._recent.clear()

    def _apart(self, first: _Similarity, second: _Similarity) -> float:
        """Mean distance, in grid pixels, between where two corrections put the points halfway to the corners."""
        width, height = self._size_px
        halfway, turning = complex(width / 4, height / 4), first.turning - second.turning
        points = halfway, halfway.conjugate()
        return sum(abs(turning * point + first.shift_px - second.shift_px) for point in points) / 2

    # -- moving -----------------------------------------------------------------------------------------------------

    def _move(self, now_ns: int) -> None:
        """One step of the correction towards its target, as fast as may be and slower as it arrives."""
        moved_ns, self._moved_ns = self._moved_ns, now_ns
        if self._target is None or moved_ns is None:
            return
        step_s = min(max((now_ns - moved_ns) / NS_PER_S, 0.0), _MAX_STEP_S)
        left_px = self._apart(self._target, self._correction)
        if left_px < (NEAR_PX if self._how is FINE else REST_PX):
            self._target = None
            return
        allowed_px = min(max(SPEED_PX, SPEED * self._size_px[0]) * step_s, left_px * (1.0 - math.exp(-step_s / EASE_S)))
        self._correction = self._correction.towards(self._target, allowed_px / left_px)

    def _corrected(self, base: Registration) -> Registration:
        self._in_use = self._correction
        seen = None
        if self._seen is not None and self._target is not None and self._apart(self._seen[0], self._in_use) < SEEN_PX:
            seen = self._seen[1]
        used = base.moved(self._correction.matrix(base.size_px), grid=self._grid, seen=seen)
        if seen is None:
            self._seen = self._in_use, used
        return used

    def _bounded(self, wanted: _Similarity) -> _Similarity:
        limit_px = LARGEST_SHIFT * self._size_px[0]
        turn = min(max(wanted.turn_deg, -LARGEST_TURN_DEG), LARGEST_TURN_DEG)
        scale = min(max(wanted.scale, 1.0 - LARGEST_SCALE), 1.0 + LARGEST_SCALE)
        shift_px = wanted.shift_px * min(1.0, limit_px / max(abs(wanted.shift_px), 1e-9))
        bounded = _Similarity(cmath.rect(scale, math.radians(turn)), shift_px)
        self._is_bounded = self._apart(bounded, wanted) > BEGIN_PX
        return bounded


def _agree(matches: list[Match], of_px: tuple[int, int], *, agreed_px: float) -> _Similarity | str:
    """The similarity that most patches agree on, from one picture to the other, about the middle; or why there is none.

    ``of_px`` is the size of the pictures, of whose maps the patches see every `STRIDE`-th pixel.
    """
    if len(matches) < LEAST_PATCHES:
        return f"too little structure that both bands show: {len(matches)} patches"
    middle = (np.array(of_px) - 1) / 2
    points = STRIDE * np.array([match.center_px for match in matches]) - middle
    offsets = STRIDE * np.array([match.offset_px for match in matches])
    z, d = points[:, 0] + 1j * points[:, 1], offsets[:, 0] + 1j * offsets[:, 1]
    # the mode of the offsets to begin with, then least squares with falling weights (Tukey)
    near = np.abs(d[:, None] - d) < 2.0 * agreed_px
    mode = near[int(near.sum(axis=1).argmax())]
    change, shift = 0j, complex(d[mode].mean())
    for _ in range(6):
        residuals = np.abs(change * z + shift - d)
        weights = np.square(np.clip(1.0 - np.square(residuals / (3.0 * agreed_px)), 0.0, None))
        total = float(weights.sum())
        if total < 4.0:
            break
        z_mean, d_mean = complex(weights @ z) / total, complex(weights @ d) / total
        change = complex(weights @ (np.conj(z - z_mean) * (d - d_mean))) / max(
            float(weights @ np.abs(z - z_mean) ** 2), 1.0
        )
        shift = d_mean - change * z_mean
    agreed = int((np.abs(change * z + shift - d) < agreed_px).sum())
    if agreed < LEAST_AGREED or agreed < LEAST_SHARE * len(matches):
        return f"the scene cannot tell: {agreed} of {len(matches)} patches agree"
    return _Similarity(1.0 + change, shift)


def _median(of: Sequence[_Similarity]) -> _Similarity:
    """Give the median in every parameter."""
    values = np.array([(one.turning, one.shift_px) for one in of])
    turning, shift = np.median(values.real, axis=0) + 1j * np.median(values.imag, axis=0)
    return _Similarity(complex(turning), complex(shift))
