"""A power cut costs a second of a recording, and what is left replays."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rig.power import can_mount, cuts


@pytest.mark.slow
def test_a_power_cut_costs_a_second(tmp_path: Path) -> None:
    if not can_mount():
        pytest.skip("a file system in a file cannot be mounted here: that needs root, loop devices and mkfs.ext4")
    for cut in cuts(tmp_path, count=2, seed=2):
        assert cut.fused == cut.pairs
        assert cut.lost_s <= 1.0
        assert all(missing_s is None or missing_s <= 3.0 for missing_s in cut.videos.values())
