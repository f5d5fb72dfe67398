"""Paths as people write them, and files that are whole or not there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from rtfusion.errors import ConfigError
from rtfusion.portable import CLOSED_ON_EXEC


def expanded(text: str | Path) -> Path:
    """The path with its ``~`` replaced. The home of nobody (``~nobody/x``) stays as it is: a file that is not there."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 - pathlib's own raises RuntimeError for it


def same_file(first: Path, second: Path) -> bool:
    """True for two names of one file or folder, by links of either kind; also where it is not there yet."""
    try:
        return first.samefile(second)
    except OSError:
        return first.resolve() == second.resolve()


def check_output(path: Path, *, overwrite: bool, taken: Mapping[Path, str] | None = None) -> None:
    """The rule for every file that is written: it replaces none unless that was asked for, and never what is ``taken``.

    Pipes and devices, which cannot be replaced, are written to.

    Args:
        path: where it is to be written.
        overwrite: a file that is there may be replaced.
        taken: the files and folders that are read or written besides, and what each of them is, as in ``an input of this run``.

    Raises:
        ConfigError: something is there already, it is taken, or it cannot be written there.
    """
    folder = path.resolve().parent
    for is_so, why in (
        (path.is_dir(), "it is a folder; name a file in it"),
        (not folder.is_dir(), f"there is no folder {folder}; make it first"),
        (not os.access(folder, os.W_OK), f"the folder {folder} is not writable"),
    ):
        if is_so:
            raise ConfigError(f"cannot write {path}: {why}")
    for other, what in (taken or {}).items():
        if same_file(path, other) or (path.exists() and other.resolve() in path.resolve().parents):
            raise ConfigError(f"cannot write {path}: it is {what}; give every output a place of its own")
    if path.is_file() and not overwrite:
        raise ConfigError(f"{path} exists; choose another name, or replace it with --overwrite")


def write_whole(path: Path, content: str | bytes, *, durable: bool = False) -> None:
    """Write a file so that a reader finds the old content or the new one, and never a part of it.

    Text is written as UTF-8. A link is followed; a pipe or a device, which cannot be replaced, is written in place.

    Args:
        path: where to write; its folder must exist.
        content: all of it.
        durable: the content has reached the disk before the file has its name, and the name when this returns, so that no
            power cut leaves half of it.

    Raises:
        OSError: it cannot be written; the file is as it was before.
    """
    data = content.encode() if isinstance(content, str) else content
    target = path.resolve()
    if target.exists() and not target.is_file():
        target.write_bytes(data)
        return
    with replacing(target) as part, part.open("wb") as stream:
        stream.write(data)
        if durable:
            stream.flush()
            os.fsync(stream.fileno())
    if durable:
        sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Bring the names of the files in a folder to the disk.

    Raises:
        OSError: the disk does not take them.
    """
    if not hasattr(os, "O_DIRECTORY"):
        return  # Windows, which opens no folders and keeps names by itself
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | CLOSED_ON_EXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the name of a hidden file beside ``path``; when the block ends, that file replaces ``path``.

    When the block raises, the hidden file is removed and ``path`` stays as it was.

    Raises:
        OSError: the file cannot be given its name.
    """
    part = path.with_name(f".{path.name}.{os.urandom(4).hex()}.part")  # two processes may write the same file
    try:
        yield part
        part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
