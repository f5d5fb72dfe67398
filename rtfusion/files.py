"""Paths as people write them, and files that are whole or not there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


def expanded(text: str | Path) -> Path:
    """The path with its ``~`` replaced. The home of nobody (``~nobody/x``) stays as it is: a file that is not there."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 - pathlib's own raises RuntimeError for it


def write_whole(path: Path, content: str | bytes, *, durable: bool = False) -> None:
    """Write a file so that a reader finds the old content or the new one, and never a part of it.

    Text is written as UTF-8. A link is followed; a pipe or a device, which cannot be replaced, is written in place.

    Args:
        path: where to write; its folder must exist.
        content: all of it.
        durable: the content has reached the disk before the file has its name, so that no power cut leaves half of it.

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
