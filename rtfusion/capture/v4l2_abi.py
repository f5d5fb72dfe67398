"""The part of linux/videodev2.h that capturing needs: structures laid out by ctypes, request numbers made from their sizes."""

from __future__ import annotations

import ctypes
from ctypes import Array, Structure, Union, c_int32, c_long, c_uint8, c_uint32, c_ulong, c_void_p, sizeof

VIDEO_CAPTURE = 1
MMAP = 1
FIELD_ANY = 0

CAP_VIDEO_CAPTURE = 0x0000_0001
CAP_STREAMING = 0x0400_0000
CAP_DEVICE_CAPS = 0x8000_0000
CAP_TIMEPERFRAME = 0x1000

FLAG_ERROR = 0x40
FLAG_TIMESTAMP_MASK = 0xE000
FLAG_TIMESTAMP_MONOTONIC = 0x2000
FLAG_STAMP_SOURCE_MASK = 0x7_0000
FLAG_STAMP_START_OF_EXPOSURE = 0x1_0000

DISCRETE = 1
CONTINUOUS = 2
QUANTIZATION_FULL_RANGE = 1
YCBCR_ENC_709 = 2
COLORSPACE_REC709 = 3
BIG_ENDIAN = 1 << 31
"""Set in the number of a pixel format whose words have their high byte first."""
CID_ZOOM_ABSOLUTE = 0x009A_090D


Fields = tuple[tuple[str, type[c_uint32] | type[Array[c_uint32]]], ...]


def _words(names: str) -> Fields:
    """Fields of 32 bits by their names; ``name*3`` is an array of three."""
    split = [name.partition("*") for name in names.split()]
    return tuple((name, c_uint32 * int(count) if count else c_uint32) for name, _, count in split)


class Capability(Structure):
    """Identity and abilities of a device."""

    _fields_ = (
        *(("driver", c_uint8 * 16), ("card", c_uint8 * 32), ("bus_info", c_uint8 * 32)),
        *_words("version capabilities device_caps reserved*3"),
    )


class FormatDescription(Structure):
    """One pixel format of the list."""

    _fields_ = (
        *_words("index type flags"),
        ("description", c_uint8 * 32),
        *_words("pixelformat mbus_code reserved*3"),
    )


class Fraction(Structure):
    """Seconds per frame."""

    _fields_ = _words("numerator denominator")


class FrameSize(Structure):
    """One size of a pixel format, or the smallest, largest and step of many.

    ``numbers`` are width and height where ``type`` is `DISCRETE`, else min_width, max_width, step_width and the same of
    the height.
    """

    _fields_ = _words("index pixel_format type numbers*6 reserved*2")


class FrameInterval(Structure):
    """One interval between frames of a size, or the shortest, longest and step of many."""

    _fields_ = (*_words("index pixel_format width height type"), ("intervals", Fraction * 3), *_words("reserved*2"))


class PixelFormat(Structure):
    """Size and layout of the images."""

    _fields_ = _words(
        "width height pixelformat field bytesperline sizeimage colorspace priv flags ycbcr_enc quantization xfer_func"
    )


class _FormatUnion(Union):
    _fields_ = (("pix", PixelFormat), ("raw", c_uint8 * 200), ("align", c_void_p))


class Format(Structure):
    """The format of a stream."""

    _fields_ = (("type", c_uint32), ("fmt", _FormatUnion))


class CaptureParameters(Structure):
    """The rate of a stream."""

    _fields_ = (
        *_words("capability capturemode"),
        ("timeperframe", Fraction),
        *_words("extendedmode readbuffers reserved*4"),
    )


class _ParametersUnion(Union):
    _fields_ = (("capture", CaptureParameters), ("raw", c_uint8 * 200))


class StreamParameters(Structure):
    """The rate of a stream, as it is passed."""

    _fields_ = (("type", c_uint32), ("parameters", _ParametersUnion))


class RequestBuffers(Structure):
    """The number of buffers of a stream."""

    _fields_ = (*_words("count type memory capabilities"), ("flags", c_uint8), ("reserved", c_uint8 * 3))


class Timeval(Structure):
    """Seconds and microseconds."""

    _fields_ = (("seconds", c_long), ("microseconds", c_long))


class _BufferPlace(Union):
    _fields_ = (("offset", c_uint32), ("userptr", c_ulong), ("planes", c_void_p), ("fd", c_int32))


class Buffer(Structure):
    """The place of one buffer, and what the driver says of the frame in it."""

    _fields_ = (
        *_words("index type bytesused flags field"),
        ("timestamp", Timeval),
        *_words("timecode*4 sequence memory"),
        ("m", _BufferPlace),
        *_words("length reserved2 request_fd"),
    )


class StreamType(Structure):
    """The kind of stream to start or stop."""

    _fields_ = (("type", c_int32),)


class Control(Structure):
    """The value of one control."""

    _fields_ = (("id", c_uint32), ("value", c_int32))


def _request(number: int, argument: type[Structure], direction: int = 3) -> int:
    """The number of a call; the driver writes into its argument (2), reads from it (1) or does both (3)."""
    return direction << 30 | sizeof(argument) << 16 | ord("V") << 8 | number


QUERYCAP = _request(0, Capability, 2)
ENUM_FMT = _request(2, FormatDescription)
G_FMT = _request(4, Format)
S_FMT = _request(5, Format)
REQBUFS = _request(8, RequestBuffers)
QUERYBUF = _request(9, Buffer)
QBUF = _request(15, Buffer)
DQBUF = _request(17, Buffer)
STREAMON = _request(18, StreamType, 1)
STREAMOFF = _request(19, StreamType, 1)
S_PARM = _request(22, StreamParameters)
G_PARM = _request(21, StreamParameters)
S_CTRL = _request(28, Control)
ENUM_FRAMESIZES = _request(74, FrameSize)
ENUM_FRAMEINTERVALS = _request(75, FrameInterval)


BE_SUFFIX = "-BE"


def fourcc(text: str) -> int:
    """The number of a pixel format such as ``YUYV``, or ``Y16-BE`` with the high byte of each word first."""
    name = text.removesuffix(BE_SUFFIX)
    return int.from_bytes(name.encode("ascii").ljust(4), "little") | (BIG_ENDIAN if name != text else 0)


def fourcc_text(number: int) -> str:
    """The name of a pixel format as for `fourcc`, blanks at its end removed; what cannot be printed becomes ``?``."""
    characters = (chr(byte) for byte in (number & ~BIG_ENDIAN).to_bytes(4, "little"))
    name = "".join(c if " " <= c <= "~" else "?" for c in characters).rstrip()
    return f"{name}{BE_SUFFIX}" if number & BIG_ENDIAN else name


def text(field: ctypes.Array[c_uint8]) -> str:
    """A fixed-size string of the kernel."""
    return bytes(field).split(b"\0", 1)[0].decode("utf-8", "replace")
