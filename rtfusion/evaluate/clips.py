"""Recordings to measure with: pairs of registered clips, and both bands of the synthetic street as H.264 files."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, CancelledError, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rtfusion import Band, FusedFrame, open_sink, open_source
from rtfusion.capture.base import Source
from rtfusion.errors import ConfigError
from rtfusion.evaluate.moments import frames_of
from rtfusion.fusion.color import as_bgr, luminance
from rtfusion.fusion.tone import GainControl
from rtfusion.pairs import open_pairs
from rtfusion.progress import part, tell
from rtfusion.session.lossless import LosslessVideo
from rtfusion.sinks.base import SinkContext
from rtfusion.types import Frame, Image8, PixelFormat

_TELL_S = 0.2


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ClipPair:
    """Gray levels of both bands of one moment, on one grid."""

    visible_y: Image8
    """(H, W) luminance."""
    thermal: Image8
    """(H, W), toned."""
    timestamp_ns: int
    """Stamp of the visible frame."""


def clip_pairs(*, ir: str | Path, vis: str | Path, max_pairs: int | None = None) -> Iterator[ClipPair]:
    """The first pairs of a clip that is registered, put together by the one rule (`rtfusion.pairing`).

    Raises:
        ConfigError: the bands differ in size, or a source is named wrongly.
        CaptureError: a source cannot be read.
    """
    gain = GainControl()
    with open_pairs(ir=ir, vis=vis, max_pairs=max_pairs) as pairs:
        for pair in pairs:
            thermal = gain(pair.thermal.image, timestamp_ns=pair.thermal.timestamp_ns)
            visible_y = luminance(pair.visible.image.astype(np.uint8, copy=False))
            if visible_y.shape != thermal.shape:
                raise ConfigError(
                    f"{vis} is {visible_y.shape}, {ir} {thermal.shape}; expected one size: register the clip first"
                )
            yield ClipPair(visible_y=visible_y, thermal=thermal, timestamp_ns=pair.timestamp_ns)


def make_clips(folder: Path, *, size: str, frames: int, scene: str = "day", rate_hz: int = 30) -> dict[str, str]:
    """Write ``vis`` and ``ir`` into ``folder``; gives their paths under these names. Those that are there are taken."""
    uri = f"synthetic:?size={size}&frames={frames}&fps={rate_hz}&scene={scene}"
    paths = {"vis": folder / f"vi-{size}-{frames}.mp4", "ir": folder / f"ir-{size}-{frames}.mp4"}
    for path, band in zip(paths.values(), (Band.VISIBLE, Band.THERMAL), strict=True):
        if not path.exists():
            film(uri, band=band, path=path)
    return {name: str(path) for name, path in paths.items()}


def film(
    uri: str,
    *,
    band: Band,
    path: Path,
    stop: threading.Event | None = None,
    each: Callable[[], None] | None = None,
) -> None:
    """Write what a source gives into a new file: 16-bit counts losslessly (``.mkv``), everything else as H.264.

    The file has its name only when it is whole. When ``stop`` is set, filming ends and leaves nothing. ``each`` is called with
    every frame.

    Raises:
        ConfigError, CaptureError: the source cannot be opened.
        SinkError: the file cannot be written.
        CancelledError: ``stop`` was set.
    """
    with (
        contextlib.closing(open_source(uri, band=band)) as source,
        tempfile.TemporaryDirectory(prefix=".film-", dir=path.parent) as folder,
    ):
        unfinished = Path(folder) / path.name
        write = _film_counts if source.info.pixel_format is PixelFormat.GRAY16 else _film_picture
        write(_until(stop, source, each), unfinished, source.info.rate_hz)
        unfinished.replace(path)


def _until(stop: threading.Event | None, source: Source, each: Callable[[], None] | None) -> Iterator[Frame]:
    for frame in frames_of(source):
        if stop is not None and stop.is_set():
            raise CancelledError
        if each is not None:
            each()
        yield frame


def film_all(uris: Mapping[Path, tuple[str, Band]], *, frames: int, doing: str) -> None:
    """Write several files side by side, all or what there was before: path to source and band; tells how far it is.

    Args:
        uris: the sources of the files that are to be written.
        frames: length of each.
        doing: what to call it, for `rtfusion.progress`.

    Raises:
        ConfigError, CaptureError, SinkError: as `film`.
    """
    stop, count = threading.Event(), itertools.count(1)
    filmed = [0]

    def each() -> None:
        filmed[0] = next(count)

    with part(0.0, 1.0), ThreadPoolExecutor() as pool:
        filming = {
            pool.submit(film, uri, band=band, path=path, stop=stop, each=each) for path, (uri, band) in uris.items()
        }
        try:
            while filming:
                done, filming = wait(filming, timeout=_TELL_S, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
                tell(doing, filmed[0] // len(uris), frames)
        finally:
            stop.set()  # after Ctrl-C, or when one of them failed, the others end too


def _film_picture(frames: Iterator[Frame], path: Path, rate_hz: float) -> None:
    sink = open_sink(str(path), context=SinkContext(rate_hz=rate_hz, live=False, session="clips"))
    aborted = True
    try:
        for frame in frames:
            sink.write(_as_fused(as_bgr(frame.image.astype(np.uint8, copy=False)), frame.timestamp_ns))
        aborted = False
    finally:
        sink.close(aborted=aborted)


def _film_counts(frames: Iterator[Frame], path: Path, rate_hz: float) -> None:
    video: LosslessVideo | None = None
    for frame in frames:
        video = video or LosslessVideo(path, like=frame, rate_hz=rate_hz)
        video.write(frame)
    if video is not None:
        video.close()


def _as_fused(image: Image8, timestamp_ns: int) -> FusedFrame:
    """A picture in the form that sinks take."""
    return FusedFrame(
        image=image,
        visible=image,
        thermal=image[..., 0],
        timestamp_ns=timestamp_ns,
        thermal_timestamp_ns=timestamp_ns,
        received_ns=0,
        sequence=0,
        fuser="none",
    )
