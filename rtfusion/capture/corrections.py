"""Every frame of a source as the user corrected it by the URI (`rtfusion.capture.parameters`)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from rtfusion.capture.base import Source, StreamInfo
from rtfusion.capture.orientation import CLOCKWISE, FLIPS
from rtfusion.capture.parameters import Corrections, Region
from rtfusion.capture.wrapped import WrappedSource
from rtfusion.clock import NS_PER_MS
from rtfusion.errors import ConfigError
from rtfusion.types import Frame, Image


def corrected(source: Source, corrections: Corrections) -> Source:
    """The source with its corrections.

    Raises:
        ConfigError: a part is not inside of its picture. The source is closed.
    """
    try:
        return CorrectedSource(source, corrections)
    except BaseException:
        source.close()
        raise


class CorrectedSource(WrappedSource):
    """A source whose every frame is corrected as the user said."""

    def __init__(self, source: Source, corrections: Corrections) -> None:
        """Check the corrections against the size of the picture."""
        self._corrections = corrections
        self._crop = _part(source.info, corrections)
        self._masks = [_Mask(part, source.info) for part in corrections.mask]
        self._shift_ns = round(corrections.shift_ms * NS_PER_MS)
        super().__init__(source, info=self._described(source.info))

    def changed(self, frame: Frame) -> Frame:
        """The frame, masked, cut out, turned, mirrored and shifted."""
        image: Any = frame.image
        if self._masks:
            image = np.array(image)
            for mask in self._masks:
                mask.fill(image)
        if self._crop is not None:
            image = np.ascontiguousarray(image[self._crop.slices])
        if self._corrections.rotate:
            image = CLOCKWISE[self._corrections.rotate](image)
        if self._corrections.flip:
            image = FLIPS[self._corrections.flip](image)
        return replace(frame, image=image, timestamp_ns=frame.timestamp_ns + self._shift_ns)

    def _described(self, info: StreamInfo) -> StreamInfo:
        size_px = info.size_px if self._crop is None else (self._crop.width, self._crop.height)
        width_px, height_px = size_px[::-1] if self._corrections.rotate in (90, 270) else size_px
        said = ", ".join(filter(None, [info.description, *self._said(info)]))
        return replace(info, width_px=width_px, height_px=height_px, description=said)

    def _said(self, info: StreamInfo) -> list[str]:
        asked, said = self._corrections, []
        if self._masks:
            said.append(f"{len(self._masks)} masked" if len(self._masks) > 1 else "masked")
        if self._crop is not None:
            part = f"its {asked.half} half" if asked.half else f"at {self._crop.x},{self._crop.y}"
            said.append(f"{part} of {info.width_px}x{info.height_px}")
        if asked.rotate:
            said.append(f"turned by {asked.rotate} degrees")
        if asked.flip:
            said.append("mirrored")
        if asked.shift_ms:
            said.append(f"shifted by {asked.shift_ms:g} ms")
        return said


def _part(info: StreamInfo, corrections: Corrections) -> Region | None:
    """The part of the picture that is asked for; None for all of it."""
    if corrections.crop is None and corrections.half is None:
        return None
    width, height = info.size_px
    if corrections.crop is not None:
        if corrections.half is not None:
            raise ConfigError(f"{info.uri}: crop and half are given; give one of them")
        if not corrections.crop.fits(info.size_px):
            raise ConfigError(
                f"{info.uri}: crop={_text(corrections.crop)} is not inside of its {width}x{height} pixels"
            )
        return corrections.crop
    if corrections.half in ("left", "right"):
        return Region(0 if corrections.half == "left" else width - width // 2, 0, max(width // 2, 1), height)
    return Region(0, 0 if corrections.half == "top" else height - height // 2, width, max(height // 2, 1))


def _text(part: Region) -> str:
    return ",".join(map(str, part))


class _Mask:
    """Fills a region from the pixels around it: each of the four sides counts by how near it is."""

    AROUND = 3
    """Pixels of each side that are averaged, so that noise draws no stripes."""

    def __init__(self, part: Region, info: StreamInfo) -> None:
        width, height = info.size_px
        if not part.fits(info.size_px) or part.width * part.height == width * height:
            raise ConfigError(f"{info.uri}: mask={_text(part)} is not a part of its {width}x{height} pixels")
        self._part = part
        columns = np.arange(part.width, dtype=np.float32)[None, :]
        rows = np.arange(part.height, dtype=np.float32)[:, None]
        x, y, w, h = part
        strips = (
            ((slice(y, y + h), slice(max(x - self.AROUND, 0), x)), 1, columns + 1),
            ((slice(y, y + h), slice(x + w, x + w + self.AROUND)), 1, part.width - columns),
            ((slice(max(y - self.AROUND, 0), y), slice(x, x + w)), 0, rows + 1),
            ((slice(y + h, y + h + self.AROUND), slice(x, x + w)), 0, part.height - rows),
        )
        inside = (x > 0, x + w < width, y > 0, y + h < height)
        sides = [strip for strip, there in zip(strips, inside, strict=True) if there]
        total: Any = sum(1 / distance for _, _, distance in sides)
        self._sides = [(place, axis, 1 / distance / total) for place, axis, distance in sides]

    def fill(self, image: Image) -> None:
        """Fill the region of the image, in place."""
        filled: Any = 0
        for place, axis, weight in self._sides:
            side = image[place].mean(axis=axis, dtype=np.float32, keepdims=True)
            filled = filled + side * (weight if image.ndim == 2 else weight[..., None])
        image[self._part.slices] = np.rint(filled)
