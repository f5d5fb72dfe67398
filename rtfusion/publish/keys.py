"""Key pairs for encrypted publishing (CurveZMQ): files made, read and checked.

A key file is TOML with ``public`` and ``secret``, 40 characters of Z85 each, and can be read by its owner alone. A public
file has ``public`` alone, and may be given to anybody.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from dataclasses import dataclass, field
from pathlib import Path

import zmq

from rtfusion.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

KEY_SUFFIX, PUBLIC_SUFFIX = ".key", ".pub"
_MAX_BYTES = 4096
_KEY = re.compile(r"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyPair:
    """Both keys of one side, in Z85."""

    public: str
    secret: str = field(repr=False)


def make_pair() -> KeyPair:
    """A new random pair."""
    public, secret = (key.decode() for key in zmq.curve_keypair())
    return KeyPair(public=public, secret=secret)


def make_keys(name: Path) -> tuple[Path, Path]:
    """Write a new pair to ``name.key`` (readable by its owner alone) and ``name.pub``; (key file, public file).

    Raises:
        ConfigError: one of them exists, or the folder cannot be written.
    """
    pair = make_pair()
    key_path, public_path = (name.with_name(name.name + suffix) for suffix in (KEY_SUFFIX, PUBLIC_SUFFIX))
    if public_path.exists():
        raise ConfigError(f"{public_path} exists; choose another name, keys are never replaced")
    _write(key_path, f'# secret: for its owner alone\npublic = "{pair.public}"\nsecret = "{pair.secret}"\n', mode=0o600)
    _write(public_path, f'public = "{pair.public}"\n', mode=0o644)
    return key_path, public_path


def load_pair(path: Path) -> KeyPair:
    """Read a key file.

    Raises:
        ConfigError: it cannot be read, is no key file, holds keys that do not belong together, or is open to others.
    """
    values = _read(path)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise ConfigError(f"{path} holds a secret and others may read it (mode {mode:04o}); run chmod 600 {path}")
    public, secret = _key(values, "public", path), _key(values, "secret", path)
    if zmq.curve_public(secret.encode()).decode() != public:
        raise ConfigError(f"{path}: the public key is not that of the secret one; make new ones with rtfusion keys")
    return KeyPair(public=public, secret=secret)


def load_public(source: str | Path) -> str:
    """A public key: given as it is (40 characters), or by a file that has one.

    Raises:
        ConfigError: neither a key nor a file with one.
    """
    if isinstance(source, str) and _KEY.fullmatch(source) and not Path(source).exists():
        return source
    path = Path(source)
    return _key(_read(path), "public", path)


def load_allowed(path: Path) -> frozenset[str]:
    """The public keys of one ``.pub`` file, or of all in a folder.

    Raises:
        ConfigError: there is no such file or folder, none in it, or one that holds no key.
    """
    files = sorted(path.glob(f"*{PUBLIC_SUFFIX}")) if path.is_dir() else [path]
    if not files:
        raise ConfigError(f"{path}: no public keys in this folder; put the {PUBLIC_SUFFIX} files of the clients there")
    return frozenset(load_public(file) for file in files)


def _read(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read the key file {path}: {error.strerror}; make one with rtfusion keys") from error
    if len(data) > _MAX_BYTES:
        raise ConfigError(f"{path} is no key file: it has more than {_MAX_BYTES} bytes; make one with rtfusion keys")
    try:
        return tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):  # what is in it may be a secret, so it is not shown
        raise ConfigError(f"{path} is no key file; make one with rtfusion keys") from None


def _key(values: dict[str, object], name: str, path: Path) -> str:
    key = values.get(name)
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise ConfigError(f"{path} has no {name} key of 40 characters; make one with rtfusion keys")
    return key


def _write(path: Path, text: str, *, mode: int) -> None:
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="ascii") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigError(f"{path} exists; choose another name, keys are never replaced") from None
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from error
