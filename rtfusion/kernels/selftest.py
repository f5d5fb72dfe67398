"""Do the compiled kernels compute on this processor what they should? A few pictures, held against the twins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from rtfusion.errors import EngineError
from rtfusion.fusion.buffers import fresh
from rtfusion.fusion.glare import OPENCV as OPENCV_GLARE
from rtfusion.fusion.glare import Glare
from rtfusion.fusion.passes import FULL, OPENCV, Passes, Ramp, Tables
from rtfusion.fusion.retouch import Retouch, cells_of, retouched
from rtfusion.kernels.glare import CompiledGlare
from rtfusion.kernels.layers import GAIN_CHANNELS, HEAD_CHANNELS, SEEN_CHANNELS, CompiledLayers
from rtfusion.kernels.memory import CompiledPasses
from rtfusion.kernels.parallax import CompiledSearch
from rtfusion.kernels.retouch import CompiledRetoucher
from rtfusion.kernels.twin import TwinLayers
from rtfusion.models.layers import find_layers
from rtfusion.models.shipping import shipped
from rtfusion.registration.likeness import STRIDE, OpenCvSearch, tried_between

SIZE_PX, PADDED_PX = (157, 61), (160, 64)
ALIKE, SAME_PX, AS_GOOD = 1e-4, 0.02, 0.002
"""Of the search of parallax: likeness differs by no more, and displacements by no more but for this share of the cells, in which
two are as good as one another and rounding decides."""


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
    return _compared(*made, name="the compiled layers")


def check_memory() -> int:
    """Do to a few frames of noise what denoising does, by both; gives the number of values that were compared.

    Raises:
        EngineUnavailable: the kernels are not compiled.
        EngineError: a value differs.
    """
    return _compared(*(_denoised(passes) for passes in (CompiledPasses(), OPENCV)), name="the compiled denoising")


def check_glare() -> int:
    """Show a few burnt out places by both; gives the number of values that were compared.

    Raises:
        EngineUnavailable: the kernels are not compiled.
        EngineError: a value differs.
    """
    return _compared(*(_relit(glare) for glare in (CompiledGlare(), OPENCV_GLARE)), name="the compiled glare")


def check_retouching() -> int:
    """Retouch a few pictures by both; gives the number of values that were compared, which differ by a gray level at most.

    Raises:
        EngineUnavailable: the kernels are not compiled.
        EngineError: a value differs.
    """
    random = np.random.default_rng(0)
    bands = [random.integers(0, 256, SIZE_PX[::-1]).astype(np.uint8) for _ in range(3)]
    shares = random.uniform(0, 1, (6, *cells_of(bands[0].shape))).astype(np.float32)
    names = ("own", "plus", "thermal", "visible", "fine", "core")
    how = Retouch(**dict(zip(names, shares, strict=True)), lift=0.5, press=0.3)
    pictures = dict(zip(("fused_y", "thermal", "visible_y"), bands, strict=True))
    compiled, twin = (one(how, **pictures, take=fresh).astype(np.int32) for one in (CompiledRetoucher(), retouched))
    return _compared(np.where(np.abs(compiled - twin) <= 1, twin, compiled), twin, name="the compiled retouching")


def check_parallax() -> int:
    """Look for a pattern that is displaced, by both; gives the number of values that were compared.

    Raises:
        EngineUnavailable: the kernels are not compiled.
        EngineError: a value differs.
    """
    random, (width, height) = np.random.default_rng(0), PADDED_PX
    thermal = random.integers(0, 256, (height // 8, width // 8)).astype(np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    visible = np.roll(255 - thermal, -3, axis=1)
    tried = tried_between(-6.0, 9.0, direction=(0.8, -0.6), layer_px=3.0, scale=2.0)
    seen = np.ones(thermal.shape, np.float32)
    seen[:, : width // 8] = 0
    pictures = {"visible": visible, "thermal": thermal, "gray": np.ascontiguousarray(visible[::STRIDE, ::STRIDE])}
    compiled, twin = (kind(tried, seen=seen, dense=True)(**pictures) for kind in (CompiledSearch, OpenCvSearch))
    same, alike = np.abs(compiled.px - twin.px) <= SAME_PX, np.abs(compiled.lead - twin.lead) <= ALIKE
    wrong = int((~alike).sum()) + (int((~same).sum()) if (~same).mean() > AS_GOOD else 0)
    if wrong or not np.isfinite(compiled.px).all():
        raise EngineError(
            f"{wrong} of {2 * same.size} values of the compiled search of parallax are not those of its twin"
        )
    return 2 * same.size


def _relit(glare: Glare) -> npt.NDArray[Any]:
    """All that is made of one picture where it is burnt out."""
    random, shape = np.random.default_rng(0), PADDED_PX[::-1]
    bright = random.integers(230, 256, shape).astype(np.uint8)
    fused, thermal, expected, ground = (random.integers(0, 256, shape).astype(np.uint8) for _ in range(4))
    burnt, rim, share, relit = (np.empty(shape, np.uint8) for _ in range(4))
    found = glare.find(bright, out=burnt)
    glare.rim(burnt, out=rim)
    glare.hide(rim, fused_y=bright, out=share)
    glare.relight(fused, thermal=thermal, share=share, expected=expected, ground=ground, out=relit)
    made = burnt, rim, share, relit, *glare.blocks(share, thermal=thermal), np.array([found])
    return np.concatenate([part.ravel().astype(np.int32) for part in made])


def _denoised(passes: Passes) -> npt.NDArray[Any]:
    """All that the passes make of the same few frames."""
    random, shape = np.random.default_rng(0), SIZE_PX[::-1]
    color, *frames = (random.integers(0, 256, (*shape, *more)).astype(np.uint8) for more in ((3,), (), (), ()))
    mean = passes.mean(shape=shape, dtype=frames[0].dtype)
    mean.begin(frames[0])
    firmness, least = (random.integers(0, most, 256).astype(np.uint8) for most in (256, FULL + 1))
    tables = Tables(firmness=firmness, weights=least, oldest=40)
    made: list[npt.NDArray[Any]] = []
    for frame in frames[1:]:
        motion = mean.compare(frame, largest_pixel=900, largest_cell=400)
        made += [figure.copy() for figure in motion]
        ages = random.integers(1, 256, motion.cell_mean.shape).astype(np.uint8)
        weight, moving = mean.weigh(motion, ages=ages, tables=tables, ramps=[Ramp(0.5, 150, 20_000)] * len(motion))
        made += [weight.copy(), ages, np.array([moving])]
        shown = np.empty(shape, np.uint8)
        weights = random.integers(0, FULL + 1, motion.cell_mean.shape).astype(np.uint8)
        mean.average(frame, weights=weights, out=shown)
        made.append(shown)
    passes.smooth(frames[0], first_px=3, borders=(SIZE_PX[1] - 3) // 8, largest_levels=200.0)
    passes.hold(frames[1], shown=frames[1] + np.uint8(1), take=fresh)
    composed = passes.compose(visible=color, visible_y=frames[2], fused_y=shown, take=fresh)
    return np.concatenate([part.ravel().astype(np.int32) for part in (*made, frames[0], frames[1], composed)])


def _compared(compiled: npt.NDArray[Any], twin: npt.NDArray[Any], *, name: str) -> int:
    if wrong := int((compiled != twin).sum()):
        raise EngineError(f"{wrong} of {compiled.size} values of {name} are not those of their twin")
    return compiled.size


CHECKS: Mapping[str, Callable[[], int]] = {
    "the fixed part of a model": check_layers,
    "denoising": check_memory,
    "what is burnt out": check_glare,
    "retouching": check_retouching,
    "the search of parallax": check_parallax,
}
"""All of them, by what is computed."""
