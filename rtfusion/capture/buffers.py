"""Buffers of a V4L2 driver as images, by the mode that was negotiated."""

from __future__ import annotations

from typing import Any

import av
import cv2
import numpy as np
from av.codec.context import CodecContext
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import ColorRange

from rtfusion.capture.palette import ThermalColors
from rtfusion.capture.pixels import PixelConverter
from rtfusion.capture.profiles import DEEP_BITS, CountsDecoder, Picture, Profile, Words, as_gray, as_words
from rtfusion.capture.stills import to_band
from rtfusion.capture.v4l2_abi import BE_SUFFIX
from rtfusion.capture.v4l2_device import Mode
from rtfusion.types import Band, Image, PixelFormat

_PAIRS = ("YUYV", "UYVY", "YVYU", "VYUY")
"""Formats of two bytes per pixel, named by the order of luma and chroma in two pixels."""
_TO_BGR = {
    "YUYV": cv2.COLOR_YUV2BGR_YUYV,
    "UYVY": cv2.COLOR_YUV2BGR_UYVY,
    "YVYU": cv2.COLOR_YUV2BGR_YVYU,
    "NV12": cv2.COLOR_YUV2BGR_NV12,
    "NV21": cv2.COLOR_YUV2BGR_NV21,
    "YU12": cv2.COLOR_YUV2BGR_I420,
    "YV12": cv2.COLOR_YUV2BGR_YV12,
}
"""What OpenCV converts within half a gray level: BT.601 in video range, which is what cameras send unless they say otherwise."""
_BT601, _BT709 = 5, 1
_FULL_RANGE_JPEG = ("yuvj420p", "yuvj422p", "yuvj444p", "yuvj440p")


