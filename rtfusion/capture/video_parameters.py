"""What a user says of a video file by its URI."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rtfusion.capture.depth import bits
from rtfusion.capture.palette import AUTO, palette_name
from rtfusion.capture.parameters import one_of, seconds
from rtfusion.capture.raw_stream import profile_name
from rtfusion.capture.stills import KELVIN_PER_NUMBER
from rtfusion.capture.uri import rate_hz
from rtfusion.types import Band


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoParameters:
    """What a user says of a video by its URI."""

    fps: float | None = None
    """Its frames came at this rate, whatever their stamps say."""
    stream: str | None = None
    """Which track: its number among the video tracks, or ``visible`` or ``thermal`` where one is named so."""
    range: str | None = None
    """``full`` or ``limited``: what its levels span, whatever they are tagged with."""
    bits: int | None = None
    """Depth of visible pictures that are stored in 16 bits."""
    palette: str = AUTO
    """The palette that colored thermal pictures, ``auto``, or ``none``."""
    profile: str | None = None
    """The camera whose stream was recorded as it came (`rtfusion.capture.profiles`), of thermal sources."""
    unit: str | None = None
    """What the counts of thermal pictures are: ``kelvin``, ``decikelvin`` or ``centikelvin``."""
    start: float = 0.0
    """Seconds from its beginning that are left out."""
    end: float = math.inf
    """Seconds from its beginning at which it is taken to be over."""


def _track(text: str) -> str:
    if not (text.isdecimal() or text in (Band.VISIBLE.value, Band.THERMAL.value)):
        raise ValueError("expected the number of a video track, such as 1, or visible or thermal")
    return text


CONVERTERS: Mapping[str, Callable[[str], Any]] = {
    "fps": rate_hz,
    "stream": _track,
    "range": one_of("full", "limited"),
    "bits": bits,
    "palette": palette_name,
    "profile": profile_name,
    "unit": one_of(*KELVIN_PER_NUMBER),
    "start": seconds,
    "end": seconds,
}
"""The parameters that video files take."""
