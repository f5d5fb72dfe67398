"""Buffers of thermal cameras, byte by byte as their layouts are described: written apart from the code that decodes them.

``python -m tests.capture.layouts`` writes the committed fixtures anew; a test holds them against what this file makes.
"""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

FOLDER = Path(__file__).parent / "fixtures"


def count_at(x: int, y: int, *, base: int, step: int) -> int:
    """The count of one pixel: a slope with a warm spot at (10, 7) and a cold one at (20, 11)."""
    return base + step * (x + 2 * y) + {(10, 7): 900, (20, 11): -700}.get((x, y), 0)


def plane(width: int, height: int, *, base: int, step: int = 1) -> bytes:
    """Counts, row after row, little-endian."""
    return b"".join(
        struct.pack("<H", count_at(x, y, base=base, step=step)) for y in range(height) for x in range(width)
    )


def picture(width: int, height: int) -> bytes:
    """A gray YUYV picture that no decoder of counts may take for them."""
    return b"\x50\x80" * (width * height)


def telemetry(words: int, *, counter: int, ffc: int, tlinear: bool, fine: bool, fpa_centikelvin: int = 30215) -> bytes:
    """Rows of a Lepton: 32-bit numbers low word first."""
    row = [0] * words
    row[0] = 14  # revision
    row[3] = ffc << 4
    row[20], row[21] = counter & 0xFFFF, counter >> 16
    row[24] = fpa_centikelvin
    row[160 + 48], row[160 + 49] = int(tlinear), int(fine)
    return struct.pack(f"<{words}H", *row)


def lepton3(*, counter: int = 70_000, ffc: int = 3, tlinear: bool = True, fine: bool = True) -> bytes:
    """160x122: four rows of 80 words below the image."""
    return plane(160, 120, base=29000) + telemetry(320, counter=counter, ffc=ffc, tlinear=tlinear, fine=fine)


def lepton2(*, counter: int = 5, ffc: int = 3) -> bytes:
    """80x63: three rows of 80 words below the image."""
    return plane(80, 60, base=29000) + telemetry(240, counter=counter, ffc=ffc, tlinear=True, fine=False)


def p2pro() -> bytes:
    """256x384: picture above, counts of 1/64 K below."""
    return picture(256, 192) + plane(256, 192, base=19000)


def tc002c() -> bytes:
    """512x484: counts of 1/16 K, two rows in a line of 512; status; a picture of 512x384; status."""
    return plane(256, 192, base=4700) + b"\xa5" * (2 * 512 * 2) + picture(512, 384) + b"\xa5" * (2 * 512 * 2)


def ht301() -> bytes:
    """384x292: counts, then four rows of calibration data."""
    return plane(384, 288, base=5000) + bytes(range(256)) * (4 * 384 * 2 // 256)


FIXTURES = {
    "y16_160x120": lambda: plane(160, 120, base=7000),
    "lepton_160x122": lepton3,
    "lepton_80x63": lepton2,
    "boson_320x256": lambda: plane(320, 256, base=12000),
    "p2pro_256x384": p2pro,
    "tc002c_512x484": tc002c,
    "ht301_384x292": ht301,
    "gray8_32x24": lambda: bytes((x + y) % 256 for y in range(24) for x in range(32)),
}


def stored(name: str) -> bytes:
    """A committed fixture."""
    return gzip.decompress((FOLDER / f"{name}.bin.gz").read_bytes())


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for fixture, make in FIXTURES.items():
        (FOLDER / f"{fixture}.bin.gz").write_bytes(gzip.compress(make(), 9, mtime=0))
