"""Image buffers that are used again once nobody holds them, so that no frame allocates."""

from __future__ import annotations

import sys

import numpy as np

from rtfusion.types import Image8


def fresh(shape: tuple[int, ...]) -> Image8:
    """An array of its own, for callers without a pool."""
    return np.empty(shape, np.uint8)


class Pool:
    """Hands out uint8 arrays; one is free again when it, and every view of it, was let go.

    Used by one thread; the arrays may be let go in any.
    """

    def __init__(self) -> None:
        self._buffers: dict[tuple[int, ...], list[Image8]] = {}

    def take(self, shape: tuple[int, ...]) -> Image8:
        """An array of this shape that nobody else holds, with old pixels in it."""
        buffers = self._buffers.setdefault(shape, [])
        for index in range(len(buffers)):
            if _references(buffers, index) == _IN_POOL_ALONE:
                return buffers[index]
        buffers.append(fresh(shape))
        return buffers[-1]

    def clear(self) -> None:
        """Forget every array; those that are held stay valid."""
        self._buffers.clear()


def _references(buffers: list[Image8], index: int) -> int:
    return sys.getrefcount(buffers[index])


# Measured instead of written down: what the call itself adds differs between versions of Python.
_IN_POOL_ALONE = _references([fresh((1,))], 0)
