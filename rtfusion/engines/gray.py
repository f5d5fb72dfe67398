"""Gray levels in, gray levels out: what the fuser of the host asks of an engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, cast

import cv2
import numpy as np
import numpy.typing as npt

from rtfusion.engines.base import Engine, Tensor, check_inputs, contract_ports
from rtfusion.errors import EngineError
from rtfusion.models.spec import IMAGE_INPUTS, OUTPUT, ModelSpec, Shape
from rtfusion.types import Image8

_UNIT_FROM_GRAY = (np.arange(256) / 255).astype(np.float32)


class GrayEngine(Protocol):
    """One network, ready to fuse images of one size, any size. Used by one thread at a time."""

    @property
    def description(self) -> str:
        """Say what runs, as `rtfusion.engines.base.Engine.description` does."""
        ...

    def run(
        self, *, images: Mapping[str, Image8], inputs: Mapping[str, float | Tensor]
    ) -> Mapping[str, npt.NDArray[Any]]:
        """Run the network once.

        Args:
            images: both bands by the model's names, (H, W).
            inputs: every other input of the model by name: a number, or writable C-contiguous float32 of the shape for the padded
                size. Arrays are read in place, so reuse the same ones.

        Returns:
            Every output by name: ``fused_y`` as (H, W) uint8, the others as float32 (1, C, h, w) for the padded size. They are
            the engine's own buffers, valid until the next run.

        Raises:
            EngineError: inputs do not fit, the engine failed, or it is closed.
        """
        ...

    def close(self) -> None:
        """Release the network. Idempotent."""
        ...


class InputTensors:
    """The arrays by which a network is fed: those that come, and for numbers always the same ones."""

    def __init__(self, shapes: Mapping[str, Shape]) -> None:
        self._shapes = shapes
        self._own = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}

    def by_name(self, inputs: Mapping[str, float | Tensor]) -> dict[str, Tensor]:
        """Every input as an array; a number stands for an array full of it.

        Raises:
            EngineError: a name is missing or unknown, or an array does not fit.
        """
        tensors: dict[str, Tensor] = {}
        for name, value in inputs.items():
            if isinstance(value, np.ndarray):
                tensors[name] = value
                continue
            tensors[name] = self._own[name] if name in self._own else np.zeros((1, 1, 1, 1), np.float32)
            tensors[name].fill(value)
        check_inputs(tensors, shapes=self._shapes)
        return tensors


class ConvertedEngine:
    """An engine that takes float32: gray levels to [0, 1], padded by repeating the edge, and back. Copies nothing else."""

    def __init__(self, engine: Engine, *, spec: ModelSpec, size_px: tuple[int, int]) -> None:
        self._engine = engine
        shapes = contract_ports(spec, size_px=spec.padded_px(size_px)).inputs
        self._images = {name: np.zeros(shapes.pop(name), np.float32) for name in IMAGE_INPUTS}
        self._tensors = InputTensors(shapes)
        self._fused_y = np.empty(size_px[::-1], np.uint8)
        self.description = engine.description

    def run(
        self, *, images: Mapping[str, Image8], inputs: Mapping[str, float | Tensor]
    ) -> Mapping[str, npt.NDArray[Any]]:
        """Run the network once; see `GrayEngine`."""
        for name, image in images.items():
            _fill(self._images[name], image)
        outputs = self._engine.run(
            inputs={**{name: self._images[name] for name in images}, **self._tensors.by_name(inputs)}
        )
        height, width = self._fused_y.shape
        unit = outputs[OUTPUT][0, 0, :height, :width]
        # rounds and saturates at both ends, in one pass
        cv2.addWeighted(unit, 255.0, unit, 0.0, 0.0, self._fused_y, dtype=cv2.CV_8U)
        return {**outputs, OUTPUT: self._fused_y}

    def close(self) -> None:
        """Release the network. Idempotent."""
        self._engine.close()


def check_images(images: Mapping[str, Image8], *, shape: tuple[int, ...]) -> None:
    """Hold the images that are fed against what an engine takes.

    Raises:
        EngineError: other names, another shape or type.
    """
    if {*images} != {*IMAGE_INPUTS}:
        raise EngineError(f"images are {', '.join(images)}; the model takes {', '.join(IMAGE_INPUTS)}")
    for name, image in images.items():
        if image.shape != shape or image.dtype != np.uint8:
            raise EngineError(f"input {name} is {image.shape} {image.dtype}; expected {shape} uint8")


def padded(image: Image8, *, into: Image8) -> Image8:
    """(H, W) as large as ``into``, without gaps: itself where it is so, else ``into``, the edge repeated."""
    if image.shape == into.shape and image.flags.carray:
        return image
    below, right = into.shape[0] - image.shape[0], into.shape[1] - image.shape[1]
    return cast(Image8, cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_REPLICATE, into))


def _fill(tensor: Tensor, image: Image8) -> None:
    """Gray levels to [0, 1] into the upper left of a (1, 1, H, W) tensor, the rest by repeating the edge."""
    height, width = image.shape
    plane = tensor[0, 0]
    cv2.LUT(image, _UNIT_FROM_GRAY, plane[:height, :width])
    plane[:height, width:] = plane[:height, width - 1 : width]
    plane[height:] = plane[height - 1]
