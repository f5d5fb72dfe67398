"""Does an engine compute what it should? One golden input, one table of tolerances."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rtfusion.engines.base import Tensor
from rtfusion.errors import EngineError
from rtfusion.models import ImageInput, MapInput, ModelSpec, ScalarInput
from rtfusion.models.spec import IMAGE_INPUTS, OUTPUT, Shape


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
    "int8 in parts": Tolerance(4e-3, 0.2),
}
"""Tolerances by the arithmetic of the engine. A selection between the bands may fall the other way at a pixel, so that largest
is wide and mean is not.

``int8`` is between two engines that run the same quantized file; what quantizing itself costs is held at export. ``int8 in
parts`` is between the whole graph of such a file and its learned part beside compiled kernels, whose gains come in 8 bits."""


class Difference(NamedTuple):
    """The distance between two results, in units of the range [0, 1]."""

    mean: float
    largest: float


def golden_inputs(spec: ModelSpec, *, size_px: tuple[int, int]) -> dict[str, Tensor]:
    """Every input of a model, with something in it to compare.

    The pictures are of waves, edges and flat parts that differ, scalars stand at their defaults, maps are waves over their range,
    and states are waves around their initial value.
    """
    height, width = ImageInput().shape(size_px)[2:]
    y, x = np.mgrid[:height, :width].astype(np.float64)
    waves = 0.5 + 0.3 * np.sin(x / 7.0 + y / 23.0) * np.cos(y / 11.0)
    spots = 0.35 + 0.6 * (((x // 24 + y // 24) % 5) == 0) + 0.05 * np.sin(x / 3.0)
    images = dict(zip(IMAGE_INPUTS, (waves, spots), strict=True))
    tensors = {}
    for name, port in spec.inputs.items():
        shape = port.shape(size_px)
        if isinstance(port, ImageInput):
            values = np.clip(images[name], 0, 1).reshape(shape)
        elif isinstance(port, ScalarInput):
            values = np.full(shape, port.default)
        elif isinstance(port, MapInput):
            values = port.minimum + (port.maximum - port.minimum) * (0.5 + 0.5 * _waves(shape))
        else:
            values = port.initial + 0.5 * _waves(shape)
        tensors[name] = np.ascontiguousarray(values, np.float32)
    return tensors


def _waves(shape: Shape) -> npt.NDArray[np.float64]:
    """Waves in [-1, 1] that differ from channel to channel."""
    channel, y, x = np.indices(shape[1:], np.float64)
    return (np.sin(x / 3.0 + channel) * np.cos(y / 5.0 - channel))[None]


def difference(got: Tensor, expected: Tensor) -> Difference:
    """Measure how far ``got`` is from ``expected``.

    Raises:
        EngineError: nothing can be compared: other shapes, no pixels, or values that are not numbers.
    """
    if got.shape != expected.shape or got.size == 0 or not (np.isfinite(got).all() and np.isfinite(expected).all()):
        raise EngineError(f"nothing to compare: {_described(got)} against {_described(expected)}")
    apart = np.abs(got.astype(np.float64) - expected)
    return Difference(float(apart.mean()), float(apart.max()))


def check(got: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, arithmetic: str) -> Difference:
    """Hold the outputs ``got`` against those ``expected``, within `TOLERANCES`; gives the largest of the differences.

    An output other than the picture is compared in units of its largest value, where that is more than 1.

    Raises:
        EngineError: other outputs, one of them too far away, or nothing to compare.
    """
    if not expected or got.keys() != expected.keys():
        raise EngineError(f"nothing to compare: {', '.join(got) or 'none'} against {', '.join(expected) or 'none'}")
    allowed = TOLERANCES[arithmetic]
    found = []
    for name, wanted in expected.items():
        unit = 1.0 if name == OUTPUT else max(1.0, float(np.abs(wanted).max(initial=0.0)))
        apart = Difference(*(value / unit for value in difference(got[name], wanted)))
        if apart.mean > allowed.mean or apart.largest > allowed.largest:
            raise EngineError(
                f"{'the result' if name == OUTPUT else name} is {apart.mean:.2e} away on average and {apart.largest:.2e} at "
                f"most; {arithmetic} arithmetic allows {allowed.mean:.0e} and {allowed.largest:.0e}"
            )
        found.append(apart)
    return Difference(*map(max, zip(*found, strict=True)))


def _described(array: Tensor) -> str:
    return f"{array.shape} {'with' if not np.isfinite(array).all() else 'without'} NaN"
