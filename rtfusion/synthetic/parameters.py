"""The parameters of ``synthetic:``, and what they mean for the registration of the two cameras.

===============  ===================================================================================================
``scene``        ``day``, ``night`` or ``smoke`` (which hides people from the visible camera)
``fps``          frames per second; ``thermal_fps`` for a thermal camera of another rate
``frames``       how many of the visible camera, the thermal one plays for as long; 0 is endless
``size``         WxH; ``thermal_size`` for a thermal camera of another size
``seed``         chooses people, vehicles, textures and every random number
``bits``         8: thermal gray levels; 16: thermal counts. The visible camera is always BGR, 8 bit
``noise``        standard deviation of the noise, in gray levels of 8 bits
``delay_ms``     thermal stamp minus visible stamp of one event
``jitter_ms``    standard deviation of the moments of capture, cut at 0.45 periods; the stamps tell the true moment
``drop``         probability that the driver loses a frame, which leaves a gap in the sequence
``live``         true: a camera on the clock, that does not wait for a slow reader
``misalign``     DX,DY,ROT_DEG,SCALE: where the thermal picture lies in the visible one: scaled and turned (clockwise)
                 about the middle, then shifted by visible pixels
``homography``   the same as nine numbers h11,..,h33: a thermal pixel x appears in the visible image at H x
``baseline_m``   how far to the right of the visible camera the thermal one is, in meters: what is near is then displaced, and
                 the homography holds for what is infinitely far
``walkers``      distances in meters, such as 2,5,20: at each one more person walks
``prerender``    render this many frames when opened, then cycle through them: for unthrottled benchmarks
===============  ===================================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from rtfusion.capture.uri import SourceUri, parse_source, rate_hz, read_query
from rtfusion.errors import ConfigError
from rtfusion.synthetic import KINDS, scaling
from rtfusion.text import parse_size_px
from rtfusion.types import Band, PixelFormat


@dataclass(frozen=True, slots=True)
class _Key:
    """One key of the URI: how its text is read, what is legal."""

    convert: Callable[[str], Any]
    holds: Callable[[Any], bool]
    legal: str

    def read(self, text: str) -> Any:
        """The value of a text; ValueError says what was expected."""
        try:
            value = self.convert(text)
        except ValueError:
            value = None
        if value is None or not self.holds(value):
            raise ValueError(f"expected {self.legal}")
        return value


def _key(default: Any, convert: Callable[[str], Any], holds: Callable[[Any], bool], legal: str) -> Any:
    return field(default=default, metadata={"key": _Key(convert, holds, legal)})


def _number_key(default: float, convert: type, least: float, most: float, legal: str) -> Any:
    return _key(default, convert, lambda value: least <= value <= most, legal)


def _rate_key(default: float | None) -> Any:
    legal = "frames per second above 0 and up to 1000, such as 30 or 30000/1001"
    return _key(default, rate_hz, lambda rate: 0 < rate <= 1000, legal)


def _size_key(default: tuple[int, int] | None) -> Any:
    legal = "WIDTHxHEIGHT in pixels, 32 to 4096 each, such as 640x480"
    return _key(default, parse_size_px, lambda size: len(size) == 2 and all(32 <= side <= 4096 for side in size), legal)


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(number) for number in text.split(","))


def _misalign_holds(numbers: tuple[float, ...]) -> bool:
    return len(numbers) == 4 and bool(np.isfinite(numbers).all()) and 0.1 <= numbers[3] <= 10.0


def _homography_holds(numbers: tuple[float, ...]) -> bool:
    return len(numbers) == 9 and bool(np.isfinite(numbers).all()) and numbers[8] != 0.0


_MISALIGN = "DX,DY,ROT_DEG,SCALE with a scale from 0.1 to 10, such as 12,-5,1.5,1.04"


@dataclass(frozen=True, kw_only=True, slots=True)
class SyntheticParameters:
    """The parameters of ``synthetic:``; the table of the module says what each means.

    Raises:
        ConfigError: a value is not legal; the message names it and says what is.
    """

    scene: str = _key("day", str, lambda kind: kind in KINDS, f"{', '.join(KINDS[:-1])} or {KINDS[-1]}")
    fps: float = _rate_key(30.0)
    frames: int = _number_key(300, int, 0, 10_000_000, "a number of frames up to 10000000, 0 is endless")
    size_px: tuple[int, int] = _size_key((640, 480))
    seed: int = _number_key(7, int, 0, 2**32 - 1, "an integer from 0 to 4294967295")
    bits: int = _key(8, int, lambda bits: bits in {8, 16}, "8 (gray levels) or 16 (counts)")
    noise: float = _number_key(2.0, float, 0, 64, "a standard deviation in gray levels from 0 to 64")
    delay_ms: float = _number_key(0.0, float, -1000, 1000, "milliseconds from -1000 to 1000")
    jitter_ms: float = _number_key(0.0, float, 0, 1000, "milliseconds from 0 to 1000")
    drop: float = _key(0.0, float, lambda share: 0 <= share < 1, "a probability from 0 to below 1")
    live: bool = _key(
        False,
        lambda text: {"true": True, "false": False}.get(text.lower()),
        lambda live: isinstance(live, bool),
        "true or false",
    )
    misalign: tuple[float, ...] | None = _key(None, _numbers, _misalign_holds, _MISALIGN)
    thermal_size_px: tuple[int, int] | None = _size_key(None)
    thermal_fps: float | None = _rate_key(None)
    homography: tuple[float, ...] | None = _key(
        None, _numbers, _homography_holds, "nine numbers h11,..,h33 with h33 not 0"
    )
    baseline_m: float = _number_key(0.0, float, -1, 1, "meters from -1 to 1")
    walkers: tuple[float, ...] = _key(
        (),
        _numbers,
        lambda far_m: all(1.5 <= one <= 100 for one in far_m),
        "distances from 1.5 to 100 meters, such as 2,5,20",
    )
    prerender: int = _number_key(0, int, 0, 2000, "a number of frames from 0 to 2000")

    def __post_init__(self) -> None:
        for name, (attribute, key) in _keys().items():
            value = getattr(self, attribute)
            if value is not None and not key.holds(value):
                raise ConfigError(f"synthetic: {name}={value}: expected {key.legal}")
        if self.misalign is not None and self.homography is not None:
            raise ConfigError(
                "synthetic: misalign and homography are both given; give one, both say where thermal pixels lie"
            )
        if not _looks_forward(visible_from_thermal_px(self), self.size_of(Band.THERMAL)):
            raise ConfigError(
                f"synthetic: homography={self.homography}: this matrix does not map the thermal image onto the visible plane; "
                "expected an invertible matrix that keeps every corner before the camera"
            )

    @classmethod
    def parse(cls, query: str) -> SyntheticParameters:
        """Read ``key=value&key=value``.

        Raises:
            ConfigError: an unknown key (with a suggestion), a key given twice, or a value that is not legal.
        """
        return cls.of(parse_source(f"synthetic:?{query}"))

    @classmethod
    def of(cls, uri: SourceUri) -> SyntheticParameters:
        """Take the query of a URI; raises as `parse`."""
        keys = _keys()
        values = read_query(uri, {name: key.read for name, (_, key) in keys.items()})
        return cls(**{keys[name][0]: value for name, value in values.items()})

    def size_of(self, band: Band) -> tuple[int, int]:
        """(width, height) of the camera of a band, in pixels."""
        return self.size_px if band is Band.VISIBLE or self.thermal_size_px is None else self.thermal_size_px

    def rate_of(self, band: Band) -> float:
        """Frames per second of the camera of a band."""
        return self.fps if band is Band.VISIBLE or self.thermal_fps is None else self.thermal_fps

    def frames_of(self, band: Band) -> int:
        """How many frames the camera of a band makes, 0 for no end; both cameras run equally long."""
        return math.ceil(self.frames * self.rate_of(band) / self.fps - 1e-6)

    def pixel_format_of(self, band: Band) -> PixelFormat:
        """The format that the camera of a band delivers."""
        if band is Band.VISIBLE:
            return PixelFormat.BGR8
        return PixelFormat.GRAY8 if self.bits == 8 else PixelFormat.GRAY16


def _keys() -> dict[str, tuple[str, _Key]]:
    """Key of the URI -> the attribute that it sets, and what is legal."""
    return {of.name.removesuffix("_px"): (of.name, of.metadata["key"]) for of in fields(SyntheticParameters)}


def visible_from_thermal_px(parameters: SyntheticParameters) -> npt.NDArray[np.float64]:
    """The truth of the registration: a thermal pixel x appears in the visible image at H x; (3, 3), pixel centers at integers."""
    if parameters.homography is not None:
        matrix = np.asarray(parameters.homography, np.float64).reshape(3, 3)
        return matrix / matrix[2, 2]
    resized = scaling(dst_size_px=parameters.size_px, src_size_px=parameters.size_of(Band.THERMAL))
    if parameters.misalign is None:
        return resized
    shift_x, shift_y, turn_deg, scale = parameters.misalign
    cos, sin = scale * np.cos(np.deg2rad(turn_deg)), scale * np.sin(np.deg2rad(turn_deg))
    middle = (np.asarray(parameters.size_px, np.float64) - 1) / 2
    moved = np.eye(3)
    moved[:2, :2] = [[cos, -sin], [sin, cos]]
    moved[:2, 2] = middle - moved[:2, :2] @ middle + (shift_x, shift_y)
    return np.asarray(moved @ resized, np.float64)


def _looks_forward(matrix: npt.NDArray[np.float64], size_px: tuple[int, int]) -> bool:
    """True for an invertible homography that keeps all of an image on one side of the camera."""
    width, height = size_px
    corners = np.array([(0, 0, 1), (width, 0, 1), (width, height, 1), (0, height, 1)], np.float64)
    return bool(np.linalg.cond(matrix) < 1e12 and (corners @ matrix[2] > 1e-3).all())
