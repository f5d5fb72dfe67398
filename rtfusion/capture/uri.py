"""The URIs by which users name sources, taken apart: scheme, target, query.

=============================================  =================================================================
``clip.mp4``, ``file:clip.mp4``, ``video:``   what the path is decides: a file is a video, a folder (or one
                                              image) is images, ``/dev/video*`` is a camera
``images:frames?fps=25``                      a folder of images; with ``fps`` it is a video, without it is stills
``v4l2:/dev/video0?size=640x480&fps=30``      a camera
``usb:0bda:5830``, ``usb:046d:082d:SERIAL``   a USB camera by vendor, product and serial number, whatever its port
``rtsp://...``, ``http://...``, ``udp://...``  a network camera; what the run wants of it follows after a ``#``
``synthetic:?...``                            the generated scene
``session:recordings/2026-...``               a recorded session, given for both cameras
=============================================  =================================================================

Every source but a session takes the corrections of `rtfusion.capture.parameters` as well, such as ``crop=`` and ``rotate=``.

A ``?`` that is part of the name of an existing file or folder stays with the name.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from rtfusion.capture.parameters import CONVERTERS, Corrections
from rtfusion.errors import CaptureError, ConfigError
from rtfusion.files import expanded
from rtfusion.redaction import without_credentials
from rtfusion.text import did_you_mean

SCHEMES = ("file", "video", "images", "v4l2", "usb", "synthetic", "session")
NETWORK_SCHEMES = ("rtsp", "rtsps", "http", "https", "udp")
IMAGE_SUFFIXES = frozenset(
    {".png", ".tif", ".tiff", ".jpg", ".jpeg", ".jpe", ".bmp", ".webp", ".pgm", ".ppm", ".pnm", ".jp2"}
)

PARTS = ("crop", "half", "stream", "match")
"""Parameters by which one file or folder can be two sources."""

_PATH_SCHEMES = ("file", "video")
_OTHER_NETWORK_SCHEMES = ("rtmp", "rtp", "srt", "tcp", "mms", "rtmps")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
_HOST_AND_PATH = re.compile(r"[A-Za-z0-9_.-]*(?::[0-9]{1,5})?[/?#]|\[[0-9A-Fa-f:.%]*\]")
_STRAY_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})")
_SAFE_IN_USER = "%:!$&'()*+,;=-._~"
_V4L2_MAJOR = 81


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceUri:
    """A source, taken apart and not yet opened."""

    scheme: str
    """``video``, ``images``, ``v4l2``, ``network``, ``session`` or ``synthetic``: what kind of source it is."""
    target: str = field(repr=False)
    """The path; ``usb:...`` for a camera by its identity; the whole address, credentials included, of a network camera; empty
    for ``synthetic``."""
    text: str
    """The text as it was given, credentials removed: for messages and tables."""
    query: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def is_camera(self) -> bool:
        """True for a live camera, which is opened again when it is lost."""
        return self.scheme in ("v4l2", "network")

    @property
    def has_path(self) -> bool:
        """True for what lies in the file system: a file, a folder or a device."""
        return self.scheme not in ("synthetic", "network") and not self.target.startswith("usb:")

    @property
    def path(self) -> Path:
        """The target as a path, ``~`` expanded."""
        return expanded(self.target)

    @property
    def corrections(self) -> Corrections:
        """What is to be done with every frame of it.

        Raises:
            ConfigError: a value that does not convert.
        """
        return Corrections(**_converted(self, CONVERTERS))


def with_options(uri: SourceUri, options: str | None, *, setting: str) -> SourceUri:
    """The source with further parameters, ``key=value`` joined by ``&``, as if they stood in its URI.

    Raises:
        ConfigError: they are malformed, or one stands in the URI as well.
    """
    if not options:
        return uri
    added = _parse_query(options, f"{setting}: {without_credentials(options)}")
    for key in added:
        if key in uri.query:
            raise ConfigError(f"{key} is given in {uri.text} and in {setting}; give it once")
    shown = (
        uri.text if uri.scheme == "network" else without_credentials(f"{uri.text}{'&' if uri.query else '?'}{options}")
    )
    return replace(uri, text=shown, query={**uri.query, **added})


def parse_source(text: str) -> SourceUri:
    """Take a URI or a bare path apart; looks at the file system to tell a video from a folder and from a camera.

    Raises:
        ConfigError: the scheme is unknown or not supported, the target is missing, the query is malformed.
        CaptureError: a path that was to be looked at does not exist.
    """
    shown = without_credentials(text)
    scheme, rest = _split_scheme(text, shown)
    if scheme in NETWORK_SCHEMES:
        return _network(text, shown)
    if scheme == "synthetic":
        target, _, query = rest.partition("?")
    else:
        target, query = _split_query(rest)
        if not target:
            raise ConfigError(f"{shown!r} names nothing to open; expected a path, for example {scheme or 'video'}:PATH")
    if scheme is None or scheme in _PATH_SCHEMES:
        scheme = _kind_of(expanded(target), shown)
    if scheme == "usb":
        scheme, target = "v4l2", f"usb:{target}"
    return SourceUri(scheme=scheme, target=target, text=shown, query=_parse_query(query, shown))


def read_query(uri: SourceUri, converters: Mapping[str, Callable[[str], Any]]) -> dict[str, Any]:
    """The query with its values converted, without the corrections (`SourceUri.corrections`); others must be in ``converters``.

    The corrections are looked at all the same, so that what is wrong in them is told before the source is opened.
    A converter raises ValueError with what it expects, as in ``expected a number above 0, such as 25``.

    Raises:
        ConfigError: an unknown key (with a suggestion) or a value that does not convert.
    """
    known = {**CONVERTERS, **converters}
    for key in uri.query:
        if key not in known:
            hint = did_you_mean(key, known, hint="did you mean {}? ")
            raise ConfigError(f"{uri.text}: unknown parameter {key!r}; {hint}it takes {', '.join(sorted(known))}")
    return {key: value for key, value in _converted(uri, known).items() if key in converters}


def _converted(uri: SourceUri, converters: Mapping[str, Callable[[str], Any]]) -> dict[str, Any]:
    """The values of the query that have a converter."""
    values: dict[str, Any] = {}
    for key, text in uri.query.items():
        if key in converters:
            try:
                values[key] = converters[key](text)
            except ValueError as error:
                raise ConfigError(f"{uri.text}: {key}={text}: {error}") from None
    return values


def rate_hz(text: str) -> float:
    """A frame rate: a finite number above 0, or a fraction such as 30000/1001."""
    numerator, _, denominator = text.partition("/")
    try:
        value = float(numerator) / float(denominator or 1)
    except (ValueError, ZeroDivisionError):
        value = 0.0
    if not 0.0 < value < 1e5:
        raise ValueError("expected frames per second above 0, such as 25 or 30000/1001")
    return value


def same_place(first: SourceUri, second: SourceUri) -> bool:
    """True when both are one file, folder or device, whatever links lead to it."""
    if {"synthetic", "session"} & {first.scheme, second.scheme}:
        return False
    if "network" in (first.scheme, second.scheme):
        return first.target == second.target
    try:
        return first.path.samefile(second.path)
    except OSError:  # a missing one is reported when it is opened
        return os.path.realpath(first.path) == os.path.realpath(second.path)


def same_pictures(first: SourceUri, second: SourceUri) -> bool:
    """True when both are the same pictures of one place: neither another part, track nor choice of files is asked for."""
    return same_place(first, second) and all(first.query.get(key) == second.query.get(key) for key in PARTS)


def _split_scheme(text: str, shown: str) -> tuple[str | None, str]:
    """(scheme, rest), the scheme None for a bare path."""
    match = _SCHEME.match(text)
    if match is None or _exists(text):
        return None, text
    scheme, rest = match[1].lower(), text[match.end() :]
    if scheme in _OTHER_NETWORK_SCHEMES:
        known = ", ".join(f"{name}://" for name in NETWORK_SCHEMES)
        raise ConfigError(f"{shown}: network sources of the kind {scheme}: are not read; expected {known}")
    if scheme in NETWORK_SCHEMES:
        return scheme, rest
    if scheme not in SCHEMES:
        known = ", ".join(f"{name}:" for name in SCHEMES)
        hint = did_you_mean(scheme, SCHEMES, hint="did you mean {}:? ")
        raise ConfigError(
            f"{shown}: unknown kind of source {match[0]!r}; {hint}"
            f"expected {known} or the path of a file, a folder or a camera"
        )
    if scheme == "file" and rest.startswith("//"):  # a URL: file:///folder/a%20name.mp4
        rest = unquote(rest.removeprefix("//").removeprefix("localhost"))
    return scheme, rest


def _network(text: str, shown: str) -> SourceUri:
    """An address; its query belongs to the camera, what follows after the # to us."""
    before, at, after = text.rpartition("@")  # a password may hold a # as well
    address, _, parameters = after.partition("#")
    scheme, separator, rest = f"{before}{at}{address}".partition("://")
    if not separator or not rest.strip("/@"):
        raise ConfigError(f"{shown}: not an address; expected {scheme.partition(':')[0]}://HOST:PORT/PATH")
    query = _parse_query(parameters, shown)
    target = f"{scheme}://{_with_quoted_user(rest)}"
    return SourceUri(scheme="network", target=target, text=without_credentials(f"{before}{at}{address}"), query=query)


