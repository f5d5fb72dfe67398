"""One luminance: a color file gives the metrics and the trainer what the runtime makes of it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from rtfusion.errors import ConfigError
from rtfusion.evaluate.reading import read_luminance
from rtfusion.fusion.color import luminance


def colorful(path: Path) -> Path:
    """A file with saturated colors, of which decoders have their own gray."""
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    cv2.imwrite(str(path), cv2.resize(image, (64, 48), interpolation=cv2.INTER_NEAREST))
    return path


def test_color_of_a_jpeg_becomes_what_the_runtime_sees(tmp_path: Path) -> None:
    path = colorful(tmp_path / "a.jpg")
    seen = luminance(np.asarray(cv2.imread(str(path), cv2.IMREAD_COLOR), np.uint8))
    assert np.array_equal(read_luminance(path), seen)
    of_decoder = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    assert of_decoder is not None
    assert np.abs(of_decoder.astype(int) - seen).max() > 2  # what is avoided


def test_gray_stays_as_it_is(tmp_path: Path) -> None:
    image = np.random.default_rng(1).integers(0, 256, (20, 30), np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    assert np.array_equal(read_luminance(tmp_path / "a.png"), image)


def test_what_is_no_8_bit_picture_is_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "deep.png"), np.full((4, 4), 5000, np.uint16))
    with pytest.raises(ConfigError, match="uint16 pixels"):
        read_luminance(tmp_path / "deep.png")
    with pytest.raises(ConfigError, match="cannot read"):
        read_luminance(tmp_path / "none.png")
