"""Where archives, results and files of settings lie: folders of this machine, or any storage that fsspec knows, by URL.

The only module that knows fsspec. ``s3://bucket/a``, ``gs://``, ``az://``, ``sftp://host/a`` are URLs, everything else is a path.
Who may read them is said where fsspec and the libraries of each storage look for it (variables, files of the cloud's own tools).

What does not answer is asked again for half a minute; then it is a `StorageError`, which is nobody's fault but the storage's. A
file is counted as transferred when it has its size at the other end. Object stores give a file its name when it is whole, but
know no renaming of folders: there a result is whole when the file that is written last is there.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn, TypeVar
from urllib.parse import unquote, urlsplit

from rtfusion.errors import ConfigError, EngineUnavailable, FusionError, StorageError
from rtfusion.files import expanded, write_whole
from rtfusion.installing import install
from rtfusion.portable import lock
from rtfusion.redaction import MASK, without_credentials

PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
"""Waits between attempts at a storage that does not answer."""
TRANSFERS = 8
"""Files of a folder that are copied at a time."""
EXTRAS = {
    "s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "az": "az", "abfs": "az", "abfss": "az", "sftp": "sftp", "ssh": "sftp",
}  # fmt: skip
"""The extra of rtfusion that brings the storage of a scheme."""
OBJECTS = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss"})
"""Stores without folders: none is made there, and no bucket by a slip of the finger."""
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_PERMANENT = (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError, FusionError)
_T = TypeVar("_T")


def is_url(place: str) -> bool:
    """True for an address of a storage, False for a path; a ``file://`` URL is a path."""
    match = _URL.match(place)
    return match is not None and match[1].lower() != "file"


def local_path(place: str) -> Path:
    """The whole path that a text names; ``file:///a%20b`` as well."""
    if _URL.match(place):
        return Path(unquote(urlsplit(place).path))
    return expanded(place).absolute()


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredFile:
    """A file as a storage lists it."""

    name: str
    """Path below what was listed, with ``/``."""
    bytes: int
    version: str
    """Changes whenever the content does: a checksum, a number, or the time of change."""


