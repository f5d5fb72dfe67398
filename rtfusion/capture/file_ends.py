"""Whether the bytes of a file are all there, by what its format says of them: nothing is decoded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def missing_bytes(path: Path) -> int | None:
    """Bytes that a file lacks of the length that it says it has: 0 for a whole one; None where it does not say.

    AVI, MP4 and MOV, Matroska and WebM say it, but for recordings that were never finished.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            ends_at = _says_it_ends_at(file, size)
    except OSError:  # deleted meanwhile
        return None
    return max(ends_at - size, 0) if ends_at else None


def _says_it_ends_at(file: BinaryIO, size: int) -> int:
    head = file.read(12)
    if head[:4] == b"RIFF":
        return _riff_ends_at(file)
    if head[4:8] == b"ftyp":
        return _boxes_end_at(file, size)
    return _segment_ends_at(file) if head[:4] == b"\x1a\x45\xdf\xa3" else 0


def appended_bytes(path: Path) -> int:
    """Bytes of further recordings behind an MP4 or MOV file, to which it was joined byte by byte: no reader comes to them."""
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            boxes = [at for at, kind in _boxes(file, size) if kind == b"ftyp"]
    except OSError:
        return 0
    return size - boxes[1] if len(boxes) > 1 and not boxes[0] else 0


def _riff_ends_at(file: BinaryIO) -> int:
    """The end of the last chunk; a long AVI has several."""
    at = 0
    while True:
        file.seek(at)
        head = file.read(8)
        if len(head) < 8 or head[:4] != b"RIFF":
            return at
        length = int.from_bytes(head[4:], "little")
        if not length:
            return 0
        at += 8 + length + length % 2


def _boxes_end_at(file: BinaryIO, size: int) -> int:
    """The end of the last box of an MP4 file; 0 where one goes "to the end", which says nothing."""
    end = 0
    for at, _ in _boxes(file, size):
        length = _box_length(file, at)
        if not length:
            return 0
        end = at + length
    return end


def _boxes(file: BinaryIO, size: int) -> Iterator[tuple[int, bytes]]:
    """Where each outer box begins, and its kind."""
    at = 0
    while at < size:
        file.seek(at + 4)
        yield at, file.read(4)
        length = _box_length(file, at)
        if not length:
            return
        at += length


def _box_length(file: BinaryIO, at: int) -> int:
    file.seek(at)
    head = file.read(16)
    length = int.from_bytes(head[:4], "big")
    if length == 1:
        length = int.from_bytes(head[8:16], "big")
    return length if length >= 8 else 0


def _segment_ends_at(file: BinaryIO) -> int:
    """The end of the segment of a Matroska file; 0 where it does not say."""
    file.seek(4)
    at = 4
    for is_segment in (False, True):
        if is_segment:
            file.seek(at)
            if file.read(4) != b"\x18\x53\x80\x67":
                return 0
            at += 4
        file.seek(at)
        first = file.read(1)
        if not first or not first[0]:
            return 0
        width = 9 - first[0].bit_length()
        rest = file.read(width - 1)
        value = int.from_bytes(bytes([first[0] & (0x7F >> (width - 1))]) + rest, "big")
        if value == (1 << 7 * width) - 1:
            return 0
        at += width + value
    return at


_TS_BYTES, _TS_SYNC = 188, 0x47
_MOST_PACKETS = 50_000
"""No picture is longer, nor are those of other tracks between two packets of one."""


def is_whole_in_transport_stream(path: Path, at: int | None) -> bool:
    """True for a picture of a transport stream of which every packet is there, from the one at ``at`` to the last.

    The demuxer calls a picture damaged when the count of packets leaps after it, as it does where two recordings were joined.
    """
    if at is None:
        return False
    try:
        with path.open("rb") as file:
            file.seek(at)
            return _all_packets_of_a_picture(file)
    except OSError:
        return False


def _all_packets_of_a_picture(file: BinaryIO) -> bool:
    track: int | None = None
    counter = 0
    is_padded, held_bytes, declared_bytes = False, 0, 0
    for _ in range(_MOST_PACKETS):
        packet = file.read(_TS_BYTES)
        if len(packet) < _TS_BYTES:
            break
        if packet[0] != _TS_SYNC:
            return False
        begins, pid = bool(packet[1] & 0x40), (packet[1] & 0x1F) << 8 | packet[2]
        has_payload, has_field = bool(packet[3] & 0x10), bool(packet[3] & 0x20)
        if track is None:
            if not begins:
                return False
            track = pid
        elif pid != track or not has_payload:
            continue
        elif begins:
            break
        elif packet[3] & 15 != (counter + 1) % 16:
            return False
        counter = packet[3] & 15
        body = packet[5 + packet[4] :] if has_field else packet[4:]
        if not held_bytes:
            declared_bytes = int.from_bytes(body[4:6], "big")
        held_bytes += len(body)
        is_padded = has_field and bool(packet[4])
    # the last packet is filled up, unless the picture ends with it by chance: then its length must be declared
    return is_padded or bool(declared_bytes and held_bytes == declared_bytes + 6)
