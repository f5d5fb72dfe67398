"""JPEG images from anybody: what they say of themselves is checked before a decoder makes room for it.

Two thousand bytes can say that they are 30000x30000 pixels, for which a decoder takes gigabytes and then makes a gray picture of
nothing. So an image has the size that was agreed on, and at least as many bytes as so many blocks take in the best of codes.
"""

from __future__ import annotations

from typing import NamedTuple

_DHT, _JPG, _DAC, _SOI, _EOI, _SOS = 0xC4, 0xC8, 0xCC, 0xD8, 0xD9, 0xDA
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_BLOCK_PX = 8


class JpegFrame(NamedTuple):
    """What the frame header of a JPEG image says."""

    size_px: tuple[int, int]
    least_bytes: int
    """A whole image of that size is no shorter: two bits for each block of each component, or one in progressive images."""


def jpeg_frame(data: memoryview) -> JpegFrame | None:
    """Read the frame header; None: this is no JPEG image, or one that decoders may take for different things."""
    if bytes(data[:2]) != b"\xff\xd8" or bytes(data[-2:]) != b"\xff\xd9":
        return None
    at = 2
    while at + 10 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker < 0xC0 or marker == 0xFF or 0xD0 <= marker <= _SOS or length < 2:
            return None  # fill bytes, restarts and scans have no place before the frame header
        if marker <= 0xCF and marker not in (_DHT, _JPG, _DAC):
            return _frame(data[at + 4 : at + 2 + length], bits=1 if marker in _PROGRESSIVE else 2)
        at += 2 + length
    return None


def _frame(header: memoryview, *, bits: int) -> JpegFrame | None:
    """Precision, height, width, the number of components, and of each its name, its sampling and its table."""
    if len(header) < 6 or header[0] != 8 or header[5] not in (1, 3, 4) or len(header) != 6 + 3 * header[5]:
        return None
    height, width = int.from_bytes(header[1:3], "big"), int.from_bytes(header[3:5], "big")
    sampling = [divmod(header[at], 16) for at in range(7, len(header), 3)]
    if not (width and height) or not all(1 <= across <= 4 and 1 <= down <= 4 for across, down in sampling):
        return None
    widest, highest = max(across for across, _ in sampling), max(down for _, down in sampling)
    units = -(-width // (_BLOCK_PX * widest)) * -(-height // (_BLOCK_PX * highest))
    blocks = units * sum(across * down for across, down in sampling)
    if len(sampling) == 1:  # one component alone is not interleaved: as many blocks as it has pixels for
        blocks = -(-width // _BLOCK_PX) * -(-height // _BLOCK_PX)
    return JpegFrame((width, height), blocks * bits // 8)
