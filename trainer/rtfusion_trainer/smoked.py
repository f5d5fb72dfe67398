"""Pairs in smoke that was made: what a teacher shall be asked about where no recording of smoke is at hand.

A teacher's picture holds for the pair that it saw, so smoke cannot be put before a student alone. Here a share of the pairs is
written again as files of a set of their own, with the visible band behind smoke or haze (`rtfusion_trainer.degradations`).
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from rtfusion.errors import ConfigError
from rtfusion_trainer.degradations import in_smoke
from rtfusion_trainer.pairs import image_sets, read_pair

SET = "smoked"


def write_smoked(data: Path, out: Path, *, every: int, seed: int = 0) -> int:
    """Write every ``every``-th pair of ``data`` in smoke below ``out / SET``; gives how many there are.

    A pair that is there already is not written again, and what is in smoke is not put into it twice. The same pairs, seed and
    ``every`` give the same files.

    Raises:
        ConfigError: a picture cannot be read or written.
    """
    sets = image_sets(data)
    files = [(name, *pair) for name, pairs in sets.items() if name != SET for pair in pairs]
    chosen = files[::every]
    for index, (name, visible_file, thermal_file) in enumerate(chosen):
        stem = f"{name}-{visible_file.stem}"
        targets = [out / SET / band / f"{stem}.png" for band in ("vi", "ir")]
        if all(target.exists() for target in targets):
            continue
        visible, thermal = read_pair(visible_file, thermal_file)
        random = np.random.default_rng((seed, index))
        planes = {
            "visible": visible.astype(np.float32) / np.float32(255),
            "thermal": thermal.astype(np.float32) / np.float32(255),
        }
        seen = in_smoke(random, **planes)
        for target, picture in zip(targets, (np.rint(seen * 255).astype(np.uint8), thermal), strict=True):
            target.parent.mkdir(parents=True, exist_ok=True)
            if not cv2.imwrite(str(target), picture):
                raise ConfigError(f"cannot write {target}; choose another folder or free some space")
    return len(chosen)
