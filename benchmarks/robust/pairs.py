"""Real pairs of the sets that nothing was trained on, and what is read of their fused pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, cast

import cv2
import numpy as np
import numpy.typing as npt

from rtfusion.capture.images import list_images
from rtfusion.types import Image8

Mask = npt.NDArray[np.bool_]


class Pair(NamedTuple):
    """A registered pair of one set."""

    name: str
    visible: Image8
    """(H, W, 3) BGR."""
    thermal: Image8
    """(H, W)."""


def pairs(shared: Path, *names: str, every: int = 1) -> Iterator[Pair]:
    """Every so many pairs of the evaluation sets with these names."""
    for name in names:
        folder = shared / "data" / "eval" / name
        thermal = {path.stem: path for path in list_images(folder / "ir", uri=str(folder / "ir")).values()}
        for path in list(list_images(folder / "vi", uri=str(folder / "vi")).values())[::every]:
            yield read_pair(f"{name} {path.stem}", visible=path, thermal=thermal[path.stem])


def read_pair(name: str, *, visible: Path, thermal: Path) -> Pair:
    """One pair of files."""
    return Pair(
        name,
        cast(Image8, cv2.imread(str(visible), cv2.IMREAD_COLOR)),
        cast(Image8, cv2.imread(str(thermal), cv2.IMREAD_GRAYSCALE)),
    )


def gradient_kept(*, fused_y: Image8, thermal: Image8, area: Mask) -> float | None:
    """Share of the thermal gradient in an area that the fused picture has in the same direction; None where there is none.

    Gradients are Sobel's over 8 after a Gaussian of 1 px; those up to 1 gray level per px do not count.
    """
    (fx, fy), (tx, ty) = _gradients(fused_y), _gradients(thermal)
    length = np.hypot(tx, ty)
    area = area & (length > 1)
    if area.sum() < 30:
        return None
    along = np.clip((fx * tx + fy * ty) / np.maximum(length, 1e-6), 0, length)
    return float(along[area].sum() / length[area].sum())


def _gradients(image: Image8) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    smooth = cv2.GaussianBlur(image.astype(np.float32), (0, 0), 1)
    x, y = (cv2.Sobel(smooth, cv2.CV_32F, *axes) / 8 for axes in ((1, 0), (0, 1)))
    return cast(npt.NDArray[np.float32], x), cast(npt.NDArray[np.float32], y)
