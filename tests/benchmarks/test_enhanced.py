from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="LD-Lite runs in torch: pip install -e '.[train]'")

from benchmarks import enhanced
from rtfusion.errors import ConfigError
from rtfusion.types import Image8

SIZE_PX = 160


def half_blind() -> tuple[Image8, Image8]:
    """The visible band sees a pattern on the left alone, the thermal one another on the right alone."""
    random = np.random.default_rng(1)
    visible, thermal = (np.full((SIZE_PX, SIZE_PX), 100, np.uint8) for _ in range(2))
    visible[:, : SIZE_PX // 2] = random.integers(60, 140, (SIZE_PX, SIZE_PX // 2))
    thermal[:, SIZE_PX // 2 :] = random.integers(90, 110, (SIZE_PX, SIZE_PX // 2))
    return visible, thermal


def test_contrast_counts_where_only_the_thermal_band_sees() -> None:
    visible, thermal = half_blind()
    of_thermal = enhanced.blind_contrast(fused=thermal, visible=visible, thermal=thermal)
    assert of_thermal == pytest.approx(thermal[:, SIZE_PX // 2 + 16 :].std(), rel=0.1)
    assert enhanced.blind_contrast(fused=visible, visible=visible, thermal=thermal) < of_thermal / 10
    assert math.isnan(enhanced.blind_contrast(fused=thermal, visible=visible, thermal=visible))


def test_ratios_are_to_ldlite_picture_by_picture() -> None:
    pairs = [dict(zip(("visible_y", "thermal"), half_blind(), strict=True))]
    fuses = {
        enhanced.LDLITE: lambda visible_y, thermal: thermal,
        "half": lambda visible_y, thermal: (100 + (thermal.astype(np.int16) - 100) // 2).astype(np.uint8),
    }
    theirs, ours = enhanced.measure_scene("made", pairs, fuses)
    assert theirs["contrast_ratio"] == theirs["noise_ratio"] == 1
    assert ours["contrast_ratio"] == pytest.approx(0.5, abs=0.05)
    assert ours["noise_ratio"] == pytest.approx(0.5, abs=0.1)
    assert enhanced.table({"rows": [theirs, ours]}).count("\n| made |") == 2


def test_pictures_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has 0 night pictures"):
        enhanced.nights(tmp_path)
