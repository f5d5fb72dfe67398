"""Buffers of a V4L2 driver as images, by the mode that was negotiated."""

from __future__ import annotations

from typing import Any

import av
import numpy as np
from av.codec.context import CodecContext
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import ColorRange

from rtfusion.capture.images import to_band
from rtfusion.capture.pixels import PixelConverter
from rtfusion.capture.profiles import CountsDecoder, Picture, Profile, as_gray, as_words
from rtfusion.capture.v4l2_device import Mode
from rtfusion.types import Band, Image, PixelFormat


class BufferDecoder:
    """Decodes the buffers of one stream. For one thread.

    ``profile`` says what a thermal camera sends; None for a visible one.
    """

    def __init__(self, mode: Mode, *, profile: Profile | None, band: Band) -> None:
        self._mode = mode
        self._band = band
        self._convert = PixelConverter(band)
        sends_counts = profile is not None and profile.counts_of is not None
        self._counts = CountsDecoder(profile, mode.size_px) if profile is not None and sends_counts else None
        self._jpeg = JpegDecoder()

    def __call__(self, data: bytes) -> Picture:
        """Decode one buffer; ValueError: it is too short, or not an image."""
        if self._counts is not None:
            return self._counts(as_words(data, size_px=self._mode.size_px, stride_bytes=self._mode.stride_bytes))
        image, pixel_format = self._unpacked(data)
        return Picture(image=image, pixel_format=pixel_format)

    def _unpacked(self, data: bytes) -> tuple[Image, PixelFormat]:
        size_px, stride_bytes = self._mode.size_px, self._mode.stride_bytes
        width, height = size_px
        match self._mode.fourcc:
            case "MJPG":
                return self._convert(self._jpeg(data))
            case "GREY":
                gray = as_gray(data, size_px=size_px, stride_bytes=stride_bytes)
                return to_band(np.array(gray, np.uint8), band=self._band)
            case "Y16":
                words = as_words(data, size_px=size_px, stride_bytes=stride_bytes)
                return to_band(np.array(words, np.uint16), band=self._band)
            case "NV12":
                return self._converted(
                    as_gray(data, size_px=(width, height * 3 // 2), stride_bytes=stride_bytes), "nv12"
                )
            case fourcc:  # YUYV, or UYVY: the same pairs of bytes, turned round
                pairs = as_gray(data, size_px=(2 * width, height), stride_bytes=stride_bytes).reshape(height, width, 2)
                return self._converted(pairs[..., ::-1] if fourcc == "UYVY" else pairs, "yuyv422")

    def _converted(self, pixels: Any, layout: str) -> tuple[Image, PixelFormat]:
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=layout)
        frame.color_range = ColorRange.JPEG if self._mode.full_range else ColorRange.MPEG
        return self._convert(frame)


class JpegDecoder:
    """JPEG images that a camera sends. For one thread.

    Damage is an error, not a picture with a gray rest. There are cameras whose every image breaks a rule, though: when the
    first images all fail, the rules are no longer insisted on.
    """

    STRICT_TRIES = 10

    def __init__(self) -> None:
        self._codec = _jpeg_codec(strict=True)
        self._failures: int | None = 0

    def __call__(self, data: bytes) -> av.VideoFrame:
        """Decode one image; ValueError: it is damaged, or none at all."""
        try:
            frames = self._codec.decode(av.Packet(data)) if data else []
        except (av.FFmpegError, OSError) as error:
            self._count_failure()
            raise ValueError(f"not a whole JPEG image: {error.strerror}") from None
        if not frames or frames[-1].is_corrupt:
            raise ValueError("the buffer holds no whole JPEG image")
        self._failures = None
        return frames[-1]

    def _count_failure(self) -> None:
        if self._failures is None:
            return
        self._failures += 1
        if self._failures == self.STRICT_TRIES:
            self._codec = _jpeg_codec(strict=False)


def _jpeg_codec(*, strict: bool) -> VideoCodecContext:
    codec = CodecContext.create("mjpeg", "r")
    codec.thread_count = 1
    if strict:
        codec.options = {"err_detect": "explode"}
    return codec
