"""What denoising does to every pixel, with OpenCV, or by compiled loops that give the same bits in less time.

Pixels of an average come as they are, uint8 or uint16, or *fine*, in steps of 1 / 2**FINE_BITS: int16 or int32.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, cast

import cv2
import numpy as np
import numpy.typing as npt

from rtfusion.fusion.color import Take, compose
from rtfusion.types import Image, Image8

FINE_BITS, STATE_BITS = 3, 7
"""Pixels come in steps of 1/8 gray level or count, averages are kept in steps of 1/128. For 8 bits an average, and a difference
times a weight, fit into int16."""
FULL = 1 << (STATE_BITS - FINE_BITS)
"""The weight of a frame in whole numbers: this is 1."""
RAMP_BITS = 10
BLOCK_PX = 4
"""Of the blocks that have one weight."""
_AROUND = np.ones((3, 3), np.uint8)
_HELD = 58
"""0.45 of a step of the pixels. Less than half, so that what moves is shown to the bit."""

Plane = npt.NDArray[np.signedinteger[Any]]
SteppedImage = Image | Plane
"""(H, W), as it came or fine."""


class Motion(NamedTuple):
    """How a frame differs from an average, in blocks, (rows, columns), in fine steps. Sizes are limited."""

    cell_peak: npt.NDArray[Any]
    """The largest size of a cell, the mean of 2x2 pixels, among the nine about the upper left one of the block."""
    pixel_size: npt.NDArray[Any]
    """The mean size of its pixels."""
    cell_size: npt.NDArray[Any]
    """The mean size of its cells."""
    cell_mean: npt.NDArray[Any]
    """The mean of its cells."""


class Ramp(NamedTuple):
    """How a figure of `Motion` opens the gate."""

    scale: float
    """From fine steps to sizes of 255 at most."""
    slope: int
    """Of the weight over the size, in 2**RAMP_BITS."""
    offset: int
    """What is taken off then, in 2**RAMP_BITS."""


class Tables(NamedTuple):
    """What the age of a block, the frames since its gate was open, says: (256,) by age."""

    firmness: Image8
    """So many 255ths of a size count."""
    weights: Image8
    """The least weight of the frame."""
    oldest: int
    """No block becomes older than this."""


class MeanPasses(Protocol):
    """The average of one plane of uint8 or uint16, (H, W)."""

    def begin(self, image: SteppedImage) -> None:
        """Remember this frame alone."""

    def compare(self, image: SteppedImage, *, largest_pixel: int, largest_cell: int) -> Motion:
        """How a frame differs from the average; valid until the next call.

        The sizes of pixels and of cells count up to these.
        """

    def weigh(self, motion: Motion, *, ages: Image8, tables: Tables, ramps: Sequence[Ramp]) -> tuple[Image8, int]:
        """The weight of the frame in every block, (rows, columns), 0 to FULL, and in how many blocks something moves.

        The gate, the weight by motion alone, is as much as the figure wants that wants most. Each figure has its ramp; all but
        the first are averaged over 3x3 blocks before, and sizes count as the firmness of the block says. ``ages``, (rows,
        columns), are the frames since the gate of a block was open, and brought up to this frame in place; the weight is at
        least the one by them. ``motion`` is what was compared last.
        """

    def let_go(self, rows: slice) -> None:
        """Forget what was shown of some rows, before the next frame is averaged in: their average takes its place.

        It forgets the rest of a fine step, which no difference to a frame sees: that is set to a half.
        """

    def average(self, image: SteppedImage, *, weights: Image8, out: Image) -> None:
        """Average in the frame that was compared last, and write what is shown into ``out``, in pixels.

        ``weights`` is (rows, columns), up to FULL, and interpolated between the blocks. What is shown is the average as it was
        when it last had changed by almost half a step: no pixel flickers between two values.
        """


class Passes(Protocol):
    """What is done to every pixel."""

    def mean(self, *, shape: tuple[int, int], dtype: np.dtype[Any]) -> MeanPasses:
        """The average of planes of this shape and type, which has remembered nothing yet."""

    def compose(
        self, *, visible: Image8, visible_y: Image8, fused_y: Image8, take: Take, kept: Image8 | None = None
    ) -> Image8:
        """As `rtfusion.fusion.color.compose`."""

    def hold(self, image: Image8, *, shown: Image8, take: Take) -> None:
        """In place: where an image, (H, W), differs from the one that was shown by 1 at most, that one stays."""

    def smooth(self, image: Image8, *, first_px: int, borders: int, largest_levels: float) -> None:
        """In place: smooth the steps between blocks of 8 rows of an (H, W) image, up to this size.

        The first of so many borders lies four rows below ``first_px``. A step d between the rows p0 and q0, less the slope on
        its sides, is spread over the four rows on each side, by sixteenths of 1, 3, 5, 7 and back, so that they meet.
        """


class OpenCvPasses:
    """With OpenCV and NumPy."""

    def mean(self, *, shape: tuple[int, int], dtype: np.dtype[Any]) -> MeanPasses:
        """The average of one plane."""
        return OpenCvMean(shape=shape, dtype=dtype)

    def compose(
        self, *, visible: Image8, visible_y: Image8, fused_y: Image8, take: Take, kept: Image8 | None = None
    ) -> Image8:
        """As `rtfusion.fusion.color.compose`."""
        return compose(visible=visible, visible_y=visible_y, fused_y=fused_y, kept=kept, take=take)

    def hold(self, image: Image8, *, shown: Image8, take: Take) -> None:
        """Hold what hardly changed."""
        apart = cv2.absdiff(image, shown, take(image.shape))
        cv2.copyTo(shown, cv2.inRange(apart, 0, 1, apart), image)

    def smooth(self, image: Image8, *, first_px: int, borders: int, largest_levels: float) -> None:
        """Smooth the steps between rows of blocks."""
        about = image[first_px : first_px + 8 * borders].reshape(borders, 8, -1)
        p3, p2, p1, p0, q0, q1, q2, q3 = lines = about.transpose(1, 0, 2).astype(np.int16)
        step = q0 - p0 - ((p0 - p2 + q2 - q0) >> 2)
        rough = np.maximum(np.abs(p0 - p3), np.abs(q0 - q3))
        np.maximum(rough, 2 * np.maximum(np.abs(p0 - p1), np.abs(q0 - q1)), out=rough)
        step *= np.maximum(rough, np.abs(step)) <= largest_levels
        for line, sixteenths in zip(lines, (1, 3, 5, 7, -7, -5, -3, -1), strict=True):
            # line by line: small arrays stay in the cache
            np.add(line, (np.int16(sixteenths) * step + np.int16(8)) >> 4, out=line)
        about[:] = np.clip(lines, 0, 255, out=lines).transpose(1, 0, 2)


OPENCV = OpenCvPasses()


class OpenCvMean:
    """The average of one plane."""

    def __init__(self, *, shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
        height, width = shape
        self._kind = fine_kind(dtype)
        self._fine, self._mean, self._shown, self._step, self._weight = (np.empty(shape, self._kind) for _ in range(5))
        self._gray: Image8 = np.empty(shape, np.uint8)
        self._size_px = width // BLOCK_PX * BLOCK_PX, height // BLOCK_PX * BLOCK_PX
        """Whole blocks; the last rows and columns use the weight of their neighbors."""

    def begin(self, image: SteppedImage) -> None:
        """Remember this frame alone."""
        np.left_shift(self._fine_of(image), STATE_BITS - FINE_BITS, out=self._mean)
        np.copyto(self._shown, self._mean)

    def compare(self, image: SteppedImage, *, largest_pixel: int, largest_cell: int) -> Motion:
        """How a frame differs from the average."""
        np.right_shift(self._mean, STATE_BITS - FINE_BITS, out=self._step)
        np.subtract(self._fine_of(image), self._step, out=self._step)
        columns_px, rows_px = self._size_px
        step = self._step[:rows_px, :columns_px]
        sizes = self._weight[:rows_px, :columns_px]  # until there are weights
        if self._kind != np.int16:  # which OpenCV cannot resize
            step = step.astype(np.float32)
            sizes = np.empty_like(step)
        cells = _halved(step)
        cell_mean = _halved(cells)
        cell_sizes = _sizes(cells, largest_cell, cells)
        pixel_sizes = _sizes(step, largest_pixel, sizes)
        return Motion(
            cell_peak=np.ascontiguousarray(cv2.dilate(cell_sizes, _AROUND)[::2, ::2]),
            pixel_size=_halved(_halved(pixel_sizes)),
            cell_size=_halved(cell_sizes),
            cell_mean=cell_mean,
        )

    def weigh(self, motion: Motion, *, ages: Image8, tables: Tables, ramps: Sequence[Ramp]) -> tuple[Image8, int]:
        """The weight of the frame in every block, and in how many blocks something moves."""
        gate, firmness = np.zeros_like(ages), cv2.LUT(ages, tables.firmness)
        peak, *others = motion
        for figure, ramp in zip((peak, *(cv2.blur(other, (3, 3)) for other in others)), ramps, strict=True):
            size = cv2.multiply(cv2.convertScaleAbs(figure, alpha=ramp.scale), firmness, scale=1.0 / 255)
            gate = cast(Image8, cv2.max(gate, cv2.LUT(size, _opening(ramp.slope, ramp.offset))))
        kept = (ages.astype(np.uint16) * (FULL - gate) // FULL).astype(np.uint8)
        cv2.min(cv2.add(kept, cast(Any, (1,))), cast(Any, (tables.oldest,)), ages)
        return cast(Image8, cv2.max(gate, cv2.LUT(ages, tables.weights))), int(np.count_nonzero(gate > FULL // 2))

    def let_go(self, rows: slice) -> None:
        """Forget what was shown of some rows."""
        rest = FULL - 1
        self._shown[rows] = self._mean[rows] = (self._mean[rows] & ~rest) | (FULL // 2)

    def average(self, image: SteppedImage, *, weights: Image8, out: Image) -> None:
        """Average in the frame that was compared last."""
        self._spread(weights)
        np.multiply(self._step, self._weight, out=self._step)
        np.add(self._mean, self._step, out=self._mean)
        np.subtract(self._mean, self._shown, out=self._step)
        held = cv2.inRange(self._step, -_HELD, _HELD, self._gray)
        cv2.copyTo(self._mean, cv2.bitwise_not(held, held), self._shown)
        in_pixels(self._shown, bits=STATE_BITS, out=out)

    def _fine_of(self, image: SteppedImage) -> Plane:
        return cast(Plane, image) if image.dtype == self._kind else fine(cast(Image, image), out=self._fine)

    def _spread(self, weights: Image8) -> None:
        """Bring the weight of the blocks to every pixel."""
        columns_px, rows_px = self._size_px
        # 16 bits, since OpenCV takes twice the time for 8; in 64ths, which are whole: its rounding is not the same everywhere
        small, weight = weights.astype(np.int16) << 6, self._weight
        if weight.dtype == small.dtype and weight.shape == (rows_px, columns_px):
            cv2.resize(small, self._size_px, dst=weight, interpolation=cv2.INTER_LINEAR)
        else:
            weight[:rows_px, :columns_px] = cv2.resize(small, self._size_px, interpolation=cv2.INTER_LINEAR)
            weight[rows_px:] = weight[rows_px - 1]
            weight[:, columns_px:] = weight[:, columns_px - 1 : columns_px]
        np.add(weight, 32, out=weight)
        np.right_shift(weight, 6, out=weight)


def fine_kind(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type of the fine steps of pixels of a type."""
    return np.dtype(np.int16 if dtype == np.uint8 else np.int32)


