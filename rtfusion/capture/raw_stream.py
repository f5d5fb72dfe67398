"""What a thermal camera sent, recorded as it came: frames that hold counts in the layout of a profile, not a picture.

A recorder takes two bytes per pixel for YUYV, for want of a better name, and its codec parts them into planes: put together
again, they are the words of the camera. That is possible only where nothing was lost in between.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import av
import numpy as np

from rtfusion.capture.pixels import plane_pixels
from rtfusion.capture.profiles import PROFILES, CountsDecoder, Picture, Profile, Size, Words
from rtfusion.capture.seek import KINDS, LAYOUTS, SeekDecoder

LEAST_KELVIN, USUAL_KELVIN = 200.0, (223.0, 423.0)
"""Pixels are hardly ever colder, and half of a scene is within these: what a picture would mean as counts is not."""
PLAUSIBLE_SHARE = 0.98
RECORDED: Mapping[str, Profile] = ChainMap({name: layout.profile for name, layout in LAYOUTS.items()}, PROFILES)
"""The profiles that a recorded stream may have: those of cameras that V4L2 knows, and of others."""

HEADERLESS = (".raw", ".bin")
"""What files are called that hold frames and nothing else."""

_YUYV, _Y16 = "YUYV", "Y16"


def profile_name(text: str) -> str:
    """Read the name of a profile; ValueError: it is none."""
    if text not in RECORDED:
        raise ValueError(f"expected one of {', '.join(RECORDED)}")
    return text


def headerless(path: Path, *, asked: str | None) -> dict[str, str] | None:
    """How FFmpeg reads a file that holds the frames of a camera and nothing else; None for other files.

    Such a file is called so, and the profile that is ``asked`` for has one size of which it holds whole frames, or no other size.
    """
    sizes = () if asked is None or path.suffix.lower() not in HEADERLESS else tuple(RECORDED[asked].sizes or ())
    fitting = [size for size in sizes if len(sizes) == 1 or path.stat().st_size % (2 * size[0] * size[1]) == 0]
    if asked is None or len(fitting) != 1:
        return None
    ((width, height),) = fitting
    pixel_format = "gray16le" if _Y16 in RECORDED[asked].fourccs else "yuyv422"
    return {"video_size": f"{width}x{height}", "pixel_format": pixel_format}


class RawStream:
    """Decodes the frames of a recorded stream by the profile of its camera."""

    def __init__(self, profile: Profile, size_px: Size) -> None:
        self.profile = profile
        self._seek = SeekDecoder(LAYOUTS[profile.name]) if profile.name in LAYOUTS else None
        self._decode: Callable[[Words], Picture | None] = self._seek or CountsDecoder(profile, size_px)

    @property
    def remembers(self) -> bool:
        """True where a frame tells how later ones are to be read."""
        return self._seek is not None

    @property
    def notes(self) -> list[str]:
        """What a person should know of the frames so far."""
        return [] if self._seek is None else self._seek.notes

    def __call__(self, frame: av.VideoFrame) -> Picture | None:
        """The counts of a frame, None for one that is no picture of the scene; ValueError: it holds no words of a camera."""
        words = words_of(frame)
        if words is None:
            raise ValueError(f"a {frame.format.name} frame holds no counts of a camera")
        return self._decode(words[1])


def raw_stream_of(frame: av.VideoFrame, *, asked: str | None) -> RawStream | None:
    """How to decode a recorded thermal stream by its first frame; None for pictures.

    By the profile that is ``asked`` for; else by the size, where the counts would mean temperatures that there are.

    Raises:
        ValueError: the profile that is asked for has other frames.
    """
    size_px = frame.width, frame.height
    words = words_of(frame)
    if asked is not None:
        profile = RECORDED[asked]
        if profile.counts_of is None:
            return None
        if words is None or not profile.fits(words[0], size_px):
            sizes = (
                "any size"
                if profile.sizes is None
                else ", ".join(f"{width}x{height}" for width, height in profile.sizes)
            )
            raise ValueError(
                f"its frames are {size_px[0]}x{size_px[1]} {frame.format.name}; the profile {asked} has {sizes} in "
                f"{' or '.join(profile.fourccs)}, recorded without loss"
            )
        return RawStream(profile, size_px)
    if words is None:
        return None
    for profile in RECORDED.values():
        fits = profile.sizes is not None and profile.counts_of is not None and profile.fits(words[0], size_px)
        if fits and _is_of_camera(profile, size_px, words[1]):
            return RawStream(profile, size_px)
    return None


def _is_of_camera(profile: Profile, size_px: Size, words: Words) -> bool:
    """True where a frame can only be of this camera: by rows about the counts, or by the temperatures it would show."""
    if profile.name in LAYOUTS:
        return LAYOUTS[profile.name].kind_of(words) in KINDS
    if size_px == profile.image_size_px(size_px):
        return False  # counts alone are read as they are, whoever sent them
    picture = CountsDecoder(profile, size_px)(words)
    if picture.kelvin_per_count is None or profile.telemetry:
        return profile.geometry_tells or profile.telemetry
    kelvin = picture.image * picture.kelvin_per_count
    is_warm = np.count_nonzero(kelvin > LEAST_KELVIN) >= PLAUSIBLE_SHARE * kelvin.size
    return bool(is_warm and USUAL_KELVIN[0] < np.median(kelvin) < USUAL_KELVIN[1])


def words_of(frame: av.VideoFrame) -> tuple[str, Words] | None:
    """A frame as the driver's format and (H, W) words of 16 bits, a view where it can be; None for formats that hold none."""
    name = frame.format.name
    if name in ("gray16le", "gray16be"):
        return _Y16, plane_pixels(frame.planes[0], "<u2" if name.endswith("le") else ">u2")
    if name == "yuyv422":
        plane = frame.planes[0]
        rows: Any = np.ndarray((plane.height, frame.width), "<u2", memoryview(plane), strides=(plane.line_size, 2))
        return _YUYV, rows
    if name in ("yuv422p", "yuvj422p") and frame.width % 2 == 0:
        words, blue, red = (plane_pixels(plane, "u1").astype(np.uint16) for plane in frame.planes)
        words[:, 0::2] |= blue << 8
        words[:, 1::2] |= red << 8
        return _YUYV, words
    return None
