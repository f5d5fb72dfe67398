"""Radiometric JPEG files as cameras write them, by their public descriptions."""

from __future__ import annotations

import struct

import cv2
import numpy as np

PLANCK = {"r1": 16528.178, "b": 1427.5, "f": 1.0, "o": -1307, "r2": 0.012258549}
"""Constants of one camera, as its owners published them."""


def encoded(image: np.ndarray, suffix: str = ".jpg") -> bytes:
    return cv2.imencode(suffix, image)[1].tobytes()


def with_segments(picture: bytes, segments: bytes) -> bytes:
    return picture[:2] + segments + picture[2:]


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def flir(
    counts: np.ndarray,
    *,
    visible: np.ndarray | None = None,
    planck: dict[str, float] | None = None,
    raw: bool = False,
    swapped: bool = True,
    order: str = ">",
    shown: np.ndarray | None = None,
) -> bytes:
    """A FLIR JPEG with these counts, as a PNG or as they are."""
    height, width = counts.shape
    body = counts.astype("<u2").tobytes() if raw else encoded(counts.byteswap() if swapped else counts, ".png")
    records = [(1, struct.pack("<HHH", 2, width, height).ljust(32, b"\0") + body)]
    if visible is not None:
        records.append((14, struct.pack("<HHH", 3, width, height).ljust(32, b"\0") + encoded(visible)))
    if planck is not None:
        camera = bytearray(0x400)
        struct.pack_into("<H", camera, 0, 2)
        struct.pack_into("<fff", camera, 0x58, planck["r1"], planck["b"], planck["f"])
        struct.pack_into("<if", camera, 0x308, int(planck["o"]), planck["r2"])
        records.append((32, bytes(camera)))
    at, entries, bodies = 64 + 32 * len(records), b"", b""
    for index, (kind, data) in enumerate(records):
        entries += struct.pack(f"{order}HHIIII", kind, 100, 100, index, at + len(bodies), len(data)).ljust(32, b"\0")
        bodies += data
    head = b"FFF\0" + b"a test".ljust(16, b"\0") + struct.pack(f"{order}III", 100, 64, len(records))
    block = head.ljust(64, b"\0") + entries + bodies
    pieces = [block[begin : begin + 65000] for begin in range(0, len(block), 65000)]
    segments = b"".join(
        segment(0xE1, b"FLIR\0\x01" + bytes([index, len(pieces) - 1]) + piece) for index, piece in enumerate(pieces)
    )
    picture = shown if shown is not None else np.zeros((height, width, 3), np.uint8)
    return with_segments(encoded(picture), segments)


def dji(counts: np.ndarray) -> bytes:
    """A DJI JPEG with these counts."""
    data = counts.astype("<u2").tobytes()
    pieces = [data[begin : begin + 60000] for begin in range(0, len(data), 60000)]
    segments = segment(0xE1, b"Exif\0\0 DJI M3T") + b"".join(segment(0xE3, piece) for piece in pieces)
    return with_segments(encoded(np.zeros((*counts.shape, 3), np.uint8)), segments)
