"""Do the compiled kernels compute on this processor what they should? One pair of pictures, held against the twin."""

from __future__ import annotations

import numpy as np

from rtfusion.errors import EngineError
from rtfusion.kernels.layers import GAIN_CHANNELS, HEAD_CHANNELS, SEEN_CHANNELS, CompiledLayers
from rtfusion.kernels.twin import TwinLayers
from rtfusion.models.layers import find_layers
from rtfusion.models.shipping import shipped

SIZE_PX, PADDED_PX = (157, 61), (160, 64)


def check_layers() -> int:
    """Split and join noise by both; gives the number of values that were compared.

    Raises:
        EngineUnavailable: the kernels are not compiled.
        EngineError: a value differs.
    """
    layers = find_layers(shipped("small", precision="int8"))
    if layers is None:
        raise EngineError(
            "the model that comes with rtfusion says nothing of its layers: it is damaged, install it again"
        )
    random = np.random.default_rng(0)
    visible, thermal = (random.integers(0, 256, SIZE_PX[::-1]).astype(np.uint8) for _ in range(2))
    made = []
    for kind in (CompiledLayers, TwinLayers):
        noise = np.random.default_rng(1)
        one = kind(layers, size_px=SIZE_PX, padded_px=PADDED_PX)
        grid = 1, *one.grid
        seen, fused = np.zeros((*grid, SEEN_CHANNELS), np.uint8), np.zeros(SIZE_PX[::-1], np.uint8)
        one.split(visible=visible, thermal=thermal, means=(0.4, 0.5), enhance=0.8, seen=seen)
        gains = noise.integers(0, 256, (*grid, GAIN_CHANNELS)).astype(np.uint8)
        one.join(gains=gains, heads=noise.standard_normal((*grid, HEAD_CHANNELS)).astype(np.float32), fused=fused)
        made.append(np.concatenate([seen.ravel(), fused.ravel()]))
    if wrong := int((made[0] != made[1]).sum()):
        raise EngineError(f"{wrong} of {made[0].size} values of the compiled layers are not those of their twin")
    return made[0].size
