"""The recordings of an archive: a visible and a thermal recording side by side in a folder, found by name.

Either each folder holds one, of which one part is called ``vis`` and the other ``ir`` (and the like), or many, whose parts are
called alike but for such a word: ``walk_0001_T.mp4`` and ``walk_0001_V.mp4``. The case of letters means nothing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from rtfusion.capture.names import band_of
from rtfusion.capture.uri import IMAGE_SUFFIXES
from rtfusion.errors import ConfigError
from rtfusion.types import Band

VISIBLE_NAMES = ("vi", "vis", "visible", "rgb", "color", "eo")
THERMAL_NAMES = ("ir", "thermal", "infrared", "lwir")
VIDEO_SUFFIXES = frozenset({".mp4", ".mkv", ".mov", ".avi", ".m4v", ".ts", ".mts", ".m2ts", ".mpg", ".webm"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Recording:
    """Both bands of one recording: two videos, or two folders of images."""

    name: str
    """Its folder, relative to the archive, with ``/``; where that holds several, followed by what its parts have in common."""
    visible: Path
    thermal: Path

    def contents(self) -> list[tuple[str, int, int]]:
        """Path in the recording, bytes and time of change (ns) of every file: another list is another recording."""
        return [
            (f"{band}/{path.relative_to(place).as_posix()}", path.stat().st_size, path.stat().st_mtime_ns)
            for band, place in (("visible", self.visible), ("thermal", self.thermal))
            for path in ([place] if place.is_file() else sorted(place.iterdir()))
            if path.is_file()
        ]


def find_recordings(
    root: Path,
    *,
    visible: Sequence[str] = VISIBLE_NAMES,
    thermal: Sequence[str] = THERMAL_NAMES,
    leave_out: Path | None = None,
) -> list[Recording]:
    """Find every folder below ``root`` that holds one visible and one thermal video or folder of images, by these names.

    By the usual names, folders with several recordings side by side are found as well. Sorted by name. Hidden folders, links
    to folders and ``leave_out`` are not searched, nor is what lies in a recording.

    Raises:
        ConfigError: ``root`` cannot be read, there is nothing, or a folder holds two that could be the same band.
    """
    if not root.is_dir():
        raise ConfigError(f"{root} is no folder; expected the archive of recordings")
    found: list[Recording] = []
    by_words = tuple(visible) == VISIBLE_NAMES and tuple(thermal) == THERMAL_NAMES
    for place, folders, files in os.walk(root, onerror=_refuse):
        folder = Path(place)
        entries = [entry for name in sorted((*folders, *files)) if _is_recording(entry := folder / name)]
        name = root.resolve().name if folder == root else folder.relative_to(root).as_posix()
        vis, ir = (_band(folder, entries, names) for names in (visible, thermal))
        here: list[Recording] = []
        if vis is not None and ir is not None:
            here = [Recording(name=name, visible=vis, thermal=ir)]
        elif by_words:
            here = _side_by_side(folder, entries, name=name)
        found += here
        parts = {part for recording in here for part in (recording.visible, recording.thermal)}
        folders[:] = [
            one
            for one in folders
            if not one.startswith(".") and folder / one != leave_out and folder / one not in parts
        ]
        if vis is not None and ir is not None:
            folders.clear()
    if not found:
        raise ConfigError(
            f"no recording in {root}: expected folders that hold a video or a folder of images named {', '.join(visible)} "
            f"and one named {', '.join(thermal)}; say how yours are named with --vis-name and --ir-name"
        )
    return sorted(found, key=lambda recording: recording.name)


def _refuse(error: OSError) -> NoReturn:
    raise ConfigError(f"cannot read the folder {error.filename}: {error.strerror}") from error


def _band(folder: Path, entries: Sequence[Path], names: Sequence[str]) -> Path | None:
    known = {name.lower() for name in names}
    found = [entry for entry in entries if _stem(entry).lower() in known]
    if len(found) > 1:
        raise ConfigError(f"{folder} holds {' and '.join(path.name for path in found)}; leave one of them")
    return found[0] if found else None


def _side_by_side(folder: Path, entries: Sequence[Path], *, name: str) -> list[Recording]:
    """Recordings whose two parts are called alike but for a word of their band."""
    parts: dict[str, dict[Band, list[Path]]] = {}
    for entry in entries:
        band, rest = band_of(_stem(entry))
        if band is not None and rest:
            parts.setdefault(rest, {one: [] for one in Band})[band].append(entry)
    found = []
    for rest, both in parts.items():
        if not all(both.values()):
            continue
        for paths in both.values():
            if len(paths) > 1:
                raise ConfigError(f"{folder} holds {' and '.join(path.name for path in paths)}; leave one of them")
        found.append(Recording(name=f"{name}/{rest}", visible=both[Band.VISIBLE][0], thermal=both[Band.THERMAL][0]))
    return found


def _stem(entry: Path) -> str:
    return entry.name if entry.is_dir() else entry.stem


def _is_recording(entry: Path) -> bool:
    """True for a video, or a folder with an image in it."""
    if not entry.is_dir():
        return entry.suffix.lower() in VIDEO_SUFFIXES
    try:
        return not entry.name.startswith(".") and any(path.suffix.lower() in IMAGE_SUFFIXES for path in entry.iterdir())
    except OSError as error:
        _refuse(error)
