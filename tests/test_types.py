from __future__ import annotations

import numpy as np
import pytest

from rtfusion.types import Band, Frame, FramePair, FusedFrame, PixelFormat
from tests.support import MS, make_frame


def test_repr_shows_shapes_not_pixels() -> None:
    frame = make_frame(Band.VISIBLE, 5 * MS, sequence=3)
    assert repr(frame) == "Frame(visible #3 64x48 bgr8 t=5.000 ms)"


@pytest.mark.parametrize(
    ("image", "pixel_format", "message"),
    [
        (np.zeros((4, 4), np.uint8), PixelFormat.BGR8, r"bgr8 image has shape \(4, 4\); expected \(H, W, 3\)"),
        (np.zeros((4, 4, 4), np.uint8), PixelFormat.BGR8, r"expected \(H, W, 3\)"),
        (np.zeros((4, 4, 3), np.uint8), PixelFormat.GRAY8, r"expected \(H, W\)"),
        (np.zeros((4, 4), np.uint8), PixelFormat.GRAY16, "dtype uint8; expected uint16"),
        (np.zeros((0, 4), np.uint8), PixelFormat.GRAY8, "empty image"),
    ],
)
def test_a_frame_that_lies_about_its_pixels_is_refused(
    image: np.ndarray, pixel_format: PixelFormat, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Frame(image=image, pixel_format=pixel_format, band=Band.THERMAL, timestamp_ns=0, sequence=0, received_ns=0)


def test_bands_cannot_be_swapped() -> None:
    visible, thermal = make_frame(Band.VISIBLE, 0), make_frame(Band.THERMAL, 7 * MS)
    with pytest.raises(ValueError, match="bands are swapped"):
        FramePair(visible=thermal, thermal=visible, sequence=0)
    assert FramePair(visible=visible, thermal=thermal, sequence=0).skew_ns == 7 * MS


def test_frames_are_frozen() -> None:
    frame = make_frame(Band.VISIBLE, 0)
    with pytest.raises(AttributeError):
        frame.sequence = 1  # type: ignore[misc]


def test_a_fused_frame_is_bgr() -> None:
    gray = np.zeros((4, 4), np.uint8)
    with pytest.raises(ValueError, match=r"expected \(H, W, 3\) uint8"):
        FusedFrame(
            image=gray,
            visible=gray,
            thermal=gray,
            timestamp_ns=0,
            thermal_timestamp_ns=0,
            received_ns=0,
            sequence=0,
            fuser="x",
        )
