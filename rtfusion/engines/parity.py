"""Does an engine compute what it should? One golden input, one table of tolerances."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rtfusion.engines.base import Tensor, image_shape
from rtfusion.errors import EngineError
from rtfusion.models import ModelSpec


class Tolerance(NamedTuple):
    """Largest differences to the reference, in units of the range [0, 1]."""

    mean: float
    largest: float


TOLERANCES = {
    "f32": Tolerance(1e-5, 1e-3),
    "tf32": Tolerance(2e-3, 0.1),
    "f16": Tolerance(2e-3, 0.1),
    "bf16": Tolerance(2e-2, 0.5),
    "int8": Tolerance(2e-3, 0.1),
}
"""By the arithmetic of the engine. A selection between the bands may fall the other way at a pixel: largest is wide, mean is not.

``int8`` is between two engines that run the same quantized file; what quantizing itself costs is held at export."""


class Difference(NamedTuple):
    """How far two results are apart, in units of the range [0, 1]."""

    mean: float
    largest: float


def golden_inputs(spec: ModelSpec, *, size_px: tuple[int, int]) -> dict[str, Tensor]:
    """Every input of a model: two pictures of waves, edges and flat parts that differ, and the scalars at their defaults."""
    shape = image_shape(size_px)
    y, x = np.mgrid[: shape[2], : shape[3]].astype(np.float64)
    waves = 0.5 + 0.3 * np.sin(x / 7.0 + y / 23.0) * np.cos(y / 11.0)
    spots = 0.35 + 0.6 * (((x // 24 + y // 24) % 5) == 0) + 0.05 * np.sin(x / 3.0)
    images = dict(zip(spec.inputs, (waves, spots), strict=True))
    tensors = {name: np.clip(image, 0, 1).astype(np.float32).reshape(shape) for name, image in images.items()}
    scalars = {name: np.full((1, 1, 1, 1), scalar.default, np.float32) for name, scalar in spec.scalars.items()}
    return tensors | scalars


def difference(got: Tensor, expected: Tensor) -> Difference:
    """How far ``got`` is from ``expected``.

    Raises:
        EngineError: nothing can be compared: other shapes, no pixels, or values that are not numbers.
    """
    if got.shape != expected.shape or got.size == 0 or not (np.isfinite(got).all() and np.isfinite(expected).all()):
        raise EngineError(f"nothing to compare: {_described(got)} against {_described(expected)}")
    apart = np.abs(got.astype(np.float64) - expected)
    return Difference(float(apart.mean()), float(apart.max()))


def check(got: Tensor, expected: Tensor, *, arithmetic: str) -> Difference:
    """How far ``got`` is from ``expected``, held to `TOLERANCES`.

    Raises:
        EngineError: too far, or nothing to compare.
    """
    apart, allowed = difference(got, expected), TOLERANCES[arithmetic]
    if apart.mean > allowed.mean or apart.largest > allowed.largest:
        raise EngineError(
            f"the result is {apart.mean:.2e} away on average and {apart.largest:.2e} at most; {arithmetic} arithmetic "
            f"allows {allowed.mean:.0e} and {allowed.largest:.0e}"
        )
    return apart


def _described(array: Tensor) -> str:
    return f"{array.shape} {'with' if not np.isfinite(array).all() else 'without'} NaN"
