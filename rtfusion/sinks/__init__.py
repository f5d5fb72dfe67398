"""Outputs by URI or bare path: video files, folders of images, ZeroMQ, a browser, a window, nothing.

::

    out.mp4 (.mkv .mov .avi)                            a video file
    video:PATH?codec=h264|ffv1&crf=18&preset=veryfast&sync_s=1
                                                        the same, with settings
                                                        also threads=1, joinable=true
    images:DIR?format=png|jpg&quality=95                one image per frame
    zmq:tcp://127.0.0.1:5555?encoding=raw|jpeg|shm&quality=90&topic=rtfusion&hwm=2
                                                        also keys=FILE.key&clients=FOLDER (encrypted), insecure=true
    record:DIR?segment_s=60&reserve_mb=1024&fused=true&sync_s=1
                                                        raw frames of both cameras, to be replayed (`rtfusion.session.format`)
    compare:DIR                                         compares with a recorded session, bit for bit
    web://127.0.0.1:8080?record=DIR&quality=80          a page for browsers; also token=TOKEN (or RTFUSION_WEB_TOKEN), name=NAME
    window:                                             a window on this desktop
    null:                                               counts frames

A new kind of output is a class in a file of its own and one row of `KINDS`.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from rtfusion.errors import ConfigError
from rtfusion.files import expanded, same_file
from rtfusion.redaction import without_credentials
from rtfusion.sinks.base import Sink, SinkContext, StopRequested, socket_path
from rtfusion.text import did_you_mean, parse_size_gb, parse_time_s

__all__ = [
    "Sink",
    "SinkContext",
    "StopRequested",
    "check_sinks",
    "open_again",
    "open_sink",
    "open_sinks",
    "written_path",
]

WRITTEN = ("video", "images", "record", "compare")
"""Kinds whose target is a path."""
VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov", ".avi")

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+-]+):(.*)", re.DOTALL)


def open_sink(uri: str, *, context: SinkContext) -> Sink:
    """Open one output and make sure that it can be written.

    Raises:
        ConfigError: the URI is not understood, or the output cannot be made: no such folder, no permission, the
            target exists and ``context.overwrite`` is not set, the address is in use, there is no display.
    """
    kind, target, options = _parse(uri)
    # Each output brings a heavy library; a run loads only those it uses.
    module, _, name = kind.made_by.partition(":")
    shown = without_credentials(uri)
    opened: Sink = getattr(importlib.import_module(module), name)(target, uri=shown, context=context, **options)
    return opened


def open_again(uri: str, *, context: SinkContext) -> Sink:
    """Open an output again that broke while running; what it wrote before is kept.

    A video begins a new file, ``out-2.mp4``, and images are added to the folder.

    Raises:
        ConfigError: it cannot be made yet.
    """
    scheme, target, query = _split(uri)
    if scheme == "video":
        path = Path(target)
        numbered = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in count(2))
        free = next(part for part in numbered if not expanded(part).exists())
        uri = f"video:{free}" + (f"?{query}" if query else "")
    return open_sink(uri, context=replace(context, overwrite=scheme == "images"))


def open_sinks(uris: Iterable[str], *, context: SinkContext, inputs: Iterable[Path] = ()) -> list[Sink]:
    """Open several outputs, all or none; ``inputs`` are the files and folders that the run reads.

    What listens at an address is opened before what writes, and recordings last: what is refused leaves no empty session behind.

    Raises:
        ConfigError: an output cannot be made, is named twice, or would be written over an input.
    """
    uris = list(uris)
    check_sinks(uris, inputs=inputs)
    found: dict[int, Sink] = {}
    with ExitStack() as opened:
        for at in sorted(range(len(uris)), key=lambda at: _turn(uris[at])):
            found[at] = open_sink(uris[at], context=context)
            opened.callback(found[at].close, aborted=True)
        opened.pop_all()
    return [found[at] for at in range(len(uris))]


def _turn(uri: str) -> int:
    """When an output is opened among several: the later, the more an attempt leaves behind."""
    scheme = _split(uri)[0]
    return 2 if scheme == "record" else 1 if scheme in WRITTEN else 0


def check_sinks(uris: Iterable[str], *, inputs: Iterable[Path] = ()) -> None:
    """Find what is wrong with the texts of outputs, before anything is opened.

    Raises:
        ConfigError: an output is not understood, is named twice, or would be written over an input.
    """
    taken: dict[Path | str, str] = dict.fromkeys(inputs, "it is an input of this run")
    for uri in uris:
        scheme, target, _ = _split(uri)
        _parse(uri)
        place = written_path(uri) or f"{scheme}:{target}"
        why = next((why for other, why in taken.items() if _collide(place, other, holds=scheme == "images")), None)
        if why is not None and scheme != "null":
            raise ConfigError(f"sink {without_credentials(uri)}: {why}; give every output a place of its own")
        taken[place] = "it is named twice"


def written_path(uri: str) -> Path | None:
    """The file, folder or socket that an output makes under a name that is known before; None where there is none.

    Raises:
        ConfigError: the output is not understood.
    """
    scheme, target, _ = _split(uri)
    if scheme in ("video", "images"):
        return expanded(target)
    if scheme == "zmq":
        return socket_path(target)
    return None


def _collide(place: Path | str, other: Path | str, *, holds: bool) -> bool:
    """True for one place; where the place is a folder that ``holds`` many files, also when the other one is in it."""
    if isinstance(place, str) or isinstance(other, str):
        return place == other
    if same_file(place, other) or (holds and place.resolve() in other.resolve().parents):
        return True
    return place.exists() and not place.is_dir() and other.resolve() in place.resolve().parents


def _parse(uri: str) -> tuple[Kind, str, dict[str, Any]]:
    """The kind of an output, its target and its options."""
    scheme, target, query = _split(uri)
    shown = without_credentials(uri)
    kind = KINDS[scheme]
    options = _parse_query(query, scheme=scheme, uri=shown)
    if kind.example == f"{scheme}:" and target:
        raise ConfigError(f"{shown}: {scheme}: takes nothing after the colon; write {scheme}:")
    if kind.example != f"{scheme}:" and not target:
        raise ConfigError(f"{shown!r} names no target; expected for example {kind.example}")
    if scheme in WRITTEN and re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", target):
        raise ConfigError(f"{shown}: an address and no path; {scheme}: writes into the file system of this machine")
    return kind, target, options


def _split(uri: str) -> tuple[str, str, str]:
    """(scheme, target, query); a bare path is the whole target of ``video``."""
    match = _SCHEME.fullmatch(uri)
    shown = without_credentials(uri)
    if match is None:
        if uri in KINDS and KINDS[uri].example == f"{uri}:":
            raise ConfigError(f"sink {shown!r} is neither a URI nor a video file; did you mean {uri}:?")
        return "video", uri, ""
    scheme, rest = match[1].lower(), match[2]
    if scheme in ("tcp", "ipc"):
        raise ConfigError(f"sink {shown!r}: an address alone does not say how to publish; did you mean zmq:{shown}?")
    if scheme not in KINDS:
        path_hint = f", or ./{shown} for a file of that name" if uri.lower().endswith(VIDEO_SUFFIXES) else ""
        raise ConfigError(
            f"sink {shown!r} has the unknown scheme {scheme!r}; "
            f"expected a video file or one of {', '.join(f'{known}:' for known in KINDS)}"
            f"{did_you_mean(scheme, KINDS, hint='; did you mean {}:?')}{path_hint}"
        )
    target, _, query = rest.partition("?")
    return scheme, target, query


def _parse_query(query: str, *, scheme: str, uri: str) -> dict[str, Any]:
    known = KINDS[scheme].options
    options: dict[str, Any] = {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
    except ValueError:
        raise ConfigError(f"{uri}: what follows the question mark is not of the form name=value&name=value") from None
    for name, text in pairs:
        if name not in known:
            expected = f"expected one of {', '.join(known)}" if known else f"{scheme}: has none"
            raise ConfigError(f"{uri}: unknown setting {name!r}; {expected}{did_you_mean(name, known)}")
        if name in options:
            raise ConfigError(f"{uri}: {name} is given twice; keep one")
        try:
            options[name] = known[name](text)
        except ValueError as error:
            raise ConfigError(f"{uri}: {name}={text!r}: {error}") from None
    return options


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"expected one of {', '.join(choices)}{did_you_mean(text, choices)}")
        return text

    return parse


def _whole_number(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text, re.ASCII) or not low <= int(text) <= high:
            raise ValueError(f"expected a whole number from {low} to {high}")
        return int(text)

    return parse


def _boolean(text: str) -> bool:
    return _one_of("true", "false")(text) == "true"


def _topic(text: str) -> str:
    if not re.fullmatch(r"[\x21-\x7e]{1,64}", text):
        raise ValueError("expected 1 to 64 printable ASCII characters without spaces")
    return text


_preset = _one_of("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
_percent = _whole_number(1, 100)
_sync_s = _whole_number(0, 3600)


class Kind(NamedTuple):
    """One kind of output."""

    made_by: str
    """``module:Class``; called with the target, ``uri``, ``context`` and the options."""
    example: str
    """One that can be copied; a bare scheme takes no target."""
    options: Mapping[str, Callable[[str], Any]] = {}
    """Parser of each setting after the question mark; a parser raises ValueError with what it expects."""


KINDS: Mapping[str, Kind] = {
    "video": Kind(
        "rtfusion.sinks.video:VideoSink",
        "video:out.mp4",
        {"codec": _one_of("h264", "ffv1"), "crf": _whole_number(0, 51), "preset": _preset, "sync_s": _sync_s,
         "threads": _whole_number(1, 16), "joinable": _boolean},
    ),
    "images": Kind(
        "rtfusion.sinks.images:ImagesSink", "images:frames", {"format": _one_of("png", "jpg"), "quality": _percent}
    ),
    "zmq": Kind(
        "rtfusion.publish.sink:ZmqSink",
        "zmq:tcp://127.0.0.1:5555",
        {"encoding": _one_of("raw", "jpeg", "shm"), "quality": _percent, "topic": _topic, "hwm": _whole_number(1, 1000),
         "keys": str, "clients": str, "insecure": _boolean, "boxes": _boolean,
         "parallax": _boolean},
    ),
    "record": Kind(
        "rtfusion.session.record:RecordSink",
        "record:recordings",
        {"segment_s": _whole_number(1, 86_400), "reserve_mb": _whole_number(1, 10**9 - 1), "fused": _boolean,
         "sync_s": _sync_s, "keep": parse_time_s, "max_gb": parse_size_gb},
    ),
    "compare": Kind("rtfusion.session.compare:CompareSink", "compare:recordings/2026-11-21T05-45-12Z-5f0c9e"),
    "web": Kind(
        "rtfusion.web.sink:WebSink",
        "web://127.0.0.1:8080",
        {"token": str, "name": str, "record": str, "quality": _percent},
    ),
    "window": Kind("rtfusion.window.sink:WindowSink", "window:"),
    "null": Kind("rtfusion.sinks.null:NullSink", "null:"),
}  # fmt: skip
