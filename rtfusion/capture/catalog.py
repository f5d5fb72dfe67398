"""What can be a source, and every parameter that it takes, for a person: `rtfusion sources`.

The parameters of every source and of ``synthetic:`` are told where they are read, in the tables of those modules. The converters
of the others say what is legal; what they are for stands here, and a test holds both together.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple


class Parameter(NamedTuple):
    """One parameter of an address."""

    written: str
    """As it is written, with an example or what stands for its value: ``fps=25``."""
    what: str
    """What it says."""

    @property
    def name(self) -> str:
        """The part before the equals sign."""
        return self.written.partition("=")[0]


class SourceKind(NamedTuple):
    """One kind of source."""

    title: str
    examples: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    mark: str = "?"
    """What stands before the first parameter; further ones follow after ``&``."""


_PALETTE = Parameter("palette=jet", "palette of colored thermal pictures; auto recognizes it, none takes the luminance")
_FPS = "its frames came at this rate, whatever their stamps say"
_BITS = Parameter("bits=12", "depth of visible pictures that are stored in 16 bits")
_START = Parameter("start=2.5", "so many seconds of its beginning are left out; 1:30 too")
_UNIT = "what thermal counts are: kelvin, decikelvin or centikelvin"

VIDEO = (
    Parameter("fps=10", _FPS),
    Parameter("stream=1", "the video track: its number from 0, or visible or thermal where one is named so"),
    Parameter("range=full", "its levels span 0..255 (limited: 16..235), whatever they are tagged with"),
    _BITS,
    _PALETTE,
    Parameter("profile=p2pro", "the thermal camera whose stream was recorded as it came"),
    Parameter("unit=centikelvin", _UNIT),
    _START,
    Parameter("end=12.5", "what comes after so many seconds is left out"),
)
IMAGES = (
    Parameter("fps=25", "it is a video of this rate, instead of unrelated stills"),
    Parameter(
        "match=order", "how two folders are matched: names, time, order; or a pattern of the files, as in *_T.jpg"
    ),
    _START,
    _BITS,
    _PALETTE,
    Parameter("unit=celsius", f"{_UNIT}; celsius too"),
    Parameter("stream=thermal", "of radiometric JPEG, the picture of this band"),
)
V4L2 = (
    Parameter("size=640x480", "the mode that is asked for"),
    Parameter("fps=30", "the rate that is asked for"),
    Parameter("format=mjpeg", "the pixel format that is asked for, such as mjpeg, yuyv, gray, y16"),
    Parameter("profile=lepton", "the layout of a thermal camera; without it, it is recognized"),
    _PALETTE,
)
NETWORK = (
    Parameter("transport=udp", "of RTSP: UDP instead of TCP"),
    Parameter("clock=auto", "of RTSP: what ties its times to ours"),
    Parameter("poll_hz=5", "of HTTP: how often a snapshot is fetched"),
    _PALETTE,
)
SESSION = (Parameter("strict=true", "a damaged segment is an error instead of being left out"),)


def catalog() -> Mapping[str, SourceKind]:
    """Every kind of source by a short name; ``every`` holds what all but sessions take."""
    from rtfusion.capture import parameters
    from rtfusion.synthetic import parameters as of_synthetic

    synthetic = tuple(Parameter(f"{written}=", what) for written, what in table_of(of_synthetic.__doc__))
    return {
        "every": SourceKind("every source takes", (), table_of(parameters.__doc__)),
        "video": SourceKind("a video file", ("clip.mp4", "video:clip.mkv"), VIDEO),
        "images": SourceKind("a folder of images, or one image", ("folder/", "images:folder?fps=25"), IMAGES),
        "v4l2": SourceKind(
            "a camera of this machine (Linux)", ("/dev/video0", "usb:1e4e:0100", "v4l2:/dev/video0?size=640x480"), V4L2
        ),
        "network": SourceKind(
            "a network camera", ("rtsp://HOST/PATH", "http://HOST/video.mjpg", "udp://0.0.0.0:5000"), NETWORK, mark="#"
        ),
        "session": SourceKind(
            "a recorded session, for both bands", ("session:recordings/2026-11-21T05-45-12Z-5f0c9e",), SESSION
        ),
        "synthetic": SourceKind("a street filmed by both cameras", ("synthetic:?scene=smoke&fps=30",), synthetic),
    }


def table_of(text: str | None) -> tuple[Parameter, ...]:
    """The rows of a simple table of a docstring: a name or an example in double backquotes, then what it says.

    Further lines of a row begin with spaces. Python started with -OO has no docstrings, and so nothing to tell.
    """
    rows: list[tuple[str, str]] = []
    is_inside = False
    for line in (text or "").splitlines():
        if re.fullmatch(r"=+ +=+", line):
            is_inside = not is_inside
        elif is_inside and (row := re.fullmatch(r"``(.+?)``\s+(.+)", line)):
            rows.append((row[1], row[2]))
        elif is_inside and line.strip() and rows:
            rows[-1] = rows[-1][0], f"{rows[-1][1]} {line.strip()}"
    return tuple(Parameter(written, what.replace("``", "")) for written, what in rows)
