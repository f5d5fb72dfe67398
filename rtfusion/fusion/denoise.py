"""Denoising before fusing: blocks smoothed, stripes taken out, still places averaged over time, where a stream needs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

import cv2
import numpy as np
import numpy.typing as npt

from rtfusion.clock import NS_PER_S
from rtfusion.fusion import stripes
from rtfusion.fusion.blocks import Deblocker
from rtfusion.fusion.buffers import Pool
from rtfusion.fusion.color import luminance
from rtfusion.fusion.grain import GrainMeter
from rtfusion.fusion.passes import (
    FINE_BITS,
    OPENCV,
    Passes,
    Plane,
    SteppedImage,
    fine,
    fine_kind,
    in_pixels,
)
from rtfusion.fusion.recursion import RecursiveMean
from rtfusion.fusion.tone import HIGH_PERCENT, LEAST_SPAN_COUNTS, LOW_PERCENT
from rtfusion.fusion.trust import worth_of
from rtfusion.kernels.memory import open_passes
from rtfusion.smoothing import ExponentialAverage, SmoothingWeight, turn_at
from rtfusion.types import Band, Frame, FramePair, Image, Image8

LONGEST_GAP_S = 1.0
"""After a pause as long as this the scene may be another one."""
LEAST_SIDE_PX = stripes.LEAST_SIDE_PX
"""Smaller pictures are left as they are."""
FIRST_LOOKS, LOOKS_PER_BEAT = 16, 7
"""The first frames are all measured, then one in 1.4 s, which is in step with no codec: its key frames are the noisy ones."""
REFRESHES_PER_BEAT, REFRESHED_ROWS = 80, 20
"""What is held still is let go in every 20th row at a time, all in 2.5 s: nobody sees that, and nothing is held for ever."""
STRIPES_TIME_CONSTANT_S = 2.0
SPAN_STEP = 8
"""The span of counts is taken from every eighth row and column."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Switch:
    """Thresholds of a noise, in gray levels: it is fought from ``on`` on, until it is below ``off``."""

    on: float
    off: float

    def __call__(self, levels: float, *, is_on: bool) -> bool:
        """Tell whether it is to be fought now."""
        return levels >= (self.off if is_on else self.on)


GRAIN = Switch(on=0.05, off=0.02)
"""What stands still in a clean stream is the same in every frame; a codec makes 0.1 at least."""
STRIPES = Switch(on=0.9, off=0.6)
"""Clean thermal pictures of all sets measure below 0.75, stripes of 1 gray level just that."""


class _Passed(NamedTuple):
    """A frame as it came and as it went."""

    came: Frame
    went: Frame


def _is_same(frame: Frame, other: Frame) -> bool:
    """Tell whether a frame is one that came before: a thermal frame may serve several visible ones."""
    if frame.timestamp_ns != other.timestamp_ns:
        return False
    return frame.image is other.image or np.array_equal(frame.image, other.image)


