"""Pictures of files as luminance, in the one way in which the runtime, the metrics and the trainer see them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from rtfusion.errors import ConfigError
from rtfusion.types import Image8


def read_luminance(path: Path) -> Image8:
    """The BT.601 luminance of an image file, (H, W) uint8, of color as the decoder gives it.

    A JPEG decoder that is asked for gray gives its own luminance, which differs from that by up to 13 levels.

    Raises:
        ConfigError: it cannot be read as an image, or has other than 8 bits.
    """
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ConfigError(f"cannot read {path} as an image")
    if image.dtype != np.uint8:
        raise ConfigError(f"{path} has {image.dtype} pixels; expected 8 bit: convert it first")
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_BGRA2GRAY if image.shape[2] == 4 else cv2.COLOR_BGR2GRAY)
    return image.astype(np.uint8, copy=False)