def fine(image: Image, *, out: Plane) -> Plane:
    """The pixels in steps of 1 / 2**FINE_BITS, in ``out``."""
    np.copyto(out, image)
    return np.left_shift(out, FINE_BITS, out=out)


def in_pixels(plane: Plane, *, bits: int, out: Image) -> Image:
    """A plane in steps of 1 / 2**bits in pixels again, in ``out``, rounded; of 8 bits, halves to even."""
    if out.dtype == np.uint8:
        return cast(Image8, cv2.convertScaleAbs(plane, out, alpha=1.0 / (1 << bits)))
    np.right_shift(plane + (1 << (bits - 1)), bits, out=out, casting="unsafe")
    return out


def _sizes(plane: npt.NDArray[Any], largest: int, out: npt.NDArray[Any]) -> npt.NDArray[Any]:
    np.clip(plane, -largest, largest, out=out)  # a minimum with one number takes much longer
    return np.asarray(np.abs(out, out=out))


@functools.lru_cache(maxsize=64)
def _opening(slope: int, offset: int) -> Image8:
    """The table of a ramp."""
    return np.clip((np.arange(256) * slope - offset) >> RAMP_BITS, 0, FULL).astype(np.uint8)


def _halved(plane: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The means of 2x2 pixels."""
    size_px = plane.shape[1] // 2, plane.shape[0] // 2
    return cast(npt.NDArray[Any], cv2.resize(plane, size_px, interpolation=cv2.INTER_AREA))