class BufferDecoder:
    """Decodes the buffers of one stream. For one thread.

    ``profile`` says what a thermal camera sends; None for a visible one. ``jpeg`` is what is known of the camera's JPEG
    images from before. ``colors`` undoes palettes of thermal pictures, of which otherwise the luminance is taken.
    """

    def __init__(
        self,
        mode: Mode,
        *,
        profile: Profile | None,
        band: Band,
        jpeg: JpegRules | None = None,
        colors: ThermalColors | None = None,
    ) -> None:
        self._mode = mode
        self._band = band
        self._colors = colors if band is Band.THERMAL else None
        self._convert = PixelConverter(band, colors=self._colors)
        sends_counts = profile is not None and profile.counts_of is not None
        self._counts = CountsDecoder(profile, mode.size_px) if profile is not None and sends_counts else None
        self._jpeg = JpegDecoder(jpeg)

    @property
    def notes(self) -> list[str]:
        """Sentences for the user about what comes."""
        return [note for note in (self._jpeg.note, self._colors and self._colors.note) if note]

    def __call__(self, data: bytes) -> Picture:
        """Decode one buffer; ValueError: it is too short, or not an image."""
        if self._counts is not None:
            return self._counts(self._words(data))
        image, pixel_format = self._unpacked(data)
        return Picture(image=image, pixel_format=pixel_format)

    def _words(self, data: bytes) -> Words:
        mode = self._mode
        big_endian = mode.fourcc.endswith(BE_SUFFIX)
        return as_words(data, size_px=mode.size_px, stride_bytes=mode.stride_bytes, big_endian=big_endian)

    def _plane(self, data: bytes, *, columns: int, rows: int) -> Any:
        return as_gray(data, size_px=(columns, rows), stride_bytes=self._mode.stride_bytes)

    def _unpacked(self, data: bytes) -> tuple[Image, PixelFormat]:
        width, height = self._mode.size_px
        match self._mode.fourcc:
            case "MJPG" | "JPEG":
                return jpeg_image(self._jpeg(data), convert=self._convert, band=self._band)
            case "GREY":
                return to_band(np.array(self._plane(data, columns=width, rows=height), np.uint8), band=self._band)
            case name if name in DEEP_BITS:
                unused_bits = 0 if self._band is Band.THERMAL else 16 - DEEP_BITS[name]
                return to_band(np.array(self._words(data) << unused_bits, np.uint16), band=self._band)
            case "BGR3" | "RGB3" as name:
                color = self._plane(data, columns=3 * width, rows=height).reshape(height, width, 3)
                layout = "bgr24" if name == "BGR3" else "rgb24"
                return self._convert(av.VideoFrame.from_ndarray(np.ascontiguousarray(color), format=layout))
            case name if name in _PAIRS:
                pairs = self._plane(data, columns=2 * width, rows=height).reshape(height, width, 2)
                return self._of_pairs(pairs, name)
            case name:
                return self._of_planes(data, name)

    def _of_pairs(self, pairs: Any, name: str) -> tuple[Image, PixelFormat]:
        luma = pairs[..., 0 if name[0] == "Y" else 1]
        if self._takes_luma_alone(pairs.shape[1]):
            return self._of_luma(luma)
        _check_even(pairs.shape[1])
        if name == "VYUY":  # the same turned round
            pairs, name = pairs[..., ::-1], "YVYU"
        if self._is_for_opencv:
            return cv2.cvtColor(np.ascontiguousarray(pairs), _TO_BGR[name]).astype(
                np.uint8, copy=False
            ), PixelFormat.BGR8
        chroma = pairs[..., 0 if name == "UYVY" else 1]
        first, second = (chroma[:, start::2].repeat(2, axis=1) for start in (0, 1))
        return self._of_yuv(luma, *((second, first) if name == "YVYU" else (first, second)))

    def _of_planes(self, data: bytes, name: str) -> tuple[Image, PixelFormat]:
        """An image of a plane of luma, and below it chroma of half its size: interleaved, or in two planes."""
        width, height = self._mode.size_px
        luma = self._plane(data, columns=width, rows=height)
        if self._takes_luma_alone(width, height):
            return self._of_luma(luma)
        _check_even(width, height)
        if name in ("NV12", "NV21"):
            whole = self._plane(data, columns=width, rows=height * 3 // 2)
            pairs = whole[height:].reshape(height // 2, width // 2, 2)
            first, second = pairs[..., 0], pairs[..., 1]
        else:
            whole, first, second = self._three_planes(data)
        if self._is_for_opencv and whole is not None:
            return cv2.cvtColor(np.ascontiguousarray(whole), _TO_BGR[name]).astype(
                np.uint8, copy=False
            ), PixelFormat.BGR8
        u, v = (second, first) if name in ("NV21", "YV12") else (first, second)
        large = (plane.repeat(2, axis=0).repeat(2, axis=1) for plane in (u, v))
        return self._of_yuv(luma, *large)

    def _three_planes(self, data: bytes) -> tuple[Any, Any, Any]:
        """(the whole as one plane, or None where rows are padded; the second plane; the third one)."""
        width, height = self._mode.size_px
        stride = max(self._mode.stride_bytes, width)
        samples = np.frombuffer(data, np.uint8)
        luma, chroma = stride * height, stride // 2 * (height // 2)
        if samples.size < luma + 2 * chroma:
            raise ValueError(f"{samples.size} bytes; expected {luma + 2 * chroma}")
        first, second = (
            samples[start : start + chroma].reshape(height // 2, stride // 2)[:, : width // 2]
            for start in (luma, luma + chroma)
        )
        whole = samples[: luma + 2 * chroma].reshape(height * 3 // 2, width) if stride == width else None
        return whole, first, second

    @property
    def _is_for_opencv(self) -> bool:
        """A visible picture whose color is coded in the way that OpenCV converts."""
        return self._band is Band.VISIBLE and not self._mode.full_range and not self._mode.bt709

    def _takes_luma_alone(self, *sizes_px: int) -> bool:
        """Of a thermal picture whose color tells nothing: its luminance is wanted, or it has none for every pixel."""
        is_color_of_use = self._colors is not None and self._colors.are_of_use
        return self._band is Band.THERMAL and (not is_color_of_use or any(size % 2 for size in sizes_px))

    def _of_luma(self, y: Any) -> tuple[Image, PixelFormat]:
        return self._coded(np.ascontiguousarray(y), "gray")

    def _of_yuv(self, y: Any, u: Any, v: Any) -> tuple[Image, PixelFormat]:
        """An image of planes of the full size."""
        return self._coded(np.stack([y, u, v]), "yuv444p")

    def _coded(self, planes: Any, layout: str) -> tuple[Image, PixelFormat]:
        frame = av.VideoFrame.from_ndarray(planes, format=layout)
        frame.color_range = ColorRange.JPEG if self._mode.full_range else ColorRange.MPEG
        frame.colorspace = _BT709 if self._mode.bt709 else _BT601
        return self._convert(frame)


def _check_even(*sizes_px: int) -> None:
    if any(size % 2 for size in sizes_px):
        raise ValueError(f"a size of {sizes_px} pixels; color is shared by two")


def jpeg_image(frame: av.VideoFrame, *, convert: PixelConverter, band: Band) -> tuple[Image, PixelFormat]:
    """The image of a JPEG: full range, BT.601, whatever its size, and rounded to the nearest level."""
    if band is Band.THERMAL or frame.format.name not in _FULL_RANGE_JPEG:
        return convert(frame)
    y, u, v = (
        np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
        for plane in frame.planes
    )
    large = (cv2.resize(plane, (frame.width, frame.height), interpolation=cv2.INTER_NEAREST) for plane in (v, u))
    merged = cv2.merge([np.ascontiguousarray(y), *large])
    return cv2.cvtColor(merged, cv2.COLOR_YCrCb2BGR).astype(np.uint8, copy=False), PixelFormat.BGR8


class JpegRules:
    """What is known of the JPEG images of one camera, from one opening to the next.

    There are cameras whose every image breaks a rule of the format. The rules are no longer insisted on when the very first
    images of a camera all broke them; what a camera that sent a whole image sends damaged later is damaged.
    """

    STRICT_TRIES = 10

    def __init__(self) -> None:
        self._failures: int | None = 0

    @property
    def are_lenient(self) -> bool:
        """True for a camera that has never sent an image by the rules."""
        return self._failures is not None and self._failures >= self.STRICT_TRIES

    def was_whole(self) -> None:
        """An image kept all rules."""
        self._failures = None

    def was_broken(self) -> None:
        """An image broke one."""
        if self._failures is not None:
            self._failures += 1


class JpegDecoder:
    """JPEG images that a camera sends. For one thread.

    Damage is an error, not a picture with a gray or green rest. An image that lacks its end is damaged, whatever the rules.
    """

    def __init__(self, rules: JpegRules | None = None) -> None:
        self._rules = JpegRules() if rules is None else rules
        self._codec = _jpeg_codec(strict=True)
        self._lenient: VideoCodecContext | None = None

    @property
    def note(self) -> str | None:
        """A sentence for the user about a camera that keeps no rules."""
        if self._lenient is None:
            return None
        return "its every JPEG image breaks a rule of the format; they are shown as far as they can be decoded"

    def __call__(self, data: bytes) -> av.VideoFrame:
        """Decode one image; ValueError: it is damaged, or none at all."""
        try:
            frame = _decoded(self._codec, data)
        except ValueError:
            self._rules.was_broken()
            if not self._rules.are_lenient or not _has_end(data):
                raise
            self._lenient = self._lenient or _jpeg_codec(strict=False)
            return _decoded(self._lenient, data)
        self._rules.was_whole()
        self._lenient = None
        return frame


def _decoded(codec: VideoCodecContext, data: bytes) -> av.VideoFrame:
    try:
        frames = codec.decode(av.Packet(data)) if data else []
    except (av.FFmpegError, OSError) as error:
        reason = error.strerror
    else:
        if frames and not frames[-1].is_corrupt:
            return frames[-1]
        reason = "nothing in it"
    raise ValueError(f"not a whole JPEG image: {reason}")


def _has_end(data: bytes) -> bool:
    """True when the mark of the end follows after the last scan: within one its bytes cannot stand."""
    return data.rfind(b"\xff\xd9") > data.rfind(b"\xff\xda")


def _jpeg_codec(*, strict: bool) -> VideoCodecContext:
    codec = CodecContext.create("mjpeg", "r")
    codec.thread_count = 1
    if strict:
        codec.options = {"err_detect": "explode"}
    return codec