class Store(ABC):
    """Files below one root. Names are relative to it, with ``/``."""

    shown: str
    """The root as it may be shown, without user and password."""
    is_local: bool

    @abstractmethod
    def place(self, name: str) -> str:
        """The path or URL of a file or folder."""

    @abstractmethod
    def walk(self) -> Iterator[tuple[str, list[str], list[str]]]:
        """Every folder, its folders and its files; folders that the caller takes out of the list are not entered.

        The root is ``""``. Links to folders are listed and not entered.

        Raises:
            ConfigError: the root is no folder, or cannot be read.
        """

    @abstractmethod
    def files(self, folder: str) -> list[StoredFile]:
        """The files right in a folder, sorted by name; of a file, itself."""

    @abstractmethod
    def sizes(self, folder: str = "") -> dict[str, int]:
        """Name below a folder to size in bytes of every file at any depth; empty where there is no such folder."""

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """The content of a file; None where there is none.

        Raises:
            StorageError: the storage does not answer.
        """

    @abstractmethod
    def write(self, name: str, content: bytes) -> None:
        """Write a file whole.

        Raises:
            StorageError: the storage does not take it.
        """

    @abstractmethod
    def publish(self, folder: Path, name: str, *, last: str) -> None:
        """Give the content of a local folder its name here; ``last`` is the file by which it is known to be whole.

        Where it is there already, by another attempt, that one stays.
        """

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file or a folder; nothing where there is none."""

    @abstractmethod
    def fetch(self, name: str, to: Path, *, size_bytes: int) -> None:
        """Copy a file to this machine.

        Raises:
            StorageError: it could not be read whole.
        """


def open_store(place: str | Path) -> Store:
    """The storage at a path or URL. Nothing is read or made.

    Raises:
        EngineUnavailable: what reads such addresses is not installed.
        ConfigError: there is no such kind of address.
    """
    return RemoteStore(str(place)) if is_url(str(place)) else LocalStore(local_path(str(place)))


class LocalStore(Store):
    """A folder of this machine, or one that is mounted on it."""

    is_local = True

    def __init__(self, root: Path) -> None:
        self.root = root
        self.shown = str(root)

    def place(self, name: str) -> str:
        """See `Store.place`."""
        return str(self.root / name)

    def walk(self) -> Iterator[tuple[str, list[str], list[str]]]:
        """See `Store.walk`."""
        if not self.root.is_dir():
            raise ConfigError(f"{self.root} is no folder; expected the archive of recordings")
        for place, folders, files in os.walk(self.root, onerror=_refuse):
            relative = Path(place).relative_to(self.root).as_posix()
            yield "" if relative == "." else relative, folders, files

    def files(self, folder: str) -> list[StoredFile]:
        """See `Store.files`."""
        place = self.root / folder
        try:
            found = [place] if place.is_file() else sorted(path for path in place.iterdir() if path.is_file())
            return [
                StoredFile(name=path.name, bytes=status.st_size, version=str(status.st_mtime_ns))
                for path in found
                for status in [path.stat()]
            ]
        except OSError as error:
            _refuse(error)

    def sizes(self, folder: str = "") -> dict[str, int]:
        """See `Store.sizes`."""
        place = self.root / folder
        return {path.relative_to(place).as_posix(): path.stat().st_size for path in place.rglob("*") if path.is_file()}

    def read(self, name: str) -> bytes | None:
        """See `Store.read`."""
        try:
            return (self.root / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StorageError(f"cannot read {self.root / name}: {error.strerror}") from error

    def write(self, name: str, content: bytes) -> None:
        """See `Store.write`."""
        path = self.root / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, content)
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror}; make room, or write elsewhere") from error

    def append(self, name: str, content: bytes) -> None:
        """Add to the end of a file, by one write.

        Raises:
            StorageError: the disk does not take it.
        """
        path = self.root / name
        try:
            with path.open("ab", buffering=0) as file:
                file.write(content)
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror}; make room, or write elsewhere") from error

    def publish(self, folder: Path, name: str, *, last: str) -> None:
        """See `Store.publish`. By one rename, once the content has reached the disk."""
        for path in folder.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        target = self.root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.rename(target)
        except OSError:
            if not (target / last).is_file():
                raise

    def remove(self, name: str) -> None:
        """See `Store.remove`."""
        path = self.root / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

    def fetch(self, name: str, to: Path, *, size_bytes: int) -> None:
        """See `Store.fetch`."""
        try:
            shutil.copyfile(self.root / name, to)
        except OSError as error:
            raise StorageError(f"cannot read {self.root / name}: {error.strerror}") from error


class RemoteStore(Store):
    """A storage by its URL."""

    is_local = False

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.shown = without_credentials(self.url)
        self._fs, root = _filesystem(self.url)
        self._root = str(root).rstrip("/")
        scheme = self.url.partition("://")[0].lower()
        self._has_folders = scheme not in OBJECTS

    def place(self, name: str) -> str:
        """See `Store.place`."""
        return f"{self.url}/{name}" if name else self.url

    def walk(self) -> Iterator[tuple[str, list[str], list[str]]]:
        """See `Store.walk`. One listing of everything, which is remembered."""
        if not self._listing:
            raise ConfigError(f"there is nothing at {self.shown}; expected the archive of recordings")
        waiting = [""]
        while waiting:
            name = waiting.pop(0)
            folders, files = self._tree[name]
            inner = sorted(folders)
            yield name, inner, list(files)
            waiting += [f"{name}/{one}" if name else one for one in inner]

    def files(self, folder: str) -> list[StoredFile]:
        """See `Store.files`."""
        if folder in self._listing:
            return [replace(self._listing[folder], name=folder.rpartition("/")[2])]
        _, names = self._tree.get(folder, (set(), []))
        prefix = f"{folder}/" if folder else ""
        return [replace(self._listing[f"{prefix}{name}"], name=name) for name in names]

    def sizes(self, folder: str = "") -> dict[str, int]:
        """See `Store.sizes`."""
        return {name: file.bytes for name, file in self._find(folder).items()}

    def read(self, name: str) -> bytes | None:
        """See `Store.read`."""
        try:
            return bytes(self._persist(f"reading {name}", lambda: self._fs.cat_file(self._key(name))))
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """See `Store.write`."""
        self._make_folder(name)
        self._refusing_places(f"writing {name}", lambda: self._fs.pipe_file(self._key(name), content))

    def publish(self, folder: Path, name: str, *, last: str) -> None:
        """See `Store.publish`. File by file, ``last`` at the end; what is cut off before is removed again."""
        if self.read(f"{name}/{last}") is not None:
            return
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        files.sort(key=lambda path: path.relative_to(folder).as_posix() == last)
        try:
            for path in files:
                self._put(path, f"{name}/{path.relative_to(folder).as_posix()}")
        except BaseException:
            with contextlib.suppress(FusionError, OSError):
                self.remove(name)
            raise

    def remove(self, name: str) -> None:
        """See `Store.remove`."""
        with contextlib.suppress(FileNotFoundError):
            self._persist(f"removing {name}", lambda: self._fs.rm(self._key(name), recursive=True))

    def fetch(self, name: str, to: Path, *, size_bytes: int) -> None:
        """See `Store.fetch`."""

        def get() -> None:
            self._fs.get_file(self._key(name), str(to))
            if to.stat().st_size != size_bytes:
                raise EOFError(f"{to.stat().st_size} bytes came instead of {size_bytes}")

        try:
            self._persist(f"fetching {name}", get)
        except FileNotFoundError as error:
            raise StorageError(f"{self.shown}: {name} is not there any more") from error

    def _put(self, path: Path, name: str) -> None:
        size_bytes = path.stat().st_size

        def put() -> None:
            self._make_folder(name)
            self._fs.put_file(str(path), self._key(name))
            self._fs.invalidate_cache()
            stored = self._fs.info(self._key(name))["size"]
            if stored != size_bytes:
                raise EOFError(f"{stored} bytes arrived instead of {size_bytes}")

        self._refusing_places(f"writing {name}", put)

    def _make_folder(self, name: str) -> None:
        if self._has_folders:
            parent = self._key(name).rpartition("/")[0]
            self._persist(f"making the folder of {name}", lambda: self._fs.makedirs(parent, exist_ok=True))

    def _refusing_places(self, doing: str, action: Callable[[], _T]) -> _T:
        """What can never be written is an error of its own: no such bucket, no permission."""
        try:
            return self._persist(doing, action)
        except (FileNotFoundError, PermissionError) as error:
            raise StorageError(
                f"{self.shown}: {doing}: {self._said(error)}; make the place, or name another"
            ) from error

    def _key(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    @functools.cached_property
    def _listing(self) -> Mapping[str, StoredFile]:
        return self._find("")

    @functools.cached_property
    def _tree(self) -> Mapping[str, tuple[set[str], list[str]]]:
        """The listing by folder: the names of the folders and, sorted, of the files right in it."""
        tree: dict[str, tuple[set[str], list[str]]] = {"": (set(), [])}
        for name in sorted(self._listing):
            parent, _, file = name.rpartition("/")
            parts = parent.split("/") if parent else []
            for depth, part in enumerate(parts):
                tree.setdefault("/".join(parts[:depth]), (set(), []))[0].add(part)
            tree.setdefault(parent, (set(), []))[1].append(file)
        return tree

    def _find(self, folder: str) -> dict[str, StoredFile]:
        root = self._key(folder)

        def find() -> Mapping[str, Mapping[str, Any]]:
            self._fs.invalidate_cache()
            return self._fs.find(root, detail=True)

        try:
            found = self._persist("listing", find)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except PermissionError as error:
            raise ConfigError(f"{self.shown} may not be read: {self._said(error)}") from error
        prefix = f"{root.strip('/')}/"
        names = {path.strip("/").removeprefix(prefix): info for path, info in found.items()}
        return {
            name: StoredFile(name=name, bytes=int(info["size"] or 0), version=_version(info))
            for name, info in names.items()
            if info.get("type") == "file" and not name.endswith("/")
        }

    def _persist(self, doing: str, action: Callable[[], _T]) -> _T:
        """Do it, and again while the storage does not answer.

        Raises:
            StorageError: it does not answer for half a minute.
        """
        for pause_s in (*PAUSES_S, None):
            try:
                return action()
            except _PERMANENT:
                raise
            except Exception as error:  # every storage has errors of its own
                if pause_s is None or _is_about_keys(error):
                    raise StorageError(f"{self.shown}: {doing}: {self._said(error)}") from error
                threading.Event().wait(pause_s)
        raise AssertionError("the last attempt raises")

    def _said(self, error: Exception) -> str:
        """What a library says, without what the URL held of a user."""
        user = urlsplit(self.url).netloc.rpartition("@")[0]
        text = str(error) or type(error).__name__
        return " ".join((text.replace(user, MASK) if user else text).split())


def _filesystem(url: str) -> tuple[Any, str]:
    scheme = url.partition("://")[0].lower()
    shown = without_credentials(url)
    extra = EXTRAS.get(scheme, "s3")
    try:
        import fsspec
    except ImportError as error:
        raise EngineUnavailable(f"{shown}: storage by URL is not installed here; run {install(extra)}") from error
    try:
        fs, root = fsspec.url_to_fs(url)
    except ImportError as error:
        how = f"run {install(EXTRAS[scheme])}" if scheme in EXTRAS else f"install what it needs ({error})"
        raise EngineUnavailable(f"{shown}: {scheme}:// is not installed here; {how}") from error
    except ValueError as error:
        raise ConfigError(
            f"{shown}: no storage is known by {scheme}://; expected s3://, gs://, az://, sftp:// or a path of this machine"
        ) from error
    except Exception as error:
        raise StorageError(f"{shown}: cannot be opened ({type(error).__name__})") from error
    return fs, root


def _version(info: Mapping[str, Any]) -> str:
    """The first that a storage gives of a checksum, a number of the version, a time of change."""
    for key in (
        "ETag",
        "etag",
        "md5Hash",
        "content_md5",
        "generation",
        "mtime",
        "LastModified",
        "last_modified",
        "created",
    ):
        if info.get(key):
            return str(info[key])
    return ""


def _is_about_keys(error: Exception) -> bool:
    """No credentials, or wrong ones: asking again does not help."""
    return any(word in type(error).__name__ for word in ("Credential", "Authentication", "PartialCred", "NoRegion"))


def _refuse(error: OSError) -> NoReturn:
    raise ConfigError(f"cannot read the folder {error.filename}: {error.strerror}") from error


# -- files of this machine on their way ---------------------------------------------------------------------------------


class Scratch:
    """A local folder for what is on its way to and from a storage, never more than so many bytes.

    All processes of this machine share it and its bound. Whoever dies leaves only what the next one removes: a reservation holds
    a lock, which goes with its process.
    """

    POLL_S = 0.25
    _HELD = "held"

    def __init__(self, folder: Path, *, limit_bytes: int) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes

    @contextlib.contextmanager
    def room(self, size_bytes: int) -> Iterator[Path]:
        """A folder of one's own for so many bytes, as soon as they fit; it goes with the block.

        Raises:
            ConfigError: they never fit.
            StorageError: the folder cannot be written.
        """
        if size_bytes > self._limit_bytes:
            raise ConfigError(
                f"{size_bytes / 1e9:.2f} GB have to lie on this machine at a time and {self._limit_bytes / 1e9:.2f} GB may "
                f"(in {self._folder}); raise --scratch-gb"
            )
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            while (taken := self._take(size_bytes)) is None:
                time.sleep(self.POLL_S)
        except OSError as error:
            raise StorageError(
                f"cannot write {self._folder}: {error.strerror}; name another one with --scratch"
            ) from error
        mine, handle = taken
        try:
            yield mine / "files"
        finally:
            shutil.rmtree(mine, ignore_errors=True)
            os.close(handle)

    def _take(self, size_bytes: int) -> tuple[Path, int] | None:
        with (self._folder / "lock").open("ab") as guard:
            try:
                lock(guard.fileno())
            except BlockingIOError:
                return None
            if self._held_bytes() + size_bytes > self._limit_bytes:
                return None
            mine = self._folder / uuid.uuid4().hex
            mine.mkdir()
            handle = os.open(mine / self._HELD, os.O_CREAT | os.O_WRONLY)
            lock(handle)
            os.write(handle, str(size_bytes).encode())
            (mine / "files").mkdir()
            return mine, handle

    def _held_bytes(self) -> int:
        """Bytes that living processes hold; what dead ones left is removed."""
        total = 0
        for held in self._folder.glob(f"*/{self._HELD}"):
            with contextlib.suppress(OSError, ValueError), held.open("r+b") as file:
                try:
                    lock(file.fileno())
                except BlockingIOError:
                    total += int(file.read() or b"0")
                    continue
                shutil.rmtree(held.parent, ignore_errors=True)
        return total


def fetch_files(store: Store, names: Mapping[str, int], *, to: Path) -> None:
    """Copy files, name to size in bytes, of a storage into a local folder, several at a time.

    Raises:
        StorageError: one of them could not be read whole.
    """
    to.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(TRANSFERS) as pool:
        copies = [pool.submit(store.fetch, name, to / name, size_bytes=size) for name, size in names.items()]
        try:
            for copy in copies:
                copy.result()
        finally:
            pool.shutdown(cancel_futures=True)


def read_whole(store: Store, name: str) -> bytes:
    """The content of a file that has to be there.

    Raises:
        ConfigError: it is not there.
        StorageError: the storage does not answer.
    """
    content = store.read(name)
    if content is None:
        raise ConfigError(f"cannot read {store.shown}/{name}: there is no such file")
    return content


def read_url(url: str) -> bytes:
    """The content of a file by its URL.

    Raises:
        ConfigError, StorageError: as `read_whole` and `open_store`.
    """
    place, _, name = url.rpartition("/")
    return read_whole(open_store(place), name)


def fetch_url(url: str, folder: Path) -> Path:
    """Copy a file by its URL, under its name, into a folder that is made for it.

    Raises:
        ConfigError, StorageError: as `read_whole` and `open_store`.
    """
    path = folder / url.rpartition("/")[2]
    content = read_url(url)
    folder.mkdir()
    path.write_bytes(content)
    return path
