"""Image files as arrays of their band: 8 and 16 bits, floating temperatures, radiometric JPEG, pages of a TIFF."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from rtfusion.capture.depth import Depth
from rtfusion.capture.palette import AUTO, ThermalColors
from rtfusion.capture.radiometric import KELVIN_PER_COUNT, Radiometric, counts_of_kelvin, read_radiometric
from rtfusion.types import Band, Image, PixelFormat

KELVIN_PER_NUMBER = {"kelvin": 1.0, "decikelvin": 0.1, "centikelvin": 0.01}
"""Units of thermal numbers that begin at absolute zero: what one of them means."""
UNITS = (*KELVIN_PER_NUMBER, "celsius")
COLDEST_KELVIN = 150.0
"""Numbers of which most are larger are kelvin, else degrees Celsius."""
ZERO_CELSIUS_KELVIN = 273.15

_AS_STORED = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR
_PNG, _JPEG, _JPEG_SCAN, _JPEG_END = b"\x89PNG", b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


class Still(NamedTuple):
    """One image: a file, or a page of one."""

    path: Path
    page: int | None = None

    @property
    def label(self) -> str:
        """What it is called in messages."""
        return self.path.name if self.page is None else f"{self.path.name} (page {self.page + 1})"


class Decoded(NamedTuple):
    """One image in a pixel format of its band."""

    image: Image
    pixel_format: PixelFormat
    kelvin_per_count: float | None = None


class StillReader:
    """Reads the images of one source, and knows what it assumed of them."""

    def __init__(self, band: Band, *, bits: int | None = None, palette: str = AUTO, unit: str | None = None) -> None:
        """``bits``, ``palette`` and ``unit`` are what the user says of depth, colors and floating numbers."""
        self._band = band
        self._depth = Depth(bits)
        self.colors = ThermalColors(palette, check_every=1)
        """What is known of the colors of thermal pictures."""
        self._unit = unit
        self._guesses: dict[str, str] = {}
        self._kept: dict[Still, tuple[Any, Radiometric | None]] = {}

    def prime(self, first: Still, *others: Still) -> None:
        """See by some of the images how deep visible ones are; the first is kept until it is read."""
        if self._band is not Band.VISIBLE:
            return
        for still in (first, *others):
            try:
                stored = _stored(still)
            except (OSError, ValueError, cv2.error):
                continue  # told when it is read
            if still is first:
                self._kept[still] = stored
            if stored[0].dtype != np.uint16:
                return
            self._depth.learn(stored[0])

    def __call__(self, still: Still) -> Decoded:
        """The image of a file.

        Raises:
            OSError, ValueError, cv2.error: it cannot be read, is damaged, or of a kind that is not known.
        """
        image, radiometric = self._kept.pop(still) if still in self._kept else _stored(still)
        if radiometric is not None:
            return self._of_radiometric(image, radiometric)
        if image.dtype.kind == "f":
            return self._of_numbers(image)
        return self._plain(image)

    def _plain(self, image: Any) -> Decoded:
        if image.dtype not in (np.uint8, np.uint16):
            raise ValueError(f"its pixels are {image.dtype}; expected 8 or 16 bits")
        if self._band is Band.VISIBLE and image.dtype == np.uint16:
            image = self._depth(image)
        if self._band is Band.THERMAL and image.ndim == 3 and image.dtype == np.uint8:
            gray = self.colors.gray(image)
            image = image if gray is None else gray
        if self._band is Band.THERMAL and self._unit is not None and image.ndim == 2 and image.dtype == np.uint16:
            return self._of_counts(image, self._unit)
        return Decoded(*to_band(image, band=self._band))

    def _of_counts(self, image: Any, unit: str) -> Decoded:
        """Counts of which the user says what they mean."""
        if unit == "celsius":
            return Decoded(counts_of_kelvin(image + ZERO_CELSIUS_KELVIN), PixelFormat.GRAY16, KELVIN_PER_COUNT)
        return Decoded(image, PixelFormat.GRAY16, KELVIN_PER_NUMBER[unit])

    def _of_radiometric(self, image: Any, found: Radiometric) -> Decoded:
        if self._band is Band.VISIBLE:
            if found.visible is None:
                return self._plain(image)
            self._guesses["visible"] = f"the visible pictures inside of its radiometric JPEG ({found.camera}) are used"
            return self._plain(found.visible)
        counts, kelvin_per_count = found.thermal()
        meant = "which the camera's constants make temperatures" if kelvin_per_count else "which mean no temperature"
        self._guesses["counts"] = f"the counts inside of its radiometric JPEG ({found.camera}) are used, {meant}"
        return Decoded(counts, PixelFormat.GRAY16, kelvin_per_count)

    def _of_numbers(self, image: Any) -> Decoded:
        """Floating numbers of a thermal camera: temperatures, or shares of 1."""
        if self._band is Band.VISIBLE or image.ndim != 2:
            raise ValueError(f"its pixels are {image.dtype}; expected 8 or 16 bits")
        finite = image[np.isfinite(image)]
        if not finite.size:
            raise ValueError("it holds no finite number")
        if self._unit is None and finite.min() >= 0 and finite.max() <= 1:
            self._guesses["unit"] = "its numbers are from 0 to 1: taken as levels, not as temperatures (?unit=celsius)"
            shares = np.nan_to_num(image, nan=0.0, posinf=1.0, neginf=0.0)
            return Decoded(np.rint(shares * 65535).astype(np.uint16), PixelFormat.GRAY16)
        unit = self._unit
        if unit is None:
            unit = self._unit = "kelvin" if np.median(finite) > COLDEST_KELVIN else "celsius"
            other = "celsius" if unit == "kelvin" else "kelvin"
            self._guesses["unit"] = (
                f"its floating numbers are taken as temperatures in {unit} (?unit={other} otherwise)"
            )
        kelvin = image + ZERO_CELSIUS_KELVIN if unit == "celsius" else image * KELVIN_PER_NUMBER[unit]
        return Decoded(counts_of_kelvin(kelvin), PixelFormat.GRAY16, KELVIN_PER_COUNT)

    @property
    def notes(self) -> list[str]:
        """What was assumed of the images so far."""
        scaled = "16-bit visible images were scaled to 8 bits (divided by 257)" if self._depth.bits == 16 else None
        return [note for note in (*self._guesses.values(), self._depth.note or scaled, self.colors.note) if note]


def _stored(still: Still) -> tuple[Any, Radiometric | None]:
    """An image as it is stored, and what a radiometric JPEG holds beside it."""
    if still.page is not None:
        found, pages = cv2.imreadmulti(str(still.path), still.page, 1, flags=_AS_STORED)
        if not found or not pages:
            raise ValueError("its page cannot be decoded")
        return pages[0], None
    data = still.path.read_bytes()
    return decode_any(data), read_radiometric(data)


def pages_of(path: Path) -> int:
    """How many images a file holds, all of one size; 1 for every file that is no such sequence, or cannot be read."""
    try:
        with path.open("rb") as file:
            if file.read(4) not in _TIFF:
                return 1
        count = int(cv2.imcount(str(path)))
    except (OSError, cv2.error):
        return 1  # told when it is read
    if count < 2:
        return 1
    try:
        found, first_two = cv2.imreadmulti(str(path), 0, 2, flags=_AS_STORED)
    except cv2.error:
        return count  # damaged: each page that cannot be read is told
    alike = found and len(first_two) == 2 and first_two[0].shape == first_two[1].shape
    return count if alike else 1


def stills_of(files: Mapping[str, Path]) -> dict[str, Still]:
    """The images of files by stem, in their order; the pages of a TIFF each by the stem of the file and its number."""
    stills: dict[str, Still] = {}
    for stem, path in files.items():
        count = pages_of(path) if path.suffix.lower() in (".tif", ".tiff") else 1
        if count == 1:
            stills[stem] = Still(path)
        else:
            stills |= {f"{stem}-{page:05d}": Still(path, page) for page in range(count)}
    return stills


def decode_any(data: bytes) -> Any:
    """An image file as stored: (H, W) or (H, W, 3) BGR, of any depth, turned upright, without alpha.

    Raises:
        ValueError: not an image, or cut off.
    """
    if not data:
        raise ValueError("the file is empty")
    if _is_cut_off(data):
        raise ValueError("the file is cut off")
    image: Any = cv2.imdecode(np.frombuffer(data, np.uint8), _AS_STORED)
    if image is None:
        raise ValueError("not an image that can be decoded")
    return image


def decode_image(data: bytes) -> Image:
    """An image file as `decode_any`, of 8 or 16 bits.

    Raises:
        ValueError: not an image, cut off, or of another depth.
    """
    image: Any = decode_any(data)
    if image.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"its pixels are {image.dtype}; expected 8 or 16 bits")
    return image


def to_band(image: Image, *, band: Band) -> tuple[Image, PixelFormat]:
    """An image of 8 or 16 bits in a pixel format of its band."""
    if band is Band.THERMAL:
        gray: Any = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        return gray, PixelFormat.GRAY16 if gray.dtype == np.uint16 else PixelFormat.GRAY8
    eight: Any = image if image.dtype == np.uint8 else cv2.convertScaleAbs(image, alpha=1 / 257)
    return eight, PixelFormat.GRAY8 if eight.ndim == 2 else PixelFormat.BGR8


def _is_cut_off(data: bytes) -> bool:
    """True for a PNG or JPEG that lacks its end, of which some decoders return what there is, the rest gray."""
    if data.startswith(_PNG):
        return b"IEND" not in data
    if data.startswith(_JPEG):
        return data.find(_JPEG_END, data.find(_JPEG_SCAN)) < 0
    return False
