"""The formats of thermal cameras: where in a buffer the counts are, what a count means, when the shutter is closed.

A buffer is decoded by the geometry that was negotiated, never by what a library believes the image to be. Raw counts
are kept as they are; temperatures are only computed for display.

=========== ============================================ ================ =====================================================
profile     cameras                                      buffer           layout
=========== ============================================ ================ =====================================================
y16         any that sends ``Y16``                       any              one count per pixel
lepton      FLIR Lepton 2.x, 3.x on a PureThermal        80x60, 160x120   counts; with telemetry 80x63 and 160x122: the rows below
                                                                          are words of status (shutter, TLinear, frame counter)
boson       FLIR Boson                                   320x256, 640x512 counts; further rows, where there are any, are left out
p2pro       InfiRay P2 Pro, Topdon TC001                 256x384 YUYV     picture above, counts below; kelvin = counts / 64
tc002c      Topdon TC002C Duo                            512x484 YUYV     96 lines of counts of 256x192, two rows in each; below
                                                                          them a picture; kelvin = counts / 16
ht301       HT-301, Xtherm T2 and T3                     384x292, 256x196 counts, then 4 rows of calibration data
gray8       any, toned by the camera                     any              the luminance of the picture
=========== ============================================ ================ =====================================================

Not run on hardware: layouts are from public descriptions of these cameras, and tested on buffers made by this project.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rtfusion.capture.v4l2_abi import CID_ZOOM_ABSOLUTE
from rtfusion.errors import ConfigError
from rtfusion.types import Image, PixelFormat

Words = npt.NDArray[np.uint16]
Size = tuple[int, int]

DEEP_BITS = {"Y16": 16, "Y16-BE": 16, "Y14": 14, "Y12": 12, "Y10": 10}
"""Gray formats of two bytes per pixel, and how many bits of them are used."""
RAW_FOURCCS = ("Y16", "Y16-BE", "YUYV")
"""Formats of two bytes per pixel in which cameras send counts; some call them YUYV for want of a better name."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Picture:
    """The content of one buffer."""

    image: Image
    """A fresh array."""
    pixel_format: PixelFormat = PixelFormat.GRAY16
    kelvin_per_count: float | None = None
    shutter: bool = False
    """The camera says that its shutter is closed."""
    repeated: bool = False
    """The camera says that it sent this image before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """One layout. ``sizes`` maps the sizes of buffers to those of the images in them; None accepts any."""

    name: str
    fourccs: tuple[str, ...]
    sizes: Mapping[Size, Size] | None
    counts_of: Callable[[Words, Size], Words] | None
    """The counts in a buffer, as (H, W) words, for the size of the image; None: decoded as any picture."""
    kelvin_per_count: float | None = None
    telemetry: bool = False
    """Rows below the counts, where there are any, are those of a Lepton: see `LeptonTelemetry`."""
    usb_ids: frozenset[str] = frozenset()
    """``vendor:product`` of cameras that are known to send it."""
    names: re.Pattern[str] | None = None
    """The names that drivers have for these cameras: where the USB identity is not known, as in a container without sysfs."""
    geometry_tells: bool = True
    """Recognized by the size of its buffers alone; False: of the cameras in ``usb_ids``, or called by one of ``names``, only."""
    sees_shutter: bool = False
    """The camera itself says when its shutter is closed; of others it is told from the picture."""
    commands: tuple[tuple[int, int], ...] = ()
    """Controls to set when the stream has started."""

    def fits(self, fourcc: str, size_px: Size) -> bool:
        """True for buffers that can be of this profile."""
        return (not self.fourccs or fourcc in self.fourccs) and (self.sizes is None or size_px in self.sizes)

    def is_of(self, usb_id: str | None, name: str) -> bool:
        """True for a camera that is known to send it, by its USB identity or its name."""
        return usb_id in self.usb_ids or (self.names is not None and self.names.search(name) is not None)

    def image_size_px(self, size_px: Size) -> Size:
        """Return the size of the image in a buffer."""
        return size_px if self.sizes is None else self.sizes[size_px]


def add_profile(profile: Profile) -> None:
    """Know one more layout in this process, by ``?profile=NAME`` and by its own marks, for recordings and cameras alike.

    It counts for sources that are opened later, and before the layouts that are known already.

    Raises:
        ConfigError: there is a layout of that name.
    """
    if profile.name in PROFILES:
        raise ConfigError(f"there is a profile {profile.name!r} already; give yours another name")
    known = dict(PROFILES)
    PROFILES.clear()
    PROFILES.update({profile.name: profile, **known})


def recognize(*, fourcc: str, size_px: Size, usb_id: str | None, name: str = "") -> Profile:
    """Return the profile of a thermal camera in this mode: ``gray8`` for what is not known to be counts."""
    for profile in PROFILES.values():
        if profile.fits(fourcc, size_px) and (profile.geometry_tells or profile.is_of(usb_id, name)):
            return profile
    return PROFILES["gray8"]


def is_thermal(*, name: str, usb_id: str | None) -> bool:
    """True for a camera that is known to be thermal, by its USB identity or its name."""
    is_known = usb_id in _THERMAL_USB_IDS or any(profile.is_of(usb_id, name) for profile in PROFILES.values())
    return is_known or _THERMAL_NAMES.search(name) is not None


def _first_rows(words: Words, size_px: Size) -> Words:
    return words[: size_px[1], : size_px[0]]


def _rows_below(words: Words, size_px: Size) -> Words:
    """A picture above, as many rows of counts below."""
    return words[size_px[1] : 2 * size_px[1], : size_px[0]]


def _two_rows_per_line(words: Words, size_px: Size) -> Words:
    """Half as many lines, each of two rows of the image."""
    return words[: size_px[1] // 2].reshape(size_px[1], size_px[0])


class CountsDecoder:
    """Decodes the buffers of one stream of counts."""

    def __init__(self, profile: Profile, size_px: Size) -> None:
        self._profile = profile
        self._size_px = profile.image_size_px(size_px)
        self._telemetry = LeptonTelemetry()

    def __call__(self, words: Words) -> Picture:
        """Decode one buffer, (H, W) words."""
        counts = np.array((self._profile.counts_of or _first_rows)(words, self._size_px), np.uint16)
        below = words[self._size_px[1] :].ravel()
        told = self._telemetry(below) if self._profile.telemetry and below.size else {}
        return Picture(**{"image": counts, "kelvin_per_count": self._profile.kelvin_per_count, **told})


class LeptonTelemetry:
    """The status in the rows below the counts: rows A, B and C of 80 words each; of 32 bits the low half comes first."""

    STATUS, FRAME_COUNTER, FPA_CENTIKELVIN = 3, 20, 24
    TLINEAR_ON, TLINEAR_FINE = 160 + 48, 160 + 49
    FFC_SHIFT, FFC_RUNNING = 4, 2

    def __init__(self) -> None:
        self._last_counter: int | None = None

    def __call__(self, words: Words) -> dict[str, Any]:
        """The fields of the `Picture` that the status tells."""
        if not 20_000 <= words[self.FPA_CENTIKELVIN] <= 40_000:  # no sensor is as cold or hot: not telemetry
            return {}
        counter = int(words[self.FRAME_COUNTER]) | int(words[self.FRAME_COUNTER + 1]) << 16
        repeated, self._last_counter = counter == self._last_counter, counter
        resolution = 0.01 if words[self.TLINEAR_FINE] else 0.1
        return {
            "kelvin_per_count": resolution if words[self.TLINEAR_ON] == 1 else None,
            "shutter": int(words[self.STATUS]) >> self.FFC_SHIFT & 3 == self.FFC_RUNNING,
            "repeated": repeated,
        }


def _with_rows_below(*sizes: Size, rows: tuple[int, ...]) -> dict[Size, Size]:
    return {(width, height + extra): (width, height) for width, height in sizes for extra in rows}


_PROFILES: tuple[Profile, ...] = (
    Profile(
        name="p2pro",
        fourccs=("YUYV",),
        sizes={(256, 384): (256, 192)},
        usb_ids=frozenset({"0bda:5830", "0bda:5840"}),  # the second one: InfiRay's relatives
        counts_of=_rows_below,
        kelvin_per_count=1 / 64,
    ),
    Profile(
        name="tc002c",
        fourccs=("YUYV",),
        sizes={(512, 484): (256, 192)},
        usb_ids=frozenset({"2bdf:0102"}),
        counts_of=_two_rows_per_line,
        kelvin_per_count=1 / 16,
    ),
    Profile(
        name="ht301",
        fourccs=RAW_FOURCCS,
        sizes=_with_rows_below((384, 288), (256, 192), (640, 512), rows=(4,)),
        counts_of=_first_rows,
        commands=((CID_ZOOM_ABSOLUTE, 0x8004),),  # this vendor's way of asking for raw counts
    ),
    Profile(
        name="lepton",
        fourccs=("Y16", "Y16-BE"),
        sizes=_with_rows_below((160, 120), rows=(0, 2)) | _with_rows_below((80, 60), rows=(0, 3)),
        counts_of=_first_rows,
        telemetry=True,
        usb_ids=frozenset({"1e4e:0100"}),  # PureThermal
        names=re.compile(r"purethermal|lepton", re.I),
        geometry_tells=False,
        sees_shutter=True,
    ),
    Profile(
        name="boson",
        fourccs=("Y16", "Y16-BE"),
        sizes=_with_rows_below((320, 256), (640, 512), rows=(0, 1, 2)),
        counts_of=_first_rows,
        usb_ids=frozenset({"09cb:4007"}),
        names=re.compile(r"\bboson|flir video", re.I),
        geometry_tells=False,
    ),
    Profile(name="y16", fourccs=tuple(DEEP_BITS), sizes=None, counts_of=_first_rows),
    Profile(name="gray8", fourccs=(), sizes=None, counts_of=None),
)
PROFILES: dict[str, Profile] = {profile.name: profile for profile in _PROFILES}
_THERMAL_USB_IDS = frozenset({"3474:4321"})  # beside those of the profiles: the Topdon TC002
_THERMAL_NAMES = re.compile(
    r"thermal|lepton|\bboson|\bflir\b|infiray|p2 ?pro|\btc00[0-9]|topdon|xtherm|ht-?301|hikmicro|\btau ?2|\bseek\b",
    re.I,
)


def as_words(data: Any, *, size_px: Size, stride_bytes: int, big_endian: bool = False) -> Words:
    """A buffer of two bytes per pixel as (H, W) words of 16 bits, a view; rows may be padded at their ends.

    Raises:
        ValueError: it has fewer bytes than such an image.
    """
    width, height = size_px
    words: Any = _rows(data, row_bytes=2 * width, height_px=height, stride_bytes=stride_bytes).view(
        ">u2" if big_endian else "<u2"
    )
    return words


def as_gray(data: Any, *, size_px: Size, stride_bytes: int) -> Image:
    """View a buffer of one byte per pixel as (H, W) uint8; the rest as `as_words`."""
    width, height = size_px
    return _rows(data, row_bytes=width, height_px=height, stride_bytes=stride_bytes)


def _rows(data: Any, *, row_bytes: int, height_px: int, stride_bytes: int) -> npt.NDArray[np.uint8]:
    samples = np.frombuffer(data, np.uint8)
    stride_bytes = max(stride_bytes, row_bytes)
    # a padding of the last row need not be there
    if samples.size < stride_bytes * (height_px - 1) + row_bytes:
        raise ValueError(f"{samples.size} bytes; expected {height_px} rows of {row_bytes}")
    if stride_bytes == row_bytes:
        return samples[: height_px * row_bytes].reshape(height_px, row_bytes)
    rows = np.lib.stride_tricks.as_strided(samples, (height_px, row_bytes), (stride_bytes, 1))
    return np.ascontiguousarray(rows)
