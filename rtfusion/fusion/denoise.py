"""Denoising before fusing: stripes taken out, still places averaged over time, by the noise that each stream is seen to have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt

from rtfusion.clock import NS_PER_S
from rtfusion.fusion import recursion, stripes
from rtfusion.fusion.buffers import Pool
from rtfusion.fusion.color import compose, luminance
from rtfusion.fusion.grain import GrainMeter
from rtfusion.fusion.recursion import FINE_BITS, STATE_BITS, RecursiveMean
from rtfusion.fusion.tone import LEAST_SPAN_COUNTS, ExponentialAverage, SmoothingWeight
from rtfusion.types import Band, Frame, FramePair, Image, Image8

DENOISED = ("learned", "pyramid", "overlay")
"""The fusers whose inputs are denoised. `average` and `maximum` stay the arithmetic of what the cameras give."""
LONGEST_GAP_S = 1.0
"""After a pause as long as this the scene may be another one."""
CUT_SHARE = 0.7
"""Where more of the picture than this moved at once, it is another picture: nothing of the last one counts."""
LEAST_SIDE_PX = 40
LOOK_EVERY = 4
"""Frames from one measurement to the next, once there were `FIRST_LOOKS`."""
FIRST_LOOKS = 8
STRIPES_TIME_CONSTANT_S = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Switch:
    """Thresholds of a noise, in gray levels: it is fought from `on` on, until it is below `off`."""

    on: float
    off: float

    def __call__(self, levels: float, *, is_on: bool) -> bool:
        """Tell whether it is to be fought now."""
        return levels >= (self.off if is_on else self.on)


GRAIN = Switch(on=0.06, off=0.03)
"""Synthetic pictures have none, recordings with a codec at least 0.1."""
STRIPES = Switch(on=0.9, off=0.6)
"""Clean thermal pictures of every data set measure below 0.75."""


class BandDenoiser:
    """Denoises the frames of one band, in their order.

    A frame comes out as it went in as long as the stream has no noise that could be measured. Memory starts anew after a cut, a
    gap, a shutter and a change of size. The same frame again gives the same again.
    """

    def __init__(self, band: Band) -> None:
        self._band = band
        self._pool = Pool()
        self._last: tuple[Frame, Frame] | None = None
        """The last frame as it came and as it went."""
        self._begin()

    def _begin(self) -> None:
        self._grain = GrainMeter()
        self._mean: RecursiveMean | None = None
        self._columns, self._rows = (_Lines(columns=columns) for columns in (True, False))
        self._span = ExponentialAverage(time_constant_s=STRIPES_TIME_CONSTANT_S)
        self._levels_per_count = 1.0
        self._frames = 0
        self._is_grainy = False

    def __call__(self, frame: Frame) -> Frame:
        """The frame without what of its noise could be told from the scene: itself, or one with an image of its own."""
        if min(frame.image.shape[:2]) < LEAST_SIDE_PX:
            return frame
        last = self._last
        if last is not None and last[0].image.shape == frame.image.shape and last[0].image.dtype == frame.image.dtype:
            if frame.shutter or frame.timestamp_ns == last[0].timestamp_ns:
                return last[1] if frame is last[0] else replace(frame, image=last[1].image)
            dt_ns = frame.timestamp_ns - last[0].timestamp_ns
            if last[0].shutter or not 0 < dt_ns <= LONGEST_GAP_S * NS_PER_S:
                self._begin()
        else:
            dt_ns = 0
            self._begin()
        image = self._denoised(frame, dt_ns=dt_ns)
        denoised = frame if image is frame.image else replace(frame, image=image)
        self._last = frame, denoised
        return denoised

    @property
    def state(self) -> Mapping[str, float | str]:
        """The noise that was measured, in gray levels, and what is done against it; empty while there is none."""
        found = [
            word
            for word, is_on in (
                ("grain", self._is_grainy),
                ("columns", self._columns.is_on),
                ("rows", self._rows.is_on),
            )
            if is_on
        ]
        if not found:
            return {}
        return {"noise_levels": round(self.noise_levels, 2), "denoised": " ".join(found)}

    @property
    def noise_levels(self) -> float:
        """Standard deviation of the temporal noise in gray levels; of counts, in levels of the present span."""
        return self._grain.pixel_levels * self._levels_per_count

    def _denoised(self, frame: Frame, *, dt_ns: int) -> Image:
        plane = cast(Image, luminance(cast(Image8, frame.image), take=self._pool.take))
        self._look(plane, timestamp_ns=frame.timestamp_ns)
        if not (self._is_grainy or self._columns.is_on or self._rows.is_on):
            self._mean = None
            return frame.image
        kind = np.int16 if plane.dtype == np.uint8 else np.int32
        fine = plane.astype(kind)
        np.left_shift(fine, FINE_BITS, out=fine)
        if self._columns.is_on or self._rows.is_on:
            self._columns.take_out(fine)
            self._rows.take_out(fine)
            # averages keep the range of the pixels: there is no room in them for more
            np.clip(fine, 0, np.iinfo(plane.dtype).max << FINE_BITS, out=fine)
        if self._is_grainy:
            if self._mean is None:
                self._mean = RecursiveMean(shape=plane.shape, dtype=plane.dtype)
            state = self._mean.follow(fine, dt_ns=dt_ns, noise_levels=self._grain.cell_levels)
            if self._mean.moving > CUT_SHARE:
                self._mean.reset()
                state = self._mean.follow(fine, dt_ns=dt_ns, noise_levels=0.0)
            bits = STATE_BITS
        else:
            state, bits = fine, FINE_BITS
        return self._composed(frame.image, plane, state, bits)

    def _composed(self, image: Image, plane: Image, state: npt.NDArray[Any], bits: int) -> Image:
        if plane.dtype == np.uint16:
            rounded = np.clip((state + (1 << (bits - 1))) >> bits, 0, 65535)
            return cast(Image, rounded.astype(np.uint16))
        clean = cast(Image8, cv2.convertScaleAbs(state, self._pool.take(plane.shape), alpha=1.0 / (1 << bits)))
        if image.ndim == 2:
            return clean
        return compose(visible=cast(Image8, image), visible_y=cast(Image8, plane), fused_y=clean, take=self._pool.take)

    # -- measuring ----------------------------------------------------------------------------------------------------

    def _look(self, plane: Image, *, timestamp_ns: int) -> None:
        self._frames += 1
        is_due = self._frames <= FIRST_LOOKS or self._frames % LOOK_EVERY == 0
        if is_due and plane.dtype == np.uint16:
            low, high = np.percentile(plane[::8, ::8], (1.0, 99.5))
            span = self._span.follow(float(high - low), timestamp_ns=timestamp_ns)
            self._levels_per_count = 255.0 / max(span, LEAST_SPAN_COUNTS)
        self._grain.look(plane, is_due=is_due, timestamp_ns=timestamp_ns)
        self._is_grainy = GRAIN(self.noise_levels, is_on=self._is_grainy)
        if self._band is Band.THERMAL:
            for lines in (self._columns, self._rows):
                if is_due or lines.changes and lines.is_on:
                    lines.look(plane, timestamp_ns=timestamp_ns, levels_per_count=self._levels_per_count)


class _Lines:
    """The stripes of one direction: columns, which stay, or rows, which change with each frame."""

    def __init__(self, *, columns: bool) -> None:
        self.changes = not columns
        self.is_on = False
        self._columns = columns
        self._weight = SmoothingWeight(time_constant_s=STRIPES_TIME_CONSTANT_S if columns else 0.0)
        self._spread = ExponentialAverage(time_constant_s=STRIPES_TIME_CONSTANT_S)
        self._profile: stripes.Profile | None = None
        self._offsets: npt.NDArray[Any] | None = None

    def look(self, plane: Image, *, timestamp_ns: int, levels_per_count: float) -> None:
        profile = stripes.profile(plane, columns=self._columns)
        weight = self._weight.advance(timestamp_ns)
        if self._profile is not None and weight < 1.0:
            profile = self._profile + np.float32(weight) * (profile - self._profile)
        self._profile = profile
        spread = self._spread.follow(stripes.spread(profile), timestamp_ns=timestamp_ns)
        self.is_on = STRIPES(spread * levels_per_count, is_on=self.is_on)
        self._offsets = None
        if self.is_on:
            fine = np.rint(stripes.offsets(profile, spread_levels=spread) * (1 << FINE_BITS))
            self._offsets = fine.astype(np.int32)

    def take_out(self, fine: npt.NDArray[Any]) -> None:
        if self._offsets is not None:
            offsets = self._offsets.astype(fine.dtype)
            fine -= offsets if self._columns else offsets[:, None]


class Denoiser:
    """Denoises the pairs of a run, each band by itself.

    Args:
        visible: False where the visible frames are unrelated images; they stay as they are.
        thermal: the same of the thermal frames.
        note: takes a sentence for the person who reads the table.
    """

    def __init__(self, *, visible: bool, thermal: bool, note: Callable[[str], None]) -> None:
        bands = {Band.VISIBLE: visible, Band.THERMAL: thermal}
        self._bands = {band: BandDenoiser(band) for band, is_stream in bands.items() if is_stream}
        self._note = note

    def __call__(self, pair: FramePair) -> FramePair:
        """The pair to fuse in the place of one that came: itself where there is nothing to do."""
        visible, thermal = (self._frame(frame) for frame in (pair.visible, pair.thermal))
        if visible is pair.visible and thermal is pair.thermal:
            return pair
        return replace(pair, visible=visible, thermal=thermal)

    @property
    def state(self) -> Mapping[str, float | str]:
        """What is said of the thermal band in the header of a frame; see `BandDenoiser.state`."""
        thermal = self._bands.get(Band.THERMAL)
        return {} if thermal is None else thermal.state

    def _frame(self, frame: Frame) -> Frame:
        denoiser = self._bands.get(frame.band)
        return frame if denoiser is None else denoiser(frame)
