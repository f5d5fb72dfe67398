"""Radiometric JPEG: a picture for people to look at, and beside it in the file the counts of the sensor.

FLIR keeps records in APP1 segments: counts (a PNG, or numbers as they are), the constants of the camera, a picture of the visible
camera. DJI keeps bare counts in APP3. The layouts are from public descriptions (ExifTool's documentation), and tested on files
made by this project; not run on files of cameras.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from rtfusion.types import Image8

Counts = npt.NDArray[np.uint16]

KELVIN_PER_COUNT = 0.02
"""Of counts that are made of temperatures: up to 1310 K, in steps finer than any of these cameras."""

_FLIR, _FFF = b"FLIR\0", b"FFF\0"
_COUNTS, _VISIBLE, _CAMERA = 1, 14, 32
_APP1, _APP3, _SCAN, _END = 0xE1, 0xE3, 0xDA, 0xD9
_DJI_SIZES_PX = ((640, 512), (320, 256), (640, 480), (336, 256), (160, 120), (1280, 1024))


class Planck(NamedTuple):
    """The constants by which a FLIR camera's counts are temperatures: of a black body, without distance and air."""

    r1: float
    b: float
    f: float
    o: int
    r2: float

    def kelvin(self, counts: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Temperatures of counts; 0 where a count can be none."""
        with np.errstate(all="ignore"):
            kelvin = self.b / np.log(self.r1 / (self.r2 * (counts.astype(np.float64) + self.o)) + self.f)
        return np.where(np.isfinite(kelvin) & (kelvin > 0), kelvin, 0.0)

    @property
    def is_plausible(self) -> bool:
        """False for constants that were never filled in."""
        return (
            self.r1 > 0 and self.b > 0 and self.r2 > 0 and all(map(math.isfinite, (self.r1, self.b, self.f, self.r2)))
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Radiometric:
    """What a radiometric JPEG holds beside its picture."""

    camera: str
    counts: Counts
    """(H, W), as the sensor gave them."""
    planck: Planck | None = None
    visible: Image8 | None = None
    """(H, W, 3) BGR or (H, W): what the visible camera of the same device saw."""

    def thermal(self) -> tuple[Counts, float | None]:
        """The counts, and kelvin per count: as they are, or as temperatures where the camera's constants are in the file."""
        if self.planck is None:
            return self.counts, None
        return counts_of_kelvin(self.planck.kelvin(self.counts)), KELVIN_PER_COUNT


def counts_of_kelvin(kelvin: npt.NDArray[Any]) -> Counts:
    """Temperatures as counts of `KELVIN_PER_COUNT`; what is no number counts as 0."""
    counts = np.nan_to_num(np.asarray(kelvin, np.float64), nan=0.0, posinf=0.0, neginf=0.0) / KELVIN_PER_COUNT
    return np.rint(np.clip(counts, 0, 65535)).astype(np.uint16)


def read_radiometric(data: bytes) -> Radiometric | None:
    """What a JPEG holds beside its picture; None for one that is a picture alone, or whose counts are damaged."""
    if not data.startswith(b"\xff\xd8"):
        return None
    block, bare = b"", b""
    for marker, body in _segments(data):
        if marker == _APP1 and body.startswith(_FLIR):
            block += body[8:]  # FLIR, 0, 1, number of this piece, number of the last
        elif marker == _APP3:
            bare += body
    try:
        found = _of_flir(block) if block.startswith(_FFF) else None
    except (struct.error, ValueError, cv2.error):
        return None
    return found or _of_dji(bare, data)


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The segments before the picture itself: (marker, content)."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in (_SCAN, _END):
            return
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        yield marker, data[at + 4 : at + 2 + length]
        at += 2 + length


# -- FLIR -------------------------------------------------------------------------------------------------------------


def _of_flir(block: bytes) -> Radiometric | None:
    records = _records(block)
    counts = _counts_of(records.get(_COUNTS, b""))
    if counts is None:
        return None
    return Radiometric(
        camera="FLIR",
        counts=counts,
        planck=_planck_of(records.get(_CAMERA, b"")),
        visible=_visible_of(records.get(_VISIBLE, b"")),
    )


def _records(block: bytes) -> dict[int, bytes]:
    """The first record of each kind."""
    order = ">" if 100 <= struct.unpack_from(">I", block, 20)[0] < 200 else "<"
    at, count = struct.unpack_from(f"{order}II", block, 24)
    records: dict[int, bytes] = {}
    for index in range(min(count, 256)):
        kind, _, _, _, begin, length = struct.unpack_from(f"{order}HHIIII", block, at + 32 * index)
        if length:
            records.setdefault(kind, block[begin : begin + length])
    return records


def _counts_of(record: bytes) -> Counts | None:
    if len(record) <= 32:
        return None
    order = "<" if struct.unpack_from("<H", record)[0] == 2 else ">"
    width, height = struct.unpack_from(f"{order}HH", record, 2)
    body = record[32:]
    if body.startswith(b"\x89PNG"):
        image: Any = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_UNCHANGED)
        if image is None or image.dtype != np.uint16 or image.ndim != 2:
            return None
        # the bytes of these PNG are swapped, but for some cameras: counts are smooth in the right order only
        return min(image, image.byteswap(), key=_roughness)
    if len(body) < 2 * width * height or not width * height:
        return None
    return np.frombuffer(body, f"{order}u2", count=width * height).reshape(height, width).astype(np.uint16)


def _roughness(image: Counts) -> float:
    return float(np.abs(np.diff(image[::2].astype(np.int32), axis=1)).mean())


def _planck_of(record: bytes) -> Planck | None:
    if len(record) < 0x310:
        return None
    order = "<" if struct.unpack_from("<H", record)[0] == 2 else ">"
    r1, b, f = struct.unpack_from(f"{order}fff", record, 0x58)
    o, r2 = struct.unpack_from(f"{order}if", record, 0x308)
    planck = Planck(r1, b, f, o, r2)
    return planck if planck.is_plausible else None


def _visible_of(record: bytes) -> Image8 | None:
    for begin in (b"\xff\xd8\xff", b"\x89PNG"):
        at = record.find(begin, 0, 64)
        if at >= 0:
            image: Any = cv2.imdecode(np.frombuffer(record[at:], np.uint8), cv2.IMREAD_ANYCOLOR)
            return None if image is None else image
    return None


# -- DJI --------------------------------------------------------------------------------------------------------------


def _of_dji(bare: bytes, data: bytes) -> Radiometric | None:
    if not bare or b"DJI" not in data[:65536]:
        return None
    for width, height in _DJI_SIZES_PX:
        if len(bare) == 2 * width * height:
            counts = np.frombuffer(bare, "<u2").reshape(height, width).astype(np.uint16)
            return Radiometric(camera="DJI", counts=counts)
    return None
