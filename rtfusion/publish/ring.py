"""Frames in shared memory, for subscribers on the publisher's machine: a ring of slots in a file of /dev/shm.

A slot is a generation (8 bytes, little endian; ``ticket`` in the wire format), 56 unused bytes, and the pixels: a seqlock. The
writer clears the generation one frame before it writes the pixels, and sets it after. A reader that finds the generation it
was told of, before and after it copied the pixels, has them whole; else it was overrun. The writer never waits for a reader.

The file is locked (flock) for as long as its writer lives. What a killed writer left behind is not locked, and the next
writer removes it. (A plain file and not `multiprocessing.shared_memory`, whose readers remove what they read when they
end, and whose keeper is one more process.)
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import re
import stat
import struct
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from rtfusion.errors import ConfigError, SinkError, WireError
from rtfusion.portable import CLOSED_ON_EXEC, lock, needs
from rtfusion.types import Image8

FOLDER = Path("/dev/shm")  # noqa: S108 - shared memory is what is wanted
PREFIX = "rtfusion-ring-"
SLOTS = 8
SLOT_HEAD_BYTES = 64
MAX_PLACE_BYTES = 256
MAX_OFFSET_BYTES = 1 << 40

_NAME = re.compile(rf"{PREFIX}[0-9a-f]{{32}}")
_GENERATION = struct.Struct("<Q")


class Overrun(Exception):  # noqa: N818 - a state, not a failure
    """The writer was faster: what was announced is overwritten."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """The place of a frame in shared memory: the payload, a MessagePack map, of a message with the encoding ``shm``."""

    name: str
    """Name of the file in /dev/shm."""
    offset_bytes: int
    """Offset of the slot; the pixels begin 64 bytes later."""
    generation: int
    """1 or more; another number in the slot means that the frame is gone."""

    @classmethod
    def parse(cls, payload: memoryview) -> Place:
        """Check and decode a payload.

        Raises:
            WireError: it names no place.
        """
        values = unpack_map(payload, what="payload", max_bytes=MAX_PLACE_BYTES)
        name, offset, generation = (values.get(key) for key in ("name", "offset_bytes", "ticket"))
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise WireError("the payload's name is not that of a ring")
        if (
            type(offset) is not int
            or not 0 <= offset <= MAX_OFFSET_BYTES
            or type(generation) is not int
            or generation < 1
        ):
            raise WireError("the payload's offset_bytes and ticket are not whole numbers of 0 and 1 or more")
        return cls(name=name, offset_bytes=offset, generation=generation)


class RingWriter:
    """The publisher's side. A ring is made for the size of the first frame, and another one when the size changes."""

    def __init__(self, *, folder: Path = FOLDER) -> None:
        """Remove what killed writers left behind.

        Raises:
            ConfigError: this system has no such shared memory.
        """
        needs("linux", what="publishing in shared memory", instead="publish with encoding=raw")
        if not folder.is_dir():
            raise ConfigError(f"there is no {folder} for shared memory on this system; publish with encoding=raw")
        self._folder = folder
        self._path: Path | None = None
        self._file = -1
        self._memory: Any = None
        self._slot_bytes = 0
        self._generations = 0
        sweep(folder)

    def put(self, image: Image8) -> bytes:
        """Write one (H, W, 3) image, and return the payload that says where it lies.

        Raises:
            SinkError: there is no room for a ring.
        """
        slot_bytes = -(-(SLOT_HEAD_BYTES + image.nbytes) // SLOT_HEAD_BYTES) * SLOT_HEAD_BYTES
        if self._path is None or slot_bytes != self._slot_bytes:
            self._path = self._open(slot_bytes)
        self._generations += 1
        offset = self._generations % SLOTS * slot_bytes
        self._stamp(offset, 0)
        start = offset + SLOT_HEAD_BYTES
        np.copyto(self._memory[start : start + image.nbytes].reshape(image.shape), image)
        self._stamp((self._generations + 1) % SLOTS * slot_bytes, 0)
        self._stamp(offset, self._generations)
        packed: bytes = msgpack.packb({"name": self._path.name, "offset_bytes": offset, "ticket": self._generations})
        return packed

    def close(self) -> None:
        """Remove the ring; readers keep what they hold. Idempotent."""
        self._memory = None
        self._slot_bytes = 0
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            os.close(self._file)
            self._path = None

    def _stamp(self, offset: int, generation: int) -> None:
        _GENERATION.pack_into(self._memory, offset, generation)

    def _open(self, slot_bytes: int) -> Path:
        self.close()
        name = f"{PREFIX}{uuid.uuid4().hex}"
        hidden = self._folder / f".{name}"
        try:
            file = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL | CLOSED_ON_EXEC, 0o600)
        except OSError as error:
            raise SinkError(
                f"no ring can be made in {self._folder}: {error.strerror}; publish with encoding=raw"
            ) from None
        try:
            lock(file)
            os.posix_fallocate(file, 0, SLOTS * slot_bytes)  # a hole that cannot be filled later would end the process
            self._memory = np.frombuffer(mmap.mmap(file, SLOTS * slot_bytes), np.uint8)
        except OSError as error:
            hidden.unlink()
            os.close(file)
            full = error.errno in (errno.ENOSPC, errno.ENOMEM)
            hint = "make room there, or publish with encoding=raw" if full else "publish with encoding=raw"
            raise SinkError(
                f"no ring of {SLOTS * slot_bytes / 1e6:.0f} MB in {self._folder}: {error.strerror}; {hint}"
            ) from None
        self._file, self._slot_bytes = file, slot_bytes
        return hidden.rename(self._folder / name)  # seen only now that it is locked


