"""Do the kernels give on this device what their twin says, bit by bit?"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rtfusion.cuda import twin
from rtfusion.cuda.device import Device
from rtfusion.cuda.setup import DeviceArena
from rtfusion.errors import EngineError
from rtfusion.types import Image

HEIGHT, WIDTH, PADDED = 61, 83, (64, 88)
THERMAL_SHAPE = (37, 50)


def check_kernels(device: Device) -> int:
    """Run every kernel on noise, of 8 and of 16 bits; gives the number of values that were compared.

    Raises:
        EngineError: one of them differs.
    """
    return sum(device.call(_check, device, bits) for bits in (8, 16))


def _check(device: Device, bits: int) -> int:
    cuda, arena = device.cuda, DeviceArena(device.cuda)
    rng = np.random.default_rng(bits)
    visible = rng.integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    counts = rng.integers(0, 2**bits, THERMAL_SHAPE)
    thermal: Image = counts.astype(np.uint8) if bits == 8 else counts.astype(np.uint16)
    levels = rng.integers(0, 256, 2**bits).astype(np.uint8)
    x, y = (rng.uniform(-3, size + 3, (HEIGHT, WIDTH)).astype(np.float32) for size in reversed(THERMAL_SHAPE))
    inside = rng.random((HEIGHT, WIDTH), dtype=np.float32)
    expected = twin.prepare(visible=visible, thermal=thermal, levels=levels, source=(x, y), padded_shape=PADDED)
    image = twin.compose(visible=visible, fused_y=expected[1], inside=inside)
    try:
        inputs = [arena.upload(array) for array in (visible, thermal, levels, x, y, inside)]
        results: list[npt.NDArray[Any]] = [
            np.empty(PADDED, np.float32),
            np.empty(PADDED, np.float32),
            np.empty((HEIGHT, WIDTH), np.uint8),
        ]
        results += [np.empty((HEIGHT, WIDTH, 3), np.uint8), np.empty(2, np.uint64)]
        plane_v, plane_t, registered, fused, sums = (arena.take(result.nbytes) for result in results)
        cuda.memset_d8(sums, 0, results[-1].nbytes)
        cuda.Context.synchronize()
        stream = cuda.Stream(1)
        device.launch(
            "prepare", stream, inputs[0], 3, inputs[1], bits // 8, THERMAL_SHAPE[1], THERMAL_SHAPE[0], *inputs[2:5],
            WIDTH, HEIGHT, PADDED[1], PADDED[0], plane_v, plane_t, registered, sums, width=PADDED[1], height=PADDED[0],
        )  # fmt: skip
        device.launch(
            "compose", stream, inputs[0], 3, plane_t, inputs[5], WIDTH, HEIGHT, PADDED[1], fused, width=WIDTH,
            height=HEIGHT,
        )  # fmt: skip
        stream.synchronize()
        for result, address in zip(results, (plane_v, plane_t, registered, fused, sums), strict=True):
            cuda.memcpy_dtoh(result, address)
    finally:
        arena.close()
    names = ("visible_y", "thermal", "registered", "image", "sums")
    wanted: tuple[npt.NDArray[Any], ...] = (*expected[:3], image, np.array(expected[3], np.uint64))
    for name, got, want in zip(names, results, wanted, strict=True):
        differing = int((got != want).sum())
        if differing:
            raise EngineError(f"kernels: {differing} of {want.size} values of {name} differ at {bits} bits")
    return sum(want.size for want in wanted)
