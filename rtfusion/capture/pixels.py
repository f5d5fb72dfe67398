"""Decoded frames of video as arrays, in the pixel formats of a band: the range, the matrix and the depth of their numbers."""

from __future__ import annotations

from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
from av.video.format import VideoFormat
from av.video.plane import VideoPlane
from av.video.reformatter import ColorRange, VideoReformatter

from rtfusion.capture.depth import Depth
from rtfusion.capture.palette import ThermalColors
from rtfusion.types import Band, Image, Image8, PixelFormat

_FULL_RANGE_NAMES = ("yuvj", "gray", "ya8", "ya16", "mono")
_BT601, _BT709 = 5, 1
# The matrix that a frame is tagged with (AVColorSpace) -> the number that the conversion has for it (SWS_CS_*).
_MATRICES = {1: _BT709, 4: 4, 5: _BT601, 6: _BT601, 7: 7, 9: 9, 10: 9}
_LIMITED = 16, 235
_BEYOND = 0.02
"""Share of numbers beyond video range that overshooting edges do not explain."""
_CHROMA, _COLORED = 10, 0.05
"""Chroma that is more than noise, and the share of a picture that has it where it may be colored."""
_FULL_FROM_LIMITED = np.clip(np.rint((np.arange(256) - 16) * (255 / 219)), 0, 255).astype(np.uint8)


class PixelConverter:
    """Decoded frames as fresh arrays in the pixel formats of a band. For one thread; the heavy calls free the GIL."""

    def __init__(
        self,
        band: Band,
        *,
        depth: Depth | None = None,
        full_range: bool | None = None,
        colors: ThermalColors | None = None,
    ) -> None:
        """Convert as the frames say of themselves.

        ``depth`` scales deep visible pictures; by default they are as deep as their format. ``full_range`` overrules what
        frames of Y'CbCr say of their range, or do not say. ``colors`` undoes palettes of thermal pictures, of which
        otherwise the luminance is taken.
        """
        self._band = band
        self._depth = depth
        self._full_range = full_range
        self._colors = colors
        self._reformatter = VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> tuple[Image, PixelFormat]:
        """The image, (H, W) or (H, W, 3), and what its numbers mean.

        Raises:
            av.FFmpegError: a pixel format that cannot be converted.
        """
        if any(plane.line_size < 0 for plane in frame.planes):  # some uncompressed AVI files store the last row first
            frame = self._reformat(frame, "rgb24" if frame.format.name != "rgb24" else "bgr24")
        depth = _gray_depth(frame.format)
        if depth > 8:
            return self._deep_gray(frame, depth)
        if self._band is Band.THERMAL and not depth and (gray := self._without_palette(frame)) is not None:
            return gray, PixelFormat.GRAY8
        if depth or self._band is Band.THERMAL:
            return self._luminance(frame), PixelFormat.GRAY8
        return self._bgr(frame), PixelFormat.BGR8

    def _deep_gray(self, frame: av.VideoFrame, depth: int) -> tuple[Image, PixelFormat]:
        counts = plane_pixels(frame.planes[0], ">u2" if frame.format.is_big_endian else "<u2").astype(np.uint16)
        if self._band is Band.THERMAL:
            return counts, PixelFormat.GRAY16
        if self._depth is not None and depth == 16:
            return self._depth(counts), PixelFormat.GRAY8
        return cv2.convertScaleAbs(counts, alpha=255 / (2**depth - 1)), PixelFormat.GRAY8

    def _without_palette(self, frame: av.VideoFrame) -> Image8 | None:
        """Gray levels of a frame that a palette colored; None for others."""
        if self._colors is None or not self._colors.are_of_use:
            return None
        if not self._colors.decided and not (self._colors.is_to_look() and _may_be_colored(frame)):
            return None
        return self._colors.gray(self._bgr(frame))

    def _luminance(self, frame: av.VideoFrame) -> Image8:
        if frame.format.is_rgb or frame.format.has_palette:
            return cv2.cvtColor(self._bgr(frame), cv2.COLOR_BGR2GRAY).astype(np.uint8, copy=False)
        luma, *others = frame.format.components
        if luma.bits != 8 or any(other.plane == luma.plane for other in others):
            frame = self._reformat(frame, "yuv422p", keep_range=True)
        plane = plane_pixels(frame.planes[0], "u1")
        return np.array(plane) if self._is_full(frame) else cv2.LUT(plane, _FULL_FROM_LIMITED)

    def _bgr(self, frame: av.VideoFrame) -> Image8:
        return np.ascontiguousarray(plane_pixels(self._reformat(frame, "bgr24").planes[0], "u1", channels=3))

    def _reformat(self, frame: av.VideoFrame, pixel_format: str, *, keep_range: bool = False) -> av.VideoFrame:
        source_range = ColorRange.JPEG if self._is_full(frame) else ColorRange.MPEG
        return self._reformatter.reformat(
            frame,
            format=pixel_format,
            src_colorspace=_MATRICES.get(frame.colorspace) or _usual_matrix(frame),
            dst_colorspace=_BT601,
            src_color_range=source_range,
            dst_color_range=source_range if keep_range else ColorRange.JPEG,
            threads=1,
        )

    def _is_full(self, frame: av.VideoFrame) -> bool:
        """True when black is 0 and white the largest number, False for video range (16..235 of 255)."""
        if self._full_range is not None and not (frame.format.is_rgb or frame.format.has_palette):
            return self._full_range
        return _is_full_range(frame)


