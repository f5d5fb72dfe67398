"""Folders of images as sources: PNG, TIFF, JPEG and BMP of 8 or 16 bits, in the natural order of their names.

Visible images become BGR8, or GRAY8 where the file has one channel; 16 bits are scaled down. Thermal images become
GRAY8 or, with 16 bits, GRAY16: the counts as they are; of color the luminance is taken. Without a rate the images are
unrelated stills, with one they are a video. A single image is a folder of one.

Two folders are matched by stem: the sorted union of their stems is the time axis of both, so that pairing by time
pairs equal stems and counts the others as unpaired.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from rtfusion.capture.base import StreamInfo
from rtfusion.capture.playback import Playback
from rtfusion.capture.uri import IMAGE_SUFFIXES, SourceUri, rate_hz, read_query
from rtfusion.clock import MONOTONIC, NS_PER_S, Clock
from rtfusion.errors import CaptureError, ConfigError, EndOfStream
from rtfusion.types import Band, Frame, Image, PixelFormat

NOMINAL_RATE_HZ = 25.0
"""Spacing of stills, whose stamps mean nothing but an order."""
NAMES_SHOWN = 5

_PNG, _JPEG, _JPEG_SCAN, _JPEG_END = b"\x89PNG", b"\xff\xd8", b"\xff\xda", b"\xff\xd9"


class ImagesSource(Playback):
    """The images of one folder, played ``loop`` times."""

    def __init__(
        self,
        files: Mapping[str, Path],
        *,
        uri: str,
        band: Band,
        rate_hz: float | None = None,
        axis: Sequence[str] | None = None,
        notes: Sequence[str] = (),
        loop: int = 1,
        pace: bool = False,
        clock: Clock = MONOTONIC,
    ) -> None:
        """Take the images that `list_images` found and decode the first one.

        ``axis`` names the stem of each period of the time axis, one of another folder included; by default it is the
        stems of ``files``. Without ``rate_hz`` the images are stills.
        """
        super().__init__(self._play(loop), pace=pace, clock=clock)
        self._files = files
        self._uri = uri
        self._band = band
        self._rate_hz = rate_hz or NOMINAL_RATE_HZ
        self._axis = list(files) if axis is None else list(axis)
        self._unreadable: dict[str, str] = {}
        self._scaled = False
        self.drops = {"corrupt": 0}
        self.notes = tuple(notes)
        self.info = StreamInfo.like(
            self._first_frame(),
            uri=uri,
            rate_hz=self._rate_hz,
            live=False,
            continuous=rate_hz is not None,
            frame_count=len(files) * loop,
            description=f"{len(files)} images" if rate_hz else f"{len(files)} stills",
        )

    def _first_frame(self) -> Frame:
        try:
            return self.peek()
        except EndOfStream:
            name, reason = next(iter(self._unreadable.items()))
            raise CaptureError(
                f"{self._uri}: not one of its {len(self._files)} images can be read; the first, {name}: {reason}"
            ) from None

    def _play(self, loop: int) -> Generator[Frame, None, None]:
        sequence = 0
        try:
            for lap in range(loop):
                for index, stem in enumerate(self._axis, start=lap * len(self._axis)):
                    if stem not in self._files:
                        continue
                    try:
                        yield self._frame(self._files[stem], sequence=sequence, index=index)
                    except (OSError, ValueError, cv2.error) as error:
                        self.drops["corrupt"] += 1
                        self._unreadable[self._files[stem].name] = str(error)
                    sequence += 1
        finally:
            self._note_ending()

    def _frame(self, path: Path, *, sequence: int, index: int) -> Frame:
        data = path.read_bytes()
        received_ns = self._clock.now_ns()
        decoded = decode_image(data)
        image, pixel_format = to_band(decoded, band=self._band)
        self._scaled = self._scaled or (self._band is Band.VISIBLE and decoded.dtype == np.uint16)
        return Frame(
            image=image,
            pixel_format=pixel_format,
            band=self._band,
            timestamp_ns=round(index * NS_PER_S / self._rate_hz),
            sequence=sequence,
            received_ns=received_ns,
            name=path.stem,
        )

    def _note_ending(self) -> None:
        if self._scaled:
            self.notes += (f"{self._uri}: 16-bit visible images were scaled to 8 bits (divided by 257)",)
        if self._unreadable:
            count, names = len(self._unreadable), _some(list(self._unreadable))
            self.notes += (f"{self._uri}: {count} images could not be read and were skipped: {names}",)


def open_images(
    uri: SourceUri, *, band: Band, loop: int = 1, pace: bool = False, clock: Clock = MONOTONIC
) -> ImagesSource:
    """Open one folder of images, or one image."""
    files = list_images(uri.path, uri=uri.text)
    return ImagesSource(files, uri=uri.text, band=band, rate_hz=_rate_hz(uri), loop=loop, pace=pace, clock=clock)


def open_image_pair(
    *, visible: SourceUri, thermal: SourceUri, loop: int = 1, pace: bool = False, clock: Clock = MONOTONIC
) -> tuple[ImagesSource, ImagesSource]:
    """Open two folders matched by stem: (visible, thermal). Two single images are a pair whatever their names.

    A rate given for one folder holds for both. With two different rates there is no common axis: the folders are then
    two videos, paired by time.

    Raises:
        ConfigError: no stem is in both folders, or a parameter is wrong.
        CaptureError: a folder has no image, or none can be read.
    """
    uris = {Band.VISIBLE: visible, Band.THERMAL: thermal}
    files = {band: list_images(uri.path, uri=uri.text) for band, uri in uris.items()}
    rates = {band: _rate_hz(uri) for band, uri in uris.items()}
    given = {rate for rate in rates.values() if rate is not None}
    axis: list[str] | None = None
    notes: list[str] = []
    if len(given) > 1:
        notes = [f"{visible.text} and {thermal.text} have different rates: paired by time, not by name"]
    else:
        rates = dict.fromkeys(rates, next(iter(given), None))
        if visible.path.is_dir() or thermal.path.is_dir():
            axis, notes = match_stems({uri.text: files[band] for band, uri in uris.items()})
    first, second = (
        ImagesSource(
            files[band],
            uri=uri.text,
            band=band,
            rate_hz=rates[band],
            axis=axis,
            notes=notes if band is Band.VISIBLE else (),
            loop=loop,
            pace=pace,
            clock=clock,
        )
        for band, uri in uris.items()
    )
    return first, second


def list_images(path: Path, *, uri: str) -> dict[str, Path]:
    """The images of a folder by stem, in natural order (2 before 10); hidden and other files are left out.

    Raises:
        CaptureError: no such folder, no image in it, or two images of one stem.
    """
    if path.is_file():
        return {path.stem: path}
    if not path.is_dir():
        raise CaptureError(f"{uri}: no such folder or image; check the path")
    entries = sorted(path.iterdir(), key=lambda entry: natural_key(entry.name))
    images: dict[str, Path] = {}
    for entry in entries:
        if entry.suffix.lower() not in IMAGE_SUFFIXES or entry.name.startswith(".") or not entry.is_file():
            continue
        if entry.stem in images:
            raise CaptureError(f"{uri}: {images[entry.stem].name} and {entry.name} have one name; keep one of them")
        images[entry.stem] = entry
    if not images:
        holds = f"it holds {_some([entry.name for entry in entries])}" if entries else "it is empty"
        raise CaptureError(f"{uri}: no images in this folder ({holds}); expected {', '.join(sorted(IMAGE_SUFFIXES))}")
    return images


def match_stems(files: Mapping[str, Mapping[str, Path]]) -> tuple[list[str], list[str]]:
    """(time axis, notes) of two folders, given as URI -> stem -> file: the sorted union and what only one has.

    Raises:
        ConfigError: they have no stem in common.
    """
    (first_uri, first), (second_uri, second) = files.items()
    if first.keys().isdisjoint(second):
        raise ConfigError(
            f"{first_uri} and {second_uri} have no image name in common ({_some(list(first))} and "
            f"{_some(list(second))}); name the two images of a moment alike"
        )
    notes = []
    for uri, stems, others in ((first_uri, first, second), (second_uri, second, first)):
        lone = [stem for stem in stems if stem not in others]
        if lone:
            notes.append(f"{len(lone)} of {len(stems)} images are only in {uri} and stay unpaired: {_some(lone)}")
    return sorted(first.keys() | second.keys(), key=natural_key), notes


def natural_key(name: str) -> tuple[list[str | int], str]:
    """A sort key by which img2 comes before img10."""
    parts = re.split(r"([0-9]+)", name)
    return [int(part) if index % 2 else part.casefold() for index, part in enumerate(parts)], name


def decode_image(data: bytes) -> Image:
    """An image file as stored: (H, W) or (H, W, 3) BGR, 8 or 16 bits, turned upright, without alpha.

    Raises:
        ValueError: not an image, cut off, or of another depth.
    """
    if not data:
        raise ValueError("the file is empty")
    if _is_cut_off(data):
        raise ValueError("the file is cut off")
    image: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR)
    if image is None:
        raise ValueError("not an image that can be decoded")
    if image.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"its pixels are {image.dtype}; expected 8 or 16 bits")
    return image


def to_band(image: Image, *, band: Band) -> tuple[Image, PixelFormat]:
    """An image as decoded, in a pixel format of its band."""
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


def _rate_hz(uri: SourceUri) -> float | None:
    return read_query(uri, {"fps": rate_hz}).get("fps")


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more
