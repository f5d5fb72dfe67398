"""Where everything of the thermal picture lies, by compiled loops: `rtfusion.registration.likeness`, but for rounding."""

from __future__ import annotations

import ctypes

import cv2
import numpy as np
import numpy.typing as npt

from rtfusion.kernels import address, are_here, library
from rtfusion.registration.likeness import EDGE, STRIDE, Floats, Found, OpenCvSearch, Search, Tried
from rtfusion.registration.structure import FLOOR, LEAST_GRADIENT, NOISE_SIGMA_PX, POOL_SIGMA_PX
from rtfusion.types import Image8

_CHANNELS, _PHASES, _PLANES, _GUIDES, _MARGIN, _LINES = 4, STRIDE * STRIDE, 4, 8, 16, 8
_NOISE_PX, _POOL_PX, _WINDOW_ROWS = 4, 6, 5


class _Search(ctypes.Structure):
    """``Search`` of parallax.c."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("width_px", "height_px", "count", "beyond")),
        *((name, ctypes.c_void_p) for name in ("x_px", "y_px", "noise", "pool")),
        *((name, ctypes.c_float) for name in ("floor_share", "least_gradient", "edge")),
        ("is_dense", ctypes.c_int32),
        *(
            (name, ctypes.c_void_p)
            for name in ("lines", "smooth", "pooled", "here", "there", "sums", "likeness", "known", "least", "guide")
        ),
    )


def open_search(tried: Tried, *, seen: Floats, dense: bool, kernels: bool) -> Search:
    """By compiled loops where they are wanted and here, else with OpenCV; see `OpenCvSearch`."""
    kind = CompiledSearch if kernels and are_here() else OpenCvSearch
    return kind(tried, seen=seen, dense=dense)


class CompiledSearch:
    """As `rtfusion.registration.likeness.OpenCvSearch`.

    Raises:
        EngineUnavailable: the kernels are not compiled.
        ValueError: a side of ``seen`` is no multiple of twice `STRIDE`, or less than 32.
    """

    def __init__(self, tried: Tried, *, seen: Floats, dense: bool) -> None:
        self._run = library().rtfusion_search
        self._run.restype, self._run.argtypes = None, [ctypes.c_void_p] * 6
        self._tried = tried
        height, width = self._shape = seen.shape
        if height % (2 * STRIDE) or width % (2 * STRIDE) or min(seen.shape) < 32:
            raise ValueError(f"a picture is {width}x{height}; sides are multiples of {2 * STRIDE} from 32 on")
        rows, columns = self._cells = height // STRIDE, width // STRIDE
        x_px, y_px = (np.ascontiguousarray(axis) for axis in tried.shifts_px.T)
        count = len(tried.px)
        beyond = int(np.ceil(np.abs(tried.shifts_px).max() / STRIDE)) + 1
        there = np.zeros((_CHANNELS + 1, STRIDE, STRIDE, rows + 2 * beyond, columns + 2 * beyond), np.float32)
        for row in range(STRIDE):
            for column in range(STRIDE):
                there[-1, row, column, beyond:-beyond, beyond:-beyond] = seen[row::STRIDE, column::STRIDE]
        arrays = {
            "x_px": x_px,
            "y_px": y_px,
            "noise": _half_of_window(NOISE_SIGMA_PX, _NOISE_PX),
            "pool": _half_of_window(POOL_SIGMA_PX, _POOL_PX),
            "there": there,
            **{
                name: np.zeros(shape, np.float32)
                for name, shape in {
                    "lines": (_LINES, width + 2 * _MARGIN),
                    "smooth": (height, width),
                    "pooled": (_CHANNELS, height + 2 * _POOL_PX, width),
                    "here": (_CHANNELS + 1, rows, columns),
                    "sums": (count, _WINDOW_ROWS, _PLANES, columns),
                    "likeness": (count, rows, columns),
                    "known": (count + 2, columns),
                    "least": (rows, columns),
                    "guide": (_GUIDES, rows // 2, columns // 2),
                }.items()
            },
        }
        self._arrays = arrays  # they stay as long as C knows their addresses
        self._search = _Search(
            width_px=width,
            height_px=height,
            count=count,
            beyond=beyond,
            floor_share=FLOOR,
            least_gradient=LEAST_GRADIENT,
            edge=EDGE,
            is_dense=dense,
            **{name: address(array) for name, array in arrays.items()},
        )

    def __call__(self, *, visible: Image8, thermal: Image8, gray: Image8) -> Found:
        """See `rtfusion.registration.likeness.Search`."""
        pictures = [_whole(image, shape) for image, shape in ((visible, self._shape), (thermal, self._shape))]
        levels = _whole(gray, self._cells).astype(np.float32) / np.float32(255)
        best, lead = (np.empty(self._cells, np.float32) for _ in range(2))
        self._run(ctypes.addressof(self._search), *(address(array) for array in (*pictures, levels, best, lead)))
        found_px = self._tried.px[0] + np.float32(self._tried.layer_px) * best
        return Found(found_px, lead)


def _half_of_window(sigma_px: float, reach_px: int) -> Floats:
    """The weights of a Gaussian from its middle on."""
    return np.ascontiguousarray(cv2.getGaussianKernel(2 * reach_px + 1, sigma_px, cv2.CV_32F)[reach_px:, 0])


def _whole(image: Image8, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    if image.shape != shape or image.dtype != np.uint8:
        raise ValueError(f"an image is {image.shape} {image.dtype}; expected {shape} uint8")
    return np.ascontiguousarray(image)
