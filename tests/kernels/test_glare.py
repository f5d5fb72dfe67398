"""What is done where the visible band is burnt out, compiled, against OpenCV, to the bit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtfusion.fusion.glare import GAINED, OPENCV, Glare, OpenCvGlare
from rtfusion.fusion.trust import judged
from rtfusion.kernels.glare import open_glare
from rtfusion.types import Image8
from tests.kernels.pictures import hows, image, strided
from tests.support import needs_kernels

pytestmark = needs_kernels
sizes = st.tuples(st.integers(2, 150), st.integers(2, 60))
kinds = st.sampled_from(["noise", "extremes", "flat", "ramp", "bright"])


def picture(random: np.random.Generator, size_px: tuple[int, int], kind: str) -> Image8:
    """One that may be bright, in places or everywhere, with little texture."""
    if kind != "bright":
        return image(random, size_px, kind)
    made = random.integers(228, 256, size_px[::-1])
    made[:, size_px[0] // 2 :] -= int(random.integers(0, 200))
    return made.astype(np.uint8)


def test_what_is_wanted_is_opened() -> None:
    assert isinstance(open_glare(kernels=False), OpenCvGlare)
    assert not isinstance(open_glare(kernels=True), OpenCvGlare)


@settings(max_examples=200, deadline=None)
@given(
    size_px=sizes,
    whole_blocks=st.booleans(),
    of=st.tuples(*[kinds] * 5),
    lie=st.tuples(*[hows] * 5),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_step_is_that_of_opencv(
    size_px: tuple[int, int], whole_blocks: bool, of: tuple[str, ...], lie: tuple[str, ...], seed: int
) -> None:
    random = np.random.default_rng(seed)
    width, height = (-(-side // 8) * 8 for side in size_px) if whole_blocks else size_px
    visible, thermal, fused, expected, ground = (
        strided(picture(random, (width, height), kind), how) for kind, how in zip(of, lie, strict=True)
    )
    ways = open_glare(kernels=True), OPENCV

    def same(make: Callable[[Glare, Image8], object]) -> Image8:
        """Both ways of it, into parts of larger images."""
        made, said = [], []
        for way in ways:
            whole = np.zeros((height + 2, width + 3), np.uint8)
            said.append(make(way, whole[1:-1, 2:-1]))
            made.append(whole)
        np.testing.assert_array_equal(*made)
        assert said[0] == said[1]
        return made[0][1:-1, 2:-1]

    burnt = same(lambda way, out: way.find(visible, out=out))
    same(lambda way, out: way.rim(burnt, out=out))
    share = same(lambda way, out: way.hide(burnt, fused_y=fused, out=out))
    for one in (share, visible):
        planes = {"thermal": thermal, "share": one, "expected": expected, "ground": ground}
        same(lambda way, out, planes=planes: way.relight(fused, **planes, out=out))
        for compiled, opencv in zip(*(way.blocks(one, thermal=thermal) for way in ways), strict=True):
            np.testing.assert_array_equal(compiled, opencv)


@pytest.mark.parametrize("size_px", [(64, 48), (70, 45), (24, 24)])
def test_a_pair_is_shown_as_by_opencv(size_px: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    visible_y, thermal = (picture(random, size_px, "noise") // 2 for _ in range(2))
    visible_y[4:40, 5:20] = 255
    fused_y = np.maximum(visible_y, thermal)
    bands = {"visible_y": visible_y, "thermal": thermal}
    made = [
        judged(**bands, glare=way).shown(**bands, fused_y=fused_y, glare=way)
        for way in (open_glare(kernels=True), OPENCV)
    ]
    assert (made[0] != fused_y).any()
    np.testing.assert_array_equal(*made)


def test_images_of_different_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="expected"):
        open_glare(kernels=True).rim(np.zeros((20, 20), np.uint8), out=np.zeros((20, 21), np.uint8))


def test_the_gain_of_a_detail_is_a_table_for_every_level() -> None:
    assert GAINED.shape == (256,)
    assert GAINED.flags.c_contiguous
