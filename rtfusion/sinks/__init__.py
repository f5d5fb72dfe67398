"""Outputs by URI or bare path: video files, folders of images, ZeroMQ, a browser, a window, nothing.

::

    out.mp4 (.mkv .mov .avi)                            a video file
    video:PATH?codec=h264|ffv1&crf=18&preset=veryfast   the same, with settings
    images:DIR?format=png|jpg&quality=95                one image per frame
    zmq:tcp://127.0.0.1:5555?encoding=raw|jpeg|shm&quality=90&topic=rtfusion&hwm=2
                                                        also keys=FILE.key&clients=FOLDER (encrypted), insecure=true
    record:DIR?segment_s=60&reserve_mb=1024&fused=true  raw frames of both cameras, to be replayed (`rtfusion.session.format`)
    compare:DIR                                         compares with a recorded session, bit for bit
    web://127.0.0.1:8080?record=DIR&quality=80          a page for browsers; also token=TOKEN (or RTFUSION_WEB_TOKEN), name=NAME
    window:                                             a window on this desktop
    null:                                               counts frames
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from rtfusion.capture.uri import without_credentials
from rtfusion.errors import ConfigError
from rtfusion.files import expanded
from rtfusion.sinks.base import Sink, SinkContext, StopRequested
from rtfusion.text import did_you_mean

__all__ = ["Sink", "SinkContext", "StopRequested", "open_sink", "open_sinks"]

VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov", ".avi")
X264_PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+-]+):(.*)", re.DOTALL)


def open_sink(uri: str, *, context: SinkContext) -> Sink:  # noqa: PLR0911 - one for each kind
    """Open one output and make sure that it can be written.

    Raises:
        ConfigError: the URI is not understood, or the output cannot be made: no such folder, no permission, the
            target exists and ``context.overwrite`` is not set, the address is in use, there is no display.
    """
    scheme, target, query = _split(uri)
    options = _parse_query(query, scheme=scheme, uri=without_credentials(uri))
    if scheme in ("window", "null") and target:
        raise ConfigError(f"{uri}: {scheme}: takes nothing after the colon, got {target!r}; write {scheme}:")
    if scheme not in ("window", "null") and not target:
        raise ConfigError(f"{uri!r} names no target; expected for example {_EXAMPLES[scheme]}")
    # Each output brings a heavy library; a run loads only those it uses.
    if scheme == "video":
        from rtfusion.sinks.video import VideoSink

        return VideoSink(_video_path(target, uri=uri), uri=uri, context=context, **options)
    if scheme == "images":
        from rtfusion.sinks.images import ImagesSink

        return ImagesSink(expanded(target), uri=uri, context=context, **options)
    if scheme == "zmq":
        from rtfusion.publish.sink import ZmqSink

        return ZmqSink(target, uri=uri, context=context, **options)
    if scheme == "web":
        from rtfusion.web.sink import WebSink

        return WebSink(target, uri=uri, context=context, **options)
    if scheme == "window":
        from rtfusion.window.sink import WindowSink

        return WindowSink(uri=uri, context=context)
    if scheme == "record":
        from rtfusion.session.record import RecordSink

        return RecordSink(expanded(target), uri=uri, context=context, **options)
    if scheme == "compare":
        from rtfusion.session.compare import CompareSink

        return CompareSink(expanded(target), uri=uri, context=context)
    from rtfusion.sinks.null import NullSink

    return NullSink(uri=uri)


def open_sinks(uris: Iterable[str], *, context: SinkContext, inputs: Iterable[Path] = ()) -> list[Sink]:
    """Open several outputs, all or none. ``inputs`` are the files and folders that the run reads.

    Raises:
        ConfigError: an output cannot be made, is named twice, or would be written over an input.
    """
    uris = list(uris)
    _check_places(uris, inputs)
    sinks: list[Sink] = []
    try:
        for uri in uris:
            sinks.append(open_sink(uri, context=context))
    except BaseException:
        for sink in sinks:
            sink.close(aborted=True)
        raise
    return sinks


def _check_places(uris: Iterable[str], inputs: Iterable[Path]) -> None:
    taken: dict[Path | str, str] = {path.resolve(): "it is an input of this run" for path in inputs}
    for uri in uris:
        scheme, target, _ = _split(uri)
        place = expanded(target).resolve() if scheme in ("video", "images") else f"{scheme}:{target}"
        if place in taken and scheme != "null":
            raise ConfigError(f"sink {without_credentials(uri)}: {taken[place]}; give every output a place of its own")
        taken[place] = "it is named twice"


def _split(uri: str) -> tuple[str, str, str]:
    """(scheme, target, query); a bare path is the whole target of ``video``."""
    match = _SCHEME.fullmatch(uri)
    if match is None:
        if f"{uri}:" in _EXAMPLES.values():
            raise ConfigError(f"sink {uri!r} is neither a URI nor a video file; did you mean {uri}:?")
        return "video", uri, ""
    scheme, rest = match[1].lower(), match[2]
    if scheme in ("tcp", "ipc"):
        raise ConfigError(f"sink {uri!r}: an address alone does not say how to publish; did you mean zmq:{uri}?")
    if scheme not in _OPTIONS:
        path_hint = f", or ./{uri} for a file of that name" if uri.lower().endswith(VIDEO_SUFFIXES) else ""
        raise ConfigError(
            f"sink {uri!r} has the unknown scheme {scheme!r}; "
            f"expected a video file or one of {', '.join(f'{known}:' for known in _OPTIONS)}"
            f"{did_you_mean(scheme, _OPTIONS, hint='; did you mean {}:?')}{path_hint}"
        )
    target, _, query = rest.partition("?")
    return scheme, target, query


def _video_path(target: str, *, uri: str) -> Path:
    path = expanded(target)
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return path
    bare, _, query = target.partition("?")
    if query and bare.lower().endswith(VIDEO_SUFFIXES):
        raise ConfigError(f"sink {uri!r}: a bare path takes no settings; did you mean video:{uri}?")
    hint = did_you_mean(suffix, VIDEO_SUFFIXES) or "; for a folder of images write images:DIR"
    raise ConfigError(
        f"sink {uri!r} is not a video file by its name; expected one of {' '.join(VIDEO_SUFFIXES)} at the end{hint}"
    )


def _parse_query(query: str, *, scheme: str, uri: str) -> dict[str, Any]:
    known = _OPTIONS[scheme]
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


_OPTIONS: Mapping[str, Mapping[str, Callable[[str], Any]]] = {
    "video": {"codec": _one_of("h264", "ffv1"), "crf": _whole_number(0, 51), "preset": _one_of(*X264_PRESETS)},
    "images": {"format": _one_of("png", "jpg"), "quality": _whole_number(1, 100)},
    "zmq": {
        "encoding": _one_of("raw", "jpeg", "shm"),
        "quality": _whole_number(1, 100),
        "topic": _topic,
        "hwm": _whole_number(1, 1000),
        "keys": str,
        "clients": str,
        "insecure": _boolean,
    },
    "record": {"segment_s": _whole_number(1, 86_400), "reserve_mb": _whole_number(1, 10**9 - 1), "fused": _boolean},
    "compare": {},
    "web": {"token": str, "name": str, "record": str, "quality": _whole_number(1, 100)},
    "window": {},
    "null": {},
}
_EXAMPLES = {
    "video": "video:out.mp4",
    "images": "images:frames",
    "zmq": "zmq:tcp://127.0.0.1:5555",
    "record": "record:recordings",
    "compare": "compare:recordings/2026-11-21T05-45-12Z-5f0c9e",
    "web": "web://127.0.0.1:8080",
    "window": "window:",
    "null": "null:",
}
