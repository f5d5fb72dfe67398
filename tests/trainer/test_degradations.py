from __future__ import annotations

import numpy as np
import pytest
from rtfusion_trainer.degradations import GIVEN, IGNORED, degrade


def pair():
    random = np.random.default_rng(0)
    return {name: random.random((48, 64), dtype=np.float32) for name in ("visible", "thermal")}


@pytest.mark.parametrize("change", [*IGNORED, *GIVEN])
def test_every_change_keeps_size_and_type_and_does_something(change):
    images = pair()
    before = {name: image.copy() for name, image in images.items()}
    changed = change(np.random.default_rng(1), images["visible"], images["thermal"])
    for image, original in zip(changed, images.values(), strict=True):
        assert image.shape == original.shape
        assert image.dtype == np.float32
    assert any(not np.array_equal(image, before[name]) for image, name in zip(changed, images, strict=True))
    for name, image in images.items():
        np.testing.assert_array_equal(image, before[name])


def test_what_is_seen_and_wanted_stays_in_range():
    random = np.random.default_rng(2)
    for _ in range(50):
        degraded = degrade(random, **pair())
        for image in vars(degraded).values():
            assert image.dtype == np.float32
            assert 0 <= image.min() <= image.max() <= 1


def test_the_same_seed_gives_the_same():
    first, second = (degrade(np.random.default_rng(3), **pair()) for _ in range(2))
    for name, image in vars(first).items():
        np.testing.assert_array_equal(image, getattr(second, name))
