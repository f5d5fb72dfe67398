"""Sources of frames: video files, folders of images, cameras, the synthetic scene; opened by URI or bare path."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from rtfusion.capture.base import Source, StreamInfo
from rtfusion.capture.uri import SourceUri, parse_source, same_pictures, same_place, with_options
from rtfusion.clock import MONOTONIC, Clock
from rtfusion.errors import ConfigError
from rtfusion.portable import needs
from rtfusion.types import Band

__all__ = ["Source", "StreamInfo", "open_pair", "open_source", "source_path"]

_OPENERS = {
    "video": "rtfusion.capture.video:open_video",
    "images": "rtfusion.capture.images:open_images",
    "v4l2": "rtfusion.capture.v4l2:camera_opener",
    "network": "rtfusion.capture.network:camera_opener",
    "synthetic": "rtfusion.synthetic.source:open_synthetic",
    "session": "rtfusion.session.source:open_session",
}
"""The function that opens a recording, or that makes what opens a camera again and again, of each kind of source.

A module is imported only when it is used: most pull in a heavy library.
"""


_HALVES = "; of a picture of both cameras name the halves ({0}half=left and {0}half=right) or parts ({0}crop=X,Y,WIDTH,HEIGHT)"
_HOW_TO_PART = {
    "video": _HALVES.format("?") + ", of a file with two video tracks the tracks (?stream=0 and ?stream=1)",
    "images": _HALVES.format("?") + ", of a folder with images of both the names (?match=*_V.jpg and ?match=*_T.jpg)",
    "network": _HALVES.format("#"),
    "v4l2": ", `rtfusion devices` lists the cameras",
}
"""What to do about a source that is given for both bands, by its kind."""


def open_source(
    uri: str, *, band: Band, loop: int = 1, pace: bool = False, shutter: str = "auto", clock: Clock = MONOTONIC
) -> Source:
    """Open a video file, a folder of images, a camera (of this machine or of the network) or the synthetic scene.

    ``loop`` plays a recording that many times, ``pace`` at its own speed; neither means anything to a camera. A camera
    is watched: when it is lost, it is opened again for as long as it takes. While a thermal camera is behind its shutter,
    the last picture of the scene is held, in recordings too; not with ``shutter`` "off".

    Raises:
        ConfigError: the URI is wrong.
        CaptureError: the source cannot be opened.
    """
    _check_loop(loop)
    return _open(parse_source(uri), band=band, loop=loop, pace=pace, shutter=shutter, clock=clock)


def open_pair(
    *,
    visible: str,
    thermal: str,
    visible_options: str | None = None,
    thermal_options: str | None = None,
    loop: int = 1,
    pace: bool = False,
    shutter: str = "auto",
    stop: threading.Event | None = None,
    clock: Clock = MONOTONIC,
) -> tuple[Source, Source]:
    """Open two sources, both or none: (visible, thermal), as `open_source`; with a camera among them both at the same time.

    Two folders of images are matched by the names of the files. Options are parameters of the URIs, ``key=value`` joined by
    ``&``, that are given beside them.

    Raises:
        ConfigError: a URI or an option is wrong, both name the same thing, one is a camera and the other one a recording, or two
            folders have no image name in common.
        CaptureError: a source cannot be opened.
        EndOfStream: ``stop`` was set while a camera was opened.
    """
    _check_loop(loop)
    visible_uri = with_options(parse_source(visible), visible_options, setting="vis_options")
    thermal_uri = with_options(parse_source(thermal), thermal_options, setting="ir_options")
    _check_places(visible_uri, thermal_uri)
    _check_bands(visible_uri, thermal_uri)
    if "session" in (visible_uri.scheme, thermal_uri.scheme) and visible_uri.target != thermal_uri.target:
        raise ConfigError(
            f"{visible_uri.text} and {thermal_uri.text}: a recorded session is given for both cameras; `rtfusion replay` does so"
        )
    if visible_uri.scheme == thermal_uri.scheme == "images":
        from rtfusion.capture.images import open_image_pair

        stills = open_image_pair(visible=visible_uri, thermal=thermal_uri, loop=loop, pace=pace, clock=clock)
        with ExitStack() as opened:
            for still in stills:
                opened.callback(still.close)
            pair = tuple(
                _recorded(still, uri, shutter=shutter)
                for still, uri in zip(stills, (visible_uri, thermal_uri), strict=True)
            )
            opened.pop_all()
        return pair[0], pair[1]
    with ExitStack() as opened:
        first, second = _open_both(
            visible_uri, thermal_uri, loop=loop, pace=pace, shutter=shutter, stop=stop, clock=clock
        )
        opened.callback(first.close)
        opened.callback(second.close)
        _check_clocks(first.info, second.info)
        _check_kinds(first.info, second.info)
        opened.pop_all()
    return first, second


def _open_both(
    visible: SourceUri, thermal: SourceUri, *, stop: threading.Event | None, **how: Any
) -> tuple[Source, Source]:
    """Open two sources, both or none: one after the other, and with a camera among them at the same time."""
    openers = partial(_open, visible, band=Band.VISIBLE, **how), partial(_open, thermal, band=Band.THERMAL, **how)
    if visible.is_camera or thermal.is_camera:
        from rtfusion.capture.opening import open_together

        first, second = open_together(openers, stop=stop)
        return first, second
    first = openers[0]()
    try:
        return first, openers[1]()
    except BaseException:
        first.close()
        raise


def source_path(uri: str) -> Path | None:
    """Return the file, folder or device that a source reads; None for one that is not in the file system."""
    parsed = parse_source(uri)
    return parsed.path if parsed.has_path else None


def _open(uri: SourceUri, *, band: Band, loop: int, pace: bool, shutter: str, clock: Clock) -> Source:
    """Open a source; a camera is watched from outside of all else, so that it is turned when it comes back."""
    if uri.scheme == "v4l2":
        needs(
            "linux", what=f"{uri.text}: a camera of this machine", instead="a network camera works: --ir rtsp://ADDRESS"
        )
    opener = resolve_name(_OPENERS[uri.scheme])
    if not uri.is_camera:
        return _recorded(opener(uri, band=band, loop=loop, pace=pace, clock=clock), uri, shutter=shutter)
    from rtfusion.capture.watchdog import WatchedSource

    open_again = opener(uri, band=band, clock=clock)
    return WatchedSource(lambda: _held(_corrected(open_again(), uri), uri, shutter=shutter), clock=clock)


def _recorded(source: Source, uri: SourceUri, *, shutter: str) -> Source:
    """A recording in one size, corrected, with its shutter held; unrelated stills may be of any sizes."""
    if source.info.continuous and uri.scheme not in ("synthetic", "session"):
        from rtfusion.capture.fitted import FittedSource

        source = FittedSource(source)
    source = _corrected(source, uri)
    if source.info.continuous and source.info.band is Band.THERMAL and uri.scheme in ("video", "images"):
        from rtfusion.capture.marks import MarkedSource

        source = MarkedSource(source)
    return _held(source, uri, shutter=shutter)


def _held(source: Source, uri: SourceUri, *, shutter: str) -> Source:
    """The source with its shutter held; a session holds its pictures as they were held then."""
    if source.info.band is not Band.THERMAL or not source.info.continuous or uri.scheme == "session":
        return source
    if shutter == "off":
        return source
    from rtfusion.capture.shutter import ShutterSource

    return ShutterSource(source)


def _corrected(source: Source, uri: SourceUri) -> Source:
    corrections = uri.corrections
    if not corrections.change_something:
        return source
    from rtfusion.capture.corrections import corrected

    return corrected(source, corrections)


def _check_places(visible: SourceUri, thermal: SourceUri) -> None:
    """Refuse one source for both bands; a file or an address that holds both pictures may be given twice."""
    one_device = visible.scheme == "v4l2" and same_place(visible, thermal)
    if not (one_device or same_pictures(visible, thermal)):
        return
    advice = f"give two different ones{_HOW_TO_PART.get(visible.scheme, '')}"
    if visible.scheme == "video":
        from rtfusion.capture.container import tracks_text_of

        advice += tracks_text_of(visible.path, uri=visible.text)
    raise ConfigError(f"visible and thermal are the same source ({visible.text} and {thermal.text}); {advice}")


def _check_clocks(*infos: StreamInfo) -> None:
    """Refuse a recording beside a camera: its stamps count from its own first frame, so no two frames would be of one moment."""
    live, recorded = ([info for info in infos if info.live is is_live] for is_live in (True, False))
    if live and recorded:
        raise ConfigError(
            f"{live[0].uri} is a camera and {recorded[0].uri} a recording, whose times count from its first frame: no two of "
            "their frames are of one moment; give two cameras, or two recordings that were made together"
        )


def _check_kinds(*infos: StreamInfo) -> None:
    """Refuse several unrelated stills beside a video: nothing says which of them belong to which of its frames."""
    for stills, video in (infos, infos[::-1]):
        count = stills.frame_count or 0
        if not stills.continuous and video.continuous and count > 1:
            as_many = f", which would make them as long, {count} images" if video.frame_count == count else ""
            raise ConfigError(
                f"{stills.uri} holds {count} images without a rate, beside the video {video.uri}; give them one, such as "
                f"?fps={video.rate_hz:.6g}{as_many}"
            )


def _check_bands(visible: SourceUri, thermal: SourceUri) -> None:
    """Refuse a camera for the visible band that is known to be thermal while the other one is not; ``profile=`` overrules it."""
    if visible.scheme != "v4l2" or "profile" in {*visible.query, *thermal.query}:
        return
    from rtfusion.capture.devices import named_device

    device = named_device(visible.target)
    other = named_device(thermal.target) if thermal.scheme == "v4l2" else None
    if device is None or device.band is not Band.THERMAL or (other is not None and other.band is Band.THERMAL):
        return
    what = "" if other is None else f", while {thermal.text} ({other.name}) is not known to be"
    raise ConfigError(
        f"the cameras seem to be exchanged: {visible.text} ({device.name}) is given for the visible one and is known to be "
        f"thermal{what}; exchange the two, or add ?profile=gray8 to the thermal one if this is meant"
    )


def _check_loop(loop: int) -> None:
    if loop < 1:
        raise ConfigError(f"loop is {loop}; expected 1 or more")
