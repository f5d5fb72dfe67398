"""The recordings of an archive: a visible and a thermal recording side by side in a folder, found by name.

Either each folder holds one, of which one part is called ``vis`` and the other ``ir`` (and the like), or many, whose parts are
called alike but for such a word: ``walk_0001_T.mp4`` and ``walk_0001_V.mp4``. The case of letters means nothing.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from rtfusion.batch.storage import Store, StoredFile, fetch_files, is_url, open_store
from rtfusion.capture.names import band_of
from rtfusion.capture.uri import IMAGE_SUFFIXES
from rtfusion.errors import ConfigError
from rtfusion.types import Band

_log = logging.getLogger(__name__)

VISIBLE_NAMES = ("vi", "vis", "visible", "rgb", "color", "eo")
THERMAL_NAMES = ("ir", "thermal", "infrared", "lwir")
VIDEO_SUFFIXES = frozenset({".mp4", ".mkv", ".mov", ".avi", ".m4v", ".ts", ".mts", ".m2ts", ".mpg", ".webm"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One band of a recording: a video, or a folder of images."""

    place: str
    """Its path or URL."""
    is_folder: bool
    files: Mapping[str, tuple[int, str]]
    """Name, in the folder, to bytes and version of every file that it consists of: other ones are another recording."""

    @property
    def size_bytes(self) -> int:
        """Bytes of all of it."""
        return sum(size for size, _ in self.files.values())

    @property
    def is_local(self) -> bool:
        """True where it lies on this machine."""
        return not is_url(self.place)

    def stage(self, to: Path) -> Path:
        """Its path on this machine, into the folder ``to`` of which it is copied where it lies elsewhere.

        Raises:
            StorageError: it could not be read whole.
        """
        if self.is_local:
            return Path(self.place)
        folder = self.place if self.is_folder else self.place.rpartition("/")[0]
        fetch_files(open_store(folder), {name: size for name, (size, _) in self.files.items()}, to=to)
        return to if self.is_folder else to / next(iter(self.files))


@dataclass(frozen=True, kw_only=True, slots=True)
class Recording:
    """Both bands of one recording."""

    name: str
    """Its folder, relative to the archive, with ``/``; where that holds several, followed by what its parts have in common."""
    visible: Part
    thermal: Part

    @property
    def size_bytes(self) -> int:
        """Bytes of both."""
        return self.visible.size_bytes + self.thermal.size_bytes

    @property
    def contents(self) -> list[tuple[str, int, str]]:
        """Path in the recording, bytes and version of every file: another list is another recording."""
        return [
            (f"{band}/{name}", size, version)
            for band, part in (("visible", self.visible), ("thermal", self.thermal))
            for name, (size, version) in part.files.items()
        ]


def find_recordings(
    root: Path | str,
    *,
    visible: Sequence[str] = VISIBLE_NAMES,
    thermal: Sequence[str] = THERMAL_NAMES,
    leave_out: Path | str | None = None,
) -> list[Recording]:
    """Find every folder below ``root`` that holds one visible and one thermal video or folder of images, by these names.

    By the usual names, folders with several recordings side by side are found as well. Sorted by name. Hidden folders, links
    to folders, of which a warning tells, and ``leave_out`` are not searched, nor is what lies in a recording. Links to files, and
    to folders of images, are read.

    Args:
        root: a path, or the URL of a storage.
        visible: names of visible ones, without their endings.
        thermal: names of thermal ones.
        leave_out: a path or URL below ``root``.

    Raises:
        ConfigError: ``root`` cannot be read, there is nothing, or a folder holds two that could be the same band.
        StorageError: the storage does not answer.
    """
    store = open_store(root)
    found: list[Recording] = []
    by_words = tuple(visible) == VISIBLE_NAMES and tuple(thermal) == THERMAL_NAMES
    for place, folders, files in store.walk():
        folder = _Folder(store=store, name=place, folders=frozenset(folders))
        entries = [name for name in sorted((*folders, *files)) if folder.is_recording(name)]
        name = place or PurePosixPath(store.place("").rstrip("/")).name
        vis, ir = (folder.band(entries, names) for names in (visible, thermal))
        here: list[Recording] = []
        if vis is not None and ir is not None:
            here = [Recording(name=name, visible=folder.part(vis), thermal=folder.part(ir))]
        elif by_words:
            here = folder.side_by_side(entries, name=name)
        found += here
        parts = {part.place for recording in here for part in (recording.visible, recording.thermal)}
        left_out = {*parts, str(leave_out)}
        folders[:] = [one for one in folders if not one.startswith(".") and folder.place(one) not in left_out]
        if vis is not None and ir is not None:
            folders.clear()
        if store.is_local:
            for linked in filter(os.path.islink, map(folder.place, folders)):
                _log.warning(
                    "%s is a link to a folder, which is not searched; give what it leads to as an archive", linked
                )
    if not found:
        raise ConfigError(
            f"no recording in {store.shown}: expected folders that hold a video or a folder of images named {', '.join(visible)} "
            f"and one named {', '.join(thermal)}; say how yours are named with --vis-name and --ir-name"
        )
    return sorted(found, key=lambda recording: recording.name)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Folder:
    """A folder of an archive, and the names of the folders in it."""

    store: Store
    name: str
    folders: frozenset[str]

    @property
    def shown(self) -> str:
        return f"{self.store.shown}/{self.name}".rstrip("/")

    def path(self, entry: str) -> str:
        return f"{self.name}/{entry}" if self.name else entry

    def place(self, entry: str) -> str:
        return self.store.place(self.path(entry))

    def files(self, entry: str) -> list[StoredFile]:
        return self.store.files(self.path(entry))

    def part(self, entry: str) -> Part:
        files = {file.name: (file.bytes, file.version) for file in self.files(entry)}
        return Part(place=self.place(entry), is_folder=entry in self.folders, files=files)

    def is_recording(self, entry: str) -> bool:
        """True for a video, or a folder with an image in it."""
        if entry not in self.folders:
            return PurePosixPath(entry).suffix.lower() in VIDEO_SUFFIXES
        return not entry.startswith(".") and any(
            PurePosixPath(file.name).suffix.lower() in IMAGE_SUFFIXES for file in self.files(entry)
        )

    def stem(self, entry: str) -> str:
        return entry if entry in self.folders else PurePosixPath(entry).stem

    def band(self, entries: Sequence[str], names: Sequence[str]) -> str | None:
        known = {name.lower() for name in names}
        found = [entry for entry in entries if self.stem(entry).lower() in known]
        return self._one(found) if found else None

    def side_by_side(self, entries: Sequence[str], *, name: str) -> list[Recording]:
        """Recordings whose two parts are called alike but for a word of their band."""
        parts: dict[str, dict[Band, list[str]]] = {}
        for entry in entries:
            band, rest = band_of(self.stem(entry))
            if band is not None and rest:
                parts.setdefault(rest, {one: [] for one in Band})[band].append(entry)
        return [
            Recording(name=f"{name}/{rest}", **{band.value: self.part(self._one(both[band])) for band in Band})
            for rest, both in parts.items()
            if all(both.values())
        ]

    def _one(self, entries: Sequence[str]) -> str:
        if len(entries) > 1:
            raise ConfigError(f"{self.shown} holds {' and '.join(entries)}; leave one of them")
        return entries[0]
