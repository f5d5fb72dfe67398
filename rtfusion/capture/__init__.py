"""Sources of frames: video files, folders of images, cameras, the synthetic scene; opened by URI or bare path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rtfusion.capture.base import Source, StreamInfo
from rtfusion.capture.uri import ROTATE, SourceUri, parse_source, read_query, same_place
from rtfusion.clock import MONOTONIC, Clock
from rtfusion.errors import ConfigError
from rtfusion.types import Band

__all__ = ["Source", "StreamInfo", "open_pair", "open_source", "source_path"]


def open_source(uri: str, *, band: Band, loop: int = 1, pace: bool = False, clock: Clock = MONOTONIC) -> Source:
    """Open a video file, a folder of images, a camera (of this machine or of the network) or the synthetic scene.

    ``loop`` plays a recording that many times, ``pace`` at its own speed; neither means anything to a camera. A camera
    is watched: when it is lost, it is opened again for as long as it takes.

    Raises:
        ConfigError: the URI is wrong.
        CaptureError: the source cannot be opened.
    """
    _check_loop(loop)
    return _open(parse_source(uri), text=uri, band=band, loop=loop, pace=pace, clock=clock)


def open_pair(
    *, visible: str, thermal: str, loop: int = 1, pace: bool = False, clock: Clock = MONOTONIC
) -> tuple[Source, Source]:
    """Open two sources, both or none: (visible, thermal). Two folders of images are matched by the names of the files.

    Raises:
        ConfigError: a URI is wrong, both name the same thing, or two folders have no image name in common.
        CaptureError: a source cannot be opened.
    """
    _check_loop(loop)
    visible_uri, thermal_uri = parse_source(visible), parse_source(thermal)
    if same_place(visible_uri, thermal_uri):
        raise ConfigError(
            f"visible and thermal are the same source ({visible_uri.text} and {thermal_uri.text}); "
            "give two different ones, `rtfusion devices` lists the cameras"
        )
    if "session" in (visible_uri.scheme, thermal_uri.scheme) and visible_uri.target != thermal_uri.target:
        raise ConfigError(
            f"{visible_uri.text} and {thermal_uri.text}: a recorded session is given for both cameras; `rtfusion replay` does so"
        )
    if visible_uri.scheme == thermal_uri.scheme == "images":
        from rtfusion.capture.images import open_image_pair

        stills = open_image_pair(visible=visible_uri, thermal=thermal_uri, loop=loop, pace=pace, clock=clock)
        return _turned(stills[0], visible_uri), _turned(stills[1], thermal_uri)
    first = _open(visible_uri, text=visible, band=Band.VISIBLE, loop=loop, pace=pace, clock=clock)
    try:
        return first, _open(thermal_uri, text=thermal, band=Band.THERMAL, loop=loop, pace=pace, clock=clock)
    except BaseException:
        first.close()
        raise


def source_path(uri: str) -> Path | None:
    """The file, folder or device that a source reads; None for the synthetic scene and for cameras without a path."""
    parsed = parse_source(uri)
    has_path = parsed.scheme not in ("synthetic", "network") and not parsed.target.startswith("usb:")
    return parsed.path if has_path else None


def _open(uri: SourceUri, *, text: str, band: Band, loop: int, pace: bool, clock: Clock) -> Source:
    """Open what was taken apart; a camera is watched from outside of the turning, so that it is turned when it comes back."""
    if uri.scheme in ("v4l2", "network"):
        from rtfusion.capture.watchdog import WatchedSource

        opener = _camera_opener(uri, band=band, clock=clock)
        return WatchedSource(lambda: _turned(opener(), uri), clock=clock)
    return _turned(_open_recording(uri, text=text, band=band, loop=loop, pace=pace, clock=clock), uri)


def _turned(source: Source, uri: SourceUri) -> Source:
    """The source, its pictures turned as the URI asks."""
    if not uri.clockwise_deg:
        return source
    from rtfusion.capture.orientation import TurnedSource

    return TurnedSource(source, clockwise_deg=uri.clockwise_deg)


def _camera_opener(uri: SourceUri, *, band: Band, clock: Clock) -> Callable[[], Source]:
    if uri.scheme == "v4l2":
        from rtfusion.capture.devices import CameraFinder
        from rtfusion.capture.v4l2 import open_v4l2

        finder = CameraFinder(uri.target)
        return lambda: open_v4l2(uri, band=band, clock=clock, finder=finder)
    from rtfusion.capture.network import open_network

    return lambda: open_network(uri, band=band, clock=clock)


def _open_recording(uri: SourceUri, *, text: str, band: Band, loop: int, pace: bool, clock: Clock) -> Source:
    """Open what is no camera. Each kind is imported only when it is used: most pull in a heavy library."""
    if uri.scheme == "synthetic":
        from rtfusion.synthetic.source import open_synthetic

        return open_synthetic(text, band=band, loop=loop, pace=pace, clock=clock)
    if uri.scheme == "images":
        from rtfusion.capture.images import open_images

        return open_images(uri, band=band, loop=loop, pace=pace, clock=clock)
    read_query(uri, {})
    if uri.scheme == "session":
        from rtfusion.session.source import SessionSource

        if ROTATE in uri.query:
            raise ConfigError(f"{uri.text}: a session holds its pictures as they were turned then; leave out rotate")
        return SessionSource(uri.path, uri=uri.text, band=band, loop=loop, pace=pace, clock=clock)
    from rtfusion.capture.video import VideoSource

    return VideoSource(uri.path, uri=uri.text, band=band, loop=loop, pace=pace, clock=clock)


def _check_loop(loop: int) -> None:
    if loop < 1:
        raise ConfigError(f"loop is {loop}; expected 1 or more")