class BandDenoiser:
    """Denoises the frames of one band, in their order.

    As long as the stream has no noise that could be measured, a frame comes out as it went in. Memory starts anew after a cut, a
    gap, a shutter and a change of size. The same frame again gives the same again, and so does a closed shutter.

    Args:
        passes: what is done to pixels.
    """

    def __init__(self, band: Band, *, passes: Passes = OPENCV) -> None:
        self._band = band
        self._passes = passes
        self._pool = Pool()
        self._fine: Plane | None = None
        self._last: _Passed | None = None
        self._begin()

    @property
    def works(self) -> tuple[str, ...]:
        """What is done now: ``grain`` (averaging over time), ``columns``, ``rows``; empty while there is nothing to do."""
        found = {"grain": self._is_grainy, "columns": self._columns.is_on, "rows": self._rows.is_on}
        return tuple(name for name, is_on in found.items() if is_on)

    @property
    def averages(self) -> bool:
        """True while still places are averaged over time."""
        return self._is_grainy

    @property
    def noise_levels(self) -> float:
        """Standard deviation of the temporal noise in gray levels; of counts, in 255ths of the span of the scene."""
        return self._grain.pixel / self._level

    def __call__(self, frame: Frame, *, left: float = 0.0) -> Frame:
        """The frame without what of its noise could be told from the scene: itself, or one with an image of its own.

        ``left`` is the share of the noise that stays, 0 to 1.
        """
        if min(frame.image.shape[:2]) < LEAST_SIDE_PX:
            return frame
        last = self._last
        if last is None or last.came.image.shape != frame.image.shape or last.came.image.dtype != frame.image.dtype:
            return self._next(frame, dt_ns=None, left=left)
        if frame.shutter or _is_same(frame, last.came):
            self._was_shut = frame.shutter
            return (
                last.went
                if frame is last.came
                else replace(frame, image=last.went.image, noise_levels=last.went.noise_levels)
            )
        dt_ns = frame.timestamp_ns - last.came.timestamp_ns
        goes_on = not self._was_shut and 0 < dt_ns <= LONGEST_GAP_S * NS_PER_S
        return self._next(frame, dt_ns=dt_ns if goes_on else None, left=left)

    def _next(self, frame: Frame, *, dt_ns: int | None, left: float) -> Frame:
        """Denoise a frame that came this long after the last one; None begins anew."""
        if dt_ns is None:
            self._begin()
        image = self._denoised(frame, dt_ns=dt_ns or 0)
        if left > 0.0 and image is not frame.image:
            image = cast(Image, cv2.addWeighted(image, 1.0 - left, frame.image, left, 0.0))
        self._last = _Passed(
            frame, frame if image is frame.image else replace(frame, image=image, noise_levels=self.noise_levels)
        )
        return self._last.went

    def _begin(self) -> None:
        self._grain = GrainMeter()
        self._is_grainy = False
        self._columns, self._rows = (_Lines(columns=columns) for columns in (True, False))
        self._mean: RecursiveMean | None = None
        self._span = ExponentialAverage(time_constant_s=STRIPES_TIME_CONSTANT_S)
        self._level = 1.0
        """The size of a gray level in the unit of the pixels: 1, or for counts a 255th of the span of the scene."""
        self._looks, self._turn = 0, 0
        self._refresh = _Refresh()
        self._was_shut = False

    def _denoised(self, frame: Frame, *, dt_ns: int) -> Image:
        self._look(frame)
        if not self.works:
            self._mean = None
            return frame.image
        plane = cast(Image, luminance(cast(Image8, frame.image), take=self._pool.take))
        came = self._without_stripes(plane)
        clean = self._pool.take(plane.shape) if plane.dtype == np.uint8 else np.empty_like(plane)
        if not (self._is_grainy or self._rows.is_on):
            return self._composed(
                frame.image, plane=plane, clean=in_pixels(cast(Plane, came), bits=FINE_BITS, out=clean)
            )
        if self._mean is None:
            shape = plane.shape[0], plane.shape[1]
            self._mean = RecursiveMean(self._passes.mean(shape=shape, dtype=plane.dtype))
        self._mean.follow(
            came,
            dt_ns=dt_ns,
            pixel_noise=self._grain.pixel,
            cell_noise=self._grain.cell,
            level=self._level,
            out=clean,
            let_go=self._refresh.rows(frame.timestamp_ns),
        )
        if self._mean.is_cut:
            self._begin()
            return self._denoised(frame, dt_ns=0)
        return self._composed(frame.image, plane=plane, clean=clean)

    def _without_stripes(self, plane: Image) -> SteppedImage:
        """The plane without its stripes, fine, in an array that the next frame uses again; or itself where it has none."""
        if not (self._columns.is_on or self._rows.is_on):
            return plane
        kind = fine_kind(plane.dtype)
        if self._fine is None or self._fine.shape != plane.shape or self._fine.dtype != kind:
            self._fine = np.empty(plane.shape, kind)
        fine(plane, out=self._fine)
        self._columns.take_out(self._fine)
        self._rows.take_out(self._fine)
        # averages have the room of the pixels' range, and no more
        return np.clip(self._fine, 0, np.iinfo(plane.dtype).max << FINE_BITS, out=self._fine)

    def _composed(self, image: Image, *, plane: Image, clean: Image) -> Image:
        """The image with a clean plane: colors keep their chroma."""
        if image.ndim == 2:
            return clean
        came, was, now = (cast(Image8, part) for part in (image, plane, clean))
        return self._passes.compose(visible=came, visible_y=was, fused_y=now, take=self._pool.take)

    def _look(self, frame: Frame) -> None:
        """Measure the noise, on the frames where that is due."""
        image, timestamp_ns = frame.image, frame.timestamp_ns
        self._looks += 1
        turn = turn_at(timestamp_ns, per_beat=LOOKS_PER_BEAT)
        is_due = self._looks <= FIRST_LOOKS or turn != self._turn
        self._turn = turn
        if is_due and image.dtype == np.uint16:
            low, high = np.percentile(image[::SPAN_STEP, ::SPAN_STEP], (LOW_PERCENT, HIGH_PERCENT))
            span = self._span.follow(float(high - low), timestamp_ns=timestamp_ns)
            self._level = max(span, LEAST_SPAN_COUNTS) / 255.0
        # the n-th of the first looks, then by the turn in its beat, has strips of its own
        strips = self._looks if self._looks <= FIRST_LOOKS else turn % LOOKS_PER_BEAT
        self._grain.look(image, is_due=is_due, timestamp_ns=timestamp_ns, strips=strips)
        self._is_grainy = GRAIN(self._grain.change / self._level, is_on=self._is_grainy)
        if self._band is Band.THERMAL:
            for lines in (self._columns, self._rows):
                if is_due or (lines is self._rows and lines.is_on):
                    lines.look(image, timestamp_ns=timestamp_ns, level=self._level)


