"""Retouching by one compiled loop: within a gray level what `rtfusion.fusion.retouch.retouched` gives with OpenCV."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

from rtfusion.fusion.color import Take
from rtfusion.fusion.retouch import (
    BRIGHT_LEVEL,
    CELL_PX,
    CORE_LEVELS,
    DARK_LEVEL,
    KEPT_LEVELS,
    Retouch,
    Retoucher,
    cells_of,
    press_of,
    retouched,
)
from rtfusion.kernels import are_here, library
from rtfusion.types import Image8

_SHARES = ("own", "plus", "thermal", "visible", "fine", "core")


class _Retouch(ctypes.Structure):
    """``Retouch`` of retouch.c."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("width_px", "height_px", "columns", "rows")),
        ("shares", ctypes.c_void_p * len(_SHARES)),
        ("core_levels", ctypes.c_float),
        ("kept_levels", ctypes.c_float),
        *((name, ctypes.c_float) for name in ("lift", "dark_level", "press", "bright_level")),
        ("scratch", ctypes.c_void_p),
    )


def open_retoucher(*, kernels: bool) -> Retoucher:
    """By the compiled loop where it is wanted and here, else with OpenCV."""
    return CompiledRetoucher() if kernels and are_here() else retouched


class CompiledRetoucher:
    """See `rtfusion.fusion.retouch.Retoucher`. Used by one thread at a time.

    Raises:
        EngineUnavailable: the kernels are not compiled.
    """

    def __init__(self) -> None:
        self._call: Any = library().rtfusion_retouch
        pointer, stride = ctypes.c_void_p, ctypes.c_ssize_t
        self._call.restype, self._call.argtypes = None, (pointer, *(pointer, stride) * 3, pointer)
        self._scratch: npt.NDArray[np.float32] = np.empty(0, np.float32)

    def __call__(self, how: Retouch, *, fused_y: Image8, thermal: Image8, visible_y: Image8, take: Take) -> Image8:
        """The picture as ``how`` says."""
        height, width = fused_y.shape
        rows, columns = cells_of(fused_y.shape)
        images = [_rows_dense(image) for image in (fused_y, thermal, visible_y)]
        for image in images:
            if image.shape != (height, width) or image.dtype != np.uint8:
                raise ValueError(f"an image is {image.shape} {image.dtype}; expected {(height, width)} uint8")
        shares = [getattr(how, name) for name in _SHARES]
        given = [None if share is None else np.ascontiguousarray(share, np.float32) for share in shares]
        if any(share is not None and share.shape != (rows, columns) for share in given):
            raise ValueError(f"a share is of another shape than {(rows, columns)}")
        size = (2 * len(_SHARES) + 2) * (columns + 1) * CELL_PX
        if self._scratch.size < size:
            self._scratch = np.empty(size, np.float32)
        how_c = _Retouch(
            width_px=width,
            height_px=height,
            columns=columns,
            rows=rows,
            shares=(ctypes.c_void_p * len(_SHARES))(*(None if one is None else one.ctypes.data for one in given)),
            core_levels=CORE_LEVELS,
            kept_levels=KEPT_LEVELS,
            lift=how.lift,
            dark_level=DARK_LEVEL,
            press=press_of(how),
            bright_level=BRIGHT_LEVEL,
            scratch=self._scratch.ctypes.data,
        )
        made = take((height, width))
        lies = [value for image in images for value in (image.ctypes.data, image.strides[0])]
        self._call(ctypes.byref(how_c), *lies, made.ctypes.data)
        return made


def _rows_dense(image: Image8) -> Image8:
    """The image itself, or a copy of one whose rows have gaps between their pixels."""
    return image if image.strides[1] == 1 else np.ascontiguousarray(image)