class RingReader:
    """A subscriber's side: keeps the ring of the last message open.

    The publisher names a file, and nothing in it is trusted: it is read and not mapped, so that one that is cut off while it is
    read is an error and not the end of the process, and a pipe is not waited for.
    """

    def __init__(self, *, folder: Path = FOLDER) -> None:
        self._folder = folder
        self._name: str | None = None
        self._file = -1

    def read(self, payload: memoryview, *, width_px: int, height_px: int) -> Image8:
        """(H, W, 3) BGR in memory of its own.

        Raises:
            Overrun: the writer was faster, or has ended.
            WireError: the payload names no place with such a frame.
        """
        place = Place.parse(payload)
        if place.name != self._name:
            self.close()
            self._file, self._name = _opened(self._folder / place.name), place.name
        start, count = place.offset_bytes + SLOT_HEAD_BYTES, width_px * height_px * 3
        if start + count > os.fstat(self._file).st_size:
            raise WireError(f"the payload's slot at {place.offset_bytes} ends beyond its ring")
        self._check_generation(place)
        image: Image8 = np.empty((height_px, width_px, 3), np.uint8)
        self._fill(image.data.cast("B"), start)
        self._check_generation(place)
        return image

    def close(self) -> None:
        """Let go of the ring. Idempotent."""
        file, self._file, self._name = self._file, -1, None
        if file >= 0:
            os.close(file)

    def _check_generation(self, place: Place) -> None:
        found = bytearray(_GENERATION.size)
        self._fill(memoryview(found), place.offset_bytes)
        (generation,) = _GENERATION.unpack(found)
        if generation != place.generation:
            raise Overrun(f"slot {place.offset_bytes} has generation {generation}, not {place.generation}")

    def _fill(self, buffer: memoryview, offset: int) -> None:
        """Read so much as the buffer holds."""
        while buffer:
            count = os.preadv(self._file, [buffer], offset)
            if not count:
                raise WireError(f"the ring {self._folder / (self._name or '')} was cut off")
            buffer, offset = buffer[count:], offset + count


def unpack_map(packed: memoryview, *, what: str, max_bytes: int) -> dict[str, Any]:
    """Decode a MessagePack map; ``what`` it is stands in the messages.

    Raises:
        WireError: it is longer than ``max_bytes``, or no map.
    """
    if len(packed) > max_bytes:
        raise WireError(f"the {what} has {len(packed)} bytes; expected at most {max_bytes}")
    try:
        values = msgpack.unpackb(packed, raw=False, strict_map_key=True)
    except (ValueError, TypeError, msgpack.UnpackException) as error:  # a key may be of a type that cannot be one
        raise WireError(f"the {what} is not msgpack: {str(error) or type(error).__name__}") from None
    if not isinstance(values, dict):
        raise WireError(f"the {what} is a msgpack {type(values).__name__}; expected a map")
    return values


def sweep(folder: Path = FOLDER) -> int:
    """Remove the rings whose writers are gone; how many there were."""
    removed = 0
    for path in folder.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # of another user, or removed by another sweeper just now
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                lock(file)
                path.unlink()
                removed += 1
            finally:
                os.close(file)
    return removed


def _opened(path: Path) -> int:
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise Overrun(f"{path} is gone with its writer, or is of another machine") from None
    except OSError as error:
        raise WireError(f"the ring {path} cannot be opened: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise WireError(f"the ring {path} is no regular file")
    return file
