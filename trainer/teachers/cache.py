"""Teacher outputs on disk, so that a teacher is asked once per pair.

A file's name is a checksum over the teacher's name, its constants and both pictures: another recipe, other weights or another
picture is another file, and nothing stale can be read. Values are kept in 16 bits (PNG), in steps of 1 / 65535.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import uuid
from pathlib import Path

import cv2
import numpy as np

from rtfusion.errors import ConfigError
from rtfusion.types import Image8
from trainer.teachers.base import Constants, FloatImage, Teacher

FULL_SCALE = 65535


class CachedTeacher:
    """A teacher that remembers in a folder; itself a teacher of the same name and constants."""

    def __init__(self, teacher: Teacher, folder: Path) -> None:
        self._teacher = teacher
        self._folder = folder

    @property
    def name(self) -> str:
        """The teacher's."""
        return self._teacher.name

    @property
    def constants(self) -> Constants:
        """The teacher's."""
        return self._teacher.constants

    def path(self, *, visible: Image8, thermal: Image8) -> Path:
        """Where this pair's output is kept."""
        return self._folder / self.name / f"{cache_key(self._teacher, visible=visible, thermal=thermal)}.png"

    def __call__(self, *, visible: Image8, thermal: Image8) -> FloatImage:
        """The stored output of the pair, made and stored first if need be; (H, W) float32 in [0, 1].

        Raises:
            ConfigError: the folder cannot be written, or a file in it is damaged.
        """
        path = self.path(visible=visible, thermal=thermal)
        if not path.exists():
            _store(path, self._teacher(visible=visible, thermal=thermal))
        stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if stored is None or stored.dtype != np.uint16 or stored.shape != visible.shape:
            raise ConfigError(f"{path} is damaged: expected a 16-bit gray PNG of {visible.shape}; delete it")
        return stored.astype(np.float32) / np.float32(FULL_SCALE)


def cache_key(teacher: Teacher, *, visible: Image8, thermal: Image8) -> str:
    """40 hexadecimal digits of SHA-256 over name, constants, shapes and pixels."""
    digest = hashlib.sha256(json.dumps([teacher.name, dict(teacher.constants)], sort_keys=True).encode())
    for image in (visible, thermal):
        digest.update(f"{image.dtype} {image.shape}".encode())
        digest.update(np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()[:40]


def _store(path: Path, fused: FloatImage) -> None:
    """Write whole or not at all; two processes that make the same file do not disturb each other."""
    counts = np.rint(np.clip(fused, 0, 1) * FULL_SCALE).astype(np.uint16)
    part = path.with_suffix(f".{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(cv2.imencode(".png", counts)[1].tobytes())
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise ConfigError(f"cannot write {path}: {error.strerror}; choose another folder or free some space") from error
