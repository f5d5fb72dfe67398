"""The fixed part of a student by compiled loops: what its network sees, and the picture made of what it says."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

from rtfusion.kernels import address, library
from rtfusion.models.layers import BLOCK_PX, Layers
from rtfusion.types import Image8

PIXELS = BLOCK_PX**2
SEEN_CHANNELS = 40
"""16 pixels of the visible block and 16 of the thermal one; the strengths of d1 visible, d1 thermal, d2 visible and d2 thermal,
the distances of base visible and base thermal, the strengths of d0 visible and d0 thermal."""
GAIN_CHANNELS = 2 * PIXELS
"""The gains of the pixels of both blocks."""
HEAD_CHANNELS = 8
"""Gains of the four details, logits of the thermal base and of the visible one, of the offset, and one that is not used."""
_PLANES = 9
_SCRATCH_ROWS, _MARGINS = 21, 8
_NO_CORING = 1e9
"""Times even a faint detail: coring that is always full."""


class _Image(ctypes.Structure):
    _fields_ = (("pixels", ctypes.c_void_p), ("stride_bytes", ctypes.c_ssize_t))


class _Form(ctypes.Structure):
    """``Form`` of layers.c."""

    _fields_ = (
        ("images", _Image * 2),
        *((name, ctypes.c_int32) for name in ("width_px", "height_px", "columns", "rows")),
        ("planes", ctypes.c_void_p),
        ("scratch", ctypes.c_void_p),
        ("scene_means", ctypes.c_float * 2),
        ("slopes", ctypes.c_float * 3),
        *(
            (name, ctypes.c_float)
            for name in ("coring", "pick_gain", "detail_scale", "base_scale", "floor_gray", "offset_gray")
        ),
        *((name, ctypes.c_float) for name in ("faint_gray", "clear_per_gray", "far", "far_gain")),
        ("gain_low", ctypes.c_float * 2),
        ("gain_step", ctypes.c_float * 2),
    )


class CompiledLayers:
    """Splits and mixes pairs of images of one size; used by one thread at a time.

    Args:
        layers: the constants.
        size_px: (width, height) of the images.
        padded_px: as large or larger, multiples of `BLOCK_PX`; the edge is repeated so far.

    Raises:
        EngineUnavailable: the kernels are not compiled.
    """

    def __init__(self, layers: Layers, *, size_px: tuple[int, int], padded_px: tuple[int, int]) -> None:
        loaded = library()
        self._split, self._join = loaded.rtfusion_split, loaded.rtfusion_join
        for call in (self._split, self._join):
            call.restype = None
        self._split.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        self._join.argtypes = [*[ctypes.c_void_p] * 4, ctypes.c_ssize_t]
        columns, rows = (side // BLOCK_PX for side in padded_px)
        self._planes = np.zeros((_PLANES, rows, columns), np.float32)
        self._scratch = np.zeros((_SCRATCH_ROWS, columns + _MARGINS), np.float32)
        self._far_from, self._shape = layers.far_from, size_px[::-1]
        self._images: tuple[Image8, ...] = ()
        ranges = layers.visible_gains, layers.thermal_gains
        self._form = _Form(
            width_px=size_px[0],
            height_px=size_px[1],
            columns=columns,
            rows=rows,
            planes=self._planes.ctypes.data,
            scratch=self._scratch.ctypes.data,
            slopes=layers.slopes_per_gray,
            coring=1 / layers.coring_gray if layers.coring_gray else _NO_CORING,
            clear_per_gray=1 / (layers.clear_gray - layers.faint_gray),
            gain_low=tuple(low for low, _ in ranges),
            gain_step=tuple((high - low) / 255 for low, high in ranges),
            **{
                name: getattr(layers, name)
                for name in ("pick_gain", "detail_scale", "base_scale", "floor_gray", "offset_gray", "faint_gray", "far_gain")
            },
        )  # fmt: skip
        self.grid = rows, columns
        """Rows and columns of blocks."""

    def split(
        self, *, visible: Image8, thermal: Image8, means: tuple[float, float], enhance: float, seen: Image8
    ) -> None:
        """Write what the network sees of both (H, W) images into ``seen``, (1, rows, columns, `SEEN_CHANNELS`).

        ``means`` are those of the visible and the thermal scene in [0, 1], and ``enhance`` is where the dial stands. The images
        stay in use until `join`.
        """
        self._images = tuple(image if image.strides[1] == 1 else image.copy() for image in (visible, thermal))
        form = self._form
        for place, image in zip(form.images, self._images, strict=True):
            if image.shape != self._shape or image.dtype != np.uint8:
                raise ValueError(f"an image is {image.shape} {image.dtype}; expected {self._shape} uint8")
            place.pixels, place.stride_bytes = address(image), image.strides[0]
        form.scene_means = tuple(255 * mean for mean in means)
        form.far = max(0.0, (enhance - self._far_from) / (1 - self._far_from))
        self._split(ctypes.addressof(form), _address(seen, (1, *self.grid, SEEN_CHANNELS), np.uint8))

    def join(self, *, gains: Image8, heads: npt.NDArray[np.float32], fused: Image8) -> None:
        """Write the picture into ``fused``, (H, W), of the pair that was split last.

        ``gains`` (1, rows, columns, `GAIN_CHANNELS`) are levels over the ranges of `Layers`, ``heads`` (1, rows, columns,
        `HEAD_CHANNELS`) what is said of blocks.
        """
        said = (
            _address(gains, (1, *self.grid, GAIN_CHANNELS), np.uint8),
            _address(heads, (1, *self.grid, HEAD_CHANNELS), np.float32),
        )
        self._join(ctypes.addressof(self._form), *said, _address(fused, self._shape, np.uint8), fused.strides[0])


def _address(array: npt.NDArray[Any], shape: tuple[int, ...], dtype: Any) -> int:
    """The address of an array that the kernels read or write; they take no other than this."""
    if array.shape != shape or array.dtype != dtype or not array.flags.c_contiguous:
        raise ValueError(f"an array is {array.shape} {array.dtype}; expected C-contiguous {shape} {np.dtype(dtype)}")
    return address(array)
