"""Recordings to measure with: both bands of the synthetic street as H.264 files."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np

from rtfusion import Band, EndOfStream, FusedFrame, open_sink, open_source
from rtfusion.fusion.color import as_bgr
from rtfusion.sinks.base import SinkContext
from rtfusion.types import Image8


def make_clips(folder: Path, *, size: str, frames: int, scene: str = "day", rate_hz: int = 30) -> dict[str, str]:
    """Write ``vis`` and ``ir`` into ``folder``; gives their paths under these names. Those that are there are taken."""
    uri = f"synthetic:?size={size}&frames={frames}&fps={rate_hz}&scene={scene}"
    paths = {"vis": folder / f"vi-{size}-{frames}.mp4", "ir": folder / f"ir-{size}-{frames}.mp4"}
    for path, band in zip(paths.values(), (Band.VISIBLE, Band.THERMAL), strict=True):
        if not path.exists():
            _write(uri, band=band, path=path)
    return {name: str(path) for name, path in paths.items()}


def _write(uri: str, *, band: Band, path: Path) -> None:
    with contextlib.closing(open_source(uri, band=band)) as source:
        sink = open_sink(str(path), context=SinkContext(rate_hz=source.info.rate_hz, live=False, session="clips"))
        aborted = True
        try:
            with contextlib.suppress(EndOfStream):
                while True:
                    frame = source.read(timeout_s=5.0)
                    sink.write(_as_fused(as_bgr(frame.image.astype(np.uint8, copy=False)), frame.timestamp_ns))
            aborted = False
        finally:
            sink.close(aborted=aborted)


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