def _with_quoted_user(rest: str) -> str:
    """HOST/PATH or NAME:PASSWORD@HOST/PATH with what is no letter of an address in the name and the password as ``%23``."""
    user, at, place = rest.rpartition("@")
    if not user or _HOST_AND_PATH.match(user):  # the sign is a part of the path
        return rest
    return f"{quote(_STRAY_PERCENT.sub('%25', user), safe=_SAFE_IN_USER)}{at}{place}"


def _split_query(rest: str) -> tuple[str, str]:
    """(path, query); the longest path that exists wins, so that a name may contain a question mark."""
    if "?" not in rest or _exists(rest):
        return rest, ""
    path, _, query = rest.rpartition("?")
    if not _exists(path):
        path, _, query = rest.partition("?")
    return path, query


def _exists(path: str | Path) -> bool:
    """`Path.exists`, but False for a name that the file system cannot hold."""
    return os.path.exists(expanded(path))  # noqa: PTH110


def _kind_of(path: Path, shown: str) -> str:
    if os.path.isdir(path):  # noqa: PTH112 - as `_exists`
        return "images"
    if _is_camera(path):
        return "v4l2"
    if not _exists(path):
        hint = f"did you mean {path}: ? " if str(path) in SCHEMES else ""
        if path.parent.is_dir() and re.search(r"[*%]", path.name):
            pattern = re.sub(r"%0?\d*d", "*", path.name)
            hint = f"images are named by their folder, {path.parent}?match={pattern}; "
        raise CaptureError(f"{shown}: no such file or folder; {hint}check the path (searched from {Path.cwd()})")
    return "images" if path.suffix.lower() in IMAGE_SUFFIXES else "video"


def _is_camera(path: Path) -> bool:
    """A video device, by its number where it exists and by its name where it is unplugged."""
    try:
        status = path.stat()
    except (OSError, ValueError):  # the latter for a name that no file can have
        return str(path).startswith(("/dev/video", "/dev/v4l/"))
    return stat.S_ISCHR(status.st_mode) and os.major(status.st_rdev) == _V4L2_MAJOR


def _parse_query(query: str, shown: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for part in filter(None, query.split("&")):
        key, equals, value = part.partition("=")
        if not equals or not key:
            place = re.split("[?#]", shown, maxsplit=1)[0]
            shown_part = without_credentials(f"{place}?{part}").removeprefix(f"{place}?")
            raise ConfigError(f"{shown}: {shown_part!r} is not a parameter; expected key=value, several joined by &")
        if key in values:
            raise ConfigError(f"{shown}: {key} is given twice; give it once")
        values[key] = unquote(value)
    return values
