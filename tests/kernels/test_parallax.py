"""Where everything of the thermal picture lies, compiled, against OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from rtfusion.kernels.parallax import CompiledSearch, open_search
from rtfusion.registration.likeness import OpenCvSearch, tried_between
from rtfusion.types import Image8
from tests.support import needs_kernels

pytestmark = needs_kernels


def picture(random: np.random.Generator, size_px: tuple[int, int]) -> Image8:
    coarse = random.integers(0, 256, (size_px[1] // 8 + 1, size_px[0] // 8 + 1)).astype(np.uint8)
    whole = cv2.resize(coarse, size_px, interpolation=cv2.INTER_CUBIC).astype(np.int16)
    return np.clip(whole + random.integers(-20, 21, whole.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("direction", [(-1.0, 0.0), (0.0, 1.0), (0.6, -0.8)])
@pytest.mark.parametrize(
    ("size_px", "ends_px"), [((320, 240), (-4.2, 18.2)), ((132, 36), (-7.0, 7.0)), ((36, 132), (0.0, 31.0))]
)
def test_what_is_found_is_what_opencv_finds(
    size_px: tuple[int, int], ends_px: tuple[float, float], direction: tuple[float, float], dense: bool
) -> None:
    random = np.random.default_rng(size_px[0])
    thermal = picture(random, size_px)
    visible = cv2.warpAffine(
        255 - thermal, np.array([[1.0, 0, -3 * direction[0]], [0, 1.0, -3 * direction[1]]]), size_px
    )
    seen = np.ones(size_px[::-1], np.float32)
    seen[:, : size_px[0] // 4] = 0  # half of what it does not see lies inside
    gray = cv2.resize(visible, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    tried = tried_between(*ends_px, direction=direction, layer_px=3.0, scale=2.0)
    pictures = {"visible": np.asarray(visible, np.uint8), "thermal": thermal, "gray": np.asarray(gray, np.uint8)}
    found, wanted = (kind(tried, seen=seen, dense=dense)(**pictures) for kind in (CompiledSearch, OpenCvSearch))
    assert found.px.shape == (size_px[1] // 2, size_px[0] // 2)
    np.testing.assert_allclose(found.lead, wanted.lead, atol=1e-4)
    # where two displacements are as good as one another, rounding decides
    assert (np.abs(found.px - wanted.px) > 0.02).mean() < 0.002
    assert 0 < (wanted.lead > 0.02).mean() < 1


def test_it_is_used_again_for_other_pictures() -> None:
    """Nothing of a picture stays for the next."""
    random = np.random.default_rng(5)
    seen, tried = np.ones((64, 96), np.float32), tried_between(-6.0, 9.0, direction=(1.0, 0.0), layer_px=3.0, scale=2.0)
    search = CompiledSearch(tried, seen=seen, dense=True)
    sets = [
        {"visible": picture(random, (96, 64)), "thermal": picture(random, (96, 64)), "gray": picture(random, (48, 32))}
        for _ in "ab"
    ]
    first, second, again = (search(**pictures) for pictures in (*sets, sets[0]))
    np.testing.assert_array_equal(first.px, again.px)
    np.testing.assert_array_equal(first.lead, again.lead)
    assert (first.px != second.px).any()


def test_what_it_cannot_take_is_refused() -> None:
    tried = tried_between(-6.0, 9.0, direction=(1.0, 0.0), layer_px=3.0, scale=2.0)
    with pytest.raises(ValueError, match="multiples of 4"):
        CompiledSearch(tried, seen=np.ones((62, 96), np.float32), dense=True)
    search = CompiledSearch(tried, seen=np.ones((64, 96), np.float32), dense=True)
    right, wrong = np.zeros((64, 96), np.uint8), np.zeros((64, 95), np.uint8)
    with pytest.raises(ValueError, match="expected"):
        search(visible=right, thermal=wrong, gray=np.zeros((32, 48), np.uint8))


def test_what_is_wanted_is_opened() -> None:
    tried, seen = tried_between(-6.0, 9.0, direction=(1.0, 0.0), layer_px=3.0, scale=2.0), np.ones((64, 96), np.float32)
    assert isinstance(open_search(tried, seen=seen, dense=True, kernels=True), CompiledSearch)
    assert isinstance(open_search(tried, seen=seen, dense=True, kernels=False), OpenCvSearch)
