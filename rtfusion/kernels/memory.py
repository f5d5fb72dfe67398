"""What denoising does to every pixel, by compiled loops: the same bits as `rtfusion.fusion.passes` gives with OpenCV."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rtfusion.fusion.color import Take, share_of_color
from rtfusion.fusion.passes import (
    BLOCK_PX,
    FINE_BITS,
    FULL,
    OPENCV,
    STATE_BITS,
    MeanPasses,
    Motion,
    Passes,
    Ramp,
    SteppedImage,
    Tables,
)
from rtfusion.kernels import address, are_here, library
from rtfusion.types import Image, Image8

_SCRATCH_ROWS, _MARGINS = 12, 32


class _Memory(ctypes.Structure):
    """``Memory`` of memory.c."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("width_px", "height_px")),
        *((name, ctypes.c_void_p) for name in ("mean", "shown", "scratch")),
    )


class _Frame(ctypes.Structure):
    """``Frame`` of memory.c."""

    _fields_ = (("pixels", ctypes.c_void_p), ("stride_bytes", ctypes.c_ssize_t), ("is_fine", ctypes.c_int32))


class _Ramp(ctypes.Structure):
    """``Ramp`` of memory.c."""

    _fields_ = (("scale", ctypes.c_float), ("slope", ctypes.c_int32), ("offset", ctypes.c_int32))


def open_passes(*, kernels: bool) -> Passes:
    """By compiled loops where they are wanted and here, else with OpenCV."""
    return CompiledPasses() if kernels and are_here() else OPENCV


class CompiledPasses:
    """As `rtfusion.fusion.passes.OpenCvPasses`; averages of counts are left to it.

    Raises:
        EngineUnavailable: the kernels are not compiled.
    """

    def __init__(self) -> None:
        loaded = library()
        pointer, number, stride = ctypes.c_void_p, ctypes.c_int32, ctypes.c_ssize_t
        self._compose = _call(loaded.rtfusion_compose, *[pointer, stride] * 3, pointer, number, number)
        self._tint = _call(loaded.rtfusion_tint, *[pointer, stride] * 3, *[pointer] * 2, number, number)
        self._hold = _call(loaded.rtfusion_hold, pointer, pointer, ctypes.c_size_t)
        self._smooth = _call(loaded.rtfusion_smooth, pointer, stride, number, number, number)
        self._twin = OPENCV
        self._share: tuple[Image8, tuple[int, int], Image8 | None] | None = None

    def mean(self, *, shape: tuple[int, int], dtype: np.dtype[Any]) -> MeanPasses:
        """The average of one plane."""
        return CompiledMean(shape=shape) if dtype == np.uint8 else self._twin.mean(shape=shape, dtype=dtype)

    def compose(
        self, *, visible: Image8, visible_y: Image8, fused_y: Image8, take: Take, kept: Image8 | None = None
    ) -> Image8:
        """As `rtfusion.fusion.color.compose`."""
        if visible.ndim == 2:
            return self._twin.compose(visible=visible, visible_y=visible_y, fused_y=fused_y, take=take)
        height, width = fused_y.shape
        images = [_rows_dense(image) for image in (visible, visible_y, fused_y)]
        for image, shape in zip(images, ((height, width, 3), (height, width), (height, width)), strict=True):
            if image.shape != shape or image.dtype != np.uint8:
                raise ValueError(f"an image is {image.shape} {image.dtype}; expected {shape} uint8")
        made = take((height, width, 3))
        lies = [value for image in images for value in (address(image), image.strides[0])]
        share = None if kept is None else self._share_of_color(kept, shape=(height, width), take=take)
        if share is None:
            self._compose(*lies, address(made), width, height)
        else:
            self._tint(*lies, address(share), address(made), width, height)
        return made

    def _share_of_color(self, kept: Image8, *, shape: tuple[int, int], take: Take) -> Image8 | None:
        """As `rtfusion.fusion.color.share_of_color`; it is judged some times a second, and kept as long."""
        if self._share is None or self._share[0] is not kept or self._share[1] != shape:
            self._share = kept, shape, share_of_color(kept, shape=shape, take=take)
        return self._share[2]

    def hold(self, image: Image8, *, shown: Image8, take: Take) -> None:
        """In place: where the image differs from the one that was shown by 1 at most, that one stays."""
        if image.shape != shown.shape or not (image.flags.c_contiguous and shown.flags.c_contiguous):
            self._twin.hold(image, shown=shown, take=take)
            return
        self._hold(address(image), address(shown), image.size)

    def smooth(self, image: Image8, *, first_px: int, borders: int, largest_levels: float) -> None:
        """In place: smooth the steps between rows of blocks."""
        if image.strides[1] != 1:
            self._twin.smooth(image, first_px=first_px, borders=borders, largest_levels=largest_levels)
            return
        self._smooth(address(image[first_px:]), image.strides[0], image.shape[1], borders, int(largest_levels))


