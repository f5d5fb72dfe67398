"""The compiled passes of denoising against those of OpenCV, to the bit."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtfusion.fusion.buffers import fresh
from rtfusion.fusion.denoise import Denoiser
from rtfusion.fusion.passes import FINE_BITS, FULL, OPENCV, OpenCvPasses, Ramp, Tables, fine
from rtfusion.kernels import are_here
from rtfusion.kernels.memory import open_passes
from rtfusion.types import Band, FramePair, Image8
from tests.kernels.pictures import hows, image, kinds, strided
from tests.support import MS, make_frame, needs_kernels

pytestmark = needs_kernels
sizes = st.tuples(st.integers(8, 150), st.integers(8, 60))
long_rows = st.tuples(st.integers(300, 700), st.integers(8, 12))
seeds = st.integers(0, 2**32 - 1)


def both() -> tuple[Any, Any]:
    compiled = open_passes(kernels=True)
    assert not isinstance(compiled, OpenCvPasses)
    return compiled, OPENCV


def test_what_is_wanted_is_opened() -> None:
    assert isinstance(open_passes(kernels=False), OpenCvPasses)
    assert are_here()


@settings(max_examples=150, deadline=None)
@given(
    size_px=sizes,
    frames=st.lists(st.tuples(kinds, hows, st.booleans()), min_size=2, max_size=6),
    largest=st.tuples(st.integers(1, 2500), st.integers(1, 2500)),
    scales=st.tuples(*[st.floats(0.001, 8)] * 4),
    slopes=st.tuples(*[st.integers(1, 4000)] * 4),
    offsets=st.tuples(*[st.integers(0, 40_000)] * 4),
    weighs=st.sampled_from(["any", "none", "all", "ends"]),
    seed=seeds,
)
def test_an_average_is_that_of_opencv(
    size_px: tuple[int, int],
    frames: list[tuple[str, str, bool]],
    largest: tuple[int, int],
    scales: tuple[float, ...],
    slopes: tuple[int, ...],
    offsets: tuple[int, ...],
    weighs: str,
    seed: int,
) -> None:
    random = np.random.default_rng(seed)
    shape = size_px[::-1]
    means = [passes.mean(shape=shape, dtype=np.dtype(np.uint8)) for passes in both()]
    for index, (kind, lies, is_fine) in enumerate(frames):
        frame: Any = strided(image(random, size_px, kind), lies)
        if is_fine:
            # what stripes were taken out of lies between the levels
            frame = fine(frame, out=np.empty(shape, np.int16)) + random.integers(-8, 9, shape).astype(np.int16)
            frame = np.clip(frame, 0, 255 << FINE_BITS)
        if index == 0:
            for mean in means:
                mean.begin(frame)
        motion = [mean.compare(frame, largest_pixel=largest[0], largest_cell=largest[1]) for mean in means]
        for name in motion[0]._fields:
            np.testing.assert_array_equal(*(getattr(one, name) for one in motion), err_msg=name)
        blocks = motion[0].pixel_size.shape
        firmness, least = (random.integers(0, most, 256).astype(np.uint8) for most in (256, FULL + 1))
        how: dict[str, Any] = {
            "tables": Tables(firmness=firmness, weights=least, oldest=int(random.integers(1, 256))),
            "ramps": [Ramp(*ramp) for ramp in zip(scales, slopes, offsets, strict=True)],
        }
        before = random.integers(0, 256, blocks).astype(np.uint8)
        ages = [before.copy() for _ in means]
        weighed = [mean.weigh(one, ages=age, **how) for mean, one, age in zip(means, motion, ages, strict=True)]
        np.testing.assert_array_equal(*ages)
        np.testing.assert_array_equal(*(weight for weight, _ in weighed))
        assert weighed[0][1] == weighed[1][1]
        weights = {
            "any": random.integers(0, FULL + 1, blocks),
            "none": np.zeros(blocks),
            "all": np.full(blocks, FULL),
            "ends": FULL * random.integers(0, 2, blocks),
        }[weighs].astype(np.uint8)
        shown = [np.empty(shape, np.uint8) for _ in means]
        for mean, out in zip(means, shown, strict=True):
            mean.average(frame, weights=weights, out=out)
        np.testing.assert_array_equal(*shown)


def near(random: np.random.Generator, of: Image8, most: int) -> Image8:
    return np.clip(of + random.integers(-most, most + 1, of.shape), 0, 255).astype(np.uint8)


@settings(max_examples=100, deadline=None)
@given(
    size_px=st.one_of(sizes, long_rows),
    of=st.tuples(kinds, kinds, kinds),
    lie=st.tuples(hows, hows),
    lies_apart=st.booleans(),
    is_gray=st.booleans(),
    cells=st.one_of(st.none(), st.tuples(st.integers(1, 9), st.integers(1, 9))),
    seed=seeds,
)
def test_a_composed_picture_is_that_of_opencv(
    size_px: tuple[int, int],
    of: tuple[str, str, str],
    lie: tuple[str, str],
    lies_apart: bool,
    is_gray: bool,
    cells: tuple[int, int] | None,
    seed: int,
) -> None:
    random = np.random.default_rng(seed)
    kept = None if cells is None else random.integers(0, 256, cells, dtype=np.uint8)
    was, now = (strided(image(random, size_px, kind), how) for kind, how in zip(of, lie, strict=False))
    visible: Any = np.stack([image(random, size_px, of[2]) for _ in range(3)], axis=2)
    if lies_apart:
        wide = np.zeros((visible.shape[0] + 2, visible.shape[1] + 3, 3), np.uint8)
        wide[1:-1, 2:-1] = visible
        visible = wide[1:-1, 2:-1]
    visible = was if is_gray else visible
    passes = both()
    for fused_y in (now, was):  # the second time with what is known of the share
        planes = {"visible": visible, "visible_y": was, "fused_y": fused_y}
        np.testing.assert_array_equal(*(one.compose(**planes, kept=kept, take=fresh) for one in passes))


@settings(max_examples=60, deadline=None)
@given(size_px=sizes, kind=kinds, how=st.sampled_from(["dense", "rows apart"]), most=st.integers(0, 4), seed=seeds)
def test_what_is_held_is_what_opencv_holds(size_px: tuple[int, int], kind: str, how: str, most: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    shown = image(random, size_px, kind)
    came = near(random, shown, most)
    made = [strided(came, how).copy() if how == "dense" else strided(came, how) for _ in range(2)]
    for passes, one in zip(both(), made, strict=True):
        passes.hold(one, shown=strided(shown, how), take=fresh)
    np.testing.assert_array_equal(*made)


@settings(max_examples=100, deadline=None)
@given(
    size_px=sizes,
    kind=kinds,
    first_px=st.integers(0, 7),
    largest_levels=st.floats(0, 300),
    blurred=st.booleans(),
    seed=seeds,
)
def test_borders_are_smoothed_as_by_opencv(
    size_px: tuple[int, int], kind: str, first_px: int, largest_levels: float, blurred: bool, seed: int
) -> None:
    random = np.random.default_rng(seed)
    came = image(random, size_px, kind)
    if blurred:
        came = np.asarray(cv2.blur(came, (5, 5)), np.uint8)
    first_px = min(first_px, len(came) - 8)
    borders = (len(came) - first_px) // 8
    made = [came.copy(), came.copy()]
    for passes, one in zip(both(), made, strict=True):
        passes.smooth(one, first_px=first_px, borders=borders, largest_levels=largest_levels)
    np.testing.assert_array_equal(*made)


@pytest.mark.parametrize("quality", [12, 100])
@pytest.mark.parametrize("stripes", [0.0, 5.0])
def test_pictures_are_the_same_with_kernels_and_without(quality: int, stripes: float) -> None:
    random = np.random.default_rng(2)
    still = cv2.resize(random.integers(40, 200, (6, 8, 3)).astype(np.uint8), (161, 122), interpolation=cv2.INTER_CUBIC)
    denoisers = [
        Denoiser(visible=True, thermal=True, note=lambda text: None, kernels=kernels) for kernels in (True, False)
    ]
    columns = random.normal(0, stripes, (1, 161))
    for index in range(24):
        moment = still + random.normal(0, 5, still.shape)
        moment[20:60, 3 * index : 3 * index + 20] = 220
        coded = cv2.imencode(".jpg", np.clip(moment, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        color = cv2.imdecode(coded, cv2.IMREAD_COLOR)
        assert color is not None
        gray = np.clip(cv2.cvtColor(color, cv2.COLOR_BGR2GRAY) + columns, 0, 255).astype(np.uint8)
        pair = FramePair(
            visible=make_frame(Band.VISIBLE, index * 40 * MS, image=np.asarray(color, np.uint8)),
            thermal=make_frame(Band.THERMAL, index * 40 * MS, image=gray),
            sequence=index,
        )
        made = [denoise(pair) for denoise in denoisers]
        for name in ("visible", "thermal"):
            np.testing.assert_array_equal(*(getattr(one, name).image for one in made))
        shown = [
            denoise.settled(one.visible.image.copy(), timestamp_ns=one.timestamp_ns)
            for denoise, one in zip(denoisers, made, strict=True)
        ]
        np.testing.assert_array_equal(*shown)
    assert "grain" in str(denoisers[0].state)
    assert ("columns" in str(denoisers[0].state)) == (stripes > 0)
