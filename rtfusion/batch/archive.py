"""The recordings of an archive: folders that hold a visible and a thermal recording, found by name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rtfusion.capture.uri import IMAGE_SUFFIXES
from rtfusion.errors import ConfigError

VISIBLE_NAMES = ("vi", "vis", "visible")
THERMAL_NAMES = ("ir", "thermal")
VIDEO_SUFFIXES = frozenset({".mp4", ".mkv", ".mov", ".avi", ".m4v", ".ts"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Recording:
    """Both bands of one recording: two videos, or two folders of images."""

    name: str
    """Its folder, relative to the archive, with ``/``."""
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

    Sorted by name. Hidden folders, links to folders and ``leave_out`` are not searched, nor is what lies in a recording.

    Raises:
        ConfigError: ``root`` cannot be read, there is nothing, or a folder holds two that could be the same band.
    """
    if not root.is_dir():
        raise ConfigError(f"{root} is no folder; expected the archive of recordings")
    found: list[Recording] = []
    for place, folders, files in os.walk(root, onerror=_refuse):
        folder = Path(place)
        entries = sorted(folder / name for name in (*folders, *files))
        vis, ir = (_band(folder, entries, names) for names in (visible, thermal))
        if vis is not None and ir is not None:
            name = root.resolve().name if folder == root else folder.relative_to(root).as_posix()
            found.append(Recording(name=name, visible=vis, thermal=ir))
            folders.clear()
        folders[:] = [name for name in folders if not name.startswith(".") and folder / name != leave_out]
    if not found:
        raise ConfigError(
            f"no recording in {root}: expected folders that hold a video or a folder of images named {', '.join(visible)} "
            f"and one named {', '.join(thermal)}; say how yours are named with --vis-name and --ir-name"
        )
    return sorted(found, key=lambda recording: recording.name)


def _refuse(error: OSError) -> None:
    raise ConfigError(f"cannot read the folder {error.filename}: {error.strerror}") from error


def _band(folder: Path, entries: Sequence[Path], names: Sequence[str]) -> Path | None:
    found = [entry for entry in entries if _is_recording(entry, names)]
    if len(found) > 1:
        raise ConfigError(f"{folder} holds {' and '.join(path.name for path in found)}; leave one of them")
    return found[0] if found else None


def _is_recording(entry: Path, names: Sequence[str]) -> bool:
    if entry.is_dir():
        return entry.name in names and any(path.suffix.lower() in IMAGE_SUFFIXES for path in entry.iterdir())
    return entry.stem in names and entry.suffix.lower() in VIDEO_SUFFIXES
