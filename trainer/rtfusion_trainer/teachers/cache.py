"""Teacher outputs on disk, so that a teacher is asked once per pair.

One teacher has one folder, named after it and a checksum of its constants: another recipe or other weights are another folder.
``teacher.json`` in it says which teacher that is; a picture's name is a checksum of the pair, so nothing stale can be read.
Values are kept in 16 bits (PNG), in steps of 1 / 65535. `CachedTeacher` fills such a folder, `CachedPictures` reads it without
the teacher, its weights or its code.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from rtfusion.errors import ConfigError
from rtfusion.files import write_whole
from rtfusion.types import Image8
from rtfusion_trainer.teachers.network import Constants, FloatImage, Teacher

FULL_SCALE = 65535
DESCRIPTION = "teacher.json"
SCHEMA = 1
Image16 = npt.NDArray[np.uint16]


class CachedTeacher:
    """A teacher that remembers its pictures in a folder."""

    def __init__(self, teacher: Teacher, folder: Path) -> None:
        """Its own folder is made in ``folder``, with the first picture."""
        self._teacher = teacher
        self._description, identity = _described(teacher.name, teacher.constants)
        self.folder = folder / identity

    def path(self, *, visible: Image8, thermal: Image8) -> Path:
        """Give the file that this pair's output is kept in."""
        return _picture(self.folder, visible=visible, thermal=thermal)

    def __call__(self, *, visible: Image8, thermal: Image8) -> FloatImage:
        """The stored output of the pair, made and stored first if need be; (H, W) float32 in [0, 1].

        Raises:
            ConfigError: the folder cannot be written, or a file in it is damaged.
        """
        path = self.path(visible=visible, thermal=thermal)
        if not path.exists():
            fused = self._teacher(visible=visible, thermal=thermal)
            if not (self.folder / DESCRIPTION).exists():
                _write(self.folder / DESCRIPTION, self._description)
            counts = np.rint(np.clip(fused, 0, 1) * FULL_SCALE).astype(np.uint16)
            _write(path, cv2.imencode(".png", counts)[1].tobytes())
        return _read(path, shape=visible.shape).astype(np.float32) / np.float32(FULL_SCALE)


class CachedPictures:
    """The pictures in one teacher's folder."""

    def __init__(self, folder: Path) -> None:
        """Read which teacher it was.

        Raises:
            ConfigError: that is no teacher's folder; the message names those that lie in it.
        """
        self.folder = folder
        try:
            description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            inside = ", ".join(str(path.parent) for path in sorted(folder.glob(f"*/{DESCRIPTION}")))
            raise ConfigError(
                f"{folder} is no folder of teacher outputs ({DESCRIPTION}: {error}); "
                + (f"name one of {inside}" if inside else "make one with rtfusion train cache")
            ) from error
        if description.get("schema") != SCHEMA:
            raise ConfigError(f"{folder / DESCRIPTION} is not of schema {SCHEMA}; make the outputs anew")
        self.teacher: str = description["name"]
        self.constants: Constants = description["constants"]
        self.identity = _described(self.teacher, self.constants)[1]
        """Teacher and checksum of its constants, as the folder was named when it was made."""

    def __call__(self, *, visible: Image8, thermal: Image8) -> Image16:
        """Read the teacher's picture of the pair, (H, W) of 0 to `FULL_SCALE`.

        Raises:
            ConfigError: it was not asked for this pair, or the file is damaged.
        """
        path = _picture(self.folder, visible=visible, thermal=thermal)
        if not path.exists():
            raise ConfigError(
                f"{self.folder} lacks a pair of these data (no {path.name}); run rtfusion train cache on the same "
                "--data; one that was made with --limit is for the same --limit"
            )
        return _read(path, shape=visible.shape)


def _described(name: str, constants: Constants) -> tuple[str, str]:
    """The text of `DESCRIPTION` for a teacher, and the name of the teacher's folder."""
    text = json.dumps({"schema": SCHEMA, "name": name, "constants": dict(constants)}, sort_keys=True, indent=1)
    return text, f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _picture(folder: Path, *, visible: Image8, thermal: Image8) -> Path:
    """The file of a pair, named by 40 hexadecimal digits of SHA-256 over shapes and pixels."""
    digest = hashlib.sha256()
    for image in (visible, thermal):
        digest.update(f"{image.dtype} {image.shape}".encode() + np.ascontiguousarray(image).tobytes())
    return folder / f"{digest.hexdigest()[:40]}.png"


def _read(path: Path, *, shape: tuple[int, ...]) -> Image16:
    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if stored is None or stored.dtype != np.uint16 or stored.shape != shape:
        raise ConfigError(f"{path} is damaged: expected a 16-bit gray PNG of {shape}; delete it")
    return stored.astype(np.uint16, copy=False)


def _write(path: Path, content: str | bytes) -> None:
    """Write whole or not at all; two processes that make the same file do not disturb each other."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}; choose another folder or free some space") from error