def range_is_doubtful(frame: av.VideoFrame) -> bool:
    """True for a frame that does not say its range, is taken for video range, and has numbers beyond it."""
    if frame.color_range != ColorRange.UNSPECIFIED or _is_full_range(frame) or frame.format.components[0].bits != 8:
        return False
    if any(other.plane == 0 for other in frame.format.components[1:]):
        return False
    sample = plane_pixels(frame.planes[0], "u1")[::4, ::4]
    return bool(np.count_nonzero((sample < _LIMITED[0]) | (sample > _LIMITED[1])) > _BEYOND * sample.size)


def _may_be_colored(frame: av.VideoFrame) -> bool:
    """False for a frame of Y'CbCr whose chroma says gray, but for noise and small marks."""
    layout = frame.format
    if layout.is_rgb or layout.has_palette or len(frame.planes) < 2 or layout.components[0].bits != 8:
        return True
    chroma = [plane_pixels(plane, "u1")[::4, ::4] for plane in frame.planes[1:3]]
    return any(np.count_nonzero(np.abs(one.astype(np.int16) - 128) > _CHROMA) > _COLORED * one.size for one in chroma)


def _gray_depth(layout: VideoFormat) -> int:
    """Bits of a gray pixel, up to 16; 0 for a format that is not gray."""
    if len(layout.components) != 1 or layout.has_palette or layout.is_bayer or layout.components[0].bits > 16:
        return 0
    return layout.components[0].bits


def _is_full_range(frame: av.VideoFrame) -> bool:
    """True when black is 0 and white the largest number, False for video range (16..235 of 255)."""
    layout = frame.format
    if layout.is_rgb or layout.has_palette or layout.name.startswith("yuvj"):
        return True
    if frame.color_range == ColorRange.UNSPECIFIED:
        return layout.name.startswith(_FULL_RANGE_NAMES)
    return frame.color_range == ColorRange.JPEG


def _usual_matrix(frame: av.VideoFrame) -> int:
    """The matrix of a stream that names none: BT.601 for standard definition, BT.709 above it, as players do."""
    return _BT709 if frame.width >= 1280 or frame.height > 576 else _BT601


def plane_pixels(plane: VideoPlane, dtype: npt.DTypeLike, *, channels: int = 1) -> Any:
    """A view of a plane without the padding at the ends of its rows: (H, W), or (H, W, channels)."""
    item_bytes = np.dtype(dtype).itemsize
    shape, strides = (plane.height, plane.width), (plane.line_size, item_bytes * channels)
    if channels == 1:
        return np.ndarray(shape, dtype, buffer=memoryview(plane), strides=strides)
    return np.ndarray((*shape, channels), dtype, buffer=memoryview(plane), strides=(*strides, item_bytes))
