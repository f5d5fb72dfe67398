"""Gray levels in, gray levels out: what the fuser of the host asks of an engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, cast

import cv2
import numpy as np

from rtfusion.engines.base import Engine, Tensor
from rtfusion.types import Image8

_UNIT_FROM_GRAY = (np.arange(256) / 255).astype(np.float32)


class GrayEngine(Protocol):
    """One network, ready to fuse images of one size, any size. Used by one thread at a time."""

    @property
    def description(self) -> str:
        """What runs, as `rtfusion.engines.base.Engine.description`."""
        ...

    def run(self, *, images: Mapping[str, Image8], scalars: Mapping[str, float]) -> Image8:
        """Fuse once.

        Args:
            images: both bands by the model's names, (H, W).
            scalars: a value for every scalar of the model.

        Returns:
            The fused luminance, (H, W); the engine's own buffer, valid until the next run.

        Raises:
            EngineError: inputs do not fit, the engine failed, or it is closed.
        """
        ...

    def close(self) -> None:
        """Release the network; may be called twice."""
        ...


class ConvertedEngine:
    """An engine that takes float32: gray levels to [0, 1], padded by repeating the edge, and back. Copies nothing else."""

    def __init__(self, engine: Engine, *, size_px: tuple[int, int], padded_px: tuple[int, int]) -> None:
        self._engine = engine
        self._padded_px = padded_px
        self._tensors: dict[str, Tensor] = {}
        self._fused_y = np.empty(size_px[::-1], np.uint8)
        self.description = engine.description

    def run(self, *, images: Mapping[str, Image8], scalars: Mapping[str, float]) -> Image8:
        """Fuse once; see `GrayEngine`."""
        for name, image in images.items():
            _fill(self._tensor(name, (1, 1, *self._padded_px[::-1])), image)
        for name, value in scalars.items():
            self._tensor(name, (1, 1, 1, 1))[...] = value
        height, width = self._fused_y.shape
        unit = self._engine.run(inputs={name: self._tensors[name] for name in (*images, *scalars)})[
            0, 0, :height, :width
        ]
        # rounds and saturates at both ends, in one pass
        cv2.addWeighted(unit, 255.0, unit, 0.0, 0.0, self._fused_y, dtype=cv2.CV_8U)
        return self._fused_y

    def close(self) -> None:
        """Release the network; may be called twice."""
        self._engine.close()

    def _tensor(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """What is fed under this name: always the same array."""
        if name not in self._tensors:
            self._tensors[name] = np.zeros(shape, np.float32)
        return self._tensors[name]


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