class _Lines:
    """The stripes of one direction: columns, which stay, or rows, which change with each frame."""

    def __init__(self, *, columns: bool) -> None:
        self.is_on = False
        self._columns = columns
        self._weight = SmoothingWeight(time_constant_s=STRIPES_TIME_CONSTANT_S if columns else 0.0)
        self._spread = ExponentialAverage(time_constant_s=STRIPES_TIME_CONSTANT_S)
        self._profile: stripes.Profile | None = None
        self._offsets: npt.NDArray[np.int32] | None = None

    def look(self, plane: Image, *, timestamp_ns: int, level: float) -> None:
        profile = stripes.profile(plane, columns=self._columns)
        weight = np.float32(self._weight.advance(timestamp_ns))
        if self._profile is not None:
            profile = self._profile + weight * (profile - self._profile)
        self._profile = profile
        spread = self._spread.follow(stripes.spread(profile), timestamp_ns=timestamp_ns)
        self.is_on = STRIPES(spread / level, is_on=self.is_on)
        self._offsets = None
        if self.is_on:
            offsets = stripes.offsets(profile, spread=spread)
            self._offsets = np.rint(offsets * (1 << FINE_BITS)).astype(np.int32)

    def take_out(self, fine: Plane) -> None:
        """Subtract the offsets from every line of a plane in steps of 1 / 2**FINE_BITS, in place."""
        if self._offsets is not None:
            offsets: npt.NDArray[Any] = self._offsets.astype(fine.dtype)
            np.subtract(fine, offsets if self._columns else offsets[:, None], out=fine)


class _Refresh:
    """Says which rows of what is held still are let go now, by the stamps of the frames."""

    def __init__(self) -> None:
        self._turn: int | None = None

    def rows(self, timestamp_ns: int) -> tuple[slice, ...]:
        """Every 20th row for each turn since the last call, others in each; none within a turn."""
        turn = turn_at(timestamp_ns, per_beat=REFRESHES_PER_BEAT)
        last, self._turn = self._turn, turn
        first = turn if last is None else max(last, turn - REFRESHED_ROWS) + 1
        return tuple(slice(one % REFRESHED_ROWS, None, REFRESHED_ROWS) for one in range(first, turn + 1))