class CompiledMean:
    """The average of a plane of uint8; used by one thread at a time."""

    def __init__(self, *, shape: tuple[int, int]) -> None:
        loaded = library()
        pointer = ctypes.c_void_p
        self._compare = _call(loaded.rtfusion_compare, pointer, pointer, *[ctypes.c_int32] * 2, *[pointer] * 4)
        self._weigh = loaded.rtfusion_weigh
        self._weigh.restype = ctypes.c_int32
        self._weigh.argtypes = [*[pointer] * 8, ctypes.c_int32, *[pointer] * 2]
        self._average = _call(loaded.rtfusion_average, *[pointer] * 4)
        height, width = self._shape = shape
        rows, columns = height // BLOCK_PX, width // BLOCK_PX
        self._mean, self._shown = (np.zeros(shape, np.int16) for _ in range(2))
        self._scratch = np.zeros((_SCRATCH_ROWS, width + _MARGINS), np.int32)
        self._motion = Motion(*(np.zeros((rows, columns), np.int16) for _ in Motion._fields))
        self._figures = [address(figure) for figure in self._motion]
        self._weights = np.zeros((rows, columns), np.uint8)
        mean, shown, scratch = (address(array) for array in (self._mean, self._shown, self._scratch))
        self._memory = _Memory(width_px=width, height_px=height, mean=mean, shown=shown, scratch=scratch)
        self._at = ctypes.addressof(self._memory)
        self._frame, self._ramps = _Frame(), (_Ramp * len(Motion._fields))()
        self._frame_at, self._ramps_at = ctypes.addressof(self._frame), ctypes.addressof(self._ramps)
        self._ramps_of: Sequence[Ramp] = ()

    def begin(self, image: SteppedImage) -> None:
        """Remember this frame alone."""
        bits = STATE_BITS if image.dtype == np.uint8 else STATE_BITS - FINE_BITS
        np.left_shift(image, bits, out=self._mean, dtype=np.int16)
        np.copyto(self._shown, self._mean)

    def compare(self, image: SteppedImage, *, largest_pixel: int, largest_cell: int) -> Motion:
        """How a frame differs from what is remembered; valid until the next call."""
        self._place(image)
        self._compare(self._at, self._frame_at, largest_pixel, largest_cell, *self._figures)
        return self._motion

    def weigh(self, motion: Motion, *, ages: Image8, tables: Tables, ramps: Sequence[Ramp]) -> tuple[Image8, int]:
        """The weight of the frame in every block, valid until the next call, and in how many blocks something moves."""
        if self._ramps_of is not ramps:
            for place, ramp in zip(self._ramps, ramps, strict=True):
                place.scale, place.slope, place.offset = ramp
            self._ramps_of = ramps
        moving = self._weigh(
            self._at,
            *self._figures,
            self._ramps_at,
            _address(tables.firmness, (256,)),
            _address(tables.weights, (256,)),
            tables.oldest,
            _address(ages, self._weights.shape),
            _address(self._weights, self._weights.shape),
        )
        return self._weights, moving

    def let_go(self, rows: slice) -> None:
        """Forget what was shown of some rows."""
        rest = FULL - 1
        self._shown[rows] = self._mean[rows] = (self._mean[rows] & ~rest) | (FULL // 2)

    def average(self, image: SteppedImage, *, weights: Image8, out: Image) -> None:
        """Average the frame in."""
        self._place(image)
        shape = self._motion.pixel_size.shape
        self._average(self._at, self._frame_at, _address(weights, shape), _address(out, self._shape))

    def _place(self, image: SteppedImage) -> None:
        """Say where a frame lies."""
        if image.shape != self._shape or image.dtype not in (np.uint8, np.int16):
            raise ValueError(f"an image is {image.shape} {image.dtype}; expected {self._shape} uint8 or int16")
        self._image = _rows_dense(image)
        self._frame.pixels, self._frame.stride_bytes = address(self._image), self._image.strides[0]
        self._frame.is_fine = image.dtype == np.int16


def _call(function: Any, *arguments: Any) -> Any:
    function.restype, function.argtypes = None, arguments
    return function


def _rows_dense(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The image, or a copy where pixels of a row do not lie side by side."""
    is_dense = image.strides[-1] == image.itemsize and (image.ndim == 2 or image.strides[1] == image.shape[2])
    return image if is_dense else np.ascontiguousarray(image)


def _address(array: npt.NDArray[Any], shape: tuple[int, ...]) -> int:
    """The address of an array that the kernels read or write; they take no other than this."""
    if array.shape != shape or array.dtype != np.uint8 or not array.flags.c_contiguous:
        raise ValueError(f"an array is {array.shape} {array.dtype}; expected C-contiguous {shape} uint8")
    return address(array)
