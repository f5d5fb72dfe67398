"""Small archives of real files, and the trees that a batch makes of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from tests.capture.clips import write_clip

VIDEOS = ("drive/night", "drive/day", "yard")
STILLS = "stills"


def make_archive(
    root: Path, *, frames: int = 40, size_px: tuple[int, int] = (96, 64), videos: Sequence[str] = VIDEOS
) -> Path:
    """Pairs of videos and one pair of folders."""
    rng = np.random.default_rng(1)
    for name in videos:
        folder = root / name
        folder.mkdir(parents=True)
        for band in ("vi", "ir"):
            images = rng.integers(0, 256, (frames, size_px[1], size_px[0], 3), dtype=np.uint8)
            write_clip(folder / f"{band}.mp4", images, options={"preset": "ultrafast"})
    for band in ("vis", "thermal"):
        (root / STILLS / band).mkdir(parents=True)
        for stem in ("a", "b", "c"):
            image = rng.integers(0, 256, (48, 64), dtype=np.uint8)
            cv2.imwrite(str(root / STILLS / band / f"{stem}.png"), image)
    return root


def tree(root: Path) -> dict[str, str]:
    """Every file below ``root`` with its checksum, and every folder."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(root.rglob("*"))
    }
