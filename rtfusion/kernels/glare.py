"""What is done where the visible band is burnt out, by compiled loops: the same bits as `rtfusion.fusion.glare` with OpenCV."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

from rtfusion.fusion.glare import (
    BLOCK_PX,
    BURNT_GAIN,
    FLAT_GAIN,
    GAINED,
    GROUND_LEVEL,
    HIDDEN_GAIN,
    OPENCV,
    SHOWING_LEVEL,
    SPANS_LEVELS,
    WHOLE_LEVEL,
    Blocks,
    Glare,
)
from rtfusion.kernels import address, are_here, library
from rtfusion.types import Image8

LEAST_SIDE_PX = 5
_LINES, _MARGINS = 8, 32


class _Image(ctypes.Structure):
    """``Image`` of glare.c."""

    _fields_ = (("pixels", ctypes.c_void_p), ("stride_bytes", ctypes.c_ssize_t))


class _Part(ctypes.Structure):
    """``Part`` of glare.c."""

    _fields_ = (*((name, ctypes.c_int32) for name in ("width_px", "height_px")), ("scratch", ctypes.c_void_p))


def open_glare(*, kernels: bool) -> Glare:
    """By compiled loops where they are wanted and here, else with OpenCV."""
    return CompiledGlare() if kernels and are_here() else OPENCV


class CompiledGlare:
    """See `rtfusion.fusion.glare.Glare`; used by one thread at a time. Less than `LEAST_SIDE_PX` a side are left to OpenCV.

    Raises:
        EngineUnavailable: the kernels are not compiled.
    """

    def __init__(self) -> None:
        loaded, pointer, number, gain = library(), ctypes.c_void_p, ctypes.c_int32, ctypes.c_float
        self._find = _call(loaded.rtfusion_find_glare, number, pointer, pointer, number, gain, number, gain, pointer)
        self._rim = _call(loaded.rtfusion_rim, None, *[pointer] * 3)
        self._hide = _call(loaded.rtfusion_hide, None, *[pointer] * 3, number, gain, pointer)
        self._relight = _call(loaded.rtfusion_relight, None, *[pointer] * 7, number, pointer)
        self._blocks = _call(loaded.rtfusion_blocks, None, *[pointer] * 6)
        self._scratch: npt.NDArray[np.uint16] = np.zeros(0, np.uint16)
        self._part = _Part()

    def find(self, visible_y: Image8, *, out: Image8) -> int:
        """How far pixels are burnt out."""
        if (part := self._of(visible_y, out)) is None:
            return OPENCV.find(visible_y, out=out)
        found: int = self._find(part, _lies(visible_y), WHOLE_LEVEL, BURNT_GAIN, SPANS_LEVELS[1], FLAT_GAIN, _lies(out))
        return found

    def rim(self, burnt: Image8, *, out: Image8) -> None:
        """What is burnt out with its rim."""
        if (part := self._of(burnt, out)) is None:
            OPENCV.rim(burnt, out=out)
        else:
            self._rim(part, _lies(burnt), _lies(out))

    def hide(self, burnt: Image8, *, fused_y: Image8, out: Image8) -> None:
        """What is burnt out and hides the thermal band."""
        if (part := self._of(burnt, fused_y, out)) is None:
            OPENCV.hide(burnt, fused_y=fused_y, out=out)
        else:
            self._hide(part, _lies(burnt), _lies(fused_y), SHOWING_LEVEL, HIDDEN_GAIN, _lies(out))

    def relight(
        self, fused_y: Image8, *, thermal: Image8, share: Image8, expected: Image8, ground: Image8, out: Image8
    ) -> None:
        """The fused luminance with thermal detail."""
        given = fused_y, thermal, share, expected, ground
        if (part := self._of(*given, out)) is None:
            OPENCV.relight(fused_y, thermal=thermal, share=share, expected=expected, ground=ground, out=out)
        else:
            self._relight(part, *map(_lies, given), address(GAINED), int(GROUND_LEVEL), _lies(out))

    def blocks(self, share: Image8, *, thermal: Image8) -> Blocks:
        """What blocks show."""
        part = self._of(share, thermal)
        if part is None or share.shape[0] % BLOCK_PX or share.shape[1] % BLOCK_PX:
            return OPENCV.blocks(share, thermal=thermal)
        shape = share.shape[0] // BLOCK_PX, share.shape[1] // BLOCK_PX
        found = Blocks(*(np.empty(shape, np.uint8) for _ in Blocks._fields))
        self._blocks(part, _lies(share), _lies(thermal), *(address(plane) for plane in found))
        return found

    def _of(self, *images: Image8) -> Any:
        """The part that all images of a call are; None for what the loops do not take."""
        height, width = shape = images[0].shape
        for image in images:
            if image.shape != shape or image.dtype != np.uint8:
                raise ValueError(f"an image is {image.shape} {image.dtype}; expected {shape} uint8")
        if min(shape) < LEAST_SIDE_PX or any(image.strides[1] != 1 for image in images):
            return None
        if self._scratch.size < (size := _LINES * (width + _MARGINS)):
            self._scratch = np.zeros(size, np.uint16)
            self._part.scratch = address(self._scratch)
        self._part.width_px, self._part.height_px = width, height
        return ctypes.byref(self._part)


def _call(function: Any, gives: Any, *arguments: Any) -> Any:
    function.restype, function.argtypes = gives, arguments
    return function


def _lies(image: Image8) -> Any:
    return ctypes.byref(_Image(address(image), image.strides[0]))
