"""The part of linux/videodev2.h that capturing needs: structures laid out by ctypes, request numbers made from their sizes."""

from __future__ import annotations

import ctypes
from ctypes import Structure, Union, c_int32, c_long, c_uint8, c_uint32, c_ulong, c_void_p, sizeof

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
QUANTIZATION_FULL_RANGE = 1
CID_ZOOM_ABSOLUTE = 0x009A_090D


class Capability(Structure):
    """What a device is and can do."""

    _fields_ = (
        ("driver", c_uint8 * 16),
        ("card", c_uint8 * 32),
        ("bus_info", c_uint8 * 32),
        ("version", c_uint32),
        ("capabilities", c_uint32),
        ("device_caps", c_uint32),
        ("reserved", c_uint32 * 3),
    )


class FormatDescription(Structure):
    """One pixel format of the list."""

    _fields_ = (
        ("index", c_uint32),
        ("type", c_uint32),
        ("flags", c_uint32),
        ("description", c_uint8 * 32),
        ("pixelformat", c_uint32),
        ("mbus_code", c_uint32),
        ("reserved", c_uint32 * 3),
    )


class Fraction(Structure):
    """Seconds per frame."""

    _fields_ = (("numerator", c_uint32), ("denominator", c_uint32))


class FrameSize(Structure):
    """One size of a pixel format, or the smallest, largest and step of many."""

    _fields_ = (
        ("index", c_uint32),
        ("pixel_format", c_uint32),
        ("type", c_uint32),
        # discrete: width, height. Else: min_width, max_width, step_width, min_height, max_height, step_height
        ("numbers", c_uint32 * 6),
        ("reserved", c_uint32 * 2),
    )


class FrameInterval(Structure):
    """One interval between frames of a size, or the shortest, longest and step of many."""

    _fields_ = (
        ("index", c_uint32),
        ("pixel_format", c_uint32),
        ("width", c_uint32),
        ("height", c_uint32),
        ("type", c_uint32),
        ("intervals", Fraction * 3),
        ("reserved", c_uint32 * 2),
    )


class PixelFormat(Structure):
    """Size and layout of the images."""

    _fields_ = (
        ("width", c_uint32),
        ("height", c_uint32),
        ("pixelformat", c_uint32),
        ("field", c_uint32),
        ("bytesperline", c_uint32),
        ("sizeimage", c_uint32),
        ("colorspace", c_uint32),
        ("priv", c_uint32),
        ("flags", c_uint32),
        ("ycbcr_enc", c_uint32),
        ("quantization", c_uint32),
        ("xfer_func", c_uint32),
    )


class _FormatUnion(Union):
    _fields_ = (("pix", PixelFormat), ("raw", c_uint8 * 200), ("align", c_void_p))


class Format(Structure):
    """The format of a stream."""

    _fields_ = (("type", c_uint32), ("fmt", _FormatUnion))


class CaptureParameters(Structure):
    """The rate of a stream."""

    _fields_ = (
        ("capability", c_uint32),
        ("capturemode", c_uint32),
        ("timeperframe", Fraction),
        ("extendedmode", c_uint32),
        ("readbuffers", c_uint32),
        ("reserved", c_uint32 * 4),
    )


class _ParametersUnion(Union):
    _fields_ = (("capture", CaptureParameters), ("raw", c_uint8 * 200))


class StreamParameters(Structure):
    """The rate of a stream, as it is passed."""

    _fields_ = (("type", c_uint32), ("parameters", _ParametersUnion))


class RequestBuffers(Structure):
    """How many buffers a stream has."""

    _fields_ = (
        ("count", c_uint32),
        ("type", c_uint32),
        ("memory", c_uint32),
        ("capabilities", c_uint32),
        ("flags", c_uint8),
        ("reserved", c_uint8 * 3),
    )


class Timeval(Structure):
    """Seconds and microseconds."""

    _fields_ = (("seconds", c_long), ("microseconds", c_long))


class _BufferPlace(Union):
    _fields_ = (("offset", c_uint32), ("userptr", c_ulong), ("planes", c_void_p), ("fd", c_int32))


class Buffer(Structure):
    """One buffer: where it is, and what the driver says of the frame in it."""

    _fields_ = (
        ("index", c_uint32),
        ("type", c_uint32),
        ("bytesused", c_uint32),
        ("flags", c_uint32),
        ("field", c_uint32),
        ("timestamp", Timeval),
        ("timecode", c_uint32 * 4),
        ("sequence", c_uint32),
        ("memory", c_uint32),
        ("m", _BufferPlace),
        ("length", c_uint32),
        ("reserved2", c_uint32),
        ("request_fd", c_int32),
    )


class StreamType(Structure):
    """What to start or stop."""

    _fields_ = (("type", c_int32),)


class Control(Structure):
    """The value of one control."""

    _fields_ = (("id", c_uint32), ("value", c_int32))


_READ, _WRITE = 2, 1


def _request(number: int, argument: type[Structure], direction: int) -> int:
    return direction << 30 | sizeof(argument) << 16 | ord("V") << 8 | number


QUERYCAP = _request(0, Capability, _READ)
ENUM_FMT = _request(2, FormatDescription, _READ | _WRITE)
G_FMT = _request(4, Format, _READ | _WRITE)
S_FMT = _request(5, Format, _READ | _WRITE)
REQBUFS = _request(8, RequestBuffers, _READ | _WRITE)
QUERYBUF = _request(9, Buffer, _READ | _WRITE)
QBUF = _request(15, Buffer, _READ | _WRITE)
DQBUF = _request(17, Buffer, _READ | _WRITE)
STREAMON = _request(18, StreamType, _WRITE)
STREAMOFF = _request(19, StreamType, _WRITE)
S_PARM = _request(22, StreamParameters, _READ | _WRITE)
G_PARM = _request(21, StreamParameters, _READ | _WRITE)
S_CTRL = _request(28, Control, _READ | _WRITE)
ENUM_FRAMESIZES = _request(74, FrameSize, _READ | _WRITE)
ENUM_FRAMEINTERVALS = _request(75, FrameInterval, _READ | _WRITE)


def fourcc(text: str) -> int:
    """The number of a pixel format such as ``YUYV``."""
    return int.from_bytes(text.encode("ascii").ljust(4), "little")


def fourcc_text(number: int) -> str:
    """The name of a pixel format, blanks at its end removed; what cannot be printed becomes ``?``."""
    characters = (chr(byte) for byte in (number & 0x7FFF_FFFF).to_bytes(4, "little"))
    return "".join(c if " " <= c <= "~" else "?" for c in characters).rstrip()


def text(field: ctypes.Array[c_uint8]) -> str:
    """A fixed-size string of the kernel."""
    return bytes(field).split(b"\0", 1)[0].decode("utf-8", "replace")
