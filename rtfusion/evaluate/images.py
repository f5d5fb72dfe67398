"""The images of the sets that the suites measure on."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from rtfusion.errors import ConfigError
from rtfusion.types import Image8


def read_gray(path: Path) -> Image8:
    """The luminance of an image file, (H, W).

    Raises:
        ConfigError: it cannot be read as an image.
    """
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise ConfigError(f"cannot read {path} as an image")
    return image.astype(np.uint8, copy=False)