class Denoiser:
    """Denoises the pairs of a run, each band by itself.

    It smooths the blocks of their compression, too, and keeps the fused picture still where only single gray levels change.

    Args:
        visible: False where the visible frames are unrelated images, of which only the blocks can be seen.
        thermal: the same of the thermal frames.
        note: takes a sentence for the person who reads the table.
        kernels: work on pixels by compiled loops, where they are here: the pictures are the same.
    """

    def __init__(self, *, visible: bool, thermal: bool, note: Callable[[str], None], kernels: bool = True) -> None:
        self._passes = open_passes(kernels=kernels)
        streams = {Band.VISIBLE: visible, Band.THERMAL: thermal}
        self._blocks = {
            band: Deblocker(still=not is_stream, passes=self._passes) for band, is_stream in streams.items()
        }
        self._bands = {
            band: BandDenoiser(band, passes=self._passes) for band, is_stream in streams.items() if is_stream
        }
        self._note = note
        self._noted: set[tuple[Band, tuple[str, ...]]] = set()
        self._shown: Image8 | None = None
        self._refresh = _Refresh()
        self._pool = Pool()

    def __call__(self, pair: FramePair, *, left: float = 0.0) -> FramePair:
        """The pair to fuse in the place of one that came: itself where there is nothing to do.

        ``left`` is the share of the noise that stays, 0 to 1.
        """
        visible = self._frame(pair.visible, beside=pair.thermal, left=left)
        thermal = self._frame(pair.thermal, beside=pair.visible, left=left)
        if visible is pair.visible and thermal is pair.thermal:
            return pair
        return replace(pair, visible=visible, thermal=thermal)

    @property
    def state(self) -> Mapping[str, float | str]:
        """What a header says of the thermal band: its noise in gray levels, and what is done; empty where nothing is."""
        thermal = self._bands.get(Band.THERMAL)
        if thermal is None or not (works := thermal.works):
            return {}
        return {"noise_levels": round(thermal.noise_levels, 2), "denoised": " ".join(works)}

    def settled(self, image: Image8, *, timestamp_ns: int) -> Image8:
        """The fused (H, W, 3) picture, in place: while there is noise, the last one stays where it differs by 1 at most.

        It is kept until the next one, and must not change meanwhile. Some rows at a time are shown as they are.
        """
        if not any(denoiser.averages for denoiser in self._bands.values()):
            self._shown = None
            return image
        flat = image.reshape(len(image), -1)
        let_go = self._refresh.rows(timestamp_ns)
        if self._shown is not None and self._shown.shape == flat.shape:
            as_they_are = [flat[rows].copy() for rows in let_go]  # the last picture belongs to whoever got it
            self._passes.hold(flat, shown=self._shown, take=self._pool.take)
            for rows, pixels in zip(let_go, as_they_are, strict=True):
                flat[rows] = pixels
        self._shown = flat
        return image

    def _frame(self, frame: Frame, *, beside: Frame, left: float) -> Frame:
        smooth = self._blocks[frame.band](frame)
        # no fuser raises the blocks of a band that is shown alone: it stays as it is
        if smooth is not frame and not _is_blank(beside):
            frame = smooth
            self._note(f"{frame.band.value}: blocks of strong compression are smoothed (--denoise off leaves them)")
        denoiser = self._bands.get(frame.band)
        if denoiser is None:
            return frame
        denoised = denoiser(frame, left=left)
        key = frame.band, (works := denoiser.works)
        if works and key not in self._noted:
            self._noted.add(key)
            self._note(_sentence(denoiser, frame.band))
        return denoised


def _is_blank(frame: Frame) -> bool:
    return frame.image.dtype == np.uint8 and worth_of(cast(Image8, frame.image)) == 0.0


def _sentence(denoiser: BandDenoiser, band: Band) -> str:
    noise = f"noise of {denoiser.noise_levels:.1f} gray levels" if denoiser.noise_levels >= 0.3 else "faint noise"
    done = {
        "grain": "still places are averaged over time",
        "columns": "columns are evened out",
        "rows": "rows are evened out",
    }
    return f"{band.value}: {noise}; {', '.join(done[work] for work in denoiser.works)} (--denoise off leaves it)"
