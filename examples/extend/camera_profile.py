"""A camera profile of your own: a layout of raw counts that rtfusion does not know yet, tried on a recording of it.

    python examples/extend/camera_profile.py

The camera is made up: 64x48 pixels of 14 bits, above them two rows of status, and 0.04 kelvin a count.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np

import rtfusion
from rtfusion.capture.profiles import Profile, Size, Words, add_profile

WIDTH, HEIGHT, STATUS_ROWS = 64, 48, 2


def below_the_status(words: Words, size_px: Size) -> Words:
    """The counts in a buffer of (H, W) words."""
    return words[STATUS_ROWS : STATUS_ROWS + size_px[1], : size_px[0]]


PROFILE = Profile(
    name="mycam",
    fourccs=("Y16",),
    sizes={(WIDTH, HEIGHT + STATUS_ROWS): (WIDTH, HEIGHT)},
    counts_of=below_the_status,
    kelvin_per_count=0.04,
    usb_ids=frozenset({"1234:5678"}),
)


def record(path: Path, buffers: Sequence[Words]) -> None:
    """Write buffers as the camera sends them, without loss, as 16-bit gray."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("ffv1", rate=9)
        stream.height, stream.width = buffers[0].shape
        stream.pix_fmt = "gray16le"
        for words in buffers:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(words, format="gray16le")))
        output.mux(stream.encode())


def main() -> None:
    """Record three buffers of a scene of 20 degrees with a warm hand in it, and read them by the profile."""
    add_profile(
        PROFILE
    )  # before a source is opened; in the project it is one entry of the table in rtfusion/capture/profiles.py
    scene = np.full((HEIGHT + STATUS_ROWS, WIDTH), round(293.15 / 0.04), np.uint16)
    scene[:STATUS_ROWS] = 0xFFFF  # status, not a picture
    scene[20:30, 24:40] = round(306.15 / 0.04)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "mycam.mkv"
        record(path, [scene] * 3)
        source = rtfusion.open_source(f"{path}?profile=mycam", band=rtfusion.Band.THERMAL)
        frame = source.read(timeout_s=5.0)
        source.close()
    celsius = frame.image * frame.kelvin_per_count - 273.15
    print(frame.image.shape, frame.image.dtype, f"{celsius.min():.1f} to {celsius.max():.1f} degrees Celsius")


if __name__ == "__main__":
    main()
